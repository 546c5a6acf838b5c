"""What is explained: a class, several outputs, or a region of a dense output."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import prod
from typing import Any, Literal

import numpy as np

from onnx_lrp.errors import InputError
from onnx_lrp.labels import Labels, without_names
from onnx_lrp.tensors import Array

LARGEST, NOTHING = -1, -2
"""At a place of the output: its largest class is explained, or none."""

Shape = tuple[int | None, ...]
"""A sample's output; None for lengths that are known only after the run."""


@dataclass(frozen=True, eq=False)
class Region:
    """A target: a region of a dense output, such as the pixels of a segmentation or the positions of a text.

    Args:
        mask: which places are explained: booleans shaped like the output without batch and classes, such as (H, W), or with the batch,
            (N, H, W). Or ints of one of these shapes: the class that is explained at each place, negative for none.
        channel: with booleans the class, as a number or by its label; None for the largest one at each place.
        axis: the output's axis that holds the classes, 1 for (N, C, H, W), -1 for (N, H, W, C); None for the one that the mask leaves.
    """

    mask: Any
    channel: int | str | None = None
    axis: int | None = None

    def __getitem__(self, samples: Any) -> Region:
        """The region of some samples, from one whose mask has the batch axis."""
        return Region(self.mask[samples], self.channel, self.axis)


@dataclass(frozen=True, eq=False)
class Targets:
    """The explained class at each place of a sample's output, which is viewed as (N, before, classes, after).

    A target by position has one place whose classes are all elements; several outputs at once are as many places with one class each; a
    region's places lie before and after the axis of the classes.
    """

    form: Literal["position", "outputs", "region"]
    index: Array
    """int64 (N * K, before, 1, after): a class, LARGEST or NOTHING."""
    view: tuple[int, int, int, int]
    """The shape to give the output; 0 leaves a length, -1 is what remains."""
    per_sample: int | None = None
    """K, None when targets are not given as (N, K)."""
    places: tuple[int, ...] = ()
    """Of outputs and regions: the lengths of the axes that hold places."""
    axis: int = 1
    """Of a region: the output's axis that holds the classes."""
    shape_known: bool = True
    """Whether a sample's output shape is known before the run."""

    def _shape(self, classes: int) -> tuple[int, ...]:
        """A sample's output shape as the target has it."""
        return self.places if self.form == "outputs" else (*self.places[: self.axis - 1], classes, *self.places[self.axis - 1 :])

    def check(self, shape: tuple[int, ...]) -> None:
        """Raises InputError if a target is out of range of a sample's output, or shaped unlike it."""
        classes = shape[self.axis - 1] if self.form == "region" and self.axis <= len(shape) else prod(shape)
        if self.form != "position" and self._shape(classes) != shape:
            raise InputError(f"the {_NAMES[self.form]} has places of shape {self.places}, the output {_written(shape)}")
        if self.form != "outputs" and self.index.max() >= classes:
            what = f"{classes} elements" if self.form == "position" else f"{classes} classes"
            raise InputError(f"target {self.index.max()} is out of range: the output has {what} (0 to {classes - 1})")

    def _viewed(self, output: Array) -> tuple[Array, Array]:
        """The outputs (N * K, before, classes, after), and the index with the class in place of "largest"."""
        values = output.reshape([have or len(output) for have in self.view]).repeat(self.per_sample or 1, 0)
        return values, np.where(self.index == LARGEST, values.argmax(2)[:, :, None], self.index)

    def used(self, output: Array) -> Array:
        """The targets of a run, each "largest" replaced by the class that is; see Explanation.target."""
        index = self._viewed(output)[1]
        if self.form == "outputs":
            return np.asarray(index.reshape(-1, *self.places) != NOTHING)
        if self.form == "region":
            return np.maximum(index, -1).reshape(-1, *self.places)
        if self.per_sample is None and sum(length != 1 for length in output.shape[1:]) > 1:
            return np.stack(np.unravel_index(index.reshape(-1), output.shape[1:]), 1)
        return index.reshape(-1) if self.per_sample is None else index.reshape(-1, self.per_sample)

    def values(self, output: Array) -> Array:
        """The output's values at the targets, added up over places, in float64; see Explanation.explained."""
        values, index = self._viewed(output)
        picked = np.take_along_axis(values, np.maximum(index, 0), 2).astype(np.float64) * (index != NOTHING)
        total = picked.sum((1, 2, 3))
        return np.asarray(total if self.per_sample is None else total.reshape(-1, self.per_sample))

    def as_given(self, output: Array) -> Any:
        """The targets that were used in a form that `Explainer.explain` takes."""
        used = self.used(output)
        if self.form == "region":
            return Region(used, axis=self.axis)
        if self.form == "outputs" or self.per_sample is not None or used.ndim == 1:
            return used
        if not self.shape_known:  # then only positions in the flat output are understood
            return np.ravel_multi_index(tuple(used.T), output.shape[1:])
        return [tuple(position) for position in used.tolist()]


