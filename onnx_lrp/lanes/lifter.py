"""Lifting a graph over lanes: K runs of a graph become one run that does only once what the runs have in common.

It is what `jax.vmap` does to a program. A tensor is narrow when all lanes share it, and wide when each lane has one of its own; wideness
starts at the inputs that are named and spreads to whatever is computed from them. A wide tensor whose value in one lane has the shape
(d0, d1, ...) has two forms that hold the same elements in the same order:

    unfolded  (K, d0, d1, ...)   what broadcasting and operators with axes want: narrow tensors need no repetition beside it
    folded    (K * d0, d1, ...)  what operators want that treat their first axis as a batch: convolutions, pools, Gemm

`rules` has a rule for each operator, which says in which form it can work; a form that is not there yet is made by a Reshape.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnx
from onnx import helper

from onnx_lrp.emitter import make_attribute
from onnx_lrp.graph import Array, TensorType, captured_by
from onnx_lrp.lanes.shapes import NotLiftable, Shape, infer_shapes


@dataclass
class Wide:
    """The tensors that hold a wide tensor's elements."""

    source: str
    """Any of them: its shape does not matter."""
    folded: str = ""
    unfolded: str = ""


@dataclass
class LiftedNode:
    """A node of the narrow graph, with its attributes as Python values."""

    proto: onnx.NodeProto
    attributes: dict[str, Any] = field(init=False)

    def __post_init__(self) -> None:
        self.attributes = {attribute.name: helper.get_attribute_value(attribute) for attribute in self.proto.attribute}

    @property
    def op(self) -> str:
        """The operator."""
        return str(self.proto.op_type)

    @property
    def inputs(self) -> list[str]:
        """The names of its inputs; '' for one that is left out."""
        return list(self.proto.input)

    @property
    def outputs(self) -> list[str]:
        """The names of its outputs."""
        return list(self.proto.output)

    def input(self, index: int) -> str:
        """The name of an input, or '' when it is left out."""
        return self.inputs[index] if index < len(self.inputs) else ""


class Lifter:
    """The lifted graph while it grows: what rules read from and write to."""

    def __init__(self, model: onnx.ModelProto, constants: Mapping[str, Array], wide: Sequence[str], types: Mapping[str, TensorType]):
        self.constants = constants
        self.made: dict[str, Array] = {}
        """The constants that lifting adds."""
        self.nodes: list[onnx.NodeProto] = []
        self.wide = {name: Wide(name, unfolded=name) for name in wide}
        self._shapes = infer_shapes(model, constants, types)
        self._memo: dict[tuple[Any, ...], str] = {}
        self.lanes = self.op("Shape", wide[0], start=0, end=1)
        """The tensor that holds K, of shape (1,)."""

    # facts about the narrow graph -----------------------------------------------------------------------------------

    def shape(self, tensor: str) -> Shape:
        """The shape in one lane; NotLiftable when not even the rank is known."""
        if tensor in self.constants:
            return tuple(self.constants[tensor].shape)
        if tensor not in self._shapes:
            raise NotLiftable(f"the rank of {tensor!r} is not known")
        return self._shapes[tensor]

    def rank(self, tensor: str) -> int:
        """The number of axes in one lane."""
        return len(self.shape(tensor))

    def is_fixed(self, tensor: str) -> bool:
        """Whether all lengths but the first are known numbers."""
        shape = self._shapes.get(tensor)
        return shape is not None and all(isinstance(length, int) for length in shape[1:])

    def numbers(self, tensor: str) -> list[int] | None:
        """The value of a constant list of ints, None when it is computed."""
        value = self.constants.get(tensor)
        return None if value is None else [int(number) for number in value.reshape(-1)]

    # forms of wide tensors ------------------------------------------------------------------------------------------

    def folded(self, tensor: str) -> str:
        """A tensor as (K * d0, d1, ...); a narrow one is repeated."""
        wide = self._of(tensor)
        if not wide.folded:
            if not self.rank(tensor):
                raise NotLiftable(f"{tensor!r} has no axis to fold the lanes into")
            if self.is_fixed(tensor):
                shape = self.ints(-1, *self._lengths(tensor)[1:])
            else:
                lengths = self.op("Shape", wide.unfolded, start=2)
                shape = self.op("Concat", self.ints(-1), lengths, axis=0)
            wide.folded = self.op("Reshape", wide.source, shape)
        return wide.folded

    def unfolded(self, tensor: str, rank: int | None = None) -> str:
        """A tensor as (K, d0, d1, ...); a narrow one is repeated.

        With `rank`, ones between K and d0 make it fit beside tensors of that rank.
        """
        wide = self._of(tensor)
        if not wide.unfolded:
            if self.is_fixed(tensor):
                lengths = self._lengths(tensor)
                known = -1 not in lengths
                shape = self.ints(-1, *lengths) if known else self.op("Concat", self.lanes, self.ints(*lengths), axis=0)
            else:
                shape = self.op("Concat", self.lanes, self.ints(-1), self.op("Shape", wide.folded, start=1), axis=0)
            wide.unfolded = self.op("Reshape", wide.source, shape)
        missing = 0 if rank is None else rank - self.rank(tensor)
        return self.op("Unsqueeze", wide.unfolded, self.ints(*range(1, 1 + missing))) if missing > 0 else wide.unfolded

    def _of(self, tensor: str) -> Wide:
        if tensor not in self.wide:
            # One run of Expand repeats it; the narrow tensor itself stays what other readers get.
            shape = self.op("Concat", self.lanes, self.ints(*[1] * self.rank(tensor)), axis=0)
            repeated = self.op("Expand", tensor, shape)
            return Wide(repeated, unfolded=repeated)
        return self.wide[tensor]

    def _lengths(self, tensor: str) -> list[int]:
        """The fixed shape, -1 for a first length that is not known."""
        return [length if isinstance(length, int) else -1 for length in self.shape(tensor)]

    def folds_cheaper(self, tensors: Iterable[str]) -> bool:
        """Whether fewer tensors lack their folded form than lack the other one."""
        forms = [self.wide[tensor] for tensor in tensors if tensor in self.wide]
        return sum(not form.folded for form in forms) <= sum(not form.unfolded for form in forms)

    # writing --------------------------------------------------------------------------------------------------------

    def ints(self, *values: int) -> str:
        """A 1-D int64 constant."""
        name = "lane/" + "_".join(["ints", *map(str, values)])
        self.made.setdefault(name, np.array(values, np.int64))
        return name

    def op(self, op: str, *inputs: str, **attributes: Any) -> str:
        """Emits an operator with one output once, and returns that tensor's name."""
        key = (op, inputs, tuple(sorted(attributes.items())))
        if key not in self._memo:
            self._memo[key] = f"lane/{op}_{len(self._memo)}"
            self._emit(op, inputs, [self._memo[key]], attributes)
        return self._memo[key]

    def _emit(self, op: str, inputs: Iterable[str], outputs: Sequence[str], attributes: Mapping[str, Any]) -> None:
        proto = helper.make_node(op, list(inputs), list(outputs), name=outputs[0])
        proto.attribute.extend(make_attribute(key, value) for key, value in attributes.items())
        self.nodes.append(proto)

    def emit(self, node: LiftedNode, inputs: Iterable[str], *, folded: bool, **changed: Any) -> None:
        """Emits a node on other inputs, with some attributes changed; its outputs are wide and have that form."""
        outputs = [f"{tensor}/{'folded' if folded else 'unfolded'}" if tensor else "" for tensor in node.outputs]
        self._emit(node.op, inputs, outputs, {**node.attributes, **changed})
        for tensor, name in zip(node.outputs, outputs, strict=True):
            if tensor:
                self.wide[tensor] = Wide(name, folded=name) if folded else Wide(name, unfolded=name)

    def emit_narrow(self, node: LiftedNode, inputs: Iterable[str], **changed: Any) -> None:
        """Emits a node whose outputs are the same in all lanes."""
        self._emit(node.op, inputs, node.outputs, {**node.attributes, **changed})

    def relabel(self, node: LiftedNode) -> None:
        """The node's output has the elements of its first input, in another shape."""
        self.wide[node.outputs[0]] = Wide(self.wide[node.inputs[0]].source)


