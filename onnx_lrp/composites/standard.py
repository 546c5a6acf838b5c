"""One rule for convolutions, another for dense layers: the usual choice, under zennit's names."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from onnx_lrp.composites.base import Composite, Entry, Layered, Maps, Stab, base_map, box, only_redistribute
from onnx_lrp.composites.registry import alias, register
from onnx_lrp.composites.selectors import LAYER, by_role, by_type, first
from onnx_lrp.operators import Role
from onnx_lrp.rules import AlphaBeta, Epsilon, Flat, Gamma, Gradient, ZPlus

if TYPE_CHECKING:
    from onnx_lrp.graph import Array

FAMILY = "By kind of layer (zennit's composites)"


@register("epsilon_plus", FAMILY)
class EpsilonPlus(Layered):
    """ZPlus on convolutions, Epsilon on dense layers."""

    def __init__(self, *, epsilon: Stab = 1e-6, stabilizer: Stab = 1e-6, bias: Any = "absorb", **maps: Maps):
        super().__init__(ZPlus(stabilizer, bias), Epsilon(epsilon, bias), (), stabilizer, **maps)


@register("epsilon_plus_flat", FAMILY)
class EpsilonPlusFlat(Layered):
    """ZPlus on convolutions, Epsilon on dense layers, Flat on the first layer."""

    def __init__(self, *, epsilon: Stab = 1e-6, stabilizer: Stab = 1e-6, bias: Any = "absorb", **maps: Maps):
        flat = [(LAYER & first(), Flat(stabilizer, only_redistribute(bias, "ignore")))]
        super().__init__(ZPlus(stabilizer, bias), Epsilon(epsilon, bias), flat, stabilizer, **maps)


@register("epsilon_alpha2_beta1", FAMILY)
class EpsilonAlpha2Beta1(Layered):
    """AlphaBeta(2, 1) on convolutions, Epsilon on dense layers."""

    def __init__(self, *, epsilon: Stab = 1e-6, stabilizer: Stab = 1e-6, bias: Any = "absorb", empty: Any = "drop", **maps: Maps):
        super().__init__(AlphaBeta(2.0, 1.0, stabilizer, bias, empty), Epsilon(epsilon, bias), (), stabilizer, **maps)


@register("epsilon_alpha2_beta1_flat", FAMILY)
class EpsilonAlpha2Beta1Flat(Layered):
    """AlphaBeta(2, 1) on convolutions, Epsilon on dense layers, Flat on the first layer."""

    def __init__(self, *, epsilon: Stab = 1e-6, stabilizer: Stab = 1e-6, bias: Any = "absorb", empty: Any = "drop", **maps: Maps):
        rule = AlphaBeta(2.0, 1.0, stabilizer, bias, empty)
        super().__init__(
            rule, Epsilon(epsilon, bias), [(LAYER & first(), Flat(stabilizer, only_redistribute(bias, "ignore")))], stabilizer, **maps
        )


@register("epsilon_gamma_box", FAMILY)
class EpsilonGammaBox(Layered):
    """Gamma(0.25) on convolutions, Epsilon on dense layers, ZBox(low, high) on first convolutions."""

    def __init__(
        self,
        *,
        low: float | Array | None = None,
        high: float | Array | None = None,
        epsilon: Stab = 1e-6,
        gamma: float = 0.25,
        stabilizer: Stab = 1e-6,
        bias: Any = "absorb",
        **maps: Maps,
    ):
        bounded = [(by_type("convolution") & first(), box(self.key, low, high, stabilizer, bias))]
        super().__init__(Gamma(gamma, stabilizer, bias), Epsilon(epsilon, bias), bounded, stabilizer, **maps)


@register("excitation_backprop", FAMILY)
class ExcitationBackprop(Composite):
    """ZPlus on every affine layer, Norm on sums and average pools, activations as in the gradient (Zhang et al. 2016)."""

    def __init__(self, *, stabilizer: Stab = 1e-6, bias: Any = "absorb", **maps: Maps):
        own: list[Entry] = [
            (by_type("convolution", "dense", "scale"), ZPlus(stabilizer, bias)),
            (by_role(Role.POINTWISE), Gradient()),
            *base_map(stabilizer, bias),
        ]
        super().__init__(own, **maps)


for _name, _key in {
    "EpsilonPlus": "epsilon_plus",
    "EpsilonPlusFlat": "epsilon_plus_flat",
    "EpsilonAlpha2Beta1": "epsilon_alpha2_beta1",
    "EpsilonAlpha2Beta1Flat": "epsilon_alpha2_beta1_flat",
    "EpsilonGammaBox": "epsilon_gamma_box",
    "ExcitationBackprop": "excitation_backprop",
}.items():
    alias(_name, _key)
