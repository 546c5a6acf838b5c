"""Whether relevance lies where it should: inside a mask or a box."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from onnx_lrp.errors import InputError
from onnx_lrp.evaluation.regions import guess_channel_axis

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray


def box_mask(boxes: ArrayLike, size: Sequence[int]) -> NDArray[np.bool_]:
    """Masks of boxes.

    Args:
        boxes: (N, 4): left, top, right, bottom in pixels, the last two excluded.
        size: height and width.

    Returns:
        (N, height, width).

    Raises:
        InputError: a box has no pixel in the image.
    """
    array = np.asarray(boxes)
    if array.ndim != 2 or array.shape[1] != 4 or len(size) != 2:
        raise InputError(f"boxes are (N, 4) and a size (height, width), not {array.shape} and {tuple(size)}")
    left, top, right, bottom = (array[:, column, None, None] for column in range(4))
    y, x = np.arange(size[0])[:, None], np.arange(size[1])
    masks = (left <= x) & (x < right) & (top <= y) & (y < bottom)
    empty = np.flatnonzero(~masks.any((1, 2)))
    if len(empty):
        raise InputError(f"box {empty[0]}, {array[empty[0]].tolist()}, has no pixel in an image of {size[0]} x {size[1]}")
    return np.asarray(masks)


def pointing_game(relevance: ArrayLike, mask: ArrayLike, channel_axis: int | str | None = None) -> NDArray[np.float64]:
    """Whether the most relevant position lies inside the mask (Zhang et al. 2018): 1 or 0; of equal maxima, the share that does.

    Args:
        relevance: (N, ...); channels are summed.
        mask: where relevance should be, shaped like `relevance` without its channels, or with an axis of one in their place.
        channel_axis: of a sample, "none", or None to guess it as PixelFlipping does.

    Returns:
        (N,).

    Raises:
        InputError: a mask is empty or does not fit.
    """
    flat, inside = _pooled(relevance, mask, channel_axis)
    best = flat == flat.max(1, keepdims=True)
    return np.asarray((best & inside).sum(1) / best.sum(1))


def relevance_mass(
    relevance: ArrayLike, mask: ArrayLike, channel_axis: int | str | None = None, *, positive: bool = True
) -> NDArray[np.float64]:
    """The share of relevance that lies inside the mask (relevance mass accuracy, Arras et al. 2022).

    Args:
        relevance: (N, ...); channels are summed.
        mask: as in `pointing_game`.
        channel_axis: as in `pointing_game`.
        positive: count positive relevance only. Else signed relevance is summed, and shares may lie outside 0 ... 1.

    Returns:
        (N,), NaN where there is no relevance.

    Raises:
        InputError: a mask is empty or does not fit.
    """
    flat, inside = _pooled(relevance, mask, channel_axis)
    counted = np.maximum(flat, 0) if positive else flat
    total = counted.sum(1)
    return np.asarray(np.divide((counted * inside).sum(1), total, out=np.full(len(total), np.nan), where=total != 0))


def relevance_rank(relevance: ArrayLike, mask: ArrayLike, channel_axis: int | str | None = None) -> NDArray[np.float64]:
    """The share of the K most relevant positions that lie inside a mask of K positions (relevance rank accuracy, Arras et al. 2022).

    Args:
        relevance: (N, ...); channels are summed.
        mask: as in `pointing_game`.
        channel_axis: as in `pointing_game`.

    Returns:
        (N,).

    Raises:
        InputError: a mask is empty or does not fit.
    """
    flat, inside = _pooled(relevance, mask, channel_axis)
    ranks = np.argsort(-flat, 1, kind="stable")
    hits = [inside_[order[: inside_.sum()]].mean() for inside_, order in zip(inside, ranks, strict=True)]
    return np.array(hits)


def pooled(relevance: ArrayLike, channel_axis: int | str | None = None) -> NDArray[np.float64]:
    """Relevance summed over the channels of samples, (N, ...), if they have any."""
    array = np.asarray(relevance, np.float64)
    axis = guess_channel_axis(array.shape[1:]) if channel_axis is None else channel_axis
    return array.sum(1 + axis) if isinstance(axis, int) else array


def _pooled(relevance: ArrayLike, mask: ArrayLike, channel_axis: int | str | None) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """Relevance and mask of each sample, (N, positions)."""
    array = np.asarray(relevance)
    axis = guess_channel_axis(array.shape[1:]) if channel_axis is None else channel_axis
    maps, masks = pooled(array, channel_axis), np.asarray(mask).astype(bool)
    if isinstance(axis, int) and masks.ndim == array.ndim and masks.shape[1 + axis] == 1:
        masks = masks.squeeze(1 + axis)
    if masks.shape != maps.shape:
        raise InputError(f"the masks have shape {masks.shape}, the maps {maps.shape} without channels")
    if not np.isfinite(maps).all():
        raise InputError("the relevance holds NaN or infinity")
    flat = masks.reshape(len(masks), -1)
    if not flat.any(1).all():
        raise InputError(f"the mask of sample {int(np.argmin(flat.any(1)))} is empty")
    return maps.reshape(len(maps), -1), flat
