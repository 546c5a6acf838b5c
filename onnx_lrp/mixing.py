"""Whether a model computes something of several samples together, such as the mean over a batch."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from onnx_lrp.graph import Graph, Node

__all__ = ["mixing_node"]

_ALONG: dict[str, int] = {
    "Concat": 0, "CumSum": 0, "Hardmax": -1, "LogSoftmax": -1, "LpNormalization": -1, "Slice": 0, "Softmax": -1, "Split": 0, "TopK": -1,
}  # fmt: skip
"""Operators that compute something along an axis, or choose from it, while it may keep its name; and which one if nothing says so."""


def mixing_node(graph: Graph, output: str) -> str:
    """The name of the first node, before an output, that makes one sample's values depend on others; '' if none is seen.

    It shows in the shapes: behind such a node the length of the batch is gone, or it is there twice, as in a matrix of similarities. What
    the shapes do not tell, as in a model with a batch of fixed length or with lengths that are not known, is not seen.
    """
    batch = {kind.shape[0] for kind in graph.inputs_for(output).values() if kind.shape and isinstance(kind.shape[0], str)}
    return next((node.name for node in graph.needed_for([output]) if any(_mixes(graph, node, str(name)) for name in batch)), "")


def _mixes(graph: Graph, node: Node, batch: str) -> bool:
    given = [shape for tensor in node.inputs if tensor and (shape := graph.shape(tensor)) is not None and graph.type_of(tensor).is_float]
    if not any(batch in shape for shape in given):
        return False
    if node.op in _ALONG and batch in given[0]:
        return given[0].index(batch) in (axis % len(given[0]) for axis in _axes(graph, node))
    shape = graph.shape(node.outputs[0])
    told = {length for lengths in given for length in lengths if length is not None}  # a new name stands for what is not known
    if shape is None or not graph.type_of(node.outputs[0]).is_float or not all(isinstance(n, int) or n in told for n in shape):
        return False
    return shape.count(batch) != 1 and all(lengths.count(batch) <= 1 for lengths in given)


def _axes(graph: Graph, node: Node) -> list[int]:
    place = {"CumSum": 1, "Slice": 3}.get(node.op)
    if place is None:
        return [int(node.attributes.get("axis", _ALONG[node.op]))]
    found = graph.constant(node.input(place))
    return [_ALONG[node.op]] if found is None else [int(axis) for axis in found.reshape(-1)]
