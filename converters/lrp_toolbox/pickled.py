"""Pickled lrp_toolbox models (`.nn`), read without running anything that is in them.

A pickle is a program that can call whatever Python can import. This reader does not run it: it goes through the instructions as data and
carries out only those that a model needs. A name such as `modules.linear.Linear` becomes a plain record, never a class; the few calls
that rebuild NumPy arrays are done by functions of this file; every other name is refused. All sizes come from the data that is there.
"""

from __future__ import annotations

import pickletools
import re
import warnings
from dataclasses import dataclass, field
from typing import Any, Final, NamedTuple

import numpy as np

from onnx_lrp.errors import ModelError

from .layers import KINDS, Layer, build

__all__ = ["read"]

_PREFIXES: Final = tuple(f"numpy.{core}." for core in ("core", "_core"))  # before and from NumPy 2 on
_NUMERIC: Final = re.compile("[<>=|]?(f[248]|[iu][1248]|b1)")
_MARK: Final = object()
_VALUES: Final = {
    "INT", "BININT", "BININT1", "BININT2", "LONG", "LONG1", "LONG4", "FLOAT", "BINFLOAT", "STRING", "BINSTRING", "SHORT_BINSTRING",
    "UNICODE", "SHORT_BINUNICODE", "BINUNICODE", "BINUNICODE8", "BINBYTES", "SHORT_BINBYTES", "BINBYTES8", "BYTEARRAY8",
}  # fmt: skip
_PUTS: Final = {"PUT", "BINPUT", "LONG_BINPUT"}
_GETS: Final = {"GET", "BINGET", "LONG_BINGET"}
_CONSTANTS: Final[dict[str, Any]] = {"NONE": None, "NEWTRUE": True, "NEWFALSE": False, "EMPTY_TUPLE": ()}


class _RefusedError(Exception):
    """Something that no model of lrp_toolbox has."""


class _Name(NamedTuple):
    """A class or function that the pickle refers to, by name."""

    module: str
    name: str


@dataclass
class _Object:
    """An instance of one of lrp_toolbox's classes."""

    kind: str
    values: dict[Any, Any] = field(default_factory=dict)


@dataclass
class _Pending:
    """A NumPy dtype or array whose content the next BUILD instruction brings."""

    kind: str
    value: Any = None


