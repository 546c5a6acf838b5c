"""The rules for affine nodes, each as its formula.

Notation: x input, W weights, b bias, z = J(W) x + b, R relevance of the output, a+ = max(a, 0), a- = min(a, 0); J(W) is the layer's linear
map with weights W and J(W)^T its adjoint; stab(z) is a Stabilizer. All of them take `stabilizer` (a number or a Stabilizer) and `bias`
("absorb", "ignore", "redistribute"), see AffineRule.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Literal, cast

import numpy as np

from onnx_lrp.errors import CompositeError
from onnx_lrp.operators import AffineOperator, Operator, Role
from onnx_lrp.rules.affine import AffineRule, Bias, Branch, Share
from onnx_lrp.rules.base import Relevance, Site, note_division, relevance_of
from onnx_lrp.rules.linear import FULL, NEGATIVE, ONES, POSITIVE, SQUARE, LinearView, Source, boosted, bounds
from onnx_lrp.rules.spreading import is_lost, share_evenly
from onnx_lrp.rules.stabilizer import Stabilizer

if TYPE_CHECKING:
    from onnx_lrp.graph import Array, Node

X, X_POSITIVE, X_NEGATIVE, ONE = Source.X, Source.POSITIVE, Source.NEGATIVE, Source.ONE


def _number(rule: AffineRule, name: str, *, least: float = 0.0, error: type[CompositeError] = CompositeError) -> None:
    value = getattr(rule, name)
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not least <= value < float("inf") or value == float("-inf"):
        allowed = "a finite number" if least == float("-inf") else f"a finite number >= {least:g}"
        raise error(f"{type(rule).__name__}: {name} is {allowed}, not {value!r}")


@dataclass(frozen=True)
class Epsilon(AffineRule):
    """x * J(W)^T [R / stab(z)], epsilon 1e-6 (Bach et al. 2015, eq. 58).

    On a normalisation: the same with its statistics held constant (Ali et al. 2022).
    """

    epsilon: float | Stabilizer = 1e-6
    bias: Bias = "absorb"
    stabilizer: float | Stabilizer | None = None
    """Another name for epsilon, as the other rules call it."""
    roles: ClassVar[frozenset[Role]] = frozenset({Role.AFFINE, Role.NORMALIZATION})
    parts_signs: ClassVar[bool] = False

    def shares(self) -> Sequence[Share]:
        return [Share((Branch(X, FULL),), FULL)]

    @property
    def stab(self) -> Stabilizer:
        return Stabilizer.of(self.epsilon if self.stabilizer is None else self.stabilizer)

    def check(self, node: Node, operator: Operator) -> None:
        super().check(node, operator)
        if operator.role is Role.NORMALIZATION and not hasattr(operator, "slope"):
            raise CompositeError(f"rule {self} does not fit node {node.name!r}: {node.op}")

    def propagate(self, site: Site, upstream: list[Relevance | None]) -> dict[int, Relevance]:
        if site.operator.role is not Role.NORMALIZATION:
            return super().propagate(site, upstream)
        e, relevance = site.e, relevance_of(upstream)
        if self.redistributes:  # with its statistics held constant it has one input for each output
            return {0: Relevance(relevance.tensor)}
        x, y = site.node.input(0), site.node.outputs[0]
        denominator = self.stab.emit(e, y)
        s = e.div(relevance.tensor, denominator)
        passed = e.mul(x, e.mul(site.operator.slope(e, site.node), s))  # type: ignore[attr-defined]
        note_division(site, self.stab, relevance.tensor, y, denominator)
        if site.ledger.keeps:
            constant = e.sub(y, e.mul(x, site.operator.slope(e, site.node)))  # type: ignore[attr-defined]
            site.ledger.note("bias", e.mul(constant, s))
        return {0: Relevance(passed, vanishes=True)}


@dataclass(frozen=True)
class Zero(Epsilon):
    """LRP-0: x * J(W)^T [R / z], where a division by zero gives 0 (Bach et al. 2015, eq. 56)."""

    epsilon: float | Stabilizer = 0.0


@dataclass(frozen=True)
class ZPlus(AffineRule):
    """s = R / stab(J(W+) x+ + J(W-) x- + b+); x+ * J(W+)^T s + x- * J(W-)^T s (Montavon et al. 2017; alpha 1, beta 0)."""

    stabilizer: float | Stabilizer = 1e-6
    bias: Bias = "absorb"

    def shares(self) -> Sequence[Share]:
        return [Share((Branch(X_POSITIVE, POSITIVE), Branch(X_NEGATIVE, NEGATIVE)), POSITIVE, sign=1)]


@dataclass(frozen=True)
class AlphaBeta(AffineRule):
    """alpha * (the ZPlus part) - beta * (the same with J(W-) x+ + J(W+) x- + b-), alpha - beta = 1 (Bach et al. 2015, eq. 60).

    empty: what happens at outputs where one of the parts is zero: "drop" (the part returns nothing: relevance grows or shrinks, as in all
    other implementations) or "conserve" (its coefficient goes to the other part).
    """

    alpha: float = 2.0
    beta: float = 1.0
    stabilizer: float | Stabilizer = 1e-6
    bias: Bias = "absorb"
    empty: Literal["drop", "conserve"] = "drop"
    splits: ClassVar[bool] = True

    def __post_init__(self) -> None:
        super().__post_init__()
        _number(self, "alpha", error=AlphaBetaError)
        _number(self, "beta", error=AlphaBetaError)
        if not np.isclose(self.alpha - self.beta, 1.0):
            raise AlphaBetaError(f"AlphaBeta: alpha - beta is 1, not {self.alpha:g} - {self.beta:g}")
        if self.empty not in ("drop", "conserve"):
            raise CompositeError(f'AlphaBeta: empty is "drop" or "conserve", not {self.empty!r}')

    def shares(self) -> Sequence[Share]:
        return [share for share in _sign_shares(self.alpha, -self.beta) if share.coefficient or self.empty == "conserve"]


def _sign_shares(positive: float, negative: float) -> tuple[Share, Share]:
    """The shares of the positive and of the negative contributions, with their coefficients."""
    return (
        Share((Branch(X_POSITIVE, POSITIVE), Branch(X_NEGATIVE, NEGATIVE)), POSITIVE, float(positive), sign=1),
        Share((Branch(X_POSITIVE, NEGATIVE), Branch(X_NEGATIVE, POSITIVE)), NEGATIVE, float(negative), sign=-1),
    )


@dataclass(frozen=True)
class AlphaPlusBeta(AffineRule):
    """alpha * (the ZPlus part) + (1 - alpha) * (the same with J(W-) x+ + J(W+) x- + b-), for any alpha, as lrp_toolbox has it.

    For alpha >= 1 it is AlphaBeta(alpha, alpha - 1); alpha = 0 explains by the negative contributions alone.
    """

    alpha: float = 2.0
    stabilizer: float | Stabilizer = 1e-6
    bias: Bias = "absorb"
    splits: ClassVar[bool] = True

    def __post_init__(self) -> None:
        super().__post_init__()
        _number(self, "alpha", least=float("-inf"))

    def shares(self) -> Sequence[Share]:
        return [share for share in _sign_shares(self.alpha, 1 - self.alpha) if share.coefficient]


class AlphaBetaError(CompositeError, ValueError):
    """alpha or beta is below zero, or they do not fit together."""


@dataclass(frozen=True)
class _Boosting(AffineRule):
    """What both gamma rules have: a factor gamma >= 0 by which weights of one sign count more."""

    gamma: float = 0.25
    stabilizer: float | Stabilizer = 1e-6
    bias: Bias = "absorb"

    def __post_init__(self) -> None:
        super().__post_init__()
        _number(self, "gamma")


@dataclass(frozen=True)
class Gamma(_Boosting):
    """Generalised gamma (Andeol et al. 2021). With Wp = W + gamma W+, Wn = W + gamma W-, and bp, bn alike:

    where z > 0: s = R / stab(J(Wp) x+ + J(Wn) x- + bp), giving x+ * J(Wp)^T s + x- * J(Wn)^T s;
    where z < 0: Wp and Wn, bp and bn change places; where z = 0 nothing passes.
    """

    def shares(self) -> Sequence[Share]:
        p, n = boosted(self.gamma, +1), boosted(self.gamma, -1)
        return [
            Share((Branch(X_POSITIVE, p), Branch(X_NEGATIVE, n)), p, where="positive"),
            Share((Branch(X_POSITIVE, n), Branch(X_NEGATIVE, p)), n, where="negative"),
        ]


@dataclass(frozen=True)
class ClassicGamma(_Boosting):
    """W' = W + gamma W+, b' = b + gamma b+: x * J(W')^T [R / stab(J(W') x + b')] (Montavon et al. 2019)."""

    def shares(self) -> Sequence[Share]:
        return [Share((Branch(X, boosted(self.gamma, +1)),), boosted(self.gamma, +1))]


