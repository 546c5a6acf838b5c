"""How alike two maps are: by the ranks of their elements, and by their structure."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from onnx_lrp.errors import InputError

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

WINDOW = 7
"""The side of the window that structure is compared in."""


def rank_correlation(a: ArrayLike, b: ArrayLike) -> NDArray[np.float64]:
    """Spearman's rank correlation of each sample's elements; equal elements share their mean rank. NaN where a map is constant.

    Args:
        a: (N, ...).
        b: likewise.

    Returns:
        (N,), between -1 and 1.

    Raises:
        InputError: the shapes differ.
    """
    first, second = _both(a, b)
    ranks = [np.stack([_ranks(row) for row in maps.reshape(len(maps), -1)]) for maps in (first, second)]
    x, y = (rank - rank.mean(1, keepdims=True) for rank in ranks)
    length = np.sqrt((x**2).sum(1) * (y**2).sum(1))
    return np.asarray(np.divide((x * y).sum(1), length, out=np.full(len(x), np.nan), where=length > 0))


def ssim(a: ArrayLike, b: ArrayLike, window: int = WINDOW) -> NDArray[np.float64]:
    """The structural similarity of maps (Wang et al. 2004), the mean over all windows that lie inside.

    (2 ma mb + C1) (2 cab + C2) / ((ma^2 + mb^2 + C1) (va + vb + C2)) with means m, unbiased variances v and covariance c in the window,
    C1 = (0.01 L)^2, C2 = (0.03 L)^2, and L the range of both maps together. It depends on the maps' scale: bring them to one first.

    Args:
        a: (N, ...), without channels.
        b: likewise.
        window: the side of the window, odd; along shorter axes, the largest odd length that fits.

    Returns:
        (N,), at most 1. Two maps of one and the same value have 1.

    Raises:
        InputError: the shapes differ, or the window is no odd number above 1.
    """
    first, second = _both(a, b)
    if not isinstance(window, int) or window < 3 or window % 2 == 0:
        raise InputError(f"a window's side is an odd number from 3 on, not {window!r}")
    sides = [min(window, length - (length % 2 == 0)) for length in first.shape[1:]]
    count = int(np.prod(sides))
    if count < 2:
        raise InputError(f"maps of shape {first.shape[1:]} have no structure to compare")

    def mean(values: NDArray[np.float64]) -> NDArray[np.float64]:
        for axis, side in enumerate(sides, 1):
            values = np.lib.stride_tricks.sliding_window_view(values, side, axis).mean(-1)
        return values

    unbiased = count / (count - 1)
    ma, mb = mean(first), mean(second)
    va, vb = unbiased * (mean(first**2) - ma**2), unbiased * (mean(second**2) - mb**2)
    cab = unbiased * (mean(first * second) - ma * mb)
    axes = tuple(range(1, first.ndim))
    span = np.maximum(first.max(axes, keepdims=True), second.max(axes, keepdims=True))
    span = span - np.minimum(first.min(axes, keepdims=True), second.min(axes, keepdims=True))
    c1, c2 = (0.01 * span) ** 2, (0.03 * span) ** 2
    below = (ma**2 + mb**2 + c1) * (va + vb + c2)
    above = (2 * ma * mb + c1) * (2 * cab + c2)
    return np.asarray(np.divide(above, below, out=np.ones_like(below), where=(below > 0) & (span > 0)).mean(axes))


def scaled(maps: ArrayLike) -> NDArray[np.float64]:
    """Maps, (N, ...), each divided by its largest absolute value."""
    array = np.asarray(maps, np.float64)
    largest = np.abs(array).max(tuple(range(1, array.ndim)), keepdims=True)
    return np.asarray(np.divide(array, largest, out=np.zeros_like(array), where=largest > 0))


def _both(a: ArrayLike, b: ArrayLike) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    first, second = np.asarray(a, np.float64), np.asarray(b, np.float64)
    if first.shape != second.shape or first.ndim < 2 or not first.size:
        raise InputError(f"two arrays of maps, (N, ...), of one shape are compared, not {first.shape} and {second.shape}")
    return first, second


def _ranks(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Ranks from 0 on; equal values share their mean rank."""
    _, inverse, counts = np.unique(values, return_inverse=True, return_counts=True)
    last = np.cumsum(counts)
    return np.asarray((last - (counts + 1) / 2)[inverse.reshape(-1)])
