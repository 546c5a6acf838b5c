"""Scale and shift by constants: one form, merged into the neighbouring layer where that is exact."""

from __future__ import annotations

import numpy as np

from onnx_lrp.graph import CANONICAL, Array, Graph, Node

_LAYERS = ("Conv", "ConvTranspose", "Gemm", "Linear")


def recognise_scales(graph: Graph) -> bool:
    """Mul, Div, Add and Sub with one constant, Neg, and BatchNormalization become Scale: y = x * w + b."""
    changed = False
    for node in graph:
        found = _scale_of(graph, node) if not node.domain else None
        if found is not None:
            graph.replace([node], found)
            changed = True
    return changed


def _scale(graph: Graph, node: Node, x: str, weight: Array | np.generic | str | None, bias: Array | str | None) -> list[Node]:
    names = [value if isinstance(value, str) else "" if value is None else graph.add_constant(node.name, value) for value in (weight, bias)]
    return [Node("Scale", node.name, [x, *names], [node.outputs[0]], {}, CANONICAL)]


def _scale_of(graph: Graph, node: Node) -> list[Node] | None:
    if node.op == "BatchNormalization":
        return _batch_normalization(graph, node)
    if node.op not in ("Neg", "Mul", "Div", "Add", "Sub") or not graph.type_of(node.outputs[0]).is_float:
        return None
    if node.op == "Neg":
        return _scale(graph, node, node.input(0), np.float32(-1), None)
    constants = [graph.constant(tensor) for tensor in node.inputs]
    if sum(value is not None for value in constants) != 1:
        return None
    first = constants[0] is not None
    x, name = (node.inputs[1], node.inputs[0]) if first else (node.inputs[0], node.inputs[1])
    value = graph.constants[name]
    if node.op == "Mul":
        return _scale(graph, node, x, name, None)
    if node.op == "Add":
        return _scale(graph, node, x, None, name)
    if node.op == "Sub":
        return _scale(graph, node, x, np.float32(-1), name) if first else _scale(graph, node, x, None, -value)
    if not first:
        return _scale(graph, node, x, 1 / value, None) if bool((value != 0).all()) else None
    inverse = graph.fresh(node.outputs[0])
    graph.types[inverse] = graph.type_of(x)
    reciprocal = Node("Reciprocal", graph.fresh(f"{node.name}/Reciprocal"), [x], [inverse])
    return [reciprocal, *_scale(graph, node, inverse, name, None)]


def _batch_normalization(graph: Graph, node: Node) -> list[Node] | None:
    values = [graph.constant(tensor) for tensor in node.inputs[1:5]]
    rank = graph.rank(node.input(0)) or graph.rank(node.outputs[0])
    if any(value is None for value in values) or rank is None or node.attributes.get("training_mode", 0):
        return None
    gain, shift, mean, variance = (np.asarray(value, np.float64) for value in values)
    weight = gain / np.sqrt(variance + node.attributes.get("epsilon", 1e-5))
    shape = (1, -1, *[1] * (rank - 2)) if rank > 1 else (-1,)
    bias = (shift - mean * weight).reshape(shape)
    return _scale(graph, node, node.input(0), weight.reshape(shape).astype(np.float32), bias.astype(np.float32))


def merge_scales(graph: Graph) -> bool:
    """Joins neighbouring Scales, then merges each into the layer before it, or after it where that is exact."""
    changed = False
    while any(_merge(graph, node) for node in graph if node.op == "Scale" and node.domain == CANONICAL):
        changed = True
    return changed


def _merge(graph: Graph, node: Node) -> bool:
    before = graph.producers.get(node.input(0))
    if before is not None and graph.only_consumer(node.input(0)) is node:
        if before.op == "Scale" and before.domain == CANONICAL and _join(graph, before, node):
            return True
        if before.op in _LAYERS and _into_layer_before(graph, before, node):
            return True
    after = graph.only_consumer(node.outputs[0])
    return after is not None and after.op in ("Conv", "Gemm", "Linear") and _into_layer_after(graph, node, after)


def _values(graph: Graph, node: Node) -> tuple[Array, Array]:
    """w and b of a Scale in float64."""
    weight, bias = (graph.constant(node.input(index)) if node.input(index) else None for index in (1, 2))
    one, zero = np.ones(()), np.zeros(())
    return (one if weight is None else weight.astype(np.float64)), (zero if bias is None else bias.astype(np.float64))


def _join(graph: Graph, first: Node, second: Node) -> bool:
    """(x * w1 + b1) * w2 + b2, unless the constants together are larger than each: that would cost memory."""
    (w1, b1), (w2, b2) = _values(graph, first), _values(graph, second)
    weight, bias = w1 * w2, b1 * w2 + b2
    if max(weight.size, bias.size) > max(w1.size, b1.size, w2.size, b2.size):
        return False
    whole = np.broadcast_shapes(w1.shape, b1.shape, w2.shape, b2.shape)
    no_weight, no_bias = bool((weight == 1).all()), not bias.any()
    left = np.broadcast_shapes(() if no_weight else weight.shape, () if no_bias else bias.shape)
    if left != whole and not _is_plain(graph, first.input(0), whole):  # even a factor of one repeats x, or adds axes to it
        no_weight = no_bias = False
    elif no_weight and no_bias:
        no_weight, weight = False, np.ones(())
    kept = (None if no_weight else weight.astype(np.float32), None if no_bias else bias.astype(np.float32))
    graph.replace([first, second], _scale(graph, second, first.input(0), *kept))
    return True


