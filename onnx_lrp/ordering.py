"""In which order nodes stand in an emitted graph, and in which onnxruntime runs them."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence

import onnx

from onnx_lrp.graph import captured_by

__all__ = ["as_run", "as_soon_as_possible", "needed_for", "read_by"]


def read_by(node: onnx.NodeProto) -> set[str]:
    """The tensors that a node needs: its inputs, and what its branches capture."""
    names = set(node.input)
    if any(attribute.type == onnx.AttributeProto.GRAPH for attribute in node.attribute):
        names.update(*(captured_by(attribute.g) for attribute in node.attribute if attribute.HasField("g")))
    names.discard("")
    return names


def needed_for(outputs: Iterable[str], nodes: Sequence[onnx.NodeProto]) -> list[onnx.NodeProto]:
    """The nodes that some tensors need, in their order, except where one reads from a node behind it: that one comes first then."""
    made_by = {tensor: index for index, node in enumerate(nodes) for tensor in node.output if tensor}
    makers: dict[int, list[int]] = {}
    left = [made_by[tensor] for tensor in outputs if tensor in made_by]
    while left:
        index = left.pop()
        if index not in makers:
            makers[index] = [made_by[tensor] for tensor in read_by(nodes[index]) if tensor in made_by]
            left.extend(makers[index])
    ordered: dict[int, None] = {}
    for first in sorted(makers):
        pending = [first]
        while pending:
            before = [maker for maker in makers[pending[-1]] if maker not in ordered]
            if before:
                pending.extend(before)
            else:
                ordered[pending.pop()] = None
    return [nodes[index] for index in ordered]


def as_soon_as_possible(nodes: Sequence[onnx.NodeProto], forward: Collection[str], given: Iterable[str]) -> list[onnx.NodeProto]:
    """Puts what depends neither on some inputs nor on what is made of them right behind the last node that it needs.

    onnxruntime runs them last for that, and so holds what they make for a short time: see `as_run`. A denominator stands before the
    relevance that is divided by it, and is computed when that has arrived. The other way round, all denominators would be computed with
    the forward pass.

    Args:
        nodes: each behind those that it reads.
        forward: the names of nodes that stay where they are among each other.
        given: the inputs.
    """
    places = dict.fromkeys(given, len(nodes))
    keys = {}
    for index, node in enumerate(nodes):
        behind = max((places.get(tensor, -1) for tensor in read_by(node)), default=-1)
        keys[node.name] = index if node.name in forward else behind
        places.update(dict.fromkeys(node.output, keys[node.name]))
    return sorted(nodes, key=lambda node: keys[node.name])


def as_run(graph: onnx.GraphProto) -> list[onnx.NodeProto]:
    """The nodes in the order in which onnxruntime runs them.

    It goes backwards from the outputs, and of a node's inputs to the one first whose maker stands last in the file. Its optimisers replace
    nodes, so that the real order differs here and there.
    """
    made_by = {name: index for index, node in enumerate(graph.node) for name in node.output if name}
    pending = [(index, False) for index in sorted({made_by[value.name] for value in graph.output if value.name in made_by})]
    order: list[onnx.NodeProto] = []
    seen: set[int] = set()
    while pending:
        index, done = pending.pop()
        if done:
            order.append(graph.node[index])
        elif index not in seen:
            seen.add(index)
            pending.append((index, True))
            pending += [(maker, False) for maker in sorted({made_by[name] for name in read_by(graph.node[index]) if name in made_by})]
    return order
