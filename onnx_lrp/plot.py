"""Figures of relevance: signals, tables of features, pictures. They need matplotlib, but none of its global state."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from onnx_lrp.colormaps import SIZE, is_diverging, numbers, palette, plane, robust_bound
from onnx_lrp.errors import InputError
from onnx_lrp.image import atomic_write, imgify, overlay

if TYPE_CHECKING:
    import os
    from collections.abc import Sequence

    from matplotlib.axes import Axes
    from matplotlib.cm import ScalarMappable
    from matplotlib.figure import Figure
    from numpy.typing import ArrayLike, NDArray
    from PIL.Image import Image

__all__ = ["SIGNAL_CMAP", "plot_image", "plot_signal", "plot_tabular", "save_figure"]

SIGNAL_CMAP: Final = "0a4bd6,40:6f9be8,80:c9ccd1,c0:f0807a,d4001a"
"""The colours of ``plot_signal``: blue, grey where there is no relevance, red. A line in them is visible throughout."""

_POSITIVE: Final = "#c8202f"
_NEGATIVE: Final = "#2563b8"
_INK: Final = "#1c1e22"
_SOFT_INK: Final = "#5c6068"
_LONGEST_NAME: Final = 48
_MANY_CHANNELS: Final = 16


def plot_signal(
    signal: ArrayLike,
    relevance: ArrayLike,
    names: Sequence[str] | None = None,
    title: str | None = None,
    *,
    times: ArrayLike | None = None,
    xlabel: str | None = None,
    cmap: str = SIGNAL_CMAP,
    percentile: float = 99.5,
) -> Figure:
    """Draw signals as lines in the colours of their relevance, one row a channel.

    The piece of line between two samples has the colour of their mean relevance. All channels share the colour scale, which
    has zero in its centre (with a one-sided colour map, at its start). More than 16 channels are drawn smaller, and without
    numbers at the vertical axes.

    Args:
        signal: Shape (L,), (C, L) or (1, C, L), with at least two samples.
        relevance: The same shape.
        names: The channels' names, C of them.
        title: The figure's title.
        times: When the samples were taken, shape (L,); default 0, 1, 2, ...
        xlabel: What the samples are along; default "sample", or "time" if ``times`` is given.
        cmap: The colour map, as for ``onnx_lrp.colormaps.palette``.
        percentile: The relevance with the outermost colour, as for ``onnx_lrp.colormaps.robust_bound``; 100 for the maximum.

    Returns:
        The figure: one axes for each channel, each with one LineCollection of L - 1 segments, and the colour bar.

    Raises:
        InputError: A shape or the number of names does not fit, the colour map is unknown, or values are not finite real
            numbers.
    """
    from matplotlib.collections import LineCollection

    heights, scores = numbers(signal, "signal"), numbers(relevance)
    if heights.shape != scores.shape:
        raise InputError(f"the signal has shape {heights.shape}, its relevance {scores.shape}")
    if heights.ndim == 3 and len(heights) == 1:
        heights, scores = heights[0], scores[0]
    heights, scores = np.atleast_2d(heights), np.atleast_2d(scores)
    channels, samples = heights.shape if heights.ndim == 2 else (0, 0)
    if samples < 2:
        raise InputError(f"a signal of shape (L,) or (C, L) with at least 2 samples is expected, not {np.shape(signal)}")
    if names is not None and len(names) != channels:
        raise InputError(f"{len(names)} names for {channels} channels")
    along = np.arange(samples, dtype=np.float64) if times is None else numbers(times, "times")
    if along.shape != (samples,):
        raise InputError(f"times of shape ({samples},) are expected, not {along.shape}")

    many = channels > _MANY_CHANNELS
    tall = min(40.0, 1.2 + (2.2 if channels == 1 else 0.4 if many else 1.05) * channels)
    figure = _figure(10, tall, automatic=not many)
    if many:  # the automatic layout would take long
        figure.subplots_adjust(left=0.12, right=0.98, bottom=0.6 / tall, top=1 - 0.6 / tall, hspace=0.1)
    rows: list[Axes] = list(figure.subplots(channels, 1, sharex=True, squeeze=False)[:, 0])
    colouring, extend = _colouring(scores, cmap, percentile)
    for index, (axes, height, score) in enumerate(zip(rows, heights, scores, strict=True)):
        points = np.stack([along, height], axis=1)
        pieces = LineCollection(
            list(np.stack([points[:-1], points[1:]], axis=1)),
            cmap=colouring.get_cmap(), norm=colouring.norm, linewidths=1.8, capstyle="round", zorder=2,
        )  # fmt: skip
        pieces.set_array(score[:-1] / 2 + score[1:] / 2)
        axes.plot(along, height, color="#c9ccd1", linewidth=0.7, zorder=1)
        axes.add_collection(pieces)
        axes.margins(x=0.01, y=0.12)
        _tidy(axes, bottom=index == channels - 1)
        if names is not None:
            axes.set_ylabel(_plain(names[index]), rotation=0, ha="right", va="center", color=_INK)
        if many:
            axes.set_yticks([])
    rows[-1].set_xlabel(_plain(xlabel or ("sample" if times is None else "time")), color=_SOFT_INK)
    if not many:
        figure.align_ylabels(rows)
    _colour_bar(figure, colouring, extend, {"ax": rows, "pad": 0.02, "aspect": 5.4 * tall, "label": "relevance"})
    _head(figure, title, {"y": 1 - 0.2 / tall} if many else None)
    return figure


def plot_tabular(
    values: ArrayLike | Sequence[object] | None,
    relevance: ArrayLike,
    names: Sequence[str] | None = None,
    top: int = 20,
    title: str | None = None,
) -> Figure:
    """Draw the relevance of features as bars, the most relevant at the top: red for positive relevance, blue for negative.

    Args:
        values: The features' values, numbers or anything with a text, shape (F,) or (1, F); None to leave them out.
        relevance: Shape (F,) or (1, F).
        names: The features' names, F of them; default "feature 0", "feature 1", ...
        top: How many features to show, by absolute relevance; a line below tells what the others sum to.
        title: The figure's title.

    Returns:
        The figure: one axes, its bars from the top down in the order of absolute relevance.

    Raises:
        InputError: A shape or the number of names does not fit, ``top`` is not positive, or relevance is not finite real
            numbers.
    """
    from matplotlib.ticker import MaxNLocator

    scores = _row(numbers(relevance), "relevance")
    count = len(scores)
    shown = [""] * count if values is None else [f" = {_text(value)}" for value in _row(np.asarray(values, object), "values")]
    labels = [f"feature {index}" for index in range(count)] if names is None else [str(name) for name in names]
    for what, given in (("values", shown), ("names", labels)):
        if len(given) != count:
            raise InputError(f"{len(given)} {what} for the relevance of {count} features")
    if top < 1:
        raise InputError(f"top must be at least 1, not {top}")

    order = np.argsort(-np.abs(scores), kind="stable")
    first, rest = order[:top], order[top:]
    texts = [_short(labels[one]) + shown[one] for one in first]
    figure = _figure(6.2 + 0.08 * max(map(len, texts)), 1.3 + 0.32 * len(first))
    axes = figure.subplots()
    places = np.arange(len(first))
    bars = axes.barh(places, scores[first], height=0.68, color=[_POSITIVE if scores[one] > 0 else _NEGATIVE for one in first])
    axes.bar_label(bars, [_signed(scores[one]) for one in first], padding=4, fontsize=9, color=_SOFT_INK)
    axes.set_yticks(places, [_plain(text) for text in texts])
    axes.set_ylim(len(first) - 0.4, -0.6)
    axes.axvline(0, color=_INK, linewidth=0.8)
    low, high = min(0.0, float(scores[first].min())), max(0.0, float(scores[first].max()))
    room = 0.16 * (high - low) or 1.0  # for the numbers next to the bars
    axes.set_xlim(low - room * (low < 0), high + room * (high > 0 or low == 0))
    axes.xaxis.set_major_locator(MaxNLocator(6))
    _tidy(axes, bottom=True)
    axes.spines["left"].set_visible(False)
    axes.tick_params(axis="y", length=0, colors=_INK)
    axes.grid(axis="x", color="#e6e7ea", linewidth=0.8)
    axes.set_axisbelow(True)
    note = "relevance"
    if len(rest):
        note += f"\n{len(rest)} more feature{'s' * (len(rest) > 1)} with {_signed(math.fsum(scores[rest]))} in sum"
    axes.set_xlabel(note, color=_SOFT_INK)
    _head(figure, title)
    return figure


def plot_image(
    photo: Image | ArrayLike | None,
    relevance: ArrayLike,
    title: str | None = None,
    cmap: str = "bwr",
    *,
    alpha: float = 0.85,
    percentile: float = 99.5,
) -> Figure:
    """Draw a map of relevance with its colour bar; with a photo, before it the photo and both on top of each other.

    Args:
        photo: A Pillow image or an array, as for ``onnx_lrp.image.overlay``, or None.
        relevance: Shape (H, W); axes of size one around it are fine.
        title: The figure's title.
        cmap: The colour map, as for ``onnx_lrp.image.heatmap``.
        alpha: How much the outermost colour covers the photo, 0 to 1.
        percentile: The relevance with the outermost colour, as for ``onnx_lrp.colormaps.robust_bound``; 100 for the maximum.

    Returns:
        The figure: axes for photo, overlay and relevance, or for relevance only, and the colour bar.

    Raises:
        InputError: A shape does not fit, alpha is not from 0 to 1, the colour map is unknown, or values are not finite real
            numbers.
    """
    from PIL.Image import Image as Picture

    scores = plane(relevance)
    colouring, extend = _colouring(scores, cmap, percentile)
    panels: list[tuple[str, Any]] = [("relevance", scores)]
    if photo is not None:
        picture = (photo if isinstance(photo, Picture) else imgify(photo, cmap="gray")).convert("RGB")
        mixed = overlay(picture, scores, cmap, alpha, percentile=percentile)
        panels = [("photo", np.asarray(picture)), ("overlay", np.asarray(mixed)), ("relevance", scores)]
    tall = min(max(panels[0][1].shape[0] / panels[0][1].shape[1], 0.3), 3.0)
    figure = _figure(3.6 * len(panels) + 0.9, 3.6 * tall + (0.8 if title else 0.5))
    for axes, (name, shown) in zip(figure.subplots(1, len(panels), squeeze=False)[0], panels, strict=True):
        if name == "relevance":
            axes.imshow(shown, cmap=colouring.get_cmap(), norm=colouring.norm, interpolation="nearest")
            _colour_bar(figure, colouring, extend, {"cax": axes.inset_axes((1.03, 0, 0.045, 1))})
        else:
            axes.imshow(shown)
        axes.set_xticks([])
        axes.set_yticks([])
        for spine in axes.spines.values():
            spine.set_color("#ced0d5")
        axes.set_title(name, fontsize=10, color=_SOFT_INK)
    _head(figure, title)
    return figure


def save_figure(figure: Figure, path: str | os.PathLike[str], dpi: float = 150) -> None:
    """Write a figure to a file, whole or not at all: a file already there stays until the new one is complete.

    Args:
        figure: The figure.
        path: Where to; the suffix decides the format: .png, .svg, .pdf, ...
        dpi: Pixels an inch.

    Raises:
        InputError: matplotlib writes no files with this suffix.
        OSError: The file cannot be written.
    """
    kinds = figure.canvas.get_supported_filetypes()
    kind = Path(path).suffix.lower().removeprefix(".")
    if kind not in kinds:
        raise InputError(f"cannot write a figure to {str(path)!r}: unknown suffix; known: {', '.join(sorted(kinds))}")
    atomic_write(path, lambda file: figure.savefig(file, format=kind, dpi=dpi))


def _figure(width: float, height: float, *, automatic: bool = True) -> Figure:
    """Make an empty figure, with or without automatic layout; sizes in inches."""
    from matplotlib.figure import Figure
    from matplotlib.layout_engine import ConstrainedLayoutEngine

    return Figure(figsize=(width, height), layout=ConstrainedLayoutEngine(w_pad=0.1, h_pad=0.1) if automatic else None)


def _colouring(scores: NDArray[np.float64], cmap: str, percentile: float) -> tuple[ScalarMappable, str]:
    """Return what gives relevance its colours, and which ends of the colour bar have more beyond them."""
    from matplotlib.cm import ScalarMappable
    from matplotlib.colors import ListedColormap, Normalize

    colours = ListedColormap((palette(cmap) / (SIZE - 1)).tolist())
    bound = robust_bound(scores, percentile) or 1.0
    low = -bound if is_diverging(cmap) else 0.0
    beyond = (bool(scores.min() < low), bool(scores.max() > bound))
    extend = {(False, False): "neither", (True, False): "min", (False, True): "max", (True, True): "both"}[beyond]
    return ScalarMappable(Normalize(low, bound), colours), extend


def _colour_bar(figure: Figure, colouring: ScalarMappable, extend: str, where: dict[str, Any]) -> None:
    """Draw the colour bar."""
    from matplotlib.ticker import MaxNLocator, ScalarFormatter

    numerals = ScalarFormatter()
    numerals.set_powerlimits((-3, 4))
    ticks = MaxNLocator(nbins=5, symmetric=True)
    bar = figure.colorbar(colouring, ticks=ticks, format=numerals, extend=extend, extendfrac=0.03, **where)
    bar.outline.set_visible(False)
    bar.ax.tick_params(labelsize=9, colors=_SOFT_INK)
    bar.ax.yaxis.label.set_color(_SOFT_INK)
    bar.ax.yaxis.get_offset_text().set_color(_SOFT_INK)


def _tidy(axes: Axes, *, bottom: bool) -> None:
    """Leave of an axes' frame only what is read."""
    for side in ("top", "right", *(() if bottom else ("bottom",))):
        axes.spines[side].set_visible(False)
    for side in ("left", "bottom"):
        axes.spines[side].set_color("#b5b8bf")
    axes.tick_params(labelsize=9, colors=_SOFT_INK)
    if not bottom:
        axes.tick_params(axis="x", length=0)


def _head(figure: Figure, title: str | None, place: dict[str, Any] | None = None) -> None:
    """Give a figure its title, if there is one."""
    if title:
        figure.suptitle(_plain(title), fontsize=13, color=_INK, **(place or {}))


def _row(array: NDArray[Any], what: str) -> NDArray[Any]:
    """Bring the values of one sample to shape (F,)."""
    row = array[0] if array.ndim == 2 and len(array) == 1 else array
    if row.ndim != 1:
        raise InputError(f"{what} of shape (F,) are expected, not {array.shape}")
    return row


def _text(value: object) -> str:
    """Write a feature's value."""
    if not isinstance(value, (float, np.floating)):
        return _short(str(value))
    number = float(value)
    return f"{number:{'.0f' if 1e4 <= abs(number) < 1e9 else '.4g'}}".replace("-", "−")


def _signed(value: float) -> str:
    """Write relevance with its sign."""
    return f"{value:+.3g}".replace("-", "−") if value else "0"


def _short(text: str) -> str:
    """Cut a long text."""
    return text if len(text) <= _LONGEST_NAME else text[: _LONGEST_NAME - 1] + "…"


def _plain(text: str) -> str:
    """Keep matplotlib from reading a text as a formula."""
    return text.replace("$", r"\$")
