"""Long runs: inputs read while others are computed, explanations written as they come."""

from __future__ import annotations

import contextlib
import os
import shutil
import zipfile
from collections.abc import Generator, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import IO, TYPE_CHECKING, Any, Protocol, Self, TypeVar

import numpy as np

from onnx_lrp.errors import InputError, WriteError
from onnx_lrp.saving import arrays_of, hdf5, hdf5_name, known_suffix

if TYPE_CHECKING:
    from numpy.typing import ArrayLike

    from onnx_lrp.explainer import Explainer
    from onnx_lrp.explanation import Explanation
    from onnx_lrp.feeds import Input
    from onnx_lrp.graph import Array

__all__ = ["ExplanationFile", "ahead", "explain_many"]

T = TypeVar("T")
_CHUNK, _ROWS = 2**18, 1024
"""At most about as many bytes, or as many rows, does a chunk of an HDF5 data set have."""


def ahead(source: Iterable[T]) -> Generator[T]:
    """The items of a source, each read in a thread while the one before it is used.

    An error of the source is raised where its item is asked for. Closing the generator waits for the item that is being read, and reads
    no further one.
    """
    from concurrent.futures import ThreadPoolExecutor

    iterator, end = iter(source), object()
    with ThreadPoolExecutor(1, "onnx_lrp reader") as reader:
        waiting = reader.submit(next, iterator, end)
        while (item := waiting.result()) is not end:
            waiting = reader.submit(next, iterator, end)
            yield item  # type: ignore[misc]


def explain_many(explainer: Explainer, batches: Iterable[Input | tuple[Input, Any]], target: Any, **how: Any) -> Generator[Explanation]:
    """See `Explainer.explain_many`."""
    with contextlib.closing(ahead(batches)) as items:
        for item in items:
            x, own = item if isinstance(item, tuple) else (item, target)
            yield explainer.explain(x, own, **how)


class ExplanationFile:
    """A .npz or HDF5 file that takes one explanation after the other and holds none of them.

        with onnx_lrp.ExplanationFile("explanations.h5") as file:
            for explanation in explainer.explain_many(batches):
                file.write(explanation)

    It holds what `Explanation.save` writes, for the samples of all explanations one after the other. The file appears, whole, at the end
    of the with statement, and not at all after an error. While it is written, its data lie beside it in a hidden file (HDF5) or folder
    (.npz, uncompressed).

    Args:
        path: the file; its suffix decides the format. HDF5 needs h5py.

    Raises:
        InputError: unknown suffix, h5py is missing, or the file cannot be written.
    """

    def __init__(self, path: str | os.PathLike[str]):
        self.path = Path(path)
        self.count = 0
        """How many samples were written."""
        known_suffix(self.path.suffix)
        self._hidden = self.path.with_name(f".{self.path.name}.{os.urandom(4).hex()}.part")
        self._open = _Npz if self.path.suffix.lower() == ".npz" else _Hdf5
        if self._open is _Hdf5:
            hdf5()
        if not self.path.absolute().parent.is_dir():
            raise WriteError(f"cannot write {self.path}: there is no folder {self.path.parent}")
        self._store: _Store | None = None
        self._same: dict[str, str] = {}
        """The names that hold the data of another one."""
        self._shapes: dict[str, tuple[int, ...]] = {}
        self._texts: dict[str, Array] = {}
        self._sources: list[str] = []

    def write(self, explanation: Explanation, label: ArrayLike | None = None, source: Iterable[str] | None = None) -> None:
        """Appends the samples of an explanation.

        Args:
            explanation: by the same explainer as those before, for inputs of the same shape and targets of the same form.
            label: the true classes; see `Explanation.save`.
            source: where each sample comes from, such as the names of files: kept as the array "source". For all explanations or none.

        Raises:
            InputError: the explanation does not go with those before, or the file cannot be written.
        """
        arrays = arrays_of(explanation, label)
        texts = {name: array for name, array in arrays.items() if array.dtype.kind == "U"}
        arrays = {name: array for name, array in arrays.items() if name not in texts}
        if "index" in arrays:
            arrays["index"] = arrays["index"] + np.uint32(self.count)
        names = [] if source is None else list(source)
        if (source is not None and len(names) != len(explanation.output)) or (self._store and bool(names) != bool(self._sources)):
            raise InputError(f"{len(names)} sources for {len(explanation.output)} samples: give one for each sample of all explanations")
        shapes = {name: array.shape[1:] for name, array in arrays.items()}
        try:
            if self._store is None:
                first: dict[int, str] = {}
                self._same = {name: first[id(array)] for name, array in arrays.items() if first.setdefault(id(array), name) != name}
                self._shapes, self._texts = shapes, texts
                self._store = self._open(self._hidden)
            else:
                self._check(explanation, shapes, texts)
            for name, array in arrays.items():
                if name not in self._same:
                    self._store.append(name, array)
                elif not self.count:
                    self._store.link(name, self._same[name])
        except OSError as error:
            raise WriteError(f"cannot write {self.path}: {error.strerror or error}") from None
        self._sources += names
        self.count += len(explanation.output)

    def _check(self, explanation: Explanation, shapes: Mapping[str, tuple[int, ...]], texts: Mapping[str, Array]) -> None:
        if texts != self._texts:
            raise InputError(f"{self.path} holds explanations of another explainer")
        turned = [name for name in explanation.relevances if not explanation.leads_with_batch(name)]
        if turned:
            raise InputError(f"the samples are not in the first axis of {turned[0]!r}: write each explanation to a file of its own")
        for name in {**self._shapes, **shapes}:
            if shapes.get(name) != self._shapes.get(name):
                have, want = (f"{one[name]} for each sample" if name in one else "left out" for one in (shapes, self._shapes))
                raise InputError(f"the array {name!r} is {have}, in {self.path} it is {want}")

    def close(self) -> None:
        """Finishes the file; without an explanation there is none."""
        if self._store is None:
            return
        texts = dict(self._texts) | ({"source": np.array(self._sources)} if self._sources else {})
        try:
            self._store.finish(texts).replace(self.path)
        except OSError as error:
            raise WriteError(f"cannot write {self.path}: {error.strerror or error}") from None
        finally:
            self.discard()

    def discard(self) -> None:
        """Gives up what was written."""
        if self._store is not None:
            self._store.remove()
            self._store = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None) -> None:
        if kind is None:
            self.close()
        else:
            self.discard()


