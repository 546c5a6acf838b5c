"""Which nodes lie on the path of relevance, and which rule each of them has: decided, and shown, before anything runs."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from onnx_lrp.errors import CompositeError, InputError, ModelError, UnsupportedOperatorError, suggest
from onnx_lrp.operators import Operator, Role, find_operator
from onnx_lrp.rules import Rule
from onnx_lrp.rules.general import is_gate

if TYPE_CHECKING:
    from onnx_lrp.composites import Composite
    from onnx_lrp.graph import Graph, Node

FINAL_ACTIVATIONS = ("Softmax", "LogSoftmax", "Sigmoid")
"""Left off the end of a model: the scores before them are explained."""


@dataclass(frozen=True)
class NodeView:
    """What a composite's selectors can ask of a node."""

    node: Node
    role: Role
    kind: str
    """convolution, dense, scale, pool, resize, activation, relu, sum, product, matmul, normalization, lrn, softmax, movement, max_pool."""
    index: int
    """The position among the nodes on the path, in topological order."""
    count: int
    """How many nodes lie on the path."""
    layer: int
    """How many convolutions and dense layers come before it in topological order."""
    layers: int
    """How many convolutions and dense layers there are."""
    convolution: int
    """How many convolutions come before it in topological order."""
    convolutions: int
    """How many convolutions there are."""
    is_first: bool
    """A convolution or dense layer that an explained input reaches without passing another one."""
    is_last: bool
    """The convolution or dense layer nearest to the output (the last in topological order)."""
    gated: bool
    """A product of which one factor is a gate (made by a sigmoid or softmax), or a division."""
    bottleneck: bool
    """All relevance passes through its output."""

    @property
    def name(self) -> str:
        """The node's name."""
        return self.node.name

    @property
    def op(self) -> str:
        """The node's operator."""
        return self.node.op


@dataclass(frozen=True)
class Step:
    """One row of a plan."""

    view: NodeView
    operator: Operator | None
    """None when the operator is not supported."""
    rule: Rule | None
    problem: str = ""


class Plan:
    """The nodes between the explained inputs and the explained output, each with its rule. Prints as a table."""

    def __init__(self, graph: Graph, steps: list[Step], sources: list[str], output: str, path: set[str]):
        self.graph = graph
        self.steps = steps
        self.sources = sources
        """The tensors that are explained."""
        self.output = output
        """The tensor whose relevance is given."""
        self.path = path
        """All tensors that relevance flows through."""

    @property
    def unsupported(self) -> list[Step]:
        """The rows without a rule."""
        return [step for step in self.steps if step.rule is None]

    @property
    def coverage(self) -> float:
        """The share of the nodes on the path that have a rule."""
        return 1.0 - len(self.unsupported) / len(self.steps) if self.steps else 1.0

    def require_complete(self) -> None:
        """Raises UnsupportedOperatorError naming all nodes without a rule."""
        if self.unsupported:
            raise UnsupportedOperatorError(
                (step.view.name, step.problem or step.view.op, step.view.node.domain, self.graph.opset) for step in self.unsupported
            )

    def rows(self) -> list[tuple[str, str, str, str]]:
        """(node, operator, role, rule) for each step; the rule of an unsupported node is empty."""
        return [(s.view.name, s.view.op, s.view.role.value if s.operator else "unknown", str(s.rule) if s.rule else "") for s in self.steps]

    def to_json(self) -> str:
        """The plan as JSON: inputs, output, coverage, and a list of nodes with their rules."""
        nodes: list[dict[str, Any]] = []
        for step in self.steps:
            row: dict[str, Any] = {
                "node": step.view.name,
                "operator": step.view.op,
                "role": step.view.role.value if step.operator else None,
            }
            row |= {"inputs": step.view.node.inputs, "outputs": step.view.node.outputs}
            row |= {"rule": step.rule.to_dict()} if step.rule else {"rule": None, "problem": step.problem}
            nodes.append(row)
        return json.dumps({"inputs": self.sources, "output": self.output, "coverage": self.coverage, "nodes": nodes}, indent=1)

    def __str__(self) -> str:
        rows = [("node", "operator", "role", "rule"), *((*row[:3], row[3] or "NOT SUPPORTED") for row in self.rows())]
        widths = [max(len(row[column]) for row in rows) for column in range(3)]
        lines = ["  ".join([*(cell.ljust(width) for cell, width in zip(row[:3], widths, strict=True)), row[3]]) for row in rows]
        covered = len(self.steps) - len(self.unsupported)
        return "\n".join([*lines, f"{covered} of {len(self.steps)} nodes covered ({100 * self.coverage:.1f} %)"])


