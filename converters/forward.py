"""A plain forward pass in NumPy and float64: what converted models are compared with.

Tensors are (N, C, H, W). The formulas are those of the frameworks' documentation, written without ONNX's attributes, so that a
misunderstanding of these shows.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

if TYPE_CHECKING:
    Array = NDArray[Any]

__all__ = ["convolution", "pad", "softmax", "windows"]


def pad(x: Array, before: Sequence[int], after: Sequence[int], value: float = 0.0) -> Array:
    """x with a margin around the spatial axes."""
    return np.pad(x, [(0, 0), (0, 0), *zip(before, after, strict=True)], constant_values=value)


def windows(x: Array, kernel: Sequence[int], strides: Sequence[int]) -> Array:
    """All windows that lie wholly in x: a view of shape (N, C, *places, *kernel)."""
    view = sliding_window_view(x, tuple(kernel), tuple(range(2, 2 + len(kernel))))
    return view[(slice(None), slice(None), *(slice(None, None, step) for step in strides))]


def convolution(
    x: Array, weight: Array, bias: Array | None, strides: Sequence[int], dilations: Sequence[int] | None = None, group: int = 1
) -> Array:
    """Cross-correlation without padding.

    Args:
        x: (N, C, *spatial).
        weight: (M, C / group, *kernel).
        bias: (M,), or None.
        strides: One step for each spatial axis.
        dilations: The distance of a kernel's elements; None: 1.
        group: Output channel m sees the C / group input channels of its own group.
    """
    kernel = weight.shape[2:]
    steps = dilations or [1] * len(kernel)
    sizes = [(n - (k - 1) * d - 1) // s + 1 for n, k, d, s in zip(x.shape[2:], kernel, steps, strides, strict=True)]
    each, channels = weight.shape[0] // group, weight.shape[1]
    y = np.zeros((weight.shape[0], len(x), *sizes))
    for place in np.ndindex(*kernel):  # one element of the kernel after the other takes the least memory
        ends = [at * d + s * (n - 1) + 1 for at, d, s, n in zip(place, steps, strides, sizes, strict=True)]
        spread = [slice(at * d, end, s) for at, d, end, s in zip(place, steps, ends, strides, strict=True)]
        element: tuple[Any, ...] = (..., *place)
        view: tuple[Any, ...] = (..., *spread)
        for g in range(group):
            outputs, inputs = slice(g * each, (g + 1) * each), slice(g * channels, (g + 1) * channels)
            y[outputs] += np.tensordot(weight[outputs][element], x[:, inputs][view], (1, 1))
    moved: Array = np.moveaxis(y, 0, 1)
    if bias is not None:
        moved += bias.reshape(-1, *[1] * len(kernel))
    return moved


def softmax(x: Array, axis: int) -> Array:
    """exp(x) / sum(exp(x)) along an axis."""
    powers: Array = np.exp(x - x.max(axis, keepdims=True))
    powers /= powers.sum(axis, keepdims=True)
    return powers
