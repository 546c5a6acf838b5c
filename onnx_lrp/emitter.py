"""Writing ONNX nodes: what rules and operators call to emit the relevance pass."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Sequence
from itertools import groupby
from typing import Any

import numpy as np
import onnx
from onnx import helper, numpy_helper

from onnx_lrp.cuda import cropped, needs_cropping
from onnx_lrp.graph import CANONICAL, Array, Graph, Node
from onnx_lrp.graph.opset import OPSET
from onnx_lrp.ordering import as_soon_as_possible, needed_for, read_by
from onnx_lrp.precision import PRODUCTS, Precision, product

IR_VERSION = 8

STEEP = 3e38
"""About the largest float32: times it, every normal number is above one."""


class Emitter:
    """A growing ONNX graph: the model's own nodes first, then whatever is asked for.

    The same operator on the same inputs is emitted once: asking for a tensor again returns the first one, and asking for what the model
    itself computes returns the model's tensor. So rules may ask freely, and no work is done twice.
    """

    def __init__(self, graph: Graph, device: str = "cpu", precision: Precision = "float32", *, emulated: bool = False):
        from onnx_lrp.operators import operator_of

        self.graph = copy.copy(graph)
        self.graph.types = dict(graph.types)  # for tensors of ours, too
        self.device = device
        """'cpu' or 'cuda': some maps have encodings that are faster on one of them."""
        self.precision = precision
        """How exactly products are computed; see `onnx_lrp.precision`."""
        self.emulated = emulated
        """Whether what computes has no such products, so that they are imitated in float32."""
        self.at = ""
        """The name of the model's node that is worked on."""
        self.halved: dict[str, str] = {}
        """The products in float16 that may overflow, and the node that each was emitted for."""
        self.constants: dict[str, Array] = {}
        self._nodes: list[onnx.NodeProto] = []
        self._made_by: dict[str, onnx.NodeProto] = {}
        self._memo: dict[tuple[Any, ...], list[str]] = {}
        self._small: dict[tuple[Any, ...], str] = {}
        self._signs: dict[str, tuple[bool, bool]] = {}
        self._replayed: dict[tuple[tuple[str, str], ...], dict[str, str]] = {}
        self._shapes: dict[str, tuple[int | str | None, ...]] = {}
        self._count = 0
        for node in graph.nodes:
            self.at = node.name
            if node.domain == CANONICAL:
                operator_of(node).lower(self, node)
            else:
                self.node(node)
        self._forward = {proto.name for proto in self._nodes}

    # nodes ----------------------------------------------------------------------------------------------------------

    def node(self, node: Node) -> None:
        """Emits a node of the model as it is, products in the precision asked for."""
        if self.precision != "float32" and node.op in PRODUCTS and not node.domain and self.graph.type_of(node.outputs[0]).is_float:
            self.product(node.op, *node.inputs, output=node.outputs[0], **node.attributes)
            return
        if self.device == "cuda" and needs_cropping(node.op, node.attributes):
            cropped(self, *node.inputs, output=node.outputs[0], **node.attributes)
            return
        self._emit(node.op, node.inputs, node.outputs, node.attributes, node.domain, node.name)

    def op(self, op: str, *inputs: str, output: str = "", **attributes: Any) -> str:
        """Emits an operator with one output and returns that tensor's name (`output` if given)."""
        if self.device == "cuda" and needs_cropping(op, attributes):
            return cropped(self, *inputs, output=output, **attributes)
        return self.ops(op, *inputs, outputs=[output], **attributes)[0]

    def product(self, op: str, *inputs: str, output: str = "", **attributes: Any) -> str:
        """Emits a convolution or matrix product with a layer's weights, in the precision asked for."""
        return product(self, op, *inputs, output=output, **attributes)

    def ops(self, op: str, *inputs: str, outputs: Sequence[str], **attributes: Any) -> list[str]:
        """Emits an operator with several outputs; those named '' get a fresh name."""
        given = list(inputs)
        while given and not given[-1]:
            given.pop()
        attributes = {key: value for key, value in attributes.items() if value is not None}
        key = (op, tuple(given), len(outputs), _frozen(attributes))
        known = self._memo.get(key)
        if known is not None and not any(outputs):
            return known
        self._count += 1
        names = [name or f"lrp/{op}_{self._count}" + (f".{index}" if index else "") for index, name in enumerate(outputs)]
        self._emit(op, given, names, attributes, "", f"lrp/{op}_{self._count}")
        return names

    def _emit(self, op: str, inputs: Iterable[str], outputs: list[str], attributes: dict[str, Any], domain: str, name: str) -> None:
        given = list(inputs)
        proto = helper.make_node(op, given, outputs, name=name, domain=domain or None)
        for key, value in attributes.items():
            if value is not None:
                proto.attribute.append(make_attribute(key, value))
        self._nodes.append(proto)
        self._made_by.update((tensor, proto) for tensor in outputs if tensor)
        self._memo.setdefault((op, tuple(given), len(outputs), _frozen(attributes)), list(outputs))

    def extra_output(self, tensor: str, index: int) -> str:
        """The name of a further output of the node that makes a tensor, e.g. the indices beside MaxPool's maximum."""
        proto = self._made_by[tensor]
        while len(proto.output) <= index:
            proto.output.append("")
        if not proto.output[index]:
            self._count += 1
            proto.output[index] = f"lrp/{proto.op_type}_{self._count}.{index}"
            self._made_by[proto.output[index]] = proto
        return str(proto.output[index])

    def recompute(self, tensor: str, a: str, b: str) -> None:
        """Lets a tensor of the model be the sum of two others, which do not depend on it, instead of what its own node computes."""
        self._made_by[tensor].CopyFrom(helper.make_node("Add", [a, b], [tensor], name=self._made_by[tensor].name))
        self._memo["Add", (a, b), 1, ()] = [tensor]

    def branch(self, build: Callable[[], str]) -> onnx.GraphProto:
        """A branch of an If: the nodes that a function emits, which may read every tensor emitted before.

        Args:
            build: emits the nodes and returns the name of a float tensor, the branch's output.
        """
        outer = self._nodes, self._made_by, self._memo
        self._nodes, self._made_by, self._memo = [], dict(self._made_by), dict(self._memo)  # what the branch emits stays inside it
        try:
            found = build()
            self._count += 1
            result = self.op("Identity", found, output=f"lrp/branch_{self._count}")  # a tensor from outside cannot be its output
            nodes = self._nodes
        finally:
            self._nodes, self._made_by, self._memo = outer
        return helper.make_graph(nodes, result, [], [helper.make_tensor_value_info(result, onnx.TensorProto.FLOAT, None)])

    # constants ------------------------------------------------------------------------------------------------------

    def constant(self, value: Any, dtype: Any = np.float32) -> str:
        """The name of a constant; equal small ones are shared."""
        array = np.asarray(value, dtype)
        key = (array.dtype.str, array.shape, array.tobytes()) if array.size <= 1024 else (id(value), array.shape)
        if key not in self._small:
            self._count += 1
            self._small[key] = f"lrp/constant_{self._count}"
            self.constants[self._small[key]] = array
        return self._small[key]

    def ints(self, *values: int) -> str:
        """A 1-D int64 constant."""
        return self.constant(list(values), np.int64)

    def value(self, tensor: str) -> Array | None:
        """The value of a constant of the model or of ours, else None."""
        found = self.constants.get(tensor)
        return self.graph.constant(tensor) if found is None else found

    def signs(self, tensor: str) -> tuple[bool, bool]:
        """Whether a constant has positive elements, and whether it has negative ones; (True, True) when it is no constant."""
        if tensor not in self._signs:
            array = self.value(tensor)
            self._signs[tensor] = (True, True) if array is None or not array.size else (bool(array.max() > 0), bool(array.min() < 0))
        return self._signs[tensor]

    def replay(self, target: str, given: dict[str, str]) -> str:
        """Emits again the model's nodes between some tensors and a target, with other tensors of the same types in their place.

        A tensor given for itself stays as it is, and so does what depends on nothing else. Nodes that an earlier call emitted for the same
        replacements are not emitted again.
        """
        from onnx_lrp.operators import operator_of

        replaced = self._replayed.setdefault(tuple(sorted(given.items())), dict(given))
        for tensor, other in given.items():
            self.is_like(other, tensor)
        for node in self.graph.nodes:
            if target in replaced:
                break
            if any(tensor in replaced for tensor in node.outputs) or not any(
                replaced.get(tensor, tensor) != tensor for tensor in node.inputs
            ):
                continue
            self._count += 1
            mark = f"/replayed_{self._count}"
            replaced |= {tensor: self.is_like(tensor + mark, tensor) for tensor in node.outputs if tensor}
            inputs, outputs = ([replaced.get(tensor, tensor) for tensor in names] for names in (node.inputs, node.outputs))
            again = Node(node.op, node.name + mark, inputs, outputs, node.attributes, node.domain)
            if again.domain == CANONICAL:
                operator_of(again).lower(self, again)
            else:
                self.node(again)
        return replaced.get(target, target)

    def is_like(self, tensor: str, other: str) -> str:
        """Notes that a tensor has the type and shape of one of the model, and returns it."""
        self.graph.types.setdefault(tensor, self.graph.type_of(other))
        return tensor

    def is_shaped_like(self, tensor: str, other: str) -> None:
        """Notes for onnxruntime that a tensor of ours has the shape of one of the model.

        What it infers by itself loses the name of the batch's length on the way, and then elementwise operators leave its blocked layout.
        """
        if (shape := self.graph.shape(other)) is not None and tensor not in self.graph.types:
            self._shapes[tensor] = shape

    # arithmetic -----------------------------------------------------------------------------------------------------

    def mul(self, a: str, b: str) -> str:
        """Emits a * b."""
        return self.op("Mul", a, b)

    def add(self, a: str, b: str) -> str:
        """Emits a + b."""
        return self.op("Add", a, b)

    def sub(self, a: str, b: str) -> str:
        """Emits a - b."""
        return self.op("Sub", a, b)

    def div(self, a: str, b: str) -> str:
        """Emits a / b."""
        return self.op("Div", a, b)

    def scale(self, tensor: str, factor: float) -> str:
        """A tensor times a number; times one is the tensor itself."""
        return tensor if factor == 1 else self.op("Mul", tensor, self.constant(factor))

    def step(self, z: str, *, below: bool = False, at_zero: float = 0.0) -> str:
        """1 where z > 0, `at_zero` where z = 0 and 0 where z < 0; with `below` z counts by its negative.

        As a HardSigmoid so steep that only denormal numbers fall between: onnxruntime vectorises it and keeps its blocked layout there,
        unlike for comparisons and Where.
        """
        return self.op("HardSigmoid", z, alpha=-STEEP if below else STEEP, beta=at_zero)

    def sum(self, tensors: Sequence[str]) -> str:
        """The sum of one or more tensors of one shape."""
        total = tensors[0]
        for tensor in tensors[1:]:
            total = self.op("Add", total, tensor)
        return total

    def shape_of(self, tensor: str) -> str:
        """The shape as an int64 tensor: a constant where it is known, else from the model's inputs as far as these have such lengths.

        Asking the tensor itself would keep it in memory until then.
        """
        shape = self.graph.shape(tensor)
        if shape is None or tensor in self.graph.inputs:
            return self.op("Shape", tensor)
        parts: list[str] = []
        for known, group in groupby(shape, lambda length: isinstance(length, int)):
            lengths = list(group)
            found = [self.ints(*lengths)] if known else [self._length_of_input(name, tensor) for name in lengths]  # type: ignore[arg-type]
            if "" in found:
                return self.op("Shape", tensor)
            parts += found
        return parts[0] if len(parts) == 1 else self.op("Concat", *parts, axis=0)

    def _length_of_input(self, name: int | str | None, tensor: str) -> str:
        """A length that an input has which a tensor depends on, by its name in the graph's shapes; '' if none has it."""
        for source, kind in self.graph.inputs_for(tensor).items() if name is not None else ():
            if kind.shape is not None and name in kind.shape:
                axis = kind.shape.index(name)
                return self.op("Shape", source, start=axis, end=axis + 1)
        return ""

    def reduce_sum(self, tensor: str, axes: Sequence[int], *, keepdims: bool = True) -> str:
        """The sum over some axes; over none, the tensor itself."""
        return self.op("ReduceSum", tensor, self.ints(*axes), keepdims=int(keepdims)) if axes else tensor

    def reshape_like(self, tensor: str, like: str) -> str:
        """Gives a tensor the shape of a tensor of the model; a single unknown length needs no run-time shape."""
        shape = self.graph.shape(like)
        if shape is not None and sum(not isinstance(length, int) for length in shape) <= 1 and 0 not in shape:
            return self.op("Reshape", tensor, self.ints(*(length if isinstance(length, int) else -1 for length in shape)))
        return self.op("Reshape", tensor, self.shape_of(like))

    def expand_like(self, tensor: str, like: str) -> str:
        """Repeats a tensor to the shape of a tensor of the model."""
        return self.op("Expand", tensor, self.shape_of(like))

    def unbroadcast(self, tensor: str, like: str, result: str) -> str:
        """Sums a tensor shaped like `result` over the axes along which `like` was repeated to get that shape.

        The two names are tensors of the model and give the shapes. An unknown length may be one, unless it has the same name in both.
        """
        from_shape, to_shape = self.graph.shape(like), self.graph.shape(result)
        if from_shape is None or to_shape is None:
            return self.unbroadcast_at_run_time(tensor, like)
        lead = len(to_shape) - len(from_shape)
        pairs = zip(from_shape, to_shape[lead:], strict=True)
        if not all(isinstance(own, int) or own == length is not None or length == 1 for own, length in pairs):
            return self.unbroadcast_at_run_time(tensor, like)
        axes = [lead + i for i, length in enumerate(from_shape) if length == 1 and to_shape[lead + i] != 1]
        tensor = self.reduce_sum(tensor, axes)
        return self.op("Squeeze", self.reduce_sum(tensor, range(lead)), self.ints(*range(lead))) if lead else tensor

    def unbroadcast_at_run_time(self, tensor: str, like: str) -> str:
        """Without known ranks: pad the shape of `like` with ones on the left, then sum where it is one and the tensor is not."""
        shape, target = self.op("Shape", tensor), self.op("Shape", like)
        rank = self.op("Shape", shape)
        missing = self.op("Sub", rank, self.op("Shape", target))
        ones = self.op("Expand", self.ints(1), missing)
        padded = self.op("Concat", ones, target, axis=0)
        repeated = self.op("Not", self.op("Equal", shape, padded))
        axes = self.op("Squeeze", self.op("NonZero", repeated), self.ints(0))
        summed = self.op("ReduceSum", tensor, axes, keepdims=1, noop_with_empty_axes=1)
        return self.op("Reshape", summed, target)

    # the result -----------------------------------------------------------------------------------------------------

    def model(
        self, inputs: Sequence[onnx.ValueInfoProto], outputs: Sequence[onnx.ValueInfoProto], *, name: str = "explainer"
    ) -> tuple[onnx.ModelProto, dict[str, Array]]:
        """The nodes that the outputs need, as a ModelProto without initialisers, and the constants it reads."""
        needed = needed_for([value.name for value in outputs], self._nodes)
        kept = as_soon_as_possible(needed, self._forward, {value.name for value in inputs} - self.graph.inputs.keys())
        read = {value.name for value in outputs}.union(*map(read_by, kept))
        graph = helper.make_graph(kept, name, list(inputs), list(outputs))
        made = {tensor for proto in kept for tensor in proto.output} - {value.name for value in outputs}
        shapes = {tensor: shape for tensor, shape in self._shapes.items() if tensor in made}
        graph.value_info.extend(helper.make_tensor_value_info(tensor, onnx.TensorProto.FLOAT, shape) for tensor, shape in shapes.items())
        domains = sorted({proto.domain for proto in kept if proto.domain})
        opsets = [helper.make_opsetid("", OPSET), *(helper.make_opsetid(domain, 1) for domain in domains)]
        model = helper.make_model(graph, opset_imports=opsets, ir_version=IR_VERSION, producer_name="onnx_lrp")
        constants = {
            tensor: value for source in (self.graph.constants, self.constants) for tensor, value in source.items() if tensor in read
        }
        return model, constants


def embed(model: onnx.ModelProto, constants: dict[str, Array]) -> onnx.ModelProto:
    """Adds the constants to a model as initialisers."""
    model.graph.initializer.extend(numpy_helper.from_array(np.asarray(value, order="C"), name) for name, value in constants.items())
    return model


def make_attribute(name: str, value: Any) -> onnx.AttributeProto:
    """An attribute from a Python value; arrays become tensors."""
    if isinstance(value, np.ndarray):
        return helper.make_attribute(name, numpy_helper.from_array(value))
    if isinstance(value, (list, tuple)) and not value:
        return helper.make_attribute(name, [], attr_type=onnx.AttributeProto.INTS)
    return helper.make_attribute(name, value)


def _frozen(attributes: dict[str, Any]) -> tuple[Any, ...]:
    def freeze(value: Any) -> Any:
        if isinstance(value, np.ndarray):
            return (value.dtype.str, value.shape, value.tobytes())
        if isinstance(value, (list, tuple)):
            return tuple(value)
        if isinstance(value, onnx.GraphProto):
            return value.SerializeToString()
        return value if isinstance(value, (int, float, str)) else id(value)

    return tuple(sorted((key, freeze(value)) for key, value in attributes.items()))
