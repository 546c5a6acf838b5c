"""Small ONNX models for tests, written in a few words, and a plain runner for them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import onnx
import onnxruntime
from onnx import ModelProto, NodeProto, TensorProto, helper, numpy_helper

Shape = Sequence[int | str | None] | None


def op(kind: str, inputs: str = "x", outputs: str = "y", domain: str = "", **attributes: Any) -> NodeProto:
    """A node. Tensor names are separated by blanks; '-' stands for one that is left out."""
    names = [[("" if name == "-" else name) for name in text.split()] for text in (inputs, outputs)]
    return helper.make_node(kind, *names, domain=domain or None, **attributes)


def rename(node: NodeProto, name: str) -> NodeProto:
    """The node with a name."""
    node.name = name
    return node


def value_info(name: str, shape: Shape, dtype: Any = np.float32) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(name, helper.np_dtype_to_tensor_dtype(np.dtype(dtype)), shape)


def build(
    nodes: Iterable[NodeProto],
    inputs: Mapping[str, Shape],
    outputs: str | Sequence[onnx.ValueInfoProto] = "y",
    constants: Mapping[str, Any] | None = None,
    *,
    opset: int = 18,
    ir_version: int = 8,
    dtype: Any = np.float32,
    types: Mapping[str, Any] | None = None,
    domains: Iterable[str] = (),
    functions: Iterable[onnx.FunctionProto] = (),
) -> ModelProto:
    """A model. Float inputs and constants, also in attributes, are of `dtype`; `types` gives the types of other inputs and outputs."""
    types = dict(types or {})
    infos = [value_info(name, shape, types.get(name, dtype)) for name, shape in inputs.items()]
    made = [value_info(name, None, types.get(name, dtype)) for name in outputs.split()] if isinstance(outputs, str) else outputs
    tensors = [numpy_helper.from_array(_as(np.asarray(value), dtype), name) for name, value in (constants or {}).items()]
    converted = []
    for node in nodes:
        copy = NodeProto()
        copy.CopyFrom(node)
        for attribute in copy.attribute:
            if attribute.type == onnx.AttributeProto.TENSOR:
                attribute.t.CopyFrom(numpy_helper.from_array(_as(numpy_helper.to_array(attribute.t), dtype), attribute.t.name))
            elif attribute.name == "to" and attribute.i == TensorProto.FLOAT:
                attribute.i = helper.np_dtype_to_tensor_dtype(np.dtype(dtype))
        converted.append(copy)
    graph = helper.make_graph(converted, "test", infos, made, tensors)
    opsets = [helper.make_opsetid("", opset), *(helper.make_opsetid(domain, 1) for domain in domains)]
    return helper.make_model(graph, opset_imports=opsets, ir_version=ir_version, functions=list(functions))


def _as(array: np.ndarray, dtype: Any) -> np.ndarray:
    return array.astype(dtype) if array.dtype.kind == "f" else array


def run(model: ModelProto | bytes, feeds: Mapping[str, np.ndarray], names: Sequence[str] | None = None) -> list[np.ndarray]:
    """The model's outputs by onnxruntime on the CPU, without its graph optimisations."""
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.intra_op_num_threads = 1
    data = model if isinstance(model, bytes) else model.SerializeToString()
    session = onnxruntime.InferenceSession(data, options, providers=["CPUExecutionProvider"])
    wanted = {value.name for value in session.get_inputs()}
    return session.run(list(names) if names else None, {name: value for name, value in feeds.items() if name in wanted})


def relative_error(got: np.ndarray, expected: np.ndarray) -> float:
    """The largest difference, relative to the largest expected value; infinite when the shapes differ."""
    if got.shape != expected.shape:
        return float("inf")
    if not expected.size:
        return 0.0
    scale = float(np.abs(expected).max())
    difference = float(np.abs(got.astype(np.float64) - expected.astype(np.float64)).max())
    return difference / scale if scale else difference


def branch(nodes: Iterable[NodeProto], outputs: str, constants: Mapping[str, Any] | None = None, inputs: str = "") -> onnx.GraphProto:
    """A subgraph for an If or a Loop; its outputs are float, its inputs have no type."""
    tensors = [numpy_helper.from_array(_as(np.asarray(value), np.float32), name) for name, value in (constants or {}).items()]
    results = [value_info(name, None) for name in outputs.split()]
    return helper.make_graph(list(nodes), "branch", [onnx.ValueInfoProto(name=name) for name in inputs.split()], results, tensors)
