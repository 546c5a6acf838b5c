"""Selectors: what chooses the nodes that a rule is for."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any, TypeAlias

from onnx_lrp.errors import CompositeError, suggest
from onnx_lrp.operators import Role
from onnx_lrp.plan import NodeView

Predicate: TypeAlias = Callable[[NodeView], bool]


@dataclass(frozen=True)
class Selector:
    """Chooses nodes. Selectors combine with &, | and ~."""

    predicate: Predicate
    description: str
    data: dict[str, Any] | None = None
    """The selector as JSON can hold it, None where a function of one's own decides."""

    def __call__(self, view: NodeView) -> bool:
        """Whether the node is chosen."""
        return self.predicate(view)

    def __and__(self, other: Selector) -> Selector:
        return Selector(lambda view: self(view) and other(view), f"{self.description} and {other.description}", self._joined("all", other))

    def __or__(self, other: Selector) -> Selector:
        return Selector(lambda view: self(view) or other(view), f"{self.description} or {other.description}", self._joined("any", other))

    def __invert__(self) -> Selector:
        return Selector(lambda view: not self(view), f"not {self.description}", None if self.data is None else {"not": self.data})

    def _joined(self, word: str, other: Selector) -> dict[str, Any] | None:
        return None if self.data is None or other.data is None else {word: [self.data, other.data]}

    def __str__(self) -> str:
        return self.description


def by_type(*names: str) -> Selector:
    """Nodes of these operators ("Conv") or kinds ("convolution", "dense", "pool" ..., see NodeView.kind)."""
    return Selector(lambda view: view.op in names or view.kind in names, ", ".join(names), {"type": list(names)})


def by_role(*roles: Role | str) -> Selector:
    """Nodes of these roles.

    Raises:
        CompositeError: there is no such role.
    """
    for role in roles:
        if role not in list(Role):
            raise CompositeError(f"unknown role {role!r}" + suggest(role, list(Role)))
    data = {"role": [str(role) for role in roles]}
    return Selector(lambda view: view.role in roles, ", ".join(str(role) for role in roles), data)


def by_name(*patterns: str) -> Selector:
    """Nodes whose name matches one of these patterns (* and ? as in file names)."""
    found = {"name": list(patterns)}
    return Selector(lambda view: any(fnmatchcase(view.name, pattern) for pattern in patterns), "named " + ", ".join(patterns), found)


def first() -> Selector:
    """The convolutions and dense layers that an explained input reaches without passing another one."""
    return Selector(lambda view: view.is_first, "first layer", {"first": True})


def last() -> Selector:
    """The convolution or dense layer that comes last."""
    return Selector(lambda view: view.is_last, "last layer", {"last": True})


def first_n(n: int) -> Selector:
    """The first n convolutions and dense layers in topological order, and what lies between them."""
    return Selector(lambda view: view.layer < n, f"first {n} layers", {"first_n": n})


def between(start: float, stop: float) -> Selector:
    """The nodes from one fraction of the way from input to output up to another (topological order, stop excluded)."""
    description = f"from {start:g} to {stop:g} of the way"
    return Selector(lambda view: start <= view.index / view.count < stop, description, {"between": [start, stop]})


def stage(start: float, stop: float) -> Selector:
    """The convolutions from one fraction of all of them up to another (topological order, stop excluded).

    In a net without convolutions: the dense layers but the last, counted in the same way.
    """

    def inside(view: NodeView) -> bool:
        if view.convolutions:
            return view.kind == "convolution" and start <= view.convolution / view.convolutions < stop
        return view.kind == "dense" and not view.is_last and start <= view.layer / (view.layers - 1) < stop

    return Selector(inside, f"convolutions from {start:g} to {stop:g} of their number", {"stage": [start, stop]})


def where(predicate: Predicate, description: str = "predicate") -> Selector:
    """The nodes for which a function of a NodeView is true."""
    return Selector(predicate, description)


def everything() -> Selector:
    """Every node."""
    return Selector(lambda _: True, "any", {"everything": True})


def gated() -> Selector:
    """Products of which one factor is a gate: what an activation made of the other path."""
    return Selector(lambda view: view.gated, "gated", {"gated": True})


LAYER = by_type("convolution", "dense")
"""Every convolution and dense layer."""


def lowest(n: int) -> Selector:
    """The n lowest convolutions and dense layers in topological order; of one, all that an explained input reaches first.

    Raises:
        CompositeError: n is no int >= 0.
    """
    if isinstance(n, bool) or not isinstance(n, int) or n < 0:
        raise CompositeError(f"the number of lowest layers is an int >= 0, not {n!r}")
    if n == 0:
        return Selector(lambda _: False, "no layer", {"lowest": 0})
    chosen = LAYER & (first() if n == 1 else first() | first_n(n))
    return Selector(chosen, chosen.description, {"lowest": n})
