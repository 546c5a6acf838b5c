"""Gradient methods of several runs, for any ONNX model: integrated gradients and SmoothGrad. The gradient itself is a composite."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any, Literal, TypeAlias

import numpy as np

from onnx_lrp.composites import COMPOSITES
from onnx_lrp.errors import InputError, suggest
from onnx_lrp.explainer import Explainer
from onnx_lrp.explanation import Explanation
from onnx_lrp.feeds import Input, on_host
from onnx_lrp.graph import Array, ModelSource

Quadrature: TypeAlias = Literal["right", "left", "midpoint", "trapezoid", "gauss"]
Statistic: TypeAlias = Literal["mean", "square", "variance"]
Progress: TypeAlias = Callable[[int, int], None]
"""Takes how much is done, and of how much."""

QUADRATURES = ("right", "left", "midpoint", "trapezoid", "gauss")
STATISTICS = ("mean", "square", "variance")


def gradient(model: ModelSource | Explainer, x: Input, target: Any = None, **options: Any) -> Explanation:
    """The gradient of the output at the target with respect to the explained inputs.

    Args:
        model: path, bytes, ModelProto, or an Explainer with composite="gradient", which is compiled already.
        x: (N, ...) or a dict name -> array.
        target: as in Explainer.explain.
        **options: of Explainer (inputs=, output=, providers= ...).
    """
    return compiled(model, options).explain(x, target)


def integrated_gradients(
    model: ModelSource | Explainer,
    x: Input,
    target: Any = None,
    *,
    steps: int = 20,
    baseline: Any = None,
    quadrature: Quadrature = "right",
    batch_size: int = 16,
    progress: Progress | None = None,
    **options: Any,
) -> Explanation:
    """(x - baseline) * integral over t from 0 to 1 of the gradient at baseline + t * (x - baseline) (Sundararajan et al. 2017).

    The relevances of a sample add up to f(x) - f(baseline), but for the error of the quadrature, which is the result's `gap`.

    Args:
        model: path, bytes, ModelProto, or an Explainer with composite="gradient".
        x: (N, ...) or a dict name -> array.
        target: as in Explainer.explain; None is each sample's largest output at x itself.
        steps: at how many points the gradient is taken.
        baseline: a number, an array that broadcasts against x (so one for all samples, or one for each), or a dict name -> either; default
            zero. A list of baselines gives the mean over them (expected gradients, Erion et al. 2021).
        quadrature: where the points lie: "right" (t = k / steps for k = 1 .. steps), "left", "midpoint", "trapezoid" (both ends
            included), or "gauss" (Gauss-Legendre: the most exact for smooth models).
        batch_size: how many points are run at once. It bounds the memory and does not change the result.
        progress: called after each batch with the number of points that are done, and of all.
        **options: of Explainer.

    Raises:
        InputError: steps or batch_size is no positive int, the baseline does not fit, or the Explainer has another composite.
    """
    where, weights = _nodes(quadrature, steps)
    explainer = compiled(model, options)
    if type(explainer.composite) is not COMPOSITES["gradient"]:
        raise InputError('integrated gradients need the composite "gradient", not another one')
    baselines = baseline if isinstance(baseline, list) else [baseline]
    if not baselines:
        raise InputError("the list of baselines is empty")
    x = on_host(x)
    plain, inputs = explainer.explain(x, target), _inputs(explainer, x)
    further = [name for name in plain.relevances if name not in inputs]
    if further:
        raise InputError(f"integrated gradients are for inputs, not for the recorded tensor {further[0]!r}")
    starts = [{name: _baseline(one, name, value) for name, value in inputs.items()} for one in baselines]
    relevances: dict[str, Array] = {}
    gap = -plain.explained
    for before, start in enumerate(starts):

        def told(done: int, total: int, before: int = before) -> None:
            if progress is not None:
                progress(before * total + done, len(starts) * total)

        def point(name: str, sample: int, step: int, start: dict[str, Array] = start) -> Array:
            begin = start[name][sample]
            return np.asarray(begin + np.float32(where[step]) * (inputs[name][sample] - begin))

        (mean,) = _sums(explainer, x, plain, point, weights, batch_size, told)
        for name, value in mean.items():
            part = value * _like(inputs[name] - start[name], value) / len(starts)
            relevances[name] = relevances.get(name, 0) + part
        gap += explainer.explain(_moved(explainer, x, start), plain.target_as_given).explained / len(starts)
    for value in relevances.values():
        gap += value.reshape(*gap.shape, -1).sum(-1)
    return plain.with_relevances(_single(relevances), gap)


def smoothgrad(
    model: ModelSource | Explainer,
    x: Input,
    target: Any = None,
    *,
    n: int = 20,
    noise: float = 0.1,
    seed: int = 0,
    statistic: Statistic = "mean",
    batch_size: int = 16,
    progress: Progress | None = None,
    **options: Any,
) -> Explanation:
    """The mean gradient at n noisy copies of x, the last of them without noise (SmoothGrad, Smilkov et al. 2017).

    With the option composite= (or an Explainer with another composite) it is the mean of that composite's relevance.

    Args:
        model: path, bytes, ModelProto, or an Explainer.
        x: (N, ...) or a dict name -> array.
        target: as in Explainer.explain; None is each sample's largest output at x itself.
        n: how many copies are explained; with n = 1 the mean is the plain explanation.
        noise: the normal noise's standard deviation as a fraction of each sample's range (largest minus smallest value).
        seed: of the random generator. All samples get the same noise, so that a sample's result does not depend on the others.
        statistic: "mean", "square" (the mean of the squares: SmoothGrad-squared, Hooker et al. 2019) or "variance" (VarGrad, Adebayo et
            al. 2018).
        batch_size: how many copies are run at once. It bounds the memory and does not change the result.
        progress: called after each batch with the number of points that are done, and of all.
        **options: of Explainer.

    Raises:
        InputError: n or batch_size is no positive int, noise or seed is negative, or the statistic is unknown.
    """
    _positive(n, "n")
    if not isinstance(noise, (int, float)) or not 0 <= noise < float("inf"):
        raise InputError(f"noise is a finite number >= 0, not {noise!r}")
    if isinstance(seed, bool) or not isinstance(seed, int) or seed < 0:
        raise InputError(f"seed is an int >= 0, not {seed!r}")
    _one_of(statistic, STATISTICS, "statistic")
    explainer = compiled(model, options)
    x = on_host(x)
    plain, inputs = explainer.explain(x, target), _inputs(explainer, x)
    scales = {name: np.float32(noise) * _range(value) for name, value in inputs.items()}

    def point(name: str, sample: int, step: int) -> Array:
        value = inputs[name][sample]
        if step == n - 1:
            return np.asarray(value)
        rng = np.random.default_rng([seed, explainer.inputs.index(name), step])
        return np.asarray(value + scales[name][sample] * rng.standard_normal(value.shape, np.float32))

    powers = {"mean": (1,), "square": (2,), "variance": (1, 2)}[statistic]
    sums = _sums(explainer, x, plain, point, np.full(n, 1 / n), batch_size, progress, powers)
    if len(sums) == 1:
        return plain.with_relevances(_single(sums[0]))
    mean, square = sums
    return plain.with_relevances(_single({name: np.maximum(square[name] - mean[name] ** 2, 0) for name in mean}))


# running ----------------------------------------------------------------------------------------------------------------


def _sums(
    explainer: Explainer,
    x: Input,
    plain: Explanation,
    point: Callable[[str, int, int], Array],
    weights: Array,
    batch_size: int,
    progress: Progress | None,
    powers: tuple[int, ...] = (1,),
) -> list[dict[str, Array]]:
    """The weighted sums over the steps of powers of the relevances at point(name, sample, step), for the targets found at x; float64."""
    _positive(batch_size, "batch_size")
    totals = [{name: np.zeros(value.shape) for name, value in plain.relevances.items()} for _ in powers]
    targets = plain.target_as_given
    for rows in _chunks(len(plain.output) * len(weights), batch_size):
        samples, steps = np.divmod(rows, len(weights))
        places = list(zip(samples.tolist(), steps.tolist(), strict=True))
        points = {name: np.stack([point(name, *place) for place in places]) for name in explainer.inputs}
        wanted = [targets[sample] for sample in samples] if isinstance(targets, list) else targets[samples]
        found = explainer.explain(_moved(explainer, x, points, samples), wanted)
        for name, values in found.relevances.items():
            for (sample, step), value in zip(places, values.astype(np.float64), strict=True):
                for total, power in zip(totals, powers, strict=True):
                    total[name][sample] += weights[step] * value**power
        if progress is not None:
            progress(int(rows[-1]) + 1, len(plain.output) * len(weights))
    return totals


def _chunks(count: int, size: int) -> Iterator[Array]:
    for start in range(0, count, size):
        yield np.arange(start, min(start + size, count))


def _moved(explainer: Explainer, x: Input, points: dict[str, Array], samples: Array | slice = slice(None)) -> dict[str, Array]:
    """What the model is run on: the explained inputs as said, the others of these samples as they are."""
    given = x if isinstance(x, Mapping) else {explainer.inputs[0]: x}
    return {name: points[name] if name in points else np.asarray(value)[samples] for name, value in given.items()}


def _single(relevances: dict[str, Array]) -> dict[str, Array]:
    return {name: np.asarray(value, np.float32) for name, value in relevances.items()}


# arguments --------------------------------------------------------------------------------------------------------------


def compiled(model: ModelSource | Explainer, options: dict[str, Any], composite: str = "gradient") -> Explainer:
    """An Explainer as it is, or one of a model, with this composite if the options have none.

    Raises:
        InputError: there are options beside an Explainer.
    """
    if not isinstance(model, Explainer):
        return Explainer(model, options.pop("composite", composite), **options)
    if options:
        raise InputError(f"options ({', '.join(options)}) go with a model, not with an Explainer already made")
    return model


def _positive(value: Any, name: str) -> None:
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise InputError(f"{name} is an int >= 1, not {value!r}")


def _one_of(value: Any, known: tuple[str, ...], name: str) -> None:
    if value not in known:
        raise InputError(f"{name} is one of {', '.join(known)}, not {value!r}" + suggest(str(value), known))


def _nodes(quadrature: str, steps: int) -> tuple[Array, Array]:
    """The points between 0 and 1 at which the gradient is taken, and their weights, which add up to one."""
    _positive(steps, "steps")
    _one_of(quadrature, QUADRATURES, "quadrature")
    if quadrature == "gauss":
        points, weights = np.polynomial.legendre.leggauss(steps)
        return (points + 1) / 2, weights / 2
    if quadrature == "trapezoid":
        if steps < 2:
            raise InputError("the trapezoid rule needs at least 2 steps")
        weights = np.full(steps, 1 / (steps - 1))
        weights[[0, -1]] /= 2
        return np.linspace(0, 1, steps), weights
    offset = {"right": 1.0, "left": 0.0, "midpoint": 0.5}[quadrature]
    return (np.arange(steps) + offset) / steps, np.full(steps, 1 / steps)


def _inputs(explainer: Explainer, x: Input) -> dict[str, Array]:
    """The explained inputs as float32 arrays."""
    given = dict(x) if isinstance(x, Mapping) else {explainer.inputs[0]: x}
    missing = [name for name in explainer.inputs if name not in given]
    if missing or explainer.inputs[0] not in explainer.graph.inputs:
        name = missing[0] if missing else explainer.inputs[0]
        raise InputError(f"{name!r} is an internal tensor: only the model's inputs can be moved along a path")
    return {name: np.asarray(given[name], np.float32) for name in explainer.inputs}


def _baseline(baseline: Any, name: str, value: Array) -> Array:
    chosen = baseline.get(name, 0.0) if isinstance(baseline, Mapping) else 0.0 if baseline is None else baseline
    try:
        return np.broadcast_to(np.asarray(chosen, np.float32), value.shape)
    except (TypeError, ValueError):
        raise InputError(f"the baseline of shape {np.shape(chosen)} does not fit input {name!r} of shape {value.shape}") from None


def _range(value: Array) -> Array:
    """The largest minus the smallest value of each sample, in a shape that broadcasts against it."""
    axes = tuple(range(1, value.ndim))
    return np.asarray(value.max(axes, keepdims=True) - value.min(axes, keepdims=True))


def _like(value: Array, relevance: Array) -> Array:
    """An input in a shape that broadcasts against its relevance, which has one more axis for K targets per sample."""
    return value if value.ndim == relevance.ndim else value[:, None]
