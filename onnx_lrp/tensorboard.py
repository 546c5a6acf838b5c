"""Explanations in TensorBoard: heat maps, histograms and the summary's figures."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from onnx_lrp.colormaps import channel_sum
from onnx_lrp.errors import InputError
from onnx_lrp.image import heatmap
from onnx_lrp.summary import FIGURES, layer_summary

if TYPE_CHECKING:
    from onnx_lrp.explanation import Explanation
    from onnx_lrp.graph import Array

__all__ = ["log"]

_MOST = 16
"""How many samples get a heat map."""
_SIZE = 128
"""Smaller heat maps are enlarged to about this many pixels."""


def log(explanation: Explanation, writer: Any, step: int, tag: str) -> None:
    """Logs an explanation; see `Explanation.to_tensorboard`.

    For each tensor: a histogram of its relevance ("<tag>/<tensor>"), the means of the summary's figures ("<tag>/<tensor>/sum" ...;
    not those that are NaN), and of tensors with channels and two more axes (N, C, H, W) one picture with the heat maps of the first
    16 samples (and targets), side by side.
    """
    missing = [name for name in ("add_image", "add_histogram", "add_scalar") if not callable(getattr(writer, name, None))]
    if missing:
        raise InputError(f"a {type(writer).__name__} is no SummaryWriter: it has no {missing[0]}")
    several = explanation.targets_per_sample is not None
    for name, relevance in explanation.relevances.items():
        place = _place(tag, name)
        writer.add_histogram(place, relevance.reshape(-1), step)
        maps = relevance.reshape(-1, *relevance.shape[2:]) if several else relevance
        if maps.ndim == 4:
            total = channel_sum(maps[:_MOST], "auto" if name in explanation.inputs else "NCHW")
            writer.add_image(place, _row(total), step, dataformats="HWC")
    for row in layer_summary(explanation).rows():
        for figure in FIGURES:
            if np.isfinite(row[figure]):
                writer.add_scalar(f"{_place(tag, row['name'])}/{figure}", row[figure], step)


def _place(tag: str, name: str) -> str:
    return f"{tag}/{name.strip('/')}"


def _row(maps: Array) -> Array:
    """Heat maps side by side, each with its own scale and a white line after it: uint8 (height, width, 3)."""
    height, width = maps.shape[1:]
    factor = max(1, round(_SIZE / max(height, width)))
    pictures = [np.asarray(heatmap(one, size=(width * factor, height * factor))) for one in maps]
    return np.concatenate([np.pad(picture, ((0, 0), (0, 2), (0, 0)), constant_values=255) for picture in pictures], axis=1)