@dataclass(frozen=True)
class WSquare(AffineRule):
    """J(W^2)^T [R / stab(J(W^2) 1)] (Montavon et al. 2017). The bias is left out; bias="square" adds b^2 to the denominator."""

    stabilizer: float | Stabilizer = 1e-6
    bias: Literal["ignore", "square", "redistribute"] = "ignore"
    parts_signs: ClassVar[bool] = False

    def __post_init__(self) -> None:
        self.stab  # noqa: B018 - raises for a bad stabiliser
        if self.bias not in ("ignore", "square", "absorb", "redistribute"):
            raise CompositeError(f'WSquare: bias is "ignore", "square" or "redistribute", not {self.bias!r}')

    def shares(self) -> Sequence[Share]:
        return [Share((Branch(ONE, SQUARE),), SQUARE if self.bias == "square" else None, sign=1)]


@dataclass(frozen=True)
class Flat(AffineRule):
    """J(1)^T [R / stab(J(1) 1)]: all weights one, no bias (Bach et al. 2015)."""

    stabilizer: float | Stabilizer = 1e-6
    bias: Bias = "ignore"
    parts_signs: ClassVar[bool] = False

    def shares(self) -> Sequence[Share]:
        return [Share((Branch(ONE, ONES),), None, sign=1)]


