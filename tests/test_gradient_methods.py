"""Gradient, integrated gradients and SmoothGrad of whole models."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import onnx_lrp

DEMO = Path(onnx_lrp.__file__).parent / "demo" / "digits.onnx"


@pytest.fixture(scope="module")
def digits() -> np.ndarray:
    return np.load(DEMO.parent / "digits.npz")["images"]


@pytest.fixture(scope="module")
def explainer() -> onnx_lrp.Explainer:
    return onnx_lrp.Explainer(DEMO, "gradient")


@pytest.mark.parametrize("name", ["rescat", "seq1d", "mlp"])
def test_integrated_gradients_meet_zennit(name: str, shared_data: Path) -> None:
    reference = np.load(shared_data / "zennit" / f"{name}.npz")
    found = onnx_lrp.integrated_gradients(shared_data / "zennit" / f"{name}.onnx", reference["x"], reference["target"], steps=20)
    wanted = reference["integrated_gradients_20"]
    np.testing.assert_allclose(found.relevance, wanted, rtol=0, atol=1e-4 * np.abs(wanted).max())


def test_integrated_gradients_add_up(explainer, digits) -> None:
    baseline = np.full((1, 1, 16, 16), 0.1, np.float32)
    found = onnx_lrp.integrated_gradients(explainer, digits, 4, steps=100, baseline=baseline)
    start = explainer.explain(np.broadcast_to(baseline, digits.shape), 4).output[:, 4]
    np.testing.assert_allclose(found.relevance.sum((1, 2, 3)), found.output[:, 4] - start, rtol=0.02, atol=0.05)


def test_one_step_of_smoothgrad_is_the_gradient(explainer, digits) -> None:
    plain = onnx_lrp.gradient(explainer, digits)
    np.testing.assert_array_equal(onnx_lrp.smoothgrad(explainer, digits, n=1).relevance, plain.relevance)
    np.testing.assert_allclose(onnx_lrp.smoothgrad(explainer, digits, n=3, noise=0.0).relevance, plain.relevance, rtol=1e-4, atol=1e-6)


def test_smoothgrad_is_seeded(explainer, digits) -> None:
    first = onnx_lrp.smoothgrad(explainer, digits, n=4, seed=1).relevance
    np.testing.assert_array_equal(onnx_lrp.smoothgrad(explainer, digits, n=4, seed=1).relevance, first)
    assert not np.array_equal(onnx_lrp.smoothgrad(explainer, digits, n=4, seed=2).relevance, first)


def test_targets_stay_those_of_the_input_itself(explainer, digits) -> None:
    found = onnx_lrp.smoothgrad(explainer, digits, n=4, noise=2.0)
    np.testing.assert_array_equal(found.target, explainer.explain(digits).target)
    several = onnx_lrp.integrated_gradients(explainer, digits, np.tile([1, 5], (len(digits), 1)), steps=3)
    assert several.relevance.shape == (len(digits), 2, 1, 16, 16)
    alone = onnx_lrp.integrated_gradients(explainer, digits, 5, steps=3)
    np.testing.assert_allclose(several.relevance[:, 1], alone.relevance, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize(
    ("method", "options", "message"),
    [
        (onnx_lrp.integrated_gradients, {"steps": 0}, "steps is"),
        (onnx_lrp.integrated_gradients, {"baseline": np.zeros((3, 3))}, "does not fit"),
        (onnx_lrp.smoothgrad, {"n": 1.5}, "n is"),
        (onnx_lrp.smoothgrad, {"noise": -1.0}, "noise is"),
    ],
)
def test_bad_options(method, options, message, explainer, digits) -> None:
    with pytest.raises(onnx_lrp.InputError, match=message):
        method(explainer, digits, **options)
