"""Scale: y = x * w + b with constants, elementwise with broadcasting.

Our name for Mul, Div, Add and Sub with a constant, Neg, and a BatchNormalization that could not be merged.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from onnx_lrp.operators.affine import AffineOperator

if TYPE_CHECKING:
    from onnx_lrp.emitter import Emitter
    from onnx_lrp.graph import Graph, Node


class ScaleOperator(AffineOperator):
    """Inputs x, w (may be left out), b (may be left out)."""

    kind = "scale"

    def weight(self, node: Node, graph: Graph) -> str | None:  # noqa: ARG002
        return node.input(1) or None

    def bias(self, node: Node, graph: Graph) -> str | None:  # noqa: ARG002
        return node.input(2) or None

    def lower(self, e: Emitter, node: Node) -> None:
        weight, bias, y = node.input(1), node.input(2), node.outputs[0]
        if weight and bias:
            e.op("Add", e.mul(node.input(0), weight), bias, output=y)
        elif weight:
            e.op("Mul", node.input(0), weight, output=y)
        else:
            e.op("Add", node.input(0), bias, output=y)

    def apply(self, e: Emitter, node: Node, x: str, weight: str | None, bias: str | None = None) -> str:
        y = e.mul(x, weight) if weight else self._broadcast(e, node, x)
        return e.add(y, bias) if bias else y

    @staticmethod
    def _keeps_shape(e: Emitter, node: Node) -> bool:
        """Whether the constants are known not to repeat x: each of their axes is of length one, or as long as x's."""
        shape = e.graph.shape(node.input(0))
        constants = [e.graph.constants[name].shape for name in node.inputs[1:] if name]
        return shape is not None and all(
            len(lengths) <= len(shape) and all(own in (1, length) for own, length in zip(lengths[::-1], shape[::-1], strict=False))
            for lengths in constants
        )

    def _broadcast(self, e: Emitter, node: Node, x: str) -> str:
        """Without weights, x alone may still have to be repeated to the output's shape."""
        return x if self._keeps_shape(e, node) else e.op("Expand", x, e.shape_of(node.outputs[0]))

    def adjoint(self, e: Emitter, node: Node, s: str, weight: str | None) -> str:
        product = e.mul(s, weight) if weight else s
        return product if self._keeps_shape(e, node) else e.unbroadcast(product, node.input(0), node.outputs[0])

    def apply_ones(self, e: Emitter, node: Node, x: str) -> str:
        return self._broadcast(e, node, x)

    def adjoint_ones(self, e: Emitter, node: Node, s: str) -> str:
        return self.adjoint(e, node, s, None)

    def fan_in(self, e: Emitter, node: Node) -> str:  # noqa: ARG002
        return e.constant(1.0)
