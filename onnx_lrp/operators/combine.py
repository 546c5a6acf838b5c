"""Sums and products of several data tensors."""

from __future__ import annotations

from typing import TYPE_CHECKING

from onnx_lrp.operators.base import Operator, Role, first_of
from onnx_lrp.precision import scaled

if TYPE_CHECKING:
    from onnx_lrp.emitter import Emitter
    from onnx_lrp.graph import Graph, Node


def _sign_known(tensor: str, graph: Graph, known: set[str]) -> bool:
    return tensor in known or (tensor in graph.constants and bool((graph.constants[tensor] >= 0).all()))


class SumOperator(Operator):
    """Add, Sub, Sum and Mean of tensors, with broadcasting."""

    role = Role.SUM
    kind = "sum"

    def gradient(self, e: Emitter, node: Node, upstream: list[str | None]) -> dict[int, str]:
        s, y = first_of(upstream), node.outputs[0]
        if node.op == "Mean":
            s = e.scale(s, 1.0 / len(node.inputs))
        result = {index: e.unbroadcast(s, tensor, y) for index, tensor in enumerate(node.inputs)}
        if node.op == "Sub":
            result[1] = e.op("Neg", result[1])
        return result

    def nonnegative(self, node: Node, graph: Graph, known: set[str]) -> bool:
        return node.op != "Sub" and all(_sign_known(tensor, graph, known) for tensor in node.inputs)


class ProductOperator(Operator):
    """Mul and Div of two tensors, with broadcasting."""

    role = Role.PRODUCT
    kind = "product"

    def gradient(self, e: Emitter, node: Node, upstream: list[str | None]) -> dict[int, str]:
        s, y = first_of(upstream), node.outputs[0]
        a, b = node.inputs
        if node.op == "Mul":
            return {0: e.unbroadcast(e.mul(s, b), a, y), 1: e.unbroadcast(e.mul(s, a), b, y)}
        over = e.div(s, b)
        return {0: e.unbroadcast(over, a, y), 1: e.unbroadcast(e.op("Neg", e.mul(over, y)), b, y)}

    def nonnegative(self, node: Node, graph: Graph, known: set[str]) -> bool:
        squared = node.op == "Mul" and node.inputs[0] == node.inputs[1]
        return squared or all(_sign_known(tensor, graph, known) for tensor in node.inputs)


class MatMulOperator(Operator):
    """The matrix product of two data tensors."""

    role = Role.PRODUCT
    kind = "matmul"

    def gradient(self, e: Emitter, node: Node, upstream: list[str | None]) -> dict[int, str]:
        s = first_of(upstream)
        a, b = node.inputs
        ranks = [e.graph.rank(tensor) for tensor in (a, b)]
        if None in ranks or min(rank for rank in ranks if rank is not None) < 2:
            from onnx_lrp.errors import UnsupportedOperatorError

            raise UnsupportedOperatorError([(node.name, "MatMul of vectors or of unknown rank", node.domain, e.graph.opset)])

        def turned(tensor: str, rank: int) -> str:
            return e.op("Transpose", tensor, perm=[*range(rank - 2), rank - 1, rank - 2])

        to_a = scaled(e, node, s, lambda s: e.product("MatMul", s, turned(b, ranks[1] or 2)))
        to_b = scaled(e, node, s, lambda s: e.product("MatMul", turned(a, ranks[0] or 2), s))
        return {0: self._sum_batches(e, to_a, a, b), 1: self._sum_batches(e, to_b, b, a)}

    @staticmethod
    def _sum_batches(e: Emitter, tensor: str, like: str, other: str) -> str:
        """Batch axes along which a factor was repeated are summed."""
        mine, others = e.graph.shape(like), e.graph.shape(other)
        if mine is not None and others is not None and mine[:-2] == others[:-2] and None not in mine[:-2]:
            return tensor
        return e.unbroadcast_at_run_time(tensor, like)

    def nonnegative(self, node: Node, graph: Graph, known: set[str]) -> bool:
        return all(_sign_known(tensor, graph, known) for tensor in node.inputs)
