"""Elementwise functions of one tensor, each with its derivative."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np

from onnx_lrp.operators.base import Operator, Role, first_of

if TYPE_CHECKING:
    from onnx_lrp.emitter import Emitter
    from onnx_lrp.graph import Array, Graph, Node

Derivative = Callable[["Emitter", "Node", str, str], str]
"""(emitter, node, x, y) -> dy/dx, a tensor that broadcasts against x."""


class PointwiseOperator(Operator):
    """y = f(x) for each element."""

    role = Role.POINTWISE
    kind = "activation"

    def __init__(self, derivative: Derivative, *, keeps_zero: bool = True, nonnegative: bool | None = False):
        """Takes the derivative, whether f(0) = 0, and whether f >= 0 (None: where x >= 0)."""
        self.derivative = derivative
        self.keeps_zero = keeps_zero
        self._nonnegative = nonnegative

    def data_inputs(self, node: Node, graph: Graph) -> list[int]:
        return [0] if node.input(0) not in graph.constants and graph.type_of(node.input(0)).is_float else []

    def gradient(self, e: Emitter, node: Node, upstream: list[str | None]) -> dict[int, str]:
        return {0: e.mul(first_of(upstream), self.derivative(e, node, node.input(0), node.outputs[0]))}

    def nonnegative(self, node: Node, graph: Graph, known: set[str]) -> bool:  # noqa: ARG002
        return node.input(0) in known if self._nonnegative is None else self._nonnegative

    def rectifies(self, node: Node, graph: Graph) -> bool:  # noqa: ARG002
        """Whether f(x) = 0 for every x <= 0."""
        return False


class ReluOperator(PointwiseOperator):
    """max(x, 0), which guided backpropagation and the deconvolution method treat in their own ways."""

    kind = "relu"

    def rectifies(self, node: Node, graph: Graph) -> bool:  # noqa: ARG002
        return True


class ClipOperator(PointwiseOperator):
    """min(max(x, low), high); not negative when low is not. ReLU6 is one."""

    def rectifies(self, node: Node, graph: Graph) -> bool:
        high = graph.scalar(node.input(2)) if node.input(2) else float("inf")
        return bool(node.input(1)) and graph.scalar(node.input(1)) == 0 and high is not None and high > 0

    def nonnegative(self, node: Node, graph: Graph, known: set[str]) -> bool:
        low = graph.scalar(node.input(1)) if node.input(1) else None
        return node.input(0) in known or (low is not None and low >= 0)


class PowOperator(PointwiseOperator):
    """x^p with a constant p."""

    def data_inputs(self, node: Node, graph: Graph) -> list[int]:
        from onnx_lrp.errors import UnsupportedOperatorError

        exponent = graph.constant(node.input(1))
        if exponent is None:
            raise UnsupportedOperatorError([(node.name, "Pow with a computed exponent", node.domain, graph.opset)])
        if self._repeats(exponent, node, graph):
            raise UnsupportedOperatorError([(node.name, "Pow with exponents that repeat its base", node.domain, graph.opset)])
        return super().data_inputs(node, graph)

    @staticmethod
    def _repeats(exponent: Array, node: Node, graph: Graph) -> bool:
        """Whether x^p may be larger than x."""
        shape = graph.shape(node.input(0))
        if shape is None or exponent.ndim > len(shape):
            return exponent.size > 1 or (shape is not None and exponent.ndim > len(shape))
        return any(own not in (1, length) for own, length in zip(exponent.shape, shape[len(shape) - exponent.ndim :], strict=True))


def _where(e: Emitter, condition: str, yes: str, no: str) -> str:
    return e.op("Where", condition, yes, no)


def _one_minus(e: Emitter, tensor: str) -> str:
    return e.sub(e.constant(1.0), tensor)


def _rest(e: Emitter, share: str) -> str:
    """1 - s for s between 0 and 1, as a HardSigmoid: that works in onnxruntime's blocked layout, Sub by a number does not."""
    return e.op("HardSigmoid", share, alpha=-1.0, beta=1.0)


def _relu(e: Emitter, node: Node, x: str, y: str) -> str:  # noqa: ARG001
    return e.step(y)


def _leaky_relu(e: Emitter, node: Node, x: str, y: str) -> str:  # noqa: ARG001
    return _where(e, e.op("Less", x, e.constant(0.0)), e.constant(node.attributes.get("alpha", 0.01)), e.constant(1.0))


