"""The engine of all rules for affine nodes: a rule is a list of shares."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Literal, cast

from onnx_lrp.errors import CompositeError
from onnx_lrp.operators import AffineOperator, Operator, Role
from onnx_lrp.rules.base import Relevance, Rule, Site, is_zero, note_stabilizer, relevance_of
from onnx_lrp.rules.linear import FULL, NEGATIVE, POSITIVE, LinearView, Part, Source
from onnx_lrp.rules.spreading import is_lost, share_evenly
from onnx_lrp.rules.stabilizer import Stabilizer

if TYPE_CHECKING:
    from onnx_lrp.graph import Node

Bias = Literal["absorb", "ignore", "redistribute"]


@dataclass(frozen=True)
class Branch:
    """One term J(part of W) source of a denominator, and of its numerators."""

    source: Source
    part: Part


@dataclass(frozen=True)
class Share:
    """A fraction of the relevance: with z = sum_k J(W_k) x_k + b and s = R / stab(z), it gives sum_k x_k * J(W_k)^T s."""

    branches: tuple[Branch, ...]
    bias: Part | None = None
    coefficient: float = 1.0
    where: Literal["everywhere", "positive", "negative"] = "everywhere"
    """Only for outputs of this sign: that of J(W) x + b, without b when the rule ignores the bias. z then has the same sign."""
    sign: int = 0
    """The sign of z where it is known by construction."""


@dataclass(frozen=True)
class AffineRule(Rule):
    """Base of the rules for affine nodes. Subclasses say their shares.

    stabilizer: a number or a Stabilizer.
    bias: "absorb" (the bias keeps its part of the relevance), "ignore" (b = 0 in the relevance pass) or "redistribute" (what no input gets,
    the inputs share, so that the layer conserves).

    With bias="redistribute", n_j the number of inputs that feed output j, and the sum over i the one over those inputs,

        R_i = sum_j (z_ij + (b_j + stab(z_j) - z_j) / n_j) / stab(z_j) * R_j,

    so that all of R_j leaves, the parts of the bias and of the stabiliser in equal shares. Where z_j is zero, R_i = sum_j R_j / n_j; and so
    where z_j is no larger than its own rounding error, |z_j| <= ROUNDING * (sum_i |z_ij| + |b_j|). A layer with one input for each
    output passes R on. Relevance that a rule drops by its option empty="drop" stays dropped.
    """

    roles: ClassVar[frozenset[Role]] = frozenset({Role.AFFINE})
    parts_signs: ClassVar[bool] = True
    """Whether it treats positive and negative weights apart."""
    splits: ClassVar[bool] = False
    """Whether each term w x of the forward value belongs to exactly one share, so that the denominators add up to that value."""

    def shares(self) -> Sequence[Share]:
        """The shares that the rule consists of."""
        raise NotImplementedError

    @property
    def stab(self) -> Stabilizer:
        return Stabilizer.of(getattr(self, "stabilizer", 1e-6))

    @property
    def bias_mode(self) -> str:
        """What becomes of the bias's part."""
        return str(getattr(self, "bias", "absorb"))

    @property
    def redistributes(self) -> bool:
        """Whether the inputs share what no input gets."""
        return self.bias_mode == "redistribute"

    @property
    def drops_empty(self) -> bool:
        """Whether an empty sign part's coefficient is dropped on purpose."""
        return getattr(self, "empty", "conserve") == "drop"

    @property
    def conserves_empty(self) -> bool:
        """Whether an empty sign part's coefficient goes to the other part."""
        return getattr(self, "empty", "drop") == "conserve"

    def __post_init__(self) -> None:
        if self.bias_mode not in ("absorb", "ignore", "redistribute"):
            raise CompositeError(f'{type(self).__name__}: bias is "absorb", "ignore" or "redistribute", not {self.bias_mode!r}')
        self.stab  # noqa: B018 - raises for a bad stabiliser

    def check(self, node: Node, operator: Operator) -> None:
        super().check(node, operator)
        if self.parts_signs and isinstance(operator, AffineOperator) and operator.mixed_signs(node):
            raise CompositeError(f"rule {self} does not fit node {node.name!r}: {node.op} has fixed weights of both signs")

    def propagate(self, site: Site, upstream: list[Relevance | None]) -> dict[int, Relevance]:
        relevance = relevance_of(upstream)
        view = LinearView(site, cast("AffineOperator", site.operator))
        if self.redistributes and not self.drops_empty and site.operator.kind == "scale":
            return {view.index: Relevance(site.e.unbroadcast(relevance.tensor, view.x, site.node.outputs[0]))}
        emitted = [share for share in (_ShareEmission.of(self, view, share, relevance) for share in self.shares()) if share is not None]
        if self.splits and len(emitted) == len(self.shares()) > 1 and all(emission.branches for emission in emitted):
            view.sum_up([emission.z for emission in emitted], with_bias=self.bias_mode != "ignore")
        return {view.index: combine(self, view, relevance, emitted)}


