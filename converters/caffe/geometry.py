"""What Caffe's parameters say of windows and axes."""

from __future__ import annotations

from typing import Any, NamedTuple

from onnx_lrp.errors import ModelError

from .network import Layer

__all__ = ["Window", "axis_of", "pooled", "window"]


class Window(NamedTuple):
    """A sliding window: one number for each spatial axis."""

    kernel: list[int]
    strides: list[int]
    pads: list[int]
    dilations: list[int]


def window(layer: Layer, parameters: Any, dims: int) -> Window:
    """The window of a convolution or a pool: sizes given once, for each axis, or as height and width.

    Raises:
        ModelError: Sizes are missing or impossible.
    """
    kernel = _sizes(layer, parameters, "kernel_size", "kernel", 0, dims)
    strides = _sizes(layer, parameters, "stride", "stride", 1, dims)
    pads = _sizes(layer, parameters, "pad", "pad", 0, dims)
    dilations = _sizes(layer, parameters, "dilation", "", 1, dims) if hasattr(parameters, "dilation") else [1] * dims
    if min(*kernel, *strides, *dilations) < 1:
        raise ModelError(f"layer {layer.name!r} ({layer.kind}) has an impossible window: kernel {kernel}, stride {strides}")
    return Window(kernel, strides, pads, dilations)


def _sizes(layer: Layer, parameters: Any, name: str, short: str, default: int, dims: int) -> list[int]:
    both = [f"{short}_h", f"{short}_w"]
    if short and dims == 2 and any(parameters.HasField(part) for part in both):
        found = [int(getattr(parameters, part)) for part in both]
    else:
        value = getattr(parameters, name)
        found = [value] if isinstance(value, int) else [int(size) for size in value] or [default]
    if len(found) not in (1, dims):
        raise ModelError(f"layer {layer.name!r} ({layer.kind}): {name} has {len(found)} values for {dims} axes")
    return found * (dims if len(found) == 1 else 1)


def pooled(length: int, kernel: int, stride: int, pad: int, *, ceil: bool) -> int:
    """How many windows a pool has along an axis. With padding, a window must not begin behind the last real element and the padding."""
    count = (length + 2 * pad - kernel + (stride - 1 if ceil else 0)) // stride + 1
    return count - 1 if pad and (count - 1) * stride >= length + pad else count


def axis_of(layer: Layer, axis: int, rank: int) -> int:
    """An axis counted from the front.

    Raises:
        ModelError: There is no such axis.
    """
    if not -rank <= axis < rank:
        raise ModelError(f"layer {layer.name!r} ({layer.kind}): axis {axis} of a tensor with {rank} axes")
    return axis % rank
