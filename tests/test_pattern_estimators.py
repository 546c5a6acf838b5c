"""The estimators of patterns, against the paper's formulas in float64."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pytest
from helpers import Array, check_close, make_model, node, normal, windows

from onnx_lrp import Patterns, explain, fit_patterns
from onnx_lrp.patterns import BIASES, ESTIMATORS

# the oracle -----------------------------------------------------------------------------------------------------------


def unrolled(shape: Sequence[int], op: str, attributes: Mapping[str, Any], w_shape: Sequence[int]) -> tuple[Array, int]:
    """For each position of the output and each weight of an output, the element of the flat input that the two bring together.

    Returns positions x groups x (inputs of a group, *kernel), -1 where there is none (padding, gaps), and the number of groups.
    """
    n, group = len(shape) - 1, attributes.get("group", 1)
    pads, strides = attributes.get("pads", [0] * 2 * n), attributes.get("strides", [1] * n)
    dilations = attributes.get("dilations", [1] * n)
    index, inner, kernel = np.arange(np.prod(shape)).reshape(shape), shape[0] // group, w_shape[2:]
    if op == "Conv":
        axes = [windows(shape[1 + i], kernel[i], strides[i], dilations[i], (pads[i], pads[i + n]), ceil=False) for i in range(n)]
        counts = [len(axis) for axis in axes]
    else:
        extra = attributes.get("output_padding", [0] * n)
        counts = [strides[i] * (shape[1 + i] - 1) + dilations[i] * (kernel[i] - 1) + 1 + extra[i] - pads[i] - pads[i + n] for i in range(n)]
    found = np.full((int(np.prod(counts)), group, inner, *kernel), -1)
    for row, position in enumerate(itertools.product(*map(range, counts))):
        for k in itertools.product(*map(range, kernel)):
            if op == "Conv":
                place = [axes[i][position[i]][k[i]] for i in range(n)]
            else:
                steps = [divmod(position[i] + pads[i] - k[i] * dilations[i], strides[i]) for i in range(n)]
                place = [-1 if rest else step for step, rest in steps]
            if all(0 <= p < size for p, size in zip(place, shape[1:], strict=True)):
                for g in range(group):
                    found[(row, g, slice(None), *k)] = index[(slice(g * inner, (g + 1) * inner), *place)]
    return found, group


def expected_pattern(patches: Array, w: Array, b: float, estimator: str, bias: str) -> Array:
    """The paper's formulas for one output: patches (samples, ...) and weights of one shape, in float64."""
    y = (patches * w).reshape(len(patches), -1).sum(1) + b
    regime = y > 0 if estimator == "positive" else np.full(y.shape, fill_value=True)
    p, shaped = patches[regime], y[regime].reshape(-1, *[1] * w.ndim)
    c = (p * shaped).mean(0) - p.mean(0) * y.mean()
    return c / ((w * c).sum() if bias == "ignore" else (y[regime] ** 2).mean() - y[regime].mean() * y.mean())


CONVOLUTIONS: dict[str, tuple[str, tuple[int, ...], tuple[int, ...], dict[str, Any]]] = {
    "1-D": ("Conv", (3, 11), (4, 3, 3), {"strides": [2], "pads": [2, 1], "dilations": [2]}),
    "2-D": ("Conv", (3, 6, 7), (5, 3, 3, 3), {"pads": [1, 1, 1, 1]}),
    "rest that no window covers": ("Conv", (2, 8, 9), (3, 2, 3, 2), {"strides": [3, 2]}),
    "groups": ("Conv", (4, 7, 6), (6, 2, 3, 2), {"strides": [2, 1], "pads": [0, 1, 2, 0], "dilations": [1, 2], "group": 2}),
    "depthwise": ("Conv", (3, 6, 6), (6, 1, 3, 3), {"pads": [1, 1, 1, 1], "group": 3}),
    "pointwise": ("Conv", (3, 4, 5), (4, 3, 1, 1), {}),
    "pointwise with strides": ("Conv", (3, 5, 6), (4, 3, 1, 1), {"strides": [2, 3]}),
    "pointwise with padding": ("Conv", (3, 5), (4, 3, 1), {"pads": [1, 0]}),
    "3-D": ("Conv", (2, 4, 5, 4), (3, 2, 2, 3, 2), {"strides": [1, 2, 1], "pads": [1, 1, 0, 0, 1, 1], "dilations": [2, 1, 1]}),
    "transposed": ("ConvTranspose", (3, 4, 5), (3, 2, 3, 2), {"strides": [2, 3], "pads": [1, 0, 0, 1], "output_padding": [1, 2]}),
    "transposed groups": ("ConvTranspose", (4, 5), (4, 3, 3), {"strides": [2], "dilations": [2], "group": 2}),
}


