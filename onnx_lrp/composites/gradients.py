"""Gradient methods: the plain gradient at every node, with another treatment of ReLUs or of the result."""

from __future__ import annotations

from typing import TYPE_CHECKING

from onnx_lrp.composites.base import Composite, Maps
from onnx_lrp.composites.registry import alias, register
from onnx_lrp.composites.selectors import where
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
        super().__init__([("relu", self.relu), (where(lambda _: True, "any"), Gradient())], **maps)


@register("input_x_gradient", FAMILY)
class InputTimesGradient(GradientComposite):
    """The gradient times the input; starts with one at the target."""

    def finish(self, e: Emitter, relevance: str, tensor: str) -> str:
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
    """The gradient's length over the channels (axis 1), written to each of them; its absolute value where there are no channels."""

    def finish(self, e: Emitter, relevance: str, tensor: str) -> str:
        """The length of the gradient over axis 1."""
        if (e.graph.rank(tensor) or 0) < 3:
            return e.op("Abs", relevance)
        length = e.op("ReduceL2", relevance, e.ints(1), keepdims=1)
        return e.expand_like(length, tensor)


alias("input_t_gradient", "input_x_gradient")
alias("GuidedBackprop", "guided_backprop")
alias("Deconvnet", "deconvnet")
alias("BetaSmooth", "beta_smooth")
