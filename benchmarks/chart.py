"""The plot: what an explanation of one image costs, ours against the floor and the peers."""

from __future__ import annotations

from typing import TYPE_CHECKING

import tables
from contenders import Captum, Ours, Zennit

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from matplotlib.axes import Axes
    from results import Row

STYLES = {
    Captum.name: {"color": "#e69f00", "marker": "s", "markersize": 6},
    Zennit.name: {"color": "#d1495b", "marker": "^", "markersize": 7},
    Ours.name: {"color": "#1f6fb2", "marker": "o", "markersize": 8},
}
COLUMNS = 2
TICKS = [1, 2, 5, 10, 20, 50, 100, 200]


def draw(rows: Sequence[Row], path: Path) -> None:
    """A panel per network, a line per composite, costs in forward passes on a logarithmic axis; the smallest batch."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    batch = min((row.batch for row in rows), default=1)
    shown = [row for row in rows if row.batch == batch and row.cost()]
    networks, composites = tables.models_of(shown), tables.composites_of(shown)
    height = -(-len(networks) // COLUMNS)
    figure = Figure((9, 0.7 + height * (0.45 + 0.22 * len(composites))), dpi=120)
    FigureCanvasAgg(figure)
    axes = figure.subplots(max(height, 1), COLUMNS, sharex=True, sharey=True, squeeze=False)
    for panel, network in zip(axes.flat, networks, strict=False):
        _panel(panel, [row for row in shown if row.model == network], composites, tables.title(network))
    for panel in axes.flat[len(networks) :]:
        panel.set_visible(False)
    dearest = max((cost for row in shown for name in STYLES if (cost := row.cost(name))), default=1.0)
    ticks = [tick for tick in TICKS if tick < 1.2 * dearest]
    axes[0, 0].set_xlim(0.9, 1.2 * dearest)
    axes[0, 0].set_xticks(ticks, [str(tick) for tick in ticks])
    axes[0, 0].minorticks_off()
    for panel in axes[-1]:
        panel.set_xlabel(f"forward passes, batch {batch}")
    found: dict[str, object] = {}
    for panel in axes.flat:
        handles, names = panel.get_legend_handles_labels()
        found |= dict(zip(names, handles, strict=True))
    wanted = [name for name in ("floor", *reversed(STYLES)) if name in found]
    figure.legend([found[name] for name in wanted], wanted, loc="upper center", ncols=max(len(wanted), 1), frameon=False)
    figure.tight_layout(rect=(0, 0, 1, 1 - 0.35 / figure.get_figheight()))
    figure.savefig(path)


def _panel(axes: Axes, rows: Sequence[Row], composites: Sequence[str], title: str) -> None:
    axes.set_title(title, fontsize=10, loc="left", fontweight="bold")
    axes.set_xscale("log")
    for row in rows:
        y = composites.index(row.composite)
        costs = {name: cost for name in STYLES if (cost := row.cost(name)) is not None}
        axes.plot([row.floor or min(costs.values()), max(costs.values())], [y, y], color="#cccccc", linewidth=2, zorder=1)
        if row.floor:
            axes.plot(row.floor, y, "|", color="black", markersize=13, markeredgewidth=2, zorder=2, label="floor")
        for name, cost in costs.items():
            axes.plot(cost, y, linestyle="none", zorder=3, label=name, **STYLES[name])
    axes.set_yticks(range(len(composites)), composites, fontsize=8)
    axes.set_ylim(len(composites) - 0.4, -0.6)
    axes.grid(visible=True, axis="x", color="#eeeeee")
    axes.set_axisbelow(True)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
