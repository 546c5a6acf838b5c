"""Fold away the transposes that exporters put around every layer of a channels-last model.

A Transpose is not written where it stands: what follows is computed on the tensor before it, as long as the operator allows that exactly,
and the transpose moves on. Where two meet they become one or vanish; one that reaches an operator that it cannot pass is written there.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper, numpy_helper

if TYPE_CHECKING:
    Array = NDArray[Any]

__all__ = ["fold_transposes"]

_ELEMENTWISE: Final = frozenset(
    [
        "Abs",
        "Add",
        "And",
        "Cast",
        "Ceil",
        "Celu",
        "Clip",
        "Div",
        "Elu",
        "Equal",
        "Erf",
        "Exp",
        "Floor",
        "Gelu",
        "Greater",
        "GreaterOrEqual",
        "HardSigmoid",
        "HardSwish",
        "Identity",
        "LeakyRelu",
        "Less",
        "LessOrEqual",
        "Log",
        "Max",
        "Mean",
        "Min",
        "Mish",
        "Mul",
        "Neg",
        "Not",
        "Or",
        "PRelu",
        "Pow",
        "Reciprocal",
        "Relu",
        "Round",
        "Selu",
        "Sigmoid",
        "Sign",
        "Softplus",
        "Softsign",
        "Sqrt",
        "Sub",
        "Sum",
        "Tanh",
        "ThresholdedRelu",
        "Where",
    ]
)
_REDUCTIONS: Final = frozenset(
    ["ReduceMean", "ReduceSum", "ReduceMax", "ReduceMin", "ReduceProd", "ReduceL1", "ReduceL2", "ReduceSumSquare"]
)
_ALONG_AXIS: Final = frozenset(["Concat", "Softmax", "LogSoftmax", "Split"])
_LAST_AXIS: Final = frozenset(["Softmax", "LogSoftmax"])

Perm = tuple[int, ...]


def fold_transposes(model: onnx.ModelProto) -> onnx.ModelProto:
    """The model with fewer transposes and equal outputs; the names of its inputs, outputs, nodes and unaffected tensors stay.

    Args:
        model: A model of opset 18 or later without subgraphs; one with subgraphs is returned as it is.
    """
    before = sum(node.op_type == "Transpose" for node in model.graph.node)
    if not before or any(attribute.HasField("g") for node in model.graph.node for attribute in node.attribute):
        return model
    folder = _Folder(model.graph)
    nodes = folder.run()
    if sum(node.op_type == "Transpose" for node in nodes) >= before:
        return model
    folded = onnx.ModelProto()
    folded.CopyFrom(model)
    del folded.graph.node[:]
    folded.graph.node.extend(nodes)
    used = {tensor for node in nodes for tensor in node.input} | {output.name for output in model.graph.output}
    del folded.graph.initializer[:]
    folded.graph.initializer.extend(tensor for tensor in [*model.graph.initializer, *folder.added] if tensor.name in used)
    del folded.graph.value_info[:]
    return folded


class _Folder:
    """Walks a graph from its inputs on, with every transpose pending until something needs it."""

    def __init__(self, graph: onnx.GraphProto) -> None:
        self.graph = graph
        self.constants = {tensor.name: numpy_helper.to_array(tensor) for tensor in graph.initializer}
        self.names = {tensor for node in graph.node for tensor in (*node.input, *node.output)} | self.constants.keys()
        self.pending: dict[str, tuple[str, Perm]] = {}
        """A tensor -> the tensor that it is the transpose of, and how."""
        self.written: set[str] = set()
        self.node_names = {node.output[0]: node.name for node in graph.node if node.op_type == "Transpose"}
        self.added: list[onnx.TensorProto] = []
        self.nodes: list[onnx.NodeProto] = []
        self.made_by: dict[str, onnx.NodeProto] = {}

    def run(self) -> list[onnx.NodeProto]:
        """The new nodes, without those that nothing uses any more."""
        for original in self.graph.node:
            node = self._without_identities(original)
            if not node.domain and self._constant_node(node):
                continue
            if node.op_type == "Transpose" and not node.domain:
                self._postpone(node)
            elif not self._pass(node):
                for tensor in node.input:
                    self._write(tensor)
                self._append(node)
        for output in self.graph.output:
            self._write(output.name)
        return _used(self.nodes, {output.name for output in self.graph.output})

    def _append(self, node: onnx.NodeProto) -> None:
        self.nodes.append(node)
        self.made_by.update(dict.fromkeys(node.output, node))

    def _without_identities(self, node: onnx.NodeProto) -> onnx.NodeProto:
        """The node, reading the tensors that transposes which cancel each other lead back to."""
        same = {tensor: self.pending[tensor][0] for tensor in node.input if tensor in self.pending and _kept(self.pending[tensor][1])}
        if not same:
            return node
        new = onnx.NodeProto()
        new.CopyFrom(node)
        for index, tensor in enumerate(node.input):
            new.input[index] = same.get(tensor, tensor)
        return new

    def _constant_node(self, node: onnx.NodeProto) -> bool:
        """Computes a Transpose or Reshape of a constant, such as exporters leave at large weights."""
        if node.op_type == "Constant" and node.attribute[0].name == "value":
            self.constants[node.output[0]] = numpy_helper.to_array(node.attribute[0].t)
            return False
        if node.op_type not in ("Transpose", "Reshape") or any(tensor not in self.constants for tensor in node.input):
            return False
        value = self.constants[node.input[0]]
        if node.op_type == "Transpose":
            value = value.transpose(_perm(node))
        else:
            lengths = self.constants[node.input[1]]
            if 0 in lengths:
                return False
            value = value.reshape(lengths)
        self.constants[node.output[0]] = value
        self.added.append(numpy_helper.from_array(np.ascontiguousarray(value), node.output[0]))
        return True

    def _postpone(self, node: onnx.NodeProto) -> None:
        perm = _perm(node)
        source, inner = self.pending.get(node.input[0], (node.input[0], None))
        if perm is None:
            if inner is None:  # without perm the axes are reversed, and their number is not known here
                self._append(node)
                return
            perm = tuple(range(len(inner)))[::-1]
        whole = perm if inner is None else tuple(inner[axis] for axis in perm)
        if not self._reshaped(node.output[0], source, whole):
            self.pending[node.output[0]] = (source, whole)

    def _reshaped(self, output: str, source: str, perm: Perm) -> bool:
        """A Reshape whose result's axes of length 1 alone are moved gives the new shape itself."""
        reshape = self.made_by.get(source)
        shape = self.constants.get(reshape.input[1]) if reshape is not None and reshape.op_type == "Reshape" else None
        if reshape is None or shape is None or len(shape) != len(perm):
            return False
        moved = [axis for axis in perm if shape[axis] != 1]
        if moved != sorted(moved) or 0 in shape:  # 0: as in the input at this place
            return False
        name = self.node_names.get(output, output)
        shape_name = self._constant(shape[list(perm)], reshape.input[1])
        self._append(helper.make_node("Reshape", [reshape.input[0], shape_name], [output], name=f"{name}/Reshape"))
        return True

    def _write(self, tensor: str) -> None:
        """Makes sure that a tensor exists."""
        if tensor in self.pending and tensor not in self.written:
            self.written.add(tensor)
            source, perm = self.pending[tensor]
            kept = _kept(perm)
            name = self.node_names.get(tensor) or f"{tensor}/Transpose"
            node = helper.make_node("Identity" if kept else "Transpose", [source], [tensor], name=name)
            if not kept:
                node.attribute.append(helper.make_attribute("perm", perm))
            self._append(node)

    def _fresh(self, name: str) -> str:
        unused, number = name, 1
        while unused in self.names:
            number += 1
            unused = f"{name}_{number}"
        self.names.add(unused)
        return unused

    def _constant(self, value: Array, like: str) -> str:
        name = self._fresh(f"{like}_transposed")
        self.added.append(numpy_helper.from_array(np.ascontiguousarray(value), name))
        self.constants[name] = value
        return name

    def _pass(self, node: onnx.NodeProto) -> bool:
        """Computes a node on what is before the transposes of its inputs, if it can."""
        perms = {self.pending[tensor][1] for tensor in node.input if tensor in self.pending}
        if node.domain or len(perms) != 1:
            return False
        (perm,) = perms
        passes: Callable[[onnx.NodeProto, Perm], bool] | None = None
        if node.op_type in _ELEMENTWISE:
            passes = self._elementwise
        elif node.op_type in _ALONG_AXIS:
            passes = self._along_axis
        elif node.op_type in _REDUCTIONS:
            passes = self._reduction
        elif node.op_type in ("Pad", "Resize", "Slice"):
            passes = {"Pad": self._pad, "Resize": self._resize, "Slice": self._slice}[node.op_type]
        return passes is not None and passes(node, perm)

    def _source(self, tensor: str) -> str:
        return self.pending[tensor][0] if tensor in self.pending else tensor

    def _emit(self, node: onnx.NodeProto, inputs: Sequence[str], attributes: dict[str, Any], perm: Perm) -> bool:
        """Writes a node with other inputs and attributes; perm: how its outputs are to be transposed."""
        new = onnx.NodeProto()
        new.CopyFrom(node)
        del new.input[:]
        new.input.extend(inputs)
        kept = [attribute for attribute in node.attribute if attribute.name not in attributes]
        del new.attribute[:]
        new.attribute.extend([*kept, *(helper.make_attribute(name, value) for name, value in attributes.items())])
        if not _kept(perm):
            del new.output[:]
            for tensor in node.output:
                name = self._fresh(f"{tensor}_before_transpose") if tensor else ""
                new.output.append(name)
                if tensor:
                    self.pending[tensor] = (name, perm)
        self._append(new)
        return True

    def _elementwise(self, node: onnx.NodeProto, perm: Perm) -> bool:
        inputs = []
        for tensor in node.input:
            if tensor in self.pending or not tensor:
                inputs.append(self._source(tensor))
                continue
            value = self.constants.get(tensor)
            if value is None or value.ndim > len(perm):
                return False
            if value.size > 1:
                full = value.reshape((1,) * (len(perm) - value.ndim) + value.shape)
                tensor = self._constant(full.transpose(np.argsort(perm)), tensor)  # noqa: PLW2901
            inputs.append(tensor)
        return self._emit(node, inputs, {}, perm)

    def _along_axis(self, node: onnx.NodeProto, perm: Perm) -> bool:
        axis = _attribute(node, "axis", -1 if node.op_type in _LAST_AXIS else 0)
        first = node.input[0]
        if node.op_type == "Concat":
            if not all(tensor in self.pending for tensor in node.input):
                return False
        elif first not in self.pending:
            return False
        return self._emit(node, [self._source(tensor) for tensor in node.input], {"axis": perm[axis]}, perm)

    def _axes(self, node: onnx.NodeProto, index: int, perm: Perm) -> list[int] | None:
        """The axes that an input names, on the tensor before the transpose; None if they are not known."""
        if len(node.input) <= index or not node.input[index]:
            return list(perm)
        value = self.constants.get(node.input[index])
        return None if value is None else [perm[int(axis)] for axis in value]

    def _only_first(self, node: onnx.NodeProto) -> bool:
        """Whether the first input alone is a tensor to transpose."""
        return node.input[0] in self.pending and not any(tensor in self.pending for tensor in node.input[1:])

    def _reduction(self, node: onnx.NodeProto, perm: Perm) -> bool:
        axes = self._axes(node, 1, perm)
        given = len(node.input) > 1 and bool(node.input[1]) and axes != []
        if not self._only_first(node) or axes is None or not given or any(item.name == "axes" for item in node.attribute):
            return False
        kept: Perm = perm
        if not _attribute(node, "keepdims", 1):
            order = [axis for axis in perm if axis not in axes]
            kept = tuple(sorted(order).index(axis) for axis in order)
        return self._emit(node, [self._source(node.input[0]), self._constant(np.asarray(axes, np.int64), node.input[1])], {}, kept)

    def _pad(self, node: onnx.NodeProto, perm: Perm) -> bool:
        axes, pads = self._axes(node, 3, perm), self.constants.get(node.input[1])
        if not self._only_first(node) or axes is None or pads is None:
            return False
        full = np.zeros((2, len(perm)), np.int64)
        full[:, axes] = pads.reshape(2, -1)
        return self._emit(node, [self._source(node.input[0]), self._constant(full.reshape(-1), node.input[1]), *node.input[2:3]], {}, perm)

    def _slice(self, node: onnx.NodeProto, perm: Perm) -> bool:
        axes, starts = self._axes(node, 3, perm), self.constants.get(node.input[1])
        if not self._only_first(node) or axes is None or starts is None:
            return False
        named = self._constant(np.asarray(axes[: len(starts)], np.int64), node.input[1])
        return self._emit(node, [self._source(node.input[0]), *node.input[1:3], named, *node.input[4:]], {}, perm)

    def _resize(self, node: onnx.NodeProto, perm: Perm) -> bool:
        if not self._only_first(node) or any(item.name == "axes" for item in node.attribute) or (len(node.input) > 1 and node.input[1]):
            return False
        inputs = [self._source(node.input[0])]
        for tensor in node.input[1:]:
            value = self.constants.get(tensor)
            if tensor and (value is None or value.size not in (0, len(perm))):
                return False
            inputs.append(self._constant(value[np.argsort(perm)], tensor) if value is not None and value.size else tensor)
        return self._emit(node, inputs, {}, perm)


def _attribute(node: onnx.NodeProto, name: str, default: int) -> int:
    return next((int(attribute.i) for attribute in node.attribute if attribute.name == name), default)


def _perm(node: onnx.NodeProto) -> Perm | None:
    return next((tuple(attribute.ints) for attribute in node.attribute if attribute.name == "perm"), None)


def _kept(perm: Perm) -> bool:
    """Whether a permutation changes nothing."""
    return perm == tuple(range(len(perm)))


def _used(nodes: list[onnx.NodeProto], wanted: set[str]) -> list[onnx.NodeProto]:
    """The nodes that the wanted tensors need."""
    kept = []
    for node in reversed(nodes):
        if wanted & set(node.output):
            kept.append(node)
            wanted.update(node.input)
    return kept[::-1]