_NAMES = {"outputs": "mask of outputs", "region": "region"}


def sample_shape(shape: Sequence[int | str | None] | None) -> tuple[int, ...] | None:
    """The lengths of an output's axes but the first, if known."""
    if shape is None or not all(isinstance(length, int) for length in shape[1:]):
        return None
    return tuple(int(length) for length in shape[1:] if isinstance(length, int))


def make_targets(target: Any, batch: int, shape: Sequence[int | str | None] | None, labels: Labels | None = None) -> Targets:
    """Targets in any of the forms that `Explainer.explain` takes.

    Args:
        target: None (each sample's largest output), an int, one int per sample, an (N, K) array of ints (K targets per sample), a tuple of
            ints (one position in an output of several axes, the batch axis left out), a list of such tuples, one per sample, booleans
            shaped like the output (several outputs at once), a Region, or an int array (N, ...) with the class at each place of a dense
            output. Labels may stand for ints.
        batch: how many samples there are.
        shape: the output's shape with the batch axis, as far as it is known.
        labels: the names of the classes.

    Raises:
        InputError: a target of the wrong form, or out of range.
    """
    axes = None if shape is None else tuple(length if isinstance(length, int) else None for length in shape[1:])
    if isinstance(target, Region):
        return _region(target, batch, axes, labels)
    target = without_names(target, labels)
    array = _as_array(target)
    if array is not None and array.dtype.kind == "b":
        return _outputs(array, batch, axes)
    dense = axes is not None and sum(length != 1 for length in axes) > 1
    if dense and isinstance(target, np.ndarray) and target.dtype.kind in "iu" and target.ndim == len(axes or ()):
        return _region(Region(target), batch, axes, labels)
    return _positions(target, array, batch, axes)


def _as_array(target: Any) -> Array | None:
    """The target as an array if it has numbers or booleans in a regular shape."""
    if target is None:
        return None
    try:
        return np.asarray(target)
    except (TypeError, ValueError):
        return None


def _positions(target: Any, array: Array | None, batch: int, axes: Shape | None) -> Targets:
    known = axes is not None and None not in axes

    def at(index: Any, per_sample: int | None = None) -> Targets:
        return Targets("position", np.asarray(index, np.int64).reshape(-1, 1, 1, 1), (0, 1, -1, 1), per_sample, shape_known=known)

    if target is None:
        return at(np.full(batch, LARGEST))
    listed = isinstance(target, (list, tuple)) and bool(target) and all(isinstance(item, (list, tuple)) for item in target)
    if axes is None or None in axes:
        if listed or isinstance(target, tuple):
            raise InputError("the output's shape is not known before the run: give the target as a seed array")
        axes = (np.iinfo(np.int32).max,)  # any position fits until the run tells
    shape = tuple(int(length or 0) for length in axes)
    several = sum(length != 1 for length in shape) > 1
    if isinstance(target, tuple) and len(target) == len(shape) != 1:
        return at(np.full(batch, _position(target, shape)))
    if listed and several:
        if len(target) != batch:
            raise InputError(f"{len(target)} targets for {batch} samples")
        return at([_position(item, shape) for item in target])
    if array is None or array.dtype.kind not in "iu":
        raise InputError(
            f"a target is None, an int, one int per sample, an (N, K) array of ints, a tuple, booleans or a Region, not {target!r}"
        )
    if several:
        raise InputError(f"the output has shape {_written(shape)}: give the target as a tuple of {len(shape)} ints, or a Region")
    if array.ndim > 2 or (array.ndim >= 1 and array.shape[0] != batch) or not array.size:
        raise InputError(f"targets of shape {array.shape} for {batch} samples: give one int, one per sample, or (N, K)")
    size = prod(shape)
    if (array < 0).any() or (array >= size).any():
        wrong = array[(array < 0) | (array >= size)].reshape(-1)[0]
        raise InputError(f"target {wrong} is out of range: the output has {size} elements (0 to {size - 1})")
    return at(np.full(batch, array)) if array.ndim == 0 else at(array, array.shape[1] if array.ndim == 2 else None)


