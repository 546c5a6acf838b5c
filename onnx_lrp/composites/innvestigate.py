"""iNNvestigate's presets, deep Taylor decomposition, and its names for the rules."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from onnx_lrp.composites.base import Layered, Maps, Stab, box, only_redistribute
from onnx_lrp.composites.registry import alias, register
from onnx_lrp.composites.selectors import LAYER, first, lowest
from onnx_lrp.rules import AlphaBeta, Epsilon, Flat, WSquare, ZPlus

if TYPE_CHECKING:
    from onnx_lrp.graph import Array

FAMILY = "iNNvestigate's presets"


@register("sequential_preset_a", FAMILY)
class SequentialPresetA(Layered):
    """AlphaBeta(1, 0) on convolutions, Epsilon(0.1) on dense layers."""

    def __init__(self, *, epsilon: Stab = 0.1, stabilizer: Stab = 1e-6, bias: Any = "absorb", empty: Any = "drop", **maps: Maps):
        super().__init__(AlphaBeta(1.0, 0.0, stabilizer, bias, empty), Epsilon(epsilon, bias), (), stabilizer, **maps)


@register("sequential_preset_a_flat", FAMILY)
class SequentialPresetAFlat(Layered):
    """AlphaBeta(1, 0) on convolutions, Epsilon(0.1) on dense layers, Flat on the lowest layers (one, if flat_layers does not say more)."""

    def __init__(
        self, *, epsilon: Stab = 0.1, stabilizer: Stab = 1e-6, bias: Any = "absorb", empty: Any = "drop", flat_layers: int = 1, **maps: Maps
    ):
        low = [(lowest(flat_layers), Flat(stabilizer, only_redistribute(bias, "ignore")))]
        super().__init__(AlphaBeta(1.0, 0.0, stabilizer, bias, empty), Epsilon(epsilon, bias), low, stabilizer, **maps)


@register("sequential_preset_b", FAMILY)
class SequentialPresetB(Layered):
    """AlphaBeta(2, 1) on convolutions, Epsilon(0.1) on dense layers."""

    def __init__(self, *, epsilon: Stab = 0.1, stabilizer: Stab = 1e-6, bias: Any = "absorb", empty: Any = "drop", **maps: Maps):
        super().__init__(AlphaBeta(2.0, 1.0, stabilizer, bias, empty), Epsilon(epsilon, bias), (), stabilizer, **maps)


@register("sequential_preset_b_flat", FAMILY)
class SequentialPresetBFlat(Layered):
    """AlphaBeta(2, 1) on convolutions, Epsilon(0.1) on dense layers, Flat on the lowest layers (one, if flat_layers does not say more)."""

    def __init__(
        self, *, epsilon: Stab = 0.1, stabilizer: Stab = 1e-6, bias: Any = "absorb", empty: Any = "drop", flat_layers: int = 1, **maps: Maps
    ):
        low = [(lowest(flat_layers), Flat(stabilizer, only_redistribute(bias, "ignore")))]
        super().__init__(AlphaBeta(2.0, 1.0, stabilizer, bias, empty), Epsilon(epsilon, bias), low, stabilizer, **maps)


@register("deep_taylor", FAMILY)
class DeepTaylor(Layered):
    """ZPlus without biases on all layers, WSquare on the first: inputs of any value (Montavon et al. 2017)."""

    def __init__(self, *, stabilizer: Stab = 1e-6, bias: Any = "ignore", **maps: Maps):
        rule = ZPlus(stabilizer, bias)
        super().__init__(rule, rule, [(LAYER & first(), WSquare(stabilizer, only_redistribute(bias, "ignore")))], stabilizer, **maps)


@register("deep_taylor_bounded", FAMILY)
class DeepTaylorBounded(Layered):
    """ZPlus without biases on all layers, ZBox(low, high) on the first: inputs with bounds (Montavon et al. 2017)."""

    def __init__(
        self,
        *,
        low: float | Array | None = None,
        high: float | Array | None = None,
        stabilizer: Stab = 1e-6,
        bias: Any = "ignore",
        **maps: Maps,
    ):
        rule = ZPlus(stabilizer, bias)
        super().__init__(rule, rule, [(LAYER & first(), box(self.key, low, high, stabilizer, bias))], stabilizer, **maps)


alias("lrp.z", "zero")
alias("lrp.epsilon", "epsilon", epsilon=1e-7)
alias("lrp.w_square", "w_square")
alias("lrp.flat", "flat")
alias("lrp.alpha_beta", "alpha_beta")
alias("lrp.alpha_2_beta_1", "alpha_beta", alpha=2.0)
alias("lrp.alpha_2_beta_1_IB", "alpha_beta", alpha=2.0, bias="ignore")
alias("lrp.alpha_1_beta_0", "alpha_beta", alpha=1.0)
alias("lrp.alpha_1_beta_0_IB", "alpha_beta", alpha=1.0, bias="ignore")
alias("lrp.z_plus", "z_plus", bias="ignore")
alias("lrp.z_plus_fast", "z_plus", bias="ignore")
alias("lrp.sequential_preset_a", "sequential_preset_a")
alias("lrp.sequential_preset_a_flat", "sequential_preset_a_flat")
alias("lrp.sequential_preset_b", "sequential_preset_b")
alias("lrp.sequential_preset_b_flat", "sequential_preset_b_flat")
alias("lrp.sequential_preset_b_flat_until_idx", "sequential_preset_b_flat")
alias("deep_taylor.bounded", "deep_taylor_bounded")
# The rules of SGLRP's classes; the seed is chosen with the explanation.
alias("LRPE", "epsilon", epsilon=1e-7)
alias("LRPA", "sequential_preset_a_flat")
alias("LRPB", "sequential_preset_b_flat")
