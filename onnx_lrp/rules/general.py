"""Rules that work on nodes of several roles: what moves, adds, multiplies, selects or stops relevance, and the gradients."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

from onnx_lrp.errors import CompositeError
from onnx_lrp.graph import Node
from onnx_lrp.operators import AffineOperator, Operator, Role
from onnx_lrp.operators.activation import PointwiseOperator, ReluOperator
from onnx_lrp.operators.combine import SumOperator
from onnx_lrp.operators.pool import MaxPoolOperator
from onnx_lrp.rules.base import Relevance, Rule, Site, note_division, relevance_of
from onnx_lrp.rules.lrp import Epsilon
from onnx_lrp.rules.spreading import share_sum
from onnx_lrp.rules.stabilizer import Stabilizer

_ALL = frozenset(Role) - {Role.STOP}


def _tensors(upstream: list[Relevance | None]) -> list[str | None]:
    return [None if relevance is None else relevance.tensor for relevance in upstream]


@dataclass(frozen=True)
class Gradient(Rule):
    """J^T R: the vector-Jacobian product, with the true derivative at every node."""

    roles: ClassVar[frozenset[Role]] = _ALL
    conserving: ClassVar[bool] = False
    rectifies: ClassVar[bool] = True

    def propagate(self, site: Site, upstream: list[Relevance | None]) -> dict[int, Relevance]:
        if isinstance(site.operator, ReluOperator) and relevance_of(upstream).positive:
            return {0: Relevance(relevance_of(upstream).tensor, positive=True)}
        if isinstance(site.operator, MaxPoolOperator) and site.node.input(0) in site.rectified:
            return {0: Relevance(self._to_positive(site, relevance_of(upstream)), positive=True)}
        return {index: Relevance(tensor) for index, tensor in site.operator.gradient(site.e, site.node, _tensors(upstream)).items()}

    @staticmethod
    def _to_positive(site: Site, relevance: Relevance) -> str:
        """The gradient at a maximum of a ReLU's outputs, with the ReLU's own derivative: winners are as large as the maximum, so that this
        derivative is known before relevance is spread out to them, where there are fewer elements.
        """
        masked = relevance.tensor if relevance.positive else site.e.mul(relevance.tensor, site.e.step(site.node.outputs[0]))
        return site.operator.gradient(site.e, site.node, [masked])[0]


@dataclass(frozen=True)
class Move(Rule):
    """Relevance moves with the elements; copies of an element add up, and a maximum's goes to its winner.

    ties: where several elements of a maximum are equal, the "first" gets all, or all share equally ("split", as in lrp_toolbox).
    """

    ties: Literal["first", "split"] = "first"
    roles: ClassVar[frozenset[Role]] = frozenset({Role.ROUTE})

    def __post_init__(self) -> None:
        if self.ties not in ("first", "split"):
            raise CompositeError(f'Move: ties is "first" or "split", not {self.ties!r}')

    def propagate(self, site: Site, upstream: list[Relevance | None]) -> dict[int, Relevance]:
        vanishes = all(relevance is None or relevance.vanishes for relevance in upstream)
        if site.node.op == "Pad" and site.ledger.keeps:
            self._note_padding(site, relevance_of(upstream).tensor)
        if self.ties == "split" and hasattr(site.operator, "to_all"):
            moved = {0: site.operator.to_all(site.e, site.node, relevance_of(upstream).tensor)}
        else:
            moved = site.operator.gradient(site.e, site.node, _tensors(upstream))
        factors = self._factors(site, upstream)
        return {index: Relevance(tensor, vanishes=vanishes, factor=factors.get(index)) for index, tensor in moved.items()}

    @staticmethod
    def _factors(site: Site, upstream: list[Relevance | None]) -> dict[int, str]:
        """The factors move like the relevance: y_j = x_i makes R_i = sum of y_j f_j = x_i times the sum of f_j.

        Not those of a maximum: its input has more elements than its output, and multiplying there would cost more than it saves.
        """
        if site.operator.kind == "max_pool" or not all(r is None or (r.factor and r.twin is None) for r in upstream):
            return {}
        return site.operator.gradient(site.e, site.node, [None if r is None else r.factor for r in upstream])

    @staticmethod
    def _note_padding(site: Site, r: str) -> None:
        """Relevance of padded constants goes nowhere: what is zero when one pads the ones of the input."""
        if site.node.attributes.get("mode", "constant") != "constant":
            return
        e, node = site.e, site.node
        ones = e.op("Expand", e.constant(1.0), e.shape_of(node.input(0)))
        kept = e.op("Pad", ones, node.input(1), e.constant(0.0), *node.inputs[3:4])
        site.ledger.note("stop", e.mul(r, e.sub(e.constant(1.0), kept)))


@dataclass(frozen=True)
class FlatPool(Rule):
    """R / n to each of the n elements that a maximum is taken of, as lrp_toolbox's flat rule at a MaxPool."""

    roles: ClassVar[frozenset[Role]] = frozenset({Role.ROUTE})

    def check(self, node: Node, operator: Operator) -> None:
        super().check(node, operator)
        if not hasattr(operator, "to_window"):
            raise CompositeError(f"rule {self} does not fit node {node.name!r}: {node.op} is no maximum pool")

    def propagate(self, site: Site, upstream: list[Relevance | None]) -> dict[int, Relevance]:
        return {0: Relevance(site.operator.to_window(site.e, site.node, relevance_of(upstream).tensor))}  # type: ignore[attr-defined]