def _prelu(e: Emitter, node: Node, x: str, y: str) -> str:  # noqa: ARG001
    return _where(e, e.op("Less", x, e.constant(0.0)), node.input(1), e.constant(1.0))


def _elu(e: Emitter, node: Node, x: str, y: str) -> str:
    return _where(e, e.op("Less", x, e.constant(0.0)), e.add(y, e.constant(node.attributes.get("alpha", 1.0))), e.constant(1.0))


def _celu(e: Emitter, node: Node, x: str, y: str) -> str:  # noqa: ARG001
    alpha = node.attributes.get("alpha", 1.0)
    return e.op("Exp", e.op("Min", e.scale(x, 1.0 / alpha), e.constant(0.0)))


def _selu(e: Emitter, node: Node, x: str, y: str) -> str:
    alpha, gamma = node.attributes.get("alpha", 1.6732632), node.attributes.get("gamma", 1.050701)
    return _where(e, e.op("Less", x, e.constant(0.0)), e.add(y, e.constant(alpha * gamma)), e.constant(gamma))


def _sigmoid(e: Emitter, node: Node, x: str, y: str) -> str:  # noqa: ARG001
    return e.mul(y, _rest(e, y))


def _tanh(e: Emitter, node: Node, x: str, y: str) -> str:  # noqa: ARG001
    return _one_minus(e, e.mul(y, y))


def _hard_sigmoid(e: Emitter, node: Node, x: str, y: str) -> str:  # noqa: ARG001
    inside = e.op("And", e.op("Greater", y, e.constant(0.0)), e.op("Less", y, e.constant(1.0)))
    return e.scale(e.op("Cast", inside, to=1), node.attributes.get("alpha", 0.2))


def _softplus(e: Emitter, node: Node, x: str, y: str) -> str:  # noqa: ARG001
    return e.op("Sigmoid", x)


def _softsign(e: Emitter, node: Node, x: str, y: str) -> str:  # noqa: ARG001
    root = e.add(e.op("Abs", x), e.constant(1.0))
    return e.op("Reciprocal", e.mul(root, root))


def _erf(e: Emitter, node: Node, x: str, y: str) -> str:  # noqa: ARG001
    return e.scale(e.op("Exp", e.op("Neg", e.mul(x, x))), 2 / math.sqrt(math.pi))


def _gelu(e: Emitter, node: Node, x: str, y: str) -> str:  # noqa: ARG001
    if node.attributes.get("approximate", "none") == "tanh":
        c, k = math.sqrt(2 / math.pi), 0.044715
        square = e.mul(x, x)
        t = e.op("Tanh", e.scale(e.mul(x, e.add(e.constant(1.0), e.scale(square, k))), c))
        slope = e.scale(e.add(e.constant(1.0), e.scale(square, 3 * k)), c / 2)
        return e.add(e.add(e.scale(t, 0.5), e.constant(0.5)), e.mul(e.mul(x, _one_minus(e, e.mul(t, t))), slope))
    cdf = e.add(e.scale(e.op("Erf", e.scale(x, math.sqrt(0.5))), 0.5), e.constant(0.5))
    pdf = e.scale(e.op("Exp", e.scale(e.mul(x, x), -0.5)), 1 / math.sqrt(2 * math.pi))
    return e.add(cdf, e.mul(x, pdf))


def _swish(e: Emitter, node: Node, x: str, y: str) -> str:
    alpha = node.attributes.get("alpha", 1.0)
    gate = e.op("Sigmoid", e.scale(x, alpha))
    return e.add(e.scale(e.mul(y, _rest(e, gate)), alpha), gate)


def _hard_swish(e: Emitter, node: Node, x: str, y: str) -> str:  # noqa: ARG001
    inner = e.add(e.scale(x, 1 / 3), e.constant(0.5))
    return _where(
        e,
        e.op("LessOrEqual", x, e.constant(-3.0)),
        e.constant(0.0),
        _where(e, e.op("GreaterOrEqual", x, e.constant(3.0)), e.constant(1.0), inner),
    )


def _mish(e: Emitter, node: Node, x: str, y: str) -> str:  # noqa: ARG001
    t = e.op("Tanh", e.op("Softplus", x))
    return e.add(t, e.mul(x, e.mul(_one_minus(e, e.mul(t, t)), e.op("Sigmoid", x))))