class _ShareEmission:
    """One share on one node: its denominator z and the branches that are not empty."""

    def __init__(self, rule: AffineRule, view: LinearView, share: Share, branches: list[Branch], relevance: Relevance):
        self.view, self.share, self.branches, self.relevance, self.stab = view, share, branches, relevance, rule.stab
        bias = share.bias if rule.bias_mode != "ignore" else None
        self.bias_part = bias
        self.only_positive = _only_positive(rule, view, relevance)
        self.twin = relevance.twin if bias == FULL and [(b.source, b.part) for b in branches] == [(Source.X, FULL)] else None
        self.z = self.twin or self._denominator(bias)

    @classmethod
    def of(cls, rule: AffineRule, view: LinearView, share: Share, relevance: Relevance) -> _ShareEmission | None:
        """None when the share passes nothing on whatever the input: its weights or its input have no part of that sign."""
        if share.where == "negative" and _only_positive(rule, view, relevance):
            return None
        branches = []
        for branch in share.branches:
            part = view.simplified(view.weight, branch.part)
            source = Source.X if branch.source is Source.POSITIVE and view.x_nonnegative else branch.source
            if part is not None and not (source is Source.NEGATIVE and view.x_nonnegative):
                branches.append(Branch(source, part))
        if not branches and not cls._bias_counts(rule, view, share):
            return None
        return cls(rule, view, share, _merged(branches), relevance)

    @staticmethod
    def _bias_counts(rule: AffineRule, view: LinearView, share: Share) -> bool:
        """Whether a share of the bias alone changes what is passed on: it is spread, or it keeps the share from being empty."""
        wanted = rule.redistributes or rule.conserves_empty
        return wanted and rule.bias_mode != "ignore" and view.bias_tensor(share.bias) is not None

    def _denominator(self, bias: Part | None) -> str:
        cheap = self._boosted_denominator(bias)
        if cheap is not None:
            return cheap
        if not self.branches:
            return self.view.bias_tensor(bias) or ""
        total, pending = "", bias
        for branch in self.branches:
            term = self.view.apply(self.view.source(branch.source) or "", branch.part, pending)
            total, pending = (self.view.e.add(total, term) if total else term), None
        return total

    def _boosted_denominator(self, bias: Part | None) -> str | None:
        """Where both shares of the gamma rule are needed: with p = J(W+) x+ + J(W-) x- + b+ and the forward value z,

        J(W + g W+) x+ + J(W + g W-) x- + b + g b+ = z + g p  and, with + and - exchanged,  (1 + g) z - g p: p serves both. The second one
        counts where z < 0 alone, so nothing cancels.
        """
        parts = [branch.part for branch in self.branches]
        if self.share.where == "everywhere" or self.only_positive or bias is None or self.view.weight is None:
            return None
        if not parts or any(part.kind not in ("boosted+", "boosted-") for part in parts):
            return None
        e, view, gamma = self.view.e, self.view, parts[0].gamma
        z, p = view.node.outputs[0], ""
        for source, part in [(Source.POSITIVE, POSITIVE), (Source.NEGATIVE, NEGATIVE)]:
            values = view.source(source)
            if values is None or view.simplified(view.weight, part) is None:
                continue
            p = e.add(p, view.apply(values, part)) if p else view.apply(values, part, POSITIVE)
        if not p:
            return None
        boost = e.scale(p, gamma)
        return e.add(z, boost) if self.share.where == "positive" else e.sub(e.scale(z, 1 + gamma), boost)

    def denominator(self) -> str:
        e, z, sign = self.view.e, self.z, self.share.sign
        if self.twin or z in self.view.site.nonnegative:
            sign = 1
        elif (self.relevance.positive and z == self.view.node.outputs[0]) or self.share.where == "positive":
            z, sign = e.op("Relu", z), 1
        elif self.share.where == "negative":
            z, sign = e.op("Min", z, e.constant(0.0)), -1
        return self.stab.emit(e, z, sign, self._denominator(self.bias_part) if self.twin else self.z)

    def quotient(self, received: str) -> str:
        """s, what this share distributes divided by its denominator; from the relevance's factor where z is what that is a factor of."""
        e, relevance = self.view.e, self.relevance
        if relevance.factor and received == relevance.tensor and self.z == (relevance.twin or self.view.node.outputs[0]):
            ratio = self.stab.ratio(e, self.z, 1 if self.twin or self.z in self.view.site.nonnegative else 0)
            if ratio is not None:
                return e.mul(relevance.factor, ratio)
        return e.div(received, self.denominator())

    def is_empty(self) -> str:
        """Where there is nothing to divide by: z is zero, or a sum of large terms of both signs that is as small as its rounding error."""
        e, view, sign = self.view.e, self.view, self.share.sign
        mixed = [(branch.source, branch.part) for branch in self.branches if branch.source is Source.X]
        if sign or self.twin or not mixed or view.operator.mixed_signs(view.node):
            return is_zero(e, self.z)
        return is_lost(e, self.z, view.magnitude(mixed[0][1], self.bias_part))

    def received(self, coefficient: str | None = None) -> str:
        """The relevance that this share distributes: times its coefficient, and zero where it does not apply."""
        e, r = self.view.e, self.relevance.tensor
        if self.share.where != "everywhere" and not self.only_positive:
            value = self.view.apply(self.view.x, FULL, self.bias_part and FULL)
            r = e.mul(r, e.step(value, below=self.share.where == "negative"))
        return e.mul(r, coefficient) if coefficient else e.scale(r, self.share.coefficient)


