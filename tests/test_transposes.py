"""Folded transposes and kept zeros leave every output as it is."""

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

from onnx_lrp.converters.padding import keep_zeros
from onnx_lrp.converters.transposes import fold_transposes

RNG = np.random.default_rng(0)
FIRST, LAST = [0, 3, 1, 2], [0, 2, 3, 1]
NHWC = ["N", 6, 8, 3]


def make(nodes: list[onnx.NodeProto], constants: dict[str, Any], outputs: tuple[str, ...] = ("out",), kind: int = TensorProto.FLOAT) -> Any:
    tensors = [numpy_helper.from_array(np.asarray(value), name) for name, value in constants.items()]
    shown = [helper.make_tensor_value_info(name, kind, None) for name in outputs]
    graph = helper.make_graph(nodes, "g", [helper.make_tensor_value_info("x", TensorProto.FLOAT, NHWC)], shown, tensors)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8)
    for index, node in enumerate(model.graph.node):
        node.name = node.name or f"{node.op_type}_{index}"
    return onnx.shape_inference.infer_shapes(model)


def op(kind: str, inputs: str, outputs: str, **attributes: Any) -> onnx.NodeProto:
    return helper.make_node(kind, inputs.split(), outputs.split(), **attributes)


def run(model: onnx.ModelProto, x: np.ndarray) -> list[np.ndarray]:
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    return onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"]).run(None, {"x": x})


def check(model: onnx.ModelProto, transposes: int) -> onnx.ModelProto:
    before = model.SerializeToString()
    folded = fold_transposes(model)
    assert model.SerializeToString() == before
    onnx.checker.check_model(folded, full_check=True)
    x = RNG.standard_normal((2, 6, 8, 3)).astype(np.float32)
    for got, want in zip(run(folded, x), run(model, x), strict=True):
        np.testing.assert_allclose(got, want, rtol=1e-5, atol=1e-6)
    assert [output.name for output in folded.graph.output] == [output.name for output in model.graph.output]
    assert Counter(node.op_type for node in folded.graph.node)["Transpose"] == transposes
    return folded


CONV = {"w": RNG.standard_normal((3, 3, 1, 1)).astype(np.float32)}
ROW = RNG.standard_normal(3).astype(np.float32)
BETWEEN = {
    "Relu": ([op("Relu", "b", "c")], {}),
    "Clip": ([op("Clip", "b low high", "c")], {"low": np.float32(-0.5), "high": np.float32(0.5)}),
    "Add row": ([op("Add", "b k", "c")], {"k": ROW}),
    "Sub from picture": ([op("Sub", "k b", "c")], {"k": RNG.standard_normal((6, 8, 1)).astype(np.float32)}),
    "Mul full": ([op("Mul", "b k", "c")], {"k": RNG.standard_normal((1, 6, 8, 3)).astype(np.float32)}),
    "Div scalar": ([op("Div", "b k", "c")], {"k": np.float32(3)}),
    "PRelu": ([op("PRelu", "b k", "c")], {"k": np.abs(ROW)}),
    "residual": ([op("Tanh", "b", "d"), op("Add", "b d", "c")], {}),
    "Concat": ([op("Neg", "b", "d"), op("Concat", "b d", "e", axis=-1), op("Slice", "e s t u", "c")], {"s": [1], "t": [4], "u": [3]}),
    "Concat rows": ([op("Neg", "b", "d"), op("Concat", "b d", "c", axis=1)], {}),
    "Pad": ([op("Pad", "b p k", "c")], {"p": [0, 1, 2, 0, 0, 3, 0, 0], "k": np.float32(0.7)}),
    "Pad axes": ([op("Pad", "b p k u", "c")], {"p": [1, 2, 0, 3], "k": np.float32(0.7), "u": [2, 1]}),
    "Pad reflect": ([op("Pad", "b p", "c", mode="reflect")], {"p": [0, 1, 2, 0, 0, 3, 0, 0]}),
    "Slice": ([op("Slice", "b s t u v", "c")], {"s": [1, -1], "t": [5, -99], "u": [1, 2], "v": [2, -1]}),
    "Resize": ([op("Resize", "b  k", "c", mode="nearest")], {"k": np.asarray([1, 2, 3, 1], np.float32)}),
    "Softmax": ([op("Softmax", "b", "c")], {}),
    "Softmax rows": ([op("Softmax", "b", "c", axis=1)], {}),
    "Split": ([op("Split", "b", "d e", axis=2, num_outputs=2), op("Mul", "d e", "c")], {}),
    "ReduceMean kept": ([op("ReduceMean", "b u", "d", keepdims=1), op("Sub", "b d", "c")], {"u": [1, 2]}),
    "ReduceMax channels": ([op("ReduceMax", "b u", "d", keepdims=1), op("Mul", "b d", "c")], {"u": [-1]}),
}


