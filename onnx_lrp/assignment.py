"""Which execution provider of onnxruntime computes which node of a compiled explainer."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from onnx_lrp.interpreter import Interpreter

if TYPE_CHECKING:
    import onnx

    from onnx_lrp.graph import Array

RECORD = "session.record_ep_graph_assignment_info"
"""onnxruntime's setting that makes a session remember where its nodes went."""
_CPU = "CPUExecutionProvider"
_OF_SHAPE = ("Shape", "Size")


@dataclass(frozen=True)
class Placed:
    """A node and the provider that computes it."""

    name: str
    operator: str
    provider: str
    on_shapes: bool
    """Whether it computes on shapes alone: a few integers, which onnxruntime keeps on the CPU on purpose."""


@dataclass(frozen=True)
class Assignment:
    """Where the nodes of a compiled explainer are computed, after onnxruntime has folded constants."""

    nodes: tuple[Placed, ...]

    @property
    def counts(self) -> dict[str, int]:
        """How many nodes each provider computes."""
        return dict(Counter(node.provider for node in self.nodes))

    @property
    def fallen_back(self) -> list[Placed]:
        """The nodes that compute on data on the CPU although another provider was asked for; empty where only the CPU was."""
        if {node.provider for node in self.nodes} <= {_CPU}:
            return []
        return [node for node in self.nodes if node.provider == _CPU and not node.on_shapes]

    def to_dict(self) -> dict[str, Any]:
        """As plain data: the counts, and what fell back."""
        return {"nodes": self.counts, "fallen_back": [{"name": node.name, "operator": node.operator} for node in self.fallen_back]}

    def __str__(self) -> str:
        lines = [f"{provider}: {count} nodes" for provider, count in self.counts.items()]
        shapes = sum(node.provider == _CPU and node.on_shapes for node in self.nodes)
        if len(lines) > 1 and shapes:
            lines.append(f"on the CPU on purpose, as they compute shapes: {shapes}")
        lines += [f"fell back to the CPU: {node.name} ({node.operator})" for node in self.fallen_back]
        return "\n".join(lines)


def assign(model: onnx.ModelProto, constants: Mapping[str, Array], providers: Sequence[Any], threads: int | None = None) -> Assignment:
    """Asks onnxruntime where it computes the nodes of a graph. A session is made for that, nothing is run.

    Args:
        model: a ModelProto without the given constants.
        constants: its initialisers.
        providers: a list for onnxruntime.
        threads: as of Interpreter.
    """
    known = _on_shapes(model, constants)
    session = Interpreter(model, constants, providers, threads, {RECORD: "1"}).session
    parts = session.get_provider_graph_assignment_info()
    placed = [
        Placed(node.name, node.op_type, part.ep_name, node.op_type in _OF_SHAPE or node.name in known)
        for part in parts
        for node in part.get_nodes()
    ]
    return Assignment(tuple(placed))


def _on_shapes(model: onnx.ModelProto, constants: Mapping[str, Array]) -> frozenset[str]:
    """The names of the nodes that compute on shapes and constants alone."""
    tensors, names = set(constants), set()
    for node in model.graph.node:
        if node.op_type in _OF_SHAPE or all(not name or name in tensors for name in node.input):
            tensors.update(node.output)
            names.add(node.name)
    return frozenset(names)