def _position(target: Sequence[int], shape: tuple[int, ...]) -> int:
    try:
        return int(np.ravel_multi_index(tuple(int(i) for i in target), shape))
    except (TypeError, ValueError):
        raise InputError(f"target {tuple(target)} does not fit an output of shape {_written(shape)}") from None


def _outputs(mask: Array, batch: int, axes: Shape | None) -> Targets:
    """Several outputs at once."""
    places = mask.shape if axes is None else mask.shape[mask.ndim - len(axes) :] if mask.ndim >= len(axes) else ()
    if axes is None and mask.shape[:1] == (batch,):
        places = mask.shape[1:]
    if not places or not _fits(places, axes) or mask.shape not in (places, (batch, *places)):
        hint = "; for places: onnx_lrp.Region(mask, channel)" if axes is not None and len(axes) > 1 else ""
        raise InputError(f"the booleans have shape {mask.shape}, the output {_written(axes)}{hint}")
    chosen = np.broadcast_to(mask, (batch, *places)).reshape(batch, -1, 1, 1)
    return Targets("outputs", np.where(_not_empty(chosen), 0, NOTHING).astype(np.int64), (0, -1, 1, 1), None, places)


def _region(region: Region, batch: int, axes: Shape | None, labels: Labels | None) -> Targets:
    if axes is None:
        raise InputError("a region needs a model that tells how many axes its output has: give the target as a seed array")
    mask, channel = np.asarray(region.mask), without_names(region.channel, labels)
    if mask.dtype.kind not in "biu":
        raise InputError(f"a region is given as booleans or as ints, the class at each place, not as {mask.dtype}")
    if mask.ndim not in (len(axes) - 1, len(axes)) or len(axes) < 2:
        raise InputError(f"a region of shape {mask.shape} does not fit an output of shape {_written(axes)}")
    batched = mask.ndim == len(axes)
    places = mask.shape[1:] if batched else mask.shape
    axis = _class_axis(region.axis, places, axes)
    if batched and len(mask) != batch:
        raise InputError(f"a region for {len(mask)} samples, the input has {batch}")
    if mask.dtype.kind == "b":
        if channel is not None and (isinstance(channel, bool) or not isinstance(channel, (int, np.integer)) or channel < 0):
            raise InputError(f"a region's channel is a class or None, not {channel!r}")
        chosen = np.where(mask, LARGEST if channel is None else int(channel), NOTHING)
    elif channel is not None:
        raise InputError("a region of ints names the class at each place: leave its channel out, or give booleans")
    else:
        chosen = np.where(mask < 0, NOTHING, mask.astype(np.int64))
    _not_empty(chosen != NOTHING)
    before, after = prod(places[: axis - 1]), prod(places[axis - 1 :])
    index = np.broadcast_to(chosen, (batch, *places)).reshape(batch, before, 1, after).astype(np.int64)
    targets = Targets("region", index, (0, before, -1, after), None, places, axis)
    if None not in axes:
        targets.check(tuple(int(length or 0) for length in axes))
    return targets


def _class_axis(axis: int | None, places: tuple[int, ...], axes: Shape) -> int:
    """The axis of the output, its batch axis counted, that a region's places leave over: the first or the last unless it is given."""
    rank = len(axes) + 1
    if axis is not None and not (1 <= axis < rank or -rank < axis < 0):
        raise InputError(f"axis {axis} of an output of shape {_written(axes)} holds no classes")
    candidates = {1, rank - 1} if axis is None else {axis % rank}
    found = [at for at in sorted(candidates) if _fits(places, (*axes[: at - 1], *axes[at:]))]
    if not found:
        raise InputError(f"a region with places of shape {places} does not fit an output of shape {_written(axes)}")
    if len(found) > 1:
        raise InputError(f"the classes may be the first or the last axis of an output of shape {_written(axes)}: give Region(..., axis=)")
    return found[0]


def _fits(shape: tuple[int, ...], axes: Shape | None) -> bool:
    """Whether a shape can be the one that is known in part."""
    return axes is None or (len(shape) == len(axes) and all(want in (None, have) for have, want in zip(shape, axes, strict=True)))


def _not_empty(chosen: Array) -> Array:
    if not chosen.any():
        raise InputError("the target is empty: no place of the output is chosen")
    return chosen


def _written(axes: Shape | None) -> str:
    return f"(N, {', '.join('?' if length is None else str(length) for length in axes)})" if axes is not None else "(N, ...)"
