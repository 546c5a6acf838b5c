"""Gradient methods: the plain gradient at every node, with another treatment of ReLUs or of the result."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal

from onnx_lrp.composites.base import Composite, Maps
from onnx_lrp.composites.registry import alias, register
from onnx_lrp.composites.selectors import everything
from onnx_lrp.errors import CompositeError
from onnx_lrp.rules import BetaSmooth, Deconvnet, Gradient, GuidedBackprop, Rule

if TYPE_CHECKING:
    from onnx_lrp.emitter import Emitter

FAMILY = "Gradient methods"


@register("gradient", FAMILY)
class GradientComposite(Composite):
    """The gradient of the output; starts with one at the target."""

    seed = "one"
    relu: Rule = Gradient()

    def __init__(self, **maps: Maps):
        super().__init__([("relu", self.relu), (everything(), Gradient())], **maps)


@register("input_x_gradient", FAMILY)
class InputTimesGradient(GradientComposite):
    """The gradient times the input; starts with one at the target."""

    def finish(self, e: Emitter, relevance: str, tensor: str, sources: Sequence[str]) -> str:  # noqa: ARG002
        """The gradient times the tensor that it belongs to."""
        return e.mul(relevance, tensor)


@register("guided_backprop", FAMILY)
class GuidedBackpropComposite(GradientComposite):
    """The gradient with GuidedBackprop at ReLUs."""

    relu = GuidedBackprop()


@register("deconvnet", FAMILY)
class DeconvnetComposite(GradientComposite):
    """The gradient with Deconvnet at ReLUs."""

    relu = Deconvnet()


@register("beta_smooth", FAMILY)
class BetaSmoothComposite(GradientComposite):
    """The gradient with BetaSmooth(beta) at ReLUs."""

    def __init__(self, *, beta: float = 10.0, **maps: Maps):
        self.relu = BetaSmooth(beta)
        super().__init__(**maps)


@register("sensitivity", FAMILY)
class Sensitivity(GradientComposite):
    """The gradient's length over the channels, written to each of them, or its elements' squares; starts with one at the target.

    norm: "l2" (the root of the sum of the squares over the axis, as the Caffe part of lrp_toolbox has it; without channels, in inputs of
    fewer than three axes, each element's absolute value) or "square" (each element's squared derivative, Simonyan et al. 2014).
    axis: the axis of the channels; for "l2".
    """

    def __init__(self, *, norm: Literal["l2", "square"] = "l2", axis: int = 1, **maps: Maps):
        if norm not in ("l2", "square"):
            raise CompositeError(f'sensitivity: norm is "l2" or "square", not {norm!r}')
        if isinstance(axis, bool) or not isinstance(axis, int) or axis == 0:
            raise CompositeError(f"sensitivity: axis is the number of an axis, not of the batch, not {axis!r}")
        super().__init__(**maps)
        self.norm, self.axis = norm, axis

    def finish(self, e: Emitter, relevance: str, tensor: str, sources: Sequence[str]) -> str:  # noqa: ARG002
        """The length or the squares."""
        if self.norm == "square":
            return e.mul(relevance, relevance)
        rank = e.graph.rank(tensor) or 0
        if rank < 3:
            return e.op("Abs", relevance)
        if not -rank < self.axis < rank:
            raise CompositeError(f"sensitivity: {tensor!r} has {rank} axes, none of them is {self.axis} beside the batch")
        return e.expand_like(e.op("ReduceL2", relevance, e.ints(self.axis), keepdims=1), tensor)


alias("input_t_gradient", "input_x_gradient")
alias("GuidedBackprop", "guided_backprop")
alias("Deconvnet", "deconvnet")
alias("BetaSmooth", "beta_smooth")
