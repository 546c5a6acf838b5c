"""The shapes that run through an lrp_toolbox model. Its files do not say the input's, so it is looked for."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from math import ceil, prod
from typing import Final, TypeAlias

from onnx_lrp.errors import ModelError

from .layers import Convolution, Flatten, Layer, Linear, MaxPool, Rect, SoftMax, SumPool, Tanh

__all__ = ["Shape", "input_shape", "margins", "repaired", "shapes"]

Shape: TypeAlias = tuple[int, ...]
"""Of one sample: (features,) or (height, width, channels)."""

_LARGEST: Final = 512
"""The largest side of an input that is tried."""


def shapes(layers: Sequence[Layer], shape: Shape, where: str) -> list[Shape]:
    """The shape after each layer.

    Raises:
        ModelError: A layer does not fit what comes before it; the message names it.
    """
    found = []
    for index, layer in enumerate(layers, 1):
        try:
            shape = _after(layer, shape)
        except ValueError as error:
            raise ModelError(f"{where}: layer {index} ({layer.kind}) {error}") from None
        found.append(shape)
    return found


def _after(layer: Layer, shape: Shape) -> Shape:
    if isinstance(layer, Rect | Tanh):
        return shape
    if isinstance(layer, Flatten):
        return (prod(shape),)
    if isinstance(layer, Linear | SoftMax):
        if len(shape) != 1:
            raise ValueError(f"needs flat features, but gets shape {shape}: a Flatten is missing before it")
        if isinstance(layer, SoftMax):
            return shape
        if shape[0] != layer.weight.shape[0]:
            raise ValueError(f"takes {layer.weight.shape[0]} features, but gets {shape[0]}")
        return (layer.weight.shape[1],)
    if len(shape) != 3:
        raise ValueError(f"needs pictures, but gets shape {shape}")
    window, channels = (layer.weight.shape[:2], layer.weight.shape[3]) if isinstance(layer, Convolution) else (layer.pool, shape[2])
    if isinstance(layer, Convolution) and layer.weight.shape[2] != shape[2]:
        raise ValueError(f"takes {layer.weight.shape[2]} channels, but gets {shape[2]}")
    if isinstance(layer, Convolution) and layer.same:
        return (*(ceil(length / step) for length, step in zip(shape[:2], layer.stride, strict=True)), channels)
    if window[0] > shape[0] or window[1] > shape[1]:
        raise ValueError(f"has windows of {window}, larger than the {shape[:2]} before it")
    return (*((length - size) // step + 1 for length, size, step in zip(shape[:2], window, layer.stride, strict=True)), channels)


def margins(layer: Convolution, shape: Shape) -> tuple[tuple[int, int], tuple[int, int]]:
    """How many zeros a convolution with "same" padding gets before and after the rows and the columns."""
    total = [
        max((ceil(length / step) - 1) * step + size - length, 0) if layer.same else 0
        for length, step, size in zip(shape[:2], layer.stride, layer.weight.shape[:2], strict=True)
    ]
    before = (total[0] // 2, total[1] // 2)
    return before, (total[0] - before[0], total[1] - before[1])


def input_shape(layers: Sequence[Layer], where: str) -> Shape:
    """The input's shape: that of the first Linear, or the smallest square picture that fits all layers.

    A picture whose every window position is used goes before one of which some rows are left over.

    Raises:
        ModelError: The layers fit no picture.
    """
    first = next((layer for layer in layers if isinstance(layer, Linear | Convolution | SumPool | MaxPool)), None)
    if first is None:
        raise ModelError(f"{where}: no layer has weights, so that the shape of the input is not known: give it")
    if isinstance(first, Linear):
        return (first.weight.shape[0],)
    channels = next((layer.weight.shape[2] for layer in layers if isinstance(layer, Convolution)), 1)
    fitting = []
    reason = ModelError("")
    for side in range(1, _LARGEST + 1):
        try:
            found = shapes(layers, (side, side, channels), where)
        except ModelError as error:
            reason = error
            continue
        fitting.append(side)
        if _is_tight(layers, [(side, side, channels), *found]):
            return (side, side, channels)
    if not fitting:
        raise ModelError(f"{reason}; no square picture of up to {_LARGEST} x {_LARGEST} fits: give the shape of the input")
    return (fitting[0], fitting[0], channels)


def _is_tight(layers: Sequence[Layer], around: Sequence[Shape]) -> bool:
    """Whether the windows cover every row and column."""
    for layer, shape in zip(layers, around, strict=False):
        if isinstance(layer, SumPool | MaxPool) or (isinstance(layer, Convolution) and not layer.same):
            window = layer.weight.shape[:2] if isinstance(layer, Convolution) else layer.pool
            if any((length - size) % step for length, size, step in zip(shape[:2], window, layer.stride, strict=True)):
                return False
    return True


def repaired(layers: Sequence[Layer], *, same_padding: bool, relu_after_conv: bool) -> list[Layer]:
    """Put back what the keras_txt export loses: "same" padding of the convolutions, and the ReLU within them."""
    found: list[Layer] = []
    for layer, after in zip(layers, [*layers[1:], None], strict=True):
        found.append(replace(layer, same=True) if same_padding and isinstance(layer, Convolution) else layer)
        if relu_after_conv and isinstance(layer, Convolution) and not isinstance(after, Rect | Tanh):
            found.append(Rect())
    return found
