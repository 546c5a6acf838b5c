"""Operators that divide by statistics of their own input."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from onnx_lrp.errors import UnsupportedOperatorError
from onnx_lrp.operators.base import Operator, Role, first_of

if TYPE_CHECKING:
    from onnx_lrp.emitter import Emitter
    from onnx_lrp.graph import Graph, Node


class NormalizationOperator(Operator):
    """y = (x - mean) * gain / deviation + shift, with mean and deviation taken over some axes of x."""

    role = Role.NORMALIZATION
    kind = "normalization"

    def data_inputs(self, node: Node, graph: Graph) -> list[int]:
        return [0] if node.input(0) not in graph.constants and graph.type_of(node.input(0)).is_float else []

    centred = True

    def axes(self, node: Node, graph: Graph) -> list[int]:
        """The axes of the statistics."""
        raise NotImplementedError(node.op)

    def gain(self, e: Emitter, node: Node) -> str | None:
        """The learned factor, in a shape that broadcasts against x."""
        raise NotImplementedError(node.op)

    def inverse_deviation(self, e: Emitter, node: Node) -> str:
        """1 / sqrt(variance + epsilon), the axes kept with length one."""
        x, axes = node.input(0), e.ints(*self.axes(node, e.graph))
        middle = e.sub(x, e.op("ReduceMean", x, axes, keepdims=1)) if self.centred else x
        variance = e.op("ReduceMean", e.mul(middle, middle), axes, keepdims=1)
        epsilon = e.constant(node.attributes.get("epsilon", 1e-5))
        return e.op("Reciprocal", e.op("Sqrt", e.add(variance, epsilon)))

    def slope(self, e: Emitter, node: Node) -> str:
        """dy/dx with the statistics held constant: gain / deviation."""
        gain, inverse = self.gain(e, node), self.inverse_deviation(e, node)
        return e.mul(gain, inverse) if gain else inverse

    def gradient(self, e: Emitter, node: Node, upstream: list[str | None]) -> dict[int, str]:
        """With n = (x - mean) / deviation and g = gain * s: (g - mean(g) - n mean(g n)) / deviation."""
        x, axes, gain = node.input(0), e.ints(*self.axes(node, e.graph)), self.gain(e, node)
        inverse = self.inverse_deviation(e, node)
        g = e.mul(first_of(upstream), gain) if gain else first_of(upstream)
        middle = e.sub(x, e.op("ReduceMean", x, axes, keepdims=1)) if self.centred else x
        n = e.mul(middle, inverse)
        rest = e.mul(n, e.op("ReduceMean", e.mul(g, n), axes, keepdims=1))
        if self.centred:
            g = e.sub(g, e.op("ReduceMean", g, axes, keepdims=1))
        return {0: e.mul(e.sub(g, rest), inverse)}


class InstanceNormalizationOperator(NormalizationOperator):
    """Statistics over the spatial axes of each channel; gain and shift per channel."""

    def axes(self, node: Node, graph: Graph) -> list[int]:
        rank = graph.rank(node.input(0))
        if rank is None:
            raise UnsupportedOperatorError([(node.name, "InstanceNormalization of unknown rank", node.domain, graph.opset)])
        return list(range(2, rank))

    def gain(self, e: Emitter, node: Node) -> str:
        return e.op("Reshape", node.input(1), e.ints(-1, *[1] * len(self.axes(node, e.graph))))


class LayerNormalizationOperator(NormalizationOperator):
    """Statistics over the last axes, from attribute axis on."""

    def axes(self, node: Node, graph: Graph) -> list[int]:
        rank = graph.rank(node.input(0))
        if rank is None:
            raise UnsupportedOperatorError([(node.name, f"{node.op} of unknown rank", node.domain, graph.opset)])
        return list(range(int(node.attributes.get("axis", -1)) % rank, rank))

    def gain(self, e: Emitter, node: Node) -> str | None:  # noqa: ARG002
        return node.input(1) or None


class RMSNormalizationOperator(LayerNormalizationOperator):
    """x * gain / sqrt(mean(x^2) + epsilon); of our own domain, since it is younger than our opset."""

    centred = False

    def lower(self, e: Emitter, node: Node) -> None:
        e.op("Mul", node.input(0), self.slope(e, node), output=node.outputs[0])


class LRNOperator(Operator):
    """y = x * d^-beta with d = bias + alpha / size * (sum of x^2 over a window of channels).

    Of our own domain where the size is even: onnxruntime has only odd ones.
    """

    role = Role.NORMALIZATION
    kind = "lrn"

    def parts(self, e: Emitter, node: Node) -> tuple[float, float, str]:
        """alpha / size, beta, and d."""
        alpha, beta = node.attributes.get("alpha", 1e-4), node.attributes.get("beta", 0.75)
        size = int(node.attributes["size"])
        x = node.input(0)
        d = e.add(e.scale(self.window_sum(e, node, e.mul(x, x)), alpha / size), e.constant(node.attributes.get("bias", 1.0)))
        return alpha / size, beta, d

    @staticmethod
    def window_sum(e: Emitter, node: Node, tensor: str, *, adjoint: bool = False) -> str:
        """The sum over each window of channels, as an average pool over a (channels, pixels) picture; with `adjoint`, its transpose."""
        size = int(node.attributes["size"])
        before, after = (size - 1) // 2, size - 1 - (size - 1) // 2
        if adjoint:
            before, after = after, before
        flat = e.op("Unsqueeze", e.op("Reshape", tensor, e.constant([0, 0, -1], np.int64)), e.ints(1))
        mean = e.op("AveragePool", flat, kernel_shape=[size, 1], pads=[before, 0, after, 0], strides=[1, 1], count_include_pad=1)
        return e.reshape_like(e.scale(mean, float(size)), node.input(0))

    def slope(self, e: Emitter, node: Node) -> str:
        """dy/dx with d held constant."""
        _, beta, d = self.parts(e, node)
        return e.op("Pow", d, e.constant(-beta))

    def gradient(self, e: Emitter, node: Node, upstream: list[str | None]) -> dict[int, str]:
        """s d^-beta - 2 alpha/size beta x * (window sum of s x d^(-beta-1))."""
        x, s = node.input(0), first_of(upstream)
        rate, beta, d = self.parts(e, node)
        inner = e.mul(e.mul(s, x), e.op("Pow", d, e.constant(-beta - 1)))
        cross = e.scale(e.mul(x, self.window_sum(e, node, inner, adjoint=True)), 2 * rate * beta)
        return {0: e.sub(e.mul(s, e.op("Pow", d, e.constant(-beta))), cross)}

    def lower(self, e: Emitter, node: Node) -> None:
        e.op("Mul", node.input(0), self.slope(e, node), output=node.outputs[0])

    def nonnegative(self, node: Node, graph: Graph, known: set[str]) -> bool:  # noqa: ARG002
        return node.input(0) in known


class SoftmaxOperator(Operator):
    """Softmax along one axis."""

    role = Role.SOFTMAX
    kind = "softmax"

    def gradient(self, e: Emitter, node: Node, upstream: list[str | None]) -> dict[int, str]:
        """y * (s - sum of s y)."""
        s, y = first_of(upstream), node.outputs[0]
        axis = int(node.attributes.get("axis", -1))
        return {0: e.mul(y, e.sub(s, e.reduce_sum(e.mul(s, y), [axis])))}

    def nonnegative(self, node: Node, graph: Graph, known: set[str]) -> bool:  # noqa: ARG002
        return True


class LogSoftmaxOperator(Operator):
    """LogSoftmax along one axis."""

    role = Role.SOFTMAX
    kind = "softmax"

    def gradient(self, e: Emitter, node: Node, upstream: list[str | None]) -> dict[int, str]:
        """s - softmax * (sum of s)."""
        s, axis = first_of(upstream), int(node.attributes.get("axis", -1))
        return {0: e.sub(s, e.mul(e.op("Exp", node.outputs[0]), e.reduce_sum(s, [axis])))}
