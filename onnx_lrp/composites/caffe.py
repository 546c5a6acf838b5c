"""The formulas of lrp_toolbox's extension of Caffe, by the numbers that its configuration files have for them.

alpha is 1 + beta, and beta >= 0. The defaults of epsilon and beta are those of that extension's Python wrapper.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

from onnx_lrp.composites.base import Composite, Entry, Layered, Maps, Stab, base_map, box
from onnx_lrp.composites.registry import alias, register
from onnx_lrp.composites.selectors import by_type, first, lowest
from onnx_lrp.rules import AlphaBeta, Epsilon, Flat, Rule, WSquare

if TYPE_CHECKING:
    from onnx_lrp.graph import Array

FAMILY = "Formulas of the Caffe extension of lrp_toolbox"

CAFFENET = 6
"""How many convolutions and dense layers CaffeNet and AlexNet have up to Caffe's layer 15: conv1 to conv5, and fc6, which is layer 15."""
BOX_STABILIZER = 1e-6
"""Where ZBox is used: its denominator is a difference, and where that is zero rounding leaves more than the 1e-10 of the others."""


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


def _by_depth(lower_layers: int, bias: Any, *kinds: str) -> list[Entry]:
    """AlphaBeta(2, 1) on the layers of these kinds among the lower ones, AlphaBeta(1, 0) on the others."""
    return [(lowest(lower_layers) & by_type(*kinds), _alpha_beta(1.0, bias)), (by_type(*kinds), _alpha_beta(0.0, bias))]


def _bounded(key: str, low: float | Array | None, high: float | Array | None, stabilizer: Stab, bias: Any) -> Entry:
    return by_type("convolution") & first(), box(key, low, high, stabilizer, bias)


@register("caffe_6", FAMILY)
class Caffe6(Composite):
    """AlphaBeta(1 + beta, beta) on convolutions, ZBox(low, high) on first ones; AlphaBeta on dense layers, by depth as in caffe_18."""

    def __init__(
        self,
        *,
        low: float | Array | None = None,
        high: float | Array | None = None,
        beta: float = 0.0,
        stabilizer: Stab = BOX_STABILIZER,
        bias: Any = "absorb",
        lower_layers: int = CAFFENET,
        **maps: Maps,
    ):
        own: list[Entry] = [
            _bounded(self.key, low, high, stabilizer, bias),
            ("convolution", _alpha_beta(beta, bias)),
            *_by_depth(lower_layers, bias, "dense"),
            *base_map(stabilizer, bias),
        ]
        super().__init__(own, **maps)


@register("caffe_8", FAMILY)
class Caffe8(Composite):
    """Epsilon on convolutions, ZBox(low, high) on first ones; AlphaBeta on dense layers, by depth as in caffe_18."""

    def __init__(
        self,
        *,
        low: float | Array | None = None,
        high: float | Array | None = None,
        epsilon: Stab = 1e-10,
        stabilizer: Stab = BOX_STABILIZER,
        bias: Any = "absorb",
        lower_layers: int = CAFFENET,
        **maps: Maps,
    ):
        own: list[Entry] = [
            _bounded(self.key, low, high, stabilizer, bias),
            ("convolution", Epsilon(epsilon, bias)),
            *_by_depth(lower_layers, bias, "dense"),
            *base_map(stabilizer, bias),
        ]
        super().__init__(own, **maps)


@register("caffe_18", FAMILY)
class Caffe18(Composite):
    """AlphaBeta(2, 1) on the lower layers, AlphaBeta(1, 0) above, ZBox(low, high) on first convolutions.

    lower_layers is the number of convolutions and dense layers up to Caffe's layer 15; default: that of CaffeNet and AlexNet, five
    convolutions and fc6.
    """

    def __init__(
        self,
        *,
        low: float | Array | None = None,
        high: float | Array | None = None,
        stabilizer: Stab = BOX_STABILIZER,
        bias: Any = "absorb",
        lower_layers: int = CAFFENET,
        **maps: Maps,
    ):
        own: list[Entry] = [
            _bounded(self.key, low, high, stabilizer, bias),
            *_by_depth(lower_layers, bias, "convolution", "dense"),
            *base_map(stabilizer, bias),
        ]
        super().__init__(own, **maps)


@register("caffe_22", FAMILY)
class Caffe22(Composite):
    """AlphaBeta(2, 1) on the lower layers, AlphaBeta(1, 0) above; lower_layers as in caffe_18."""

    def __init__(self, *, stabilizer: Stab = 1e-10, bias: Any = "absorb", lower_layers: int = CAFFENET, **maps: Maps):
        super().__init__([*_by_depth(lower_layers, bias, "convolution", "dense"), *base_map(stabilizer, bias)], **maps)


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
