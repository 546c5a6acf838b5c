"""Where relevance starts: the seeds, emitted into the graph, and seeds of two passes."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from onnx_lrp.errors import InputError, suggest
from onnx_lrp.targets import LARGEST

if TYPE_CHECKING:
    from onnx_lrp.emitter import Emitter
    from onnx_lrp.graph import Array
    from onnx_lrp.targets import Targets

Weights = tuple[float, float, float, float, float]
"""A seed as weights of y_t at t, 1 at t, y_t / (C - 1) elsewhere, p_t (1 - p_t) at t, p_t p_n at n, with p = softmax(y)."""

SEEDS: dict[str, Weights] = {
    "output": (1, 0, 0, 0, 0),
    "one": (0, 1, 0, 0, 0),
    "contrastive": (1, 0, -1, 0, 0),
    "softmax_gradient": (0, 0, 0, 1, -1),
}
"""output: the output's value y_t at the target t, zero elsewhere. one: one at the target.
contrastive: y_t at t, -y_t / (C - 1) at the other of C classes (Gu et al. 2018, CLRP).
softmax_gradient: p_t (1 - p_t) at t, -p_t p_n at the others (Iwana et al. 2019, SGLRP)."""

TWO_PASS: dict[str, tuple[Weights, Weights]] = {
    "contrastive": ((1, 0, 0, 0, 0), (0, 0, 1, 0, 0)),
    "softmax_gradient": ((0, 0, 0, 1, 0), (0, 0, 0, 0, 1)),
}
"""The seed of the target's pass, and that of the dual pass, for the other classes."""

INDEX, VIEW, WEIGHTS, CONTRAST, GIVEN = "lrp/index", "lrp/view", "lrp/weights", "lrp/contrast", "lrp/given"
"""Inputs of the explaining graph: `Targets.index` and `Targets.view`, the seed's weights (N, 5, 1, 1), whether it looks at the other
classes, and a given seed in that view."""

FEEDS = (INDEX, VIEW, WEIGHTS, CONTRAST, GIVEN)
WHOLE = (VIEW, CONTRAST)
"""All of them, and those that are the same for all samples."""


