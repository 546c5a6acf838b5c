"""An affine node as its rules see it: the map run with parts of its weights on parts of its input."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING

import numpy as np

from onnx_lrp.operators.affine import AffineOperator, ones_like

if TYPE_CHECKING:
    from onnx_lrp.graph import Array
    from onnx_lrp.rules.base import Site


class Source(Enum):
    """What the map is run on."""

    X = "x"
    POSITIVE = "x+"
    NEGATIVE = "x-"
    ONE = "1"


@dataclass(frozen=True)
class Part:
    """A function of the weights (or the bias): w, w+, w-, w^2, 1, or w + gamma * w+ and w + gamma * w-."""

    kind: str
    gamma: float = 0.0


FULL, POSITIVE, NEGATIVE, SQUARE, ONES = (Part(kind) for kind in ("full", "positive", "negative", "square", "ones"))


def boosted(gamma: float, sign: int) -> Part:
    """w + gamma * w+ for sign +1, w + gamma * w- for sign -1."""
    return Part("boosted+" if sign > 0 else "boosted-", gamma) if gamma else FULL


class LinearView:
    """J(W) x + b of one node."""

    def __init__(self, site: Site, operator: AffineOperator):
        self.site, self.e, self.node, self.operator = site, site.e, site.node, operator
        graph = self.e.graph
        self.index = operator.data_index(self.node, graph)
        self.x = self.node.input(self.index)
        self.weight = operator.weight(self.node, graph)
        self.bias = operator.bias(self.node, graph)
        self.x_nonnegative = self.x in site.nonnegative

    # parts ----------------------------------------------------------------------------------------------------------

    def simplified(self, tensor: str | None, part: Part) -> Part | None:
        """A simpler part with the same value, or None for one that is all zero. Fixed weights (None) are non-negative."""
        if part.kind in ("full", "ones"):
            return part
        if part.kind == "square":
            return ONES if tensor is None and self.operator.uniform else part  # a factor common to all weights of an output cancels
        has_positive, has_negative = self.site.e.signs(tensor) if tensor is not None else (True, False)
        if part.kind == "positive":
            return None if not has_positive else part if has_negative else FULL
        if part.kind == "negative":
            return None if not has_negative else part if has_positive else FULL
        wanted = has_positive if part.kind == "boosted+" else has_negative
        return part if wanted else FULL

    def _part(self, tensor: str, part: Part) -> str:
        e = self.e
        match part.kind:
            case "full":
                return tensor
            case "positive":
                return e.op("Relu", tensor)
            case "negative":
                return e.op("Min", tensor, e.constant(0.0))
            case "square":
                return e.mul(tensor, tensor)
            case "boosted+":
                return e.op("Max", tensor, e.scale(tensor, 1 + part.gamma))  # as gamma >= 0
            case "boosted-":
                return e.op("Min", tensor, e.scale(tensor, 1 + part.gamma))
        raise AssertionError(part)

    def bias_tensor(self, part: Part | None) -> str | None:
        """The part of the bias in a shape that broadcasts against the output; None when it is zero."""
        if self.bias is None or part is None or self.simplified(self.bias, part) is None:
            return None
        return self._part(self.operator.broadcast_bias(self.e, self.node, self.bias), self.simplified(self.bias, part) or part)

    # inputs ---------------------------------------------------------------------------------------------------------

    def source(self, source: Source) -> str | None:
        """The tensor for x, x+, x-; None for x- of a non-negative x."""
        if source is Source.X or (source is Source.POSITIVE and self.x_nonnegative):
            return self.x
        if source is Source.POSITIVE:
            return self.e.op("Relu", self.x)
        if source is Source.NEGATIVE:
            return None if self.x_nonnegative else self.e.mul(self.x, self.e.step(self.x, below=True))
        return ones_like(self.e, self.x)

    # the map and its adjoint ----------------------------------------------------------------------------------------

    def apply(self, x: str, part: Part, bias: Part | None = None) -> str:
        """Emits J(part of W) x + part of b. What the model computes anyway is taken from there."""
        part = self._known(part)
        bias = self.simplified(self.bias, bias) if self.bias is not None and bias is not None else None
        if part == ONES:
            y = (
                self.operator.fan_in(self.e, self.node)
                if x == ones_like(self.e, self.x)
                else self.operator.apply_ones(self.e, self.node, x)
            )
        elif part == FULL and x == self.x and (self.bias is None or bias == FULL):
            return self.node.outputs[0]
        elif part == FULL and x == self.x and self.weight is not None:
            without = self.e.sub(self.node.outputs[0], self.bias_tensor(FULL) or "")
            other = self.bias_tensor(bias)
            return self.e.add(without, other) if other else without
        elif part == SQUARE and self.weight is None:
            y = self.operator.apply_square(self.e, self.node, x)
        elif self.weight is None:
            y = self.e.scale(self.operator.apply(self.e, self.node, x, None), self._factor(part))
        else:
            own = self._part(self.bias, bias) if self.bias is not None and bias is not None else None
            return self.operator.apply(self.e, self.node, x, self._part(self.weight, part), own)
        added = self.bias_tensor(bias)
        return self.e.add(y, added) if added else y

    def sum_up(self, parts: list[str], *, with_bias: bool) -> None:
        """Lets the model's own J(W) x + b be the sum of parts of it that are computed anyway: one map less.

        It loses no precision: a sum's rounding error follows from the size of its terms, whatever their order.

        Args:
            parts: tensors that add up to J(W) x + b, or without `with_bias` to J(W) x; the node's own output is none of them.
            with_bias: whether the bias is among them.
        """
        bias = None if with_bias else self.bias_tensor(FULL)
        if self.operator.kind in ("convolution", "dense"):
            self.e.recompute(self.node.outputs[0], self.e.sum(parts[:-1]), self.e.add(parts[-1], bias) if bias else parts[-1])

    def magnitude(self, part: Part, bias: Part | None = None, further: str = "") -> str:
        """Emits the sum of the absolute values of all terms of J(part of W) x + part of b; `further` is added to |x|."""
        e = self.e
        x = self.x if self.x_nonnegative else e.op("Abs", self.x)
        x = e.add(x, further) if further else x
        if part == ONES:
            y = self.operator.apply_ones(e, self.node, x)
        else:
            y = self.operator.apply(e, self.node, x, e.op("Abs", self._part(self.weight, part)) if self.weight is not None else None)
        added = self.bias_tensor(bias)
        return e.add(y, e.op("Abs", added)) if added else y

    def adjoint(self, s: str, part: Part) -> str:
        """Emits J(part of W)^T s."""
        part = self._known(part)
        if part == ONES:
            return self.operator.adjoint_ones(self.e, self.node, s)
        if part == SQUARE and self.weight is None:
            return self.operator.adjoint_square(self.e, self.node, s)
        if self.weight is None:
            return self.operator.adjoint(self.e, self.node, self.e.scale(s, self._factor(part)), None)
        return self.operator.layer_adjoint(self.e, self.node, s, self._part(self.weight, part))

    def _known(self, part: Part) -> Part:
        simple = self.simplified(self.weight, part)
        if simple is None:
            raise AssertionError(f"{part} of the weights of {self.node.name} is empty")
        return simple

    @staticmethod
    def _factor(part: Part) -> float:
        """Parts of fixed non-negative weights are multiples of them."""
        return 1.0 + part.gamma if part.kind == "boosted+" else 1.0


def bounds(site: Site, low: float | Array, high: float | Array) -> tuple[str, str]:
    """Emits the lowest and highest values of a node's input.

    They are given for the explained input that the node sees; if only movements and scalings lie between the two, they go through those.
    """
    e, view_input = site.e, site.node.input(0)
    graph = e.graph
    between: set[str] = set()
    tensor = view_input
    while tensor not in site.sources and (maker := graph.producers.get(tensor)) is not None:
        if maker.op not in ("Transpose", "Reshape", "Squeeze", "Unsqueeze", "Flatten", "Scale", "Pad", "Slice", "Identity"):
            break
        between.add(maker.name)
        tensor = maker.input(0)
    if tensor not in site.sources:
        tensor, between = view_input, set()
    given = [_shaped(e.graph.shape(tensor), value) for value in (low, high)]
    if not between:
        return e.constant(given[0]), e.constant(given[1])
    full = ones_like(e, tensor)
    low_, high_ = (e.replay(view_input, {tensor: e.mul(full, e.constant(value))}) for value in given)
    return e.op("Min", low_, high_), e.op("Max", low_, high_)


def _shaped(shape: tuple[int | str | None, ...] | None, value: float | Array) -> Array:
    """A number, one per channel, or a full array, in a shape that broadcasts against an input with batch axis."""
    array = np.asarray(value, np.float32)
    rank = len(shape) if shape is not None else array.ndim
    if array.size == 1:
        return array.reshape(())
    if array.ndim == 1 and shape is not None and rank > 2:
        axis = 1 if shape[1] == array.size else rank - 1
        return array.reshape([-1 if i == axis else 1 for i in range(rank)])
    return array.reshape((1,) * (rank - array.ndim) + array.shape) if array.ndim < rank else array
