"""Keras models that compute with TensorFlow, and SavedModels, through tf2onnx."""

from __future__ import annotations

import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import onnx

from onnx_lrp.emitter import IR_VERSION
from onnx_lrp.errors import InputError, ModelError
from onnx_lrp.graph.opset import OPSET

from ..conversion import Activation, Conversion, checked
from ..frameworks import quiet, reason, require
from ..inputs import parse, random
from ..padding import keep_zeros
from ..transposes import fold_transposes
from .sources import output_names

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["convert_model", "convert_saved_model"]

_SAMPLES: Final = 3
_LARGEST: Final = 2**31 - 1
_SIGNATURE: Final = "serving_default"
_REACHES_OUT: Final = frozenset(
    [
        "ReadFile",
        "WriteFile",
        "PyFunc",
        "PyFuncStateless",
        "EagerPyFunc",
        "Save",
        "SaveSlices",
        "SaveV2",
        "MergeV2Checkpoints",
        "MatchingFiles",
        "PrintV2",
        "LoadDataset",
        "SaveDataset",
        "SaveDatasetV2",
        "DatasetToTFRecord",
        "DebugIdentity",
        "DebugIdentityV2",
        "WriteGraphSummary",
        "RpcCall",
        "RpcClient",
        "RpcServer",
    ]
)
"""Operators of TensorFlow that write files or run other code; those that restore weights (RestoreV2) are part of every SavedModel."""


def convert_model(model: Any, feeds: Mapping[str, NDArray[Any]], where: Path, metadata: Mapping[str, str]) -> Conversion:
    """Convert a Keras model whose backend is TensorFlow.

    Raises:
        ModelError: tf2onnx is missing or cannot express the model, or the two differ.
    """
    tf = require("keras", "tensorflow", "tf2onnx")
    specs = [tf.TensorSpec((None, *value.shape[1:]), value.dtype, name) for name, value in feeds.items()]
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "model.onnx"
        try:
            with quiet():
                signature = specs if len(specs) == 1 else [specs]
                model.export(file, format="onnx", verbose=False, input_signature=signature, opset_version=OPSET)
        except Exception as error:
            raise ModelError(f"{where} cannot be exported to ONNX: {reason(error)}") from error
        made = onnx.load(file)
    with quiet():
        result = model(list(feeds.values()) if len(feeds) > 1 else next(iter(feeds.values())), training=False)
    values = [np.asarray(value) for value in tf.nest.flatten(result)]
    names = output_names(model)
    if len(names) == len(made.graph.output):  # tf2onnx calls them Identity:0
        for output, name in zip(made.graph.output, names, strict=True):
            _rename(made.graph, output.name, name)
    return _compared(made, feeds, values, where, "Keras (with TensorFlow)", metadata)


def _rename(graph: onnx.GraphProto, old: str, new: str) -> None:
    if any(new in (*node.input, *node.output) for node in graph.node):
        return
    for node in graph.node:
        for tensors in (node.input, node.output):
            tensors[:] = [new if tensor == old else tensor for tensor in tensors]
    for output in graph.output:
        if output.name == old:
            output.name = new


def convert_saved_model(path: Path, shapes: Iterable[str | Sequence[int]] | str | None) -> Conversion:
    """Convert the signature serving_default of a SavedModel.

    Raises:
        InputError: A length of an input is open and not given.
        ModelError: TensorFlow or tf2onnx is missing; the folder is broken, reaches out of itself or has no such signature; the model
            cannot be expressed, or the two differ.
    """
    _check_operators(path)
    tf = require("keras", "tensorflow", "tf2onnx")
    import tf2onnx

    try:
        with quiet():
            loaded = tf.saved_model.load(str(path))
    except Exception as error:
        raise ModelError(f"{path}: TensorFlow {tf.__version__} cannot read this SavedModel: {reason(error)}") from error
    serve = loaded.signatures.get(_SIGNATURE)
    if serve is None:
        known = ", ".join(loaded.signatures) or "none"
        raise ModelError(f"{path} has no signature {_SIGNATURE!r}; it has {known}")
    specs = list(serve.structured_input_signature[1].values())
    feeds = _feeds(specs, shapes, str(path))

    def called(*inputs: Any) -> Any:
        return serve(**{spec.name: value for spec, value in zip(specs, inputs, strict=True)})

    given = [tf.TensorSpec((None, *feeds[spec.name].shape[1:]), spec.dtype, spec.name) for spec in specs]
    try:
        with quiet():
            made, _ = tf2onnx.convert.from_function(tf.function(called), given, opset=OPSET)
            result = called(*(tf.constant(value) for value in feeds.values()))
    except Exception as error:
        raise ModelError(f"{path} cannot be exported to ONNX: {reason(error)}") from error
    values = [np.asarray(result[name]) for name in sorted(result)]
    return _compared(made, feeds, values, path, "a SavedModel of TensorFlow", {})


