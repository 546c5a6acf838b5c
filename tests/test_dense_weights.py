"""Large dense weights are inputs of the session, in a layout that its products read where it is: with the same results."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from models import build, op
from onnx import TensorProto, helper
from onnx.reference import ReferenceEvaluator

import onnx_lrp
from onnx_lrp.dense_weights import lay_out
from onnx_lrp.emitter import embed
from onnx_lrp.interpreter import placeholder

Arrays = dict[str, np.ndarray]


@pytest.fixture
def large(monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
    """From the call on, weights of any size are large."""
    return lambda: monkeypatch.setattr("onnx_lrp.dense_weights.LARGE", 0)


def perceptron(*, exported_by: str, bias: bool = True) -> onnx.ModelProto:
    """Three dense layers, the weights as PyTorch has them (out, in) or as Keras has them (in, out)."""
    rng, sizes = np.random.default_rng(0), (96, 128, 80, 10)
    constants, nodes, tensor = {}, [], "x"
    for layer, (width, following) in enumerate(pairwise(sizes)):
        turned = exported_by == "pytorch"
        weight = rng.normal(size=(width, following)).astype(np.float32) / np.float32(np.sqrt(width))
        constants[f"w{layer}"] = weight.T.copy() if turned else weight
        constants |= {f"b{layer}": rng.normal(size=following).astype(np.float32)} if bias else {}
        nodes.append(op("Gemm", f"{tensor} w{layer}" + f" b{layer}" * bias, f"z{layer}", transB=int(turned)))
        nodes.append(op("Relu", f"z{layer}", f"a{layer}"))
        tensor = f"a{layer}"
    return build(nodes[:-1], {"x": ["N", sizes[0]]}, f"z{len(sizes) - 2}", constants=constants)


@pytest.mark.parametrize("exported_by", ["pytorch", "keras"])
@pytest.mark.parametrize("composite", ["epsilon", "epsilon_plus", "excitation_backprop", "gradient"])
@pytest.mark.parametrize("bias", [True, False])
def test_the_layout_changes_no_result(exported_by: str, composite: str, bias: bool, large: Callable[[], None]) -> None:
    model = perceptron(exported_by=exported_by, bias=bias)
    plain = onnx_lrp.Explainer(model, composite, providers="cpu")
    large()
    laid_out = onnx_lrp.Explainer(model, composite, providers="cpu")
    assert not plain._runner.interpreter._fed
    assert {name.endswith("/blocks") for name in laid_out._runner.interpreter._fed} == {True, False}
    for batch in (1, 5):
        x = np.random.default_rng(batch).normal(size=(batch, 96)).astype(np.float32)
        for target in (None, np.tile([[1, 2, 3]], (batch, 1))):
            found, wanted = laid_out.explain(x, target), plain.explain(x, target)
            np.testing.assert_allclose(found.output, wanted.output, rtol=1e-5, atol=1e-6)
            np.testing.assert_allclose(found.relevance, wanted.relevance, rtol=1e-4, atol=1e-5 * np.abs(wanted.relevance).max())
    assert {value.name for value in laid_out.to_onnx().graph.input} == {"x", "target_relevance"}


def test_a_cached_explainer_computes_to_the_last_bit_what_a_compiled_one_does(tmp_path: Path, large: Callable[[], None]) -> None:
    large()
    model, x = perceptron(exported_by="pytorch"), np.random.default_rng(1).normal(size=(5, 96)).astype(np.float32)
    compiled = onnx_lrp.Explainer(model, "epsilon", providers="cpu")
    stored, loaded = (onnx_lrp.Explainer(model, "epsilon", providers="cpu", cache=tmp_path) for _ in range(2))
    for explainer in (stored, loaded):
        assert not explainer._runner.interpreter._fed
        np.testing.assert_array_equal(explainer.explain(x).relevance, compiled.explain(x).relevance)


def graph_of(nodes: list[onnx.NodeProto]) -> onnx.ModelProto:
    inputs = [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N", 64])]
    graph = helper.make_graph(nodes, "g", inputs, [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)])
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8)


@pytest.mark.parametrize(
    ("node", "columns", "fed"),
    [
        (op("Gemm", "x w b"), 64, ["w/blocks"]),
        (op("Gemm", "x w"), 96, ["w/blocks"]),
        (op("Gemm", "x w - ", beta=1.0, alpha=1.0), 40, ["w/blocks"]),  # one block
        (op("Gemm", "x w b"), 100, ["w/blocks"]),  # blocks of 20 or 25 or 50
        (op("Gemm", "x w b"), 127, ["w"]),  # a prime number of columns
        (op("Gemm", "x w b"), 7, ["w"]),
        (op("Gemm", "x w b", alpha=2.0), 64, ["w"]),
        (op("Gemm", "x w b", transB=1), 64, ["w"]),
        (op("MatMul", "x w"), 64, []),
        (op("Gemm", "w x", transA=1, transB=1), 64, []),
    ],
)
def test_which_products_are_laid_out(node: onnx.NodeProto, columns: int, fed: list[str], large: Callable[[], None]) -> None:
    large()
    rng = np.random.default_rng(0)
    weights: Arrays = {"w": rng.normal(size=(64, columns)).astype(np.float32)}
    constants: Any = {"b": rng.normal(size=columns).astype(np.float32)}
    model = graph_of([node])
    x = rng.normal(size=(3, 64)).astype(np.float32)
    whole = embed(graph_of([node]), {**weights, **constants})
    wanted = ReferenceEvaluator(whole).run(None, {"x": x})[0]
    found = lay_out(model.graph, weights)
    assert sorted(found) == fed
    assert sorted(weights) == ([] if fed == ["w/blocks"] else ["w"])
    model.graph.input.extend(helper.make_tensor_value_info(name, TensorProto.FLOAT, value.shape) for name, value in found.items())
    given = {name: value for name, value in weights.items() if name not in found}
    session = onnxruntime.InferenceSession(embed(model, {**given, **constants}).SerializeToString(), providers=["CPUExecutionProvider"])
    np.testing.assert_allclose(session.run(None, {"x": x, **found})[0], wanted, rtol=1e-5, atol=1e-5)


def test_weights_that_others_read_are_left_alone(large: Callable[[], None]) -> None:
    large()
    model = graph_of([op("Gemm", "x w", "h"), op("Add", "h w", "y")])
    weights: Arrays = {"w": np.ones((64, 64), np.float32)}
    assert lay_out(model.graph, weights) == {}
    assert [node.op_type for node in model.graph.node] == ["Gemm", "Add"]
    assert list(weights) == ["w"]


def test_both_layouts_where_both_are_read(large: Callable[[], None]) -> None:
    large()
    model = graph_of([op("Gemm", "x w", "h", transB=1), op("Gemm", "h w", "y")])
    weights: Arrays = {"w": np.ones((64, 64), np.float32)}
    found = lay_out(model.graph, weights)
    assert {name: value.shape for name, value in found.items()} == {"w": (64, 64), "w/blocks": (2, 64, 32)}
    assert found["w"] is weights["w"]  # no copy


def test_small_weights_are_left_to_onnxruntime() -> None:
    explainer = onnx_lrp.Explainer(perceptron(exported_by="pytorch"), "epsilon", providers="cpu")
    assert not explainer._runner.interpreter._fed


@pytest.mark.parametrize("prepack", [True, False])
@pytest.mark.parametrize(
    ("node", "shapes"),
    [
        (op("Conv", "x w"), [(1, 16, 8, 8), (16, 16, 3, 3)]),
        (op("Conv", "x w"), [(1, 5, 8, 8), (9, 5, 3, 3)]),
        (op("ConvTranspose", "x w", strides=[2, 2]), [(1, 16, 8, 8), (16, 16, 3, 3)]),
        (op("Gemm", "x w", transB=1), [(4, 64), (100, 64)]),
        (op("MatMul", "w x"), [(64, 4), (100, 64)]),
        (op("Mul", "x w"), [(100, 64), (100, 64)]),
    ],
    ids=["blocked", "plain", "transposed", "gemm", "matmul", "elementwise"],
)
def test_onnxruntime_copies_the_weights_it_is_given(node: onnx.NodeProto, shapes: list[tuple[int, ...]], prepack: bool) -> None:
    """So that the arrays need not live as long as the session, which does not keep them."""
    x, w = (np.random.default_rng(0).normal(size=shape).astype(np.float32) for shape in shapes)
    model = build([node], {"x": shapes[0]})
    model.graph.initializer.append(placeholder("w", w, Path("in-memory"), 0))
    options = onnxruntime.SessionOptions()
    if not prepack:
        options.add_session_config_entry("session.disable_prepacking", "1")
    options.add_external_initializers(["w"], [onnxruntime.OrtValue.ortvalue_from_numpy(w)])
    session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    before = session.run(None, {"x": x})[0].copy()
    w[...] = 0
    np.testing.assert_array_equal(session.run(None, {"x": x})[0], before)
