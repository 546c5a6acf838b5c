"""Activations that exporters wrote as several nodes, put back together: a rule for x * sigmoid(x) would send half down the gate."""

from __future__ import annotations

import math

from onnx_lrp.graph import CANONICAL, Graph, Node


def recognise_activations(graph: Graph) -> bool:
    """SiLU, hard swish, Mish, and GELU in its erf and tanh forms."""
    changed = False
    for node in graph:
        if node.op != "Mul" or node.domain or len(node.inputs) != 2:
            continue
        found = _gated(graph, node) or _gelu(graph, node)
        if found is not None and graph.rank(found.input(0)) == graph.rank(node.outputs[0]):  # a constant may have more axes than x
            graph.replace([node], [found])  # the gate's own nodes are dropped once nothing reads them
            changed = True
    return changed


def _made_by(graph: Graph, tensor: str, *ops: str) -> Node | None:
    node = graph.producers.get(tensor)
    return node if node is not None and node.op in ops and not node.domain else None


def _new(node: Node, op: str, x: str, domain: str = "", **attributes: object) -> Node:
    return Node(op, node.name, [x], node.outputs, dict(attributes), domain)


def _gated(graph: Graph, node: Node) -> Node | None:
    """x times a function of x."""
    for x, gate in (node.inputs, node.inputs[::-1]):
        made = _made_by(graph, gate, "Sigmoid", "HardSigmoid", "Tanh")
        if made is None:
            continue
        if made.op == "Sigmoid":
            inner, factor = _times(graph, made.input(0))
            if made.input(0) == x:
                return _new(node, "Swish", x, CANONICAL, alpha=1.0)
            if inner == x and factor is not None:
                return _new(node, "Swish", x, CANONICAL, alpha=factor)
        hard = made.op == "HardSigmoid" and made.input(0) == x
        if hard and math.isclose(made.attributes.get("alpha", 0.2), 1 / 6, rel_tol=1e-5) and made.attributes.get("beta", 0.5) == 0.5:
            return _new(node, "HardSwish", x)
        if made.op == "Tanh":
            soft = _made_by(graph, made.input(0), "Softplus")
            if soft is not None and soft.input(0) == x:
                return _new(node, "Mish", x)
    return None


def _times(graph: Graph, tensor: str) -> tuple[str, float | None]:
    """(t, c) when the tensor is t * c or t / c' with a constant, else (tensor, None)."""
    node = _made_by(graph, tensor, "Mul", "Div")
    if node is None:
        return tensor, None
    second = graph.scalar(node.inputs[1])
    if second is not None:
        return node.inputs[0], second if node.op == "Mul" else 1.0 / second
    first = graph.scalar(node.inputs[0])
    return (node.inputs[1], first) if first is not None and node.op == "Mul" else (tensor, None)


def _one_plus(graph: Graph, tensor: str, op: str) -> Node | None:
    """The Erf or Tanh node when the tensor is 1 + op(...)."""
    add = _made_by(graph, tensor, "Add")
    if add is None:
        return None
    for part, other in (add.inputs, add.inputs[::-1]):
        if graph.scalar(other) == 1.0:
            return _made_by(graph, part, op)
    return None


def _gelu(graph: Graph, node: Node) -> Node | None:
    """0.5 * x * (1 + erf(x / sqrt 2)), and with tanh(sqrt(2 / pi) (x + 0.044715 x^3)), in any order of the factors."""
    factors, scale = _factors(graph, node.outputs[0])
    if not math.isclose(scale, 0.5, rel_tol=1e-5) or len(factors) != 2:
        return None
    for x, rest in (factors, factors[::-1]):
        erf = _one_plus(graph, rest, "Erf")
        if erf is not None:
            inner, factor = _times(graph, erf.input(0))
            if inner == x and factor is not None and math.isclose(factor, math.sqrt(0.5), rel_tol=1e-4):
                return _new(node, "Gelu", x, CANONICAL, approximate="none")
        tanh = _one_plus(graph, rest, "Tanh")
        if tanh is not None and _is_tanh_argument(graph, tanh.input(0), x):
            return _new(node, "Gelu", x, CANONICAL, approximate="tanh")
    return None


def _factors(graph: Graph, tensor: str) -> tuple[list[str], float]:
    """The data factors of a tree of products with constants, and the product of the constants."""
    node = _made_by(graph, tensor, "Mul")
    value = graph.scalar(tensor)
    if value is not None:
        return [], value
    if node is None or len(graph.consumers.get(tensor, [])) > 1:
        return [tensor], 1.0
    found, scale = [], 1.0
    for part in node.inputs:
        inner, factor = _factors(graph, part)
        found += inner
        scale *= factor
    return found, scale


def _is_tanh_argument(graph: Graph, tensor: str, x: str) -> bool:
    """sqrt(2 / pi) * (x + 0.044715 * x^3), x^3 as Pow or as products."""
    inner, factor = _times(graph, tensor)
    add = _made_by(graph, inner, "Add")
    if factor is None or not math.isclose(factor, math.sqrt(2 / math.pi), rel_tol=1e-4) or add is None:
        return False
    for first, other in (add.inputs, add.inputs[::-1]):
        cube, weight = _times(graph, other)
        if first == x and weight is not None and math.isclose(weight, 0.044715, rel_tol=1e-4):
            power = _made_by(graph, cube, "Pow")
            return (power is not None and power.inputs[0] == x and graph.scalar(power.inputs[1]) == 3.0) or _factors(graph, cube)[0] == [
                x
            ] * 3
    return False
