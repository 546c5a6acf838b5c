"""From a path, bytes or a ModelProto to a graph in float32 at our opset."""

from __future__ import annotations

import os
from collections.abc import Iterable
from io import BufferedIOBase, BytesIO
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import onnx
import onnx.inliner
from onnx import AttributeProto, GraphProto, ModelProto, NodeProto, TensorProto, helper, numpy_helper

from onnx_lrp.errors import ModelError, OnnxLrpError
from onnx_lrp.graph.external import FLOATS, is_split, load_external
from onnx_lrp.graph.graph import Graph, Node
from onnx_lrp.graph.opset import OPSET, bring_to_opset
from onnx_lrp.graph.weights import Raw, parse_model
from onnx_lrp.tensors import Array, TensorType

ModelSource: TypeAlias = "str | os.PathLike[str] | bytes | ModelProto"

SMALL = 1024
"""Constants of more elements are kept away from protobuf tools, which copy and have a limit of 2 GB."""


def read_graph(source: ModelSource) -> Graph:
    """Reads, checks and normalises a model.

    Args:
        source: path of an .onnx file (external data beside it is read too), its bytes, or a ModelProto (left unchanged).

    Returns:
        A graph at opset 18, all floats in float32, functions inlined, initialisers out of the inputs, inputs nobody reads dropped.

    Raises:
        ModelError: the source is missing, no ONNX model, or broken.
    """
    model, raw = _load(source)
    try:
        return _graph_from(model, raw)
    except OnnxLrpError:
        raise
    except RecursionError:
        raise ModelError("the model is nested too deeply") from None
    except Exception as error:
        raise ModelError(f"the model is broken: {_first_line(error)}") from error


def _first_line(error: Exception) -> str:
    text = " ".join(str(error).split())
    return (text[:300] + "...") if len(text) > 300 else text or type(error).__name__


def _load(source: ModelSource) -> tuple[ModelProto, Raw]:
    model, raw, where, folder = (source, {}, "the model", None) if isinstance(source, ModelProto) else _parsed(source)
    if not model.HasField("graph") or not (model.graph.node or model.graph.initializer):
        raise ModelError(f"{where} is not an ONNX model: it has no graph")
    if not is_split(model.graph):
        return model, raw
    if folder is None:
        raise ModelError("the model keeps its weights in another file: pass its path")
    try:
        raw |= load_external(model, folder)
    except Exception as error:  # noqa: BLE001 - missing, short, or outside the folder
        raise ModelError(f"cannot read the weights beside {where}: {_first_line(error)}") from None
    return model, raw


def _parsed(source: str | os.PathLike[str] | bytes) -> tuple[ModelProto, Raw, str, Path | None]:
    """The model and the weights read beside it, what to call it in messages, and the folder of its file."""
    if isinstance(source, bytes):
        return *_parsed_from(BytesIO(source), "the data"), "the data", None
    path = Path(source)
    if path.is_dir():
        raise ModelError(f"{path} is a folder, not an ONNX file")
    try:
        with path.open("rb") as file:
            return *_parsed_from(file, str(path)), str(path), path.parent
    except FileNotFoundError:
        raise ModelError(f"no such file: {path}") from None
    except OSError as error:
        raise ModelError(f"cannot read {path}: {error.strerror or error}") from None


def _parsed_from(file: BufferedIOBase, where: str) -> tuple[ModelProto, Raw]:
    size = file.seek(0, os.SEEK_END)
    file.seek(0)
    if not size:
        raise ModelError(f"{where} is empty")
    try:
        return parse_model(file, size)
    except OSError:
        raise
    except Exception:  # noqa: BLE001 - protobuf's DecodeError class differs between its back ends
        raise ModelError(f"{where} is not an ONNX model (or is cut off)") from None


def _check_names(graph: GraphProto) -> None:
    """Protobuf gives names that are no text as bytes."""
    names = [tensor.name for tensor in graph.initializer]
    for value in (*graph.input, *graph.output, *graph.value_info):
        names += [value.name, *(dim.dim_param for dim in value.type.tensor_type.shape.dim)]
    for node in graph.node:
        names += [node.name, node.op_type, node.domain, *node.input, *node.output]
        for attribute in node.attribute:
            names.append(attribute.name)
            if attribute.HasField("g"):
                _check_names(attribute.g)
    if not all(isinstance(name, str) for name in names):
        raise ModelError("the model has names that are no text")