def choose_output(graph: Graph, name: str | None, *, keep_final_activation: bool = False) -> tuple[str, str | None]:
    """The tensor to explain, and the final activation that was left off it, if any.

    Args:
        graph: the canonical graph.
        name: a tensor of the model; None for the first float output.
        keep_final_activation: explain behind a final Softmax, LogSoftmax or Sigmoid instead of before it.
    """
    if name is None:
        floats = [tensor for tensor in graph.outputs if graph.type_of(tensor).is_float and tensor in graph.producers]
        if not floats:
            raise ModelError("the model has no float output that could be explained")
        tensor = floats[0]
    else:
        tensor = graph.resolve(name)
        if tensor not in graph.producers:
            raise InputError(f"output {name!r} is no tensor of the model" + _why(graph, name, [*graph.outputs, *graph.producers]))
    if graph.rank(tensor) == 0:
        raise InputError(f"output {tensor!r} is a single number: it has no batch axis")
    if keep_final_activation or tensor not in graph.outputs:
        return tensor, None
    behind = tensor
    while (maker := graph.producers.get(behind)) is not None and maker.op in ("Reshape", "Flatten", "Squeeze", "Identity"):
        behind = maker.input(0)
    if maker is not None and maker.op in FINAL_ACTIVATIONS and not maker.domain and maker.input(0) in graph.producers:
        return maker.input(0), maker.op
    return tensor, None


def _why(graph: Graph, name: str, known: Iterable[str]) -> str:
    if name in graph.merged:
        return f": it was merged into node {graph.merged[name]!r}, ask for that node's output instead"
    return suggest(name, [tensor for tensor in known if tensor])


def choose_sources(graph: Graph, names: Sequence[str] | None, output: str) -> list[str]:
    """The tensors to explain: the named ones, else every float input that reaches the output, else the embeddings of token inputs."""
    if names is not None:
        resolved = []
        for name in [names] if isinstance(names, str) else names:
            tensor = graph.resolve(name)
            if tensor not in graph.inputs and tensor not in graph.producers:
                raise InputError(f"input {name!r} is no tensor of the model" + _why(graph, name, [*graph.inputs, *graph.producers]))
            if not graph.type_of(tensor).is_float:
                raise InputError(f"input {name!r} is no float tensor: relevance cannot be given to it")
            resolved.append(tensor)
        if not resolved:
            raise InputError("no input to explain was named")
        path, _ = find_path(graph, resolved, output)
        lost = [tensor for tensor in resolved if tensor not in path]
        if lost:
            raise InputError(f"relevance cannot flow from the output {output!r} to {lost[0]!r}")
        return resolved
    floats = [tensor for tensor, kind in graph.inputs.items() if kind.is_float]
    embedded = [
        node.outputs[0]
        for node in graph
        if node.op == "Gather" and node.input(0) in graph.constants and node.input(1) not in graph.constants
    ]
    for candidates in (floats, [tensor for tensor in embedded if graph.type_of(tensor).is_float]):
        path, _ = find_path(graph, candidates, output)
        found = [tensor for tensor in candidates if tensor in path]
        if found:
            return found
    raise ModelError(f"no float input of the model reaches the output {output!r}")


def carrying_inputs(node: Node, graph: Graph) -> list[int]:
    """The input positions that relevance may flow to; for an unknown operator all its float inputs."""
    operator = find_operator(node)
    try:
        return (operator or Operator()).data_inputs(node, graph)
    except UnsupportedOperatorError:
        return Operator().data_inputs(node, graph)


def find_path(graph: Graph, sources: Sequence[str], output: str) -> tuple[set[str], list[Node]]:
    """The tensors and nodes between the sources and the output that relevance flows through."""
    reached, carrying = _reach(graph, sources)
    if output not in reached:
        return set(), []
    path, nodes = {output}, []
    for node in reversed(graph.nodes):
        if node.name in carrying and any(tensor in path for tensor in node.outputs) and not set(node.outputs) & set(sources):
            nodes.append(node)
            path.update(carrying[node.name])
    return path, nodes[::-1]


