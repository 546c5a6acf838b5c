"""Gradient methods for any ONNX model: the gradient itself, integrated gradients, SmoothGrad."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from onnx_lrp.errors import InputError
from onnx_lrp.explainer import Explainer
from onnx_lrp.explanation import Explanation
from onnx_lrp.feeds import Input
from onnx_lrp.graph import Array, ModelSource


def gradient(model: ModelSource | Explainer, x: Input, target: Any = None, **options: Any) -> Explanation:
    """The gradient of the output at the target with respect to the explained inputs.

    Args:
        model: path, bytes, ModelProto, or an Explainer with composite="gradient", which is compiled already.
        x: (N, ...) or a dict name -> array.
        target: as in Explainer.explain.
        **options: of Explainer (inputs=, output=, providers= ...).
    """
    return _explainer(model, options).explain(x, target)


def integrated_gradients(
    model: ModelSource | Explainer, x: Input, target: Any = None, *, steps: int = 20, baseline: Any = None, **options: Any
) -> Explanation:
    """(x - baseline) * mean over k = 1..steps of the gradient at baseline + k / steps * (x - baseline) (Sundararajan et al. 2017).

    With more steps, the relevances of a sample approach f(x) - f(baseline) in sum.

    Args:
        model: path, bytes, ModelProto, or an Explainer with composite="gradient".
        x: (N, ...) or a dict name -> array.
        target: as in Explainer.explain; None is each sample's largest output at x itself.
        steps: how many gradients are averaged.
        baseline: a number, an array that broadcasts against x, or a dict name -> either; default zero.
        **options: of Explainer.

    Raises:
        InputError: steps is no positive int, or the baseline does not fit.
    """
    _positive(steps, "steps")
    explainer = _explainer(model, options)
    plain = explainer.explain(x, target)
    inputs = _inputs(explainer, x)
    start = {name: _baseline(baseline, name, value) for name, value in inputs.items()}

    def point(step: int) -> dict[str, Array]:
        return {name: start[name] + (step + 1) / steps * (value - start[name]) for name, value in inputs.items()}

    mean = _mean_gradient(explainer, x, plain, steps, point)
    return plain.with_relevances({name: value * _like(inputs[name] - start[name], value) for name, value in mean.items()})


def smoothgrad(
    model: ModelSource | Explainer, x: Input, target: Any = None, *, n: int = 20, noise: float = 0.1, seed: int = 0, **options: Any
) -> Explanation:
    """The mean gradient at n noisy copies of x, the last of them without noise (Smilkov et al. 2017).

    Args:
        model: path, bytes, ModelProto, or an Explainer with composite="gradient".
        x: (N, ...) or a dict name -> array.
        target: as in Explainer.explain; None is each sample's largest output at x itself.
        n: how many gradients are averaged; with n = 1 the result is the gradient.
        noise: the noise's standard deviation as a fraction of each sample's range (largest minus smallest value).
        seed: of the random generator.
        **options: of Explainer.

    Raises:
        InputError: n is no positive int, or noise is negative.
    """
    _positive(n, "n")
    if not 0 <= noise < float("inf"):
        raise InputError(f"noise is a finite number >= 0, not {noise!r}")
    explainer = _explainer(model, options)
    plain = explainer.explain(x, target)
    inputs, rng = _inputs(explainer, x), np.random.default_rng(seed)

    def point(step: int) -> dict[str, Array]:
        if step == n - 1:
            return dict(inputs)
        return {name: value + noise * _range(value) * rng.standard_normal(value.shape, np.float32) for name, value in inputs.items()}

    return plain.with_relevances(_mean_gradient(explainer, x, plain, n, point))


def _explainer(model: ModelSource | Explainer, options: dict[str, Any]) -> Explainer:
    return model if isinstance(model, Explainer) else Explainer(model, options.pop("composite", "gradient"), **options)


def _positive(value: Any, name: str) -> None:
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise InputError(f"{name} is an int >= 1, not {value!r}")


def _inputs(explainer: Explainer, x: Input) -> dict[str, Array]:
    """The explained inputs as float32 arrays."""
    given = dict(x) if isinstance(x, Mapping) else {explainer.inputs[0]: x}
    missing = [name for name in explainer.inputs if name not in given]
    if missing:
        raise InputError(f"{missing[0]!r} is an internal tensor: only the model's inputs can be moved along a path")
    return {name: np.asarray(given[name], np.float32) for name in explainer.inputs}


def _mean_gradient(
    explainer: Explainer, x: Input, plain: Explanation, count: int, point: Callable[[int], dict[str, Array]]
) -> dict[str, Array]:
    """The mean of the relevances at `count` points, all for the targets found at x."""
    total: dict[str, Array] = {}
    for step in range(count):
        at = dict(x) | point(step) if isinstance(x, Mapping) else point(step)
        for name, value in explainer.explain(at, plain.target_as_given).relevances.items():
            total[name] = total.get(name, 0) + value / np.float32(count)
    return total


def _baseline(baseline: Any, name: str, value: Array) -> Array:
    chosen = baseline.get(name, 0.0) if isinstance(baseline, Mapping) else 0.0 if baseline is None else baseline
    try:
        return np.broadcast_to(np.asarray(chosen, np.float32), value.shape)
    except (TypeError, ValueError):
        raise InputError(f"the baseline of shape {np.shape(chosen)} does not fit input {name!r} of shape {value.shape}") from None


def _range(value: Array) -> Array:
    axes = tuple(range(1, value.ndim))
    return np.asarray(value.max(axes, keepdims=True) - value.min(axes, keepdims=True))


def _like(value: Array, relevance: Array) -> Array:
    """An input in a shape that broadcasts against its relevance, which has one more axis for K targets per sample."""
    return value if value.ndim == relevance.ndim else value[:, None]
