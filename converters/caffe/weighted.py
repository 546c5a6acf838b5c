"""Caffe's layers with weights as ONNX nodes."""

from __future__ import annotations

from math import prod
from typing import Any

import numpy as np

from onnx_lrp.errors import ModelError

from ..builder import Builder
from .geometry import axis_of, window
from .network import Layer
from .tensors import Tensor, blob, rank_of

__all__ = ["batch_norm", "bias", "convolution", "inner_product", "prelu", "scale"]


def _with_bias(b: Builder, layer: Layer, count: int, parameters: Any) -> list[str]:
    return [b.constant(f"{layer.name}.bias", blob(layer, 1, (count,)))] if parameters.bias_term else []


def convolution(b: Builder, layer: Layer, inputs: list[Tensor], top: str) -> list[Tensor]:
    """Convolutions and their transposes."""
    (x,), p = inputs, layer.parameters.convolution_param
    dims = rank_of(layer, x, 3) - 2
    if axis_of(layer, p.axis, dims + 2) != 1 or p.group < 1 or p.num_output % p.group or x.shape[1] % p.group:
        raise ModelError(f"layer {layer.name!r} ({layer.kind}): axis {p.axis}, {p.group} groups, {x.shape[1]} channels")
    w = window(layer, p, dims)
    extent = [(size - 1) * step + 1 for size, step in zip(w.kernel, w.dilations, strict=True)]
    if layer.kind == "Convolution":
        weight = blob(layer, 0, (p.num_output, x.shape[1] // p.group, *w.kernel))
        sizes = [(n + 2 * pad - e) // s + 1 for n, pad, e, s in zip(x.shape[2:], w.pads, extent, w.strides, strict=True)]
    else:
        weight = blob(layer, 0, (x.shape[1], p.num_output // p.group, *w.kernel))
        sizes = [s * (n - 1) + e - 2 * pad for n, pad, e, s in zip(x.shape[2:], w.pads, extent, w.strides, strict=True)]
    names = [x.name, b.constant(f"{layer.name}.weight", weight), *_with_bias(b, layer, p.num_output, p)]
    y = b.node(
        "Conv" if layer.kind == "Convolution" else "ConvTranspose",
        names,
        top,
        layer.name,
        kernel_shape=w.kernel,
        strides=w.strides,
        pads=w.pads * 2,
        dilations=w.dilations,
        group=p.group,
    )
    return [Tensor(y, (x.shape[0], p.num_output, *sizes))]


def inner_product(b: Builder, layer: Layer, inputs: list[Tensor], top: str) -> list[Tensor]:
    """Dense layers, on all axes but the first."""
    (x,), p = inputs, layer.parameters.inner_product_param
    if axis_of(layer, p.axis, rank_of(layer, x, 2)) != 1:
        raise ModelError(f"layer {layer.name!r} ({layer.kind}): axis {p.axis} is not supported, only 1")
    features = prod(x.shape[1:])
    weight = blob(layer, 0, (features, p.num_output) if p.transpose else (p.num_output, features))
    flat = b.node("Flatten", [x.name], f"{layer.name}/flat", axis=1) if len(x.shape) > 2 else x.name
    names = [flat, b.constant(f"{layer.name}.weight", weight), *_with_bias(b, layer, p.num_output, p)]
    return [Tensor(b.node("Gemm", names, top, layer.name, transB=0 if p.transpose else 1), (x.shape[0], p.num_output))]


def batch_norm(b: Builder, layer: Layer, inputs: list[Tensor], top: str) -> list[Tensor]:
    """(x - mean) / sqrt(variance + eps), with the statistics of the file."""
    (x,), p = inputs, layer.parameters.batch_norm_param
    rank_of(layer, x, 2)
    if p.HasField("use_global_stats") and not p.use_global_stats:
        raise ModelError(f"layer {layer.name!r} ({layer.kind}) normalises by the batch (use_global_stats: false), which is not supported")
    channels = (x.shape[1],)
    mean, variance, total = (blob(layer, index, shape).astype(np.float64) for index, shape in enumerate((channels, channels, (1,))))
    factor = 1 / total if total else total  # both are stored multiplied by a running total
    constants = {"scale": np.ones(channels), "bias": np.zeros(channels), "mean": mean * factor, "variance": variance * factor}
    names = [b.constant(f"{layer.name}.{name}", value) for name, value in constants.items()]
    return [Tensor(b.node("BatchNormalization", [x.name, *names], top, layer.name, epsilon=p.eps), x.shape)]


def scale(b: Builder, layer: Layer, inputs: list[Tensor], top: str) -> list[Tensor]:
    """x times weights or another tensor, and plus a bias."""
    p = layer.parameters.scale_param
    x = inputs[0]
    factor, shape = _operand(b, layer, inputs, p, "weight")
    if not p.bias_term:
        return [Tensor(b.node("Mul", [x.name, factor], top, layer.name), x.shape)]
    product = b.node("Mul", [x.name, factor], f"{layer.name}/scaled", layer.name)
    axis = axis_of(layer, p.axis, len(x.shape))
    bias = blob(layer, 1 if len(inputs) == 1 else 0, shape)
    aligned = bias.reshape(shape + (1,) * (len(x.shape) - axis - len(shape)))
    return [Tensor(b.node("Add", [product, b.constant(f"{layer.name}.bias", aligned)], top, f"{layer.name}/bias"), x.shape)]


def bias(b: Builder, layer: Layer, inputs: list[Tensor], top: str) -> list[Tensor]:
    """x plus weights or another tensor."""
    value, _ = _operand(b, layer, inputs, layer.parameters.bias_param, "bias")
    return [Tensor(b.node("Add", [inputs[0].name, value], top, layer.name), inputs[0].shape)]


def _operand(b: Builder, layer: Layer, inputs: list[Tensor], p: Any, name: str) -> tuple[str, tuple[int, ...]]:
    """What is multiplied or added, with axes of length 1 behind it so that it broadcasts, and its shape without these."""
    x = inputs[0]
    axis = axis_of(layer, p.axis, len(x.shape))
    if len(inputs) == 1:
        shape = x.shape[axis:] if p.num_axes == -1 else x.shape[axis : axis + p.num_axes]
        if axis == 0 and shape:
            raise ModelError(f"layer {layer.name!r} ({layer.kind}): weights along the batch axis are not supported")
        aligned = blob(layer, 0, shape).reshape(shape + (1,) * (len(x.shape) - axis - len(shape)))
        return b.constant(f"{layer.name}.{name}", aligned), shape
    other = inputs[1]
    behind = len(x.shape) - len(other.shape)
    if axis or behind < 0 or other.shape != x.shape[: len(other.shape)]:
        raise ModelError(f"layer {layer.name!r} ({layer.kind}): {list(other.shape)} does not fit the first axes of {list(x.shape)}")
    if not behind:
        return other.name, other.shape
    axes = b.constant(f"{layer.name}/axes", range(len(other.shape), len(x.shape)), np.int64)
    return b.node("Unsqueeze", [other.name, axes], f"{layer.name}/aligned"), other.shape


def prelu(b: Builder, layer: Layer, inputs: list[Tensor], top: str) -> list[Tensor]:
    """max(x, 0) + slope min(x, 0)."""
    (x,) = inputs
    channels = 1 if layer.parameters.prelu_param.channel_shared else x.shape[1]
    slope = blob(layer, 0, (channels,)).reshape(channels, *[1] * (rank_of(layer, x, 2) - 2))
    return [Tensor(b.node("PRelu", [x.name, b.constant(f"{layer.name}.slope", slope)], top, layer.name), x.shape)]