def _only_positive(rule: AffineRule, view: LinearView, relevance: Relevance) -> bool:
    """Whether the relevance is zero wherever the forward value is not positive; the value without bias has signs of its own."""
    return relevance.positive and (view.bias is None or rule.bias_mode != "ignore")


def _merged(branches: list[Branch]) -> list[Branch]:
    """x+ and x- under the same part of the weights are x under that part."""
    if len(branches) == 2 and {b.source for b in branches} == {Source.POSITIVE, Source.NEGATIVE} and branches[0].part == branches[1].part:
        return [Branch(Source.X, branches[0].part)]
    return branches


def combine(rule: AffineRule, view: LinearView, relevance: Relevance, shares: list[_ShareEmission]) -> Relevance:
    """Emits s and the adjoint of each share, adds them up, and spreads or writes down what was not passed on."""
    e, ledger = view.e, view.site.ledger
    by_source: dict[Source, list[str]] = {}
    given: list[str] = []
    received = _received(rule, view, shares)
    for emission, r in zip(shares, received, strict=True):
        if rule.redistributes:
            s = e.div(r, e.op("Where", emission.is_empty(), e.constant(float("inf")), emission.denominator()))
        else:
            s = emission.quotient(r)
        for branch in emission.branches:
            by_source.setdefault(branch.source, []).append(view.adjoint(s, branch.part))
        bias = view.bias_tensor(emission.bias_part)
        if rule.redistributes:
            given.append(e.mul(s, e.sub(emission.z, bias) if bias else emission.z))
        elif ledger.keeps:
            if bias:
                ledger.note("bias", e.mul(bias, s))
            if emission.stab.epsilon:
                note_stabilizer(view.site, emission.z, emission.denominator(), s)
    taken = _taken(view, shares, received) if rule.redistributes or ledger.keeps else ""
    spread: list[str] = []
    if rule.redistributes:
        whole = taken if rule.drops_empty else relevance.tensor
        if whole:
            spread.append(share_evenly(view.site, e.sub(whole, e.sum(given)) if given else whole))
    if ledger.keeps and (rule.drops_empty or not rule.redistributes):
        ledger.note("dropped", e.sub(relevance.tensor, taken) if taken else relevance.tensor)
    terms = []
    factor = None
    for source, adjoints in by_source.items():
        total = e.sum(adjoints)
        terms.append(total if source is Source.ONE else e.mul(view.source(source) or "", total))
        factor = total if list(by_source) == [Source.X] and not spread else None
    if not terms + spread:
        return Relevance(e.mul(view.x, e.constant(0.0)), vanishes=True)
    return Relevance(e.sum(terms + spread), vanishes=Source.ONE not in by_source and not spread, factor=factor)


def _received(rule: AffineRule, view: LinearView, shares: list[_ShareEmission]) -> list[str]:
    """What each share distributes; with empty="conserve" an empty part's coefficient goes to the other part."""
    if not rule.conserves_empty:
        return [emission.received() for emission in shares]
    if len(shares) == 1:
        return [emission.relevance.tensor for emission in shares]
    e, result = view.e, []
    for emission, other in zip(shares, shares[::-1], strict=True):
        gone = e.op("And", e.op("Equal", other.z, e.constant(0.0)), e.op("Not", e.op("Equal", emission.z, e.constant(0.0))))
        result.append(emission.received(e.op("Where", gone, e.constant(1.0), e.constant(emission.share.coefficient))))
    return result


def _taken(view: LinearView, shares: list[_ShareEmission], received: list[str]) -> str:
    """What the shares distribute, but where they have nothing to distribute to: the denominator is zero. '' without shares."""
    e = view.e
    taken = [e.op("Where", is_zero(e, emission.z), e.constant(0.0), r) for emission, r in zip(shares, received, strict=True)]
    return e.sum(taken) if taken else ""


__all__ = ["AffineRule", "Bias", "Branch", "Share"]
