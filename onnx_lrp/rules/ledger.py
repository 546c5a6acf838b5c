"""Where relevance goes that a node does not pass on."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from onnx_lrp.errors import CompositeError

if TYPE_CHECKING:
    from onnx_lrp.emitter import Emitter

CATEGORIES = ("bias", "stabilizer", "stop", "dropped", "rule")
"""What may keep relevance.

bias: b_j s_j, and what a normalisation does not multiply its input by (mean and shift).
stabilizer: (stab(z_j) - z_j) s_j.
stop: what went to a constant, to padding, to an input that is not explained, or to a Stop rule.
dropped: R_j where the rule has nothing to divide among the inputs: its denominator z_j is zero, since no input counts (the empty sign
    parts of ZPlus and AlphaBeta) or they cancel. Times the part's coefficient: negative where AlphaBeta makes relevance grow.
rule: what rules that do not conserve by their definition made or lost: gradients, Taylor expansions, softmax."""


class Ledger:
    """Takes note of nothing; the account's graph uses a KeepingLedger."""

    keeps = False

    def note(self, category: str, tensor: str) -> None:
        """Adds the sum of a tensor to what this node gave to a category."""

    def note_rest(self, received: Sequence[str], passed: Sequence[str]) -> None:
        """Adds to the category "rule" what was received and neither passed on nor noted for the stabiliser or as dropped."""


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

    def note_rest(self, received: Sequence[str], passed: Sequence[str]) -> None:
        total = self.e.sum([total_of(self.e, tensor) for tensor in received])
        gone = [total_of(self.e, tensor) for tensor in passed] + self.sums.get("stabilizer", []) + self.sums.get("dropped", [])
        self.sums.setdefault("rule", []).append(self.e.sub(total, self.e.sum(gone)) if gone else total)


def total_of(e: Emitter, tensor: str) -> str:
    """The sum over all elements, in float64. Samples are run one at a time: inside a model they may lie along any axis."""
    return e.op("ReduceSum", e.op("Cast", tensor, to=11), keepdims=0)
