"""In which order nodes stand in an emitted graph, and in which onnxruntime runs them."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence

import onnx

from onnx_lrp.graph import captured_by

__all__ = ["as_run", "as_soon_as_possible", "needed_for", "read_by"]


def read_by(node: onnx.NodeProto) -> set[str]:
    """The tensors that a node needs: its inputs, and what its branches capture."""
    inner = (captured_by(attribute.g) for attribute in node.attribute if attribute.HasField("g"))
    return {name for names in (node.input, *inner) for name in names if name}


def needed_for(outputs: Iterable[str], nodes: Sequence[onnx.NodeProto]) -> list[onnx.NodeProto]:
    """The nodes that some tensors need, in their order, except where one reads from a node behind it: that one comes first then."""
    made_by = {tensor: node for node in nodes for tensor in node.output if tensor}
    wanted: set[str] = set()
    left = list(outputs)
    while left:
        node = made_by.get(left.pop())
        if node is not None and node.name not in wanted:
            wanted.add(node.name)
            left.extend(read_by(node))
    ordered: dict[str, onnx.NodeProto] = {}
    for first in nodes:
        pending = [first] if first.name in wanted else []
        while pending:
            makers = [made_by[tensor] for tensor in read_by(pending[-1]) if tensor in made_by]
            before = [maker for maker in makers if maker.name not in ordered]
            if before:
                pending.extend(before)
            else:
                node = pending.pop()
                ordered[node.name] = node
    return list(ordered.values())


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
