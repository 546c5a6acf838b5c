"""Dense layers in one form each: Gemm for matrices, Linear for more axes."""

from __future__ import annotations

import numpy as np

from onnx_lrp.graph import CANONICAL, Graph, Node, TensorType


def normalise_gemm(graph: Graph) -> bool:
    """Gives every Gemm constant weights on the right, alpha = beta = 1, transA = 0, and a bias of one number per column.

    What does not fit becomes Transpose, MatMul, Mul and Add, which the later rewrites take up.
    """
    changed = False
    for node in graph:
        if node.op != "Gemm" or node.domain:
            continue
        alpha, beta = node.attributes.get("alpha", 1.0), node.attributes.get("beta", 1.0)
        bias = graph.constant(node.input(2)) if node.input(2) else None
        weight = graph.constant(node.input(1))
        plain_bias = not node.input(2) or (
            bias is not None and bias.size == bias.shape[-1:][0] if bias is not None and bias.ndim else False
        )
        if weight is not None and alpha == beta == 1.0 and not node.attributes.get("transA", 0) and plain_bias:
            if bias is not None and (bias.ndim != 1 or bias.size == 1 != _columns(node, weight.shape)):
                columns = _columns(node, weight.shape)
                node.inputs[2] = graph.add_constant(node.input(2), np.broadcast_to(bias.reshape(-1), (columns,)).copy())
                changed = True
            node.attributes = {"transB": int(node.attributes.get("transB", 0))}
            continue
        graph.replace([node], _expanded(graph, node, alpha, beta))
        changed = True
    return changed


def _columns(node: Node, shape: tuple[int, ...]) -> int:
    return shape[0] if node.attributes.get("transB", 0) else shape[1]


def _expanded(graph: Graph, node: Node, alpha: float, beta: float) -> list[Node]:
    nodes: list[Node] = []
    y_type = graph.type_of(node.outputs[0])

    def emit(op: str, inputs: list[str], kind: TensorType, output: str = "", **attributes: object) -> str:
        result = output or graph.fresh(node.outputs[0])
        graph.types.setdefault(result, kind)
        nodes.append(Node(op, graph.fresh(f"{node.name}/{op}"), inputs, [result], dict(attributes)))
        return result

    def operand(index: int, flag: str) -> str:
        tensor = node.input(index)
        if not node.attributes.get(flag, 0):
            return tensor
        value = graph.constant(tensor)
        if value is not None:
            return graph.add_constant(tensor, np.ascontiguousarray(value.T))
        kind = graph.type_of(tensor)
        return emit("Transpose", [tensor], TensorType(kind.dtype, kind.shape[::-1] if kind.shape is not None else None), perm=[1, 0])

    def scaled(tensor: str, factor: float, kind: TensorType) -> str:
        value = graph.constant(tensor)
        if factor == 1.0:
            return tensor
        if value is not None:
            return graph.add_constant(tensor, (value * np.float32(factor)).astype(np.float32))
        return emit("Mul", [tensor, graph.add_constant("alpha", np.float32(factor))], kind)

    a, b = operand(0, "transA"), operand(1, "transB")
    if graph.constant(b) is not None:
        b = scaled(b, alpha, y_type)
    elif graph.constant(a) is not None:
        a = scaled(a, alpha, y_type)
    factor = 1.0 if graph.constant(b) is not None or graph.constant(a) is not None else alpha
    last = not node.input(2) and factor == 1.0
    product = emit("MatMul", [a, b], y_type, node.outputs[0] if last else "")
    if factor != 1.0:
        product = emit("Mul", [product, graph.add_constant("alpha", np.float32(factor))], y_type, "" if node.input(2) else node.outputs[0])
    if node.input(2):
        emit("Add", [product, scaled(node.input(2), beta, graph.type_of(node.input(2)))], y_type, node.outputs[0])
    return nodes


def recognise_linear(graph: Graph) -> bool:
    """MatMul by a constant, with the Add of a bias behind it if there is one, becomes Gemm (matrices) or Linear."""
    changed = False
    for node in graph:
        if node.op != "MatMul" or node.domain:
            continue
        sides = [graph.constant(tensor) is not None for tensor in node.inputs]
        if sum(sides) != 1:
            continue
        left = sides[0]
        weight = graph.constants[node.inputs[0 if left else 1]]
        inputs = [node.inputs[1], node.inputs[0]] if left else list(node.inputs)
        add, bias = _bias_behind(graph, node, weight.shape, left=left)
        output = node.outputs[0]
        if add is not None:
            inputs.append(bias)
            output = add.outputs[0]
        if not left and weight.ndim == 2 and graph.rank(node.inputs[0]) == 2:
            new = Node("Gemm", node.name, inputs, [output], {"transB": 0})
        else:
            new = Node("Linear", node.name, inputs, [output], {"left": int(left)}, CANONICAL)
        graph.replace([node, add] if add is not None else [node], [new])
        changed = True
    return changed


def _bias_behind(graph: Graph, node: Node, shape: tuple[int, ...], *, left: bool) -> tuple[Node | None, str]:
    """The Add of one number per output feature that alone reads a MatMul, and that bias as a vector (as a column for W x)."""
    add = graph.only_consumer(node.outputs[0])
    if add is None or add.op != "Add" or add.domain or len(shape) != 2:
        return None, ""
    other = add.inputs[1] if add.inputs[0] == node.outputs[0] else add.inputs[0]
    bias = graph.constant(other)
    rank = graph.rank(node.outputs[0])
    if bias is None or rank is None or bias.ndim > rank or (left and rank < 2):
        return None, ""
    features, axis = (shape[0], -2) if left else (shape[1], -1)
    if bias.size not in (1, features) or (bias.size > 1 and (bias.ndim < -axis or bias.shape[axis] != features)):
        return None, ""
    wanted = (features, 1) if left else (features,)
    if bias.shape == wanted:
        return add, other
    return add, graph.add_constant(other, np.broadcast_to(bias.reshape((-1, 1) if left else -1), wanted).copy())
