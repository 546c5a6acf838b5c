"""lrp_toolbox's layers as ONNX nodes, and what they compute in NumPy."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from math import prod, sqrt
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import onnx
from numpy.typing import NDArray

from ..builder import Builder
from ..conversion import Activation
from ..forward import convolution, pad, softmax, windows
from .layers import Convolution, Flatten, Layer, Linear, MaxPool, Rect, SoftMax, SumPool
from .shapes import Shape, margins

if TYPE_CHECKING:
    from collections.abc import Mapping

    Array = NDArray[Any]

__all__ = ["INPUT", "forward", "names", "to_onnx"]

INPUT: Final = "input"
_ELEMENTWISE: Final = {"Rect": "Relu", "Tanh": "Tanh"}
_FLAT: Final = {"C": (0, 2, 3, 1), "F": (0, 1, 3, 2)}
"""From (N, C, H, W) to the order that is flattened: (N, H, W, C), or, as MATLAB does, with the rows running fastest: (N, C, W, H)."""


def names(layers: Sequence[Layer]) -> list[str]:
    """A name for each layer, which is that of its output tensor too: the formats have none."""
    return [f"{layer.kind}_{index}" for index, layer in enumerate(layers, 1)]


def to_onnx(layers: Sequence[Layer], shapes: Sequence[Shape], order: str, metadata: Mapping[str, str]) -> onnx.ModelProto:
    """The ONNX model.

    Args:
        layers: The layers.
        shapes: The shape of the input, then that after each layer.
        order: "C" or "F": how Flatten goes through a picture.
        metadata: For the model.
    """
    b = Builder()
    x = b.tensor(INPUT)
    if len(shapes[0]) == 3:
        x = b.node("Transpose", [x], "input_nchw", perm=[0, 3, 1, 2])
    for layer, name, shape in zip(layers, names(layers), shapes[:-1], strict=True):
        x = _node(b, layer, name, x, shape, order)
    if len(shapes[-1]) == 3:
        x = b.node("Transpose", [x], "output", perm=[0, 2, 3, 1])
    return b.model("lrp_toolbox", {INPUT: shapes[0]}, {x: shapes[-1]}, metadata)


def _node(b: Builder, layer: Layer, name: str, x: str, shape: Shape, order: str) -> str:
    if isinstance(layer, Linear):
        return b.node("Gemm", [x, b.constant(f"{name}.W", layer.weight), b.constant(f"{name}.B", layer.bias)], name)
    if isinstance(layer, Convolution):
        weight = b.constant(f"{name}.W", layer.weight.transpose(3, 2, 0, 1))
        before, after = margins(layer, shape)
        return b.node("Conv", [x, weight, b.constant(f"{name}.B", layer.bias)], name, strides=layer.stride, pads=[*before, *after])
    if isinstance(layer, SumPool):  # an average keeps the operator known to every runtime, and to LRP as a pool
        mean = b.node("AveragePool", [x], f"{name}/mean", kernel_shape=layer.pool, strides=layer.stride)
        return b.node("Mul", [mean, b.constant(f"{name}/factor", sqrt(prod(layer.pool)))], name)
    if isinstance(layer, MaxPool):
        return b.node("MaxPool", [x], name, kernel_shape=layer.pool, strides=layer.stride)
    if isinstance(layer, Flatten):
        ordered = b.node("Transpose", [x], f"{name}/ordered", perm=_FLAT[order]) if len(shape) == 3 else x
        return b.node("Flatten", [ordered], name, axis=1)
    if isinstance(layer, SoftMax):
        return b.node("Softmax", [x], name, axis=1)
    return b.node(_ELEMENTWISE[layer.kind], [x], name)


def forward(layers: Sequence[Layer], shapes: Sequence[Shape], order: str, x: Array) -> Iterator[Activation]:
    """What each layer gives for x of shape (N, ...), in float64; pictures as (N, C, H, W), as the ONNX model has them inside."""
    value = x.astype(np.float64)
    if value.ndim == 4:
        value = value.transpose(0, 3, 1, 2)
    for layer, name, shape in zip(layers, names(layers), shapes[:-1], strict=True):
        value = _value(layer, value, shape, order)
        yield Activation(name, layer.kind, name, value)


def _value(layer: Layer, x: Array, shape: Shape, order: str) -> Array:
    if isinstance(layer, Linear):
        return x @ layer.weight + layer.bias
    if isinstance(layer, Convolution):
        return convolution(pad(x, *margins(layer, shape)), layer.weight.transpose(3, 2, 0, 1), layer.bias, layer.stride)
    if isinstance(layer, SumPool):
        total: Array = windows(x, layer.pool, layer.stride).sum((-1, -2))
        return total / sqrt(prod(layer.pool))
    if isinstance(layer, MaxPool):
        highest: Array = windows(x, layer.pool, layer.stride).max((-1, -2))
        return highest
    if isinstance(layer, Flatten):
        pictures = x.transpose(0, 2, 3, 1) if x.ndim == 4 else x
        return np.stack([picture.ravel(order="F" if order == "F" else "C") for picture in pictures])
    if isinstance(layer, SoftMax):
        return softmax(x, 1)
    return np.maximum(x, 0) if isinstance(layer, Rect) else np.tanh(x)