@dataclass(frozen=True, eq=False)
class Seed:
    """Where relevance starts, in one pass or two."""

    name: str
    passes: tuple[Weights, ...]
    given: Array | None = None
    """The initial relevance itself, shaped like the output; the weights are zero then."""

    @property
    def contrasts(self) -> bool:
        """Whether it needs to know which outputs are the other classes."""
        return any(any(weights[2:]) for weights in self.passes)

    def check(self, targets: Targets, shape: tuple[int, ...], final_activation: str) -> None:
        """Raises InputError if a sample's output has no other classes for the seed to look at, or probabilities instead of scores."""
        if self.given is not None and self.given.shape[1:] != shape:
            raise InputError(f"the seed has shape {self.given.shape}, the output {(len(self.given), *shape)}")
        if not self.contrasts:
            return
        if targets.form == "outputs" or (targets.form == "position" and sum(length != 1 for length in shape) > 1):
            raise InputError(f"seed {self.name!r} needs to know which axis holds the classes: give the target as a Region")
        if (shape[targets.axis - 1] if targets.form == "region" else np.prod(shape)) < 2:
            raise InputError(f"seed {self.name!r} compares classes, and the output has only one")
        if self.name == "softmax_gradient" and final_activation == "Softmax":
            raise InputError("seed 'softmax_gradient' starts from scores, not from the probabilities that keep_final_activation explains")

    def feeds(self, targets: Targets) -> dict[str, Array]:
        """The inputs of the explaining graph for all targets, pass by pass: N * K * passes rows."""
        count, rows = len(self.passes), len(targets.index)
        weights = np.tile(np.array(self.passes, np.float32), (rows, 1)).reshape(-1, 5, 1, 1)
        given = np.zeros((1, 1, 1, 1), np.float32)
        if self.given is not None:
            view = [have or len(self.given) for have in targets.view]
            given = self.given.reshape(view).repeat(rows // len(self.given), 0)
        return {
            INDEX: targets.index.repeat(count, 0),
            VIEW: np.array(targets.view, np.int64),
            WEIGHTS: weights,
            CONTRAST: np.array(self.contrasts),
            GIVEN: given,
        }


def make_seed(seed: Any, two_pass: bool, batch: int, output_shape: tuple[int, ...] | None) -> Seed:
    """A seed by name, or the initial relevance itself.

    Args:
        seed: a key of SEEDS, or an array shaped like the output, with or without the batch axis.
        two_pass: whether to run the target and the other classes apart; see `combine`.
        batch: how many samples there are.
        output_shape: a sample's output; None if it is not known.

    Raises:
        InputError: an unknown name, two passes of a seed that has one, or an array of the wrong shape or with NaN.
    """
    if isinstance(seed, str) and seed not in SEEDS:
        raise InputError(f"unknown seed {seed!r}" + suggest(seed, SEEDS))
    if two_pass and not (isinstance(seed, str) and seed in TWO_PASS):
        raise InputError(
            f"two passes need seed {' or '.join(map(repr, TWO_PASS))}, not {repr(seed) if isinstance(seed, str) else 'an array'}"
        )
    if isinstance(seed, str):
        return Seed(seed, TWO_PASS[seed] if two_pass else (SEEDS[seed],))
    array = np.asarray(seed)
    if array.dtype.kind not in "fiub":
        raise InputError(f"a seed is one of {', '.join(SEEDS)}, or an array shaped like the output, not {type(seed).__name__}")
    array = array.astype(np.float32)
    wanted = (batch, *output_shape) if output_shape is not None else None
    if wanted is not None and array.shape == wanted[1:]:
        array = np.broadcast_to(array, wanted)
    if (wanted is not None and array.shape != wanted) or array.shape[:1] != (batch,):
        raise InputError(f"the seed has shape {array.shape}, the output {wanted or (batch, '...')}")
    if not np.isfinite(array).all():
        raise InputError(f"the seed has {int((~np.isfinite(array)).sum())} values that are NaN or infinite")
    return Seed("given", ((0, 0, 0, 0, 0),), array)


def emit_seed(e: Emitter, output: str) -> str:
    """Emits the initial relevance, so that target and seed can be chosen in the same run that computes the output."""
    y = e.op("Reshape", output, VIEW)
    largest = e.op("ArgMax", y, axis=2, keepdims=1)
    t = e.op("Where", e.op("Equal", INDEX, e.constant(LARGEST, np.int64)), largest, INDEX)
    count = e.op("Slice", e.op("Shape", y), e.ints(2), e.ints(3))
    classes = e.op("Range", e.constant(0, np.int64), e.op("Squeeze", count, e.ints(0)), e.constant(1, np.int64))
    at = e.op("Cast", e.op("Equal", e.op("Reshape", classes, e.ints(-1, 1)), t), to=1)
    value, one, *others = e.ops("Split", WEIGHTS, outputs=[""] * 5, axis=1, num_outputs=5)
    plain = e.mul(at, e.add(e.mul(y, value), one))

    def contrast() -> str:
        return _contrast(e, y, at, e.op("Greater", t, e.constant(LARGEST, np.int64)), count, others)

    if e.device == "cuda":  # a branch would run on the CPU; on a GPU, adding parts with weights of zero costs next to nothing
        seed = e.sum([plain, GIVEN, contrast()])
    else:
        seed = e.op(
            "If",
            CONTRAST,
            then_branch=e.branch(lambda: e.add(plain, contrast())),
            else_branch=e.branch(lambda: e.add(plain, GIVEN)),
        )
    return e.op("Reshape", seed, e.shape_of(output))


def _contrast(e: Emitter, y: str, at: str, explained: str, count: str, weights: Iterable[str]) -> str:
    """The parts of a seed that look at the other classes; 1 - p_t is summed from them, for it would be lost in rounding."""

    def over_classes(tensor: str) -> str:
        return e.reduce_sum(tensor, [2])

    rest = e.sub(e.op("Cast", explained, to=1), at)
    others = e.op("Max", e.op("Cast", e.op("Sub", count, e.ints(1)), to=1), e.constant(1.0))
    spread = e.mul(rest, e.div(over_classes(e.mul(at, y)), others))
    p = e.op("Softmax", y, axis=2)
    dual = e.mul(e.mul(rest, p), over_classes(e.mul(at, p)))
    parts = (spread, e.mul(at, over_classes(dual)), dual)
    return e.sum([e.mul(part, weight) for part, weight in zip(parts, weights, strict=True)])


def combine(relevances: Mapping[str, Array], inputs: Iterable[str]) -> dict[str, Array]:
    """H_t - (sum H_t / sum H_d) H_d from the relevances H_t of the target's pass and H_d of the dual one.

    The sums are taken over the explained inputs of a sample, so that its relevance there sums to zero. Where the sum of H_d is zero, or
    no more than what rounding leaves of its positive and negative parts, nothing is taken off.

    Args:
        relevances: name -> array (R, 2, ...), the two passes of R targets.
        inputs: the names of those that are explained inputs.
    """
    flat = [relevances[name].reshape(*relevances[name].shape[:2], -1).astype(np.float64) for name in inputs]
    sums = np.add.reduce([value.sum(2) for value in flat])
    size = np.add.reduce([np.abs(value[:, 1]).sum(1) for value in flat])
    real = np.abs(sums[:, 1]) > np.finfo(np.float32).eps * size
    factor = np.divide(sums[:, 0], sums[:, 1], out=np.zeros(len(sums)), where=real)
    return {
        name: (value[:, 0] - factor.reshape(-1, *[1] * (value.ndim - 2)) * value[:, 1]).astype(np.float32)
        for name, value in relevances.items()
    }
