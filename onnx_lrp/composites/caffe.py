"""The formulas of lrp_toolbox's extension of Caffe, by the numbers that its configuration files have for them.

alpha is 1 + beta, and beta >= 0. The defaults of epsilon and beta are those of that extension's Python wrapper.
"""

from __future__ import annotations

from typing import Any, ClassVar

from onnx_lrp.composites.base import Layered, Maps, Stab
from onnx_lrp.composites.registry import alias, register
from onnx_lrp.composites.selectors import lowest
from onnx_lrp.rules import AlphaBeta, Epsilon, Flat, Rule, WSquare

FAMILY = "Formulas of the Caffe extension of lrp_toolbox"


def _alpha_beta(beta: float, bias: Any) -> AlphaBeta:
    return AlphaBeta(1.0 + beta, beta, 0.0, bias)


@register("caffe_0", FAMILY)
class Caffe0(Layered):
    """Epsilon on convolutions and dense layers."""

    def __init__(self, *, epsilon: Stab = 1e-10, stabilizer: Stab = 1e-10, bias: Any = "absorb", **maps: Maps):
        super().__init__(Epsilon(epsilon, bias), Epsilon(epsilon, bias), (), stabilizer, **maps)


@register("caffe_2", FAMILY)
class Caffe2(Layered):
    """AlphaBeta(1 + beta, beta) on convolutions and dense layers."""

    def __init__(self, *, beta: float = 0.0, stabilizer: Stab = 1e-10, bias: Any = "absorb", **maps: Maps):
        super().__init__(_alpha_beta(beta, bias), _alpha_beta(beta, bias), (), stabilizer, **maps)


@register("caffe_54", FAMILY)
class Caffe54(Layered):
    """Epsilon, Flat on the lowest layers."""

    low: ClassVar[Rule] = Flat(0.0)

    def __init__(self, *, epsilon: Stab = 1e-10, stabilizer: Stab = 1e-10, bias: Any = "absorb", low_layers: int = 1, **maps: Maps):
        low = [(lowest(low_layers), self.low)]
        super().__init__(Epsilon(epsilon, bias), Epsilon(epsilon, bias), low, stabilizer, **maps)


@register("caffe_56", FAMILY)
class Caffe56(Caffe54):
    """Epsilon, WSquare on the lowest layers."""

    low = WSquare(0.0)


@register("caffe_58", FAMILY)
class Caffe58(Layered):
    """AlphaBeta(1 + beta, beta), Flat on the lowest layers."""

    low: ClassVar[Rule] = Flat(0.0)

    def __init__(self, *, beta: float = 0.0, stabilizer: Stab = 1e-10, bias: Any = "absorb", low_layers: int = 1, **maps: Maps):
        low = [(lowest(low_layers), self.low)]
        super().__init__(_alpha_beta(beta, bias), _alpha_beta(beta, bias), low, stabilizer, **maps)


@register("caffe_60", FAMILY)
class Caffe60(Caffe58):
    """AlphaBeta(1 + beta, beta), WSquare on the lowest layers."""

    low = WSquare(0.0)


@register("caffe_100", FAMILY)
class Caffe100(Layered):
    """AlphaBeta(1 + beta, beta) on convolutions, Epsilon on dense layers: the one that the extension recommends."""

    def __init__(self, *, epsilon: Stab = 1e-10, beta: float = 0.0, stabilizer: Stab = 1e-10, bias: Any = "absorb", **maps: Maps):
        super().__init__(_alpha_beta(beta, bias), Epsilon(epsilon, bias), (), stabilizer, **maps)


@register("caffe_102", FAMILY)
class Caffe102(Layered):
    """AlphaBeta(1 + beta, beta) on convolutions, Epsilon on dense layers, Flat on the lowest layers."""

    low: ClassVar[Rule] = Flat(0.0)

    def __init__(
        self,
        *,
        epsilon: Stab = 1e-10,
        beta: float = 0.0,
        stabilizer: Stab = 1e-10,
        bias: Any = "absorb",
        low_layers: int = 1,
        **maps: Maps,
    ):
        low = [(lowest(low_layers), self.low)]
        super().__init__(_alpha_beta(beta, bias), Epsilon(epsilon, bias), low, stabilizer, **maps)


@register("caffe_104", FAMILY)
class Caffe104(Caffe102):
    """AlphaBeta(1 + beta, beta) on convolutions, Epsilon on dense layers, WSquare on the lowest layers."""

    low = WSquare(0.0)


@register("caffe_114", FAMILY)
class Caffe114(Layered):
    """Epsilon, AlphaBeta(1 + beta, beta) on the lowest layers."""

    def __init__(
        self,
        *,
        epsilon: Stab = 1e-10,
        beta: float = 0.0,
        stabilizer: Stab = 1e-10,
        bias: Any = "absorb",
        low_layers: int = 1,
        **maps: Maps,
    ):
        low = [(lowest(low_layers), _alpha_beta(beta, bias))]
        super().__init__(Epsilon(epsilon, bias), Epsilon(epsilon, bias), low, stabilizer, **maps)


alias("caffe_11", "gradient")
alias("caffe_99", "sensitivity")
alias("caffe_26", "deconvnet")
alias("caffe_166", "guided_backprop")
# The names that the extension's Python wrapper has for some of them.
alias("eps_n_flat", "caffe_54")
alias("eps_n_wsquare", "caffe_56")
alias("ab_n_flat", "caffe_58")
alias("ab_n_wsquare", "caffe_60")
alias("layer_dep", "caffe_100")
alias("layer_dep_n_flat", "caffe_102")
alias("layer_dep_n_wsquare", "caffe_104")
alias("eps_n_ab", "caffe_114")
