"""Figures of the conservation account: from the seed, over what was kept on the way, to the inputs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from onnx_lrp.plot import _INK, _NEGATIVE, _POSITIVE, _SOFT_INK, _figure, _head, _plain, _tidy

if TYPE_CHECKING:
    from collections.abc import Mapping

    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from onnx_lrp.conservation import Conservation

__all__ = ["plot_accounts"]

_ENDS: Final = "#6b7280"


def plot_accounts(accounts: Mapping[str, Conservation], title: str | None = None) -> Figure:
    """Draw accounts as waterfalls, one below the other, in percent of the seed summed over the samples.

    The first bar is the seed, the last what arrived at the inputs. Each bar between goes from what was left before to what is left after
    its category: red where it kept relevance, blue where relevance grew.

    Args:
        accounts: Title of each waterfall -> the account.
        title: The figure's title.

    Returns:
        The figure: one axes for each account, each with eight bars.
    """
    figure = _figure(8.2, 0.5 + 2.9 * len(accounts))
    for axes, (name, account) in zip(figure.subplots(len(accounts), 1, squeeze=False)[:, 0], accounts.items(), strict=True):
        _waterfall(axes, account)
        if name:
            axes.set_title(_plain(name), fontsize=10, color=_SOFT_INK, loc="left", pad=8)
    _head(figure, title)
    return figure


def _waterfall(axes: Axes, account: Conservation) -> None:
    totals = account.totals()
    seed = totals["seed"]
    unit, scale = ("% of the seed", 100.0 / seed) if seed else ("relevance", 1.0)
    steps = {name: value * scale for name, value in totals.items() if name not in ("seed", "inputs")}
    left = seed * scale
    ends = {"seed": left, "inputs": totals["inputs"] * scale}
    names = ["seed", *steps, "inputs"]
    bottoms, heights, colours, levels = [0.0], [left], [_ENDS], [left]
    for value in steps.values():
        bottoms.append(left)
        heights.append(-value)
        colours.append(_POSITIVE if value > 0 else _NEGATIVE)
        left -= value
        levels.append(left)
    bars = axes.bar(names, [*heights, ends["inputs"]], bottom=[*bottoms, 0.0], color=[*colours, _ENDS], width=0.62, zorder=2)
    for place, level in enumerate(levels):  # what is left, carried to the next bar
        axes.plot([place - 0.31, place + 0.69], [level, level], color=_SOFT_INK, linewidth=0.8, zorder=1)
    texts = [f"{ends['seed']:.4g}", *(_step(-value) for value in steps.values()), f"{ends['inputs']:.4g}"]
    tops = [max(bar.get_y(), bar.get_y() + bar.get_height()) for bar in bars]
    low, high = min(0.0, ends["inputs"], *levels), max(0.0, ends["inputs"], *levels)
    span = high - low or 1.0
    for place, (top, text) in enumerate(zip(tops, texts, strict=True)):
        axes.text(place, top + 0.02 * span, text.replace("-", "−"), ha="center", va="bottom", fontsize=9, color=_SOFT_INK)
    axes.axhline(0, color=_INK, linewidth=0.8)
    axes.set_ylim(low - 0.03 * span * (low < 0), high + 0.16 * span)  # room for the numbers
    axes.set_ylabel(unit, color=_SOFT_INK)
    _tidy(axes, bottom=True)
    axes.tick_params(axis="x", length=0, colors=_INK)


def _step(value: float) -> str:
    """A change in percent; what rounding alone makes is zero."""
    return f"{value:+.3g}" if abs(value) >= 5e-4 else "0"
