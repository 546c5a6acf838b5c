"""Conv and ConvTranspose, 1-D to 3-D."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from onnx_lrp.errors import UnsupportedOperatorError
from onnx_lrp.operators.affine import AffineOperator, ones_like

if TYPE_CHECKING:
    from onnx_lrp.emitter import Emitter
    from onnx_lrp.graph import Graph, Node


class Window(NamedTuple):
    """The geometry of a convolution or a pool; one entry per spatial axis (pads: all begins, then all ends)."""

    kernel: list[int]
    strides: list[int]
    dilations: list[int]
    pads: list[int]
    group: int = 1

    @property
    def dims(self) -> int:
        return len(self.kernel)

    def extent(self, axis: int) -> int:
        """How many elements the kernel spans."""
        return self.dilations[axis] * (self.kernel[axis] - 1) + 1

    def attributes(self) -> dict[str, Any]:
        return {
            "kernel_shape": self.kernel,
            "strides": self.strides,
            "dilations": self.dilations,
            "pads": self.pads,
            "group": self.group,
        }


def window_of(node: Node, kernel: list[int], opset: int) -> Window:
    """Reads a node's geometry; auto_pad and output_shape must have been made explicit before."""
    implicit = "output_shape" if "output_shape" in node.attributes else "auto_pad"
    if node.attributes.get(implicit, "NOTSET") not in ("NOTSET", "VALID"):
        raise UnsupportedOperatorError([(node.name, f"{node.op} with {implicit} and an input of unknown size", node.domain, opset)])
    n = len(kernel)
    return Window(
        list(kernel),
        list(node.attributes.get("strides", [1] * n)),
        list(node.attributes.get("dilations", [1] * n)),
        list(node.attributes.get("pads", [0] * 2 * n)),
        int(node.attributes.get("group", 1)),
    )


def transposed_convolution(
    e: Emitter, s: str, weight: str, window: Window, like: str, result: str, *, ceil: bool = False, layer: bool = False
) -> str:
    """Emits the adjoint of the convolution of `weight`; with `layer`, the weights are a layer's.

    `like` and `result` are tensors of the model that have the spatial sizes of the convolution's input and output. With `ceil` the last
    windows may have hung over the padded input's end.
    """
    sizes, counts = ((shape[2:] if (shape := e.graph.shape(tensor)) is not None else (None,) * window.dims) for tensor in (like, result))
    pads, extra = list(window.pads), [0] * window.dims
    emit = e.product if layer else e.op
    known = True
    for axis, (size, count) in enumerate(zip(sizes, counts, strict=True)):
        if isinstance(size, int) and isinstance(count, int):
            short = size - ((count - 1) * window.strides[axis] + window.extent(axis) - pads[axis] - pads[axis + window.dims])
            if short >= 0:
                extra[axis] = short
            else:
                pads[axis + window.dims] -= short
        else:
            known = False
    if known:
        return emit("ConvTranspose", s, weight, **window._replace(pads=pads).attributes(), output_padding=extra if any(extra) else None)
    # Unknown sizes: make the largest input that gives this output, cut what is too much.
    pads, extra = list(window.pads), [stride - 1 for stride in window.strides]
    if ceil:
        pads[window.dims :] = [0] * window.dims
    made = emit("ConvTranspose", s, weight, **window._replace(pads=pads).attributes(), output_padding=extra if any(extra) else None)
    if not any(extra) and not ceil:
        return made
    ends = e.op("Slice", e.shape_of(like), e.ints(2), e.ints(2 + window.dims))
    return e.op("Slice", made, e.ints(*[0] * window.dims), ends, e.ints(*range(2, 2 + window.dims)))


def flipped(e: Emitter, weight: str, shape: tuple[int, ...], group: int) -> str:
    """Emits the kernel whose stride-1 convolution is the adjoint: spatial axes reversed, in and out channels exchanged in each group."""
    dims = len(shape) - 2
    axes = list(range(2, 2 + dims))
    turned = weight
    if any(length > 1 for length in shape[2:]):
        turned = e.op("Slice", weight, e.ints(*[-1] * dims), e.ints(*[-(2**31)] * dims), e.ints(*axes), e.ints(*[-1] * dims))
    if group == 1:
        return e.op("Transpose", turned, perm=[1, 0, *axes])
    out, inner = shape[0] // group, shape[1]
    if out == inner == 1:
        return turned
    split = e.op("Reshape", turned, e.ints(group, out, inner, *shape[2:]))
    return e.op("Reshape", e.op("Transpose", split, perm=[0, 2, 1, *(axis + 1 for axis in axes)]), e.ints(group * inner, out, *shape[2:]))


