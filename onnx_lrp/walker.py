"""The relevance pass: backwards through the plan, node by node, each node's rule emitting its part."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING

from onnx_lrp.errors import OnnxLrpError
from onnx_lrp.plan import carrying_inputs, nonnegative_tensors
from onnx_lrp.rules.base import Relevance, Site
from onnx_lrp.rules.ledger import Ledger

if TYPE_CHECKING:
    from onnx_lrp.emitter import Emitter
    from onnx_lrp.plan import Plan


def walk(
    plan: Plan,
    e: Emitter,
    seed: str,
    wanted: list[str],
    ledger_for: Callable[[str], Ledger] = lambda name: Ledger(),  # noqa: ARG005
    masks: Mapping[str, str] | None = None,
) -> dict[str, Relevance]:
    """Emits the relevance pass.

    Args:
        plan: the nodes and their rules; all must have one.
        e: the emitter, holding the forward pass.
        seed: the relevance of the plan's output, a tensor shaped like it.
        wanted: tensors on the path whose relevance is asked for.
        ledger_for: gives each node's ledger.
        masks: tensor -> what the relevance that arrives there is multiplied by.

    Returns:
        Tensor -> its relevance, for the wanted ones; zeros for one on the path that no rule gives anything to, such as a gate.
    """
    plan.require_complete()
    arriving: dict[str, list[Relevance]] = {plan.output: [Relevance(seed)]}
    nonnegative = nonnegative_tensors(plan.graph)
    sources = frozenset(plan.sources)
    rectified = _rectified(plan) - set(wanted)
    pending = dict(masks or {})

    def relevance_at(tensor: str) -> Relevance | None:
        if tensor in pending and tensor in arriving:
            found = total(e, tensor, arriving[tensor])
            arriving[tensor] = [replace(found, tensor=e.mul(found.tensor, pending.pop(tensor)), factor=None)]
        return total(e, tensor, arriving[tensor]) if tensor in arriving else None

    for step in reversed(plan.steps):
        node, operator, rule = step.view.node, step.operator, step.rule
        upstream = [relevance_at(tensor) for tensor in node.outputs]
        if operator is None or rule is None or not any(upstream):
            continue
        targets = [index for index in carrying_inputs(node, plan.graph) if node.inputs[index] in plan.path]
        ledger = ledger_for(node.name)
        site = Site(e, node, operator, nonnegative, sources, targets, ledger, frozenset() if ledger.keeps else rectified)
        e.at = node.name
        try:
            passed = rule.propagate(site, upstream)
        except OnnxLrpError:
            raise
        except Exception as error:
            error.add_note(f"while emitting {rule} for node {node.name!r} ({node.op})")
            raise
        for relevance in filter(None, upstream):
            ledger.note("received", relevance.tensor)
        if not rule.conserving and ledger.keeps:
            ledger.note_rest([arrived.tensor for arrived in upstream if arrived], [relevance.tensor for relevance in passed.values()])
        for index, relevance in passed.items():
            for tensor in filter(None, (relevance.tensor, relevance.factor)):
                e.is_shaped_like(tensor, node.inputs[index])
            if index in targets:
                arriving.setdefault(node.inputs[index], []).append(relevance)
            ledger.note("passed" if index in targets else "stop", relevance.tensor)
    return {tensor: relevance_at(tensor) or _zeros(e, tensor) for tensor in wanted}


def _rectified(plan: Plan) -> frozenset[str]:
    """The outputs of ReLUs that a single node reads, and whose rules drop the relevance of zeros."""
    relus = [step.view.node for step in plan.steps if step.view.kind == "relu" and step.rule is not None and step.rule.rectifies]
    return frozenset(node.outputs[0] for node in relus if plan.graph.only_consumer(node.outputs[0]) is not None)


def _zeros(e: Emitter, like: str) -> Relevance:
    return Relevance(e.expand_like(e.constant(0.0), like), vanishes=True)


def total(e: Emitter, tensor: str, parts: list[Relevance]) -> Relevance:
    """The sum of what arrives at a tensor from all its readers."""
    if len(parts) == 1:
        return parts[0]
    twins = {part.twin for part in parts}
    twin = parts[0].twin if len(twins) == 1 else None
    factors = [part.factor for part in parts if part.factor] if len(twins) == 1 else []
    factor = e.sum(factors) if len(factors) == len(parts) else None
    summed = e.mul(twin or tensor, factor) if factor else e.sum([part.tensor for part in parts])
    combined = Relevance(summed, all(part.vanishes for part in parts), twin, all(part.positive for part in parts), factor)
    parts[:] = [combined]
    return combined