def _check_operators(path: Path) -> None:
    """Refuse a graph that could do more than compute.

    Raises:
        ModelError: It could, or the file is broken.
    """
    file = path / "saved_model.pb"
    if file.stat().st_size > _LARGEST:
        raise ModelError(f"{file} is refused: it is larger than 2 GB")
    require("keras", "tensorflow", "tf2onnx")
    from tensorflow.core.protobuf import saved_model_pb2

    try:
        saved = saved_model_pb2.SavedModel.FromString(file.read_bytes())
    except Exception as error:
        raise ModelError(f"{file} is broken: {reason(error)}") from error
    for meta in saved.meta_graphs:
        for node in _reached(meta):
            if node.op in _REACHES_OUT:
                raise ModelError(f"{path} is refused: its node {node.name!r} is a {node.op}, which does more than compute")


def _reached(meta: Any) -> Iterator[Any]:
    """The nodes that the signature needs, through all functions; what saves and restores weights is apart from them."""
    functions = {function.signature.name: function.node_def for function in meta.graph_def.library.function}
    nodes = {node.name: node for node in meta.graph_def.node}
    waiting = [nodes.get(tensor.name.split(":")[0]) for tensor in meta.signature_def[_SIGNATURE].outputs.values()]
    seen: set[int] = set()
    while waiting:
        node = waiting.pop()
        if node is None or id(node) in seen:
            continue
        seen.add(id(node))
        yield node
        waiting.extend(nodes.get(name.lstrip("^").split(":")[0]) for name in node.input)
        for attribute in node.attr.values():
            for called in (attribute.func, *attribute.list.func):
                waiting.extend(functions.pop(called.name, ()))


def _feeds(specs: Sequence[Any], given: Iterable[str | Sequence[int]] | str | None, where: str) -> dict[str, NDArray[Any]]:
    wanted = None if given is None else parse(given)
    if wanted is not None and len(wanted) != len(specs):
        raise InputError(f"{where} has {len(specs)} inputs, but {len(wanted)} shapes are given")
    shapes = []
    for index, spec in enumerate(specs):
        lengths = wanted[index][0] if wanted is not None else (1, *spec.shape[1:]) if spec.shape.rank else ()
        if not lengths or None in lengths or not spec.shape[1:].is_compatible_with(lengths[1:]):
            raise InputError(f"input {spec.name!r} has shape {spec.shape}: give --input-shape, such as 1,224,224,3")
        shapes.append(((_SAMPLES, *lengths[1:]), spec.dtype.name))
    return dict(zip((spec.name for spec in specs), random(shapes), strict=True))


def _compared(
    model: onnx.ModelProto, feeds: Mapping[str, Any], values: Sequence[Any], where: Path, kind: str, metadata: Mapping[str, str]
) -> Conversion:
    model = fold_transposes(model)
    keep_zeros(model)
    model.ir_version = IR_VERSION
    for tensor in (*model.graph.input, *model.graph.output):
        if tensor.type.tensor_type.shape.dim:
            tensor.type.tensor_type.shape.dim[0].dim_param = "N"
    for key, value in metadata.items():
        model.metadata_props.add(key=key, value=value)
    shown = [output.name for output in model.graph.output]
    if len(shown) != len(values):
        raise ModelError(f"{where} gives {len(values)} outputs, its ONNX form {len(shown)}")
    given = dict(zip((tensor.name for tensor in model.graph.input), feeds.values(), strict=True))
    final = [Activation(name, "output", name, value) for name, value in zip(shown, values, strict=True)]
    return checked(model, where, kind, given, final)
