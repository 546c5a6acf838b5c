"""Model parameter randomisation: which parameters change, and what maps make of it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from models import build, op
from onnx import numpy_helper
from test_explanation_metrics import spearman

from onnx_lrp import Explainer, InputError
from onnx_lrp.demo import load
from onnx_lrp.evaluation import randomisation_test, randomised
from onnx_lrp.evaluation.randomisation import parameter_layers

RNG = np.random.default_rng(3)


def tensors(model: onnx.ModelProto) -> dict[str, np.ndarray]:
    return {tensor.name: numpy_helper.to_array(tensor) for tensor in model.graph.initializer}


@pytest.fixture
def model() -> onnx.ModelProto:
    """A convolution, then a dense layer whose weights come through a Transpose, then one that shares them."""
    nodes = [
        op("Conv", "x k kb", "c", name="conv", pads=[1, 1, 1, 1]),
        op("Relu", "c", "r"),
        op("Flatten", "r", "f"),
        op("Transpose", "w", "wt", perm=[1, 0]),
        op("MatMul", "f wt", "h", name="hidden"),
        op("Clip", "h low high", "hc"),
        op("Gemm", "hc w2 b2", "y", name="last"),
    ]
    shapes = {"k": (2, 1, 3, 3), "kb": (2,), "w": (5, 32), "w2": (5, 3), "b2": (3,)}
    constants: dict[str, Any] = {name: RNG.standard_normal(shape).astype(np.float32) for name, shape in shapes.items()}
    return build(nodes, {"x": ("N", 1, 4, 4)}, constants=constants | {"low": np.float32(-9), "high": np.float32(9)})


@pytest.mark.parametrize(
    ("mode", "expected"),
    [
        ("top_down", [("last", {"w2", "b2"}), ("hidden", {"w2", "b2", "w"}), ("conv", {"w2", "b2", "w", "k", "kb"})]),
        ("bottom_up", [("conv", {"k", "kb"}), ("hidden", {"k", "kb", "w"}), ("last", {"k", "kb", "w", "w2", "b2"})]),
        ("independent", [("conv", {"k", "kb"}), ("hidden", {"w"}), ("last", {"w2", "b2"})]),
    ],
)
def test_which_parameters_change(model: onnx.ModelProto, mode: str, expected: Any) -> None:
    assert parameter_layers(model) == ["conv", "hidden", "last"]
    before = model.SerializeToString()
    original = tensors(model)
    found = []
    for name, other in randomised(model, mode=mode, seed=1):
        now = tensors(other)
        found.append((name, {key for key, value in now.items() if not np.array_equal(value, original[key])}))
        assert {key: (value.shape, value.dtype) for key, value in now.items()} == {k: (v.shape, v.dtype) for k, v in original.items()}
    assert found == expected
    assert model.SerializeToString() == before


def test_numbers_are_drawn_like_the_parameters(model: onnx.ModelProto) -> None:
    original = tensors(model)["w"]
    (*_, (_, normal)), (*_, (_, shuffled)) = randomised(model), randomised(model, drawn_from="shuffle")
    np.testing.assert_array_equal(np.sort(tensors(shuffled)["w"], None), np.sort(original, None))
    drawn = tensors(normal)["w"]
    assert drawn.mean() == pytest.approx(original.mean(), abs=0.3)
    assert drawn.std() == pytest.approx(original.std(), rel=0.2)
    (*_, (_, again)) = randomised(model)
    np.testing.assert_array_equal(tensors(again)["w"], drawn)
    (*_, (_, other)) = randomised(model, seed=1)
    assert not np.array_equal(tensors(other)["w"], drawn)


def test_likeness_of_each_stage(model: onnx.ModelProto) -> None:
    """The maps that are compared are those of the randomised models, at the original target, from a seed of one."""
    x = RNG.standard_normal((3, 1, 4, 4)).astype(np.float32)
    result = randomisation_test(model, x, None, "epsilon", seed=2, providers="cpu")
    assert result.layers == ["last", "hidden", "conv"]
    original = Explainer(model, "epsilon", providers="cpu").explain(x, None, "one")
    for stage, (_, other) in enumerate(randomised(model, seed=2)):
        explanation = Explainer(other, "epsilon", providers="cpu").explain(x, original.target, "one")
        for row in range(3):
            expected = spearman(original.relevance[row].ravel(), explanation.relevance[row].ravel())
            assert result.rank_correlation[stage, row] == pytest.approx(expected, abs=1e-3)
            assert result.output[stage, row] == pytest.approx(explanation.output[row, original.target[row]], rel=1e-4)
    few = randomisation_test(model, x, None, "epsilon", seed=2, stages=2, providers="cpu")
    assert few.layers[-1] == "conv"
    np.testing.assert_allclose(few.ssim[-1], result.ssim[-1], rtol=1e-5)


def test_the_gradient_forgets_and_flat_does_not(model: onnx.ModelProto) -> None:
    """A rule without weights cannot see that the model was randomised; the gradient can (Adebayo et al. 2018, Sixt et al. 2020)."""
    x = RNG.standard_normal((3, 1, 4, 4)).astype(np.float32)
    flat = randomisation_test(model, x, 0, "flat", channel_axis="none", providers="cpu")
    np.testing.assert_allclose(flat.rank_correlation, 1)
    digits, images, _ = load()
    gradient = randomisation_test(digits, images[:8], None, "gradient", stages=1, providers="cpu")
    assert abs(gradient.rank_correlation.mean()) < 0.3


def test_files_constants_and_bytes(model: onnx.ModelProto, tmp_path: Path) -> None:
    onnx.save(model, tmp_path / "m.onnx")
    by_path, by_bytes = (next(iter(randomised(source)))[1] for source in (tmp_path / "m.onnx", model.SerializeToString()))
    assert by_path == by_bytes == next(iter(randomised(model)))[1]
    kept = [tensor for tensor in model.graph.initializer if tensor.name != "w2"]
    (moved,) = [tensor for tensor in model.graph.initializer if tensor.name == "w2"]
    constant = onnx.helper.make_node("Constant", [], ["w2"], value=moved)
    model.graph.node.insert(0, constant)
    del model.graph.initializer[:]
    model.graph.initializer.extend(kept)
    assert parameter_layers(model) == ["conv", "hidden", "last"]


@pytest.mark.parametrize("options", [{"mode": "topdown"}, {"drawn_from": "uniform"}, {"stages": 0}])
def test_unknown_names(model: onnx.ModelProto, options: Any) -> None:
    with pytest.raises(InputError):
        randomisation_test(model, np.ones((1, 1, 4, 4), np.float32), None, "epsilon", providers="cpu", **options)


def test_a_model_without_parameters() -> None:
    plain = build([op("Relu", "x", "y")], {"x": ("N", 4)})
    with pytest.raises(InputError, match="no convolutions"):
        randomisation_test(plain, np.ones((1, 4), np.float32), None, "epsilon", providers="cpu")