def _clip(e: Emitter, node: Node, x: str, y: str) -> str:  # noqa: ARG001
    """[low < y < high]: 0 at the bounds, as ReLU6 has it everywhere. From the output, so that nothing keeps the convolution's own."""
    low, high = node.input(1), node.input(2)
    slope = _slope_to(e.graph.scalar(high)) if e.graph.scalar(low) == 0 else None
    if slope:  # y (1 - y / high), without operators that onnxruntime does not have in its blocked layout
        return e.step(e.mul(y, e.op("HardSigmoid", y, alpha=-slope, beta=1.0)))
    inside = [e.step(e.sub(y, low))] if low else []
    inside += [e.step(e.sub(high, y))] if high else []
    return e.mul(*inside) if len(inside) == 2 else inside[0] if inside else e.constant(1.0)


def _slope_to(high: float | None) -> float | None:
    """A slope s with which 1 - s y is exactly 0 at y = high and above 0 for every smaller float32, rounded or not; None without one."""
    if high is None or not 1e-30 < high < 1e30:
        return None
    below = float(np.nextafter(np.float32(high), np.float32(0)))
    near = np.float32(1 / high)
    for slope in (float(near), float(np.nextafter(near, np.float32(np.inf)))):
        at, before = slope * high, slope * below  # exact in float64
        if at >= 1 and np.float32(at) >= 1 and before < 1 and np.float32(before) < 1:
            return slope
    return None


def _thresholded_relu(e: Emitter, node: Node, x: str, y: str) -> str:  # noqa: ARG001
    return e.op("Cast", e.op("Greater", x, e.constant(node.attributes.get("alpha", 1.0))), to=1)


def _shrink(e: Emitter, node: Node, x: str, y: str) -> str:  # noqa: ARG001
    return e.op("Cast", e.op("Greater", e.op("Abs", x), e.constant(node.attributes.get("lambd", 0.5))), to=1)


def _abs(e: Emitter, node: Node, x: str, y: str) -> str:  # noqa: ARG001
    return e.op("Sign", x)


def _exp(e: Emitter, node: Node, x: str, y: str) -> str:  # noqa: ARG001
    return y


def _log(e: Emitter, node: Node, x: str, y: str) -> str:  # noqa: ARG001
    return e.op("Reciprocal", x)


def _sqrt(e: Emitter, node: Node, x: str, y: str) -> str:  # noqa: ARG001
    return e.div(e.constant(0.5), y)


def _reciprocal(e: Emitter, node: Node, x: str, y: str) -> str:  # noqa: ARG001
    return e.op("Neg", e.mul(y, y))


def _pow(e: Emitter, node: Node, x: str, y: str) -> str:  # noqa: ARG001
    power = e.graph.constants[node.input(1)].astype(np.float32)
    return e.mul(e.constant(power), e.op("Pow", x, e.constant(power - 1)))


def _unary(op: str, sign: float = 1.0) -> Derivative:
    """The derivative is an operator of ONNX applied to x, times a sign."""

    def derivative(e: Emitter, node: Node, x: str, y: str) -> str:  # noqa: ARG001
        return e.scale(e.op(op, x), sign)

    return derivative


def _inverse_of_quadratic(sign: float, offset: float, *, root: bool) -> Derivative:
    """1 / (offset + sign x^2), or its square root: the inverse trigonometric and hyperbolic functions."""

    def derivative(e: Emitter, node: Node, x: str, y: str) -> str:  # noqa: ARG001
        inner = e.add(e.scale(e.mul(x, x), sign), e.constant(offset))
        return e.op("Reciprocal", e.op("Sqrt", inner) if root else inner)

    return derivative


def _tan(e: Emitter, node: Node, x: str, y: str) -> str:  # noqa: ARG001
    return e.add(e.constant(1.0), e.mul(y, y))


def _negated(derivative: Derivative) -> Derivative:
    def negative(e: Emitter, node: Node, x: str, y: str) -> str:
        return e.op("Neg", derivative(e, node, x, y))

    return negative


def _flat(e: Emitter, node: Node, x: str, y: str) -> str:  # noqa: ARG001
    return e.constant(0.0)


