"""The composites of the pattern methods."""

from __future__ import annotations

import os
from collections.abc import Iterable
from typing import TypeAlias

from onnx_lrp.composites.base import Composite, Entry, Maps
from onnx_lrp.composites.registry import alias, register
from onnx_lrp.composites.selectors import by_role, by_type, where
from onnx_lrp.errors import CompositeError
from onnx_lrp.operators import Role
from onnx_lrp.patterns import Patterns
from onnx_lrp.rules import Gradient, Normalized, PatternAttribution, PatternNet

FAMILY = "Pattern methods"

PatternSource: TypeAlias = "Patterns | str | os.PathLike[str] | None"

WEIGHTED = by_type("convolution", "dense", "scale")
BOTTLENECK = where(lambda view: view.bottleneck, "bottleneck")


def _given(patterns: PatternSource, key: str) -> Patterns:
    if isinstance(patterns, (str, os.PathLike)):
        return Patterns.load(patterns)
    if not isinstance(patterns, Patterns):
        raise CompositeError(f"{key} needs patterns=, fitted to the model by onnx_lrp.fit_patterns, or the file that holds them")
    return patterns


def _with_gradient(entries: Iterable[Entry]) -> list[Entry]:
    return [*entries, (where(lambda _: True, "any"), Gradient())]


@register("pattern_net", FAMILY)
class PatternNetComposite(Composite):
    """PatternNet on convolutions, dense layers and scalings, else the gradient (Kindermans et al. 2018); needs patterns.

    patterns: Patterns, or the path of a file that holds them.
    normalize: bring each sample's signal to a largest value of one wherever all of it passes through one layer or sum. Signals grow
        from layer to layer and would overflow float32 in deep networks; only the scale of a sample's map is lost.
    """

    def __init__(self, *, patterns: PatternSource = None, normalize: bool = True, **maps: Maps):
        rule = PatternNet(_given(patterns, "pattern_net"))
        own: list[Entry] = [(WEIGHTED, rule)]
        if normalize:
            joins = by_role(Role.SUM) | by_type("Concat")
            own = [(BOTTLENECK & WEIGHTED, Normalized(rule)), (BOTTLENECK & joins, Normalized(Gradient())), *own]
        super().__init__(_with_gradient(own), **maps)


@register("pattern_attribution", FAMILY)
class PatternAttributionComposite(Composite):
    """PatternAttribution on convolutions, dense layers and scalings, else the gradient (Kindermans et al. 2018); needs patterns.

    patterns: Patterns, or the path of a file that holds them.
    """

    def __init__(self, *, patterns: PatternSource = None, **maps: Maps):
        super().__init__(_with_gradient([(WEIGHTED, PatternAttribution(_given(patterns, "pattern_attribution")))]), **maps)


alias("pattern.net", "pattern_net")
alias("pattern.attribution", "pattern_attribution")
