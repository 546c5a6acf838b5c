"""Forward computations in NumPy, by their definitions, where onnx.reference lacks an operator or has it wrong."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Sequence

import numpy as np


def conv_transpose(
    x: np.ndarray,
    w: np.ndarray,
    b: np.ndarray | float = 0.0,
    *,
    strides: Sequence[int] = (),
    dilations: Sequence[int] = (),
    pads: Sequence[int] = (),
    output_padding: Sequence[int] = (),
    output_shape: Sequence[int] = (),
    auto_pad: str = "NOTSET",
    group: int = 1,
) -> np.ndarray:
    """Every input element adds its kernel to the output; then the padding is cut off."""
    dims = x.ndim - 2
    strides, dilations = strides or [1] * dims, dilations or [1] * dims
    extra = output_padding or [0] * dims
    spans = [dilation * (length - 1) + 1 for dilation, length in zip(dilations, w.shape[2:], strict=True)]
    whole = [stride * (size - 1) + span + more for stride, size, span, more in zip(strides, x.shape[2:], spans, extra, strict=True)]
    if auto_pad.startswith("SAME") and not output_shape:
        output_shape = [size * stride for size, stride in zip(x.shape[2:], strides, strict=True)]
    if output_shape:
        total = [full - wanted for full, wanted in zip(whole, output_shape, strict=True)]
        begins = [cut // 2 if auto_pad == "SAME_UPPER" else cut - cut // 2 for cut in total]
        pads = [*begins, *(cut - begin for cut, begin in zip(total, begins, strict=True))]
    pads = pads or [0] * 2 * dims
    out = w.shape[1]
    y = np.zeros((x.shape[0], out * group, *whole))
    share = x.shape[1] // group
    for part in range(group):
        inner = slice(part * share, (part + 1) * share)
        for tap in itertools.product(*map(range, w.shape[2:])):
            places = tuple(
                slice(dilation * index, dilation * index + stride * (size - 1) + 1, stride)
                for index, stride, size, dilation in zip(tap, strides, x.shape[2:], dilations, strict=True)
            )
            kernel = w[(inner, slice(None), *tap)]
            y[(slice(None), slice(part * out, (part + 1) * out), *places)] += np.einsum("nc...,co->no...", x[:, inner], kernel)
    kept = tuple(slice(pads[axis], y.shape[2 + axis] - pads[axis + dims]) for axis in range(dims))
    return y[(slice(None), slice(None), *kept)] + np.reshape(b, (-1, *[1] * dims))


def window_norm(x: np.ndarray, size: int, alpha: float, beta: float, bias: float) -> np.ndarray:
    """LRN: x / (bias + alpha / size * the sum of squares over the channels around)^beta."""
    total = np.zeros_like(x)
    for channel in range(x.shape[1]):
        low, high = max(0, channel - (size - 1) // 2), min(x.shape[1] - 1, channel + -(-(size - 1) // 2))
        total[:, channel] = (x[:, low : high + 1] ** 2).sum(1)
    return x / (bias + alpha / size * total) ** beta


def _taps(
    x: np.ndarray, fill: float, kernel: Sequence[int], strides: Sequence[int], pads: Sequence[int], dilations: Sequence[int]
) -> Iterator[np.ndarray]:
    """For each position in the kernel, the element that each window has there."""
    dims = x.ndim - 2
    strides, dilations, pads = strides or [1] * dims, dilations or [1] * dims, pads or [0] * 2 * dims
    padded = np.pad(x, [(0, 0), (0, 0), *zip(pads[:dims], pads[dims:], strict=True)], constant_values=fill)
    for tap in itertools.product(*map(range, kernel)):
        places = tuple(
            slice(dilation * index, size - dilation * (length - 1 - index), stride)
            for index, length, stride, dilation, size in zip(tap, kernel, strides, dilations, padded.shape[2:], strict=True)
        )
        yield padded[(slice(None), slice(None), *places)]


def lp_pool(x: np.ndarray, *, p: int = 2, kernel_shape: Sequence[int] = (), **window: Sequence[int]) -> np.ndarray:
    """(The sum of |x|^p over each window)^(1/p); without a kernel over all of it."""
    taps = _taps(x, 0.0, kernel_shape or x.shape[2:], *(window.get(key, ()) for key in ("strides", "pads", "dilations")))
    return sum(np.abs(tap) ** p for tap in taps) ** (1 / p)


def max_pool(x: np.ndarray, *, kernel_shape: Sequence[int] = (), **window: Sequence[int]) -> np.ndarray:
    """The largest element of each window; without a kernel of all of it."""
    taps = _taps(x, -np.inf, kernel_shape or x.shape[2:], *(window.get(key, ()) for key in ("strides", "pads", "dilations")))
    return np.max(list(taps), axis=0)


def pad(x: np.ndarray, p: Sequence[int], mode: str = "constant") -> np.ndarray:
    """Negative amounts cut first, then the rest is padded."""
    begins, ends = p[: x.ndim], p[x.ndim :]
    cut = tuple(slice(max(-begin, 0), length - max(-end, 0)) for begin, end, length in zip(begins, ends, x.shape, strict=True))
    return np.pad(x[cut], [(max(begin, 0), max(end, 0)) for begin, end in zip(begins, ends, strict=True)], mode=mode)  # type: ignore[call-overload]


def mean(*tensors: np.ndarray) -> np.ndarray:
    return sum(tensors[1:], tensors[0]) / len(tensors)


_erf = np.vectorize(math.erf, otypes=[np.float64])


def erf(x: np.ndarray) -> np.ndarray:
    return _erf(x)


def gelu(x: np.ndarray) -> np.ndarray:
    return x / 2 * (1 + erf(x / math.sqrt(2)))
