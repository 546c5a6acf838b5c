"""The model as a graph: operators are nodes, tensors are edges."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
from onnx import GraphProto

from onnx_lrp.errors import ModelError
from onnx_lrp.tensors import Array, TensorType

if TYPE_CHECKING:
    import networkx as nx

CANONICAL = "onnx_lrp"
"""Domain of the operators that only canonical graphs have (Scale, Linear, Gelu ...)."""


@dataclass(eq=False)
class Node:
    """One operator. An omitted optional input or output is the empty string."""

    op: str
    name: str
    inputs: list[str]
    outputs: list[str]
    attributes: dict[str, Any] = field(default_factory=dict)
    domain: str = ""

    captured: tuple[str, ...] = field(init=False, default=())
    """The tensors that its subgraphs (the branches of an If, the body of a Loop) take from outside."""

    def __post_init__(self) -> None:
        self._capture()

    def _capture(self) -> None:
        taken = [captured_by(value) for value in self.attributes.values() if isinstance(value, GraphProto)]
        self.captured = tuple(sorted(set().union(*taken)))

    def input(self, index: int) -> str:
        """The name of an input, or '' when it is left out."""
        return self.inputs[index] if index < len(self.inputs) else ""

    @property
    def reads(self) -> list[str]:
        """All tensors that it needs: its inputs and what its subgraphs capture."""
        return [*self.inputs, *self.captured]

    def read_instead(self, names: Mapping[str, str]) -> None:
        """Replaces names among its inputs and inside its subgraphs."""
        self.inputs = [names.get(tensor, tensor) for tensor in self.inputs]
        if any(tensor in names for tensor in self.captured):
            for value in self.attributes.values():
                if isinstance(value, GraphProto):
                    _rename_inside(value, names)
            self._capture()


def captured_by(graph: GraphProto) -> set[str]:
    """The tensors that a subgraph, and those inside it, take from outside."""
    made = {tensor.name for tensor in graph.initializer} | {value.name for value in graph.input}
    read = {value.name for value in graph.output}
    for node in graph.node:
        made.update(node.output)
        read.update(node.input)
        for attribute in node.attribute:
            if attribute.HasField("g"):
                read |= captured_by(attribute.g)
    return read - made - {""}


def _rename_inside(graph: GraphProto, names: Mapping[str, str]) -> None:
    for node in graph.node:
        node.input[:] = [names.get(tensor, tensor) for tensor in node.input]
        for attribute in node.attribute:
            if attribute.HasField("g"):
                _rename_inside(attribute.g, names)


class Graph:
    """Nodes in topological order, constants by name, and the types of all tensors.

    Rewrites change `nodes` and `constants` through the methods here, which drop what is derived from them.
    """

    def __init__(
        self,
        nodes: Iterable[Node],
        constants: dict[str, Array],
        inputs: dict[str, TensorType],
        outputs: Sequence[str],
        types: dict[str, TensorType],
        opset: int,
    ):
        self.constants = constants
        self.inputs = inputs
        self.outputs = list(outputs)
        self.types = types
        self.opset = opset
        """The opset of the file, before it was brought to ours; for messages."""
        self.metadata: dict[str, str] = {}
        """What the file says about itself, by key."""
        self.aliases: dict[str, str] = {}
        """Tensors that a rewrite removed because they equal another one -> that other one."""
        self.merged: dict[str, str] = {}
        """Tensors that a rewrite removed for good -> the node that swallowed them."""
        self._nodes = list(nodes)
        self._fresh = 0
        self.sort()

    # structure ------------------------------------------------------------------------------------------------------

    @property
    def nodes(self) -> list[Node]:
        """The operators, each after those that it reads from."""
        return self._nodes

    @nodes.setter
    def nodes(self, nodes: Iterable[Node]) -> None:
        self._nodes = list(nodes)
        self._forget()

    def _forget(self) -> None:
        for derived in ("producers", "consumers", "dag"):
            self.__dict__.pop(derived, None)

    @cached_property
    def producers(self) -> dict[str, Node]:
        """Tensor -> the node that makes it."""
        return {tensor: node for node in self._nodes for tensor in node.outputs if tensor}

    @cached_property
    def consumers(self) -> dict[str, list[Node]]:
        """Tensor -> the nodes that read it, each once."""
        readers: dict[str, list[Node]] = {}
        for node in self._nodes:
            for tensor in dict.fromkeys(node.reads):
                if tensor:
                    readers.setdefault(tensor, []).append(node)
        return readers

    @cached_property
    def dag(self) -> nx.MultiDiGraph:
        """The networkx view: node names as nodes (attribute `node`), one edge a tensor (key: tensor and input position)."""
        import networkx as nx

        dag = nx.MultiDiGraph()
        for node in self._nodes:
            dag.add_node(node.name, node=node)
        for node in self._nodes:
            for index, tensor in enumerate(node.reads):
                if tensor in self.producers:
                    dag.add_edge(self.producers[tensor].name, node.name, key=(tensor, index), tensor=tensor)
        return dag

    def sort(self) -> None:
        """Brings the nodes into topological order, keeping the file's order where it can; ModelError on a cycle."""
        self._forget()
        position = {node.name: index for index, node in enumerate(self._nodes)}
        if len(position) != len(self._nodes):
            raise ModelError("the graph has two nodes of the same name")
        if all(position[self.producers[t].name] < position[n.name] for n in self._nodes for t in n.reads if t in self.producers):
            return
        import networkx as nx

        by_name = {node.name: node for node in self._nodes}
        try:
            order = list(nx.lexicographical_topological_sort(nx.DiGraph(self.dag), key=position.__getitem__))
        except nx.NetworkXUnfeasible:
            raise ModelError("the graph has a cycle") from None
        self.nodes = [by_name[name] for name in order]

    def needed_for(self, tensors: Iterable[str]) -> list[Node]:
        """The nodes that must run to compute these tensors, in order."""
        wanted = set(tensors)
        nodes = []
        for node in reversed(self._nodes):
            if any(tensor in wanted for tensor in node.outputs):
                nodes.append(node)
                wanted.update(tensor for tensor in node.reads if tensor)
        return nodes[::-1]

    def inputs_for(self, tensor: str) -> dict[str, TensorType]:
        """The graph's inputs that a tensor depends on, with their types."""
        needed = {name for node in self.needed_for([tensor]) for name in node.reads}
        return {name: kind for name, kind in self.inputs.items() if name in needed}

    def fixed_batch(self, tensor: str) -> int | None:
        """How many samples the inputs that a tensor depends on hold at once; None for any number."""
        lengths = [kind.shape[0] for kind in self.inputs_for(tensor).values() if kind.shape]
        return next((length for length in lengths if isinstance(length, int)), None)

    # facts ----------------------------------------------------------------------------------------------------------

    def type_of(self, tensor: str) -> TensorType:
        """What is known of a tensor; constants are known best."""
        if tensor in self.constants:
            array = self.constants[tensor]
            return TensorType(array.dtype, array.shape)
        return self.types.get(tensor, TensorType())

    def shape(self, tensor: str) -> tuple[int | str | None, ...] | None:
        """The shape as far as it is known, see TensorType."""
        return self.type_of(tensor).shape

    def static_shape(self, tensor: str) -> tuple[int, ...] | None:
        """The shape when every length is a fixed number, else None."""
        shape = self.shape(tensor)
        if shape is None or not all(isinstance(length, int) for length in shape):
            return None
        return tuple(int(length) for length in shape)  # type: ignore[arg-type]

    def rank(self, tensor: str) -> int | None:
        """The number of axes, if known."""
        shape = self.shape(tensor)
        return None if shape is None else len(shape)

    def constant(self, tensor: str) -> Array | None:
        """The value of a constant, None for other tensors."""
        return self.constants.get(tensor)

    def scalar(self, tensor: str) -> float | None:
        """The value of a constant with a single element, else None."""
        array = self.constants.get(tensor)
        return float(array.reshape(-1)[0]) if array is not None and array.size == 1 and array.dtype.kind in "fiu" else None

    # changes --------------------------------------------------------------------------------------------------------

    def fresh(self, hint: str) -> str:
        """A tensor or node name that is not used yet."""
        while True:
            self._fresh += 1
            name = f"{hint}/{self._fresh}"
            if name not in self.constants and name not in self.types and name not in self.inputs and name not in self.producers:
                return name

    def add_constant(self, hint: str, value: Array | np.generic) -> str:
        """Adds a constant under a fresh name, and returns that name."""
        name = self.fresh(hint)
        self.constants[name] = np.asarray(value)
        return name

    def replace(self, old: Sequence[Node], new: Sequence[Node]) -> None:
        """Puts new nodes where the last of the old ones stood.

        Outputs of old nodes that no new node makes and no other node reads are noted as merged.
        """
        gone = set(map(id, old))
        last = max(index for index, node in enumerate(self._nodes) if id(node) in gone)
        kept: list[Node] = []
        for index, node in enumerate(self._nodes):
            if id(node) not in gone:
                kept.append(node)
            if index == last:
                kept.extend(new)
        made = {tensor for node in new for tensor in node.outputs}
        for node in old:
            for tensor in node.outputs:
                if tensor and tensor not in made and new:
                    self.merged[tensor] = new[-1].name
        self.nodes = kept

    def rename(self, old: str, new: str) -> None:
        """Lets all readers of one tensor read another one that has the same values, and remembers the old name.

        A model output keeps its name outside: `outputs` is changed, callers map it back through `aliases`.
        """
        for node in self.consumers.get(old, ()):
            node.read_instead({old: new})
        self.outputs = [new if tensor == old else tensor for tensor in self.outputs]
        self.aliases[old] = new
        for alias, tensor in list(self.aliases.items()):
            if tensor == old:
                self.aliases[alias] = new
        self._forget()

    def resolve(self, tensor: str) -> str:
        """The name under which a tensor of the file lives on in this graph."""
        return self.aliases.get(tensor, tensor)

    def only_consumer(self, tensor: str) -> Node | None:
        """The one node that reads this tensor, if there is exactly one and the tensor is no output of the model."""
        readers = self.consumers.get(tensor, [])
        return readers[0] if len(readers) == 1 and tensor not in self.outputs else None

    def prune(self) -> None:
        """Drops nodes and constants that no output of the model needs."""
        nodes = self.needed_for(self.outputs)
        used = {tensor for node in nodes for tensor in node.reads} | set(self.outputs)
        self.constants = {name: value for name, value in self.constants.items() if name in used}
        if len(nodes) != len(self._nodes):
            self.nodes = nodes

    def __iter__(self) -> Iterator[Node]:
        return iter(list(self._nodes))
