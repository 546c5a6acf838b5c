"""What a Caffe network computes, in NumPy and float64, from the definitions of its layers: what the ONNX model is compared with."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from itertools import product
from math import prod
from typing import TYPE_CHECKING, Any, Final, TypeAlias

import numpy as np
from numpy.typing import NDArray

from ..conversion import Activation
from ..forward import convolution, pad, softmax
from .emit import Placed
from .geometry import window
from .network import Layer

if TYPE_CHECKING:
    Array = NDArray[Any]

__all__ = ["forward"]


def forward(placed: Iterable[Placed], feeds: Mapping[str, Array]) -> Iterator[Activation]:
    """What each layer gives.

    Args:
        placed: The layers with the ONNX tensors that they became.
        feeds: The network's inputs.
    """
    current: dict[str, Array] = {name: np.asarray(value, np.float64) for name, value in feeds.items()}
    for layer, _, outputs in placed:
        values = _FORWARD[layer.kind](layer, [current[bottom] for bottom in layer.bottoms])
        for top, tensor, value in zip(layer.tops, outputs, values, strict=True):
            current[top] = value
            yield Activation(layer.name, layer.kind, tensor.name, value)


def _behind(values: Array, axis: int, rank: int) -> Array:
    """Values whose first axis is the given one of a tensor, with axes of length 1 behind."""
    return values.reshape(values.shape + (1,) * (rank - axis - values.ndim))


def _convolution(layer: Layer, inputs: list[Array]) -> list[Array]:
    (x,), p = inputs, layer.parameters.convolution_param
    w = window(layer, p, x.ndim - 2)
    weight = layer.blobs[0].astype(np.float64).reshape(p.num_output, x.shape[1] // p.group, *w.kernel)
    bias = layer.blobs[1].ravel() if p.bias_term else None
    return [convolution(pad(x, w.pads, w.pads), weight, bias, w.strides, w.dilations, p.group)]


def _deconvolution(layer: Layer, inputs: list[Array]) -> list[Array]:
    """Each element of x adds its multiple of the kernel to the output; then the padding is cut off."""
    (x,), p = inputs, layer.parameters.convolution_param
    w = window(layer, p, x.ndim - 2)
    each, channels = p.num_output // p.group, x.shape[1] // p.group
    weight = layer.blobs[0].astype(np.float64).reshape(x.shape[1], each, *w.kernel)
    sizes = [s * (n - 1) + (k - 1) * d + 1 for n, k, s, d in zip(x.shape[2:], w.kernel, w.strides, w.dilations, strict=True)]
    y = np.zeros((len(x), p.num_output, *sizes))
    for place in product(*map(range, w.kernel)):
        spread = tuple(
            slice(at * d, at * d + s * (n - 1) + 1, s) for at, d, s, n in zip(place, w.dilations, w.strides, x.shape[2:], strict=True)
        )
        inner: tuple[Any, ...] = (slice(None), slice(None), *place)
        for g in range(p.group):
            part = slice(g * channels, (g + 1) * channels)
            added = np.tensordot(x[:, part], weight[part][inner], (1, 0))
            y[(slice(None), slice(g * each, (g + 1) * each), *spread)] += np.moveaxis(added, -1, 1)
    y = y[(slice(None), slice(None), *(slice(cut, size - cut) for cut, size in zip(w.pads, sizes, strict=True)))]
    return [y + _behind(layer.blobs[1].ravel(), 1, y.ndim) if p.bias_term else y]


def _inner_product(layer: Layer, inputs: list[Array]) -> list[Array]:
    (x,), p = inputs, layer.parameters.inner_product_param
    flat = x.reshape(len(x), -1)
    weight = layer.blobs[0].astype(np.float64)
    y = flat @ (weight.reshape(-1, p.num_output) if p.transpose else weight.reshape(p.num_output, -1).T)
    return [y + layer.blobs[1].ravel() if p.bias_term else y]


def _pooling(layer: Layer, inputs: list[Array]) -> list[Array]:
    """Window by window: the padding of an average counts, what hangs over behind the padding does not."""
    (x,), p = inputs, layer.parameters.pooling_param
    average = p.pool == 1
    if p.global_pooling:
        return [x.mean((2, 3), keepdims=True) if average else x.max((2, 3), keepdims=True)]
    w = window(layer, p, 2)
    places = []
    for length, kernel, stride, margin in zip(x.shape[2:], w.kernel, w.strides, w.pads, strict=True):
        steps = (length + 2 * margin - kernel) / stride
        count = int(np.ceil(steps) if p.round_mode == 0 else np.floor(steps)) + 1
        if margin and (count - 1) * stride >= length + margin:
            count -= 1
        starts = [index * stride - margin for index in range(count)]
        places.append([(start, min(start + kernel, length + margin), length) for start in starts])
    y = np.zeros((*x.shape[:2], len(places[0]), len(places[1])))
    for (row, (top, bottom, height)), (column, (left, right, width)) in product(*(list(enumerate(part)) for part in places)):
        seen = x[:, :, max(top, 0) : min(bottom, height), max(left, 0) : min(right, width)]
        y[:, :, row, column] = seen.sum((2, 3)) / ((bottom - top) * (right - left)) if average else seen.max((2, 3))
    return [y]


def _lrn(layer: Layer, inputs: list[Array]) -> list[Array]:
    (x,), p = inputs, layer.parameters.lrn_param
    half, square = p.local_size // 2, x**2
    if p.norm_region == 0:
        sums = np.stack([square[:, max(c - half, 0) : c + half + 1].sum(1) for c in range(x.shape[1])], 1)
        return [x / (p.k + p.alpha / p.local_size * sums) ** p.beta]
    padded = pad(square, [half] * (x.ndim - 2), [half] * (x.ndim - 2))
    total = np.zeros_like(x)
    for place in product(range(p.local_size), repeat=x.ndim - 2):
        total += padded[(slice(None), slice(None), *(slice(at, at + n) for at, n in zip(place, x.shape[2:], strict=True)))]
    return [x * (1 + p.alpha * total / p.local_size ** (x.ndim - 2)) ** -p.beta]


def _batch_norm(layer: Layer, inputs: list[Array]) -> list[Array]:
    (x,) = inputs
    mean, variance, total = (blob.astype(np.float64).ravel() for blob in layer.blobs[:3])
    factor = 0.0 if total[0] == 0 else 1 / total[0]
    spread = np.sqrt(variance * factor + layer.parameters.batch_norm_param.eps)
    return [(x - _behind(mean * factor, 1, x.ndim)) / _behind(spread, 1, x.ndim)]


def _scale(layer: Layer, inputs: list[Array]) -> list[Array]:
    x, p = inputs[0], layer.parameters.scale_param
    values = _operand(layer, inputs, p)
    y = x * values
    if not p.bias_term:
        return [y]
    index = 1 if len(inputs) == 1 else 0
    return [y + layer.blobs[index].reshape(values.shape if len(inputs) == 1 else (1, *values.shape[1:]))]


def _bias(layer: Layer, inputs: list[Array]) -> list[Array]:
    return [inputs[0] + _operand(layer, inputs, layer.parameters.bias_param)]


def _operand(layer: Layer, inputs: list[Array], p: Any) -> Array:
    x = inputs[0]
    axis = p.axis % x.ndim
    if len(inputs) > 1:
        return _behind(inputs[1], axis, x.ndim)
    end = x.ndim if p.num_axes == -1 else axis + p.num_axes
    return _behind(layer.blobs[0].reshape(x.shape[axis:end]), axis, x.ndim)


def _prelu(layer: Layer, inputs: list[Array]) -> list[Array]:
    (x,) = inputs
    return [np.maximum(x, 0) + _behind(layer.blobs[0].ravel(), 1, x.ndim) * np.minimum(x, 0)]


def _eltwise(layer: Layer, inputs: list[Array]) -> list[Array]:
    p = layer.parameters.eltwise_param
    if p.operation == 1:
        return [sum((factor * x for factor, x in zip(p.coeff or [1.0] * len(inputs), inputs, strict=True)), np.zeros(()))]
    return [np.maximum.reduce(inputs) if p.operation == 2 else np.multiply.reduce(inputs)]


def _slices(layer: Layer, inputs: list[Array]) -> list[Array]:
    p = layer.parameters.slice_param
    axis = p.slice_dim if p.HasField("slice_dim") else p.axis
    return list(np.split(inputs[0], list(p.slice_point) or len(layer.tops), axis))


def _concat(layer: Layer, inputs: list[Array]) -> list[Array]:
    p = layer.parameters.concat_param
    return [np.concatenate(inputs, p.concat_dim if p.HasField("concat_dim") else p.axis)]


def _flatten(layer: Layer, inputs: list[Array]) -> list[Array]:
    (x,), p = inputs, layer.parameters.flatten_param
    first, end = p.axis % x.ndim, p.end_axis % x.ndim + 1
    return [x.reshape(*x.shape[:first], prod(x.shape[first:end]), *x.shape[end:])]


def _reshape(layer: Layer, inputs: list[Array]) -> list[Array]:
    """The batch here has not the description's size, so that a length given for it is left out of account."""
    (x,), p = inputs, layer.parameters.reshape_param
    first = p.axis if p.axis >= 0 else p.axis + x.ndim + 1
    end = x.ndim if p.num_axes == -1 else first + p.num_axes
    middle = [x.shape[first + index] if length == 0 else length for index, length in enumerate(p.shape.dim)]
    lengths = [*x.shape[:first], *middle, *x.shape[end:]]
    rest = -1 if -1 in lengths[1:] else prod(lengths[1:])
    return [x.reshape(len(x), *lengths[1:])] if rest == -1 else [x.reshape(-1, *lengths[1:])]


