"""Layer by layer: how much relevance each tensor has, how much of it is positive, and how widely it is spread."""

from __future__ import annotations

import os
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from onnx_lrp.errors import InputError

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from onnx_lrp.explanation import Explanation
    from onnx_lrp.graph import Array

__all__ = ["FIGURES", "Layer", "LayerSummary", "layer_summary"]

FIGURES = ("sum", "positive", "entropy", "largest")


@dataclass(frozen=True)
class Layer:
    """The figures of one tensor R. Arrays are float64 of shape (N,): one number per sample; (N, K) for K targets per sample."""

    name: str
    shape: tuple[int, ...]
    """Of one sample, without the batch axis."""
    sum: Array
    """The sum of R."""
    positive: Array
    """The positive share: the sum of max(R, 0) over the sum of abs(R), 0 to 1; NaN where all of R is zero."""
    entropy: Array
    """The Shannon entropy of abs(R) over its sum, divided by the logarithm of R's size: 0 for all relevance on one element, 1 for the
    same on each; NaN where all of R is zero, 0 for a tensor of one element."""
    largest: Array
    """The largest abs(R)."""


@dataclass(frozen=True)
class LayerSummary:
    """The figures of recorded tensors, from the input to the output. Prints as a table of means over samples and targets."""

    layers: list[Layer]
    left_out: tuple[str, ...] = ()
    """Tensors that have no figures because the batch is not their first axis."""

    def sample(self, index: int, target: int | None = None) -> LayerSummary:
        """The summary of one sample.

        Args:
            index: which sample.
            target: of K targets per sample the first (0) to the last (K - 1); None for all.

        Raises:
            InputError: there is no such sample or target.
        """
        place = (index,) if target is None else (index, target)
        shape = self.layers[0].sum.shape if self.layers else ()
        if len(place) > len(shape) or any(not 0 <= one < length for one, length in zip(place, shape, strict=False)):
            raise InputError(f"there is no sample {', '.join(map(str, place))} in a summary of shape {shape}")
        layers = [replace(layer, **{name: getattr(layer, name)[place][None] for name in FIGURES}) for layer in self.layers]
        return replace(self, layers=layers)

    def rows(self) -> list[dict[str, Any]]:
        """A dict for each layer: name, shape, and the means of sum, positive, entropy and largest over samples (NaN left aside)."""
        return [
            {"name": layer.name, "shape": layer.shape} | {name: _mean(getattr(layer, name)) for name in FIGURES} for layer in self.layers
        ]

    def plot(self, path: str | os.PathLike[str] | None = None, title: str | None = None) -> Figure:
        """Draws sum, positive share and entropy over depth; see `onnx_lrp.plot_layers.plot_layers`.

        Args:
            path: where to write the figure; None: nowhere.
            title: the figure's title.
        """
        from onnx_lrp.plot import save_figure
        from onnx_lrp.plot_layers import plot_layers

        figure = plot_layers(self, title)
        if path is not None:
            save_figure(figure, path)
        return figure

    def __str__(self) -> str:
        header = ("tensor", "shape", "sum", "positive", "entropy", "largest |R|")
        table = [header]
        for row in self.rows():
            shape = "x".join(map(str, row["shape"])) or "1"
            share, spread = (f"{row[name]:.3f}" if np.isfinite(row[name]) else "-" for name in ("positive", "entropy"))
            table.append((row["name"], shape, f"{row['sum']:.5g}", share, spread, f"{row['largest']:.4g}"))
        widths = [max(len(line[column]) for line in table) for column in range(len(header))]
        lines = [
            "  ".join([line[0].ljust(widths[0]), *(cell.rjust(width) for cell, width in zip(line[1:], widths[1:], strict=True))])
            for line in table
        ]
        if self.left_out:
            more = f" and {len(self.left_out) - 5} more" if len(self.left_out) > 5 else ""
            lines.append("without the batch as first axis: " + ", ".join(self.left_out[:5]) + more)
        return "\n".join(lines)


def layer_summary(explanation: Explanation) -> LayerSummary:
    """The figures of each tensor in `explanation.relevances`, in that order. A tensor (N * h, ...) counts as (N, h, ...)."""
    targets = explanation.targets_per_sample
    lead = (len(explanation.output),) if targets is None else (len(explanation.output), targets)
    layers: list[Layer] = []
    left_out: list[str] = []
    for name, relevance in explanation.relevances.items():
        shape, rows = relevance.shape, int(np.prod(lead))
        if explanation.leads_with_batch(name) and shape[: len(lead)] == lead:
            shape = shape[len(lead) :]
        elif explanation.leads_with_batch(name) and shape and shape[0] % rows == 0:
            shape = (shape[0] // rows, *shape[1:])
        else:
            left_out.append(name)
            continue
        layers.append(_layer(name, shape, relevance.reshape(*lead, -1).astype(np.float64)))
    return LayerSummary(layers, tuple(left_out))


def _layer(name: str, shape: tuple[int, ...], relevance: Array) -> Layer:
    """The figures of relevance (..., elements)."""
    size = np.abs(relevance)
    total = size.sum(-1)
    share = np.divide(size, total[..., None], out=np.full_like(size, np.nan), where=total[..., None] > 0)
    logarithm = np.log(share, out=np.zeros_like(share), where=share > 0)
    elements = relevance.shape[-1]
    entropy = -(share * logarithm).sum(-1) / (np.log(elements) if elements > 1 else 1.0)
    positive = np.where(relevance > 0, share, share * 0.0).sum(-1)  # share * 0.0 keeps NaN
    return Layer(name, shape, relevance.sum(-1), positive, np.abs(entropy), size.max(-1))


def _mean(values: Array) -> float:
    known = values[np.isfinite(values)]
    return float(known.mean()) if known.size else float("nan")
