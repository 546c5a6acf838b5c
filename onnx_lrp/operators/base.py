"""What an operator is to relevance: its role, and the maps that rules are written in terms of."""

from __future__ import annotations

from enum import StrEnum
from typing import TYPE_CHECKING, ClassVar

if TYPE_CHECKING:
    from onnx_lrp.emitter import Emitter
    from onnx_lrp.graph import Graph, Node


class Role(StrEnum):
    """Decides which rules may apply to a node."""

    AFFINE = "affine"
    """Linear in its one data input, plus a constant: convolutions, dense layers, average pools, sums, scale and shift."""
    ROUTE = "route"
    """Moves, repeats or selects elements."""
    POINTWISE = "pointwise"
    """One function applied to each element."""
    SUM = "sum"
    """Adds up several data tensors."""
    PRODUCT = "product"
    """Multiplies or divides data tensors."""
    NORMALIZATION = "normalization"
    """Divides by statistics of its own input."""
    SOFTMAX = "softmax"
    STOP = "stop"
    """Carries no relevance: shapes, indices, comparisons."""


class Operator:
    """How one kind of node takes part in the relevance pass. Stateless; one instance serves all nodes of its kind."""

    role: ClassVar[Role]
    kind: ClassVar[str] = ""
    """A finer name for composites to select by: convolution, dense, pool, scale, activation ..."""
    several_outputs: ClassVar[bool] = False
    """Whether relevance can arrive at other outputs than the first."""

    def data_inputs(self, node: Node, graph: Graph) -> list[int]:
        """The positions of the inputs that relevance can flow to."""
        return [i for i, tensor in enumerate(node.inputs) if tensor and tensor not in graph.constants and graph.type_of(tensor).is_float]

    def lower(self, e: Emitter, node: Node) -> None:
        """Emits the forward computation of a node of our own domain in plain ONNX operators."""
        raise NotImplementedError(node.op)

    def gradient(self, e: Emitter, node: Node, upstream: list[str | None]) -> dict[int, str]:
        """Emits the vector-Jacobian product.

        Args:
            e: where to emit.
            node: the node.
            upstream: one tensor per output, shaped like it; None where nothing arrives.

        Returns:
            Input position -> tensor shaped like that input.
        """
        raise NotImplementedError(node.op)

    def nonnegative(self, node: Node, graph: Graph, known: set[str]) -> bool:  # noqa: ARG002
        """Whether the outputs cannot be negative, given the tensors known not to be."""
        return False


class StopOperator(Operator):
    """Carries no relevance."""

    role = Role.STOP

    def data_inputs(self, node: Node, graph: Graph) -> list[int]:  # noqa: ARG002
        return []


def first_of(upstream: list[str | None]) -> str:
    """The relevance at the only output that carries any."""
    if upstream[0] is None:
        raise AssertionError("the walker visits only nodes whose first output has relevance")
    return upstream[0]
