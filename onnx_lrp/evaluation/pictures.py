"""Pictures of pixel flipping: curves, the perturbed samples, how many regions go in each step."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from itertools import cycle
from typing import TYPE_CHECKING, Any

import numpy as np

from onnx_lrp.errors import InputError
from onnx_lrp.image import contact_sheet, heatmap, imgify

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from PIL.Image import Image

    from onnx_lrp.evaluation.curves import Flipping
    from onnx_lrp.evaluation.flipping import Perturbed
    from onnx_lrp.evaluation.randomisation import Randomisation
    from onnx_lrp.graph import Array

_COLOURS = ("#b2182b", "#2166ac", "#1b7837", "#762a83", "#e08214", "#01665e", "#8c510a", "#4d4d4d")


def _axes(title: str | None, ylabel: str, width: float = 6.4) -> tuple[Figure, Axes]:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, 4.2), layout="constrained")
    axes = figure.add_subplot()
    axes.spines[["top", "right"]].set_visible(False)
    axes.set_xlabel("step")
    axes.set_ylabel(ylabel)
    if title:
        axes.set_title(title, loc="left")
    return figure, axes


def flipping_figure(flipping: Flipping, title: str | None = None) -> Figure:
    """One run: each sample's curve in grey (of many samples: 200 of them), the mean in colour, its area filled."""
    figure, axes = _axes(title or flipping.order.replace("_", " "), "score")
    steps = np.arange(len(flipping.flips))
    shown = flipping.scores[np.linspace(0, len(flipping.scores) - 1, min(200, len(flipping.scores))).astype(int)]
    axes.plot(steps, shown.T, color="0.6", linewidth=0.6, alpha=0.5)
    axes.fill_between(steps, flipping.mean, color=_COLOURS[0], alpha=0.15, linewidth=0)
    axes.plot(steps, flipping.mean, color=_COLOURS[0], linewidth=2, label=f"mean, area {flipping.auc:.4g}")
    axes.margins(x=0)
    axes.legend(frameon=False)
    return figure


def curves_figure(runs: Mapping[str, Flipping], title: str | None = None, groups: Mapping[str, Any] | None = None) -> Figure:
    """Several runs on one axis: mean curves, each with a band of one standard error.

    Args:
        runs: name -> run.
        title: above the picture.
        groups: name -> anything; runs of one group share a colour and differ by dashes.

    Raises:
        InputError: there are no runs.
    """
    if not runs:
        raise InputError("there are no curves to draw")
    figure, axes = _axes(title, "mean score", 7.6)
    colours: dict[Any, str] = {}
    fresh = cycle(_COLOURS)
    dashes = {"most_relevant_first": "-", "least_relevant_first": "--", "random": ":"}
    for name, run in runs.items():
        group = name if groups is None else groups[name]
        if group not in colours:
            colours[group] = next(fresh)
        steps = np.arange(len(run.flips))
        error = run.scores.std(0) / np.sqrt(len(run.scores))
        faint = 0.15 if len(runs) <= 4 else 0.06
        axes.fill_between(steps, run.mean - error, run.mean + error, color=colours[group], alpha=faint, linewidth=0)
        style = dashes[run.order] if groups is not None else "-"
        axes.plot(steps, run.mean, style, color=colours[group], linewidth=1.8, label=f"{name.replace('_', ' ')}  ({run.auc:.4g})")
    axes.margins(x=0)
    figure.legend(frameon=False, loc="outside right upper", title="area under the curve")
    return figure


def flips_figure(flipping: Flipping, title: str | None = None) -> Figure:
    """How many regions are perturbed in each step, as bars."""
    figure, axes = _axes(title or f"{flipping.regions} regions", "regions perturbed in this step")
    steps = np.arange(1, len(flipping.flips))
    axes.bar(steps, np.diff(flipping.flips), color=_COLOURS[1])
    return figure


