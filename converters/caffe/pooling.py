"""Caffe's pools and normalisations as ONNX nodes."""

from __future__ import annotations

from typing import Any

import numpy as np

from onnx_lrp.errors import ModelError

from ..builder import Builder
from .geometry import Window, axis_of, pooled, window
from .network import Layer
from .tensors import Tensor, rank_of

__all__ = ["lrn", "pooling", "softmax"]


def pooling(b: Builder, layer: Layer, inputs: list[Tensor], top: str) -> list[Tensor]:
    """Pools, with as many windows as Caffe has: rounded up unless the layer says otherwise."""
    (x,), p = inputs, layer.parameters.pooling_param
    if rank_of(layer, x, 4) != 4 or p.pool == 2:
        raise ModelError(f"layer {layer.name!r} ({layer.kind}): stochastic pools and those of other than four axes are not supported")
    average = p.pool == 1
    if p.global_pooling:
        return [Tensor(b.node("GlobalAveragePool" if average else "GlobalMaxPool", [x.name], top, layer.name), (*x.shape[:2], 1, 1))]
    w = window(layer, p, 2)
    sizes, over = _places(layer, x, w, ceil=p.round_mode == 0)
    attributes: dict[str, Any] = {"kernel_shape": w.kernel, "strides": w.strides}
    shape = (*x.shape[:2], *sizes)
    if not average:
        return [Tensor(b.node("MaxPool", [x.name], top, layer.name, pads=[*w.pads, *over], **attributes), shape)]
    if any(w.pads) and any(more > pad for more, pad in zip(over, w.pads, strict=True)):
        # padding counts as elements, what hangs over behind it does not
        both = b.constant(f"{layer.name}/pads", [0, 0, *w.pads, 0, 0, *w.pads], np.int64)
        padded = b.node("Pad", [x.name, both], f"{layer.name}/padded")
        rest = [0, 0, *(max(more - pad, 0) for more, pad in zip(over, w.pads, strict=True))]
        return [Tensor(b.node("AveragePool", [padded], top, layer.name, pads=rest, count_include_pad=0, **attributes), shape)]
    pads = [*w.pads, *over]
    return [Tensor(b.node("AveragePool", [x.name], top, layer.name, pads=pads, count_include_pad=int(any(w.pads)), **attributes), shape)]


def _places(layer: Layer, x: Tensor, w: Window, *, ceil: bool) -> tuple[list[int], list[int]]:
    """How many windows there are along each axis, and what is padded at its end so that there are as many without rounding up."""
    sizes, over = [], []
    for length, kernel, stride, pad in zip(x.shape[2:], w.kernel, w.strides, w.pads, strict=True):
        count = pooled(length, kernel, stride, pad, ceil=ceil)
        more = max((count - 1) * stride + kernel - length - pad, 0)
        if count < 1 or pad >= kernel or (count - 1) * stride - pad >= length:
            raise ModelError(
                f"layer {layer.name!r} ({layer.kind}): windows of {kernel} at stride {stride}, padding {pad}, do not fit {length}"
            )
        sizes.append(count)
        over.append(more)
    return sizes, over


def lrn(b: Builder, layer: Layer, inputs: list[Tensor], top: str) -> list[Tensor]:
    """Local response normalisation, across channels or within each."""
    (x,), p = inputs, layer.parameters.lrn_param
    if not p.local_size % 2:
        raise ModelError(f"layer {layer.name!r} ({layer.kind}): a local_size of {p.local_size} is not odd")
    if p.norm_region == 0:
        values: dict[str, Any] = {"size": p.local_size, "alpha": p.alpha, "beta": p.beta, "bias": p.k}
        return [Tensor(b.node("LRN", [x.name], top, layer.name, **values), x.shape)]
    dims = rank_of(layer, x, 4) - 2
    name, half = layer.name, (p.local_size - 1) // 2
    square = b.node("Mul", [x.name, x.name], f"{name}/square")
    window_: dict[str, Any] = {"kernel_shape": [p.local_size] * dims, "pads": [half] * 2 * dims, "count_include_pad": 1}
    mean = b.node("AveragePool", [square], f"{name}/mean", **window_)
    scaled = b.node("Mul", [mean, b.constant(f"{name}/alpha", p.alpha)], f"{name}/scaled")
    base = b.node("Add", [scaled, b.constant(f"{name}/one", 1)], f"{name}/base")
    divisor = b.node("Pow", [base, b.constant(f"{name}/beta", p.beta)], f"{name}/divisor")
    return [Tensor(b.node("Div", [x.name, divisor], top, name), x.shape)]


def softmax(b: Builder, layer: Layer, inputs: list[Tensor], top: str) -> list[Tensor]:
    """exp(x) / sum(exp(x)) along an axis."""
    axis = axis_of(layer, layer.parameters.softmax_param.axis, len(inputs[0].shape))
    return [Tensor(b.node("Softmax", [inputs[0].name], top, layer.name, axis=axis), inputs[0].shape)]