@dataclass(frozen=True)
class Norm(Rule):
    """x * J^T [R / stab(y)] for each input x (for sums and pools: each summand gets its part of the total).

    Conserves for every function that is homogeneous of degree one, such as sums, means and Lp norms, by Euler's theorem.

    bias: "absorb", or "redistribute": what no input gets, the inputs share evenly, as in the rules for affine nodes.
    """

    stabilizer: float | Stabilizer = 1e-6
    bias: Literal["absorb", "redistribute"] = "absorb"
    roles: ClassVar[frozenset[Role]] = frozenset({Role.SUM, Role.AFFINE, Role.NORMALIZATION, Role.SOFTMAX})

    def __post_init__(self) -> None:
        Stabilizer.of(self.stabilizer)
        if self.bias not in ("absorb", "redistribute"):
            raise CompositeError(f'Norm: bias is "absorb" or "redistribute", not {self.bias!r}')

    def propagate(self, site: Site, upstream: list[Relevance | None]) -> dict[int, Relevance]:
        if self.bias == "redistribute" and isinstance(site.operator, AffineOperator):
            return Epsilon(self.stabilizer, "redistribute").propagate(site, upstream)
        if self.bias == "redistribute" and isinstance(site.operator, SumOperator):
            return share_sum(site, relevance_of(upstream), Stabilizer.of(self.stabilizer))
        shared, s = share_by_contribution(site, relevance_of(upstream), Stabilizer.of(self.stabilizer))
        if site.operator.role in (Role.NORMALIZATION, Role.SOFTMAX):
            _note_rest(site, upstream, shared)
        elif isinstance(site.operator, AffineOperator) and (bias := site.operator.bias(site.node, site.e.graph)) is not None:
            site.ledger.note("bias", site.e.mul(site.operator.broadcast_bias(site.e, site.node, bias), s))
        return shared


def share_by_contribution(site: Site, relevance: Relevance, stab: Stabilizer, factor: float = 1.0) -> tuple[dict[int, Relevance], str]:
    """factor * x * J^T [R / stab(y)] for each input, and s = R / stab(y); writes the stabiliser's part down."""
    e, y = site.e, site.node.outputs[0]
    twin = relevance.twin
    sign = 1 if twin or y in site.nonnegative else 0
    denominator = stab.emit(e, twin or y, sign, y)
    ratio = stab.ratio(e, twin or y, sign) if relevance.factor else None
    s = e.mul(relevance.factor, ratio) if relevance.factor and ratio else e.div(relevance.tensor, denominator)
    result = {}
    for index, gradient in site.operator.gradient(e, site.node, [s]).items():
        if index in site.targets or site.ledger.keeps:
            own = e.scale(gradient, factor)
            result[index] = Relevance(e.mul(site.node.input(index), own), vanishes=True, factor=own)
    note_division(site, stab, relevance.tensor, twin or y, denominator)
    return result, s