@pytest.mark.parametrize("case", BETWEEN)
def test_transposes_around_an_operator_meet(case: str) -> None:
    inner, constants = BETWEEN[case]
    if case == "Resize":
        inner[0].input[:] = ["b", "", "k"]
    nodes = [op("Transpose", "x", "a0", perm=FIRST), op("Conv", "a0 w", "a"), op("Transpose", "a", "b", perm=LAST), *inner]
    nodes += [op("Transpose", "c", "f", perm=FIRST), op("Conv", "f w", "g"), op("Transpose", "g", "out", perm=LAST)]
    check(make(nodes, CONV | constants), 2)


@pytest.mark.parametrize(("axes", "left"), [([1, 2], 1), ([3], 1), ([2], 2)])
def test_sums_that_drop_axes_need_a_transpose_only_where_the_order_changes(axes: list[int], left: int) -> None:
    nodes = [op("Transpose", "x", "a0", perm=FIRST), op("Conv", "a0 w", "a"), op("Transpose", "a", "b", perm=LAST)]
    check(make([*nodes, op("ReduceSum", "b u", "out", keepdims=0)], CONV | {"u": axes}), left)


def test_a_transpose_that_something_needs_stays() -> None:
    nodes = [op("Transpose", "x", "a0", perm=FIRST), op("Conv", "a0 w", "a"), op("Transpose", "a", "b", perm=LAST), op("Relu", "b", "c")]
    nodes += [op("Reshape", "c s", "out"), op("Transpose", "c", "d", perm=FIRST), op("Conv", "d w", "other")]
    folded = check(make(nodes, CONV | {"s": [0, -1]}, ("out", "other")), 2)
    assert {node.name for node in folded.graph.node} >= {"Transpose_0", "Conv_1", "Relu_3", "Reshape_4", "Conv_6"}


def test_an_output_between_two_transposes_keeps_its_layout() -> None:
    nodes = [op("Transpose", "x", "a", perm=FIRST), op("Relu", "a", "b"), op("Transpose", "b", "out", perm=LAST), op("Neg", "out", "c")]
    nodes += [op("Transpose", "c", "d", perm=FIRST), op("Transpose", "d", "last", perm=LAST)]
    check(make(nodes, {}, ("out", "last")), 0)


def test_a_pooled_vector_becomes_a_picture_without_a_transpose() -> None:
    nodes = [op("Transpose", "x", "a0", perm=FIRST), op("Conv", "a0 w", "a"), op("Transpose", "a", "b", perm=LAST)]
    nodes += [op("ReduceMean", "b u", "m", keepdims=0), op("Reshape", "m s", "r"), op("Transpose", "r", "t", perm=FIRST)]
    nodes += [op("Conv", "t w", "v"), op("Transpose", "v", "z", perm=LAST), op("Mul", "b z", "out")]
    check(make(nodes, CONV | {"u": [1, 2], "s": [-1, 1, 1, 3]}), 2)


def test_transposed_weights_are_computed() -> None:
    nodes = [
        op("Reshape", "k s", "r"),
        op("Transpose", "r", "w", perm=[3, 2, 0, 1]),
        op("Transpose", "x", "a", perm=FIRST),
        op("Conv", "a w", "b"),
    ]
    nodes += [op("Transpose", "b", "out", perm=LAST)]
    check(make(nodes, {"k": RNG.standard_normal((3, 3, 3, 4)).astype(np.float32), "s": [3, 3, 3, 4]}), 2)


def test_models_with_nothing_to_fold_stay() -> None:
    nodes = [op("Transpose", "x", "a", perm=FIRST), op("Conv", "a w", "out")]
    model = make(nodes, CONV)
    assert fold_transposes(model) is model
    plain = make([op("Relu", "x", "out")], {})
    assert fold_transposes(plain) is plain


@pytest.mark.parametrize("constant", [[], ["k"]])
def test_zeros_before_a_maximum_survive_onnxruntimes_optimiser(constant: list[str]) -> None:
    nodes = [op("Transpose", "x", "a", perm=FIRST), helper.make_node("Pad", ["a", "p", *constant], ["b"])]
    nodes += [op("MaxPool", "b", "out", kernel_shape=[3, 3], strides=[2, 2])]
    model = make(nodes, {"p": [0, 0, 1, 1, 0, 0, 1, 1], "k": np.float32(0)})
    keep_zeros(model)
    x = -1 - RNG.random((1, 6, 8, 3)).astype(np.float32)
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    (got,) = session.run(None, {"x": x})
    padded = np.pad(x.transpose(FIRST), [(0, 0), (0, 0), (1, 1), (1, 1)])
    windows = np.lib.stride_tricks.sliding_window_view(padded, (3, 3), (2, 3))[:, :, ::2, ::2]
    np.testing.assert_allclose(got, windows.max((-1, -2)), atol=1e-30)


@pytest.mark.parametrize(("mode", "value"), [("constant", -5.0), ("reflect", 0.0)])
def test_other_padding_stays(mode: str, value: float) -> None:
    nodes = [op("Pad", "x p k", "b", mode=mode), op("MaxPool", "b", "out", kernel_shape=[3, 3])]
    model = make(nodes, {"p": [0, 0, 1, 1, 0, 0, 1, 1], "k": np.float32(value)})
    before = model.SerializeToString()
    keep_zeros(model)
    assert model.SerializeToString() == before
