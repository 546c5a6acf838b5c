"""Models of every opset, float width and file layout come out as the same function."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from canonical import outputs_of
from models import branch, build, op, relative_error, run
from onnx import ModelProto, helper, numpy_helper

import onnx_lrp
from onnx_lrp.canonical import canonicalise
from onnx_lrp.graph import read_graph
from onnx_lrp.graph.opset import OPSET

NEWEST = onnx.defs.onnx_opset_version()
SHAPE = (2, 3, 6, 6)


def w(*shape: int) -> np.ndarray:
    return np.random.default_rng(shape).standard_normal(shape)


def ints(*values: int) -> np.ndarray:
    return np.array(values, np.int64)


def forms(opset: int) -> tuple[list[onnx.NodeProto], dict[str, Any]]:
    """One function in the forms of an opset: attributes became inputs over the years."""
    constants: dict[str, Any] = {"w": w(4, 3, 3, 3), "b": w(4), "gain": w(4), "shift": w(4), "mean": w(4), "variance": w(4) ** 2 + 0.1}
    nodes = [op("Conv", "x w b", "conv", pads=[1, 1, 1, 1])]

    def parameter(name: str, value: Any) -> str:
        constants[name] = value
        return name

    def axes(kind: str, source: str, result: str, since: int, **attributes: Any) -> onnx.NodeProto:
        value = attributes.pop("axes")
        if opset < since:
            return op(kind, source, result, axes=value, **attributes)
        return op(kind, f"{source} {parameter(result + '_axes', ints(*value))}", result, **attributes)

    old = {"spatial": 1} if opset < 9 else {}
    nodes.append(op("BatchNormalization", "conv gain shift mean variance", "norm", epsilon=1e-3, **old))
    if opset < 11:
        nodes.append(op("Clip", "norm", "clip", min=-0.5, max=1.0))
        nodes.append(op("Pad", "clip", "pad", mode="constant", pads=[0, 0, 1, 0, 0, 0, 0, 1], value=0.25))
    else:
        nodes.append(op("Clip", f"norm {parameter('low', np.float32(-0.5))} {parameter('high', np.float32(1.0))}", "clip"))
        padding = parameter("pads", ints(0, 0, 1, 0, 0, 0, 0, 1)), parameter("value", np.float32(0.25))
        nodes.append(op("Pad", " ".join(["clip", *padding]), "pad", mode="constant"))
    if opset < 12:
        nodes.append(op("Dropout", "pad", "drop mask", ratio=0.4))
    else:
        nodes.append(op("Dropout", f"pad {parameter('ratio', np.float32(0.4))}", "drop mask"))
    if opset < 10:
        nodes.append(op("Slice", "drop", "slice", starts=[1, -6], ends=[9, 6], axes=[2, 3]))
    else:
        bounds = [parameter("starts", ints(1, -6)), parameter("ends", ints(9, 6)), parameter("where", ints(2, 3))]
        nodes.append(op("Slice", " ".join(["drop", *bounds]), "slice"))
    scales = np.array([1, 1, 2, 2.0])
    if opset < 9:
        nodes.append(op("Upsample", "slice", "up", mode="nearest", scales=scales.tolist()))
    elif opset < 11:
        nodes.append(op("Upsample" if opset < 10 else "Resize", f"slice {parameter('scales', scales)}", "up", mode="nearest"))
    else:
        resize = {"mode": "nearest", "coordinate_transformation_mode": "asymmetric", "nearest_mode": "floor"}
        roi = parameter("roi", np.zeros(0))
        nodes.append(op("Resize", f"slice {roi} {parameter('scales', scales)}", "up", **resize))
    if opset < 13:
        nodes.append(op("Split", "up", "left right", axis=1, split=[1, 3]))
    else:
        nodes.append(op("Split", f"up {parameter('split', ints(1, 3))}", "left right", axis=1))
    nodes += [
        axes("ReduceSum", "right", "sum", 13, axes=[1], keepdims=0),
        axes("Unsqueeze", "sum", "unsqueezed", 13, axes=[1]),
        axes("ReduceMean", "left", "mean_of_left", 18, axes=[2, 3], keepdims=1),
        op("Add", "unsqueezed mean_of_left", "added"),
        op("MaxPool", "added", "pool", kernel_shape=[2, 2], strides=[2, 2]),
        axes("Squeeze", "pool", "squeezed", 13, axes=[1]),
        op("Flatten", "squeezed", "flat"),
        op("Gemm", f"flat {parameter('w2', w(5, 30))} {parameter('b2', w(5))}", "scores", transB=1),
        op("Softmax", "scores", "y", axis=1),
    ]
    return nodes, constants


def model_at(opset: int, **options: Any) -> ModelProto:
    nodes, constants = forms(opset)
    return build(nodes, {"x": ("N", *SHAPE[1:])}, constants=constants, opset=opset, **options)


def outputs(model: Any, feeds: dict[str, np.ndarray]) -> list[np.ndarray]:
    return outputs_of(canonicalise(read_graph(model)), feeds)


@pytest.fixture(scope="module")
def x() -> dict[str, np.ndarray]:
    return {"x": np.random.default_rng(5).standard_normal(SHAPE).astype(np.float32)}


@pytest.fixture(scope="module")
def expected(x: dict[str, np.ndarray]) -> np.ndarray:
    return run(model_at(18), x)[0]


@pytest.mark.parametrize("opset", range(7, NEWEST + 1))
def test_every_opset(opset: int, x: dict[str, np.ndarray], expected: np.ndarray) -> None:
    model = model_at(opset)
    graph = read_graph(model)
    assert graph.opset == opset
    assert relative_error(outputs_of(graph, x)[0], expected) < 1e-5
    assert relative_error(outputs(model, x)[0], expected) < 1e-5
    explanation = onnx_lrp.Explainer(model, providers="cpu").explain(x)
    assert explanation.relevance.shape == SHAPE
    if opset <= 22:
        assert relative_error(run(model, x)[0], expected) < 1e-5  # the forms do say the same


@pytest.mark.parametrize("opset", range(7, NEWEST + 1))
def test_relevance_does_not_depend_on_the_opset(opset: int, x: dict[str, np.ndarray]) -> None:
    wanted = onnx_lrp.explain(model_at(OPSET), x, target=3, providers="cpu").relevance
    assert relative_error(onnx_lrp.explain(model_at(opset), x, target=3, providers="cpu").relevance, wanted) < 1e-4


@pytest.mark.parametrize("opset", range(20, NEWEST + 1))
def test_gelu_and_swish_of_new_opsets(opset: int, x: dict[str, np.ndarray]) -> None:
    nodes = [op("Gelu", "x", "a"), op("Gelu", "a", "b", approximate="tanh")]
    nodes.append(op("Swish", "b", "y", alpha=1.5) if opset >= 24 else op("Relu", "b", "y"))
    graph = read_graph(build(nodes, {"x": SHAPE}, opset=opset))
    assert [node.op for node in graph] == [node.op_type for node in nodes]
    old = [op("Mul", "x i", "d"), op("Erf", "d", "e"), op("Add", "e one", "f"), op("Mul", "x f", "g"), op("Mul", "g half", "a")]
    cubic = [op("Pow", "a three", "p"), op("Mul", "p k", "q"), op("Add", "a q", "r"), op("Mul", "r s", "t"), op("Tanh", "t", "u")]
    rest = [op("Add", "u one", "v"), op("Mul", "a v", "m"), op("Mul", "m half", "b")]
    end = [op("Mul", "b beta", "n"), op("Sigmoid", "n", "o"), op("Mul", "b o")] if opset >= 24 else [op("Relu", "b")]
    numbers = {"i": 0.5**0.5, "one": 1, "half": 0.5, "three": 3, "k": 0.044715, "s": (2 / np.pi) ** 0.5, "beta": 1.5}
    used = {name: np.float32(value) for name, value in numbers.items() if opset >= 24 or name != "beta"}
    wanted = run(build([*old, *cubic, *rest, *end], {"x": SHAPE}, constants=used), x)[0]
    assert relative_error(outputs_of(graph, x)[0], wanted) < 1e-5


@pytest.mark.parametrize("opset", [11, 12, 13, 17])
def test_old_forms_inside_a_branch(opset: int, x: dict[str, np.ndarray]) -> None:
    squeeze = op("Squeeze", "m", "s", axes=[1]) if opset < 13 else op("Squeeze", "m a", "s")
    nodes = [
        op("ReduceMean", "x", "m", axes=[1]),
        op("If", "c", "y", then_branch=branch([squeeze], "s"), else_branch=branch([op("Neg", "m", "n")], "n")),
    ]
    for condition in (True, False):
        model = build(nodes, {"x": SHAPE}, constants={"c": np.array(condition), "a": ints(1)}, opset=opset)
        assert relative_error(outputs(model, x)[0], run(model, x)[0]) < 1e-6


def test_path_bytes_and_proto_are_the_same(tmp_path: Path, x: dict[str, np.ndarray], expected: np.ndarray) -> None:
    model = model_at(13)
    before = model.SerializeToString()
    path = tmp_path / "model.onnx"
    path.write_bytes(before)
    for source in (path, str(path), before, model):
        assert relative_error(outputs(source, x)[0], expected) < 1e-5
        onnx_lrp.Explainer(source, providers="cpu")
    assert model.SerializeToString() == before


@pytest.mark.parametrize("size", [0, 100_000])
def test_external_data(tmp_path: Path, size: int, x: dict[str, np.ndarray], expected: np.ndarray) -> None:
    path = tmp_path / "model.onnx"
    onnx.save(
        model_at(18),
        path,
        save_as_external_data=True,
        all_tensors_to_one_file=size == 0,
        location="weights" if size == 0 else None,
        size_threshold=0,
    )
    assert len(list(tmp_path.iterdir())) > 1
    assert relative_error(outputs(path, x)[0], expected) < 1e-5


@pytest.mark.parametrize("opset", [8, 18])
def test_initialisers_among_the_inputs(opset: int, x: dict[str, np.ndarray], expected: np.ndarray) -> None:
    model = model_at(opset, ir_version=3)
    for tensor in model.graph.initializer:
        model.graph.input.append(helper.make_tensor_value_info(tensor.name, tensor.data_type, tensor.dims))
    graph = read_graph(model)
    assert list(graph.inputs) == ["x"]
    assert relative_error(outputs_of(graph, x)[0], expected) < 1e-5


def test_inputs_that_nobody_reads_are_dropped(x: dict[str, np.ndarray]) -> None:
    model = build([op("Tanh")], {"dangling": (3, 4), "x": SHAPE, "tokens": ("N",)}, types={"tokens": np.int64})
    assert list(read_graph(model).inputs) == ["x"]
    assert onnx_lrp.Explainer(model, providers="cpu").explain(x["x"]).relevance.shape == SHAPE


def test_functions_are_inlined(x: dict[str, np.ndarray]) -> None:
    opsets = [helper.make_opsetid("", 18), helper.make_opsetid("local", 1)]
    inner = helper.make_function("local", "Twice", ["a"], ["b"], [op("Add", "a a", "b")], opsets)
    outer = helper.make_function("local", "Block", ["a", "k"], ["c"], [op("Twice", "a", "h", "local"), op("Mul", "h k", "c")], opsets)
    nodes = [op("Block", "x k", "d", "local"), op("Tanh", "d", "t"), op("Twice", "t", "y", "local")]
    model = build(nodes, {"x": SHAPE}, constants={"k": np.float32(0.3)}, domains=["local"], functions=[inner, outer])
    graph = read_graph(model)
    assert [node.op for node in graph] == ["Add", "Mul", "Tanh", "Add"]
    assert relative_error(outputs_of(graph, x)[0], run(model, x)[0]) < 1e-6


@pytest.mark.parametrize(("dtype", "tolerance"), [(np.float16, 2e-2), (np.float64, 1e-5)])
def test_other_float_widths(dtype: Any, tolerance: float, x: dict[str, np.ndarray]) -> None:
    casts = [op("Cast", "x", "h", to=1), op("Mul", "h k", "m"), op("Relu", "m", "r"), op("GlobalAveragePool", "r")]
    for model in (model_at(18, dtype=dtype), build(casts, {"x": SHAPE}, constants={"k": np.float32(0.7)}, dtype=dtype)):
        for tensor in model.graph.initializer:
            if tensor.name == "scales":  # always float32
                tensor.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(tensor).astype(np.float32), "scales"))
        if dtype is np.float16:
            wanted = run(model, {"x": x["x"].astype(dtype)})[0]
        else:
            wanted = onnx.reference.ReferenceEvaluator(model).run(None, {"x": x["x"].astype(dtype)})[0]
        assert wanted.dtype == dtype
        got = outputs(model, x)[0]
        assert got.dtype == np.float32
        assert relative_error(got, wanted) < tolerance
        explanation = onnx_lrp.Explainer(model, "epsilon", providers="cpu").explain(x["x"].astype(dtype))
        assert explanation.relevance.dtype == np.float32
        assert np.isfinite(explanation.relevance).all()


def test_bfloat16(x: dict[str, np.ndarray]) -> None:
    kinds = {"k": [1.0, 2.0, 3.0, 4.0, 5.0, 6.0], "b": [0.5]}
    model = build([op("Cast", "x", "h", to=1), op("Mul", "h k", "m"), op("Add", "m b")], {"x": SHAPE})
    for name, values in kinds.items():
        model.graph.initializer.append(helper.make_tensor(name, onnx.TensorProto.BFLOAT16, [len(values)], values))
    model.graph.node[0].attribute[0].i = onnx.TensorProto.BFLOAT16
    for value in (*model.graph.input, *model.graph.output):
        value.type.tensor_type.elem_type = onnx.TensorProto.BFLOAT16
    wanted = x["x"] * np.array(kinds["k"], np.float32) + np.float32(0.5)
    assert relative_error(outputs(model, x)[0], wanted) < 1e-6


def test_node_names_missing_or_repeated(x: dict[str, np.ndarray]) -> None:
    nodes = [op("Tanh", "x", "a"), op("Sin", "a", "b"), op("Cos", "b", "c"), op("Tanh", "c")]
    for node, name in zip(nodes, ["same", "", "same", "b"], strict=True):
        node.name = name
    graph = read_graph(build(nodes, {"x": SHAPE}))
    assert [node.name for node in graph] == ["same", "b", "same#2", "b#2"]
    assert onnx_lrp.Explainer(build(nodes, {"x": SHAPE}), "gradient", providers="cpu").explain(x["x"]).relevance.shape == SHAPE


def test_nodes_in_any_order(x: dict[str, np.ndarray]) -> None:
    nodes = [op("Tanh", "x", "a"), op("Sin", "a", "b"), op("Mul", "a b")]
    graph = read_graph(build(nodes[::-1], {"x": SHAPE}))
    assert [node.op for node in graph] == ["Tanh", "Sin", "Mul"]
    assert relative_error(outputs_of(graph, x)[0], run(build(nodes, {"x": SHAPE}), x)[0]) < 1e-6


def test_several_inputs_and_int_inputs() -> None:
    nodes = [op("Gather", "table tokens", "e", axis=0), op("Add", "e x", "s"), op("ReduceSum", "s one", "r", keepdims=0), op("Mul", "r z")]
    inputs = {"tokens": ("N", 3), "x": ("N", 3, 4), "z": ("N", 4)}
    model = build(nodes, inputs, constants={"table": w(9, 4), "one": ints(1)}, types={"tokens": np.int64})
    graph = read_graph(model)
    assert {name: kind.dtype for name, kind in graph.inputs.items()} == {"tokens": np.int64, "x": np.float32, "z": np.float32}
    rng = np.random.default_rng(0)
    feeds = {"tokens": rng.integers(0, 9, (2, 3)), "x": rng.random((2, 3, 4), np.float32), "z": rng.random((2, 4), np.float32)}
    assert relative_error(outputs_of(graph, feeds)[0], run(model, feeds)[0]) < 1e-6
    explanation = onnx_lrp.Explainer(model, "epsilon", providers="cpu").explain(feeds)
    assert {name: value.shape for name, value in explanation.relevances.items()} == {"x": (2, 3, 4), "z": (2, 4)}
    of_tokens = onnx_lrp.Explainer(model, "epsilon", inputs=["e"], providers="cpu").explain(feeds)
    assert of_tokens.relevance.shape == (2, 3, 4)


def test_onnx_domain_by_its_long_name(x: dict[str, np.ndarray]) -> None:
    model = build([op("Tanh", "x", "h", "ai.onnx"), op("Sin", "h", "y", "ai.onnx")], {"x": SHAPE})
    assert [(node.op, node.domain) for node in read_graph(model)] == [("Tanh", ""), ("Sin", "")]
    assert relative_error(outputs(model, x)[0], np.sin(np.tanh(x["x"]))) < 1e-6


@pytest.mark.parametrize("opset", [7, 9, 13])
def test_norms_of_old_opsets_with_further_outputs_are_in_training_mode(opset: int, x: dict[str, np.ndarray]) -> None:
    constants = {"gain": w(3), "shift": w(3), "mean": w(3), "variance": w(3) ** 2 + 0.1}
    norm = op("BatchNormalization", "x gain shift mean variance", "y m v sm sv")
    model = build([norm], {"x": SHAPE}, constants=constants, opset=opset)
    graph = canonicalise(read_graph(model))
    assert [node.op for node in graph] == ["BatchNormalization"]
    assert relative_error(outputs_of(graph, x)[0], run(model, x)[0]) < 1e-5
    with pytest.raises(onnx_lrp.UnsupportedOperatorError, match="BatchNormalization"):
        onnx_lrp.Explainer(model, providers="cpu")


def test_norms_per_element_are_refused() -> None:
    norm = op("BatchNormalization", "x gain shift mean variance", spatial=0)
    constants = {name: w(3, 6, 6) for name in ("gain", "shift", "mean", "variance")}
    with pytest.raises(onnx_lrp.ModelError, match="spatial=0"):
        read_graph(build([norm], {"x": SHAPE}, constants=constants, opset=7))


def test_weights_in_typed_fields(x: dict[str, np.ndarray]) -> None:
    model = build([op("Mul", "x k", "h"), op("Reshape", "h s")], {"x": SHAPE})
    model.graph.initializer.append(helper.make_tensor("k", onnx.TensorProto.FLOAT, [6], [1, 2, 3, 4, 5, 6]))
    model.graph.initializer.append(helper.make_tensor("s", onnx.TensorProto.INT64, [2], [2, -1]))
    assert relative_error(outputs(model, x)[0], run(model, x)[0]) < 1e-6
