"""The floor: how many forward passes' worth of multiply-adds an explanation needs, and how many its graph has.

Counted are the multiply-adds of convolutions, transposed convolutions and matrix products: for every element of the output as many as
inputs feed it, zeros of a padding included, per sample. Elementwise work, pools and sums count nothing. A map is one such count of the
layer: J(W) x, or J(W)^T s. What does not depend on the input (J(1) 1, J(W^2) 1, J(W+) low) is made once and counts nothing.

The floor is what the formulas of docs/rules.md name, each term computed as it is written: only what is there anyway, or is the
difference of two terms that are, is free. Beside the forward pass a layer needs these maps:

    rule                  x >= 0                             x of any sign
    Gradient, Epsilon     1 adjoint                          1 adjoint
    ZPlus                 J(W+) x, 1 adjoint                 J(W+) x+, J(W-) x-, 2 adjoints
    AlphaBeta             J(W+) x, 2 adjoints                J(W+) x+, J(W-) x-, 4 adjoints
    Gamma, z > 0 only     J(W+) x, 1 adjoint                 J(W+) x+, J(W-) x-, 2 adjoints
    Gamma                 J(W+) x, 2 adjoints                J(W+) x+, J(W-) x-, 4 adjoints
    ClassicGamma          J(W+) x, 1 adjoint                 J(W+) x, 1 adjoint
    ZBox                  2 adjoints                         2 adjoints
    WSquare               1 adjoint                          1 adjoint
    Flat                  the adjoint of a single channel    the adjoint of a single channel

AlphaBeta's two totals add up to z, so that one of the three is free. Gamma's denominators are z + gamma P where z > 0 and
z + gamma (z - P) where z < 0, with P = J(W+) x+ + J(W-) x-; "z > 0 only" is an output that nothing reads but a ReLU (or a clip at 0): where
that is zero, no relevance arrives. ZBox needs J(W+)^T s and J(W-)^T s, which add up to J(W)^T s. A product of two computed matrices needs
two adjoints.

Computing J(|W|) |x| instead would need fewer maps for x of any sign, P being (J(W) x + J(|W|) |x|) / 2; it is not counted, because it
loses the small one of two sums in the rounding of the large one.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from onnx_lrp.operators import AffineOperator, Role
from onnx_lrp.plan import carrying_inputs, nonnegative_tensors
from onnx_lrp.rules import AlphaBeta, ClassicGamma, Epsilon, Flat, Gamma, Gradient, Rule, Signal, Stop, WSquare, ZBox, ZPlus
from onnx_lrp.rules.general import is_gate

if TYPE_CHECKING:
    from onnx_lrp.graph import Graph, Node
    from onnx_lrp.plan import Plan, Step


class UncountableError(Exception):
    """A shape is not known, or a rule has no floor here."""


def forward_multiply_adds(plan: Plan) -> int:
    """Multiply-adds of the plain forward pass for one sample."""
    return sum(multiply_adds(plan.graph, node) for node in plan.graph.needed_for([plan.output]))


def floor(plan: Plan) -> float:
    """Multiply-adds that the explanation of one sample needs, in forward passes.

    Raises:
        UncountableError: a layer's shape is not known, or its rule is none of the table above.
    """
    nonnegative = nonnegative_tensors(plan.graph)
    forward = forward_multiply_adds(plan)
    back = 0
    for step in _carrying(plan):
        count = multiply_adds(plan.graph, step.view.node)
        if count:
            back += _back(plan.graph, step, count, nonnegative)
    return (forward + back) / forward


def multiply_adds(graph: Graph, node: Node) -> int:
    """Multiply-adds of one node for one sample; 0 for all but convolutions and matrix products."""
    weight = graph.constants.get(node.input(1))
    if node.op == "Conv":
        return _elements(graph, node.outputs[0]) * math.prod(_lengths(graph, node.input(1))[1:])
    if node.op == "ConvTranspose":
        return _elements(graph, node.input(0)) * math.prod(_lengths(graph, node.input(1))[1:])
    if node.op == "Gemm":
        rows, columns = _lengths(graph, node.input(1))
        return _elements(graph, node.outputs[0]) * (columns if node.attributes.get("transB", 0) else rows)
    if node.op == "Linear" and weight is not None:
        inner = weight.shape[0] if weight.ndim == 1 else weight.shape[-1 if node.attributes["left"] else -2]
        return _elements(graph, node.outputs[0]) * int(inner)
    if node.op == "MatMul":
        return _elements(graph, node.outputs[0]) * _lengths(graph, node.input(0))[-1]
    return 0


def _back(graph: Graph, step: Step, count: int, nonnegative: set[str]) -> int:
    """Multiply-adds of a layer's relevance for one sample; `count` are those of one map."""
    node, operator, rule = step.view.node, step.operator, step.rule
    if not isinstance(operator, AffineOperator):
        return 2 * count
    if isinstance(rule, Flat):
        return _single_channel(graph, node)
    signed = node.input(operator.data_index(node, graph)) not in nonnegative
    applied, adjoints = maps(rule, signed=signed, only_positive=_read_by_relu(graph, node))
    return (applied + adjoints) * count