def _graph_from(model: ModelProto, raw: Raw) -> Graph:
    _check_names(model.graph)
    light, weights = _without_weights(model, raw)
    opset = next((entry.version for entry in light.opset_import if entry.domain in ("", "ai.onnx")), 0)
    if opset == 0:
        raise ModelError("the model does not say which version of ONNX's operators it uses")
    if opset < 7:
        raise ModelError(f"the model uses opset {opset}; opsets 7 and newer are supported")
    if opset > onnx.defs.onnx_opset_version():
        raise ModelError(f"the model uses opset {opset}, the installed onnx knows those up to {onnx.defs.onnx_opset_version()}")
    if light.functions:
        light = onnx.inliner.inline_local_functions(light)
    if opset < OPSET:
        light = bring_to_opset(light)
    types = _infer_types(light)
    if opset >= OPSET:  # infer before: lowering puts newer operators into our domain, which onnx knows nothing of
        light = bring_to_opset(light)
    graph = _from_proto(light, weights, types, opset)
    graph.metadata = {entry.key: entry.value for entry in model.metadata_props}
    if not graph.outputs:
        raise ModelError("the model has no output")
    _check_references(graph)
    _check_windows(graph)
    graph.prune()
    return graph


def _without_weights(model: ModelProto, raw: Raw) -> tuple[ModelProto, dict[str, Array]]:
    """The model with each large initialiser replaced by a graph input of its type, and those initialisers as arrays."""
    if model.graph.sparse_initializer:
        raise ModelError("sparse initialisers are not supported")
    light = ModelProto()
    light.ir_version = max(model.ir_version, 8)
    light.opset_import.extend(model.opset_import)
    light.functions.extend(model.functions)
    for entry in light.opset_import:
        entry.domain = _short(entry.domain)
    light.metadata_props.extend(model.metadata_props)
    source, graph = model.graph, light.graph
    graph.name = source.name or "model"
    graph.node.extend(source.node)
    graph.output.extend(source.output)
    graph.value_info.extend(source.value_info)
    for nodes in (graph.node, *(function.node for function in light.functions)):
        _shorten_domains(nodes)
    names = {tensor.name for tensor in source.initializer}
    graph.input.extend(value for value in source.input if value.name not in names)
    weights = {}
    for index, tensor in enumerate(source.initializer):
        if any(length < 0 for length in tensor.dims):
            raise ModelError(f"the weights {tensor.name!r} have the shape {list(tensor.dims)}")
        if int(np.prod(tensor.dims, dtype=np.int64)) <= SMALL or tensor.data_type not in FLOATS:
            graph.initializer.append(tensor)
            if index in raw:
                graph.initializer[-1].raw_data = raw[index].tobytes()
        else:
            weights[tensor.name] = to_float32(_as_array(tensor, raw.get(index)))
            graph.input.append(helper.make_tensor_value_info(tensor.name, tensor.data_type, tensor.dims))
    return light, weights


def _as_array(tensor: TensorProto, raw: Array | None) -> Array:
    if raw is None:
        return numpy_helper.to_array(tensor)
    return raw.view(helper.tensor_dtype_to_np_dtype(tensor.data_type)).reshape(tensor.dims)


def _short(domain: str) -> str:
    """ONNX's own domain has two names."""
    return "" if domain == "ai.onnx" else domain


def _shorten_domains(nodes: Iterable[NodeProto]) -> None:
    for node in nodes:
        node.domain = _short(node.domain)
        for attribute in node.attribute:
            if attribute.HasField("g"):
                _shorten_domains(attribute.g.node)


def to_float32(array: Array) -> Array:
    """Float arrays as float32, other arrays as they are."""
    is_float = array.dtype.kind == "f" or array.dtype.name == "bfloat16"
    return array.astype(np.float32, copy=False) if is_float else array


def tensor_type(value: onnx.ValueInfoProto) -> TensorType:
    """The type in a value_info; float types of any width become float32."""
    kind = value.type.tensor_type
    if not value.type.HasField("tensor_type") or not kind.elem_type:
        return TensorType(np.dtype(object) if value.type.WhichOneof("value") not in (None, "tensor_type") else None)
    dtype = np.dtype(np.float32) if kind.elem_type in FLOATS else np.dtype(helper.tensor_dtype_to_np_dtype(kind.elem_type))
    if not kind.HasField("shape"):
        return TensorType(dtype)
    return TensorType(dtype, tuple(_length(dim) for dim in kind.shape.dim))


def _length(dim: onnx.TensorShapeProto.Dimension) -> int | str | None:
    if dim.HasField("dim_value"):
        return int(dim.dim_value) if dim.dim_value >= 0 else None
    return dim.dim_param or None


def _infer_types(light: ModelProto) -> dict[str, TensorType]:
    inferred = onnx.shape_inference.infer_shapes(light, data_prop=True).graph
    return {value.name: tensor_type(value) for part in (inferred.value_info, inferred.output, inferred.input) for value in part}


