"""Caffe's layers that work element by element, or only move numbers, as ONNX nodes."""

from __future__ import annotations

from math import prod

import numpy as np

from onnx_lrp.errors import ModelError

from ..builder import Builder
from .geometry import axis_of
from .network import Layer
from .tensors import Emit, Tensor

__all__ = ["concat", "eltwise", "elu", "flatten", "plain", "power", "relu", "reshape", "same", "slices"]


def plain(op: str) -> Emit:
    """What ONNX has as an operator without parameters."""

    def emit(b: Builder, layer: Layer, inputs: list[Tensor], top: str) -> list[Tensor]:
        return [Tensor(b.node(op, [inputs[0].name], top, layer.name), inputs[0].shape)]

    return emit


def relu(b: Builder, layer: Layer, inputs: list[Tensor], top: str) -> list[Tensor]:
    """max(x, 0), or with a slope for what is negative."""
    slope = layer.parameters.relu_param.negative_slope
    if not slope:
        return plain("Relu")(b, layer, inputs, top)
    return [Tensor(b.node("LeakyRelu", [inputs[0].name], top, layer.name, alpha=slope), inputs[0].shape)]


def elu(b: Builder, layer: Layer, inputs: list[Tensor], top: str) -> list[Tensor]:
    """x, or alpha (exp(x) - 1) for what is negative."""
    return [Tensor(b.node("Elu", [inputs[0].name], top, layer.name, alpha=layer.parameters.elu_param.alpha), inputs[0].shape)]


def power(b: Builder, layer: Layer, inputs: list[Tensor], top: str) -> list[Tensor]:
    """(shift + scale x) ^ power; steps that change nothing are left out."""
    p = layer.parameters.power_param
    steps = [(op, value) for op, value, neutral in (("Mul", p.scale, 1), ("Add", p.shift, 0), ("Pow", p.power, 1)) if value != neutral]
    x = inputs[0].name
    for index, (op, value) in enumerate(steps, 1):
        last = index == len(steps)
        x = b.node(op, [x, b.constant(f"{layer.name}/{op.lower()}", value)], top if last else f"{layer.name}/{index}", layer.name)
    return [Tensor(x if steps else b.node("Identity", [x], top, layer.name), inputs[0].shape)]


def eltwise(b: Builder, layer: Layer, inputs: list[Tensor], top: str) -> list[Tensor]:
    """Sum with coefficients, product or maximum of several tensors."""
    p = layer.parameters.eltwise_param
    if len(inputs) < 2 or len({tensor.shape for tensor in inputs}) > 1:
        raise ModelError(f"layer {layer.name!r} ({layer.kind}) gets the shapes {[list(tensor.shape) for tensor in inputs]}")
    names, shape = [tensor.name for tensor in inputs], inputs[0].shape
    if p.operation == 2:
        return [Tensor(b.node("Max", names, top, layer.name), shape)]
    if p.operation == 1:
        if p.coeff and len(p.coeff) != len(inputs):
            raise ModelError(f"layer {layer.name!r} ({layer.kind}) has {len(p.coeff)} coefficients for {len(inputs)} bottoms")
        for index, factor in enumerate(p.coeff):
            if factor != 1:
                names[index] = b.node("Mul", [names[index], b.constant(f"{layer.name}/coeff", factor)], f"{layer.name}/scaled")
        return [Tensor(b.node("Add" if len(names) == 2 else "Sum", names, top, layer.name), shape)]
    x = names[0]
    for index, name in enumerate(names[1:], 1):
        x = b.node("Mul", [x, name], top if index == len(names) - 1 else f"{layer.name}/{index}", layer.name)
    return [Tensor(x, shape)]


def concat(b: Builder, layer: Layer, inputs: list[Tensor], top: str) -> list[Tensor]:
    """Tensors one behind the other along an axis."""
    p, shape = layer.parameters.concat_param, inputs[0].shape
    axis = axis_of(layer, p.concat_dim if p.HasField("concat_dim") else p.axis, len(shape))
    rest = {(*tensor.shape[:axis], *tensor.shape[axis + 1 :]) for tensor in inputs}
    if axis == 0 or len(rest) > 1:
        raise ModelError(f"layer {layer.name!r} ({layer.kind}) cannot join {[list(t.shape) for t in inputs]} along axis {axis}")
    total = sum(tensor.shape[axis] for tensor in inputs)
    y = b.node("Concat", [tensor.name for tensor in inputs], top, layer.name, axis=axis)
    return [Tensor(y, (*shape[:axis], total, *shape[axis + 1 :]))]


