"""Average, maximum and Lp pools, windowed and global."""

from __future__ import annotations

from math import prod
from typing import TYPE_CHECKING

import numpy as np

from onnx_lrp.errors import UnsupportedOperatorError
from onnx_lrp.operators.affine import AffineOperator, ones_like
from onnx_lrp.operators.base import Operator, Role, first_of
from onnx_lrp.operators.convolution import Window, transposed_convolution, window_of

if TYPE_CHECKING:
    from onnx_lrp.emitter import Emitter
    from onnx_lrp.graph import Graph, Node

LOWEST = -3.0e38
"""Stands for minus infinity where it is multiplied by zeros."""


def _window(e: Emitter, node: Node) -> Window:
    return window_of(node, list(node.attributes["kernel_shape"]), e.graph.opset)


def _one_channel(e: Emitter, tensor: str, *, like: str) -> str:
    """(N, C, *spatial) -> (N * C, 1, *spatial), so that one kernel serves all channels."""
    shape = e.graph.shape(like)
    if shape is not None and all(isinstance(length, int) for length in shape[2:]):
        return e.op("Reshape", tensor, e.ints(-1, 1, *(int(length) for length in shape[2:] if isinstance(length, int))))
    sizes = e.op("Slice", e.op("Shape", tensor), e.ints(2), e.constant([np.iinfo(np.int64).max], np.int64))
    return e.op("Reshape", tensor, e.op("Concat", e.ints(-1, 1), sizes, axis=0))


def spread(e: Emitter, node: Node, s: str) -> str:
    """Emits the adjoint of the sum over each window: every element gets the sum of s over the windows that it is in."""
    window = _window(e, node)
    x, y = node.input(0), node.outputs[0]
    ceil = bool(node.attributes.get("ceil_mode", 0))
    if all(stride == 1 for stride in window.strides) and all(step == 1 for step in window.dilations) and not ceil and _pads_fit(window):
        # At stride 1 the adjoint of a sum pool is a sum pool.
        pads = [window.kernel[i % window.dims] - 1 - pad for i, pad in enumerate(window.pads)]
        mean = e.op("AveragePool", s, kernel_shape=window.kernel, pads=pads, strides=window.strides, count_include_pad=1)
        return e.scale(mean, float(prod(window.kernel)))
    shape = e.graph.shape(x)
    sizes = shape[2:] if shape is not None else ()
    tiled = window.strides == window.kernel and not any(window.pads) and all(step == 1 for step in window.dilations)
    if tiled and sizes and all(isinstance(size, int) and size % stride == 0 for size, stride in zip(sizes, window.strides, strict=True)):
        scales = e.constant([1.0, 1.0, *map(float, window.strides)])
        return e.op("Resize", s, "", scales, mode="nearest", coordinate_transformation_mode="asymmetric", nearest_mode="floor")
    kernel = e.op("Expand", e.constant(1.0), e.ints(1, 1, *window.kernel))
    flat = transposed_convolution(e, _one_channel(e, s, like=y), kernel, window, x, y, ceil=ceil)
    return e.reshape_like(flat, x)


def _pads_fit(window: Window) -> bool:
    return all(pad < window.kernel[i % window.dims] for i, pad in enumerate(window.pads))


def _one(e: Emitter, node: Node) -> str:
    """Ones with a single sample and channel."""
    shape = e.graph.shape(node.input(0))
    if shape is not None and all(isinstance(length, int) for length in shape[2:]):
        return e.op("Expand", e.constant(1.0), e.ints(1, 1, *(int(length) for length in shape[2:] if isinstance(length, int))))
    dims = len(node.attributes["kernel_shape"])
    sizes = e.op("Slice", e.op("Shape", node.input(0)), e.ints(2), e.ints(2 + dims))
    return e.op("Expand", e.constant(1.0), e.op("Concat", e.ints(1, 1), sizes, axis=0))


def window_sizes(e: Emitter, node: Node) -> str:
    """The number of real elements in each window: a convolution of ones, padded further where the last window hangs over."""
    window = _window(e, node)
    kernel = e.op("Expand", e.constant(1.0), e.ints(1, 1, *window.kernel))
    if not node.attributes.get("ceil_mode", 0):
        return e.op("Conv", _one(e, node), kernel, **window.attributes())
    over = [
        *window.pads[: window.dims],
        *(pad + stride - 1 for pad, stride in zip(window.pads[window.dims :], window.strides, strict=True)),
    ]
    count = e.op("Conv", _one(e, node), kernel, **window._replace(pads=over).attributes())
    ends = e.op("Slice", e.shape_of(node.outputs[0]), e.ints(2), e.ints(2 + window.dims))
    return e.op("Slice", count, e.ints(*[0] * window.dims), ends, e.ints(*range(2, 2 + window.dims)))


