"""lrp_toolbox models that MATLAB saved as objects (`.mat`).

MATLAB keeps an object's class and property names apart from the property values: the variable is only a reference, and a nameless byte
array at the end of the file holds a table ("metadata") and a cell array with the values. The table has six segments; the first lists the
classes, the third the objects, the fourth each object's properties.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import numpy as np
from numpy.typing import NDArray

from onnx_lrp.errors import ModelError

from .layers import Layer, build
from .matfile import Opaque, variables, workspace

if TYPE_CHECKING:
    Array = NDArray[Any]

__all__ = ["read"]

_REFERENCE: Final = 0xDD000000
_IN_CELL: Final = 1
"""How the table marks a property whose value is in the cell array."""
_SEGMENTS: Final = 40
"""Where the names start, after the numbers of version and names and the six offsets."""


def read(data: bytes, where: str) -> list[Layer]:
    """Read a file's content.

    Args:
        data: The bytes.
        where: The file's name, for messages.

    Raises:
        ModelError: The file is damaged, or its first variable is no lrp_toolbox model.
    """
    try:
        found = variables(data)
        model = next((variable for variable in found if isinstance(variable.value, Opaque)), None)
        if model is None:
            raise ModelError(f"{where}: no variable is an object; lrp_toolbox saves a model as one of class modules.Sequential")
        store = next(variable.value for variable in reversed(found) if isinstance(variable.value, np.ndarray) and not variable.name)
        table = _Table(workspace(store.astype(np.uint8).tobytes()).value["MCOS"].content)
        kind, values = table.resolved(model.value.content)
        modules = values.get("modules")
        if kind != "Sequential" or not isinstance(modules, list) or not modules:
            raise ModelError(f"{where}: the variable {model.name!r} is of class {model.value.kind}, not an lrp_toolbox model with layers")
        return [_layer(table, module, f"{where}, layer {index}") for index, module in enumerate(modules, 1)]
    except (ValueError, IndexError, KeyError, TypeError, AttributeError, OverflowError, StopIteration, RecursionError) as error:
        reason = " ".join(str(error).split())[:120]
        raise ModelError(f"{where}: the MAT file is damaged or cut off ({type(error).__name__}: {reason})") from None


def _layer(table: _Table, reference: Any, where: str) -> Layer:
    kind, values = table.resolved(reference)
    if kind == "Convolution" and isinstance(values.get("W"), np.ndarray):
        values["W"] = _with_axes(values["W"], 4)  # MATLAB drops axes of length 1 at the end
    return build(kind, values, f"{where} ({kind})")


def _with_axes(array: Array, axes: int) -> Array:
    return array.reshape(array.shape + (1,) * (axes - array.ndim))


class _Table:
    """The objects of a file: their classes and properties."""

    def __init__(self, cells: Any):
        self._cells: list[Any] = cells
        self._data = cells[0].astype(np.uint8).tobytes()
        self._words = np.frombuffer(self._data[: len(self._data) // 4 * 4], "<u4")
        names, self._offsets = int(self._words[1]), [int(offset) for offset in self._words[2:8]]
        self._names = [""] + [name.decode("ascii") for name in self._data[_SEGMENTS : self._offsets[0]].split(b"\0")[:names]]
        self._classes = self._segment(0).reshape(-1, 4)
        self._objects = self._segment(2).reshape(-1, 6)
        self._properties = self._read_properties()

    def _segment(self, index: int) -> Array:
        return self._words[self._offsets[index] // 4 : self._offsets[index + 1] // 4]

    def _read_properties(self) -> list[Array]:
        """For each entry of the fourth segment its rows of name, place and value; two zeros come first, and each is padded to 8 bytes."""
        words, start, found = self._segment(3), 2, [np.zeros((0, 3), np.uint32)]
        while start < len(words):
            end = start + 1 + 3 * int(words[start])
            found.append(words[start + 1 : end].reshape(-1, 3))
            start = end + end % 2
        return found

    def resolved(self, reference: Any) -> tuple[str, dict[str, Any]]:
        """The class and the property values of the object that a reference names."""
        words = [int(word) for word in np.ravel(reference.content if isinstance(reference, Opaque) else reference)[:6]]
        if len(words) < 6 or words[0] != _REFERENCE:
            raise ValueError("a reference to an object is broken")
        class_index, *_, entry, _ = (int(word) for word in self._objects[words[4]])
        name = self._names[int(self._classes[class_index][1])]
        rows = [[int(word) for word in row] for row in self._properties[entry]]
        return name, {self._names[key]: self._cells[2 + value] for key, place, value in rows if place == _IN_CELL}