@pytest.mark.parametrize("bias", [*BIASES, None])
@pytest.mark.parametrize("estimator", ESTIMATORS)
@pytest.mark.parametrize("name", CONVOLUTIONS)
def test_patterns_of_convolutions(name: str, estimator: str, bias: str | None) -> None:
    op, shape, w_shape, attributes = CONVOLUTIONS[name]
    group = attributes.get("group", 1)
    outputs = w_shape[0] if op == "Conv" else w_shape[1] * group
    w, b, x = normal("w", *w_shape), normal("b", outputs) * bool(bias), normal("x", 5, *shape) + 0.5
    model = make_model([node(op, "x W B" if bias else "x W", **attributes)], {"W": w, "B": b} if bias else {"W": w}, shape)
    options: dict[str, Any] = {"bias": bias} if bias else {}
    got = fit_patterns(model, x, estimator=estimator, batch_size=2, providers="cpu", threads=1, **options).arrays[f"layer_{op}"]
    places, _ = unrolled(shape, op, attributes, w_shape)
    padded = np.concatenate([x.reshape(5, -1), np.zeros((5, 1))], 1).astype(np.float64)
    patches = padded[:, places].reshape(-1, *places.shape[1:])
    want = np.zeros(w_shape)
    for j in range(outputs):
        g, inside = divmod(j, outputs // group)
        inner = w_shape[0] // group
        at = (j,) if op == "Conv" else (slice(g * inner, (g + 1) * inner), inside)
        want[at] = expected_pattern(patches[:, g], w[at].astype(np.float64), float(b[j]), estimator, bias or "neuron")
    check_close(got, want, 2e-4, "pattern")


DENSE: dict[str, tuple[Any, tuple[int, ...], tuple[int, ...], Any]] = {
    # node, shape of a sample, shape of W, what makes (samples, inputs) of x and (outputs, inputs) of W
    "Gemm": (node("Gemm", "x W B"), (5,), (5, 4), lambda x, w: (x, w.T)),
    "Gemm transposed": (node("Gemm", "x W B", transB=1), (5,), (4, 5), lambda x, w: (x, w)),
    "MatMul": (node("MatMul", "x W"), (3, 5), (5, 4), lambda x, w: (x.reshape(-1, 5), w.T)),
    "MatMul from the left": (node("MatMul", "W x"), (5, 3), (4, 5), lambda x, w: (x.swapaxes(1, 2).reshape(-1, 5), w)),
    "MatMul by a vector": (node("MatMul", "x W"), (3, 5), (5,), lambda x, w: (x.reshape(-1, 5), w[None])),
    "MatMul by a vector from the left": (node("MatMul", "W x"), (5, 3), (5,), lambda x, w: (x.swapaxes(1, 2).reshape(-1, 5), w[None])),
}


@pytest.mark.parametrize("bias", BIASES)
@pytest.mark.parametrize("estimator", ESTIMATORS)
@pytest.mark.parametrize("name", DENSE)
def test_patterns_of_dense_layers(name: str, estimator: str, bias: str) -> None:
    layer, shape, w_shape, matrices = DENSE[name]
    w, b, x = normal("w", *w_shape), normal("b", 4), normal("x", 30, *shape) + 0.25
    model = make_model([layer], {"W": w, "B": b} if "B" in layer.input else {"W": w}, shape)
    got = fit_patterns(model, x, estimator=estimator, bias=bias, batch_size=7, providers="cpu", threads=1).arrays[layer.name]
    patches, rows = matrices(x.astype(np.float64), w.astype(np.float64))
    biases = b if "B" in layer.input else np.zeros(len(rows))
    want = np.stack([expected_pattern(patches, row, float(b), estimator, bias) for row, b in zip(rows, biases, strict=True)])
    check_close(matrices(x, got)[1], want, 1e-4, "pattern")


# what is known of patterns --------------------------------------------------------------------------------------------


def test_pattern_is_the_signal_of_the_data() -> None:
    """x = a y + noise that the weights do not see: the pattern is a, whatever the noise (Kindermans et al. 2018, figure 2)."""
    rng = np.random.default_rng(0)
    a, distractor = np.array([1.0, 0.0, 2.0]), np.array([1.0, 1.0, -1.0])
    w = np.array([1.0, -1.0, 0.0])  # w a = 1, w distractor = 0
    x = rng.normal(size=(4000, 1)) * a + 3 * rng.normal(size=(4000, 1)) * distractor
    model = make_model([node("Gemm", "x W")], {"W": w[:, None].astype(np.float32)}, (3,))
    pattern = fit_patterns(model, x, estimator="all", providers="cpu", threads=1).arrays["layer_Gemm"][:, 0]
    np.testing.assert_allclose(pattern, a, atol=0.2)
    gradient = explain(model, x[:1], composite="gradient", target=0, threads=1).relevance[0]
    signal = explain(model, x[:1], composite="pattern_net", patterns=Patterns({"layer_Gemm": pattern[:, None]}), threads=1)
    np.testing.assert_allclose(gradient, w)  # the gradient cancels the distractor
    np.testing.assert_allclose(signal.relevance[0], pattern, rtol=1e-6)  # the pattern shows the signal


def test_large_means_do_not_drown_the_pattern() -> None:
    """Inputs of mean 1000 and deviation 1: products of uncentred float32 values would leave two digits of the covariance."""
    x = normal("far", 600, 6) + np.float32(1000)
    w = normal("w", 6, 3)
    model = make_model([node("Gemm", "x W")], {"W": w}, (6,))
    got = fit_patterns(model, x, estimator="all", batch_size=50, providers="cpu", threads=1).arrays["layer_Gemm"]
    want = [expected_pattern(x.astype(np.float64), row, 0.0, "all", "neuron") for row in w.T.astype(np.float64)]
    check_close(got, np.transpose(want), 1e-3, "pattern")


@pytest.mark.parametrize("bias", BIASES)
@pytest.mark.parametrize("estimator", ESTIMATORS)
def test_outputs_without_signal_have_no_pattern(estimator: str, bias: str) -> None:
    """Weights that are zero, outputs that change by rounding only or are never positive: no NaN, and no map from them."""
    w = normal("w", 5, 4)
    w[:, 0] = 0
    w[:, 1] = [0, 0, 0, 0.7, 0.7]
    x = normal("x", 50, 5)
    x[:, 0], b = 3, np.array([1 / 3, 0.1, -100, 0.5], np.float32)
    x[:, 3] = np.random.default_rng(0).normal(size=50)
    x[:, 4] = 1 - x[:, 3]
    model = make_model([node("Gemm", "x W B")], {"W": w, "B": b}, (5,))
    fitted = fit_patterns(model, x, estimator=estimator, bias=bias, batch_size=20, providers="cpu", threads=1)
    pattern = fitted.arrays["layer_Gemm"]
    assert np.ptp(explain(model, x, composite="gradient", target=1, threads=1).output[:, 1]) > 0
    assert (pattern[:, :2] == 0).all()
    assert (pattern[:, 2] == 0).all() == (estimator == "positive")
    assert pattern[:, 3].any()
    for composite in ("pattern_net", "pattern_attribution"):
        relevance = explain(model, np.zeros((1, 5)), composite=composite, patterns=fitted, target=0, threads=1).relevance
        assert (relevance == 0).all()