class AveragePoolOperator(AffineOperator):
    """y_j = sum of x over window j, divided by d_j: the window's size, or the number of real elements in it."""

    kind = "pool"

    def apply(self, e: Emitter, node: Node, x: str, weight: str | None, bias: str | None = None) -> str:  # noqa: ARG002
        return e.op("AveragePool", x, **node.attributes)

    def adjoint(self, e: Emitter, node: Node, s: str, weight: str | None) -> str:  # noqa: ARG002
        return spread(e, node, e.div(s, self.divisor(e, node)))

    def divisor(self, e: Emitter, node: Node) -> str:
        """d, in a shape that broadcasts against the output."""
        window = _window(e, node)
        whole = not node.attributes.get("ceil_mode", 0) and (node.attributes.get("count_include_pad", 0) or not any(window.pads))
        if whole:
            return e.constant(float(prod(window.kernel)))
        # d = (real elements in the window) / (mean of ones over it), whatever the convention for windows that hang over the end.
        return e.div(self.fan_in(e, node), e.op("AveragePool", _one(e, node), **node.attributes))

    def fan_in(self, e: Emitter, node: Node) -> str:
        return window_sizes(e, node)

    def apply_ones(self, e: Emitter, node: Node, x: str) -> str:
        return e.mul(self.apply(e, node, x, None), self.divisor(e, node))

    def adjoint_ones(self, e: Emitter, node: Node, s: str) -> str:
        return spread(e, node, s)


class GlobalAveragePoolOperator(AffineOperator):
    """The mean over all spatial axes, which are kept with length 1."""

    kind = "pool"

    def _count(self, e: Emitter, node: Node) -> str:
        shape = e.graph.shape(node.input(0))
        if shape is not None and all(isinstance(length, int) for length in shape[2:]):
            return e.constant(float(prod(int(length) for length in shape[2:] if isinstance(length, int))))
        sizes = e.op("Slice", e.op("Shape", node.input(0)), e.ints(2), e.constant([np.iinfo(np.int64).max], np.int64))
        return e.op("Cast", e.op("ReduceProd", sizes, keepdims=0), to=1)

    def apply(self, e: Emitter, node: Node, x: str, weight: str | None, bias: str | None = None) -> str:  # noqa: ARG002
        return e.op("GlobalAveragePool", x)

    def adjoint(self, e: Emitter, node: Node, s: str, weight: str | None) -> str:  # noqa: ARG002
        return e.expand_like(e.div(s, self._count(e, node)), node.input(0))

    def apply_ones(self, e: Emitter, node: Node, x: str) -> str:
        return e.mul(e.op("GlobalAveragePool", x), self._count(e, node))

    def adjoint_ones(self, e: Emitter, node: Node, s: str) -> str:
        return e.expand_like(s, node.input(0))

    def fan_in(self, e: Emitter, node: Node) -> str:
        return self._count(e, node)