def read(data: bytes, where: str) -> list[Layer]:
    """Read a file's content.

    Args:
        data: The bytes.
        where: The file's name, for messages.

    Raises:
        ModelError: The pickle is damaged, is no model of lrp_toolbox, or refers to something that such a model does not need.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of escapes in texts
            root = _Machine().run(data)
    except _RefusedError as error:
        raise ModelError(f"{where}: {error}; nothing of the file was run") from None
    except (ValueError, IndexError, KeyError, TypeError, OverflowError, UnicodeError, RecursionError, AttributeError) as error:
        reason = " ".join(str(error).split())[:120]
        raise ModelError(f"{where}: the pickle is damaged or cut off ({type(error).__name__}: {reason})") from None
    modules = root.values.get("modules") if isinstance(root, _Object) and root.kind == "Sequential" else None
    if not isinstance(modules, list) or not modules:
        raise ModelError(f"{where}: the pickle holds no lrp_toolbox model (a Sequential with modules)")
    layers = []
    for index, module in enumerate(modules, 1):
        if not isinstance(module, _Object):
            raise ModelError(f"{where}: module {index} is no layer")
        values = {name: _content(module.values.get(name)) for name in ("W", "B", "stride", "pool")}
        layers.append(build(module.kind, values, f"{where}, layer {index} ({module.kind})"))
    return layers


class _Machine:
    """The stack and the memo of a pickle, and the instructions that are carried out."""

    def __init__(self) -> None:
        self.stack: list[Any] = []
        self.memo: dict[int, Any] = {}

    def run(self, data: bytes) -> Any:
        """What the pickle describes."""
        argument: Any
        for opcode, argument, _ in pickletools.genops(data):
            name = opcode.name
            if name == "STOP":
                return self.stack.pop()
            if name in _VALUES:
                self.stack.append(argument)
            elif name in _CONSTANTS:
                self.stack.append(_CONSTANTS[name])
            elif name in _PUTS:
                self.memo[argument] = self.stack[-1]
            elif name in _GETS:
                self.stack.append(self.memo[argument])
            elif name not in ("PROTO", "FRAME"):
                step = getattr(self, f"_{name.lower()}", None)
                if step is None:
                    raise _RefusedError(f"the pickle has the instruction {name}, which no lrp_toolbox model needs")
                step(argument)
        raise ValueError("no end")

    def _marked(self) -> list[Any]:
        """Takes what lies above the last mark."""
        position = next((index for index in range(len(self.stack) - 1, -1, -1) if self.stack[index] is _MARK), None)
        if position is None:
            raise ValueError("no mark")
        values = self.stack[position + 1 :]
        del self.stack[position:]
        return values

    def _memoize(self, _: Any) -> None:
        self.memo[len(self.memo)] = self.stack[-1]

    def _mark(self, _: Any) -> None:
        self.stack.append(_MARK)

    def _pop(self, _: Any) -> None:
        self.stack.pop()

    def _empty_dict(self, _: Any) -> None:
        self.stack.append({})

    def _empty_list(self, _: Any) -> None:
        self.stack.append([])

    def _tuple(self, _: Any) -> None:
        self.stack.append(tuple(self._marked()))

    def _tuple1(self, _: Any) -> None:
        self._tuple_of(1)

    def _tuple2(self, _: Any) -> None:
        self._tuple_of(2)

    def _tuple3(self, _: Any) -> None:
        self._tuple_of(3)

    def _tuple_of(self, count: int) -> None:
        values = tuple(self.stack.pop() for _ in range(count))
        self.stack.append(values[::-1])

    def _append(self, _: Any) -> None:
        value = self.stack.pop()
        _expect(self.stack[-1], list).append(value)

    def _appends(self, _: Any) -> None:
        values = self._marked()
        _expect(self.stack[-1], list).extend(values)

    def _setitem(self, _: Any) -> None:
        value, key = self.stack.pop(), self.stack.pop()
        _expect(self.stack[-1], dict)[_expect(key, str)] = value  # hashing anything else could go deeper than the C stack

    def _setitems(self, _: Any) -> None:
        values = self._marked()
        keys = [_expect(key, str) for key in values[::2]]
        _expect(self.stack[-1], dict).update(zip(keys, values[1::2], strict=True))

    # names, instances and the few calls ---------------------------------------------------------------------------------

    def _global(self, argument: str) -> None:
        module, name = argument.split(" ", 1)
        self.stack.append(_allowed(module, name))

    def _stack_global(self, _: Any) -> None:
        name, module = self.stack.pop(), self.stack.pop()
        self.stack.append(_allowed(_expect(module, str), _expect(name, str)))

    def _obj(self, _: Any) -> None:
        kind, *arguments = self._marked()
        self.stack.append(_instance(kind, arguments))

    def _inst(self, argument: str) -> None:
        arguments = self._marked()
        module, name = argument.split(" ", 1)
        self.stack.append(_instance(_allowed(module, name), arguments))

    def _newobj(self, _: Any) -> None:
        arguments, kind = self.stack.pop(), self.stack.pop()
        self.stack.append(_instance(kind, arguments))

    def _reduce(self, _: Any) -> None:
        arguments, function = self.stack.pop(), self.stack.pop()
        self.stack.append(_called(_expect(function, _Name), _expect(arguments, tuple)))

    def _build(self, _: Any) -> None:
        state, target = self.stack.pop(), self.stack[-1]
        if isinstance(target, _Object):
            target.values.update(_expect(state, dict))
        else:
            _fill(_expect(target, _Pending), _expect(state, tuple))


def _expect(value: Any, kind: type) -> Any:
    if not isinstance(value, kind):
        raise TypeError(f"a {kind.__name__} is expected, not a {type(value).__name__}")
    return value


def _allowed(module: str, name: str) -> _Name:
    """A name that a model may refer to; lrp_toolbox's modules under one name, NumPy's without their package."""
    package, _, _ = module.partition(".")
    if package == "modules" and name in ("Sequential", "Module", *KINDS):
        return _Name("modules", name)
    if module == "numpy" and name in ("ndarray", "dtype"):
        return _Name("numpy", name)
    if module.startswith(_PREFIXES) and (module.rpartition(".")[2], name) in (
        ("multiarray", "_reconstruct"),
        ("multiarray", "scalar"),
        ("numeric", "_frombuffer"),
    ):
        return _Name("numpy", name)
    if (module, name) == ("_codecs", "encode"):
        return _Name(module, name)
    raise _RefusedError(f"the pickle refers to {module}.{name}, which no lrp_toolbox model needs"[:200])


def _instance(kind: Any, arguments: Any) -> _Object:
    if not isinstance(kind, _Name) or kind.module != "modules" or len(arguments):
        raise TypeError("an instance of something that is no layer")
    return _Object(kind.name)


def _called(function: _Name, arguments: tuple[Any, ...]) -> Any:
    """The result of the calls that rebuild arrays, numbers and bytes."""
    if function == ("_codecs", "encode"):  # bytes, as Python 3 writes them in protocol 2
        text, encoding = arguments
        if encoding != "latin1":
            raise _RefusedError(f"the pickle encodes text as {encoding!r}")
        return _expect(text, str).encode("latin1")
    if function == ("numpy", "dtype"):
        return _Pending("dtype", _dtype(arguments[0]))
    if function == ("numpy", "scalar"):
        dtype, raw = arguments
        return np.frombuffer(_bytes(raw), _finished(dtype), 1)[0]
    if function == ("numpy", "_reconstruct"):
        return _Pending("ndarray")
    if function == ("numpy", "_frombuffer"):
        raw, dtype, shape, order = arguments
        return _array(_bytes(raw), _finished(dtype), shape, fortran=order == "F")
    raise _RefusedError(f"the pickle calls {function.module}.{function.name}")


def _dtype(text: Any) -> np.dtype[Any]:
    """Numbers and booleans only: nothing that could hold an object."""
    if not isinstance(text, str) or not _NUMERIC.fullmatch(text):
        raise _RefusedError("the pickle has an array that is not of numbers")
    return np.dtype(text)


def _fill(pending: _Pending, state: tuple[Any, ...]) -> None:
    if pending.kind == "dtype":
        order = state[1]
        if order in ("<", ">"):
            pending.value = pending.value.newbyteorder(order)
        return
    _, shape, dtype, fortran, raw = state
    pending.value = _array(_bytes(raw), _finished(dtype), shape, fortran=bool(fortran))


def _finished(pending: Any) -> np.dtype[Any]:
    dtype: np.dtype[Any] = _expect(_expect(pending, _Pending).value, np.dtype)
    return dtype


def _content(value: Any) -> Any:
    return value.value if isinstance(value, _Pending) else value


def _bytes(raw: Any) -> bytes:
    return raw.encode("latin1") if isinstance(raw, str) else bytes(raw if isinstance(raw, bytearray) else _expect(raw, bytes))


def _array(raw: bytes, dtype: np.dtype[Any], shape: Any, *, fortran: bool) -> np.ndarray[Any, Any]:
    sizes = tuple(int(size) for size in _expect(shape, tuple))
    return np.frombuffer(raw, dtype).reshape(sizes, order="F" if fortran else "C")
