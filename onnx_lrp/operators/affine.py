"""The interface of affine operators: y = J(W) x + b for the one data input x."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from onnx_lrp.operators.base import Operator, Role, first_of
from onnx_lrp.precision import scaled

if TYPE_CHECKING:
    from onnx_lrp.emitter import Emitter
    from onnx_lrp.graph import Graph, Node


class AffineOperator(Operator):
    """An operator that rules can run with other inputs and other weights.

    `apply` and `adjoint` take the weights as a tensor name, so that a rule can pass their positive part, their square and so on.
    Operators without weight tensor (pools, means) have fixed non-negative weights and get None.
    """

    role = Role.AFFINE
    uniform: ClassVar[bool] = True
    """Of fixed weights: whether all that feed one output are equal. Otherwise there are apply_square and adjoint_square."""

    def mixed_signs(self, node: Node) -> bool:  # noqa: ARG002
        """Whether fixed weights are of both signs: then rules that treat the signs apart cannot work on the node."""
        return False

    def data_index(self, node: Node, graph: Graph) -> int:  # noqa: ARG002
        return 0

    def data_inputs(self, node: Node, graph: Graph) -> list[int]:
        index = self.data_index(node, graph)
        tensor = node.input(index)
        return [index] if tensor not in graph.constants and graph.type_of(tensor).is_float else []

    def weight(self, node: Node, graph: Graph) -> str | None:  # noqa: ARG002
        """The weight tensor W, or None when the weights are fixed and non-negative."""
        return None

    def bias(self, node: Node, graph: Graph) -> str | None:  # noqa: ARG002
        """The bias tensor b as `apply` takes it, or None."""
        return None

    def apply(self, e: Emitter, node: Node, x: str, weight: str | None, bias: str | None = None) -> str:
        """Emits J(W) x + b, shaped like the node's output."""
        raise NotImplementedError(node.op)

    def adjoint(self, e: Emitter, node: Node, s: str, weight: str | None) -> str:
        """Emits J(W)^T s, shaped like the node's data input."""
        raise NotImplementedError(node.op)

    def layer_adjoint(self, e: Emitter, node: Node, s: str, weight: str | None) -> str:
        """Emits J(W)^T s in the emitter's precision, at a scale that it can hold."""
        if weight is None:
            return self.adjoint(e, node, s, weight)
        return scaled(e, node, s, lambda s: self.adjoint(e, node, s, weight))

    def broadcast_bias(self, e: Emitter, node: Node, bias: str) -> str:  # noqa: ARG002
        """Emits the bias in a shape that broadcasts against the output."""
        return bias

    def apply_ones(self, e: Emitter, node: Node, x: str) -> str:
        """Emits J(1) x: the map with all weights one."""
        raise NotImplementedError(node.op)

    def adjoint_ones(self, e: Emitter, node: Node, s: str) -> str:
        """Emits J(1)^T s."""
        raise NotImplementedError(node.op)

    def apply_square(self, e: Emitter, node: Node, x: str) -> str:
        """Emits J(W^2) x for fixed weights that are not uniform."""
        raise NotImplementedError(node.op)

    def adjoint_square(self, e: Emitter, node: Node, s: str) -> str:
        """Emits J(W^2)^T s for fixed weights that are not uniform."""
        raise NotImplementedError(node.op)

    def fan_in(self, e: Emitter, node: Node) -> str:
        """Emits J(1) 1: how many inputs feed each output, in a shape that broadcasts against the output."""
        data = node.input(self.data_index(node, e.graph))
        return self.apply_ones(e, node, ones_like(e, data))

    def gradient(self, e: Emitter, node: Node, upstream: list[str | None]) -> dict[int, str]:
        index, weight = self.data_index(node, e.graph), self.weight(node, e.graph)
        return {index: self.layer_adjoint(e, node, first_of(upstream), weight)}

    def nonnegative(self, node: Node, graph: Graph, known: set[str]) -> bool:
        weight, bias = self.weight(node, graph), self.bias(node, graph)
        return node.input(self.data_index(node, graph)) in known and all(
            name is None or bool((graph.constants[name] >= 0).all()) for name in (weight, bias)
        )


def ones_like(e: Emitter, tensor: str) -> str:
    """Ones shaped like one sample of a tensor of the model: a constant where its shape is known but for the batch."""
    shape = e.graph.shape(tensor)
    if shape is not None and shape and all(isinstance(length, int) for length in shape[1:]):
        return e.op("Expand", e.constant(1.0), e.ints(1, *(int(length) for length in shape[1:] if isinstance(length, int))))
    return e.op("Expand", e.constant(1.0), e.shape_of(tensor))