def _power(layer: Layer, inputs: list[Array]) -> list[Array]:
    p = layer.parameters.power_param
    return [(p.shift + p.scale * inputs[0]) ** p.power]


def _each(function: Callable[[Layer, Array], Array]) -> _Forward:
    return lambda layer, inputs: [function(layer, inputs[0])]


_Forward: TypeAlias = Callable[[Layer, list["Array"]], "list[Array]"]

_FORWARD: Final[dict[str, _Forward]] = {
    "AbsVal": _each(lambda _, x: np.abs(x)),
    "BNLL": _each(lambda _, x: np.logaddexp(0, x)),
    "BatchNorm": _batch_norm,
    "Bias": _bias,
    "Concat": _concat,
    "Convolution": _convolution,
    "Deconvolution": _deconvolution,
    "Dropout": _each(lambda _, x: x),
    "ELU": _each(lambda layer, x: np.where(x > 0, x, layer.parameters.elu_param.alpha * np.expm1(np.minimum(x, 0)))),
    "Eltwise": _eltwise,
    "Flatten": _flatten,
    "InnerProduct": _inner_product,
    "LRN": _lrn,
    "PReLU": _prelu,
    "Pooling": _pooling,
    "Power": _power,
    "ReLU": _each(lambda layer, x: np.where(x > 0, x, layer.parameters.relu_param.negative_slope * x)),
    "Reshape": _reshape,
    "Scale": _scale,
    "Sigmoid": _each(lambda _, x: 0.5 * np.tanh(0.5 * x) + 0.5),
    "Silence": lambda layer, inputs: [],  # noqa: ARG005
    "Slice": _slices,
    "Softmax": _each(lambda layer, x: softmax(x, layer.parameters.softmax_param.axis)),
    "Split": lambda layer, inputs: inputs * len(layer.tops),
    "TanH": _each(lambda _, x: np.tanh(x)),
}
