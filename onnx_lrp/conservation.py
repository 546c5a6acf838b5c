"""The account of where relevance went."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from onnx_lrp.rules.ledger import CATEGORIES

if TYPE_CHECKING:
    import os

    from onnx_lrp.graph import Array


_ROUNDING = 1e-6
"""Losses below this fraction of what there was are taken for rounding."""


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
    """Category (bias, stabilizer, stop, dropped, rule) -> what went there; see docs/conservation.md."""
    settings: Mapping[str, str] = field(default_factory=dict)
    """Category -> which setting would change what goes there."""

    @property
    def lost(self) -> Array:
        """What it did not pass on; negative where relevance grew."""
        return self.received - self.passed

    @property
    def error(self) -> Array:
        """What the account does not explain: rounding, or a mistake."""
        return self.lost - sum(self.kept.values(), np.zeros_like(self.lost))

    @property
    def main(self) -> str:
        """The category that most of the loss went to, over all samples; "error" when it is larger than any; "" without any loss."""
        sizes = {name: float(np.abs(value).sum()) for name, value in (self.kept | {"error": self.error}).items()}
        return max(sizes, key=lambda name: sizes[name]) if any(sizes.values()) else ""

    @property
    def advice(self) -> str:
        """Which setting would change the loss: that for the category that most of it went to."""
        if self.main == "error":
            return "rounding in float32; a larger epsilon divides by larger numbers"
        return self.settings.get(self.main, "")


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
    """False for gradient methods, which conserve nothing by design."""

    @property
    def kept(self) -> dict[str, Array]:
        """Category -> what went there over all nodes, (N,)."""
        zero = np.zeros_like(self.seed)
        return {category: sum((entry.kept.get(category, zero) for entry in self.entries), zero) for category in CATEGORIES}

    @property
    def error(self) -> Array:
        """(N,): what the account does not explain."""
        return self.seed - self.inputs - sum(self.kept.values(), np.zeros_like(self.seed))

    @property
    def not_conserving(self) -> list[Entry]:
        """The nodes whose rule does not conserve by its definition: normalisations by Taylor expansion, softmax, gradients."""
        return [entry for entry in self.entries if "rule" in entry.kept]

    def closes(self, tolerance: float = 1e-3) -> bool:
        """Whether the whole account, and each node's, explains all but a fraction of the seed (or of what the node received, if more)."""
        scale = np.maximum(np.abs(self.seed), 1e-12)
        worst = max((float((np.abs(e.error) / np.maximum(scale, np.abs(e.received))).max(initial=0.0)) for e in self.entries), default=0.0)
        return bool((np.abs(self.error) <= tolerance * scale).all()) and worst <= tolerance

    def worst(self, count: int = 10) -> list[Entry]:
        """The nodes that passed on least, or most too much, of what they received, averaged over samples.

        Nodes whose loss is no larger than float32's rounding are left out.
        """
        ordered = sorted(self.entries, key=lambda entry: -float(np.abs(entry.lost).mean()))
        scale = _ROUNDING * np.abs(self.seed)
        return [entry for entry in ordered[:count] if (np.abs(entry.lost) > np.maximum(scale, _ROUNDING * np.abs(entry.received))).any()]

    def totals(self) -> dict[str, float]:
        """seed, inputs, each category and error, summed over the samples."""
        parts = {"seed": self.seed, "inputs": self.inputs, **self.kept, "error": self.error}
        return {name: float(value.sum()) for name, value in parts.items()}

    def share(self, value: Array) -> float:
        """A part of the account in percent of the seed, both summed over the samples; NaN for a seed of zero."""
        seed = float(self.seed.sum())
        return 100.0 * float(value.sum()) / seed if seed else float("nan")

    def plot(self, path: str | os.PathLike[str], title: str | None = None) -> None:
        """Draws the account as a waterfall: from the seed, step by step what was kept, down to the inputs.

        Args:
            path: the picture, .png, .svg, .pdf ...
            title: the picture's title.

        Raises:
            InputError: matplotlib writes no files with this suffix.
            OSError: the file cannot be written.
        """
        from onnx_lrp.plot import save_figure
        from onnx_lrp.waterfall import plot_accounts

        save_figure(plot_accounts({"": self}, title), path)

    def __str__(self) -> str:
        totals = self.totals()
        scale = 100.0 / totals["seed"] if totals["seed"] else float("nan")
        lines = [f"{name:<10} {value:>14.6g}  {value * scale:8.3f} %" for name, value in totals.items()]
        names = [f"{entry.node} ({entry.operator})" for entry in self.not_conserving]
        if names and self.conserving:
            more = f" and {len(names) - 3} more" if len(names) > 3 else ""
            lines.append(f"not conserving by design: {', '.join(names[:3])}{more}")
        worst = self.worst(5)
        if worst:
            lines.append("largest losses:")
            lines += [f"  {entry.node}: {self.share(entry.lost):.3g} %, {entry.main}: {entry.advice}" for entry in worst]
        return "\n".join(lines)