def _from_proto(light: ModelProto, weights: dict[str, Array], types: dict[str, TensorType], opset: int) -> Graph:
    constants = {tensor.name: to_float32(numpy_helper.to_array(tensor)) for tensor in light.graph.initializer} | weights
    nodes: list[Node] = []
    used: set[str] = set()
    for index, proto in enumerate(light.graph.node):
        if proto.op_type == "Constant" and proto.domain in ("", "ai.onnx"):
            constants[proto.output[0]] = _constant_value(proto)
            continue
        nodes.append(node_from(proto, index, used))
    inputs = {value.name: types[value.name] for value in light.graph.input if value.name not in constants}
    if "" in inputs or any(name in inputs for node in nodes for name in node.outputs):
        raise ModelError("two tensors of the graph have the same name")
    made = [name for node in nodes for name in node.outputs if name]
    if len(made) != len(set(made)) or any(name in constants for name in made):
        raise ModelError("two nodes of the graph make the same tensor, or one makes a weight")
    read = {name for node in nodes for name in node.reads}
    outputs = [value.name for value in light.graph.output]
    inputs = {name: kind for name, kind in inputs.items() if name in read or name in outputs}
    return Graph(nodes, constants, inputs, outputs, types, opset)


def node_from(proto: NodeProto, index: int, used: set[str]) -> Node:
    """A node with a name that no other node has (exporters may leave names out or repeat them)."""
    if not proto.op_type:
        raise ModelError(f"node {proto.name or index!r} has no operator")
    domain = _short(proto.domain)
    base = proto.name or next((name for name in proto.output if name), f"{proto.op_type}_{index}")
    name, count = base, 1
    while name in used:
        count += 1
        name = f"{base}#{count}"
    used.add(name)
    attributes = {attribute.name: _attribute(attribute) for attribute in proto.attribute}
    outputs = list(proto.output)
    if proto.op_type == "Split" and not domain:  # onnxruntime crashes on parts that are left out
        outputs = [output or f"{name}/unused_{position}" for position, output in enumerate(outputs)]
    return Node(proto.op_type, name, list(proto.input), outputs, attributes, domain)


def _attribute(attribute: AttributeProto) -> Any:
    if attribute.type == AttributeProto.TENSOR:
        return to_float32(numpy_helper.to_array(attribute.t))
    value = helper.get_attribute_value(attribute)
    if isinstance(value, bytes):
        return value.decode("utf-8", "replace")
    if attribute.name == "to" and value in FLOATS:
        return int(TensorProto.FLOAT)
    if isinstance(value, (int, float, GraphProto)):
        return value
    return [item.decode("utf-8", "replace") if isinstance(item, bytes) else item for item in value]


def _constant_value(proto: NodeProto) -> Array:
    attribute = proto.attribute[0]
    value = _attribute(attribute)
    if attribute.name == "value":
        return np.asarray(value)
    if attribute.name in ("value_float", "value_floats"):
        return np.asarray(value, np.float32)
    if attribute.name in ("value_int", "value_ints"):
        return np.asarray(value, np.int64)
    if attribute.name in ("value_string", "value_strings"):
        return np.asarray(value, object)
    raise ModelError(f"node {proto.name or proto.output[0]!r}: a Constant with {attribute.name} is not supported")


WINDOWED = ("Conv", "ConvTranspose", "MaxPool", "AveragePool", "LpPool")
"""The operators that slide a window over spatial axes."""


def _check_windows(graph: Graph) -> None:
    """Every list in a window's geometry has one entry per axis (pads two), all of them possible."""
    for node in graph:
        if node.domain or node.op not in WINDOWED:
            continue
        rank = graph.rank(node.input(1)) if node.op.startswith("Conv") else None
        axes = rank - 2 if rank is not None else len(node.attributes.get("kernel_shape", ()))
        lengths = {"kernel_shape": 1, "strides": 1, "dilations": 1, "pads": 2, "output_padding": 1}
        given = {key: node.attributes[key] for key in lengths if key in node.attributes}
        positive = [value for key in ("kernel_shape", "strides", "dilations") for value in given.get(key, ())]
        wrong = [key for key, values in given.items() if axes and (not isinstance(values, list) or len(values) != lengths[key] * axes)]
        if wrong or any(value < 1 for value in [*positive, node.attributes.get("group", 1)]):
            raise ModelError(f"node {node.name!r}: {node.op} has an impossible window: {given}")
        weight, bias = (graph.static_shape(node.input(index)) for index in (1, 2)) if node.op.startswith("Conv") else (None, None)
        channels = None if weight is None else weight[0] if node.op == "Conv" else weight[1] * node.attributes.get("group", 1)
        if channels is not None and bias is not None and bias != (channels,):
            raise ModelError(f"node {node.name!r}: {node.op} has {channels} channels and a bias of shape {bias}")


def _check_references(graph: Graph) -> None:
    known = set(graph.inputs) | set(graph.constants) | set(graph.producers)
    for node in graph:
        for tensor in node.reads:
            if tensor and tensor not in known:
                raise ModelError(f"node {node.name!r} reads {tensor!r}, which nothing provides")
    for tensor in graph.outputs:
        if tensor not in known:
            raise ModelError(f"the model's output {tensor!r} is made by no node")
