"""TF32 and float16: what is rounded, what stays exact, and that overflow is found."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from models import build, op

import onnx_lrp
from onnx_lrp import Explainer
from onnx_lrp.errors import InputError, ModelError
from onnx_lrp.interpreter import CUDA
from onnx_lrp.precision import with_precision
from onnx_lrp.rules import Epsilon, ZPlus

DEMO = Path(onnx_lrp.__file__).parent / "demo" / "digits.onnx"
IMAGES = np.load(DEMO.with_suffix(".npz"))["images"][:3].astype(np.float32)
W, X = (np.random.default_rng(0).standard_normal(shape).astype(np.float32) for shape in ((8, 5), (4, 8)))
DENSE = build([op("Gemm", "x w b", "y")], {"x": ["N", 8]}, "y", {"w": W, "b": W[0]})


def half(array: np.ndarray) -> np.ndarray:
    return array.astype(np.float16).astype(np.float32)


def ten_bits(array: np.ndarray) -> np.ndarray:
    """Rounded to 10 bits behind the binary point, by the bits of the number."""
    return ((array.view(np.uint32) + 0x1000) & np.uint32(0xFFFFE000)).view(np.float32)


def explained(model: onnx.ModelProto | Path, x: np.ndarray, precision: str, composite="epsilon", **how):
    return Explainer(model, composite, precision=precision, providers="cpu", threads=1).explain(x, **how)


def test_a_product_in_float16() -> None:
    found = explained(DENSE, X, "float16").output
    exact = X.astype(np.float64) @ W + W[0]
    expected = half((half(X).astype(np.float64) @ half(W) + half(W[0])).astype(np.float32))
    np.testing.assert_allclose(found, expected, rtol=2**-10)  # the last bit may differ by the order of the sum
    np.testing.assert_array_equal(found, half(found))
    assert np.abs(found - exact).max() > 1e-5


def test_a_product_in_tf32() -> None:
    found = explained(DENSE, X, "tf32").output
    np.testing.assert_allclose(found, ten_bits(X).astype(np.float64) @ ten_bits(W) + W[0], rtol=1e-5, atol=1e-6)
    assert np.abs(found - (X.astype(np.float64) @ W + W[0])).max() > 1e-5


@pytest.mark.parametrize("composite", ["epsilon", "epsilon_plus_flat", "epsilon_alpha2_beta1", "gradient"])
@pytest.mark.parametrize("precision", ["tf32", "float16"])
def test_relevance_is_near_that_in_float32(composite: str, precision: str) -> None:
    exact = explained(DEMO, IMAGES, "float32", composite)
    for target in (exact.target, np.stack([exact.target, (exact.target + 1) % 10], 1)):
        expected = explained(DEMO, IMAGES, "float32", composite, target=target).relevance
        found = explained(DEMO, IMAGES, precision, composite, target=target).relevance
        error = np.linalg.norm(found - expected) / np.linalg.norm(expected)
        assert 1e-5 < error < 0.1


@pytest.mark.parametrize("size", [1e-12, 1.0, 1e12])
def test_relevance_of_any_size_goes_through_float16(size: float) -> None:
    """1e-12 is zero in float16, and 1e12 infinite; samples of different sizes stand side by side."""
    nodes = [op("Gemm", "x w", "a"), op("Relu", "a", "b"), op("Gemm", "b v", "y")]
    rng = np.random.default_rng(1)
    model = build(nodes, {"x": ["N", 8]}, "y", {"w": W, "v": rng.standard_normal((5, 5)).astype(np.float32)})
    seed = rng.standard_normal((4, 5)).astype(np.float32)
    sizes = np.float32([[1], [size], [1], [size]])
    expected = explained(model, X, "float32", "gradient", seed=seed * sizes).relevance / sizes
    found = explained(model, X, "float16", "gradient", seed=seed * sizes).relevance / sizes
    assert (np.linalg.norm(found - expected, axis=1) < 2e-3 * np.linalg.norm(expected, axis=1)).all()


def test_matrix_products_of_data() -> None:
    nodes = [op("Transpose", "x", "t", perm=[0, 2, 1]), op("MatMul", "x t", "s"), op("MatMul", "s x", "y")]
    model = build(nodes, {"x": ["N", 3, 4]}, "y")
    rng = np.random.default_rng(1)
    x = rng.standard_normal((2, 3, 4)).astype(np.float32)
    seed = rng.standard_normal((2, 3, 4)).astype(np.float32) * np.float32([1, 1e-9]).reshape(2, 1, 1)
    expected, found = (explained(model, x, precision, "gradient", seed=seed).relevance for precision in ("float32", "float16"))
    for sample in range(2):
        assert 0 < np.linalg.norm(found[sample] - expected[sample]) < 0.01 * np.linalg.norm(expected[sample])


def test_overflow_in_the_forward_pass_names_the_node() -> None:
    """Behind a Clip nothing would show it."""
    nodes = [op("Gemm", "x w", "a"), op("Clip", "a low high", "b"), op("Gemm", "b v", "y")]
    constants = {"w": np.full((8, 5), 3e4), "v": np.eye(5), "low": np.float32(0), "high": np.float32(6)}
    model = build(nodes, {"x": ["N", 8]}, "y", constants)
    x = np.ones((1, 8), np.float32)
    assert np.isfinite(explained(model, x, "float32").relevance).all()
    for target in (0, [[0, 1]]):
        with pytest.raises(ModelError, match=r"first at node 'a' \(Gemm\) in the forward pass, where float16 overflows"):
            explained(model, x, "float16", target=target)


def test_overflow_in_a_denominator_names_the_node() -> None:
    """Relevance divided by it would be zero."""
    nodes = [op("Gemm", "x w", "a"), op("Relu", "a", "b"), op("Gemm", "b v", "y")]
    model = build(nodes, {"x": ["N", 2]}, "y", {"w": np.float32([[3e4, 0], [-3e4, 1]]), "v": np.eye(2)})
    x = np.float32([[4, 3.9999]])
    assert np.isfinite(explained(model, x, "float32", ZPlus(), target=1).relevance).all()
    with pytest.raises(ModelError, match="first at node 'a', where float16 overflows"):
        explained(model, x, "float16", ZPlus(), target=1)


def test_a_saved_explainer_has_float16_products() -> None:
    model = Explainer(DEMO, "epsilon", precision="float16", providers="cpu", threads=1).to_onnx()
    typed = onnx.shape_inference.infer_shapes(model).graph
    types = {value.name: value.type.tensor_type.elem_type for value in (*typed.value_info, *typed.output, *typed.input)}
    products = [node for node in typed.node if node.op_type in ("Conv", "ConvTranspose", "Gemm", "MatMul")]
    assert products
    assert {types[node.output[0]] for node in products} == {onnx.TensorProto.FLOAT16}
    assert {types[node.output[0]] for node in typed.node if node.op_type in ("Div", "Softmax", "Relu")} == {onnx.TensorProto.FLOAT}
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    seed = np.eye(10, dtype=np.float32)[:3]
    found = session.run(["relevance"], {"image": IMAGES, "target_relevance": seed})[0]
    expected = explained(DEMO, IMAGES, "float32", seed=seed).relevance
    assert np.linalg.norm(found - expected) < 0.05 * np.linalg.norm(expected)


def test_tf32_is_a_setting_of_cuda() -> None:
    assert with_precision(CUDA, "tf32")[0][1]["use_tf32"] == "1"
    assert with_precision(CUDA, "float32")[0][1]["use_tf32"] == "0"
    assert with_precision(["CUDAExecutionProvider", "CPUExecutionProvider"], "tf32") == [
        ("CUDAExecutionProvider", {"use_tf32": "1"}),
        "CPUExecutionProvider",
    ]
    own = [("CUDAExecutionProvider", {"use_tf32": "1", "device_id": "2"})]
    assert with_precision(own, "float32") == own


def test_an_unknown_precision() -> None:
    with pytest.raises(InputError, match="precision is 'float32', 'tf32', 'float16', not 'float64'"):
        Explainer(DEMO, Epsilon(), precision="float64", providers="cpu")


def test_on_the_command_line(run, tmp_path: Path) -> None:
    code, _, err = run("compile", DEMO, "-o", tmp_path / "half.onnx", "--precision", "float16")
    assert (code, err) == (0, "")
    assert any(node.op_type == "Cast" for node in onnx.load(tmp_path / "half.onnx").graph.node)
    code, _, err = run("compile", DEMO, "-o", tmp_path / "ten.onnx", "--precision", "tf32")
    assert (code, len(err.splitlines())) == (2, 1)
    assert not (tmp_path / "ten.onnx").exists()
    np.save(tmp_path / "x.npy", IMAGES[:1])
    found = {}
    for precision in ("float32", "float16"):
        code, *_ = run("explain", DEMO, tmp_path / "x.npy", "--format", "npz", "-o", tmp_path / precision, "--precision", precision)
        assert code == 0
        with np.load(next((tmp_path / precision).glob("*.npz"))) as arrays:
            found[precision] = arrays["relevance"]
    assert 0 < np.linalg.norm(found["float16"] - found["float32"]) < 0.1 * np.linalg.norm(found["float32"])