class MaxPoolOperator(Operator):
    """Each output is the largest element of its window; its relevance goes to that element."""

    role = Role.ROUTE
    kind = "max_pool"

    def gradient(self, e: Emitter, node: Node, upstream: list[str | None]) -> dict[int, str]:
        return {0: self.to_first(e, node, first_of(upstream))}

    def to_first(self, e: Emitter, node: Node, s: str) -> str:
        """Ties go to the first of the largest elements."""
        x = node.input(0)
        if node.attributes.get("storage_order", 0):  # its indices would count along columns
            found = e.ops("MaxPool", x, outputs=["", ""], **(node.attributes | {"storage_order": 0}))[1]
        else:
            found = e.extra_output(node.outputs[0], 1)
        indices = e.op("Reshape", found, e.ints(-1))
        zeros = e.op("Reshape", e.op("ConstantOfShape", e.shape_of(x), value=np.zeros(1, np.float32)), e.ints(-1))
        flat = e.op("ScatterElements", zeros, indices, e.op("Reshape", s, e.ints(-1)), axis=0, reduction="add")
        return e.reshape_like(flat, x)

    def to_all(self, e: Emitter, node: Node, s: str) -> str:
        """Ties share equally: the windows are laid out by a convolution with one kernel per position, compared, and laid back."""
        window = _window(e, node)
        x, y = node.input(0), node.outputs[0]
        dims, count = window.dims, prod(window.kernel)
        ceil = bool(node.attributes.get("ceil_mode", 0))
        over = [stride - 1 if ceil else 0 for stride in window.strides]
        begins, ends = window.pads[:dims], [pad + more for pad, more in zip(window.pads[dims:], over, strict=True)]
        padded = e.op("Pad", x, e.ints(0, 0, *begins, 0, 0, *ends), e.constant(LOWEST))
        shape = e.graph.shape(x)
        known = shape is not None and all(isinstance(size, int) for size in shape[2:])
        if known and shape is not None:
            sizes = [int(size) + b + n for size, b, n in zip(shape[2:], begins, ends, strict=True) if isinstance(size, int)]
            flat = e.op("Reshape", padded, e.ints(-1, 1, *sizes))
        else:
            tail = e.op("Slice", e.op("Shape", padded), e.ints(2), e.ints(2 + dims))
            flat = e.op("Reshape", padded, e.op("Concat", e.ints(-1, 1), tail, axis=0))
        kernel = e.constant(np.eye(count).reshape(count, 1, *window.kernel))
        bare = window._replace(pads=[0] * 2 * dims)
        laid = e.op("Conv", flat, kernel, **bare.attributes())
        if ceil:
            stop = e.op("Slice", e.shape_of(y), e.ints(2), e.ints(2 + dims))
            laid = e.op("Slice", laid, e.ints(*[0] * dims), stop, e.ints(*range(2, 2 + dims)))
        won = e.op("Cast", e.op("Equal", laid, _one_channel(e, y, like=y)), to=1)
        share = e.div(_one_channel(e, s, like=y), e.reduce_sum(won, [1]))
        back = transposed_convolution(e, e.mul(won, share), kernel, window, x, y, ceil=ceil)
        return e.reshape_like(back, x)

    def to_window(self, e: Emitter, node: Node, s: str) -> str:
        """All elements of a window share equally."""
        return spread(e, node, e.div(s, window_sizes(e, node)))

    def nonnegative(self, node: Node, graph: Graph, known: set[str]) -> bool:  # noqa: ARG002
        return node.input(0) in known


class GlobalLpPoolOperator(Operator):
    """(sum of |x|^p over a window)^(1/p): LpPool and GlobalLpPool. Homogeneous of degree one, so Norm conserves."""

    role = Role.SUM
    kind = "pool"

    def gradient(self, e: Emitter, node: Node, upstream: list[str | None]) -> dict[int, str]:
        x, y, p = node.input(0), node.outputs[0], float(node.attributes.get("p", 2))
        safe = e.op("Where", e.op("Equal", y, e.constant(0.0)), e.constant(1.0), y)  # y = 0 only where all of x is
        s = e.mul(first_of(upstream), e.op("Pow", safe, e.constant(1.0 - p)))
        wide = e.expand_like(s, x) if node.op.startswith("Global") else spread(e, node, s)
        power = x if p == 2 else e.mul(e.op("Sign", x), e.op("Pow", e.op("Abs", x), e.constant(p - 1)))
        return {0: e.mul(power, wide)}

    def nonnegative(self, node: Node, graph: Graph, known: set[str]) -> bool:  # noqa: ARG002
        return True


