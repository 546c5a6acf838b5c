"""Weights that a model keeps in files beside it: mapped into memory instead of read, so that large models need no more than their size."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
from onnx import GraphProto, ModelProto, TensorProto

from onnx_lrp.graph.weights import LARGE, Raw
from onnx_lrp.tensors import Array

__all__ = ["FLOATS", "is_split", "load_external", "place_of"]

FLOATS = {TensorProto.FLOAT, TensorProto.FLOAT16, TensorProto.DOUBLE, TensorProto.BFLOAT16}
_ALIGNED = 64
"""onnxruntime reads weights where they are; data that starts elsewhere is copied."""


def is_split(graph: GraphProto) -> bool:
    """Whether any tensor of a graph, or of the graphs inside it, has its data in another file."""
    if any(tensor.data_location == TensorProto.EXTERNAL for tensor in graph.initializer):
        return True
    attributes = [attribute for node in graph.node for attribute in node.attribute]
    return any(
        attribute.t.data_location == TensorProto.EXTERNAL or (attribute.HasField("g") and is_split(attribute.g)) for attribute in attributes
    )


def load_external(model: ModelProto, folder: Path) -> Raw:
    """Maps the large initialisers of a model, and reads its other tensors that are in files into it.

    Args:
        model: is changed: none of its tensors has its data elsewhere after that, and the large initialisers have none.
        folder: the folder of the model's file; the other files are within it.

    Returns:
        The bytes of the large initialisers, by their position in the graph, read-only.

    Raises:
        OSError, ValueError, onnx.checker.ValidationError: a file is missing, too short, or outside the folder.
    """
    raw: Raw = {}
    for index, tensor in enumerate(model.graph.initializer):
        if tensor.data_location != TensorProto.EXTERNAL or tensor.data_type not in FLOATS:
            continue
        place = {entry.key: entry.value for entry in tensor.external_data}
        path, offset = folder / place.get("location", ""), int(place.get("offset") or 0)
        # onnx tells what is wrong with other files, such as one outside of the folder
        if path.resolve().parent != folder.resolve() or path.is_symlink() or not path.is_file():
            continue
        length = int(place.get("length") or path.stat().st_size - offset)
        if length < LARGE or offset < 0:
            continue
        if length != _size(tensor):
            raise ValueError(f"{tensor.name!r} has {length} bytes in {path.name}, its shape and type need {_size(tensor)}")
        if offset + length > path.stat().st_size:
            raise ValueError(f"{path.name} is cut off: {tensor.name!r} ends behind its end")
        raw[index] = _mapped(path, offset, length)
        tensor.ClearField("external_data")
        tensor.ClearField("data_location")
    onnx.load_external_data_for_model(model, str(folder))
    return raw


def place_of(value: Array) -> tuple[Path, int] | None:
    """The file that an array is mapped from, and where its data starts there; None if it is not mapped, or not laid out as there."""
    root, data = value, value
    while isinstance(root.base, np.ndarray):
        root = root.base
    if not isinstance(root, np.memmap) or root.filename is None or not data.flags.c_contiguous:
        return None
    return Path(root.filename), root.offset + data.ctypes.data - root.ctypes.data


def _size(tensor: TensorProto) -> int:
    return int(np.prod(tensor.dims, dtype=np.int64)) * np.dtype(onnx.helper.tensor_dtype_to_np_dtype(tensor.data_type)).itemsize


def _mapped(path: Path, offset: int, length: int) -> Array:
    if offset % _ALIGNED:
        return np.fromfile(path, np.uint8, length, offset=offset)
    return np.memmap(path, np.uint8, "r", offset, (length,))