def randomisation_figure(test: Randomisation, title: str | None = None) -> Figure:
    """How alike the maps stay from stage to stage: means over the samples, with a band of one standard error."""
    figure, axes = _axes(title or "maps after randomising the parameters, beside the original ones", "likeness", 7.6)
    stages = np.arange(len(test.layers) + 1)
    for colour, name, values in zip(_COLOURS, ("rank correlation", "SSIM"), (test.rank_correlation, test.ssim), strict=False):
        known = np.ma.masked_invalid(np.concatenate([np.ones((1, values.shape[1])), values]))
        mean = known.mean(1).filled(np.nan)
        error = known.std(1).filled(np.nan) / np.sqrt(np.maximum(known.count(1), 1))
        axes.fill_between(stages, mean - error, mean + error, color=colour, alpha=0.15, linewidth=0)
        axes.plot(stages, mean, "o-", color=colour, linewidth=1.8, markersize=4, label=name)
    axes.axhline(0, color="0.6", linewidth=0.8)
    labels = [name if len(name) <= 24 else "..." + name[-22:] for name in test.layers]
    axes.set_xticks(stages, ["original", *labels], rotation=45, ha="right", fontsize=8, parse_math=False)
    axes.set_xlabel("randomised up to")
    axes.legend(frameon=False)
    return figure


def heatmap_sheet(pictures: Sequence[Any], maps: Mapping[str, Array], names: Sequence[str] | None = None, cell: int = 140) -> Image:
    """A row per sample: the picture, then its relevance by each method, red for and blue against.

    Args:
        pictures: N pictures.
        maps: name of the method -> relevance without channels, (N, H, W).
        names: of the samples.
        cell: the side of a picture in the sheet, in pixels.
    """
    rows = [[picture, *(heatmap(relevance[row]) for relevance in maps.values())] for row, picture in enumerate(pictures)]
    return contact_sheet(rows, names, ["input", *(name.replace("_", " ") for name in maps)], cell=cell)


def flipping_sheet(
    steps: Iterable[Perturbed], relevance: Array, shown: Sequence[int], channel_axis: int | None = 0, *, bgr: bool = False
) -> Image:
    """A row per sample: the image, its relevance, then at each chosen step the perturbed image and what has been perturbed.

    Args:
        steps: what `PixelFlipping.steps_of` gives.
        relevance: as given there, (N, ...).
        shown: the steps to draw.
        channel_axis: of a sample, None for images without channels.
        bgr: whether the channels are blue, green, red.

    Raises:
        InputError: the samples are no images.
    """
    rows: list[list[Any]] = [[] for _ in relevance]
    heads: list[str] = []
    bounds: list[tuple[float, float]] = []  # those of the sample itself hold for all its steps
    for done in steps:
        if done.step and done.step not in shown:
            continue
        if not done.step:
            bounds = [(float(sample.min()), float(sample.max())) for sample in done.samples]
        heads += ["input", "relevance"] if not done.step else [f"step {done.step}", "perturbed"]
        for row, (sample, mask, score) in enumerate(zip(done.samples, done.masks, done.scores, strict=True)):
            plain = sample if channel_axis is None else np.moveaxis(sample, channel_axis, 0)
            if plain.ndim not in (2, 3):
                raise InputError(f"a sheet shows images, not samples of shape {sample.shape}")
            plain = plain[::-1] if bgr and plain.ndim == 3 else plain
            seen = plain[0] if plain.ndim == 3 and len(plain) != 3 else plain
            picture = imgify(seen, *bounds[row], cmap="gray")
            second = (
                heatmap(_plane(relevance[row], channel_axis))
                if not done.step
                else imgify(_plane(mask, channel_axis), vmin=0, vmax=1, cmap="gray")
            )
            rows[row] += [(picture, f"score {score:.4g}"), (second, "")]
    return contact_sheet(
        [[cell for cell, _ in row] for row in rows], None, heads, [[caption for _, caption in row] for row in rows], cell=140
    )


def _plane(array: Array, channel_axis: int | None) -> Array:
    return np.asarray(array, np.float64) if channel_axis is None else np.asarray(array, np.float64).sum(channel_axis)
