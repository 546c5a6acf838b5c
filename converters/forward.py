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


def windows(x: Array, kernel: Sequence[int], strides: Sequence[int], dilations: Sequence[int] | None = None) -> Array:
    """All windows that lie wholly in x: a view of shape (N, C, *places, *kernel)."""
    dilations = dilations or [1] * len(kernel)
    axes = tuple(range(2, 2 + len(kernel)))
    extent = tuple((length - 1) * step + 1 for length, step in zip(kernel, dilations, strict=True))
    view = sliding_window_view(x, extent, axes)
    every = [slice(None, None, step) for step in (*strides, *dilations)]
    return view[(slice(None), slice(None), *every)]


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
    dims = weight.ndim - 2
    seen = windows(x, weight.shape[2:], strides, dilations)
    each, channels = weight.shape[0] // group, weight.shape[1]
    inner = [1, *range(2 + dims, 2 + 2 * dims)]
    parts = [
        np.tensordot(seen[:, g * channels : (g + 1) * channels], weight[g * each : (g + 1) * each], (inner, range(1, 2 + dims)))
        for g in range(group)
    ]
    y: Array = np.moveaxis(np.concatenate(parts, -1), -1, 1)
    if bias is not None:
        y += bias.reshape(-1, *[1] * dims)
    return y


def softmax(x: Array, axis: int) -> Array:
    """exp(x) / sum(exp(x)) along an axis."""
    powers: Array = np.exp(x - x.max(axis, keepdims=True))
    powers /= powers.sum(axis, keepdims=True)
    return powers
