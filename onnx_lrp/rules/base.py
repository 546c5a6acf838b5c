"""What a rule is, and what it is given."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any, ClassVar

from onnx_lrp.errors import CompositeError
from onnx_lrp.operators import Operator, Role
from onnx_lrp.rules.stabilizer import TINY

if TYPE_CHECKING:
    from onnx_lrp.emitter import Emitter
    from onnx_lrp.graph import Node
    from onnx_lrp.rules.ledger import Ledger
    from onnx_lrp.rules.stabilizer import Stabilizer


@dataclass(frozen=True)
class Relevance:
    """The relevance of a tensor, with what is known of where it is zero. What is known saves work and changes no result."""

    tensor: str
    vanishes: bool = False
    """It is zero wherever the tensor that it belongs to is zero."""
    twin: str | None = None
    """A non-negative tensor that equals the tensor it belongs to wherever the relevance is not zero: the ReLU behind it."""
    positive: bool = False
    """It is zero wherever the tensor that it belongs to is not positive; so behind every twin, and behind a ReLU6."""
    factor: str | None = None
    """A tensor f with relevance = t * f, where t is the twin, or without one the tensor that the relevance belongs to. R / stab(t) is then
    f * (t / stab(t)), which needs fewer passes over memory and no choice by sign."""


@dataclass
class Site:
    """Where a rule works: one node of the graph, and the emitter to write to."""

    e: Emitter
    node: Node
    operator: Operator
    nonnegative: set[str]
    """The tensors that cannot be negative."""
    sources: frozenset[str]
    """The tensors whose relevance is wanted."""
    targets: list[int]
    """The input positions that relevance goes to."""
    ledger: Ledger
    rectified: frozenset[str] = frozenset()
    """Tensors of which only the positive elements' relevance counts: the ReLUs that make them drop the rest, and nobody else sees it."""


@dataclass(frozen=True)
class Rule:
    """How a node passes the relevance of its outputs on to its inputs."""

    roles: ClassVar[frozenset[Role]] = frozenset()
    """The roles of nodes that it may be given to."""
    conserving: ClassVar[bool] = True
    """Whether what it does not pass on is meant to be accounted for; gradient methods do not conserve."""
    rectifies: ClassVar[bool] = False
    """Whether at a ReLU it drops the relevance of outputs that are zero."""

    def check(self, node: Node, operator: Operator) -> None:
        """Raises CompositeError when the rule cannot work on a node."""
        if operator.role not in self.roles:
            raise CompositeError(f"rule {self} does not fit node {node.name!r}: {node.op} is {operator.role.value}")

    def propagate(self, site: Site, upstream: list[Relevance | None]) -> dict[int, Relevance]:
        """Emits the relevance of the inputs.

        Args:
            site: the node and where to emit.
            upstream: the relevance of each output, None where nothing arrives.

        Returns:
            Input position -> its share.
        """
        raise NotImplementedError

    def to_dict(self) -> dict[str, Any]:
        """The rule as plain data: its name and its parameters."""
        parameters = {f.name: _plain(getattr(self, f.name)) for f in fields(self)}
        return {"rule": type(self).__name__} | {name: value for name, value in parameters.items() if value is not None}

    def __str__(self) -> str:
        shown = []
        for f in fields(self):
            value = getattr(self, f.name)
            if f.name in _SHOWN_IF_CHANGED and not getattr(value, "ndim", 0) and value == f.default:
                continue
            text = f"array{value.shape}" if getattr(value, "ndim", 0) else f"{value:g}" if isinstance(value, float) else str(value)
            shown.append(f"{f.name}={text}")
        return f"{type(self).__name__}({', '.join(shown)})"


def _plain(value: Any) -> Any:
    """A parameter as JSON can hold it: arrays as lists, stabilisers as dicts."""
    if hasattr(value, "to_dict"):
        return value.to_dict()
    return value.tolist() if hasattr(value, "tolist") else value


_SHOWN_IF_CHANGED = {"stabilizer", "bias", "empty", "ties", "value"}


def relevance_of(upstream: list[Relevance | None]) -> Relevance:
    """The relevance of the only output that has any."""
    found = [relevance for relevance in upstream if relevance is not None]
    if len(found) != 1:
        raise AssertionError("a rule for one output met several")
    return found[0]


def is_zero(e: Emitter, z: str) -> str:
    """Emits where a denominator counts as zero."""
    return e.op("Less", e.op("Abs", z), e.constant(TINY))


def note_stabilizer(site: Site, z: str, denominator: str, s: str) -> None:
    """Writes down the stabiliser's part of s = R / denominator: (denominator - z) s, where z is not zero."""
    e = site.e
    part = e.mul(e.sub(denominator, z), s)
    site.ledger.note("stabilizer", e.op("Where", is_zero(e, z), e.constant(0.0), part))


def note_division(site: Site, stab: Stabilizer, r: str, z: str, denominator: str) -> None:
    """Writes down what R / stab(z) in place of R / z kept: the stabiliser's part, and as dropped R wherever z is zero."""
    if not site.ledger.keeps:
        return
    e = site.e
    if stab.epsilon:
        note_stabilizer(site, z, denominator, e.div(r, denominator))
    site.ledger.note("dropped", e.op("Where", is_zero(e, z), r, e.constant(0.0)))