def lift(
    model: onnx.ModelProto, constants: Mapping[str, Array], wide: Sequence[str], types: Mapping[str, TensorType]
) -> tuple[onnx.ModelProto, dict[str, Array], dict[str, tuple[str, bool]]]:
    """Makes a graph that computes K lanes at once.

    Args:
        model: the graph for one lane, without initialisers.
        constants: its initialisers.
        wide: the inputs of which each lane gets one of its own: in the result they have one more axis, the lanes, in front.
        types: what is known of tensors, to help shape inference.

    Returns:
        The lifted graph, its initialisers, and for each output of `model` the output that stands for it and whether that one is wide: then
        it has the lanes as its first axis, otherwise it is the same in all lanes.

    Raises:
        NotLiftable: there is no rule for what an operator does to a wide tensor.
    """
    from onnx_lrp.lanes.rules import RULES

    lifter = Lifter(model, constants, wide, types)
    for proto in model.graph.node:
        captured = set().union(*(captured_by(attribute.g) for attribute in proto.attribute if attribute.HasField("g")))
        if not any(tensor in lifter.wide for tensor in (*proto.input, *captured)):
            lifter.nodes.append(proto)
        elif proto.domain or captured or proto.op_type not in RULES:
            raise NotLiftable(f"no rule for {proto.op_type}")
        else:
            RULES[proto.op_type](lifter, LiftedNode(proto))
    outputs = {}
    for value in model.graph.output:
        is_wide = value.name in lifter.wide
        outputs[value.name] = (lifter.unfolded(value.name) if is_wide else value.name, is_wide)
    result = onnx.ModelProto()
    result.CopyFrom(model)
    for value in result.graph.input:
        if value.name in wide:
            rank = len(value.type.tensor_type.shape.dim)
            value.CopyFrom(helper.make_tensor_value_info(value.name, value.type.tensor_type.elem_type, [None] * (1 + rank)))
    del result.graph.output[:], result.graph.node[:], result.graph.value_info[:]
    result.graph.output.extend(onnx.ValueInfoProto(name=name) for name in dict.fromkeys(name for name, _ in outputs.values()))
    result.graph.node.extend(_needed(lifter.nodes, {name for name, _ in outputs.values()}))
    read = {name for node in result.graph.node for name in node.input}
    read |= {name for node in result.graph.node for a in node.attribute if a.HasField("g") for name in captured_by(a.g)}
    kept = {name: value for name, value in {**constants, **lifter.made}.items() if name in read}
    return result, kept, outputs


def _needed(nodes: Sequence[onnx.NodeProto], wanted: set[str]) -> list[onnx.NodeProto]:
    kept = []
    for node in reversed(nodes):
        if any(tensor in wanted for tensor in node.output):
            kept.append(node)
            wanted.update(node.input, *(captured_by(attribute.g) for attribute in node.attribute if attribute.HasField("g")))
    return kept[::-1]
