"""What lets the command line start sooner.

Newer versions of typer check every value, also one that was not given, by pydantic, and importing it takes as long as explaining a picture
with a small network. Here plain values are taken as they are; what is not plainly right goes typer's way, which then says what is wrong.
"""

import os
import sys
from collections.abc import Iterable
from enum import Enum
from pathlib import Path
from typing import Any

__all__ = ["load_numpy", "take_plain_values"]


def load_numpy() -> None:
    """Imports NumPy with one thread for linear algebra, of which an explanation does none: ending the others takes up to 50 ms."""
    name = "OPENBLAS_NUM_THREADS"
    if "numpy" in sys.modules or name in os.environ:
        return
    os.environ[name] = "1"
    import numpy as np  # noqa: F401

    del os.environ[name]  # it is read when NumPy is loaded; programs that are called shall not have it


def take_plain_values(parameters: Iterable[Any]) -> None:
    """Let the parameters of a command take plain values as they are."""
    for parameter in parameters:
        if hasattr(parameter, "_runtime_param") and hasattr(parameter, "type_descriptor"):
            parameter._runtime_param = _Plain()  # noqa: SLF001 - where typer keeps what checks the values


class _Plain:
    """Stands in for typer's check until a value needs it."""

    def coerce(self, value: Any, param: Any, ctx: Any) -> Any:
        """The value that the command is called with."""
        several = param.multiple or param.nargs == -1
        if value is None:
            return () if several else None
        kind = param.type_descriptor
        try:
            return _several(value, kind.annotation) if several else _one(value, kind.annotation, kind.parameter_info)
        except ValueError:
            param._runtime_param = None  # noqa: SLF001
            return param.get_runtime_param().coerce(value, param=param, ctx=ctx)


def _several(value: Any, kind: Any) -> list[str]:
    if kind == list[str] and isinstance(value, (list, tuple)) and all(isinstance(item, str) for item in value):
        return list(value)
    raise ValueError


def _one(value: Any, kind: Any, limits: Any) -> Any:
    if not isinstance(kind, type):
        raise ValueError  # noqa: TRY004 - not a wrong value: one that is left to typer
    if isinstance(value, kind):
        return value
    if not isinstance(value, str):
        raise ValueError  # noqa: TRY004
    if kind is Path and not (limits.exists or limits.resolve_path) and (os.access(value, os.R_OK) or not Path(value).exists()):
        return Path(value)
    if issubclass(kind, Enum):
        return kind(value)
    if kind is int and value.isascii() and value.isdigit():
        number = int(value)
        if (limits.min is None or limits.min <= number) and (limits.max is None or number <= limits.max):
            return number
    raise ValueError
