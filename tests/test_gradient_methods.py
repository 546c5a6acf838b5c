"""Gradient, sensitivity, integrated gradients and SmoothGrad of whole models."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from models import build, op

import onnx_lrp
from onnx_lrp import InputError, integrated_gradients, smoothgrad

DEMO = Path(onnx_lrp.__file__).parent / "demo" / "digits.onnx"
A = np.array([[1.0, -2.0, 0.5], [0.0, 1.5, 1.0], [2.0, 0.0, -1.0]], np.float32)
B = np.array([0.5, -1.0, 2.0], np.float32)
X = np.array([[1.0, 2.0, -1.0], [0.5, -0.5, 3.0]], np.float32)
START = np.array([0.25, -1.0, 0.5], np.float32)


@pytest.fixture(scope="module")
def digits() -> np.ndarray:
    return np.load(DEMO.parent / "digits.npz")["images"]


@pytest.fixture(scope="module")
def explainer() -> onnx_lrp.Explainer:
    return onnx_lrp.Explainer(DEMO, "gradient")


def quadratic(free: str = "N") -> onnx_lrp.Explainer:
    """y_j = x_j * (A x)_j + B_j x_j."""
    nodes = [op("MatMul", "x A", "h"), op("Mul", "h x", "q"), op("Mul", "x B", "l"), op("Add", "q l")]
    return onnx_lrp.Explainer(build(nodes, {"x": (free, 3)}, constants={"A": A.T, "B": B}), "gradient", providers="cpu", threads=1)


def slope(x: np.ndarray, j: int) -> np.ndarray:
    """The gradient of output j of the quadratic net at x, in float64."""
    x = x.astype(np.float64)
    unit = np.eye(3)[j]
    return x[..., j, None] * A[j] + unit * (x @ A[j] + B[j])[..., None]


# integrated gradients ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["rescat", "seq1d", "mlp"])
def test_integrated_gradients_meet_zennit(name: str, shared_data: Path) -> None:
    reference = np.load(shared_data / "zennit" / f"{name}.npz")
    found = integrated_gradients(shared_data / "zennit" / f"{name}.onnx", reference["x"], reference["target"], steps=20)
    wanted = reference["integrated_gradients_20"]
    np.testing.assert_allclose(found.relevance, wanted, rtol=0, atol=1e-4 * np.abs(wanted).max())


@pytest.mark.parametrize(
    ("quadrature", "steps", "mean"),
    [("right", 4, 5 / 8), ("left", 4, 3 / 8), ("midpoint", 1, 0.5), ("midpoint", 5, 0.5), ("trapezoid", 2, 0.5), ("gauss", 3, 0.5)],
)
@pytest.mark.parametrize("j", range(3))
def test_integrated_gradients_of_a_quadratic_net(quadrature: Any, steps: int, mean: float, j: int) -> None:
    """Its gradient is linear, so the mean of the gradients is the gradient at the mean of the points."""
    found = integrated_gradients(quadratic(), X, j, steps=steps, baseline=START, quadrature=quadrature)
    np.testing.assert_allclose(found.relevance, (X - START) * slope(START + mean * (X - START), j), rtol=1e-5, atol=1e-5)


def test_gauss_is_exact_for_polynomials() -> None:
    model = build([op("Pow", "x p")], {"x": ("N", 3)}, constants={"p": np.float32(7)})
    found = integrated_gradients(model, X, 1, steps=4, quadrature="gauss")
    np.testing.assert_allclose(found.relevance, X**7 * np.array([0, 1, 0]), rtol=1e-4)
    np.testing.assert_allclose(found.gap, 0, atol=1e-4)


def test_the_gap_is_what_is_missing_to_the_difference(explainer, digits) -> None:
    baseline = np.full((1, 1, 16, 16), 0.1, np.float32)
    start = explainer.explain(np.broadcast_to(baseline, digits.shape), 4).output[:, 4]
    gaps = []
    for steps in (5, 100):
        found = integrated_gradients(explainer, digits, 4, steps=steps, baseline=baseline)
        rise = found.output[:, 4] - start
        np.testing.assert_allclose(found.relevance.sum((1, 2, 3)) - rise, found.gap, atol=1e-4)
        gaps.append(np.abs(found.gap).max() / np.abs(rise).max())
    assert gaps[1] < 0.02
    assert gaps[1] < gaps[0]


def test_baselines_for_each_sample_and_several_of_them() -> None:
    net, each = quadratic(), X[::-1] / 2
    both = integrated_gradients(net, X, 1, steps=3, baseline=each)
    for row in range(2):
        one = integrated_gradients(net, X[row : row + 1], 1, steps=3, baseline=each[row])
        np.testing.assert_allclose(both.relevance[row], one.relevance[0], rtol=1e-5)
    mean = integrated_gradients(net, X, 1, steps=3, baseline=[each, 0.5])
    flat = integrated_gradients(net, X, 1, steps=3, baseline=0.5)
    np.testing.assert_allclose(mean.relevance, (both.relevance + flat.relevance) / 2, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(mean.gap, (both.gap + flat.gap) / 2, rtol=1e-5, atol=1e-6)


def test_several_inputs_move_together() -> None:
    model = build([op("Mul", "x z", "h"), op("Add", "h x")], {"x": ("N", 3), "z": ("N", 3)})
    feeds, start = {"x": X, "z": X[::-1] * 2}, {"z": np.float32(0.5)}
    found = integrated_gradients(model, feeds, 2, steps=3, baseline=start, quadrature="midpoint")
    only = np.array([0, 0, 1])
    np.testing.assert_allclose(found.relevances["x"], X * ((feeds["z"] + 0.5) / 2 + 1) * only, rtol=1e-5)
    np.testing.assert_allclose(found.relevances["z"], (feeds["z"] - 0.5) * X / 2 * only, rtol=1e-5)
    np.testing.assert_allclose(found.gap, 0, atol=1e-5)


def test_an_input_that_is_not_explained_stays() -> None:
    model = build([op("Mul", "x z")], {"x": ("N", 3), "z": ("N", 3)})
    found = integrated_gradients(model, {"x": X, "z": X}, 0, steps=3, batch_size=2, inputs=["x"])
    np.testing.assert_allclose(found.relevance, X * X * np.array([1, 0, 0]), rtol=1e-5)


# SmoothGrad -------------------------------------------------------------------------------------------------------------


def test_one_step_of_smoothgrad_is_the_gradient(explainer, digits) -> None:
    plain = onnx_lrp.gradient(explainer, digits)
    np.testing.assert_allclose(smoothgrad(explainer, digits, n=1).relevance, plain.relevance, rtol=1e-5, atol=1e-7)
    np.testing.assert_allclose(smoothgrad(explainer, digits, n=3, noise=0.0).relevance, plain.relevance, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("statistic", ["mean", "square", "variance"])
def test_smoothgrad_of_a_quadratic_net(statistic: Any) -> None:
    """The same noise drawn here, and the formula of the gradient."""
    found = smoothgrad(quadratic(), X, 1, n=6, noise=0.3, seed=5, statistic=statistic)
    width = (X.max(1) - X.min(1))[:, None]
    draws = [0.3 * width * np.random.default_rng([5, 0, step]).standard_normal(3, np.float32) for step in range(5)]
    slopes = np.stack([slope(X + draw, 1) for draw in [*draws, 0 * X]])
    wanted = {"mean": slopes.mean(0), "square": (slopes**2).mean(0), "variance": slopes.var(0)}[statistic]
    np.testing.assert_allclose(found.relevance, wanted, rtol=1e-4, atol=1e-5)


def test_smoothgrad_is_seeded(explainer, digits) -> None:
    first = smoothgrad(explainer, digits, n=4, seed=1).relevance
    np.testing.assert_array_equal(smoothgrad(explainer, digits, n=4, seed=1).relevance, first)
    assert not np.array_equal(smoothgrad(explainer, digits, n=4, seed=2).relevance, first)


def test_progress_is_told(explainer, digits) -> None:
    told: list[tuple[int, int]] = []
    smoothgrad(explainer, digits[:2], n=5, batch_size=4, progress=lambda *done: told.append(done))
    assert told == [(4, 10), (8, 10), (10, 10)]
    told.clear()
    integrated_gradients(explainer, digits[:1], steps=3, baseline=[0, 1], progress=lambda *done: told.append(done))
    assert told == [(3, 6), (6, 6)]


def test_a_sample_is_smoothed_alone_as_in_a_batch(explainer, digits) -> None:
    together = smoothgrad(explainer, digits[:3], 2, n=4).relevance
    alone = smoothgrad(explainer, digits[2:3], 2, n=4).relevance
    np.testing.assert_allclose(together[2:], alone, rtol=1e-4, atol=1e-6)


def test_smoothgrad_around_any_composite(digits) -> None:
    plain = onnx_lrp.explain(DEMO, digits[:2], 3, composite="epsilon_plus")
    smooth = smoothgrad(DEMO, digits[:2], 3, composite="epsilon_plus", n=3, noise=0.0)
    np.testing.assert_allclose(smooth.relevance, plain.relevance, rtol=1e-4, atol=1e-6)


# both -------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("method", [integrated_gradients, smoothgrad])
@pytest.mark.parametrize("batch_size", [1, 3, 100])
def test_the_batch_size_changes_nothing(method, batch_size: int) -> None:
    for free in ("N", 4):  # also of a model with a fixed batch
        whole = method(quadratic(), X, 1)
        np.testing.assert_allclose(method(quadratic(free), X, 1, batch_size=batch_size).relevance, whole.relevance, rtol=1e-5, atol=1e-6)


def test_targets_stay_those_of_the_input_itself(explainer, digits) -> None:
    found = smoothgrad(explainer, digits, n=4, noise=2.0)
    np.testing.assert_array_equal(found.target, explainer.explain(digits).target)
    named = smoothgrad(explainer, digits, found.target, n=4, noise=2.0)
    np.testing.assert_array_equal(found.relevance, named.relevance)
    several = integrated_gradients(explainer, digits, np.tile([1, 5], (len(digits), 1)), steps=3)
    assert several.relevance.shape == (len(digits), 2, 1, 16, 16)
    alone = integrated_gradients(explainer, digits, 5, steps=3)
    np.testing.assert_allclose(several.relevance[:, 1], alone.relevance, rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(several.gap[:, 1], alone.gap, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("target", [None, (1, 2), [(1, 2), (0, 0)]], ids=["largest", "place", "places"])
@pytest.mark.parametrize("method", [integrated_gradients, smoothgrad])
def test_outputs_of_several_axes(method, target: Any) -> None:
    weights = np.random.default_rng(2).standard_normal((3, 6)).astype(np.float32)
    nodes = [op("MatMul", "x W", "h"), op("Mul", "h h", "s"), op("Reshape", "s n")]
    model = build(nodes, {"x": ("N", 3)}, constants={"W": weights, "n": np.array([-1, 2, 3])})
    h = X @ weights
    largest = np.stack(np.unravel_index((h**2).argmax(1), (2, 3)), 1)
    places = np.broadcast_to(largest if target is None else np.array(target), (2, 2))
    options = {"steps": 2, "quadrature": "midpoint"} if method is integrated_gradients else {"n": 1}
    found = method(model, X, target, **options)
    np.testing.assert_array_equal(found.target, places)
    column = weights.T[np.ravel_multi_index(tuple(places.T), (2, 3))]
    slopes = 2 * column * (X * column).sum(1, keepdims=True)
    np.testing.assert_allclose(found.relevance, X * slopes / 2 if method is integrated_gradients else slopes, rtol=1e-4, atol=1e-5)


def test_outputs_of_unknown_shape() -> None:
    x = np.array([[[1, -2, 0.5], [3, 1, 0]], [[0, 0.5, -4], [1, 2, 3]]], np.float32)
    found = integrated_gradients(build([op("Mul", "x x")], {"x": None}), x, steps=1, quadrature="midpoint")
    np.testing.assert_allclose(found.relevance, np.where(np.abs(x) == np.array([3, 4]).reshape(2, 1, 1), x**2, 0), rtol=1e-5)


@pytest.mark.parametrize(
    ("method", "options", "message"),
    [
        (integrated_gradients, {"steps": 0}, "steps is"),
        (integrated_gradients, {"steps": 1, "quadrature": "trapezoid"}, "at least 2 steps"),
        (integrated_gradients, {"quadrature": "gaus"}, "did you mean 'gauss'"),
        (integrated_gradients, {"batch_size": 0}, "batch_size is"),
        (integrated_gradients, {"baseline": np.zeros((3, 3))}, "does not fit"),
        (integrated_gradients, {"baseline": []}, "list of baselines is empty"),
        (integrated_gradients, {"providers": "cpu"}, "not with an Explainer already made"),
        (smoothgrad, {"n": 1.5}, "n is"),
        (smoothgrad, {"noise": -1.0}, "noise is"),
        (smoothgrad, {"seed": -1}, "seed is"),
        (smoothgrad, {"statistic": "median"}, "statistic is one of"),
    ],
)
def test_bad_options(method, options, message, explainer, digits) -> None:
    with pytest.raises(InputError, match=message):
        method(explainer, digits, **options)


def test_integrated_gradients_are_of_gradients_and_of_inputs(digits) -> None:
    with pytest.raises(InputError, match='need the composite "gradient"'):
        integrated_gradients(DEMO, digits, composite="input_x_gradient")
    tensor = onnx_lrp.Explainer(DEMO, "gradient").plan.steps[2].view.node.outputs[0]
    with pytest.raises(InputError, match="recorded tensor"):
        integrated_gradients(DEMO, digits, record=[tensor])
    with pytest.raises(InputError, match="internal tensor"):
        integrated_gradients(DEMO, digits, inputs=[tensor])


# sensitivity ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("options", "function"), [({}, np.abs), ({"norm": "square"}, np.square)])
def test_sensitivity_without_channels(options, function) -> None:
    model = build([op("MatMul", "x A", "h"), op("Mul", "h x")], {"x": ("N", 3)}, constants={"A": A.T})
    found = onnx_lrp.explain(model, X, 0, composite="sensitivity", providers="cpu", **options)
    np.testing.assert_allclose(found.relevance, function(slope(X, 0) - B[0] * np.eye(3)[0]), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("axis", [1, 3, -1])
def test_sensitivity_as_the_length_over_the_channels(axis: int) -> None:
    rng = np.random.default_rng(4)
    weights = rng.standard_normal((4, 3, 2, 2)).astype(np.float32)
    model = build([op("Conv", "x w", strides=[2, 2]), op("Tanh", "y", "t")], {"x": ("N", 3, 4, 5)}, "t", constants={"w": weights})
    x = rng.standard_normal((2, 3, 4, 5)).astype(np.float32)
    slopes = np.asarray(onnx_lrp.explain(model, x, (2, 1, 0), composite="gradient", providers="cpu").relevance, np.float64)
    found = onnx_lrp.explain(model, x, (2, 1, 0), composite="sensitivity", axis=axis, providers="cpu")
    wanted = np.broadcast_to(np.sqrt((slopes**2).sum(axis, keepdims=True)), x.shape)
    np.testing.assert_allclose(found.relevance, wanted, rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("options", [{"norm": "l1"}, {"norm": "l2", "axis": 0}, {"norm": "l2", "axis": 4}])
def test_bad_options_of_sensitivity(options) -> None:
    with pytest.raises(onnx_lrp.CompositeError, match="sensitivity"):
        onnx_lrp.Explainer(DEMO, "sensitivity", providers="cpu", **options)
