"""What a sample's relevance looks like: a heat map, a signal, or a table of features."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from onnx_lrp.errors import InputError

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from PIL.Image import Image

    from onnx_lrp.graph import Array

    Pictures = dict[str, "Image | Figure"]

__all__ = ["Style", "draw", "draw_tokens"]

_SIZE = 448
"""Heat maps and overlays that are smaller are enlarged to about this many pixels."""
_SMALL = 100
"""Pictures below this size are enlarged with sharp pixels."""
_CHANNELS = (1, 3, 4)


@dataclass(frozen=True)
class Style:
    """How to draw."""

    cmap: str | None = None
    """The colour map; None for the usual one of each kind of picture."""
    overlay: bool | None = None
    """Whether to draw relevance on top of pictures; None: on photos."""
    layout: Literal["auto", "NCHW", "NHWC"] = "auto"


def draw(relevance: Array, values: Array | None, photo: Image | None, title: str, style: Style) -> Pictures:
    """Draw one sample.

    Args:
        relevance: Of one sample, without batch axis.
        values: What it is the relevance of, if that has its shape.
        photo: What the sample looks like.
        title: What is explained; for figures.
        style: How to draw.

    Returns:
        Pictures by kind, "relevance" and perhaps "overlay"; empty if relevance of this shape cannot be drawn.
    """
    from onnx_lrp import plot

    if relevance.ndim == 3:
        return _heat_maps(relevance, values, photo, style)
    if relevance.ndim == 2 and values is not None and _is_signal(relevance.shape):
        signal, along = (values.T, relevance.T) if relevance.shape[0] > relevance.shape[1] else (values, relevance)
        return {"relevance": plot.plot_signal(signal, along, title=title, cmap=style.cmap or plot.SIGNAL_CMAP)}
    if relevance.ndim == 2:
        return _heat_maps(relevance[None], None, photo, style)
    if relevance.ndim <= 1:
        return {"relevance": plot.plot_tabular(None if values is None else values.reshape(-1), relevance.reshape(-1), title=title)}
    return {}


def draw_tokens(tokens: Array, relevance: Array, title: str) -> Pictures:
    """Draw the relevance of tokens.

    Args:
        tokens: Their numbers, shape (L,).
        relevance: Of their embeddings, shape (L, width).
        title: What is explained.
    """
    from onnx_lrp import plot

    names = [f"token {place}" for place in range(len(tokens))]
    return {"relevance": plot.plot_tabular(tokens, relevance.sum(1), names, title=title)}


def _is_signal(shape: tuple[int, ...]) -> bool:
    """Tell a few channels over time from a picture: the longer axis is time."""
    few, many = sorted(shape)
    return few <= 32 and many >= 2 * few and many > 1


def _heat_maps(scores: Array, values: Array | None, photo: Image | None, style: Style) -> Pictures:
    """Draw (channels, height, width) or (height, width, channels)."""
    from onnx_lrp import image

    layout = style.layout
    if layout == "auto" and scores.shape[0] not in _CHANNELS and scores.shape[-1] not in _CHANNELS:
        layout = "NCHW"
    total = image.channel_sum(scores, layout)
    cmap = style.cmap or "bwr"
    height, width = total.shape
    factor = max(1, round(_SIZE / max(height, width)))
    size = (width * factor, height * factor)
    pictures: Pictures = {"relevance": image.heatmap(total, cmap, size)}
    below = photo if photo is not None or not style.overlay else _picture(values)
    if below is not None and style.overlay is not False:
        pictures["overlay"] = _overlay(below, total, cmap)
    return pictures


def _overlay(photo: Image, total: Array, cmap: str) -> Image:
    """Draw relevance on a picture, enlarged if it is small."""
    from PIL.Image import Resampling

    from onnx_lrp import image

    factor = max(1, round(_SIZE / max(photo.size)))
    sharp = max(photo.size) < _SMALL
    large = photo.resize((photo.width * factor, photo.height * factor), Resampling.NEAREST if sharp else Resampling.BICUBIC)
    if sharp and total.shape == (photo.height, photo.width):
        total = total.repeat(factor, 0).repeat(factor, 1)
    return image.overlay(large, total, cmap)


def _picture(values: Array | None) -> Image | None:
    """What an array looks like, if it is a picture."""
    from onnx_lrp import image

    if values is None:
        return None
    try:
        return image.imgify(values, cmap="gray").convert("RGB")
    except InputError:
        return None
