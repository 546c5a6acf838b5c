"""The rules of PatternNet and PatternAttribution (Kindermans et al. 2018): gradients with patterns in the place of weights."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, cast

import numpy as np

from onnx_lrp.errors import CompositeError
from onnx_lrp.operators import AffineOperator, Operator, Role
from onnx_lrp.operators.weight_gradient import to_rows
from onnx_lrp.rules.base import Relevance, Rule, Site, relevance_of
from onnx_lrp.rules.stabilizer import TINY

if TYPE_CHECKING:
    from onnx_lrp.graph import Array, Node
    from onnx_lrp.patterns.store import Patterns


@dataclass(frozen=True)
class _PatternRule(Rule):
    """What both have in common.

    patterns: of this model, see onnx_lrp.patterns. Elementwise scalings y = w * x + b need none: their pattern is 1 / w.
    """

    patterns: Patterns
    roles: ClassVar[frozenset[Role]] = frozenset({Role.AFFINE})
    conserving: ClassVar[bool] = False

    def check(self, node: Node, operator: Operator) -> None:
        super().check(node, operator)
        if operator.kind not in ("convolution", "dense", "scale"):
            raise CompositeError(f"rule {self} does not fit node {node.name!r}: {node.op} has no weights")
        if operator.kind != "scale" and node.name not in self.patterns.arrays:
            raise CompositeError(f"the patterns have none for node {node.name!r} ({node.op}): they are of another model")

    def pattern(self, site: Site) -> Array:
        """A layer's pattern, after a look at whether it belongs to these weights."""
        node, weight = site.node, site.e.graph.constants[site.node.input(1)]
        pattern = self.patterns.arrays[node.name]
        if pattern.shape != weight.shape:
            shapes = f"weights of shape {weight.shape}, its pattern {pattern.shape}"
            raise CompositeError(f"the patterns are of another model: node {node.name!r} has {shapes}")
        self._check_totals(node.name, *(to_rows(node, values, site.e.graph) for values in (weight, pattern)))
        return pattern

    def _check_totals(self, name: str, weights: Array, patterns: Array) -> None:
        totals = self.patterns.totals.get(name)
        if totals is None:
            return
        if totals.shape != (len(weights),):
            raise CompositeError(f"the patterns are damaged: node {name!r} has {len(weights)} outputs, and totals of shape {totals.shape}")
        for index, (w, a, fitted) in enumerate(zip(weights, patterns, totals, strict=True)):
            products = w.astype(np.float64) * a
            # Weights may differ in their last digits, where another machine merged a normalization into them.
            if not abs(products.sum() - fitted) <= 1e-3 + 1e-5 * np.abs(products).sum():
                what = f"weights times pattern of output {index} of node {name!r} give {products.sum():.4g}, not {fitted:.4g}"
                raise CompositeError(f"the patterns are of another model: {what}")

    def backward_weight(self, site: Site) -> str | None:
        """Emits what stands in for the weights on the way back; None for ones."""
        raise NotImplementedError

    def propagate(self, site: Site, upstream: list[Relevance | None]) -> dict[int, Relevance]:
        operator = cast("AffineOperator", site.operator)
        passed = operator.layer_adjoint(site.e, site.node, relevance_of(upstream).tensor, self.backward_weight(site))
        return {operator.data_index(site.node, site.e.graph): Relevance(passed)}


@dataclass(frozen=True)
class PatternNet(_PatternRule):
    """J(A)^T R: the signal that the outputs respond to, in the space of the inputs. A scaling by w is undone: R / w, zero where w is.

    So the map does not depend on whether a scaling was merged into the weights next to it.
    """

    def backward_weight(self, site: Site) -> str | None:
        if site.operator.kind != "scale":
            return site.e.constant(self.pattern(site))
        if not site.node.input(1):
            return None
        weight = site.e.graph.constants[site.node.input(1)]
        return site.e.constant(np.divide(1.0, weight, out=np.zeros(weight.shape, np.float32), where=weight != 0))


@dataclass(frozen=True)
class PatternAttribution(_PatternRule):
    """J(W * A)^T R: what the signal in the inputs adds to the outputs.

    A scaling, whose pattern is 1 / w, passes relevance on unchanged.
    """

    def backward_weight(self, site: Site) -> str | None:
        if site.operator.kind == "scale":
            return None
        return site.e.mul(site.node.input(1), site.e.constant(self.pattern(site)))


@dataclass(frozen=True)
class Normalized(Rule):
    """rule(R / max |R|), the maximum over each sample (each entry of the first axis), so that signals do not grow from layer to layer.

    At a node that all relevance passes through this changes nothing but the scale of a sample's map.
    """

    rule: Rule
    roles: ClassVar[frozenset[Role]] = frozenset(Role) - {Role.STOP}
    conserving: ClassVar[bool] = False

    def check(self, node: Node, operator: Operator) -> None:
        self.rule.check(node, operator)

    def propagate(self, site: Site, upstream: list[Relevance | None]) -> dict[int, Relevance]:
        e, index = site.e, next(index for index, relevance in enumerate(upstream) if relevance is not None)
        flat = e.op("Reshape", relevance_of(upstream).tensor, e.ints(0, -1))
        largest = e.op("ReduceMax", e.op("Abs", flat), e.ints(1), keepdims=1)
        scaled = e.reshape_like(e.div(flat, e.op("Max", largest, e.constant(TINY))), site.node.outputs[index])
        return self.rule.propagate(site, [Relevance(scaled) if position == index else None for position in range(len(upstream))])
