"""Writing: folders that are made when the first file is, files that appear whole or not at all."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import IO, TYPE_CHECKING

from onnx_lrp.commands.background import Background
from onnx_lrp.errors import WriteError
from onnx_lrp.image import atomic_write
from onnx_lrp.saving import array_writer
from onnx_lrp.streams import ExplanationFile

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from PIL.Image import Image

    from onnx_lrp.graph import Array

__all__ = ["Folder"]


class Folder:
    """Where files go.

    Args:
        path: The folder; it is made with the first file.
        kept: Files that must not be written over.

    Raises:
        WriteError: No file can be written there.
    """

    def __init__(self, path: Path, kept: Iterable[Path] = ()):
        self.path = path
        self.count = 0
        """How many files were written."""
        self._names: set[str] = set()
        self._kept = {os.path.realpath(file) for file in kept}  # as texts: there may be many
        nearest = next(folder for folder in (path.absolute(), *path.absolute().parents) if os.path.lexists(folder))
        if not nearest.is_dir():
            raise WriteError(f"cannot write to the folder {path}: {nearest if nearest != path.absolute() else 'it'} is a file")
        if not os.access(nearest, os.W_OK | os.X_OK):
            raise WriteError(f"cannot write to the folder {path}: permission denied")

    def save(self, name: str, content: Image | Figure | dict[str, Array] | bytes) -> Path:
        """Write a picture, a figure, arrays or text.

        Args:
            name: The file's name; it gets a number if a file of this name was written before.
            content: What to write.

        Returns:
            The file's path.

        Raises:
            WriteError: The file cannot be written.
        """
        return self._write(self._place(name), content)

    def start_saving(self, name: str, content: Image | Figure | dict[str, Array]) -> Background[Path]:
        """Write as `save` does, in a thread: the path, and what goes wrong, come with the result. Figures are written before it returns,
        as matplotlib is not to be used from several threads.
        """
        file = self._place(name)
        started = Background(lambda: self._write(file, content))
        if hasattr(content, "savefig"):
            started.wait()
        return started

    def _write(self, file: Path, content: Image | Figure | dict[str, Array] | bytes) -> Path:
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            atomic_write(file, _writer(file.suffix, content))
        except OSError as error:
            raise WriteError(f"cannot write {file}: {error.strerror or error}") from None
        self.count += 1
        return file

    @contextlib.contextmanager
    def stream(self, name: str) -> Iterator[ExplanationFile]:
        """A file for explanations that come one after the other; it is there when the with statement ends without an error.

        Args:
            name: as in `save`.

        Raises:
            WriteError: The file cannot be written.
        """
        file = self._place(name)
        try:
            self.path.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise WriteError(f"cannot write {file}: {error.strerror or error}") from None
        with ExplanationFile(file) as stream:
            yield stream
        self.count += 1

    def require_free(self, file: Path) -> None:
        """Raises WriteError for a file that must not be written over."""
        if os.path.realpath(file) in self._kept:
            raise WriteError(f"{file} would be written over, and it is an input: choose another folder")

    def _place(self, name: str) -> Path:
        file = self.path / self._unused(name)
        self.require_free(file)
        return file

    def _unused(self, name: str) -> str:
        stem, dot, suffix = name.rpartition(".")
        number = 1
        while name.casefold() in self._names:
            number += 1
            name = f"{stem}_{number}{dot}{suffix}"
        self._names.add(name.casefold())
        return name


def _writer(suffix: str, content: Image | Figure | dict[str, Array] | bytes) -> Callable[[IO[bytes]], object]:
    if isinstance(content, bytes):
        return lambda file: file.write(content)
    if isinstance(content, dict):
        return array_writer(suffix, content)
    if hasattr(content, "savefig"):
        return lambda file: content.savefig(file, format="png", dpi=150)
    return lambda file: content.save(file, format="PNG", compress_level=1)
