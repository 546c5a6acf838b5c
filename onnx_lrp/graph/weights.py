"""Reading a model's weights straight into arrays.

Protobuf copies a model three times on the way from file to NumPy. Here the file is walked once: large `raw_data` of the graph's
initialisers is read into arrays, and only what remains is given to protobuf. The layout of the fields is that of onnx.proto.
"""

from __future__ import annotations

from collections.abc import Iterator
from io import BufferedIOBase
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray
from onnx import ModelProto

LARGE = 4096
"""Weights of fewer bytes are left to protobuf."""

Raw: TypeAlias = "dict[int, NDArray[Any]]"
"""The bytes of large initialisers, by their position in the graph."""

_GRAPH, _INITIALIZER, _RAW_DATA = 7, 5, 9  # in ModelProto, GraphProto, TensorProto
_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5  # protobuf's wire types


class BrokenError(ValueError):
    """The bytes are no protobuf message."""


def parse_model(file: BufferedIOBase, size: int) -> tuple[ModelProto, Raw]:
    """Parses a model from a file.

    Args:
        file: an open file, at its beginning.
        size: its length in bytes.

    Returns:
        The model, and the bytes of its large initialisers, whose `raw_data` is left out of the model.

    Raises:
        ValueError, google.protobuf.message.DecodeError: the file is cut off or no protobuf message.
    """
    light = bytearray()
    weights: list[NDArray[Any] | None] = []
    for number, wire, start, end in _fields(file, size):
        if (number, wire) == (_GRAPH, _BYTES):
            graph, found = _graph(file, end)
            light += _framed(_GRAPH, graph)
            weights += found  # a message in two parts is one
        else:
            light += _copy(file, start, end)
    model = ModelProto()
    model.ParseFromString(bytes(light))
    return model, {index: raw for index, raw in enumerate(weights) if raw is not None}


def _graph(file: BufferedIOBase, end: int) -> tuple[bytearray, list[NDArray[Any] | None]]:
    """A GraphProto's bytes without large raw_data, and each initialiser's raw_data where it was large."""
    light = bytearray()
    weights = []
    for number, wire, start, stop in _fields(file, end):
        if (number, wire) == (_INITIALIZER, _BYTES):
            tensor, raw = _tensor(file, stop)
            light += _framed(_INITIALIZER, tensor)
            weights.append(raw)
        else:
            light += _copy(file, start, stop)
    return light, weights


def _fields(file: BufferedIOBase, end: int) -> Iterator[tuple[int, int, int, int]]:
    """Each field up to `end`: number, wire type, where it starts and ends. The file stands at the field's content when it is yielded."""
    while (start := file.tell()) < end:
        tag = _varint(file)
        wire = tag & 7
        if wire == _VARINT:
            _varint(file)
            length = 0
        elif wire == _BYTES:
            length = _varint(file)
        elif wire in (_FIXED32, _FIXED64):
            length = 4 if wire == _FIXED32 else 8
        else:
            raise BrokenError
        stop = file.tell() + length
        if stop > end:
            raise BrokenError
        yield tag >> 3, wire, start, stop
        file.seek(stop)


def _tensor(file: BufferedIOBase, end: int) -> tuple[bytearray, NDArray[Any] | None]:
    """A TensorProto's bytes without its raw_data where that is large, and the raw_data."""
    light, raw = bytearray(), None
    for number, wire, start, stop in _fields(file, end):
        content = file.tell()
        if (number, wire) == (_RAW_DATA, _BYTES) and stop - content >= LARGE:
            raw = np.empty(stop - content, np.uint8)
            if file.readinto(raw.data) != len(raw):
                raise BrokenError
        else:
            light += _copy(file, start, stop)
            raw = None if number == _RAW_DATA else raw  # the last one counts
    return light, raw


def _copy(file: BufferedIOBase, start: int, end: int) -> bytes:
    file.seek(start)
    data = file.read(end - start)
    if len(data) != end - start:
        raise BrokenError
    return data


def _varint(file: BufferedIOBase) -> int:
    value = 0
    for shift in range(0, 70, 7):
        byte = file.read(1)
        if not byte:
            raise BrokenError
        value |= (byte[0] & 127) << shift
        if byte[0] < 128:
            return value
    raise BrokenError


def _framed(number: int, content: bytearray) -> bytes:
    """A field of bytes: tag, length, content."""
    length, size = bytearray(), len(content)
    while size > 127:
        length.append(size & 127 | 128)
        size >>= 7
    return bytes([number << 3 | _BYTES]) + bytes(length) + bytes([size]) + bytes(content)
