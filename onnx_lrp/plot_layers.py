"""A figure of a layer summary: relevance over the depth of a network."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import numpy as np

from onnx_lrp.errors import InputError
from onnx_lrp.plot import _INK, _NEGATIVE, _POSITIVE, _SOFT_INK, _figure, _head, _plain, _tidy

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from onnx_lrp.graph import Array
    from onnx_lrp.summary import LayerSummary

__all__ = ["plot_layers"]

_LONGEST_NAME: Final = 48
_MANY: Final = 60
"""More layers than this are drawn in narrower rows."""
_TALLEST: Final = 400
"""In inches; a taller figure would have more pixels than can be drawn."""


def plot_layers(summary: LayerSummary, title: str | None = None) -> Figure:
    """Draw a summary: one row a tensor, the input at the top; its sum as a bar, its positive share and its entropy as points.

    Shown are means over samples and targets; a thin grey line goes from the smallest to the largest of them. What is NaN is left out.

    Args:
        summary: Of an explanation, or of one of its samples.
        title: The figure's title.

    Returns:
        The figure: three axes that share their rows.

    Raises:
        InputError: The summary has no layers.
    """
    from matplotlib.ticker import MaxNLocator

    if not summary.layers:
        raise InputError("a summary without layers cannot be drawn")
    count = len(summary.layers)
    row_height, font_size = (0.26, 9) if count <= _MANY else (0.14, 6)
    names = [_short(layer.name) for layer in summary.layers]
    figure = _figure(7.5 + 0.07 * max(map(len, names)), min(1.5 + row_height * count, _TALLEST))
    sums, shares, spreads = figure.subplots(1, 3, sharey=True, width_ratios=(2, 1, 1))
    rows, places = summary.rows(), np.arange(count)

    totals = np.array([row["sum"] for row in rows])
    sums.barh(places, totals, height=0.68, color=[_POSITIVE if total > 0 else _NEGATIVE for total in totals])
    _ranges(sums, [layer.sum for layer in summary.layers], zorder=2.5)  # over the bars
    sums.axvline(0, color=_INK, linewidth=0.8)
    sums.set_xlabel("sum of relevance", color=_SOFT_INK)
    sums.set_yticks(places, [_plain(name) for name in names])
    sums.set_ylim(count - 0.4, -0.6)
    sums.xaxis.set_major_locator(MaxNLocator(5, steps=(1, 2, 2.5, 5, 10)))
    for axes, figures, key, label in (
        (shares, [layer.positive for layer in summary.layers], "positive", "positive share"),
        (spreads, [layer.entropy for layer in summary.layers], "entropy", "entropy"),
    ):
        _ranges(axes, figures)
        axes.plot([row[key] for row in rows], places, color=_INK, linewidth=0.9, marker="o", markersize=4)
        axes.set_xlim(-0.04, 1.04)
        axes.set_xticks((0, 0.5, 1))
        axes.set_xlabel(label, color=_SOFT_INK)
    for axes in (sums, shares, spreads):
        _tidy(axes, bottom=True)
        axes.spines["left"].set_visible(False)
        axes.tick_params(axis="y", length=0, colors=_INK, labelsize=font_size)
        axes.grid(axis="x", color="#e6e7ea", linewidth=0.8)
        axes.set_axisbelow(True)
    _head(figure, title)
    return figure


def _ranges(axes: Axes, figures: list[Array], zorder: float = 1.5) -> None:
    """A line from the smallest to the largest value of each layer that has several."""
    for place, values in enumerate(figures):
        known = values[np.isfinite(values)]
        if known.size > 1:
            axes.plot([known.min(), known.max()], [place, place], color="#8f949d", linewidth=1.2, solid_capstyle="butt", zorder=zorder)


def _short(name: str) -> str:
    """A long name keeps its end, which tells layers of one block apart."""
    return name if len(name) <= _LONGEST_NAME else "…" + name[1 - _LONGEST_NAME :]
