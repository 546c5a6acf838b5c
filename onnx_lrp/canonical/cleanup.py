"""Removing nodes that do nothing in inference."""

from __future__ import annotations

from onnx_lrp.graph import Graph, Node


def remove_identities(graph: Graph) -> bool:
    """Removes Identity, Dropout, Cast between floats (all are float32 here) and n-ary operators of one tensor.

    What makes a model's output from its input stays: an output needs a node.
    """
    gone = [node for node in graph if _does_nothing(node, graph)]
    for node in gone:
        graph.rename(node.outputs[0], graph.resolve(node.input(0)))
    if gone:
        marked = set(map(id, gone))
        graph.nodes = [node for node in graph.nodes if id(node) not in marked]
    return bool(gone)


def _does_nothing(node: Node, graph: Graph) -> bool:
    if node.domain or (node.outputs[0] in graph.outputs and graph.resolve(node.input(0)) not in graph.producers):
        return False
    if node.op == "Dropout":
        return not any(tensor and (tensor in graph.consumers or tensor in graph.outputs) for tensor in node.outputs[1:])
    if node.op == "CastLike":
        return all(graph.type_of(tensor).dtype == "float32" for tensor in node.inputs)
    if node.op == "Cast":
        return node.attributes["to"] == 1 and graph.type_of(node.input(0)).dtype == "float32"
    return node.op == "Identity" or (node.op in ("Sum", "Mean", "Max", "Min", "Concat") and len(node.inputs) == 1)
