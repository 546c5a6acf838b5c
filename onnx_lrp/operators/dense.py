"""Dense layers: Gemm on matrices, Linear (our name for MatMul by a constant, plus bias) on tensors of any rank."""

from __future__ import annotations

from typing import TYPE_CHECKING

from onnx_lrp.errors import UnsupportedOperatorError
from onnx_lrp.operators.affine import AffineOperator

if TYPE_CHECKING:
    from onnx_lrp.emitter import Emitter
    from onnx_lrp.graph import Graph, Node


class _Dense(AffineOperator):
    kind = "dense"

    def weight(self, node: Node, graph: Graph) -> str:  # noqa: ARG002
        return node.input(1)

    def bias(self, node: Node, graph: Graph) -> str | None:  # noqa: ARG002
        return node.input(2) or None


class GemmOperator(_Dense):
    """y = x W + b, or x W^T + b with transB = 1; x is a matrix. Canonical graphs have alpha = beta = 1 and transA = 0."""

    def apply(self, e: Emitter, node: Node, x: str, weight: str | None, bias: str | None = None) -> str:
        return e.product("Gemm", x, weight or "", *([bias] if bias else []), **node.attributes)

    def adjoint(self, e: Emitter, node: Node, s: str, weight: str | None) -> str:
        return e.product("Gemm", s, weight or node.input(1), transB=1 - int(node.attributes.get("transB", 0)))

    def apply_ones(self, e: Emitter, node: Node, x: str) -> str:  # noqa: ARG002
        return e.reduce_sum(x, [1])

    def adjoint_ones(self, e: Emitter, node: Node, s: str) -> str:
        return e.expand_like(e.reduce_sum(s, [1]), node.input(0))


class LinearOperator(_Dense):
    """y = x W + b (attribute left = 0) or W x + b (left = 1), by MatMul's rules for tensors of more than two axes."""

    def lower(self, e: Emitter, node: Node) -> None:
        bias = node.input(2)
        operands = (node.input(1), node.input(0)) if node.attributes["left"] else (node.input(0), node.input(1))
        if bias:
            e.op("Add", e.product("MatMul", *operands), bias, output=node.outputs[0])
        else:
            e.product("MatMul", *operands, output=node.outputs[0])

    def apply(self, e: Emitter, node: Node, x: str, weight: str | None, bias: str | None = None) -> str:
        y = e.product("MatMul", *((weight or "", x) if node.attributes["left"] else (x, weight or "")))
        return e.add(y, bias) if bias else y

    def adjoint(self, e: Emitter, node: Node, s: str, weight: str | None) -> str:
        weight = weight or node.input(1)
        rank = e.graph.constants[node.input(1)].ndim
        left = node.attributes["left"]
        if rank > 2 and e.graph.rank(node.input(0)) is None:
            raise UnsupportedOperatorError([(node.name, "MatMul by a batch of weights on a tensor of unknown rank", "", e.graph.opset)])
        vector = e.graph.rank(node.input(0)) == 1  # MatMul takes it as a row on its left, as a column on its right, and drops that axis
        if rank == 1 and vector:
            return e.mul(s, weight)
        if rank == 1:  # a vector of weights: its axis was summed away, and comes back
            row = e.op("Unsqueeze", s, e.ints(-2 if left else -1))
            return e.mul(row, e.op("Reshape", weight, e.ints(-1, 1)) if left else weight)
        dropped = e.ints(-1 if left else -2)
        s = e.op("Unsqueeze", s, dropped) if vector else s
        turned = e.op("Transpose", weight, perm=[*range(rank - 2), rank - 1, rank - 2])
        back = e.product("MatMul", *((turned, s) if left else (s, turned)))
        return self._unbroadcast(e, e.op("Squeeze", back, dropped) if vector else back, node)

    @staticmethod
    def _unbroadcast(e: Emitter, tensor: str, node: Node) -> str:
        """A batch of weight matrices may have repeated x along its batch axes."""
        weight, shape = e.graph.constants[node.input(1)], e.graph.shape(node.input(0))
        if weight.ndim == 2 and shape is not None and len(shape) >= 2:
            return tensor
        return e.unbroadcast_at_run_time(tensor, node.input(0))

    def _ones(self, e: Emitter, node: Node) -> str:
        return e.op("Expand", e.constant(1.0), e.ints(*e.graph.constants[node.input(1)].shape))

    def apply_ones(self, e: Emitter, node: Node, x: str) -> str:
        if node.attributes["left"] or e.graph.constants[node.input(1)].ndim != 2:
            return self.apply(e, node, x, self._ones(e, node))
        return e.reduce_sum(x, [-1])

    def adjoint_ones(self, e: Emitter, node: Node, s: str) -> str:
        if node.attributes["left"] or e.graph.constants[node.input(1)].ndim != 2:
            return self.adjoint(e, node, s, self._ones(e, node))
        return e.expand_like(e.reduce_sum(s, [-1]), node.input(0))
