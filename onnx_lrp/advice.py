"""Which setting would change what a node keeps."""

from __future__ import annotations

from typing import TYPE_CHECKING

from onnx_lrp.operators import Role
from onnx_lrp.rules import AffineRule, AlphaBeta, Epsilon, Norm, Rule, Stop, WSquare

if TYPE_CHECKING:
    from onnx_lrp.plan import NodeView

_BY_KIND = {"lrn": "lrn", "softmax": "softmax", "normalization": "normalization"}


def settings(rule: Rule, view: NodeView) -> dict[str, str]:
    """Category of the account -> what would change what the node keeps there, in words; for the categories that it can keep anything in."""
    return {
        "bias": _bias(rule),
        "stabilizer": _stabilizer(rule),
        "stop": _stop(rule, view),
        "dropped": _dropped(rule, view),
        "rule": _rule(rule, view),
    }


def _can_redistribute(rule: Rule) -> bool:
    return isinstance(rule, (AffineRule, Norm)) and getattr(rule, "bias", "") != "redistribute"


def _bias(rule: Rule) -> str:
    if isinstance(rule, WSquare):
        return "bias='ignore' leaves it out"
    return "bias='redistribute' returns it to the inputs" if _can_redistribute(rule) else "nothing does: no rule of this node returns it"


def _stabilizer(rule: Rule) -> str:
    name = "epsilon" if isinstance(rule, Epsilon) else "stabilizer"
    smaller = f"a smaller {name} keeps less" if hasattr(rule, name) else ""
    back = "bias='redistribute' returns it to the inputs" if _can_redistribute(rule) else ""
    return "; ".join(filter(None, (smaller, back))) or "nothing does: the rule's stabiliser is fixed"


def _stop(rule: Rule, view: NodeView) -> str:
    if isinstance(rule, Stop):
        return "another rule than Stop() lets it pass"
    if view.op == "Pad":
        return "nothing does: it lies on the padding"
    return "explaining more inputs (inputs=) shows what they get; what constants get stays with them"


def _dropped(rule: Rule, view: NodeView) -> str:
    if isinstance(rule, AlphaBeta) and rule.drops_empty:
        return "empty='conserve' gives an empty sign part's relevance to the other part"
    if _can_redistribute(rule):
        return "bias='redistribute' shares it among the inputs"
    if isinstance(rule, (AffineRule, Norm)):
        return "nothing does: no input feeds these outputs"
    return f"{_pass_on(view)} passes it on" if Role(view.role) in _PASSING else "nothing does: the output is zero, no factor counts"


_PASSING = (Role.NORMALIZATION, Role.SOFTMAX, Role.POINTWISE)


def _pass_on(view: NodeView) -> str:
    return f"Pass() at this node (layer_map=[({_BY_KIND.get(view.kind, view.op)!r}, Pass())])"


def _rule(rule: Rule, view: NodeView) -> str:
    if not rule.conserving:
        return "gradients do not conserve, by design; an LRP composite does"
    return f"{type(rule).__name__} does not conserve here, by design; {_pass_on(view)} does"