def _note_rest(site: Site, upstream: list[Relevance | None], passed: dict[int, Relevance]) -> None:
    """Books under "rule" what a rule that does not conserve by its definition neither passed on nor lost to the stabiliser."""
    if site.ledger.keeps:
        site.ledger.note_rest([r.tensor for r in upstream if r is not None], [r.tensor for r in passed.values()])


@dataclass(frozen=True)
class Pass(Rule):
    """R: the relevance of the output, unchanged (elementwise functions, and layers that keep the shape)."""

    roles: ClassVar[frozenset[Role]] = frozenset({Role.POINTWISE, Role.NORMALIZATION, Role.SOFTMAX, Role.AFFINE})

    def check(self, node: Node, operator: Operator) -> None:
        super().check(node, operator)
        if operator.role is Role.AFFINE and operator.kind != "scale":
            raise CompositeError(f"rule {self} does not fit node {node.name!r}: {node.op} changes the shape")

    def propagate(self, site: Site, upstream: list[Relevance | None]) -> dict[int, Relevance]:
        relevance, operator = relevance_of(upstream), site.operator
        y = site.node.outputs[0]
        if isinstance(operator, ReluOperator) and relevance.vanishes:
            factor = relevance.factor if relevance.twin is None else None
            return {0: Relevance(relevance.tensor, vanishes=True, twin=y, positive=True, factor=factor)}
        if operator.role is Role.AFFINE:
            same = site.e.unbroadcast(relevance.tensor, site.node.input(0), y)
            return {0: Relevance(same)}
        if not isinstance(operator, PointwiseOperator):
            return {0: Relevance(relevance.tensor)}
        rectified = relevance.vanishes and operator.rectifies(site.node, site.e.graph)
        return {0: Relevance(relevance.tensor, vanishes=rectified or (relevance.vanishes and operator.keeps_zero), positive=rectified)}


@dataclass(frozen=True)
class Stop(Rule):
    """0: no relevance passes."""

    roles: ClassVar[frozenset[Role]] = _ALL

    def propagate(self, site: Site, upstream: list[Relevance | None]) -> dict[int, Relevance]:
        for relevance in upstream:
            if relevance is not None:
                site.ledger.note("stop", relevance.tensor)
        return {}


@dataclass(frozen=True)
class Uniform(Rule):
    """R / 2 to each of two factors; for a matrix product A B: A * (S B^T) and B * (A^T S) with S = R / stab(2 A B) (AttnLRP, 2024)."""

    stabilizer: float | Stabilizer = 1e-6
    roles: ClassVar[frozenset[Role]] = frozenset({Role.PRODUCT})

    def propagate(self, site: Site, upstream: list[Relevance | None]) -> dict[int, Relevance]:
        relevance, e = relevance_of(upstream), site.e
        if site.operator.kind == "matmul":
            return share_by_contribution(site, relevance, Stabilizer.of(self.stabilizer), 0.5)[0]
        half = e.scale(relevance.tensor, 0.5)
        y = site.node.outputs[0]
        return {index: Relevance(e.unbroadcast(half, tensor, y)) for index, tensor in enumerate(site.node.inputs)}


@dataclass(frozen=True)
class Signal(Rule):
    """All of a product's relevance to the signal, none to the gate (Arras et al. 2017, LRP-all).

    value: the position of the signal among the inputs. None: the factor that is no gate (no output of a sigmoid or softmax), the numerator
    of a division, else the first.
    """

    value: int | None = None
    roles: ClassVar[frozenset[Role]] = frozenset({Role.PRODUCT})

    def propagate(self, site: Site, upstream: list[Relevance | None]) -> dict[int, Relevance]:
        relevance, e = relevance_of(upstream), site.e
        index = self.value
        if index is None:
            gates = [position for position, tensor in enumerate(site.node.inputs) if is_gate(site.e.graph.producers.get(tensor))]
            index = 1 if gates == [0] and site.node.op != "Div" else 0
        if site.operator.kind == "matmul":
            shared, _ = share_by_contribution(site, relevance, Stabilizer())
            return {index: shared[index]} if index in shared else {}
        signal = site.node.input(index)
        return {index: Relevance(e.unbroadcast(relevance.tensor, signal, site.node.outputs[0]), vanishes=relevance.vanishes)}