class _Store(Protocol):
    """Arrays that grow on disk."""

    def append(self, name: str, array: Array) -> None:
        """Adds rows to an array, which is made by its first rows."""

    def link(self, name: str, other: str) -> None:
        """Gives the rows of another array a second name."""

    def finish(self, texts: Mapping[str, Array]) -> Path:
        """Makes a file of the arrays and of texts, and says where it is."""

    def remove(self) -> None:
        """Takes everything that is left from the disk."""


class _Hdf5:
    """Data sets that are extended."""

    def __init__(self, path: Path):
        self._path = path
        self._file: Any = hdf5().File(path, "w", track_order=True)

    def append(self, name: str, array: Array) -> None:
        key, start = hdf5_name(name), 0
        if key not in self._file:
            rows = min(_ROWS, max(1, _CHUNK // max(1, array[:1].nbytes)))
            self._file.create_dataset(key, data=array, maxshape=(None, *array.shape[1:]), chunks=(rows, *array.shape[1:]))
            return
        data = self._file[key]
        start = len(data)
        data.resize(start + len(array), 0)
        data[start:] = array

    def link(self, name: str, other: str) -> None:
        self._file[hdf5_name(name)] = self._file[hdf5_name(other)]

    def finish(self, texts: Mapping[str, Array]) -> Path:
        for name, text in texts.items():
            self._file[hdf5_name(name)] = str(text) if not text.ndim else text.astype(object)
        self._file.close()
        return self._path

    def remove(self) -> None:
        self._file.close()
        self._path.unlink(missing_ok=True)


class _Npz:
    """A raw file for each array, put together at the end."""

    def __init__(self, path: Path):
        self._folder = path
        path.mkdir()
        self._raw: dict[str, _Raw] = {}

    def append(self, name: str, array: Array) -> None:
        if name not in self._raw:
            self._raw[name] = _Raw((self._folder / str(len(self._raw))).open("w+b"), array.dtype, array.shape[1:])
        raw = self._raw[name]
        np.ascontiguousarray(array, raw.dtype).tofile(raw.file)
        raw.rows += len(array)

    def link(self, name: str, other: str) -> None:
        self._raw[name] = self._raw[other]

    def finish(self, texts: Mapping[str, Array]) -> Path:
        made = self._folder / "whole.npz"
        with zipfile.ZipFile(made, "w") as whole:
            for name, raw in self._raw.items():
                with whole.open(f"{name}.npy", "w", force_zip64=True) as entry:
                    head = {"descr": np.lib.format.dtype_to_descr(raw.dtype), "fortran_order": False, "shape": (raw.rows, *raw.shape)}
                    np.lib.format.write_array_header_1_0(entry, head)
                    raw.file.seek(0)
                    shutil.copyfileobj(raw.file, entry, 2**20)
            for name, text in texts.items():
                with whole.open(f"{name}.npy", "w", force_zip64=True) as entry:
                    np.lib.format.write_array(entry, text, allow_pickle=False)
        return made

    def remove(self) -> None:
        for raw in self._raw.values():
            raw.file.close()
        shutil.rmtree(self._folder, ignore_errors=True)


@dataclass
class _Raw:
    """The rows of an array in a file."""

    file: IO[bytes]
    dtype: np.dtype[Any]
    shape: tuple[int, ...]
    rows: int = 0