class _Convolution(AffineOperator):
    """What Conv and ConvTranspose have in common: constant weights at input 1, bias of one number per channel at input 2."""

    kind = "convolution"

    def data_inputs(self, node: Node, graph: Graph) -> list[int]:
        if node.input(1) not in graph.constants or (node.input(2) and node.input(2) not in graph.constants):
            raise UnsupportedOperatorError([(node.name, f"{node.op} with computed weights", node.domain, graph.opset)])
        return super().data_inputs(node, graph)

    def weight(self, node: Node, graph: Graph) -> str:  # noqa: ARG002
        return node.input(1)

    def bias(self, node: Node, graph: Graph) -> str | None:  # noqa: ARG002
        return node.input(2) or None

    def window(self, e: Emitter, node: Node) -> Window:
        return window_of(node, list(e.graph.constants[node.input(1)].shape[2:]), e.graph.opset)

    def broadcast_bias(self, e: Emitter, node: Node, bias: str) -> str:
        dims = e.graph.constants[node.input(1)].ndim - 2
        return e.op("Reshape", bias, e.ints(1, -1, *[1] * dims))


class ConvOperator(_Convolution):
    """y = J(W) x + b with W (out, in / group, *kernel)."""

    def apply(self, e: Emitter, node: Node, x: str, weight: str | None, bias: str | None = None) -> str:
        return e.product("Conv", x, weight or "", *([bias] if bias else []), **node.attributes)

    def adjoint(self, e: Emitter, node: Node, s: str, weight: str | None) -> str:
        window = self.window(e, node)
        original = e.graph.constants[node.input(1)]
        weight = weight or node.input(1)
        if self._is_strided_depthwise(e, window, original.shape):
            found = self._by_zero_insertion(e, s, flipped(e, weight, original.shape, window.group), window, node)
            if found is not None:
                return found
        if self._as_convolution(e, window, original.shape):
            pads = [window.extent(i) - 1 - window.pads[i] for i in range(window.dims)]
            pads += [window.extent(i) - 1 - window.pads[i + window.dims] for i in range(window.dims)]
            return e.product("Conv", s, flipped(e, weight, original.shape, window.group), **window._replace(pads=pads).attributes())
        return transposed_convolution(e, s, weight, window, node.input(0), node.outputs[0], layer=True)

    def _as_convolution(self, e: Emitter, window: Window, shape: tuple[int, ...]) -> bool:
        """At stride 1 on the CPU a convolution with the flipped kernel is faster, but for very few input channels."""
        fits = all(stride == 1 for stride in window.strides) and all(
            0 <= pad <= window.extent(i % window.dims) - 1 for i, pad in enumerate(window.pads)
        )
        return e.device == "cpu" and fits and (shape[1] > 4 or window.group > 1)

    @staticmethod
    def _is_strided_depthwise(e: Emitter, window: Window, shape: tuple[int, ...]) -> bool:
        return e.device == "cpu" and window.group > 1 and shape[:2] == (window.group, 1) and any(stride > 1 for stride in window.strides)

    @staticmethod
    def _by_zero_insertion(e: Emitter, s: str, weight: str, window: Window, node: Node) -> str | None:
        """The adjoint as a convolution with the flipped kernel of s with zeros between its elements; None where the sizes do not allow it.

        onnxruntime's ConvTranspose takes one channel after the other and is slow for depthwise kernels.
        """
        sizes, counts = ((shape or ())[2:] for shape in (e.graph.shape(node.input(0)), e.graph.shape(node.outputs[0])))
        pads = [window.extent(i) - 1 - window.pads[i] for i in range(window.dims)]
        grid = np.ones((1,) * (2 + window.dims), np.float32)
        for axis, (size, count) in enumerate(zip(sizes, counts, strict=True)):
            if not isinstance(size, int) or not isinstance(count, int):
                return None
            stride = window.strides[axis]
            pads.append(size - count * stride - pads[axis] + window.extent(axis) - 1)
            grid = grid * (np.arange(count * stride) % stride == 0).astype(np.float32).reshape(
                [-1 if i == 2 + axis else 1 for i in range(2 + window.dims)]
            )
        if len(pads) != 2 * window.dims or min(pads) < 0:
            return None
        scales = e.constant([1.0, 1.0, *map(float, window.strides)])
        repeated = e.op("Resize", s, "", scales, mode="nearest", coordinate_transformation_mode="asymmetric", nearest_mode="floor")
        between = window._replace(pads=pads, strides=[1] * window.dims)
        return e.product("Conv", e.mul(repeated, e.constant(grid)), weight, **between.attributes())

    def _grouped_sum(self, e: Emitter, tensor: str, like: str, group: int) -> str:
        """Sums the channels of each group: (N, group, *spatial)."""
        if group == 1:
            return e.reduce_sum(tensor, [1])
        shape = e.graph.shape(like)
        channels = shape[1] if shape is not None else None
        if channels == group:
            return tensor
        spatial = [0] * ((e.graph.rank(like) or 0) - 2)
        if not spatial or not isinstance(channels, int):
            raise UnsupportedOperatorError([(like, "grouped Conv on a tensor of unknown rank", "", e.graph.opset)])
        lead = 0  # copied by Reshape
        split = e.op("Reshape", tensor, e.constant([lead, group, channels // group, -1], np.int64))
        summed = e.reduce_sum(split, [2], keepdims=False)
        sizes = e.op("Slice", e.op("Shape", tensor), e.ints(2), e.ints(2 + len(spatial)))
        return e.op("Reshape", summed, e.op("Concat", e.ints(0, group), sizes, axis=0))

    def fan_in(self, e: Emitter, node: Node) -> str:
        window = self.window(e, node)
        summed = self._grouped_sum(e, ones_like(e, node.input(0)), node.input(0), window.group)
        count = e.op("Conv", summed, self._ones(e, window), **window.attributes())
        return count if window.group == 1 else self._repeat_groups(e, count, window, e.graph.constants[node.input(1)].shape[0])

    def _ones(self, e: Emitter, window: Window) -> str:
        return e.op("Expand", e.constant(1.0), e.ints(window.group, 1, *window.kernel))

    def apply_ones(self, e: Emitter, node: Node, x: str) -> str:
        """All weights one: sum the channels of each group first, then one channel is convolved instead of all."""
        window = self.window(e, node)
        y = e.op("Conv", self._grouped_sum(e, x, node.input(0), window.group), self._ones(e, window), **window.attributes())
        return self._repeat_groups(e, y, window, e.graph.constants[node.input(1)].shape[0])

    def adjoint_ones(self, e: Emitter, node: Node, s: str) -> str:
        window = self.window(e, node)
        summed = self._grouped_sum(e, s, node.outputs[0], window.group)
        spread = transposed_convolution(e, summed, self._ones(e, window), window, node.input(0), node.outputs[0])
        return self._repeat_groups(e, spread, window, e.graph.constants[node.input(1)].shape[1] * window.group)

    @staticmethod
    def _repeat_groups(e: Emitter, tensor: str, window: Window, channels: int) -> str:
        """(N, group, *spatial) -> (N, channels, *spatial): each group's channel repeated."""
        if channels == window.group:
            return tensor
        if window.group == 1:
            return e.op("Expand", tensor, e.ints(1, channels, *[1] * window.dims))
        index = np.repeat(np.arange(window.group), channels // window.group)
        return e.op("Gather", tensor, e.constant(index, np.int64), axis=1)


class ConvTransposeOperator(_Convolution):
    """y = J(W) x + b with W (in, out / group, *kernel); its adjoint is the convolution with the same weights."""

    def apply(self, e: Emitter, node: Node, x: str, weight: str | None, bias: str | None = None) -> str:
        return e.product("ConvTranspose", x, weight or "", *([bias] if bias else []), **node.attributes)

    def adjoint(self, e: Emitter, node: Node, s: str, weight: str | None) -> str:
        return e.product("Conv", s, weight or node.input(1), **self.window(e, node).attributes())

    def _ones(self, e: Emitter, node: Node) -> str:
        return e.op("Expand", e.constant(1.0), e.ints(*e.graph.constants[node.input(1)].shape))

    def apply_ones(self, e: Emitter, node: Node, x: str) -> str:
        return self.apply(e, node, x, self._ones(e, node))

    def adjoint_ones(self, e: Emitter, node: Node, s: str) -> str:
        return self.adjoint(e, node, s, self._ones(e, node))