def maps(rule: Rule | None, *, signed: bool, only_positive: bool) -> tuple[int, int]:
    """How many maps J(part of W) x and how many adjoints a rule needs, as the table above has them."""
    terms = 2 if signed else 1
    match rule:
        case Gradient() | Epsilon() | WSquare():
            return 0, 1
        case ZPlus():
            return terms, terms
        case AlphaBeta():
            return terms, (2 if rule.beta else 1) * terms
        case Gamma():
            return terms, (1 if only_positive else 2) * terms
        case ClassicGamma():
            return 1, 1
        case ZBox():
            return 0, 2
    raise UncountableError(f"no floor is known for the rule {rule}")


def _single_channel(graph: Graph, node: Node) -> int:
    """Multiply-adds of J(1)^T s: the channels of each group are summed first, and the kernel is one channel wide."""
    if node.op not in ("Conv", "ConvTranspose"):
        return 0
    places = node.outputs[0] if node.op == "Conv" else node.input(0)
    kernel = math.prod(_lengths(graph, node.input(1))[2:])
    return math.prod(_lengths(graph, places)[2:]) * kernel * int(node.attributes.get("group", 1))


def _read_by_relu(graph: Graph, node: Node) -> bool:
    reader = graph.only_consumer(node.outputs[0])
    if reader is None:
        return False
    return reader.op == "Relu" or (reader.op == "Clip" and graph.scalar(reader.input(1)) == 0)


def _carrying(plan: Plan) -> list[Step]:
    """The steps that relevance really comes to: behind a gate that is given none there are others."""
    carried, steps = {plan.output}, []
    for step in reversed(plan.steps):
        node = step.view.node
        if not carried & set(node.outputs):
            continue
        steps.append(step)
        carried.update(node.inputs[index] for index in _given(plan.graph, step) if node.inputs[index] in plan.path)
    return steps


def _given(graph: Graph, step: Step) -> list[int]:
    """The input positions that a step's rule gives relevance to."""
    node, rule = step.view.node, step.rule
    positions = carrying_inputs(node, graph)
    if isinstance(rule, Stop) or step.view.role is Role.STOP:
        return []
    if isinstance(rule, Signal):
        gates = [index for index in positions if is_gate(graph.producers.get(node.inputs[index]))]
        signal = rule.value if rule.value is not None else 1 if gates == [0] and node.op != "Div" else 0
        return [index for index in positions if index == signal]
    return positions


def _lengths(graph: Graph, tensor: str) -> list[int]:
    """The lengths of a tensor's axes; the batch, if it may vary, counts as one."""
    shape = graph.shape(tensor)
    if shape is None or any(not isinstance(length, int) for length in shape[1:]):
        raise UncountableError(f"the shape of {tensor!r} is not known")
    return [length if isinstance(length, int) else 1 for length in shape]


def _elements(graph: Graph, tensor: str) -> int:
    """How many elements a tensor has per sample."""
    return math.prod(_lengths(graph, tensor)[1:])
