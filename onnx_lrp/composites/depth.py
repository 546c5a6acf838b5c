"""Rules by depth: a box below, gamma and epsilon in between, LRP-0 at the head."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from onnx_lrp.composites.base import Composite, Entry, Maps, Stab, base_map, box
from onnx_lrp.composites.registry import register
from onnx_lrp.composites.selectors import LAYER, first, stage
from onnx_lrp.rules import Epsilon, Gamma, Zero

if TYPE_CHECKING:
    from onnx_lrp.graph import Array

FAMILY = "By depth"


@register("lrp_tutorial", FAMILY)
class LrpTutorial(Composite):
    """ZBox first, Gamma in the first half of the convolutions, Epsilon(0.25) in the second, Zero above (Montavon et al. 2019).

    On VGG16: the convolutions 2 to 7 and 8 to 13. Where a net has no convolutions, its dense layers but the last count instead.
    epsilon=Stabilizer(0.25, "scaled") makes epsilon a quarter of each layer's root mean square.
    """

    def __init__(
        self,
        *,
        low: float | Array | None = None,
        high: float | Array | None = None,
        gamma: float = 0.25,
        epsilon: Stab = 0.25,
        stabilizer: Stab = 1e-6,
        bias: Any = "absorb",
        **maps: Maps,
    ):
        own: list[Entry] = [
            (LAYER & first(), box(self.key, low, high, stabilizer, bias)),
            (stage(0.0, 0.5), Gamma(gamma, stabilizer, bias)),
            (stage(0.5, 1.0), Epsilon(epsilon, bias)),
            (LAYER, Zero(bias=bias)),
            *base_map(stabilizer, bias),
        ]
        super().__init__(own, **maps)


@register("decreasing_gamma", FAMILY)
class DecreasingGamma(Composite):
    """ZBox first, Gamma(gamma1) up to 0.6 of the convolutions, Gamma(gamma2) up to 0.8, Zero above.

    On VGG16: the convolutions 2 to 8, 9 to 11, and the rest. Where a net has no convolutions, its dense layers but the last count instead.
    """

    def __init__(
        self,
        *,
        low: float | Array | None = None,
        high: float | Array | None = None,
        gamma1: float = 0.25,
        gamma2: float = 0.1,
        stabilizer: Stab = 1e-6,
        bias: Any = "absorb",
        **maps: Maps,
    ):
        own: list[Entry] = [
            (LAYER & first(), box(self.key, low, high, stabilizer, bias)),
            (stage(0.0, 0.6), Gamma(gamma1, stabilizer, bias)),
            (stage(0.6, 0.8), Gamma(gamma2, stabilizer, bias)),
            (LAYER, Zero(bias=bias)),
            *base_map(stabilizer, bias),
        ]
        super().__init__(own, **maps)
