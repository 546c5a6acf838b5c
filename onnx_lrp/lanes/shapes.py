"""The shapes of all tensors of an emitted graph, as far as they can be known before it runs."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import onnx
from onnx import helper, numpy_helper

from onnx_lrp.feeds import value_info
from onnx_lrp.graph import Array, TensorType

Shape = tuple[int | str | None, ...]
SMALL = 1024
"""Larger constants are no shapes or axes: inference need not see their values."""


class NotLiftable(Exception):  # noqa: N818 - caught by those who can do without
    """A graph cannot be lifted over lanes: an operator has no rule for wide tensors, or a rank is not known."""


def infer_shapes(model: onnx.ModelProto, constants: Mapping[str, Array], types: Mapping[str, TensorType]) -> dict[str, Shape]:
    """Infers shapes by onnx, and by the ranks below what it gives up on.

    Args:
        model: a graph without initialisers.
        constants: its initialisers.
        types: what is known of its tensors.

    Returns:
        Tensor -> shape, for those of known rank.

    Raises:
        NotLiftable: the graph contradicts itself.
    """
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    graph = copy.graph
    for name, array in constants.items():
        if array.size <= SMALL:
            graph.initializer.append(numpy_helper.from_array(np.asarray(array, order="C"), name))
        else:
            graph.input.append(value_info(name, array.dtype, array.shape))
    made = {tensor for node in graph.node for tensor in node.output} - {value.name for value in graph.output}
    known = {name: kind for name, kind in types.items() if name in made and kind.shape is not None and kind.dtype is not None}
    graph.value_info.extend(value_info(name, kind.dtype, kind.shape) for name, kind in known.items())
    while True:
        try:
            inferred = onnx.shape_inference.infer_shapes(copy, data_prop=True).graph
        except onnx.shape_inference.InferenceError as error:
            raise NotLiftable(f"shape inference fails: {error}") from None
        values = {value.name: value for value in (*inferred.input, *inferred.value_info, *inferred.output)}
        found = {name: _shape(value) for name, value in values.items() if value.type.tensor_type.HasField("shape")}
        found |= {name: tuple(array.shape) for name, array in constants.items()}
        hinted = {value.name for value in graph.value_info}
        hints = []
        for node in graph.node:
            for tensor, shape in _ranks(node, found).items():
                if tensor not in found and tensor not in hinted and node.input[0] in values:
                    kind = values[node.input[0]].type.tensor_type.elem_type
                    hints.append(helper.make_tensor_value_info(tensor, kind, shape))
        if not hints:
            return found
        graph.value_info.extend(hints)  # and once more, for what lies behind


def _ranks(node: onnx.NodeProto, found: Mapping[str, Shape]) -> dict[str, Shape]:
    """The outputs of nodes whose lengths are computed, and so unknown, but whose ranks are not."""
    shapes = [found.get(name) for name in node.input]
    if node.op_type == "Split" and shapes[0] is not None:
        axis = next((attribute.i for attribute in node.attribute if attribute.name == "axis"), 0) % len(shapes[0])
        part = (*shapes[0][:axis], None, *shapes[0][axis + 1 :])
        return dict.fromkeys(node.output, part)
    if node.op_type in ("Reshape", "Expand") and shapes[1] is not None and isinstance(shapes[1][0], int):
        if node.op_type == "Reshape":
            return {node.output[0]: (None,) * shapes[1][0]}
        if shapes[0] is not None:
            return {node.output[0]: (None,) * max(shapes[1][0], len(shapes[0]))}
    return {}


def _shape(value: onnx.ValueInfoProto) -> Shape:
    return tuple(_length(dim) for dim in value.type.tensor_type.shape.dim)


def _length(dim: onnx.TensorShapeProto.Dimension) -> int | str | None:
    return int(dim.dim_value) if dim.HasField("dim_value") else str(dim.dim_param) if dim.dim_param else None
