"""Computing now what does not depend on the model's inputs."""

from __future__ import annotations

import numpy as np
import onnx
from onnx import GraphProto, helper, numpy_helper

from onnx_lrp.emitter import make_attribute
from onnx_lrp.errors import ModelError
from onnx_lrp.graph import CANONICAL, Array, Graph, Node
from onnx_lrp.graph.opset import OPSET
from onnx_lrp.graph.reader import SMALL, node_from, tensor_type, to_float32

_RANDOM = {"RandomNormal", "RandomNormalLike", "RandomUniform", "RandomUniformLike", "Bernoulli", "Multinomial"}


def fold_constants(graph: Graph) -> bool:
    """Replaces known shapes, nodes whose inputs are all constant, and branches whose condition is."""
    changed = False
    while _fold_shapes(graph) | _fold_nodes(graph) | _choose_branches(graph):
        changed = True
        _infer_again(graph)
    return changed


def _infer_again(graph: Graph) -> None:
    """Shapes that hang on values which are constants only now."""
    if all(graph.shape(t) is not None and None not in (graph.shape(t) or ()) for node in graph for t in node.outputs if t):
        return
    small = {name: value for name, value in graph.constants.items() if value.size <= SMALL}
    model = model_of(graph.nodes, [value for name, value in _infos(graph).items() if name not in small], [])
    model.graph.initializer.extend(numpy_helper.from_array(np.asarray(value, order="C"), name) for name, value in small.items())
    model.graph.output.extend(onnx.ValueInfoProto(name=name) for name in graph.outputs)
    for value in onnx.shape_inference.infer_shapes(model, data_prop=True).graph.value_info:
        kind = tensor_type(value)
        if kind.shape is not None and unknown(graph.shape(value.name)) >= unknown(kind.shape):
            graph.types[value.name] = kind


def unknown(shape: tuple[int | str | None, ...] | None) -> float:
    """How many lengths of a shape are not known; infinity without a rank."""
    return float("inf") if shape is None else sum(not isinstance(length, int) for length in shape)


def _infos(graph: Graph) -> dict[str, onnx.ValueInfoProto]:
    """Declarations of the graph's inputs and constants."""
    kinds = graph.inputs | {name: graph.type_of(name) for name in graph.constants}
    return {
        name: helper.make_tensor_value_info(name, helper.np_dtype_to_tensor_dtype(kind.dtype), kind.shape)
        for name, kind in kinds.items()
        if kind.dtype is not None and kind.dtype != object
    }


def _fold_shapes(graph: Graph) -> bool:
    """Shapes and sizes, and parts of a shape, whose lengths are all fixed numbers."""
    gone: list[Node] = []
    shapes: dict[str, tuple[int | str | None, ...]] = {}
    for node in graph:
        if node.op in ("Gather", "Slice") and not node.domain and node.input(0) in shapes:
            known = _selected(graph, node, shapes[node.input(0)])
        elif node.op in ("Shape", "Size") and not node.domain and (shape := graph.shape(node.input(0))) is not None:
            part = shape[slice(node.attributes.get("start", 0), node.attributes.get("end"))] if node.op == "Shape" else shape
            known = np.array(part, np.int64) if all(isinstance(length, int) for length in part) else None
            if node.op == "Shape":
                shapes[node.outputs[0]] = part
            elif known is not None:
                known = np.array(known.prod(), np.int64)
        else:
            continue
        if known is not None:
            graph.constants[node.outputs[0]] = known
            gone.append(node)
    return _drop(graph, gone)


def _selected(graph: Graph, node: Node, shape: tuple[int | str | None, ...]) -> Array | None:
    """The lengths that a Gather or Slice takes from a shape, when they are known."""
    parameters = [graph.constant(tensor) if tensor else None for tensor in node.inputs[1:]]
    if any(tensor and value is None for tensor, value in zip(node.inputs[1:], parameters, strict=True)):
        return None
    positions = np.arange(len(shape))
    if node.op == "Gather":
        index = parameters[0]
        inside = index is not None and bool(((index >= -len(shape)) & (index < len(shape))).all())
        chosen = positions[index] if inside else None
    else:
        first, last, _, step = [value.item() if value is not None and value.size == 1 else None for value in [*parameters, None, None]][:4]
        chosen = positions[first:last:step] if first is not None and last is not None else None
    if chosen is None or not all(isinstance(shape[position], int) for position in chosen.reshape(-1)):
        return None
    return np.array([shape[position] for position in chosen.reshape(-1)], np.int64).reshape(chosen.shape)


