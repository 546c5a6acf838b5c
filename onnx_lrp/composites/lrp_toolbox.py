"""The variants of lrp_toolbox (Lapuschkin et al. 2016), with that library's own constants."""

from __future__ import annotations

from typing import Any

from onnx_lrp.composites.base import Composite, Entry, Maps, base_map, only_redistribute
from onnx_lrp.composites.registry import register
from onnx_lrp.composites.selectors import LAYER, by_role, by_type
from onnx_lrp.errors import CompositeError, suggest
from onnx_lrp.operators import Role
from onnx_lrp.rules import AlphaPlusBeta, Epsilon, Flat, FlatPool, Move, Pass, Rule, WindowSum, WSquare

FAMILY = "lrp_toolbox's variants"

_NAMES = {
    "none": "simple",
    "simple": "simple",
    "simple_slow": "simple",
    "epsilon": "epsilon",
    "epsilon_slow": "epsilon",
    "alphabeta": "alphabeta",
    "alpha": "alphabeta",
    "alphabeta_slow": "alphabeta",
    "alpha_slow": "alphabeta",
    "flat": "flat",
    "ww": "ww",
    "w^2": "ww",
}


def _rules(variant: str | None, param: float | None, bias: Any) -> tuple[Rule, Rule, Rule]:
    """The rules of a variant for convolutions and dense layers, for sum and average pools, and for maximum pools."""
    name = "none" if variant is None else str(variant).lower()
    if name not in _NAMES:
        raise CompositeError(f"lrp_toolbox has no variant {variant!r}{suggest(name, _NAMES)}")
    takes = _NAMES[name] in ("epsilon", "alphabeta")
    if takes and param is None:
        raise CompositeError(f"lrp_toolbox's variant {name!r} needs param=, its {'epsilon' if 'eps' in name else 'alpha'}")
    if param is not None and not takes:
        raise CompositeError(f"lrp_toolbox's variant {name!r} takes no param")
    value = 0.0 if param is None else param
    spread = only_redistribute(bias, "ignore")
    match _NAMES[name]:
        case "simple":
            return Epsilon(1e-16, bias), WindowSum(1e-12, spread), Move("split")
        case "epsilon":
            return Epsilon(value, bias), WindowSum(value, spread), Move("split")
        case "alphabeta":
            return AlphaPlusBeta(value, 1e-16, bias), AlphaPlusBeta(value, 1e-16, only_redistribute(bias, "absorb")), Move("split")
        case "flat":
            return Flat(0.0, spread), Flat(0.0, spread), FlatPool()
    return WSquare(0.0, spread), Flat(0.0, spread), FlatPool()


@register("lrp_toolbox", FAMILY)
class LrpToolbox(Composite):
    """One variant on all layers: simple, epsilon (param: epsilon), alphabeta (param: alpha; beta = 1 - alpha), flat, ww.

    Equal maxima share, pools of flat and ww spread evenly, and elementwise layers pass relevance on unchanged. Where that library divides
    zero by zero, nothing is passed.
    """

    def __init__(self, *, variant: str | None = "simple", param: float | None = None, bias: Any = "absorb", **maps: Maps):
        layer, pool, maximum = _rules(variant, param, bias)
        own: list[Entry] = [
            (LAYER, layer),
            (by_type("pool") & by_role(Role.AFFINE), pool),
            (by_type("MaxPool", "GlobalMaxPool", "ReduceMax", "ReduceMin"), maximum),
            (by_type("max_pool"), Move("split")),
            (by_type("scale", "softmax"), Pass()),
            *base_map(1e-12, bias),
        ]
        super().__init__(own, **maps)
