"""DeepLIFT: how much of the output's difference from its value at a reference each difference of the input makes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from onnx_lrp.errors import CompositeError, UnsupportedOperatorError
from onnx_lrp.graph import Node
from onnx_lrp.operators import Role
from onnx_lrp.operators.activation import PointwiseOperator
from onnx_lrp.operators.base import first_of
from onnx_lrp.operators.normalization import LRNOperator, NormalizationOperator
from onnx_lrp.operators.pool import GlobalLpPoolOperator, spread
from onnx_lrp.rules.base import Relevance, Rule, Site

if TYPE_CHECKING:
    from onnx_lrp.emitter import Emitter
    from onnx_lrp.graph import Array

SMALL = 1e-4
"""Below this difference the derivative stands for the quotient of differences, which rounding would spoil."""

SAME = ("Shape", "Size", "IsNaN", "IsInf")
"""What comes out of these is taken to be the same at the input and at the reference: both have one shape and the same masks."""

Upstream = list[str | None]


@dataclass(frozen=True)
class Rescale(Rule):
    """m R, with multipliers m for which (sum of m * difference of x) = difference of y (DeepLIFT's rescale rule, Shrikumar et al. 2017).

    A difference is the value at the input minus that at the reference. Linear nodes: the weights. Elementwise functions: the quotient
    (difference of y) / (difference of x). Maximum: the difference goes to the winner, of the input or of the reference, whichever is
    larger. Products: the derivative half way. Softmax, normalisations: built from these, see `SOFTMAX`, `NORMALIZATION`.

    reference: a number, an array shaped like one sample of the explained input, or a dict name -> either for several of them.
    """

    reference: float | Array | Mapping[str, float | Array] = 0.0
    roles: ClassVar[frozenset[Role]] = frozenset(Role) - {Role.STOP}
    conserving: ClassVar[bool] = False

    def propagate(self, site: Site, upstream: list[Relevance | None]) -> dict[int, Relevance]:
        pair = Pair(site, Reference(site.e, site.sources, self.reference))
        arriving = [None if relevance is None else relevance.tensor for relevance in upstream]
        return {index: Relevance(tensor) for index, tensor in _multiplied(pair, arriving).items()}

    def difference(self, e: Emitter, sources: Sequence[str], tensor: str) -> str:
        """Emits a tensor minus what it is at the reference."""
        return e.sub(tensor, Reference(e, sources, self.reference)(tensor))

    def to_dict(self) -> dict[str, Any]:
        """The rule as plain data."""
        if not isinstance(self.reference, Mapping):
            return super().to_dict()
        return {"rule": "Rescale", "reference": {name: np.asarray(value).tolist() for name, value in self.reference.items()}}

    def __str__(self) -> str:
        if not isinstance(self.reference, Mapping):
            return super().__str__()
        return f"Rescale(reference of {', '.join(self.reference)})"


class Reference:
    """The model run on the reference, beside the run on the input: tensor -> its value there."""

    def __init__(self, e: Emitter, sources: Sequence[str] | frozenset[str], reference: float | Array | Mapping[str, float | Array]):
        self.e = e
        given = {e.graph.resolve(name): value for name, value in reference.items()} if isinstance(reference, Mapping) else {}
        for name in given:
            if name not in sources:
                raise CompositeError(f"a reference is given for {name!r}, which is not explained")
        default = 0.0 if isinstance(reference, Mapping) else reference
        self.given = {tensor: tensor for node in e.graph.nodes if node.op in SAME for tensor in node.outputs}
        self.given |= {source: self._source(source, given.get(source, default)) for source in sorted(sources)}

    def _source(self, tensor: str, value: float | Array) -> str:
        shape, lengths = self.e.graph.shape(tensor), np.shape(value)
        sample = (1, *shape[1:]) if shape else ()
        pairs = zip(lengths[::-1], sample[::-1], strict=False)
        if len(lengths) > len(sample) or not all(own in (1, length) or not isinstance(length, int) for own, length in pairs):
            raise CompositeError(f"the reference of shape {lengths} does not fit one sample of {tensor!r}, which has shape {shape}")
        return self.e.op("Expand", self.e.constant(value), self.e.shape_of(tensor))

    def __call__(self, tensor: str) -> str:
        """The tensor at the reference; the tensor itself if it does not depend on the input's values."""
        return tensor if not tensor or tensor in self.e.graph.constants else self.e.replay(tensor, self.given)


class Pair:
    """A node at the input and at the reference."""

    def __init__(self, site: Site, reference: Reference):
        self.e, self.node, self.operator = site.e, site.node, site.operator
        node, self.at = site.node, reference
        self.twin = Node(node.op, node.name, [*map(reference, node.inputs)], [*map(reference, node.outputs)], node.attributes, node.domain)
        """The node at the reference."""
        carrying = self.operator.data_inputs(node, site.e.graph)
        for index, (own, other) in enumerate(zip(node.inputs, self.twin.inputs, strict=True)):
            if own != other and index not in carrying:
                problem = f"{node.op} whose input {own!r} depends on the input's values"
                raise UnsupportedOperatorError([(node.name, problem, node.domain, site.e.graph.opset)])
        self.x, self.y = node.input(0), node.outputs[0]
        self.x0, self.y0 = self.twin.input(0), self.twin.outputs[0]

    def difference(self, tensor: str) -> str:
        """The tensor minus what it is at the reference."""
        return self.e.sub(tensor, self.at(tensor))

    def middle(self, tensor: str) -> str:
        """The mean of a tensor and of what it is at the reference."""
        other = self.at(tensor)
        return tensor if other == tensor else self.e.is_like(self.e.scale(self.e.add(tensor, other), 0.5), tensor)


def _multiplied(pair: Pair, upstream: Upstream) -> dict[int, str]:
    """Emits the multipliers of a node's inputs, applied to what arrives."""
    operator = pair.operator
    if isinstance(operator, PointwiseOperator):
        return {0: pair.e.mul(first_of(upstream), _slope(pair, operator))}
    if operator.kind == "max_pool":
        return _maximum(pair, first_of(upstream))
    if operator.role is Role.SOFTMAX:
        return {0: _softmax(pair, first_of(upstream))}
    if isinstance(operator, LRNOperator):
        return {0: _local_response(pair, operator, first_of(upstream))}
    if isinstance(operator, NormalizationOperator):
        return {0: _normalization(pair, operator, first_of(upstream))}
    if isinstance(operator, GlobalLpPoolOperator):
        return {0: _power_mean(pair, first_of(upstream))}
    if pair.node.op == "Div":
        return _quotient_of_two(pair, first_of(upstream))
    # Of a linear or bilinear function the derivative half way is the quotient of differences.
    middle = Node(
        pair.node.op, pair.node.name, [*map(pair.middle, pair.node.inputs)], pair.node.outputs, pair.node.attributes, pair.node.domain
    )
    return operator.gradient(pair.e, middle if operator.role is Role.PRODUCT else pair.node, upstream)


def _ratio(e: Emitter, rise: str, run: str, derivative: str) -> str:
    """rise / run, where the run is small the derivative."""
    return e.op("Where", e.op("Less", e.op("Abs", run), e.constant(SMALL)), derivative, e.div(rise, run))


def _half_sum(e: Emitter, a: str, b: str) -> str:
    return e.scale(e.add(a, b), 0.5)


def _slope(pair: Pair, operator: PointwiseOperator) -> str:
    e = pair.e
    ends = operator.derivative(e, pair.node, pair.x, pair.y), operator.derivative(e, pair.twin, pair.x0, pair.y0)
    return _ratio(e, pair.difference(pair.y), pair.difference(pair.x), _half_sum(e, *ends))


def _maximum(pair: Pair, s: str) -> dict[int, str]:
    """With t = max(y, y0): s (t - y0) goes to where x wins, s (y - t) to where x0 wins, each divided by the difference there."""
    e, op = pair.e, pair.operator
    t = e.op("Min" if pair.node.op in ("Min", "ReduceMin") else "Max", pair.y, pair.y0)
    here = op.gradient(e, pair.node, [e.mul(s, e.sub(t, pair.y0))])
    there = op.gradient(e, pair.twin, [e.mul(s, e.sub(pair.y, t))])
    result = {}
    for index in op.data_inputs(pair.node, e.graph):
        run = pair.difference(pair.node.input(index))
        safe = e.op("Where", e.op("Equal", run, e.constant(0.0)), e.constant(1.0), run)
        result[index] = e.div(e.add(here[index], there[index]), safe)
    return result


def _quotient_of_two(pair: Pair, s: str) -> dict[int, str]:
    """a / b is a times r = 1 / b: (r + r0) / 2 to a, and (a + a0) / 2 times -r r0 to b."""
    e, (a, b) = pair.e, pair.node.inputs
    r, r0 = e.op("Reciprocal", b), e.op("Reciprocal", pair.at(b))
    to_a, to_b = e.mul(s, _half_sum(e, r, r0)), e.op("Neg", e.mul(s, e.mul(pair.middle(a), e.mul(r, r0))))
    return {0: e.unbroadcast(to_a, a, pair.y), 1: e.unbroadcast(to_b, b, pair.y)}


def _softmax(pair: Pair, s: str) -> str:
    """With z = log y and l = (y - y0) / (z - z0), the logarithmic mean of y and y0: log(sum of exp x) has the multipliers l / (sum of l).

    For the sum of l (z - z0) = y - y0 is zero, and z - z0 is the difference of x minus that of log(sum of exp x). So the log of the softmax
    has s - l / (sum of l) * (sum of s), and the softmax, an exponential of it, the same with s l in place of s.
    """
    e, axis = pair.e, int(pair.node.attributes.get("axis", -1))
    z, z0 = (e.op("LogSoftmax", x, axis=axis) for x in (pair.x, pair.x0))
    y, y0 = e.op("Exp", z), e.op("Exp", z0)
    run = e.sub(z, z0)
    # A masked element is minus infinity in both: its run is no number, and its mean zero. Nearby numbers have nearly their geometric mean.
    far = e.op("GreaterOrEqual", e.op("Abs", run), e.constant(1e-2))
    mean = e.op("Where", far, e.div(e.sub(y, y0), run), e.op("Sqrt", e.mul(y, y0)))
    given = e.mul(s, mean) if pair.node.op == "Softmax" else s
    return e.sub(given, e.mul(e.div(mean, e.reduce_sum(mean, [axis])), e.reduce_sum(given, [axis])))


def _normalization(pair: Pair, operator: NormalizationOperator, s: str) -> str:
    """c r with c = x - mean and r = 1 / deviation: a product.

    r follows the mean of c^2 by -(r r0)^2 / (r + r0), and c^2 follows c by c + c0.
    """
    e, axes = pair.e, pair.e.ints(*operator.axes(pair.node, pair.e.graph))

    def centred(tensor: str) -> str:
        return e.sub(tensor, e.op("ReduceMean", tensor, axes, keepdims=1)) if operator.centred else tensor

    gain = operator.gain(e, pair.node)
    g = e.mul(s, gain) if gain else s
    r, r0 = operator.inverse_deviation(e, pair.node), operator.inverse_deviation(e, pair.twin)
    both = e.mul(r, r0)
    follows = e.div(e.mul(both, both), _half_sum(e, r, r0))
    c = centred(pair.middle(pair.x))
    bend = e.mul(e.mul(c, e.op("ReduceMean", e.mul(g, c), axes, keepdims=1)), follows)
    return centred(e.sub(e.mul(g, _half_sum(e, r, r0)), bend))


def _local_response(pair: Pair, operator: LRNOperator, s: str) -> str:
    """x p with p = d^-beta: a product; p follows d as any function, d = bias + rate * (window sum of x^2), and x^2 follows x by x + x0."""
    e, middle = pair.e, pair.middle(pair.x)
    rate, beta, d = operator.parts(e, pair.node)
    d0 = operator.parts(e, pair.twin)[2]
    p, p0 = operator.slope(e, pair.node), operator.slope(e, pair.twin)
    derivative = e.scale(e.op("Pow", d, e.constant(-beta - 1)), -beta)
    to_d = e.mul(e.mul(s, middle), _ratio(e, e.sub(p, p0), e.sub(d, d0), derivative))
    back = e.scale(operator.window_sum(e, pair.node, to_d, adjoint=True), 2 * rate)
    return e.add(e.mul(s, _half_sum(e, p, p0)), e.mul(back, middle))


def _power_mean(pair: Pair, s: str) -> str:
    """y = q^(1/p) with q the sum of |x|^p: one function after another."""
    e, p = pair.e, float(pair.node.attributes.get("p", 2))
    q, q0 = (e.op("Pow", y, e.constant(p)) for y in (pair.y, pair.y0))
    positive = e.op("Where", e.op("Equal", pair.y, e.constant(0.0)), e.constant(1.0), pair.y)
    outer = _ratio(e, pair.difference(pair.y), e.sub(q, q0), e.scale(e.op("Pow", positive, e.constant(1 - p)), 1 / p))
    wide = e.mul(s, outer)
    wide = e.expand_like(wide, pair.x) if pair.node.op.startswith("Global") else spread(e, pair.node, wide)
    size, size0 = e.op("Abs", pair.x), e.op("Abs", pair.x0)
    power, power0 = (e.op("Pow", value, e.constant(p)) for value in (size, size0))
    derivative = e.scale(e.mul(e.op("Sign", pair.x), e.op("Pow", size, e.constant(p - 1))), p)
    return e.mul(wide, _ratio(e, e.sub(power, power0), pair.difference(pair.x), derivative))
