"""How many multiply-adds an ONNX graph really does, of whatever convolutions and matrix products it consists."""

from __future__ import annotations

import math

import numpy as np
import onnx
import onnxruntime
from onnx import TensorProto, helper

COUNTED = ("Conv", "ConvTranspose", "Gemm", "MatMul")


def multiply_adds(model: onnx.ModelProto, threads: int = 1) -> int:
    """Multiply-adds of one run on one sample. Nodes that only constants lead to are left out: they are computed once, at load.

    The shapes are those of a run on zeros, as not all can be inferred without one; axes of no fixed length have one element.
    """
    fixed = {tensor.name for tensor in model.graph.initializer}
    varying = {value.name for value in model.graph.input} - fixed
    counted = []
    for node in model.graph.node:
        if any(tensor in varying for tensor in node.input):
            varying.update(node.output)
            if node.op_type in COUNTED:
                counted.append(node)
    if not counted:
        return 0
    wanted = dict.fromkeys(tensor for node in counted for tensor in (node.input[0], node.input[1], node.output[0]))
    shapes = _shapes_in_a_run(model, list(wanted), threads)
    return sum(_of(node, shapes) for node in counted)


def _of(node: onnx.NodeProto, shapes: dict[str, tuple[int, ...]]) -> int:
    first, second, output = (shapes[tensor] for tensor in (node.input[0], node.input[1], node.output[0]))
    if node.op_type == "Conv":
        return math.prod(output) * math.prod(second[1:])
    if node.op_type == "ConvTranspose":
        return math.prod(first) * math.prod(second[1:])
    if node.op_type == "Gemm":
        turned = any(attribute.name == "transA" and attribute.i for attribute in node.attribute)
        return math.prod(output) * first[0 if turned else 1]
    return math.prod(output) * first[-1]


def _shapes_in_a_run(model: onnx.ModelProto, tensors: list[str], threads: int) -> dict[str, tuple[int, ...]]:
    """What shapes these tensors have when the model, as it is, runs on one sample of zeros."""
    probe = onnx.ModelProto()
    probe.CopyFrom(model)
    del probe.graph.output[:]
    for index, tensor in enumerate(tensors):
        probe.graph.node.append(helper.make_node("Shape", [tensor], [f"shape/{index}"]))
        probe.graph.output.append(helper.make_tensor_value_info(f"shape/{index}", TensorProto.INT64, None))
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.intra_op_num_threads = threads
    options.log_severity_level = 4
    session = onnxruntime.InferenceSession(probe.SerializeToString(), options, providers=["CPUExecutionProvider"])
    found = session.run(None, _zeros(model))
    return {tensor: tuple(int(length) for length in shape) for tensor, shape in zip(tensors, found, strict=True)}


def _zeros(model: onnx.ModelProto) -> dict[str, np.ndarray]:
    fixed = {tensor.name for tensor in model.graph.initializer}
    feeds = {}
    for value in model.graph.input:
        if value.name not in fixed:
            kind = value.type.tensor_type
            lengths = [axis.dim_value if axis.HasField("dim_value") else 1 for axis in kind.shape.dim]
            feeds[value.name] = np.zeros(lengths, helper.tensor_dtype_to_np_dtype(kind.elem_type))
    return feeds
