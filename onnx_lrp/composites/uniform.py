"""One rule for all convolutions and dense layers, under its name; other nodes as in every LRP composite."""

from __future__ import annotations

from typing import Any

from onnx_lrp.composites.base import Layered, Maps, Stab
from onnx_lrp.composites.registry import alias, register
from onnx_lrp.rules import AlphaBeta, ClassicGamma, Epsilon, Flat, Gamma, WSquare, Zero, ZPlus

FAMILY = "One rule for all convolutions and dense layers"


@register("zero", FAMILY)
class ZeroComposite(Layered):
    """Zero (LRP-0) on convolutions and dense layers; in a ReLU net without biases it equals input x gradient."""

    def __init__(self, *, stabilizer: Stab = 1e-6, bias: Any = "absorb", **maps: Maps):
        super().__init__(Zero(bias=bias), Zero(bias=bias), (), stabilizer, **maps)


@register("epsilon", FAMILY)
class EpsilonComposite(Layered):
    """Epsilon on convolutions and dense layers."""

    def __init__(self, *, epsilon: Stab = 1e-6, stabilizer: Stab = 1e-6, bias: Any = "absorb", **maps: Maps):
        super().__init__(Epsilon(epsilon, bias), Epsilon(epsilon, bias), (), stabilizer, **maps)


@register("z_plus", FAMILY)
class ZPlusComposite(Layered):
    """ZPlus on convolutions and dense layers."""

    def __init__(self, *, stabilizer: Stab = 1e-6, bias: Any = "absorb", **maps: Maps):
        super().__init__(ZPlus(stabilizer, bias), ZPlus(stabilizer, bias), (), stabilizer, **maps)


@register("alpha_beta", FAMILY)
class AlphaBetaComposite(Layered):
    """AlphaBeta(alpha, beta) on convolutions and dense layers; beta is alpha - 1 where only alpha is given, and the other way round."""

    def __init__(
        self,
        *,
        alpha: float | None = None,
        beta: float | None = None,
        stabilizer: Stab = 1e-6,
        bias: Any = "absorb",
        empty: Any = "drop",
        **maps: Maps,
    ):
        if alpha is None:
            alpha = 2.0 if beta is None else 1.0 + beta
        rule = AlphaBeta(alpha, alpha - 1.0 if beta is None else beta, stabilizer, bias, empty)
        super().__init__(rule, rule, (), stabilizer, **maps)


@register("gamma", FAMILY)
class GammaComposite(Layered):
    """Gamma(gamma) on convolutions and dense layers."""

    def __init__(self, *, gamma: float = 0.25, stabilizer: Stab = 1e-6, bias: Any = "absorb", **maps: Maps):
        super().__init__(Gamma(gamma, stabilizer, bias), Gamma(gamma, stabilizer, bias), (), stabilizer, **maps)


@register("classic_gamma", FAMILY)
class ClassicGammaComposite(Layered):
    """ClassicGamma(gamma) on convolutions and dense layers."""

    def __init__(self, *, gamma: float = 0.25, stabilizer: Stab = 1e-6, bias: Any = "absorb", **maps: Maps):
        super().__init__(ClassicGamma(gamma, stabilizer, bias), ClassicGamma(gamma, stabilizer, bias), (), stabilizer, **maps)


@register("w_square", FAMILY)
class WSquareComposite(Layered):
    """WSquare on convolutions and dense layers: where relevance could go, whatever the input."""

    def __init__(self, *, stabilizer: Stab = 1e-6, bias: Any = "ignore", **maps: Maps):
        super().__init__(WSquare(stabilizer, bias), WSquare(stabilizer, bias), (), stabilizer, **maps)


@register("flat", FAMILY)
class FlatComposite(Layered):
    """Flat on convolutions and dense layers: relevance spreads evenly over each receptive field."""

    def __init__(self, *, stabilizer: Stab = 1e-6, **maps: Maps):
        super().__init__(Flat(stabilizer), Flat(stabilizer), (), stabilizer, **maps)


# TorchLRP's rules of fixed parameters; its own epsilon and gamma are epsilon(epsilon=0.1) and classic_gamma(gamma=0.1).
alias("alpha1beta0", "alpha_beta", alpha=1.0, bias="ignore")
alias("alpha2beta1", "alpha_beta", alpha=2.0, bias="ignore")
alias("gamma+epsilon", "classic_gamma", gamma=0.1, stabilizer=0.1)
