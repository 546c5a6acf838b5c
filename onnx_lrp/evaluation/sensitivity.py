"""How much an explanation changes when the input hardly does, and whether it adds up to what it explains."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from onnx_lrp.errors import InputError, suggest
from onnx_lrp.progress import progress_bar

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

    from onnx_lrp.explainer import Explainer
    from onnx_lrp.graph import Array


DIVISORS = ("map", "input", "nothing")


def max_sensitivity(
    explainer: Explainer, x: Array, target: Any = None, *, radius: float = 0.2, samples: int = 10, seed: int = 0, divided_by: str = "map"
) -> NDArray[np.float64]:
    """The largest change of the relevance under small noise: max ||R(x + n) - R(x)|| / ||R(x)||, n uniform in +-radius (Yeh et al. 2019).

    Args:
        explainer: of a model with one explained input.
        x: (N, ...).
        target: as in Explainer.explain, one per sample; None is each sample's largest output at x itself, also for its noisy copies.
        radius: of the noise, in units of the input.
        samples: how many noisy copies of each sample are tried.
        seed: of the noise. A sample's noise depends on the seed and on its place in x.
        divided_by: "map" (||R(x)||, as Quantus 0.6 has it), "input" (||x||, as Quantus had it before) or "nothing" (as in the paper).

    Returns:
        (N,); small is good. NaN where the divisor is zero.

    Raises:
        InputError: an unknown divisor, a radius or number that makes no sense, or what Explainer.explain raises.
    """
    if divided_by not in DIVISORS:
        raise InputError(f"unknown divisor {divided_by!r}" + suggest(str(divided_by), DIVISORS))
    if not radius > 0 or not np.isfinite(radius):
        raise InputError(f"the noise's radius is a number above 0, not {radius!r}")
    if not isinstance(samples, int) or samples < 1:
        raise InputError(f"samples is a positive int, not {samples!r}")
    x = np.asarray(x, np.float32)
    plain = explainer.explain(x, target)
    if len(explainer.inputs) != 1:
        raise InputError(f"sensitivity is measured for one explained input, not for {len(explainer.inputs)}")
    fixed = plain.target_as_given
    base = np.asarray(plain.relevance, np.float64)
    length = {"map": _norm(base), "input": _norm(x), "nothing": np.ones(len(x))}[divided_by]
    streams = [np.random.default_rng([seed, row]) for row in range(len(x))]
    worst = np.zeros(len(x))
    with progress_bar(samples) as advance:
        for _ in range(samples):
            noise = np.stack([rng.uniform(-radius, radius, x.shape[1:]) for rng in streams])
            moved = explainer.explain((x + noise).astype(np.float32), fixed).relevance
            worst = np.maximum(worst, _norm(np.asarray(moved, np.float64) - base))
            advance(1)
    return np.asarray(np.divide(worst, length, out=np.full(len(x), np.nan), where=length > 0))


def _norm(values: ArrayLike) -> NDArray[np.float64]:
    array = np.asarray(values, np.float64)
    return np.asarray(np.sqrt((array.reshape(len(array), -1) ** 2).sum(1)))


def completeness(relevance: ArrayLike, scores: ArrayLike, baseline: ArrayLike = 0.0) -> NDArray[np.float64]:
    """By how much the relevance adds up to more than the explained score less that at a baseline, as a fraction of that difference.

    sum R / (f(x) - f(baseline)) - 1: zero for a method that is complete (Sundararajan et al. 2017), such as LRP without losses (baseline
    0) and DeepLIFT.

    Args:
        relevance: (N, ...).
        scores: the explained output of each sample, (N,).
        baseline: the explained output where the method starts from, a number or (N,).

    Returns:
        (N,), NaN where score and baseline are equal.

    Raises:
        InputError: the shapes do not fit.
    """
    array, explained = np.asarray(relevance, np.float64), np.asarray(scores, np.float64) - np.asarray(baseline, np.float64)
    if array.ndim < 2 or explained.shape != (len(array),):
        raise InputError(f"relevance (N, ...) and scores (N,) are expected, not {array.shape} and {explained.shape}")
    total = array.reshape(len(array), -1).sum(1)
    return np.asarray(np.divide(total - explained, explained, out=np.full(len(array), np.nan), where=explained != 0))
