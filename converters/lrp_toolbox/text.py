"""The plain text format of lrp_toolbox, in all the ways it has been written.

A header line for each layer (`Linear m n`, `Convolution h w d n s0 s1`, `SumPool h w s0 s1`, `MaxPool h w s0 s1`, `Rect`, `Tanh`,
`SoftMax`, `Flatten`); for the first two then a line with all weights in C order and one with the biases. Up to version 1.1.0 the weights
of a Linear were m lines of n numbers. The reader also takes Windows line ends, trailing blanks, a missing last line end, a byte order
mark, and the `np.float64(...)` that NumPy 2 makes of numbers. It believes no header: what a header promises is counted first.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from numpy.typing import NDArray

from onnx_lrp.errors import ModelError

from .layers import KINDS, Convolution, Layer, Linear, MaxPool, SumPool, build

if TYPE_CHECKING:
    Array = NDArray[Any]

__all__ = ["HEADER", "read", "write"]

HEADER: Final = re.compile(rb"(\xef\xbb\xbf)?\s*(" + "|".join(KINDS).encode() + rb")(\s[\d\s]*)?$")
"""The first line of a file."""
_LENGTHS: Final = {"Linear": 2, "Convolution": 6, "SumPool": 4, "MaxPool": 4}
_NUMPY: Final = re.compile(r"np\.float\d+\(([^()]*)\)")


def read(data: bytes, where: str) -> list[Layer]:
    """Read a file's content.

    Args:
        data: The bytes.
        where: The file's name, for messages.

    Raises:
        ModelError: The text is not in the format; the message has the number of the line.
    """
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError:
        raise ModelError(f"{where} is not a text file") from None
    lines = _Lines(text, where)
    layers: list[Layer] = []
    while lines:
        layers.append(_layer(lines))
    if not layers:
        raise ModelError(f"{where} has no layers")
    return layers


def _layer(lines: _Lines) -> Layer:
    header = lines.take("a layer")
    place = lines.place
    kind, *given = header.split() or [""]
    if not kind:
        raise ModelError(f"{place}: an empty line within the model (an exporter writes one for a layer that it cannot express)")
    expected = _LENGTHS.get(kind, 0)
    if kind not in KINDS:
        return build(kind, {}, place)  # says what is wrong
    if len(given) != expected or not all(map(_is_length, given)):
        raise ModelError(f"{place}: {kind} is followed by {expected} whole numbers above 0, not by {' '.join(given)[:60]!r}")
    numbers = [int(word) for word in given]
    if kind == "Linear":
        m, n = numbers
        weight = _weights(lines, m, n)
        return build(kind, {"W": weight, "B": lines.numbers(n, "biases")}, place)
    if kind == "Convolution":
        shape, stride = numbers[:4], numbers[4:]
        total = shape[0] * shape[1] * shape[2] * shape[3]
        weight = lines.numbers(total, "weights").reshape(shape)
        return build(kind, {"W": weight, "B": lines.numbers(shape[3], "biases"), "stride": stride}, place)
    return build(kind, {"pool": numbers[:2], "stride": numbers[2:]}, place)


def _weights(lines: _Lines, m: int, n: int) -> Array:
    """One line of m * n numbers, or, in the format of old, m lines of n."""
    if m > 1 and lines.count() == n:
        rows = []
        for _ in range(m):  # ends with the file's last line at the latest
            rows.append(lines.numbers(n, "weights"))  # noqa: PERF401 - a header may promise more lines than memory holds
        return np.stack(rows)
    return lines.numbers(m * n, "weights").reshape(m, n)


class _Lines:
    """A cursor over the lines of a text; blank lines at the end are left out."""

    def __init__(self, text: str, where: str):
        self._lines = text.rstrip().split("\n")
        self._next = 0
        self._where = where

    def __bool__(self) -> bool:
        return self._next < len(self._lines) and self._lines != [""]

    @property
    def place(self) -> str:
        """Where the line is that was taken last."""
        return f"{self._where}, line {self._next}"

    def take(self, what: str) -> str:
        """The next line."""
        if not self:
            raise ModelError(f"{self._where} ends after line {self._next}, where {what} should follow")
        self._next += 1
        return self._lines[self._next - 1].strip()

    def count(self) -> int:
        """How many words the next line has."""
        return len(self._lines[self._next].split()) if self else 0

    def numbers(self, count: int, what: str) -> Array:
        """The numbers of the next line."""
        words = _NUMPY.sub(r"\1", self.take(f"a line of {count} {what}")).split()
        if len(words) != count:
            raise ModelError(f"{self.place}: {count} {what} are expected here, not {len(words)}")
        try:
            return np.fromiter(map(_number, words), np.float64, count)
        except ValueError as error:
            raise ModelError(f"{self.place}: {error}") from None


def _is_length(word: str) -> bool:
    return len(word) <= 10 and word.isascii() and word.isdigit() and 0 < int(word) < 2**31


def _number(word: str) -> float:
    if "_" not in word:
        try:
            return float(word)
        except ValueError:
            pass
    raise ValueError(f"{word[:40]!r} is not a number")


def write(layers: Sequence[Layer]) -> str:
    """The text for a model: each number as short as its float32 value allows, blanks between, a line end at the end."""
    return "".join(f"{line}\n" for layer in layers for line in _lines_of(layer))


def _lines_of(layer: Layer) -> list[str]:
    if isinstance(layer, Linear | Convolution):
        sizes = [*layer.weight.shape, *(layer.stride if isinstance(layer, Convolution) else ())]
        return [_header(layer, sizes), _joined(layer.weight), _joined(layer.bias)]
    return [_header(layer, [*layer.pool, *layer.stride] if isinstance(layer, SumPool | MaxPool) else [])]


def _header(layer: Layer, sizes: Sequence[int]) -> str:
    return " ".join([layer.kind, *map(str, sizes)])


def _joined(values: Array) -> str:
    return " ".join(map(str, values.astype(np.float32).ravel()))