def is_gate(maker: Node | None) -> bool:
    """Whether a factor made by this node opens and closes the other one."""
    return maker is not None and maker.op in ("Sigmoid", "HardSigmoid", "Softmax")


@dataclass(frozen=True)
class SoftmaxTaylor(Rule):
    """x * (R - y * sum of R) along the softmax axis (AttnLRP, Achtibat et al. 2024, prop. 3.1). Does not conserve."""

    roles: ClassVar[frozenset[Role]] = frozenset({Role.SOFTMAX})

    def propagate(self, site: Site, upstream: list[Relevance | None]) -> dict[int, Relevance]:
        relevance, e, node = relevance_of(upstream), site.e, site.node
        x, y = node.input(0), node.outputs[0]
        if node.op != "Softmax":
            shared, _ = share_by_contribution(site, relevance, Stabilizer())
            passed = shared[0]
        else:
            rest = e.sub(relevance.tensor, e.mul(y, e.reduce_sum(relevance.tensor, [int(node.attributes.get("axis", -1))])))
            finite = e.op("Where", e.op("IsInf", x), e.constant(0.0), x)  # masked positions are minus infinity
            passed = Relevance(e.mul(finite, rest), vanishes=True)
        _note_rest(site, upstream, {0: passed})
        return {0: passed}


@dataclass(frozen=True)
class Taylor(Rule):
    """x * J^T [R / stab(y)], the first-order Taylor expansion at zero, for normalisations such as LRN (Binder et al. 2016)."""

    stabilizer: float | Stabilizer = 1e-6
    roles: ClassVar[frozenset[Role]] = frozenset({Role.NORMALIZATION, Role.POINTWISE})

    def propagate(self, site: Site, upstream: list[Relevance | None]) -> dict[int, Relevance]:
        shared, _ = share_by_contribution(site, relevance_of(upstream), Stabilizer.of(self.stabilizer))
        _note_rest(site, upstream, shared)
        return shared


@dataclass(frozen=True)
class _ReluRule(Rule):
    roles: ClassVar[frozenset[Role]] = frozenset({Role.POINTWISE})
    conserving: ClassVar[bool] = False

    def check(self, node: Node, operator: Operator) -> None:
        if not isinstance(operator, ReluOperator):
            raise CompositeError(f"rule {self} does not fit node {node.name!r}: {node.op} is no Relu")


@dataclass(frozen=True)
class GuidedBackprop(_ReluRule):
    """R+ * [x > 0] at a ReLU (Springenberg et al. 2015)."""

    rectifies: ClassVar[bool] = True

    def propagate(self, site: Site, upstream: list[Relevance | None]) -> dict[int, Relevance]:
        relevance = relevance_of(upstream)
        positive = site.e.op("Relu", relevance.tensor)
        return {0: Relevance(positive if relevance.positive else site.operator.gradient(site.e, site.node, [positive])[0])}


@dataclass(frozen=True)
class Deconvnet(_ReluRule):
    """R+ at a ReLU, whatever its input (Zeiler and Fergus 2014)."""

    def propagate(self, site: Site, upstream: list[Relevance | None]) -> dict[int, Relevance]:
        return {0: Relevance(site.e.op("Relu", relevance_of(upstream).tensor))}


@dataclass(frozen=True)
class BetaSmooth(_ReluRule):
    """sigmoid(beta x) R at a ReLU: the gradient of a softplus in its place (Dombrowski et al. 2019)."""

    beta: float = 10.0

    def __post_init__(self) -> None:
        if isinstance(self.beta, bool) or not isinstance(self.beta, (int, float)) or not 0 <= self.beta < float("inf"):
            raise CompositeError(f"BetaSmooth: beta is a finite number >= 0, not {self.beta!r}")

    def propagate(self, site: Site, upstream: list[Relevance | None]) -> dict[int, Relevance]:
        e = site.e
        gate = e.op("Sigmoid", e.scale(site.node.input(0), self.beta))
        return {0: Relevance(e.mul(relevance_of(upstream).tensor, gate))}
