"""Writing an ONNX model in lrp_toolbox's text format, where it fits: a sequence of layers, convolutions without padding."""

from __future__ import annotations

import os
from collections.abc import Callable
from math import isclose, prod, sqrt
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import onnx

from onnx_lrp.canonical.cleanup import remove_identities
from onnx_lrp.canonical.constants import fold_constants
from onnx_lrp.canonical.dense import normalise_gemm, recognise_linear
from onnx_lrp.canonical.padding import make_padding_explicit, merge_padding
from onnx_lrp.canonical.scale import merge_scales, recognise_scales
from onnx_lrp.errors import InputError, ModelError
from onnx_lrp.graph import CANONICAL, Array, Graph, Node, read_graph
from onnx_lrp.image import atomic_write

from ..conversion import TOLERANCE, Layer, Report, deviation
from . import text
from .layers import Convolution, Flatten, Linear, MaxPool, Rect, SoftMax, SumPool, Tanh
from .layers import Layer as Module
from .network import forward
from .shapes import input_shape, shapes

if TYPE_CHECKING:
    from onnx_lrp.graph import ModelSource

__all__ = ["write"]

_ELEMENTWISE: Final[dict[str, type[Rect | Tanh]]] = {"Relu": Rect, "Tanh": Tanh}
_NEUTRAL: Final = {"pads": 0, "dilations": 1, "group": 1, "ceil_mode": 0, "storage_order": 0}
"""What these attributes must be, as the format cannot say anything else."""


def write(model: ModelSource, path: str | os.PathLike[str]) -> Report:
    """Write a model as lrp_toolbox text, read that back, and compare both models on the same input.

    Batch normalisations and scales are merged into their neighbours. An average pool becomes a SumPool, which is sqrt(h w) times as
    large: the next layer's weights are divided by that.

    Args:
        model: An ONNX model: path, bytes or ModelProto.
        path: The file to write.

    Returns:
        The layers that were written, and how far the outputs differ.

    Raises:
        ModelError: The model is broken, or does not fit the format; the message names the node and the reason.
        InputError: The file cannot be written.
    """
    where = "the model" if isinstance(model, bytes) or hasattr(model, "graph") else str(model)
    graph = read_graph(model)
    for rewrite in _REWRITES:
        if rewrite(graph):
            graph.prune()
    try:
        walk = _Walk(graph)
        content = text.write(walk.layers).encode()
        report = _compared(read_graph(model), walk, text.read(content, str(path)), where)
    except _MisfitError as error:
        raise ModelError(f"{where} does not fit lrp_toolbox's format: {error}") from None
    try:
        atomic_write(path, lambda file: file.write(content))
    except OSError as error:
        raise InputError(f"cannot write {path}: {error.strerror or error}") from None
    return report


class _MisfitError(Exception):
    """Why a model cannot be written."""


def _recognise_sum_pools(graph: Graph) -> bool:
    """An AveragePool times the square root of its window's size is one SumPool, before the factor is merged elsewhere."""
    changed = False
    for node in graph:
        after = graph.only_consumer(node.outputs[0]) if node.op == "AveragePool" and not node.domain else None
        if after is None or after.op != "Mul" or after.domain:
            continue
        factor = next((value for value in map(graph.scalar, after.inputs) if value is not None), 0.0)
        if isclose(factor, sqrt(prod(node.attributes["kernel_shape"])), rel_tol=1e-6):
            graph.replace([node, after], [Node("SumPool", node.name, node.inputs, after.outputs, node.attributes, CANONICAL)])
            changed = True
    return changed


_REWRITES: Final[tuple[Callable[[Graph], bool], ...]] = (
    fold_constants,
    remove_identities,
    make_padding_explicit,
    merge_padding,
    normalise_gemm,
    recognise_linear,
    _recognise_sum_pools,
    recognise_scales,
    merge_scales,
)


