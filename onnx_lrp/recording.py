"""Which internal tensors are recorded: tensors or nodes by name, globs, or all of them."""

from __future__ import annotations

from collections.abc import Sequence
from difflib import SequenceMatcher
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING

from onnx_lrp.errors import InputError, suggest

if TYPE_CHECKING:
    from onnx_lrp.graph import Node
    from onnx_lrp.plan import Plan

ALL = "all"
"""Every tensor on the path of relevance."""


def recorded(plan: Plan, record: str | Sequence[str]) -> dict[str, str]:
    """Name -> tensor for everything that is to be recorded, in graph order: from the inputs to the output.

    An exact name is looked for first: of a tensor, else of a node with one output on the path, which stands for that output. It stays
    the tensor's name in the result. A glob (*, ? or [...]) is matched against the names of tensors and of their nodes; the result has
    the tensors' names. Tensors that a rewrite merged into a node are gone: a glob skips them.

    Args:
        plan: what lies on the path of relevance.
        record: a name, a glob, "all", or several of them.

    Raises:
        InputError: no tensor on the path has that name, or a glob matches none.
    """
    makers = {tensor: node for node in plan.graph.nodes for tensor in node.outputs if tensor in plan.path}
    order = [*(tensor for tensor in plan.sources if tensor not in makers), *makers]
    internal = [tensor for tensor in order if tensor not in plan.sources]
    named: dict[str, str] = {}
    matched: set[str] = set()
    for name in [record] if isinstance(record, str) else record:
        tensor = _exact(plan, name, makers)
        if tensor is not None:
            named[name] = tensor
        elif name == ALL:
            matched.update(internal)
        elif any(sign in name for sign in "*?["):
            matched.update(_matching(plan, name, internal, makers))
        else:
            raise InputError(f"cannot record {name!r}: no relevance flows through a tensor of that name{_why(plan, name, makers)}")
    named |= {tensor: tensor for tensor in internal if tensor in matched - set(named.values())}
    return dict(sorted(named.items(), key=lambda entry: order.index(entry[1])))


def exact_tensor(plan: Plan, name: str, what: str) -> str:
    """The tensor on the path of relevance that has a name, or whose node has; `what` is to be done with it, for the message.

    Raises:
        InputError: there is none.
    """
    makers = {tensor: node for node in plan.graph.nodes for tensor in node.outputs if tensor in plan.path}
    tensor = _exact(plan, name, makers, what)
    if tensor is None:
        raise InputError(f"cannot {what} {name!r}: no relevance flows through a tensor of that name{_why(plan, name, makers)}")
    return tensor


def _exact(plan: Plan, name: str, makers: dict[str, Node], what: str = "record") -> str | None:
    tensor = plan.graph.resolve(name)
    if tensor in plan.path:
        return tensor
    outputs = [tensor for tensor, node in makers.items() if node.name == name]
    if len(outputs) > 1:
        raise InputError(f"cannot {what} {name!r}: the node has {len(outputs)} outputs, name one of {', '.join(map(repr, outputs))}")
    return outputs[0] if outputs else None


def _matching(plan: Plan, pattern: str, tensors: list[str], makers: dict[str, Node]) -> list[str]:
    found = [tensor for tensor in tensors if fnmatchcase(tensor, pattern) or fnmatchcase(makers[tensor].name, pattern)]
    if found:
        return found
    merged = next((tensor for tensor in plan.graph.merged if fnmatchcase(tensor, pattern)), None)
    why = _nearest(pattern, tensors) if merged is None else f": {merged!r} was merged into node {plan.graph.merged[merged]!r}"
    raise InputError(f"cannot record {pattern!r}: it matches no tensor that relevance flows through{why}")


def _nearest(pattern: str, tensors: list[str]) -> str:
    """The tensor with the piece of its name that is most like the pattern's letters; the shortest name of several."""
    letters = pattern.translate(str.maketrans("", "", "*?[]"))

    def likeness(name: str) -> tuple[float, int]:
        pieces = (name[start : start + len(letters)] for start in range(max(1, len(name) - len(letters) + 1)))
        return max(SequenceMatcher(None, letters, piece, autojunk=False).ratio() for piece in pieces), -len(name)

    return f"; the nearest name is {max(tensors, key=likeness)!r}" if tensors else ""


def _why(plan: Plan, name: str, makers: dict[str, Node]) -> str:
    if name in plan.graph.merged:
        return f": it was merged into node {plan.graph.merged[name]!r}"
    return suggest(name, {*plan.path, *(node.name for node in makers.values())})