def _drop(graph: Graph, gone: list[Node]) -> bool:
    if gone:
        marked = set(map(id, gone))
        graph.nodes = [node for node in graph.nodes if id(node) not in marked]
    return bool(gone)


def _fold_nodes(graph: Graph) -> bool:
    """Runs all constant nodes in one session, without optimisation and with the results that other nodes read as outputs."""
    known, nodes = set(graph.constants), []
    for node in graph:
        subgraph = any(isinstance(value, GraphProto) for value in node.attributes.values())
        if subgraph or node.domain == CANONICAL or node.op in _RANDOM or not all(not tensor or tensor in known for tensor in node.inputs):
            continue
        nodes.append(node)
        known.update(tensor for tensor in node.outputs if tensor)
    if not nodes:
        return False
    chosen = set(map(id, nodes))
    read = {tensor for node in graph if id(node) not in chosen for tensor in node.reads} | set(graph.outputs)
    wanted = [tensor for node in nodes for tensor in node.outputs if tensor in read]
    for tensor, value in zip(wanted, _run(graph, nodes, wanted), strict=True):
        graph.constants[tensor] = to_float32(np.asarray(value))
    return _drop(graph, nodes)


def _run(graph: Graph, nodes: list[Node], wanted: list[str]) -> list[Array]:
    import onnxruntime

    made = {tensor for node in nodes for tensor in node.outputs}
    feeds = {tensor: graph.constants[tensor] for node in nodes for tensor in node.inputs if tensor and tensor not in made}
    inputs = [
        helper.make_tensor_value_info(name, helper.np_dtype_to_tensor_dtype(value.dtype), value.shape) for name, value in feeds.items()
    ]
    model = model_of(nodes, inputs, wanted)
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.log_severity_level = 4
    try:
        session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
        return list(session.run(wanted, feeds)) if wanted else []
    except Exception as error:
        detail = " ".join(str(error).split())[:200]
        raise ModelError(f"the constants of the model cannot be computed: {detail}") from error


def model_of(nodes: list[Node], inputs: list[onnx.ValueInfoProto], outputs: list[str]) -> onnx.ModelProto:
    """Some nodes of a graph as a model."""
    protos = []
    for node in nodes:
        proto = helper.make_node(node.op, node.inputs, node.outputs, name=node.name, domain=node.domain or None)
        proto.attribute.extend(make_attribute(key, value) for key, value in node.attributes.items())
        protos.append(proto)
    body = helper.make_graph(protos, "part", inputs, [onnx.ValueInfoProto(name=name) for name in outputs])
    opsets = [
        helper.make_opsetid("", OPSET),
        *(helper.make_opsetid(domain, 1) for domain in sorted({node.domain for node in nodes} - {""})),
    ]
    return helper.make_model(body, opset_imports=opsets, ir_version=8)


def _choose_branches(graph: Graph) -> bool:
    """Puts the taken branch of an If with constant condition in the If's place."""
    changed = False
    for node in graph:
        condition = graph.constant(node.input(0)) if node.op == "If" and not node.domain else None
        if condition is None:
            continue
        branch: GraphProto = node.attributes["then_branch" if bool(condition.reshape(-1)[0]) else "else_branch"]
        inside = {name for inner in branch.node for name in inner.output} | {tensor.name for tensor in branch.initializer}
        renamed = {name: graph.fresh(name) for name in inside if name}
        for result, output in zip(branch.output, node.outputs, strict=True):
            if result.name in renamed and branch.output[0].name in inside:
                renamed[result.name] = output
        used = {other.name for other in graph}
        new = []
        for tensor in branch.initializer:
            graph.constants[renamed[tensor.name]] = to_float32(numpy_helper.to_array(tensor))
        for value in branch.value_info:
            if value.name in renamed:
                graph.types.setdefault(renamed[value.name], tensor_type(value))
        for index, proto in enumerate(branch.node):
            inner = node_from(proto, index, used)
            inner.read_instead(renamed)
            inner.outputs = [renamed.get(tensor, tensor) for tensor in inner.outputs]
            if inner.op == "Constant" and not inner.domain and "value" in inner.attributes:
                graph.constants[inner.outputs[0]] = np.asarray(inner.attributes["value"])
            else:
                new.append(inner)
        for result, output in zip(branch.output, node.outputs, strict=True):
            if renamed.get(result.name, result.name) != output:  # the branch passes on a tensor from outside
                new.append(Node("Identity", graph.fresh(node.name), [renamed.get(result.name, result.name)], [output]))
        graph.replace([node], new)
        changed = True
    return changed
