"""Explains many damaged copies of a model, in an interpreter of its own: each must work or be refused as a broken model.

    python mutations.py MODEL COUNT SHAPE [FIRST]

Prints the number and kind of each mutation before it tries it, so that one that kills or hangs the interpreter is known.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np

import onnx_lrp

Field = tuple[int, int, bytes]
"""Number, wire type and payload (for lengths of the wire type 2 without the length itself)."""


def _varint(data: bytes, start: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = data[start]
        value |= (byte & 0x7F) << shift
        start, shift = start + 1, shift + 7
        if byte < 0x80:
            return value, start
        if shift > 63:
            raise ValueError("no varint")


def _to_varint(value: int) -> bytes:
    parts = []
    while value > 0x7F:
        parts.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*parts, value])


def parse(data: bytes) -> list[Field]:
    """The fields of a protobuf message; ValueError or IndexError when it is none."""
    fields, start = [], 0
    while start < len(data):
        key, start = _varint(data, start)
        number, wire = key >> 3, key & 7
        if not number or wire not in (0, 1, 2, 5):
            raise ValueError("no field")
        if wire == 0:
            _, end = _varint(data, start)
        elif wire == 2:
            length, start = _varint(data, start)
            end = start + length
        else:
            end = start + (8 if wire == 1 else 4)
        if end > len(data):
            raise ValueError("cut off")
        fields.append((number, wire, data[start:end]))
        start = end
    return fields


def serialise(fields: list[Field]) -> bytes:
    return b"".join(
        _to_varint(number << 3 | wire) + (_to_varint(len(payload)) if wire == 2 else b"") + payload for number, wire, payload in fields
    )


def change_field(data: bytes, rng: np.random.Generator, depth: int = 5) -> bytes:
    """Removes, doubles, moves or replaces a field somewhere in the tree of messages."""
    fields = parse(data)
    index = int(rng.integers(len(fields)))
    number, wire, payload = fields[index]
    if wire == 2 and depth and len(payload) > 1 and rng.random() < 0.85:
        try:
            fields[index] = (number, wire, change_field(payload, rng, depth - 1))
            return serialise(fields)
        except (ValueError, IndexError):
            pass  # a string or packed numbers
    action = rng.integers(4)
    if action == 0:
        del fields[index]
    elif action == 1:
        fields.insert(int(rng.integers(len(fields) + 1)), fields[index])
    elif action == 2:
        fields.insert(int(rng.integers(len(fields))), fields.pop(index))
    elif wire == 0:
        fields[index] = (number, 0, _to_varint(int(rng.choice([0, 1, 2, 3, 7, 16, 255, 2**31, 2**40, 2**63, 2**64 - 1]))))
    else:
        other = fields[int(rng.integers(len(fields)))]
        fields[index] = (number, wire, other[2]) if other[1] == wire else fields[index]
    return serialise(fields)


def _positions(data: bytes, rng: np.random.Generator, count: int) -> list[int]:
    return [int(position) for position in rng.integers(len(data), size=count)]


def flip(data: bytes, rng: np.random.Generator) -> bytes:
    changed = bytearray(data)
    for position in _positions(data, rng, int(rng.integers(1, 5))):
        changed[position] ^= 1 << int(rng.integers(8))
    return bytes(changed)


def overwrite(data: bytes, rng: np.random.Generator) -> bytes:
    changed = bytearray(data)
    for position in _positions(data, rng, int(rng.integers(1, 9))):
        changed[position] = int(rng.choice([0, 1, 0x7F, 0x80, 0xFF, int(rng.integers(256))]))
    return bytes(changed)


def cut(data: bytes, rng: np.random.Generator) -> bytes:
    start, end = sorted(_positions(data, rng, 2))
    return data[:start] if rng.random() < 0.3 else data[:start] + data[min(end, start + 64) :]


def insert(data: bytes, rng: np.random.Generator) -> bytes:
    position = _positions(data, rng, 1)[0]
    return data[:position] + rng.bytes(int(rng.integers(1, 20))) + data[position:]


def repeat(data: bytes, rng: np.random.Generator) -> bytes:
    start, end = sorted(_positions(data, rng, 2))
    return data[:end] + data[start : min(end, start + 100)] + data[end:]


MUTATIONS: list[Callable[[bytes, np.random.Generator], bytes]]
MUTATIONS = [change_field, flip, change_field, overwrite, cut, change_field, insert, repeat]


def main(path: str, count: int, shape: tuple[int, ...], first: int = 0) -> None:
    data = Path(path).read_bytes()
    x = np.random.default_rng(0).random(shape).astype(np.float32)
    for number in range(first, first + count):
        rng = np.random.default_rng(number)
        mutation = MUTATIONS[number % len(MUTATIONS)]
        print(number, mutation.__name__, end=" ", flush=True)
        damaged = mutation(data, rng)
        try:
            relevance = onnx_lrp.Explainer(damaged, providers="cpu", threads=1).explain(x).relevance
        except onnx_lrp.OnnxLrpError as error:
            if "\n" in str(error) or not str(error):
                raise
            print(type(error).__name__, error, flush=True)
            continue
        relevances = relevance if isinstance(relevance, dict) else {"x": relevance}
        assert all(value.shape == x.shape and np.isfinite(value).all() for value in relevances.values()), "the relevance is wrong"
        print("works", flush=True)
    print("end", flush=True)


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), tuple(int(length) for length in sys.argv[3].split(",")), *map(int, sys.argv[4:]))