class _Walk:
    """Goes along the chain of nodes and collects layers.

    `axes` are the letters of the current tensor's axes, N, H, W, C. The format knows only N H W C, so a Flatten of another order permutes
    the rows of the next Linear. `factor` is how many times larger lrp_toolbox's tensor is than ONNX's.
    """

    def __init__(self, graph: Graph):
        if len(graph.inputs) != 1 or len(graph.outputs) != 1:
            raise _MisfitError(f"it has {len(graph.inputs)} inputs and {len(graph.outputs)} outputs, not one each")
        self.graph = graph
        self.layers: list[Module] = []
        self.factor = 1.0
        self._rows: Array | None = None
        (self.input,) = graph.inputs
        chain = self._chain()
        self.order = self._order(chain)
        self.axes = self.order
        for node in chain:
            try:
                self._add(node)
            except _MisfitError as error:
                raise _MisfitError(f"node {node.name!r} ({node.op}) {error}") from None
        if self.factor != 1:
            raise _MisfitError("no layer with weights follows the last average pool")
        if self._rows is not None:
            raise _MisfitError("the last Flatten goes through pictures in another order, and no Linear follows")
        if not self.layers:
            raise _MisfitError("it has no layers")

    def _chain(self) -> list[Node]:
        """The nodes one after the other."""
        chain: list[Node] = []
        tensor = self.input
        while tensor not in self.graph.outputs:
            readers = self.graph.consumers.get(tensor, [])
            if len(readers) != 1 or len([name for name in readers[0].reads if name not in self.graph.constants and name]) != 1:
                names = " and ".join(repr(node.name) for node in readers[:3])
                raise _MisfitError(f"it is no sequence: {tensor!r} is read by {names or 'no node'}, or together with another tensor")
            chain.append(readers[0])
            tensor = readers[0].outputs[0]
        return chain

    def _order(self, chain: list[Node]) -> str:
        """What the axes of the input are: the first window slides over (N, C, H, W), so they follow from the Transposes before it."""
        if self.graph.rank(self.input) != 4:
            return "NC"
        places = [0, 1, 2, 3]
        for node in chain:
            if node.op == "Transpose":
                places = [places[axis] for axis in node.attributes.get("perm", [3, 2, 1, 0])]
            elif node.op in ("Conv", "MaxPool", "AveragePool", "SumPool", "GlobalAveragePool"):
                return "".join("NCHW"[places.index(axis)] for axis in range(4))
        return "NHWC"

    def _add(self, node: Node) -> None:
        attributes = node.attributes
        wrong = {
            name: attributes[name]
            for name, neutral in _NEUTRAL.items()
            if name in attributes and np.any(np.asarray(attributes[name]) != neutral)
        }
        if wrong:
            raise _MisfitError(f"has {', '.join(f'{name} {value}' for name, value in wrong.items())}, which the format cannot say")
        if node.op in _ELEMENTWISE and not node.domain:
            if node.op != "Relu":
                self._need_factor_one()
            self.layers.append(_ELEMENTWISE[node.op]())
        elif node.op == "Transpose":
            self.axes = "".join(self.axes[axis] for axis in attributes.get("perm", range(len(self.axes))[::-1]))
        elif node.op == "Conv":
            self._convolution(node)
        elif node.op in ("MaxPool", "SumPool", "AveragePool", "GlobalAveragePool"):
            self._pool(node)
        elif node.op == "Gemm":
            self._linear(node)
        elif node.op in ("Flatten", "Reshape", "Squeeze") and self.graph.rank(node.outputs[0]) == 2:
            self._flatten(node)
        elif node.op == "Softmax" and self.graph.rank(node.input(0)) == 2 and attributes.get("axis", -1) in (-1, 1):
            self._need_factor_one()
            if self._rows is not None:
                raise _MisfitError("follows a Flatten that goes through pictures in another order")
            self.layers.append(SoftMax())
        else:
            raise _MisfitError("is none of the layers Linear, Convolution, SumPool, MaxPool, Rect, Tanh, SoftMax, Flatten")

    def _need_factor_one(self) -> None:
        if self.factor != 1:
            raise _MisfitError(f"follows an average pool; the format's SumPool is {self.factor:.3g} times as large")

    def _need_pictures(self) -> None:
        if self.axes != "NCHW":
            raise _MisfitError("does not slide over the rows and columns of pictures")

    def _convolution(self, node: Node) -> None:
        self._need_pictures()
        weight = self._weight(node, 4)
        stride = self._pair(node.attributes.get("strides", [1, 1]))
        self.layers.append(Convolution(weight.transpose(2, 3, 1, 0) / self.factor, self._bias(node, weight.shape[0]), stride))
        self.factor = 1.0

    def _linear(self, node: Node) -> None:
        weight = self._weight(node, 2)
        if node.attributes.get("transB", 0):
            weight = weight.T
        if self._rows is not None:
            weight, self._rows = weight[self._rows], None
        self.layers.append(Linear(weight / self.factor, self._bias(node, weight.shape[1])))
        self.factor = 1.0

    def _pool(self, node: Node) -> None:
        self._need_pictures()
        if node.op == "GlobalAveragePool":
            sizes = (self.graph.shape(node.input(0)) or ())[2:]
            if not all(isinstance(size, int) for size in sizes):
                raise _MisfitError("pools over pictures whose size is not fixed")
            pool, stride = self._pair(sizes), (1, 1)
        else:
            pool = self._pair(node.attributes["kernel_shape"])
            stride = self._pair(node.attributes.get("strides", [1, 1]))
        self.layers.append(MaxPool(pool, stride) if node.op == "MaxPool" else SumPool(pool, stride))
        if node.op in ("AveragePool", "GlobalAveragePool"):
            self.factor *= sqrt(prod(pool))

    def _flatten(self, node: Node) -> None:
        if len(self.axes) != 4:
            return  # flat already
        sizes = (self.graph.shape(node.input(0)) or ())[1:]
        if self.axes[0] != "N" or node.attributes.get("axis", 1) not in (1, -3):
            raise _MisfitError("mixes samples")
        if self.axes != "NHWC":
            if not all(isinstance(size, int) for size in sizes):
                raise _MisfitError("goes through pictures in another order, and their size is not fixed")
            numbers = np.arange(prod(int(size or 0) for size in sizes)).reshape([int(size or 0) for size in sizes])
            rows = numbers.transpose([self.axes[1:].index(letter) for letter in "HWC"]).ravel()
            self._rows = None if np.array_equal(rows, np.arange(len(rows))) else rows
        self.layers.append(Flatten())
        self.axes = "NC"

    def _weight(self, node: Node, rank: int) -> Array:
        value = self.graph.constant(node.input(1))
        if value is None or value.ndim != rank:
            raise _MisfitError("has weights that are computed, or not of two spatial axes")
        return value.astype(np.float64)

    def _bias(self, node: Node, count: int) -> Array:
        value = self.graph.constant(node.input(2)) if node.input(2) else np.zeros(count)
        if value is None:
            raise _MisfitError("has biases that are computed")
        return np.broadcast_to(value.reshape(-1), (count,)).astype(np.float64)

    @staticmethod
    def _pair(values: Any) -> tuple[int, int]:
        if len(values) != 2:
            raise _MisfitError("has not two spatial axes")
        return int(values[0]), int(values[1])


