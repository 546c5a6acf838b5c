"""How much memory a run of a graph takes, estimated from the shapes of its tensors."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from math import prod
from typing import TYPE_CHECKING

import numpy as np
import onnx
from onnx import helper, numpy_helper

from onnx_lrp.ordering import as_run, read_by

if TYPE_CHECKING:
    from onnx_lrp.graph import Array

_ARENA = 1.6
"""onnxruntime asks the system for blocks that double in size, and cuts them up: on seven networks with five composites its measured peak
was 1.1 to 1.9 times what is alive at once."""
_VALUES = 64
"""Integers with fewer elements may be shapes: inference sees their values."""
_VIEWS = frozenset({"Reshape", "Squeeze", "Unsqueeze", "Flatten", "Identity"})
"""Operators whose output is their input's memory."""
_IN_PLACE = frozenset({
    "Abs", "Add", "And", "Cast", "Ceil", "Clip", "Div", "Elu", "Equal", "Erf", "Exp", "Floor", "Greater", "HardSigmoid", "HardSwish",
    "LeakyRelu", "Less", "Log", "Max", "Min", "Mul", "Neg", "Not", "Or", "PRelu", "Pow", "Reciprocal", "Relu", "Round", "Selu", "Sigmoid",
    "Sign", "Softplus", "Sqrt", "Sub", "Sum", "Tanh", "ThresholdedRelu", "Where",
})  # fmt: skip
"""Operators that write over an input that nobody reads any more."""


def peak_bytes(model: onnx.ModelProto, feeds: Mapping[str, Array]) -> int:
    """The memory that a run takes at most, estimated: 1.6 times the largest sum of the tensors that are alive at once, node by node.

    It knows that some operators write over their input or only give it another shape. It does not know what onnxruntime fuses, nor the
    work space of its kernels; see `_ARENA` for the factor. Weights, and what is made of them alone, do not
    count, nor do the inputs. A tensor whose shape cannot be known counts as much as the largest input of its node.

    Args:
        model: the graph of a session.
        feeds: inputs of the shapes that are meant; small integers are looked into, as they may be shapes.
    """
    graph = _shaped(model, feeds).graph
    sizes = {value.name: _size(value) for value in (*graph.value_info, *graph.output)}
    weights = {value.name for value in graph.initializer}
    nodes = as_run(graph)
    reads = [read_by(node) for node in nodes]
    left = Counter(name for names in reads for name in names)
    left.update(value.name for value in graph.output)  # they stay
    block: dict[str, str] = {}
    """Tensor -> the one whose memory it lies in, its own or one before it; inputs and weights have none."""
    held: dict[str, int] = {}
    """Those -> bytes."""
    readers: Counter[str] = Counter()
    """Those -> how often they are still to be read."""
    alive = peak = 0
    for node, names in zip(nodes, reads, strict=True):
        if names and names <= weights:
            weights.update(node.output)
            continue
        own = [block[name] for name in names if name in block]
        last = [name for name in own if readers[name] == 1] if node.op_type in _IN_PLACE else []
        touched = set(own)
        for name in filter(None, node.output):
            size = sizes.get(name)
            size = max((held[other] for other in own), default=0) if size is None else size
            over = next((other for other in last if held[other] == size), None)
            if node.op_type in _VIEWS:
                over = block.get(node.input[0], "")
            if over is None:
                held[name] = size
                alive += size
            elif not over:
                continue
            block[name] = over or name
            readers[block[name]] += left[name]
            touched.add(block[name])
        peak = max(peak, alive)
        readers.subtract(own)
        for name in touched:
            if not readers[name]:
                alive -= held.pop(name)
    return int(_ARENA * peak)


def _shaped(model: onnx.ModelProto, feeds: Mapping[str, Array]) -> onnx.ModelProto:
    """The model with the shapes that its tensors have on these inputs, as far as onnx finds out."""
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    graph = copy.graph
    del graph.value_info[:]
    for value in graph.output:
        value.type.Clear()
    kept = []
    weights = {tensor.name for tensor in graph.initializer}
    for value in graph.input:
        if value.name in weights:
            continue
        array = feeds[value.name]
        if array.dtype.kind in "iu" and array.size < _VALUES:
            graph.initializer.append(numpy_helper.from_array(array, value.name))
        else:
            kept.append(helper.make_tensor_value_info(value.name, value.type.tensor_type.elem_type, array.shape))
    del graph.input[:]
    graph.input.extend(kept)
    shaped = _inferred(copy)
    if _count_elements(copy, shaped):
        shaped = _inferred(copy)
    return shaped


def _inferred(model: onnx.ModelProto) -> onnx.ModelProto:
    try:
        return onnx.shape_inference.infer_shapes(model, data_prop=True)
    except onnx.shape_inference.InferenceError:
        return model


def _count_elements(model: onnx.ModelProto, shaped: onnx.ModelProto) -> bool:
    """Puts a number in place of each product of a known shape, which inference does not compute; whether there was one."""
    shapes = {value.name: _shape(value) for value in (*shaped.graph.input, *shaped.graph.value_info)}
    integers = [tensor for tensor in model.graph.initializer if tensor.data_type == onnx.TensorProto.INT64 and len(tensor.dims) == 1]
    known = {tensor.name: numpy_helper.to_array(tensor).tolist() for tensor in integers}
    found = {}
    for node in model.graph.node:
        options = {attribute.name: attribute.i for attribute in node.attribute}
        if node.op_type == "Shape" and (shape := shapes.get(node.input[0])) is not None:
            known[node.output[0]] = shape[options.get("start", 0) : options.get("end")]
        elif node.op_type == "Concat" and all(name in known for name in node.input):
            known[node.output[0]] = [length for name in node.input for length in known[name]]
        elif node.op_type == "ReduceProd" and node.input[0] in known:
            found[node.output[0]] = np.array(prod(known[node.input[0]]), np.int64).reshape([1] * options.get("keepdims", 1))
    left = [node for node in model.graph.node if node.output[0] not in found]
    del model.graph.node[:]
    model.graph.node.extend(left)
    model.graph.initializer.extend(numpy_helper.from_array(value, name) for name, value in found.items())
    return bool(found)


def _shape(value: onnx.ValueInfoProto) -> list[int] | None:
    """A tensor's shape, if it is known."""
    kind = value.type.tensor_type
    if not kind.HasField("shape") or not all(dim.HasField("dim_value") for dim in kind.shape.dim):
        return None
    return [int(dim.dim_value) for dim in kind.shape.dim]


def _size(value: onnx.ValueInfoProto) -> int | None:
    """The bytes of a tensor, if its shape is known."""
    shape = _shape(value)
    return None if shape is None else int(prod(shape) * helper.tensor_dtype_to_np_dtype(value.type.tensor_type.elem_type).itemsize)