class ReduceMaxOperator(Operator):
    """ReduceMax, ReduceMin and GlobalMaxPool: the winner along the reduced axes."""

    role = Role.ROUTE
    kind = "max_pool"

    def axes(self, e: Emitter, node: Node) -> list[int]:
        rank = e.graph.rank(node.input(0))
        if rank is None:
            raise UnsupportedOperatorError([(node.name, f"{node.op} over unknown axes", node.domain, e.graph.opset)])
        return list(range(2, rank)) if node.op == "GlobalMaxPool" else reduced_axes(node, e.graph)

    def _kept(self, e: Emitter, node: Node, tensor: str, axes: list[int]) -> str:
        """A tensor shaped like the output, with the reduced axes kept as ones."""
        kept = node.op == "GlobalMaxPool" or node.attributes.get("keepdims", 1)
        return tensor if kept else e.op("Unsqueeze", tensor, e.ints(*axes))

    def gradient(self, e: Emitter, node: Node, upstream: list[str | None]) -> dict[int, str]:
        return {0: self.to_first(e, node, first_of(upstream))}

    def to_first(self, e: Emitter, node: Node, s: str) -> str:
        x, axes = node.input(0), self.axes(e, node)
        rank = e.graph.rank(x) or 0
        order = [axis for axis in range(rank) if axis not in axes] + axes
        turned = x if order == list(range(rank)) else e.op("Transpose", x, perm=order)
        shape = e.op("Shape", turned)
        lead = rank - len(axes)
        rows = e.op("Reshape", turned, e.op("Concat", e.op("Slice", shape, e.ints(0), e.ints(lead)), e.ints(-1), axis=0))
        winner = e.op("ArgMin" if node.op == "ReduceMin" else "ArgMax", rows, axis=lead, keepdims=1)
        width = e.op("Squeeze", e.op("Slice", e.op("Shape", rows), e.ints(lead), e.ints(lead + 1)), e.ints(0))
        positions = e.op("Range", e.constant(0, np.int64), width, e.constant(1, np.int64))
        mask = e.op("Reshape", e.op("Cast", e.op("Equal", winner, positions), to=1), shape)
        back = mask if turned == x else e.op("Transpose", mask, perm=[order.index(axis) for axis in range(rank)])
        return e.mul(back, self._kept(e, node, s, axes))

    def to_all(self, e: Emitter, node: Node, s: str) -> str:
        x, axes = node.input(0), self.axes(e, node)
        mask = e.op("Cast", e.op("Equal", x, self._kept(e, node, node.outputs[0], axes)), to=1)
        return e.mul(mask, e.div(self._kept(e, node, s, axes), e.reduce_sum(mask, axes)))

    def to_window(self, e: Emitter, node: Node, s: str) -> str:
        """All elements share equally."""
        x, axes = node.input(0), self.axes(e, node)
        count = e.reduce_sum(e.op("Expand", e.constant(1.0), e.shape_of(x)), axes)
        return e.expand_like(e.div(self._kept(e, node, s, axes), count), x)

    def nonnegative(self, node: Node, graph: Graph, known: set[str]) -> bool:  # noqa: ARG002
        return node.input(0) in known


def reduced_axes(node: Node, graph: Graph) -> list[int]:
    """The axes over which a Reduce node goes, counted from the front."""
    x = node.input(0)
    rank = graph.rank(x)
    given = graph.constant(node.input(1)) if node.input(1) else None
    axes = list(node.attributes.get("axes", [])) or ([int(axis) for axis in given.reshape(-1)] if given is not None else [])
    if not axes and node.attributes.get("noop_with_empty_axes", 0):
        return []
    if rank is None or (node.input(1) and given is None):
        raise UnsupportedOperatorError([(node.name, f"{node.op} over unknown axes", node.domain, graph.opset)])
    return sorted(axis % rank for axis in axes) if axes else list(range(rank))


class ReduceOperator(AffineOperator):
    """ReduceSum and ReduceMean."""

    kind = "pool"

    def _scale(self, e: Emitter, node: Node) -> str | None:
        """How many elements a mean is taken over; None for a sum."""
        if node.op == "ReduceSum":
            return None
        shape, axes = e.graph.shape(node.input(0)), reduced_axes(node, e.graph)
        lengths = [shape[axis] for axis in axes] if shape is not None else [None]
        if all(isinstance(length, int) for length in lengths):
            return e.constant(float(prod(length for length in lengths if isinstance(length, int))))
        sizes = e.op("Gather", e.op("Shape", node.input(0)), e.ints(*axes))
        return e.op("Cast", e.op("ReduceProd", sizes, keepdims=0), to=1)

    def apply(self, e: Emitter, node: Node, x: str, weight: str | None, bias: str | None = None) -> str:  # noqa: ARG002
        return e.op(node.op, x, *node.inputs[1:], **node.attributes)

    def adjoint(self, e: Emitter, node: Node, s: str, weight: str | None) -> str:  # noqa: ARG002
        count = self._scale(e, node)
        return self.adjoint_ones(e, node, e.div(s, count) if count else s)

    def apply_ones(self, e: Emitter, node: Node, x: str) -> str:
        count = self._scale(e, node)
        y = self.apply(e, node, x, None)
        return e.mul(y, count) if count else y

    def adjoint_ones(self, e: Emitter, node: Node, s: str) -> str:
        kept = s if node.attributes.get("keepdims", 1) else e.op("Unsqueeze", s, e.ints(*reduced_axes(node, e.graph)))
        return e.expand_like(kept, node.input(0))

    def fan_in(self, e: Emitter, node: Node) -> str:
        return self._scale(e, node) or self.apply_ones(e, node, ones_like(e, node.input(0)))