def _compared(graph: Graph, walk: _Walk, layers: list[Module], where: str) -> Report:
    """Runs the model and what was written on the same input.

    Args:
        graph: The model as it was read.
        walk: How its axes are to be understood.
        layers: What was written.
        where: The model's name.
    """
    letters = dict(zip(walk.order, graph.shape(walk.input) or (), strict=False))
    sizes = [letters.get(letter) for letter in ("HWC" if len(walk.order) == 4 else "C")]
    shape = tuple(size for size in sizes if isinstance(size, int))
    if len(shape) != len(sizes):
        shape = input_shape(layers, where)
    around = [shape, *shapes(layers, shape, where)]
    batch = letters.get("N")
    x = np.random.default_rng(0).uniform(-1, 1, (batch if isinstance(batch, int) else 2, *shape)).astype(np.float32)
    expected = _run(graph, x.transpose(["NHWC".index(letter) for letter in walk.order]) if len(walk.order) == 4 else x)
    activations = list(forward(layers, around, "C", x))
    last = activations[-1].value
    if last.ndim == 4:  # (N, C, H, W) in NumPy
        last = last.transpose(["NCHW".index(letter) for letter in walk.axes])
    found = deviation(last, expected) if expected.shape == last.shape else float("inf")
    if not found <= TOLERANCE:
        raise ModelError(f"{where}: what would be written differs from the model, by {found:.3g}")
    return Report(Path(where), "ONNX", [Layer(layer, kind, layer, value.shape, found) for layer, kind, _, value in activations[-1:]])


def _run(graph: Graph, x: Array) -> Array:
    from onnx_lrp.emitter import Emitter
    from onnx_lrp.interpreter import Interpreter

    ((name, _),) = graph.inputs.items()
    given = onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, x.shape)
    model, constants = Emitter(graph).model([given], [onnx.ValueInfoProto(name=graph.outputs[0])])
    return Interpreter(model, constants, ["CPUExecutionProvider"]).run(graph.outputs, {name: np.ascontiguousarray(x)})[0]
