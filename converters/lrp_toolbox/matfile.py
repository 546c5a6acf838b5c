"""MATLAB's MAT files of version 5: as much of the format as a saved lrp_toolbox model needs.

A file is a header of 128 bytes and then elements, each with a type and a length; the arrays among them may be compressed. No size is
believed before the bytes for it are there.
"""

from __future__ import annotations

import struct
import zlib
from dataclasses import dataclass
from math import prod
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    Array = NDArray[Any]

__all__ = ["HEADER", "Opaque", "Variable", "variables", "workspace"]

HEADER: Final = b"MATLAB 5.0 MAT-file"
_START: Final = 128
_MATRIX, _COMPRESSED = 14, 15
_NUMBERS: Final = {1: "i1", 2: "u1", 3: "i2", 4: "u2", 5: "i4", 6: "u4", 7: "f4", 9: "f8", 12: "i8", 13: "u8"}
_CELL, _STRUCT, _CHAR, _OPAQUE = 1, 2, 4, 17
_NUMERIC: Final = range(6, 16)
_DEPTH: Final = 20
_INFLATED: Final = (16 * 2**20, 200)
"""The compressed parts of a file may become this many bytes, plus this many times the file's size: weights do not shrink further."""


@dataclass(frozen=True)
class Opaque:
    """An object of MATLAB's class system: a name and what is stored here for it."""

    kind: str
    content: Any


@dataclass(frozen=True)
class Variable:
    """A named array, cell array (a list of its cells, column by column), structure (a dict), object, or None for other classes."""

    name: str
    value: Any


def variables(data: bytes) -> list[Variable]:
    """The variables of a file, in order.

    Raises:
        ValueError: The data is not in the format, or cut off.
    """
    if not data.startswith(HEADER) or len(data) < _START:
        raise ValueError("no header")
    reader = _Reader(data[_START:], _order(data[126:128]))
    base, factor = _INFLATED
    left = base + factor * len(data)
    found: list[Variable] = []
    while reader:
        start = reader.start
        kind, content = reader.element()
        if kind == _COMPRESSED:
            plain = _inflated(content, left)
            left -= len(plain)
        else:
            plain = bytes(reader.data[start : reader.start])
        found.extend(_matrices(_Reader(plain, reader.order)))
    return found


def workspace(data: bytes) -> Variable:
    """The variable inside the nameless byte array in which MATLAB keeps the parts of objects.

    Raises:
        ValueError: The data is not in the format, or cut off.
    """
    return next(_matrices(_Reader(data[8:], _order(data[2:4]))), Variable("", None))


def _order(mark: bytes) -> str:
    if mark not in (b"IM", b"MI"):
        raise ValueError("no mark of the byte order")
    return "<" if mark == b"IM" else ">"


class _Reader:
    """A cursor over elements."""

    def __init__(self, data: bytes, order: str):
        self.data = memoryview(data)
        self.order = order
        self.start = 0

    def __bool__(self) -> bool:
        return len(self.data) - self.start >= 8

    @property
    def left(self) -> int:
        return len(self.data) - self.start

    def element(self) -> tuple[int, bytes]:
        """The next element: its type and its bytes."""
        if not self:
            raise ValueError("cut off")
        kind, length = struct.unpack_from(f"{self.order}II", self.data, self.start)
        if kind >> 16:  # up to four bytes stand within the tag
            kind, length = kind & 0xFFFF, kind >> 16
            if length > 4:
                raise ValueError("a short element is too long")
            content = bytes(self.data[self.start + 4 : self.start + 4 + length])
            self.start += 8
            return kind, content
        begin = self.start + 8
        if length > len(self.data) - begin:
            raise ValueError("cut off")
        self.start = begin + length + (0 if kind == _COMPRESSED else -length % 8)
        return kind, bytes(self.data[begin : begin + length])

    def numbers(self) -> Array:
        """The next element as numbers."""
        kind, content = self.element()
        if kind not in _NUMBERS:
            raise ValueError(f"an element of type {kind} where numbers should be")
        return np.frombuffer(content, self.order + _NUMBERS[kind])

    def text(self) -> str:
        """The next element as ASCII."""
        return self.element()[1].rstrip(b"\0").decode("ascii")


def _matrices(reader: _Reader, depth: int = 0) -> Any:
    """The arrays of a reader one by one, each as a variable."""
    if depth > _DEPTH:
        raise ValueError("nested too deeply")
    while reader:
        kind, content = reader.element()
        if kind != _MATRIX:
            raise ValueError(f"an element of type {kind} where an array should be")
        yield _matrix(_Reader(content, reader.order), depth) if content else Variable("", np.zeros((0, 0)))


def _inflated(content: bytes, limit: int) -> bytes:
    if limit < 1:
        raise ValueError("compressed data that is far too large")
    machine = zlib.decompressobj()
    try:
        data = machine.decompress(content, limit)
    except zlib.error as error:
        raise ValueError(str(error)) from None
    if machine.unconsumed_tail or not machine.eof:
        raise ValueError("compressed data that is cut off or far too large")
    return data


def _matrix(reader: _Reader, depth: int) -> Variable:
    flags = int(reader.numbers()[0])
    kind = flags & 0xFF
    if kind == _OPAQUE:
        name, _, word = reader.text(), reader.text(), reader.text()
        return Variable(name, Opaque(word, next(_matrices(reader, depth + 1), Variable("", None)).value))
    shape = [int(length) for length in reader.numbers()]
    name = reader.text()
    if not shape or min(shape) < 0:
        raise ValueError(f"an array of shape {shape[:8]}")
    if kind == _CELL:
        return Variable(name, _several(reader, prod(shape), depth))
    if kind == _STRUCT and prod(shape) == 1:
        length = int(reader.numbers()[0])
        names = reader.element()[1]
        fields = [names[start : start + length].split(b"\0")[0].decode("ascii") for start in range(0, len(names), max(length, 1))]
        return Variable(name, dict(zip(fields, _several(reader, len(fields), depth), strict=True)))
    if kind in _NUMERIC:
        return Variable(name, reader.numbers().reshape(shape, order="F"))
    return Variable(name, None)  # text, functions: nothing that a model needs


def _several(reader: _Reader, count: int, depth: int) -> list[Any]:
    if count * 8 > reader.left:
        raise ValueError("cut off")
    found = [variable.value for variable in _matrices(reader, depth + 1)]
    if len(found) != count:
        raise ValueError(f"{count} cells are promised, {len(found)} are there")
    return found