@dataclass(frozen=True)
class WindowSum(AffineRule):
    """x * J(1)^T [R / stab(J(1) x)]: each input gets its part of the plain sum of its window, as at lrp_toolbox's pools.

    Norm stabilises the pool's own output instead, which is smaller by the size of the window for a mean.
    """

    stabilizer: float | Stabilizer = 1e-6
    bias: Bias = "ignore"
    parts_signs: ClassVar[bool] = False

    def shares(self) -> Sequence[Share]:
        return [Share((Branch(X, ONES),))]


@dataclass(frozen=True)
class ZBox(AffineRule):
    """s = R / stab(J(W) x - J(W+) low - J(W-) high); x * J(W)^T s - low * J(W+)^T s - high * J(W-)^T s (Montavon et al. 2017).

    low, high: the smallest and largest values that the explained input can have: numbers, one per channel, or arrays shaped like the input
    (without batch). The bias cancels.
    """

    low: float | Array | None = None
    high: float | Array | None = None
    stabilizer: float | Stabilizer = 1e-6
    bias: Bias = "ignore"

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.low is None or self.high is None:
            raise CompositeError("ZBox needs low= and high=, the smallest and largest values that the input can have")
        try:
            low, high = np.asarray(self.low, np.float64), np.asarray(self.high, np.float64)
            fits = np.isfinite(low).all() and np.isfinite(high).all() and bool(np.all(low <= high))
        except (TypeError, ValueError):
            raise CompositeError(f"ZBox: low and high are numbers or arrays of one shape, not {self.low!r} and {self.high!r}") from None
        if not fits:
            raise CompositeError("ZBox: low and high are finite and low <= high")

    def propagate(self, site: Site, upstream: list[Relevance | None]) -> dict[int, Relevance]:
        """As J(W) is J(W+) + J(W-), the result is (x - low) * J(W+)^T s + (x - high) * J(W-)^T s: two adjoints instead of three.

        Within the bounds both terms have the sign of s: nothing cancels. J(W)^T s in place of one of these adjoints would, and where z is
        zero, as on blank background, s is up to a million times R.
        """
        view = LinearView(site, cast("AffineOperator", site.operator))
        e, relevance = site.e, relevance_of(upstream)
        low, high = bounds(site, cast("float | Array", self.low), cast("float | Array", self.high))
        one = view.source(ONE) or ""
        constant = []
        parts = [(low, view.simplified(view.weight, POSITIVE)), (high, view.simplified(view.weight, NEGATIVE))]
        constant += [view.apply(e.mul(one, value), part) for value, part in parts if part is not None]
        bias = view.bias_tensor(FULL)
        z = e.sub(site.node.outputs[0], e.sum([*constant, *([bias] if bias else [])]))
        denominator = self.stab.emit(e, z)
        if self.redistributes:
            largest = e.mul(one, e.op("Max", e.op("Abs", low), e.op("Abs", high)))
            lost = is_lost(e, z, view.magnitude(FULL, FULL, largest))
            denominator = e.op("Where", lost, e.constant(float("inf")), denominator)
        s = e.div(relevance.tensor, denominator)
        terms = [e.mul(e.sub(view.x, value), view.adjoint(s, part)) for value, part in parts if part is not None]
        result = e.sum(terms) if terms else e.mul(view.x, e.constant(0.0))
        if self.redistributes:
            result = e.add(result, share_evenly(site, e.sub(relevance.tensor, e.mul(s, z))))
        else:
            note_division(site, self.stab, relevance.tensor, z, denominator)
        return {view.index: Relevance(result)}
