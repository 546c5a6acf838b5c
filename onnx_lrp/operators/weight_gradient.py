"""The gradient of affine layers with respect to their weights, and the weights as one row per output.

An output y_j = sum_i w_ji p_i + b_j of a convolution or dense layer sees a patch p of the input at each of its positions. Summing
p_i * s_j over all positions and samples is the gradient of sum(y * s) with respect to w: a convolution again.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from onnx_lrp.errors import UnsupportedOperatorError
from onnx_lrp.operators.convolution import Window, window_of

if TYPE_CHECKING:
    from onnx_lrp.emitter import Emitter
    from onnx_lrp.graph import Array, Graph, Node


def groups_of(node: Node) -> int:
    """How many groups of outputs there are that see different inputs: a convolution's attribute group, else one."""
    return int(node.attributes.get("group", 1)) if node.op in ("Conv", "ConvTranspose") else 1


def to_rows(node: Node, weight: Array, graph: Graph) -> Array:
    """A layer's weights as (outputs, *patch): (outputs, inputs of a group, *kernel) for convolutions, (outputs, inputs) for dense layers.

    Raises:
        UnsupportedOperatorError: MatMul by a batch of weight matrices.
    """
    if node.op == "Conv":
        return weight
    if node.op == "ConvTranspose":
        group = groups_of(node)
        apart = weight.reshape(group, -1, *weight.shape[1:]).swapaxes(1, 2)
        return apart.reshape(-1, *apart.shape[2:])
    if weight.ndim > 2:
        raise UnsupportedOperatorError([(node.name, f"{node.op} by a batch of weights has no weight rows", node.domain, graph.opset)])
    if weight.ndim == 1:
        return weight[None]
    return weight if _outputs_first(node) else weight.T


def from_rows(node: Node, rows: Array, shape: tuple[int, ...]) -> Array:
    """The reverse of `to_rows`: rows in the shape of the layer's weights."""
    if node.op == "ConvTranspose":
        apart = rows.reshape(groups_of(node), -1, *rows.shape[1:]).swapaxes(1, 2)
        return apart.reshape(shape)
    return rows.reshape(shape) if node.op == "Conv" or len(shape) == 1 or _outputs_first(node) else rows.T


def _outputs_first(node: Node) -> bool:
    return bool(node.attributes.get("left" if node.op == "Linear" else "transB", 0))


