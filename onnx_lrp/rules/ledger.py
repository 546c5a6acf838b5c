"""Where relevance goes that a node does not pass on."""

from __future__ import annotations

from typing import TYPE_CHECKING

from onnx_lrp.errors import CompositeError

if TYPE_CHECKING:
    from onnx_lrp.emitter import Emitter

CATEGORIES = ("bias", "stabilizer", "stop", "dropped", "rule")
"""What may keep relevance: the bias, the stabiliser, a stop (constants, inputs that are not explained), a sign part that a rule drops
(negative where the rule makes relevance grow), and rules that do not conserve by their definition."""


class Ledger:
    """Takes note of nothing; the account's graph uses a KeepingLedger."""

    keeps = False

    def note(self, category: str, tensor: str) -> None:
        """Adds the sum of a tensor to what this node gave to a category."""


class KeepingLedger(Ledger):
    """Emits sums in float64 of what one node received, passed on, and gave to each category."""

    keeps = True

    def __init__(self, e: Emitter):
        self.e = e
        self.sums: dict[str, list[str]] = {}

    def note(self, category: str, tensor: str) -> None:
        if category not in (*CATEGORIES, "received", "passed"):
            raise CompositeError(f"unknown category of the account: {category}")
        self.sums.setdefault(category, []).append(total_of(self.e, tensor))


def total_of(e: Emitter, tensor: str) -> str:
    """The sum over all elements, in float64. Samples are run one at a time: inside a model they may lie along any axis."""
    return e.op("ReduceSum", e.op("Cast", tensor, to=11), keepdims=0)
