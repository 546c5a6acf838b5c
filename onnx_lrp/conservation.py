"""The account of where relevance went."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from onnx_lrp.rules.ledger import CATEGORIES

if TYPE_CHECKING:
    from onnx_lrp.graph import Array


@dataclass(frozen=True)
class Entry:
    """One node's account. All arrays are float64 of shape (N,): one number per sample."""

    node: str
    operator: str
    rule: str
    received: Array
    """The relevance of its outputs."""
    passed: Array
    """What it gave to inputs on the path."""
    kept: dict[str, Array]
    """Category (bias, stabilizer, stop, dropped, rule) -> what went there."""

    @property
    def lost(self) -> Array:
        """What it did not pass on."""
        return self.received - self.passed

    @property
    def error(self) -> Array:
        """What the account does not explain: rounding, or a mistake."""
        return self.lost - sum(self.kept.values(), np.zeros_like(self.lost))


@dataclass(frozen=True)
class Conservation:
    """Where relevance went: seed = inputs + bias + stabilizer + stop + dropped + rule + error, for the whole and for each node."""

    seed: Array
    """(N,): the relevance that was started with."""
    inputs: Array
    """(N,): the relevance that arrived at the explained inputs."""
    entries: list[Entry]
    """One for each node that relevance reached, from the output to the inputs."""
    conserving: bool
    """False for gradient methods, which conserve nothing by design; their entries then have no categories."""

    @property
    def kept(self) -> dict[str, Array]:
        """Category -> what went there over all nodes, (N,)."""
        zero = np.zeros_like(self.seed)
        return {category: sum((entry.kept.get(category, zero) for entry in self.entries), zero) for category in CATEGORIES}

    @property
    def error(self) -> Array:
        """(N,): what the account does not explain."""
        return self.seed - self.inputs - sum(self.kept.values(), np.zeros_like(self.seed))

    def closes(self, tolerance: float = 1e-3) -> bool:
        """Whether the whole account, and each node's, explains all but a fraction of the seed (or of what the node received, if more)."""
        scale = np.maximum(np.abs(self.seed), 1e-12)
        worst = max((float((np.abs(e.error) / np.maximum(scale, np.abs(e.received))).max(initial=0.0)) for e in self.entries), default=0.0)
        return bool((np.abs(self.error) <= tolerance * scale).all()) and worst <= tolerance

    def largest_losses(self, count: int = 10) -> list[Entry]:
        """The nodes that passed on least of what they received, relative to the seed, averaged over samples."""
        return sorted(self.entries, key=lambda entry: -float(np.abs(entry.lost).mean()))[:count]

    def __str__(self) -> str:
        total = float(self.seed.sum())
        share = 100.0 / total if total else float("nan")
        rows = [
            ("seed", total),
            ("inputs", float(self.inputs.sum())),
            *((name, float(value.sum())) for name, value in self.kept.items()),
        ]
        rows.append(("error", float(self.error.sum())))
        return "\n".join(f"{name:<10} {value:>14.6g}  {value * share:8.3f} %" for name, value in rows)