class Patches:
    """The input and output of a convolution or dense layer, position by position.

    Attributes:
        x: the input: (N, channels, *spatial), of dense layers (M, inputs), one row for each position.
        y: the output: (N, outputs, *spatial) or (M, outputs).
        axes: the axes of y that positions lie along.
    """

    def __init__(self, e: Emitter, node: Node):
        self.e, self.node = e, node
        self.x, self.y = node.input(0), node.outputs[0]
        self.shape = e.graph.constants[node.input(1)].shape
        self.group = groups_of(node)
        self.axes = [0]
        if node.op in ("Conv", "ConvTranspose"):
            self.window = window_of(node, list(self.shape[2:]), e.graph.opset)
            self.axes += range(2, 2 + self.window.dims)
        else:
            self._flatten()

    def _flatten(self) -> None:
        """Brings input and output of a dense layer into the form of matrices."""
        node, e = self.node, self.e
        outputs, inputs = to_rows(node, e.graph.constants[node.input(1)], e.graph).shape
        if node.op == "Gemm":
            return
        if node.attributes["left"]:
            self.x = self._columns_last(self.x)
            self.y = self._columns_last(self.y) if len(self.shape) == 2 else self.y
        self.x = e.op("Reshape", self.x, e.ints(-1, inputs))
        self.y = e.op("Reshape", self.y, e.ints(-1, outputs))

    def _columns_last(self, tensor: str) -> str:
        rank = self.e.graph.rank(tensor)
        if rank is None or rank < 2:
            problem = "MatMul by weights from the left on a tensor of unknown rank"
            raise UnsupportedOperatorError([(self.node.name, problem, "", self.e.graph.opset)])
        return self.e.op("Transpose", tensor, perm=[*range(rank - 2), rank - 1, rank - 2])

    def ones(self, channels: int) -> str:
        """Emits ones like y with other channels."""
        e, shape = self.e, self.e.op("Shape", self.y)
        sizes = [e.op("Slice", shape, e.ints(2), e.ints(len(self.axes) + 1))] if len(self.axes) > 1 else []
        lead = e.op("Slice", shape, e.ints(0), e.ints(1))
        return e.op("Expand", e.constant(1.0), e.op("Concat", lead, e.ints(channels), *sizes, axis=0))

    def correlate(self, s: str, channels: int) -> str:
        """Emits the sum of patch * s over all positions: (channels, *patch).

        Args:
            s: a tensor like y, of as many channels as are given: a multiple of the groups.
            channels: how many these are.
        """
        e = self.e
        if self.node.op == "Conv" and self._pointwise():
            product = e.op("MatMul", self._flat(s, channels, first=True), self._flat(self._seen(), self.shape[1], first=False))
            return e.op("Reshape", product, e.ints(channels, self.shape[1], *self.window.kernel))
        if self.node.op == "Conv":
            found = _correlation(e, self.x, self.shape[1], s, self.window)
            return e.op("Transpose", found, perm=[1, 0, *range(2, 2 + self.window.dims)])
        if self.node.op == "ConvTranspose":  # the map from output to input is the convolution with the same weights
            found = _correlation(e, s, channels // self.group, self.x, self.window)
            if self.group == 1:
                return found
            inputs, kernel = self.shape[0] // self.group, self.window.kernel
            apart = e.op("Reshape", found, e.ints(channels // self.group, self.group, inputs, *kernel))
            turned = e.op("Transpose", apart, perm=[1, 0, *range(2, 3 + len(kernel))])
            return e.op("Reshape", turned, e.ints(channels, inputs, *kernel))
        return e.op("MatMul", e.op("Transpose", s, perm=[1, 0]), self.x)

    def _pointwise(self) -> bool:
        """Whether each output sees one element of each channel: then a product of matrices is several times as fast as a convolution."""
        return self.group == 1 and all(length == 1 for length in self.window.kernel) and not any(self.window.pads)

    def _seen(self) -> str:
        """Emits the elements of the input that the strides do not skip."""
        if all(stride == 1 for stride in self.window.strides):
            return self.x
        spatial = range(2, 2 + self.window.dims)
        ends = [2**31 - 1] * self.window.dims
        return self.e.op(
            "Slice", self.x, self.e.ints(*[0] * len(ends)), self.e.ints(*ends), self.e.ints(*spatial), self.e.ints(*self.window.strides)
        )

    def _flat(self, tensor: str, channels: int, *, first: bool) -> str:
        """(N, channels, *spatial) -> (channels, positions) or (positions, channels)."""
        spatial = range(2, 2 + self.window.dims)
        turned = self.e.op("Transpose", tensor, perm=[1, 0, *spatial] if first else [0, *spatial, 1])
        return self.e.op("Reshape", turned, self.e.ints(channels, -1) if first else self.e.ints(-1, channels))


def _correlation(e: Emitter, x: str, channels: int, s: str, window: Window) -> str:
    """Emits sum over n, p of x[n, a, p * stride + k * dilation - pad] * s[n, b, p], for all a, b of the same group: (a, b, *k).

    Samples take the place of channels and s that of a kernel; strides and dilations change places. The convolution may find room for
    more k than the kernel has, where the last elements of x are in no window.
    """
    kernel = e.op("Transpose", s, perm=[1, 0, *range(2, 2 + window.dims)])
    swapped: dict[str, Any] = {"strides": window.dilations, "dilations": window.strides, "pads": window.pads, "group": window.group}
    found = e.op("Conv", _samples_as_channels(e, x, channels, window), kernel, **swapped)
    return e.op("Slice", found, e.ints(*[0] * window.dims), e.ints(*window.kernel), e.ints(*range(2, 2 + window.dims)))


def _samples_as_channels(e: Emitter, tensor: str, channels: int, window: Window) -> str:
    """(N, group * channels, *spatial) -> (channels, group * N, *spatial)."""
    if window.group == 1:
        return e.op("Transpose", tensor, perm=[1, 0, *range(2, 2 + window.dims)])
    sizes = e.op("Slice", e.op("Shape", tensor), e.ints(2), e.ints(2 + window.dims))
    apart = e.op("Reshape", tensor, e.op("Concat", e.ints(0, window.group, channels), sizes, axis=0))
    turned = e.op("Transpose", apart, perm=[2, 1, 0, *range(3, 3 + window.dims)])
    return e.op("Reshape", turned, e.op("Concat", e.ints(channels, -1), sizes, axis=0))