def _reach(graph: Graph, sources: Sequence[str]) -> tuple[set[str], dict[str, list[str]]]:
    """The tensors that depend on the sources by ways that relevance can go, and for each node on such a way its inputs there."""
    reached, carrying = set(sources), {}
    for node in graph.nodes:
        carried = [node.inputs[index] for index in carrying_inputs(node, graph)]
        inputs = [tensor for tensor in (*carried, *node.captured) if tensor in reached]
        if inputs:
            carrying[node.name] = inputs
            reached.update(tensor for tensor in node.outputs if tensor and graph.type_of(tensor).is_float)
    return reached, carrying


def nonnegative_tensors(graph: Graph) -> set[str]:
    """The tensors that cannot be negative, whatever the input."""
    known: set[str] = set()
    for node in graph.nodes:
        operator = find_operator(node)
        if operator is not None and operator.nonnegative(node, graph, known):
            known.update(tensor for tensor in node.outputs if tensor)
    return known


def make_plan(graph: Graph, composite: Composite, sources: list[str], output: str) -> Plan:
    """Gives each node on the path its rule.

    Raises:
        CompositeError: a rule does not fit its node.
    """
    path, nodes = find_path(graph, sources, output)
    reached, _ = _reach(graph, sources)
    views = _views(graph, nodes, sources, path, output)
    steps = []
    for view in views:
        operator = find_operator(view.node)
        problem = "" if operator else view.op
        if operator is not None:
            try:
                carried = operator.data_inputs(view.node, graph)
                problem = _lost(view.node, operator, carried, reached, path)
            except UnsupportedOperatorError as error:
                problem = error.nodes[0][1]
        if operator is None or problem:
            steps.append(Step(view, None, None, problem))
            continue
        rule = composite.rule_for(view)
        if rule is None:
            raise CompositeError(f"the composite has no rule for node {view.name!r} ({view.op})")
        rule.check(view.node, operator)
        steps.append(Step(view, operator, rule))
    return Plan(graph, steps, sources, output, path)


def _lost(node: Node, operator: Operator, carried: list[int], reached: set[str], path: set[str]) -> str:
    """What of a node depends on the explained inputs in a way that its operator knows nothing of; '' when there is no such thing."""
    parameters = [index for index, tensor in enumerate(node.inputs) if tensor in reached and index not in carried]
    if parameters:
        return f"{node.op} with a computed parameter {node.inputs[parameters[0]]!r}"
    further = [tensor for tensor in node.outputs[1:] if tensor in path]
    return f"the output {further[0]!r} of {node.op}" if further and not operator.several_outputs else ""


def _views(graph: Graph, nodes: list[Node], sources: list[str], path: set[str], output: str) -> list[NodeView]:
    kinds = [(operator.role, operator.kind) if (operator := find_operator(node)) else (Role.STOP, "unknown") for node in nodes]
    layers = [kind in ("convolution", "dense") for _, kind in kinds]
    untouched = set(sources)  # tensors reached without passing a layer
    convolutions = [kind == "convolution" for _, kind in kinds]
    bottlenecks = _bottlenecks(graph, nodes, path, output)
    views, passed, convolved = [], 0, 0
    for index, (node, (role, kind), is_layer) in enumerate(zip(nodes, kinds, layers, strict=True)):
        fresh = any(node.inputs[i] in untouched for i in carrying_inputs(node, graph))
        if fresh and not is_layer:
            untouched.update(node.outputs)
        gates = (graph.producers.get(tensor) for tensor in node.inputs)
        gated = role is Role.PRODUCT and (node.op == "Div" or any(map(is_gate, gates)))
        last = is_layer and passed == sum(layers) - 1
        counts = (index, len(nodes), passed, sum(layers), convolved, sum(convolutions))
        first, bottleneck = fresh and is_layer, node.name in bottlenecks
        views.append(NodeView(node, role, kind, *counts, first, last, gated, bottleneck))
        passed += is_layer
        convolved += convolutions[index]
    return views


def _bottlenecks(graph: Graph, nodes: list[Node], path: set[str], output: str) -> set[str]:
    """The nodes at which, on the way back, no relevance waits at any other tensor than their output."""
    found: set[str] = set()
    waiting = {output}
    for node in reversed(nodes):
        waiting -= set(node.outputs)
        if not waiting:
            found.add(node.name)
        waiting |= {node.inputs[index] for index in carrying_inputs(node, graph)} & path
    return found
