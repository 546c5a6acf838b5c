"""Running many samples in parts: as many at once as fit the memory, or as the model insists on."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Literal, TypeAlias

import numpy as np

from onnx_lrp.device_arrays import is_foreign, joined
from onnx_lrp.errors import InputError
from onnx_lrp.seeds import WHOLE

if TYPE_CHECKING:
    from onnx_lrp.graph import Array

BatchSize: TypeAlias = Literal["auto"] | int | None
"""How many samples are run at once: as many as fit the memory, a number, or all."""
Run: TypeAlias = "Callable[[dict[str, Array]], list[Array]]"


def check_batch_size(size: BatchSize) -> None:
    """Raises InputError unless it is "auto", None or a positive int."""
    if size not in ("auto", None) and (isinstance(size, bool) or not isinstance(size, int) or size < 1):
        raise InputError(f'batch_size is "auto", None or an int >= 1, not {size!r}')


def rows(feeds: Mapping[str, Array], batch: int, samples: slice | Array) -> dict[str, Array]:
    """The inputs of some samples: of each array that has as many rows for every sample, one or more, their rows.

    Args:
        feeds: inputs of a graph for `batch` samples; those of `WHOLE` are the same for all.
        batch: how many samples there are.
        samples: which of them; a slice, without a step, copies nothing.
    """
    found = {}
    for name, value in feeds.items():
        count, rest = divmod(len(value), batch) if name not in WHOLE else (0, 0)
        if rest or not count:
            found[name] = value
        elif isinstance(samples, slice):
            found[name] = value[samples.start * count : samples.stop * count]
        else:
            found[name] = value[(samples[:, None] * count + np.arange(count)).reshape(-1)]
    return found


def part_size(batch_size: BatchSize, batch: int, axes: Sequence[int | None], most: Callable[[], int | None], mixes: str = "") -> int:
    """How many samples to run at once.

    Args:
        batch_size: what the user wants.
        batch: how many samples there are.
        axes: of each output the axis that holds the samples; None where that is not known, so that runs cannot be put together.
        most: finds how many fit the memory; None for any number.
        mixes: the node that takes samples together; '' if there is none.

    Raises:
        InputError: the samples cannot be split, and the user wants it.
    """
    if batch_size is None or batch == 1:
        return batch
    splits = None not in axes and not mixes
    if batch_size != "auto":
        if batch_size < batch and not splits:
            why = f"node {mixes!r} takes samples together" if mixes else "of a result the graph does not tell which axis holds the samples"
            raise InputError(f"the batch cannot be split: {why}; give batch_size=None")
        return min(batch_size, batch)
    fitting = most() if splits else None
    if fitting is None or batch <= fitting:
        return batch
    return -(-batch // -(-batch // fitting))  # parts that differ by little


def run_in_parts(
    run: Run, feeds: dict[str, Array], batch: int, size: int, axes: Sequence[int | None], *, fixed: bool = False
) -> list[Array]:
    """Runs a graph on some samples after the other.

    Args:
        run: runs the graph on the inputs of some samples.
        feeds: its inputs; see `rows`.
        batch: how many samples there are.
        size: how many are run at once.
        axes: of each output the axis that holds the samples, each with the same number of places there; None: not known, so that it
            cannot be run in parts.
        fixed: whether the graph takes no other number of samples: then the last part is filled up by repeating a sample, and an output
            that has no samples along its axis is given once for each part.

    Returns:
        The outputs for all samples.

    Raises:
        InputError: an output has no samples along its axis.
    """
    if batch == size or (batch < size and not fixed):
        return run(feeds)
    known = [0 if axis is None else axis for axis in axes]
    whole: list[Array] = []
    parts: dict[int, list[Array]] = {}
    for start in range(0, batch, size):
        stop = min(start + size, batch)
        ran = size if fixed else stop - start
        chosen = np.minimum(np.arange(start, start + size), batch - 1) if ran > stop - start else slice(start, stop)
        found = run(rows(feeds, batch, chosen))
        for index, (value, axis) in enumerate(zip(found, known, strict=True)):
            count, rest = divmod(value.shape[axis], ran) if value.ndim > axis else (0, 1)
            if rest and not fixed:
                raise InputError(f"an output of shape {value.shape} for {ran} samples cannot be split: give batch_size=None")
            if rest or is_foreign(value):
                used = value if rest or ran == stop - start else _along(value, axis, 0, (stop - start) * count)
                parts.setdefault(index, []).append(used)
                rest = 1
            if not start:
                shape = (*value.shape[:axis], count * batch, *value.shape[axis + 1 :])
                whole.append(np.empty(0) if rest else np.empty(shape, value.dtype))
            if not rest:
                _along(whole[index], axis, start * count, stop * count)[...] = _along(value, axis, 0, (stop - start) * count)
    return [joined(parts[index], known[index]) if index in parts else value for index, value in enumerate(whole)]


def _along(value: Array, axis: int, start: int, stop: int) -> Array:
    return value[(slice(None),) * axis + (slice(start, stop),)]
