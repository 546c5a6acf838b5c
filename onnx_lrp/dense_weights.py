"""Large dense weights, laid out so that onnxruntime's CPU products read them where they are.

onnxruntime copies an initialiser, and a product that reads a constant matrix repacks it in addition: a weight that the forward and the
relevance pass read is then held three times, with the model's own. Inputs of the session are neither copied nor repacked. Without that, a
product by W^T reads the rows of W, each of which is contiguous; but one by W collects columns from all over W at every run, which takes
two to three times as long for a few samples. So such a product gets a copy of W in blocks of about 32 columns, each block contiguous, and
is as fast as on onnxruntime's own packing, for any number of samples.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Final

import numpy as np

if TYPE_CHECKING:
    import onnx

    from onnx_lrp.tensors import Array

__all__ = ["lay_out", "only_in_products"]

LARGE: Final = 2**20
"""Weights of fewer bytes are left to onnxruntime."""
_WIDTHS: Final = sorted(range(16, 65), key=lambda width: (width % 16 != 0, abs(width - 32)))
"""How many columns a block may have, the best first: kernels compute 16 at a time."""


def only_in_products(graph: onnx.GraphProto, weights: Mapping[str, Array]) -> dict[str, Array]:
    """Those weights that only matrix products of the graph itself read, as they are."""
    from onnx_lrp.graph import captured_by

    inside = [captured_by(attribute.g) for node in graph.node for attribute in node.attribute if attribute.HasField("g")]
    others = {name for node in graph.node if node.op_type not in ("Gemm", "MatMul") for name in node.input}.union(*inside)
    others |= {value.name for value in graph.output}
    return {name: value for name, value in weights.items() if name not in others}


def lay_out(graph: onnx.GraphProto, weights: dict[str, Array]) -> dict[str, Array]:
    """Lets the Gemm nodes of a graph that read large weights read them where they are.

    Args:
        graph: is changed: a Gemm by W becomes a MatMul by W in blocks.
        weights: constants of the graph that it does not hold itself; those that nothing reads any more are taken out.

    Returns:
        The arrays that are to be inputs of the session, by name: weights, and copies of them in blocks.
    """
    wanted = {name for name, value in only_in_products(graph, weights).items() if value.nbytes >= LARGE}
    wanted -= {name for node in graph.node for index, name in enumerate(node.input) if node.op_type != "Gemm" or index != 1}
    found: dict[str, Array] = {}
    nodes: list[onnx.NodeProto] = []
    for node in graph.node:
        weight = node.input[1] if len(node.input) > 1 and node.input[1] in wanted else ""
        options = {attribute.name: attribute for attribute in node.attribute}
        if not weight or ("transB" in options and options["transB"].i) or not (width := _width(node, weights[weight])):
            nodes.append(node)
            found |= {weight: np.ascontiguousarray(weights[weight])} if weight else {}
            continue
        blocks = f"{weight}/blocks"
        if blocks not in found:
            found[blocks] = np.ascontiguousarray(weights[weight].reshape(len(weights[weight]), -1, width).swapaxes(0, 1))
        nodes += _product(node, blocks, weights[weight].shape[1])
    del graph.node[:]
    graph.node.extend(nodes)
    for name in wanted - found.keys():
        del weights[name]
    return found


def _width(node: onnx.NodeProto, weight: Array) -> int | None:
    """The width of the blocks; None where they do not come out even, or the Gemm does more than a layer's product and bias."""
    plain = all(attribute.name == "transB" or (attribute.name in ("alpha", "beta") and attribute.f == 1) for attribute in node.attribute)
    return next((width for width in _WIDTHS if weight.shape[1] % width == 0), None) if plain else None


def _product(node: onnx.NodeProto, blocks: str, columns: int) -> list[onnx.NodeProto]:
    """A Gemm's output from its weight in blocks (count, rows, width): (count, N, width), turned to (N, count * width), plus the bias."""
    from onnx import TensorProto, helper

    name, output = node.name, node.output[0]
    wide, turned, flat = (f"{output}/{step}" for step in ("blocks", "turned", "flat"))
    shape, axis = f"{output}/shape", f"{output}/axis"
    sum_ = [helper.make_node("Add", [flat, node.input[2]], [output], name=f"{name}/bias")] if len(node.input) > 2 and node.input[2] else []
    return [
        helper.make_node("Constant", [], [axis], name=axis, value=helper.make_tensor("", TensorProto.INT64, [1], [0])),
        helper.make_node("Constant", [], [shape], name=shape, value=helper.make_tensor("", TensorProto.INT64, [2], [-1, columns])),
        helper.make_node("Unsqueeze", [node.input[0], axis], [f"{output}/rows"], name=f"{name}/rows"),
        helper.make_node("MatMul", [f"{output}/rows", blocks], [wide], name=name),
        helper.make_node("Transpose", [wide], [turned], name=f"{name}/turned", perm=[1, 0, 2]),
        helper.make_node("Reshape", [turned, shape], [flat if sum_ else output], name=f"{name}/flat"),
        *sum_,
    ]