def slices(b: Builder, layer: Layer, inputs: list[Tensor], top: str) -> list[Tensor]:  # noqa: ARG001 - it has several tops
    """A tensor cut along an axis."""
    (x,), p = inputs, layer.parameters.slice_param
    axis = axis_of(layer, p.slice_dim if p.HasField("slice_dim") else p.axis, len(x.shape))
    length, parts = x.shape[axis], len(layer.tops)
    points = [0, *p.slice_point, length] if p.slice_point else [length * index // parts for index in range(parts + 1)]
    uneven = not p.slice_point and length % parts
    if axis == 0 or uneven or len(points) != parts + 1 or sorted(set(points)) != points:
        raise ModelError(f"layer {layer.name!r} ({layer.kind}) cannot cut {list(x.shape)} along axis {axis} at {points[1:-1]}")
    outputs = []
    for name, start, end in zip(layer.tops, points, points[1:], strict=False):
        edges = [b.constant(f"{layer.name}/{word}", [value], np.int64) for word, value in (("start", start), ("end", end), ("axis", axis))]
        y = b.node("Slice", [x.name, *edges], name, layer.name)
        outputs.append(Tensor(y, (*x.shape[:axis], end - start, *x.shape[axis + 1 :])))
    return outputs


def same(b: Builder, layer: Layer, inputs: list[Tensor], top: str) -> list[Tensor]:  # noqa: ARG001 - no node is needed
    """What changes nothing in inference: no node."""
    return [inputs[0]] * len(layer.tops)


def flatten(b: Builder, layer: Layer, inputs: list[Tensor], top: str) -> list[Tensor]:
    """A range of axes made one."""
    (x,), p = inputs, layer.parameters.flatten_param
    first, last = (axis_of(layer, axis, len(x.shape)) for axis in (p.axis, p.end_axis))
    return _reshaped(b, layer, x, (*x.shape[:first], prod(x.shape[first : last + 1]), *x.shape[last + 1 :]), top)


def reshape(b: Builder, layer: Layer, inputs: list[Tensor], top: str) -> list[Tensor]:
    """Other lengths for a range of axes; the batch stays."""
    (x,), p = inputs, layer.parameters.reshape_param
    first = axis_of(layer, p.axis, len(x.shape) + 1) if p.axis < 0 else min(p.axis, len(x.shape))
    end = len(x.shape) if p.num_axes == -1 else first + p.num_axes
    middle = [x.shape[first + index] if length == 0 and first + index < end else length for index, length in enumerate(p.shape.dim)]
    fixed = prod(length for length in (*x.shape[:first], *middle, *x.shape[end:]) if length != -1)
    if middle.count(-1) > 1 or end > len(x.shape) or min(middle, default=1) < -1 or not fixed:
        raise ModelError(f"layer {layer.name!r} ({layer.kind}) cannot bring {list(x.shape)} to {list(p.shape.dim)}")
    middle = [prod(x.shape) // fixed if length == -1 else length for length in middle]
    return _reshaped(b, layer, x, (*x.shape[:first], *middle, *x.shape[end:]), top)


def _reshaped(b: Builder, layer: Layer, x: Tensor, shape: tuple[int, ...], top: str) -> list[Tensor]:
    if not shape or prod(shape) != prod(x.shape) or shape[0] != x.shape[0]:
        raise ModelError(f"layer {layer.name!r} ({layer.kind}) cannot bring {list(x.shape)} to {list(shape)} sample by sample")
    if len(shape) == 2:
        return [Tensor(b.node("Flatten", [x.name], top, layer.name, axis=1), shape)]
    target = b.constant(f"{layer.name}/shape", [0, *shape[1:]], np.int64)  # 0: as before
    return [Tensor(b.node("Reshape", [x.name, target], top, layer.name), shape)]