class LoweredActivation(PointwiseOperator):
    """An activation of our own domain: what exporters wrote as several nodes, put back together."""

    def __init__(self, forward: Callable[[Emitter, Node, str], tuple[str, str]], derivative: Derivative):
        """`forward` returns the two factors of the last product."""
        super().__init__(derivative)
        self.forward = forward

    def lower(self, e: Emitter, node: Node) -> None:
        e.op("Mul", *self.forward(e, node, node.input(0)), output=node.outputs[0])


def _gelu_forward(e: Emitter, node: Node, x: str) -> tuple[str, str]:
    if node.attributes.get("approximate", "none") == "tanh":
        inner = e.scale(e.mul(x, e.add(e.constant(1.0), e.scale(e.mul(x, x), 0.044715))), math.sqrt(2 / math.pi))
        return e.scale(x, 0.5), e.add(e.op("Tanh", inner), e.constant(1.0))
    return e.scale(x, 0.5), e.add(e.op("Erf", e.scale(x, math.sqrt(0.5))), e.constant(1.0))


def _swish_forward(e: Emitter, node: Node, x: str) -> tuple[str, str]:
    return x, e.op("Sigmoid", e.scale(x, node.attributes.get("alpha", 1.0)))


P = PointwiseOperator
ACTIVATIONS: dict[str, PointwiseOperator] = {
    "Relu": ReluOperator(_relu, nonnegative=True),
    "LeakyRelu": P(_leaky_relu, nonnegative=None),
    "PRelu": P(_prelu, nonnegative=None),
    "Elu": P(_elu, nonnegative=None),
    "Celu": P(_celu, nonnegative=None),
    "Selu": P(_selu, nonnegative=None),
    "Sigmoid": P(_sigmoid, keeps_zero=False, nonnegative=True),
    "HardSigmoid": P(_hard_sigmoid, keeps_zero=False, nonnegative=True),
    "Tanh": P(_tanh, nonnegative=None),
    "Softplus": P(_softplus, keeps_zero=False, nonnegative=True),
    "Softsign": P(_softsign, nonnegative=None),
    "Erf": P(_erf, nonnegative=None),
    "HardSwish": P(_hard_swish, nonnegative=None),
    "Mish": P(_mish, nonnegative=None),
    "Clip": ClipOperator(_clip, keeps_zero=False),
    "ThresholdedRelu": P(_thresholded_relu, nonnegative=None),
    "Shrink": P(_shrink, keeps_zero=False),
    "Abs": P(_abs, nonnegative=True),
    "Exp": P(_exp, keeps_zero=False, nonnegative=True),
    "Log": P(_log, keeps_zero=False),
    "Sqrt": P(_sqrt, nonnegative=True),
    "Reciprocal": P(_reciprocal, keeps_zero=False, nonnegative=None),
    "Pow": PowOperator(_pow, keeps_zero=False, nonnegative=None),
    "Sin": P(_unary("Cos")),
    "Cos": P(_unary("Sin", -1.0), keeps_zero=False),
    "Tan": P(_tan),
    "Sinh": P(_unary("Cosh"), nonnegative=None),
    "Cosh": P(_unary("Sinh"), keeps_zero=False, nonnegative=True),
    "Asin": P(_inverse_of_quadratic(-1.0, 1.0, root=True), nonnegative=None),
    "Acos": P(_negated(_inverse_of_quadratic(-1.0, 1.0, root=True)), keeps_zero=False, nonnegative=True),
    "Atan": P(_inverse_of_quadratic(1.0, 1.0, root=False), nonnegative=None),
    "Asinh": P(_inverse_of_quadratic(1.0, 1.0, root=True), nonnegative=None),
    "Acosh": P(_inverse_of_quadratic(1.0, -1.0, root=True), keeps_zero=False, nonnegative=True),
    "Atanh": P(_inverse_of_quadratic(-1.0, 1.0, root=False), nonnegative=None),
    "Floor": P(_flat, keeps_zero=False),
    "Ceil": P(_flat, keeps_zero=False),
    "Round": P(_flat, keeps_zero=False),
    "Sign": P(_flat, keeps_zero=False),
    "Gelu": LoweredActivation(_gelu_forward, _gelu),
    "Swish": LoweredActivation(_swish_forward, _swish),
}
"""Operator -> how it takes part. Gelu and Swish are of our own domain."""
