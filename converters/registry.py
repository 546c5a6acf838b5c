"""The converters, and which one a source is for."""

from __future__ import annotations

import importlib
import inspect
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from onnx_lrp.errors import InputError, ModelError, suggest

from .conversion import HEAD, Conversion

__all__ = ["CONVERTERS", "Converter", "convert", "find"]


@dataclass(frozen=True)
class Converter:
    """One source format, in a module of this package that is imported when it is needed.

    The module has two functions: `recognise(path, head) -> bool` tells by the content (its first bytes, `head`; empty for a folder and for
    module:function) whether a path is of this format, and `convert(path, *, ...) -> Conversion` converts it; its keyword-only arguments
    are the options.
    """

    name: str
    title: str
    """What to call it in messages."""
    module: str

    def recognise(self, path: Path, head: bytes) -> bool:
        """Whether a source is of this format."""
        return bool(self._module().recognise(path, head))

    def convert(self, path: Path, **options: Any) -> Conversion:
        """Convert a source.

        Raises:
            InputError: An option that this converter does not take.
            ModelError: The source is broken, or has what ONNX or this converter cannot express.
        """
        known = self.options()
        for option in options:
            if option not in known:
                takes = ", ".join(known) or "none"
                raise InputError(f"a source of {self.title} takes no option {option!r}; the options for it: {takes}")
        conversion: Conversion = self._module().convert(path, **options)
        return conversion

    def options(self) -> list[str]:
        """The names of the options that `convert` takes."""
        parameters = inspect.signature(self._module().convert).parameters.values()
        return [parameter.name for parameter in parameters if parameter.kind is parameter.KEYWORD_ONLY]

    def _module(self) -> Any:
        return importlib.import_module(f"{__package__}.{self.module}")


CONVERTERS: Final[dict[str, Converter]] = {
    converter.name: converter
    for converter in (
        Converter("pytorch", "PyTorch", "pytorch"),  # before lrp_toolbox, whose pickles look like any other
        Converter("lrp_toolbox", "lrp_toolbox", "lrp_toolbox"),
        Converter("caffe", "Caffe", "caffe"),
        Converter("keras", "Keras", "keras"),
    )
}
"""By name, in the order in which they are asked whether they recognise a source."""


def find(source: str | os.PathLike[str], kind: str | None = None) -> Converter:
    """Look up the converter for a source.

    Args:
        source: A file or a folder.
        kind: A key of `CONVERTERS`; None: whichever recognises the source by its content.

    Raises:
        InputError: There is no converter of this name.
        ModelError: The source is missing, or no converter recognises it.
    """
    path = Path(source)
    if kind is not None and kind not in CONVERTERS:
        raise InputError(f"unknown kind of source {kind!r}{suggest(kind, CONVERTERS)}")
    head = _head(path)
    if kind is not None:
        return CONVERTERS[kind]
    for converter in CONVERTERS.values():
        if converter.recognise(path, head):
            return converter
    known = ", ".join(converter.title for converter in CONVERTERS.values())
    hint = " (an ONNX model needs no conversion)" if path.suffix == ".onnx" else ""
    raise ModelError(f"{path} is not recognised as a model of {known}{hint}")


def convert(source: str | os.PathLike[str], kind: str | None = None, **options: Any) -> Conversion:
    """Turn a model of another framework or an old format into ONNX, and compare both on the same input.

    Args:
        source: A file or a folder.
        kind: A key of `CONVERTERS`; None: whichever recognises the source by its content.
        **options: Those of the converter, see `Converter.options`.

    Returns:
        The checked model with a report. Nothing is written; see `Conversion.save`.

    Raises:
        InputError: An unknown kind or option.
        ModelError: The source is missing, broken, or not recognised; it has what cannot be converted; or the two models differ.
    """
    return find(source, kind).convert(Path(source), **options)


def _head(path: Path) -> bytes:
    """The first bytes of a file."""
    if path.is_dir() or (":" in path.name and not path.exists()):  # a folder, or module:function
        return b""
    try:
        with path.open("rb") as file:
            head = file.read(HEAD)
    except FileNotFoundError:
        raise ModelError(f"no such file: {path}") from None
    except OSError as error:
        raise ModelError(f"cannot read {path}: {error.strerror or error}") from None
    if not head:
        raise ModelError(f"{path} is empty")
    return head