def _is_plain(graph: Graph, x: str, shape: tuple[int, ...]) -> bool:
    """Whether constants of this shape leave the shape of x as it is: a single number in no more axes than x has."""
    rank = graph.rank(x)
    return all(length == 1 for length in shape) and (not shape or (rank is not None and len(shape) <= rank))


def _per_channel(value: Array, rank: int, axis: int, channels: int) -> Array | None:
    """The value as one number per channel, or None when it varies along other axes or adds axes."""
    if value.ndim > rank:
        return None
    aligned = value.reshape((1,) * (rank - value.ndim) + value.shape)
    if aligned.size not in (1, channels) or (aligned.size == channels and aligned.shape[axis] != channels):
        return None
    return np.broadcast_to(aligned.reshape(-1), (channels,))


def _channels_out(layer: Node, weight: Array) -> int:
    if layer.op == "Conv":
        return int(weight.shape[0])
    if layer.op == "ConvTranspose":
        return int(weight.shape[1]) * int(layer.attributes.get("group", 1))
    return int(weight.shape[0] if layer.attributes.get("transB", 0) else weight.shape[1])


def _into_layer_before(graph: Graph, layer: Node, node: Node) -> bool:
    weight, rank = graph.constant(layer.input(1)), graph.rank(layer.outputs[0])
    old_bias = graph.constant(layer.input(2)) if layer.input(2) else None
    if weight is None or rank is None or (layer.input(2) and old_bias is None) or weight.ndim < 2 or layer.attributes.get("left", 0):
        return False
    if layer.op == "Linear" and weight.ndim != 2:
        return False
    channels = _channels_out(layer, weight)
    axis = rank - 1 if layer.op in ("Gemm", "Linear") else 1
    factor, shift = (_per_channel(value, rank, axis, channels) for value in _values(graph, node))
    if factor is None or shift is None:
        return False
    if not bool((factor == 1).all()):
        graph_weight = weight * _align_out(layer, weight, factor.astype(np.float32))
        new_weight = graph.add_constant(layer.input(1), graph_weight.astype(np.float32))
    else:
        new_weight = layer.input(1)
    bias = (0.0 if old_bias is None else old_bias.astype(np.float64).reshape(-1)) * factor + shift
    inputs = [layer.input(0), new_weight]
    if old_bias is not None or shift.any():
        inputs.append(graph.add_constant(layer.name, bias.astype(np.float32)))
    graph.replace([layer, node], [Node(layer.op, layer.name, inputs, node.outputs, dict(layer.attributes), layer.domain)])
    return True


def _align_out(layer: Node, weight: Array, factor: Array) -> Array:
    """The factor per output channel in a shape that broadcasts against the weights."""
    if layer.op == "Conv":
        return factor.reshape(-1, *[1] * (weight.ndim - 1))
    if layer.op == "ConvTranspose":
        group = int(layer.attributes.get("group", 1))
        per_group = factor.reshape(group, 1, -1, *[1] * (weight.ndim - 2))
        return np.broadcast_to(per_group, (group, weight.shape[0] // group, *per_group.shape[2:])).reshape(
            weight.shape[0], *per_group.shape[2:]
        )
    return factor.reshape(-1, 1) if layer.attributes.get("transB", 0) else factor


def _into_layer_after(graph: Graph, node: Node, layer: Node) -> bool:
    """y = W (x w + b) + c = (W w) x + (W b + c); where zeros are padded between the two, only b = 0 is exact."""
    weight, rank = graph.constant(layer.input(1)), graph.rank(node.input(0))
    old_bias = graph.constant(layer.input(2)) if layer.input(2) else None
    if weight is None or rank is None or layer.input(0) != node.outputs[0] or (layer.input(2) and old_bias is None) or weight.ndim < 2:
        return False
    if graph.rank(node.outputs[0]) != rank or layer.attributes.get("left", 0) or (layer.op == "Linear" and weight.ndim != 2):
        return False
    group = int(layer.attributes.get("group", 1))
    dense = layer.op in ("Gemm", "Linear")
    transposed = bool(layer.attributes.get("transB", 0))
    channels = (weight.shape[1] if transposed else weight.shape[0]) if dense else weight.shape[1] * group
    axis = rank - 1 if dense else 1
    factor, shift = (_per_channel(value, rank, axis, channels) for value in _values(graph, node))
    if (graph.shape(node.input(0)) or ())[axis] != channels and any(value.size > 1 for value in _values(graph, node)):
        return False  # x may be repeated along this axis
    if factor is None or shift is None or (shift.any() and (any(layer.attributes.get("pads", [])) or "auto_pad" in layer.attributes)):
        return False
    precise = weight.astype(np.float64)
    if dense:
        new = precise * (factor if transposed else factor[:, None])
        moved = np.tensordot(precise, shift, (1 if transposed else 0, 0))
    else:
        out = weight.shape[0] // group
        shape = (group, 1, weight.shape[1], *[1] * (weight.ndim - 2))
        grouped = precise.reshape(group, out, *weight.shape[1:])
        new = (grouped * factor.reshape(shape)).reshape(weight.shape)
        moved = (grouped * shift.reshape(shape)).reshape(weight.shape[0], -1).sum(1)
    inputs = [node.input(0), graph.add_constant(layer.input(1), new.astype(np.float32))]
    if old_bias is not None or moved.any():
        inputs.append(graph.add_constant(layer.name, ((0.0 if old_bias is None else old_bias.reshape(-1)) + moved).astype(np.float32)))
    graph.replace([node, layer], [Node(layer.op, layer.name, inputs, layer.outputs, dict(layer.attributes), layer.domain)])
    return True
