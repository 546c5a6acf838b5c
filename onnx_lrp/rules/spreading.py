"""What no input gets, shared evenly by the inputs: the second half of bias="redistribute"."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

from onnx_lrp.rules.base import Relevance, Site

if TYPE_CHECKING:
    from onnx_lrp.emitter import Emitter
    from onnx_lrp.operators import AffineOperator
    from onnx_lrp.rules.stabilizer import Stabilizer

ROUNDING = 1e-4
"""A sum below this fraction of the sum of its terms' absolute values is known to three digits at best: float32 has 6e-8 for each
operation, and a layer has hundreds to thousands of them."""


def is_lost(e: Emitter, z: str, magnitude: str) -> str:
    """Emits where a sum z is as small as its rounding error, or zero; `magnitude` is the sum of its terms' absolute values."""
    return e.op("LessOrEqual", e.op("Abs", z), e.scale(magnitude, ROUNDING))


def share_evenly(site: Site, amount: str) -> str:
    """Emits J(1)^T [amount / fan-in]: each output's amount in equal shares to the inputs that feed it.

    What falls on outputs that no input feeds (windows of padding) goes nowhere, and is written down as dropped.
    """
    e, node, operator = site.e, site.node, cast("AffineOperator", site.operator)
    count = operator.fan_in(e, node)
    if site.ledger.keeps:
        fed = e.op("Greater", count, e.constant(0.0))
        site.ledger.note("dropped", e.op("Where", fed, e.constant(0.0), amount))
    return operator.adjoint_ones(e, node, e.div(amount, e.op("Max", count, e.constant(1.0))))


def share_sum(site: Site, relevance: Relevance, stab: Stabilizer) -> dict[int, Relevance]:
    """x * R / stab(y) for each summand x of a sum y (-x for one that is taken away), and equal shares of what is left of R.

    Where y is lost in rounding, the summands share all of R.
    """
    e, y, inputs = site.e, site.node.outputs[0], site.node.inputs
    count = len(inputs)
    magnitude = e.scale(e.sum([e.op("Abs", tensor) for tensor in inputs]), 1 / count if site.node.op == "Mean" else 1.0)
    denominator = e.op("Where", is_lost(e, y, magnitude), e.constant(float("inf")), stab.emit(e, y))
    s = e.div(relevance.tensor, denominator)
    rest = e.scale(e.sub(relevance.tensor, e.mul(s, y)), 1 / count)
    return {
        index: Relevance(e.add(e.mul(inputs[index], gradient), e.unbroadcast(rest, inputs[index], y)))
        for index, gradient in site.operator.gradient(e, site.node, [s]).items()
    }
