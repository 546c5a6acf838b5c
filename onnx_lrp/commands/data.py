"""Data sets for evaluate, compare and tune: folders, arrays, HDF5 and lists of files, with the classes if there are any."""

from __future__ import annotations

import csv
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from onnx_lrp.commands.inputs import ARRAYS, PICTURES, is_array, load
from onnx_lrp.errors import InputError
from onnx_lrp.progress import progress_bar

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from onnx_lrp.graph import Array, TensorType
    from onnx_lrp.labels import Labels
    from onnx_lrp.preprocess import Preprocess

__all__ = ["HDF5", "Data", "Listing", "Problem", "listed", "read"]

HDF5: Final = (".h5", ".hdf5")
SAMPLES: Final = ("input", "x", "X", "images", "data")
"""What the samples of an .npz or HDF5 file may be called, beside the name of the model's input."""
TARGETS: Final = ("target", "targets", "y", "Y", "label", "labels")
"""What their classes may be called."""


@dataclass(frozen=True)
class Problem:
    """A sample that is left out."""

    name: str
    reason: str

    def __str__(self) -> str:
        return self.reason if self.name in self.reason else f"{self.name}: {self.reason}"


@dataclass(frozen=True)
class _Entry:
    """One sample that is not read yet."""

    name: str
    read: Callable[[], Array]
    """Gives the sample, without batch axis."""
    target: int | None


@dataclass
class Listing:
    """The samples that there are, before they are read."""

    entries: list[_Entry] = field(default_factory=list)
    problems: list[Problem] = field(default_factory=list)
    classes: list[str] = field(default_factory=list)
    """The names of class folders that were numbered in their sorted order, if they were."""

    def few(self, limit: int | None) -> Listing:
        """At most so many samples, evenly spread over all."""
        if limit is None or limit >= len(self.entries):
            return self
        chosen = np.linspace(0, len(self.entries) - 1, limit).round().astype(int)
        return Listing([self.entries[i] for i in chosen], self.problems, self.classes)


@dataclass
class Data:
    """Samples that can be evaluated, with what had to be left out."""

    x: Array
    """(N, ...), float32."""
    target: NDArray[np.int64] | None
    """(N,), the classes; None where the data does not say them."""
    names: list[str]
    problems: list[Problem]

    def without(self, bad: Mapping[int, str]) -> Data:
        """The same without some rows, which are written down as problems.

        Raises:
            InputError: nothing is left.
        """
        if not bad:
            return self
        keep = [row for row in range(len(self.x)) if row not in bad]
        problems = [*self.problems, *(Problem(self.names[row], reason) for row, reason in bad.items())]
        if not keep:
            raise InputError(f"none of the samples can be used; the first: {problems[-len(bad)]}")
        return Data(self.x[keep], None if self.target is None else self.target[keep], [self.names[row] for row in keep], problems)


def listed(paths: Sequence[Path], inputs: dict[str, TensorType], preprocess: Preprocess | None, labels: Labels | None = None) -> Listing:
    """What a data set holds.

    Args:
        paths: folders of pictures and arrays, with a sub-folder for each class or without; .npy and .npz files, HDF5 files (samples under
            the name of the model's input or one of `SAMPLES`, classes under one of `TARGETS`); .csv files with a column of paths (relative
            to the file's folder) and perhaps one of classes; pictures.
        inputs: the model's inputs; there is one.
        preprocess: what makes inputs of pictures; fitted to the model.
        labels: the names of the classes, for folders and lists that name them.

    Raises:
        InputError: a path does not exist, or holds nothing.
    """
    found = Listing()
    for path in paths:
        if path.is_dir():
            _folder(path, inputs, preprocess, labels, found)
        elif not path.exists():
            raise InputError(f"no such file or folder: {path}")
        elif path.suffix.lower() == ".csv":
            _csv(path, inputs, preprocess, labels, found)
        else:
            _file(path, None, inputs, preprocess, found)
    if not found.entries:
        raise InputError(str(found.problems[0]) if found.problems else f"no samples in {', '.join(map(str, paths))}")
    return found


def read(listing: Listing, inputs: dict[str, TensorType]) -> Data:
    """Reads all samples; what cannot be read, does not fit the model or the other samples, or is not finite is left out with its reason.

    Raises:
        InputError: nothing is left.
    """
    ((_, kind),) = inputs.items()
    wanted = None if kind.shape is None else list(kind.shape[1:])
    rows: list[tuple[_Entry, Array]] = []
    problems = list(listing.problems)
    with progress_bar(len(listing.entries)) as advance:
        for entry in listing.entries:
            try:
                sample = np.asarray(entry.read(), np.float32)
                _check(sample, wanted)
                rows.append((entry, sample))
            except InputError as error:
                problems.append(Problem(entry.name, str(error)))
            advance(1)
    if not rows:
        raise InputError(f"none of the {len(listing.entries)} samples can be used; the first: {problems[len(listing.problems)]}")
    usual = Counter(sample.shape for _, sample in rows).most_common(1)[0][0]
    other = [(entry.name, sample.shape) for entry, sample in rows if sample.shape != usual]
    problems += [Problem(name, f"the sample has shape {shape}, most have {usual}") for name, shape in other]
    kept = [(entry, sample) for entry, sample in rows if sample.shape == usual]
    targets = [entry.target for entry, _ in kept]
    known = None if any(target is None for target in targets) else np.array(targets, np.int64)
    return Data(np.stack([sample for _, sample in kept]), known, [entry.name for entry, _ in kept], problems)


def _check(sample: Array, wanted: Sequence[int | str | None] | None) -> None:
    shape = sample.shape
    if wanted is not None and (len(wanted) != len(shape) or any(isinstance(n, int) and n != m for n, m in zip(wanted, shape, strict=True))):
        raise InputError(f"the sample has shape {shape}, the model takes ({', '.join('?' if n is None else str(n) for n in wanted)})")
    if not np.isfinite(sample).all():
        raise InputError("the sample holds NaN or infinity")


# folders and lists ----------------------------------------------------------------------------------------------------


def _folder(folder: Path, inputs: dict[str, TensorType], preprocess: Preprocess | None, labels: Labels | None, found: Listing) -> None:
    inside = sorted(path for path in folder.iterdir() if not path.name.startswith("."))
    classes = [path for path in inside if path.is_dir()]
    before = len(found.entries) + len(found.problems)
    for path in inside:
        if path.suffix.lower() in (*PICTURES, *ARRAYS, *HDF5) and path.is_file():
            _file(path, None, inputs, preprocess, found)
    numbered = labels is None and not all(path.name.isdecimal() for path in classes)
    if numbered:
        found.classes = [path.name for path in classes]
    for place, path in enumerate(classes):
        try:
            number = place if numbered else _class_of(path.name, labels)
        except InputError as error:
            found.problems.append(Problem(str(path), str(error)))
            continue
        for file in sorted(path.iterdir()):
            if file.suffix.lower() in (*PICTURES, *ARRAYS, *HDF5):
                _file(file, number, inputs, preprocess, found)
    if len(found.entries) + len(found.problems) == before:
        raise InputError(f"the folder {folder} has no pictures, .npy, .npz or HDF5 files, nor class folders with such files")


def _class_of(text: str, labels: Labels | None) -> int:
    if text.strip().isdecimal():
        return int(text)
    found = labels.find(text) if labels else None
    if found is None:
        raise InputError(f"no class is named {text!r}" if labels else f"class {text!r} is no number; names of classes need --labels")
    return found


def _csv(path: Path, inputs: dict[str, TensorType], preprocess: Preprocess | None, labels: Labels | None, found: Listing) -> None:
    try:
        with path.open(encoding="utf-8-sig", newline="") as text:
            rows = [row for row in csv.reader(text) if row and any(cell.strip() for cell in row)]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise InputError(f"cannot read {path}: {getattr(error, 'strerror', None) or error}") from None
    head = [cell.strip().lower() for cell in rows[0]] if rows else []
    columns = {"path": 0, "target": 1}
    named = next((name for name in ("path", "file", "filename", "image") if name in head), None)
    if named is not None:
        classes = next((name for name in (*TARGETS, "class") if name in head), None)
        columns = {"path": head.index(named), "target": head.index(classes) if classes else len(head)}
        rows = rows[1:]
    for number, row in enumerate(rows, 1 + (named is not None)):
        cells = [cell.strip() for cell in row]
        where = f"{path}, line {number}"
        if len(cells) <= columns["path"]:
            found.problems.append(Problem(where, "has no path"))
            continue
        file = path.parent / cells[columns["path"]]
        target = cells[columns["target"]] if len(cells) > columns["target"] else ""
        try:
            _file(file, _class_of(target, labels) if target else None, inputs, preprocess, found)
        except InputError as error:
            found.problems.append(Problem(where, str(error)))


# single files ---------------------------------------------------------------------------------------------------------


def _file(path: Path, target: int | None, inputs: dict[str, TensorType], preprocess: Preprocess | None, found: Listing) -> None:
    """Adds the samples of a file. One that cannot be opened becomes a problem; pictures are opened later."""
    if not is_array(path) and path.suffix.lower() not in HDF5:
        found.entries.append(_Entry(str(path), lambda: next(iter(load(path, inputs, preprocess).feeds.values()))[0], target))
        return
    try:
        samples, targets = _h5(path, inputs) if path.suffix.lower() in HDF5 else _array(path, inputs)
    except InputError as error:
        found.problems.append(Problem(str(path), str(error)))
        return
    if targets is not None and len(targets) != len(samples):
        found.problems.append(Problem(str(path), f"holds {len(samples)} samples and {len(targets)} classes"))
        return
    given = [target] * len(samples) if targets is None else targets.tolist()
    names = [str(path)] if len(samples) == 1 else [f"{path} [{row}]" for row in range(len(samples))]
    rows = [_row(samples, row) for row in range(len(samples))]
    found.entries += [_Entry(name, row, one) for name, row, one in zip(names, rows, given, strict=True)]


def _row(samples: Any, row: int) -> Callable[[], Array]:
    return lambda: np.asarray(samples[row])


def _array(path: Path, inputs: dict[str, TensorType]) -> tuple[Array, NDArray[np.int64] | None]:
    """The samples of an .npy or .npz file, and their classes."""
    if path.suffix.lower() == ".npy":
        return next(iter(load(path, inputs, None).feeds.values())), None
    try:
        with np.load(path, allow_pickle=False) as file:
            key, classes = _keys(path, list(file), next(iter(inputs)))
            samples, targets = file[key], file[classes] if classes else None
    except (OSError, ValueError) as error:
        raise InputError(f"cannot read {path}: {getattr(error, 'strerror', None) or 'it is damaged, or holds no numbers'}") from None
    return _numeric(path, samples, inputs), _classes(path, targets)


def _h5(path: Path, inputs: dict[str, TensorType]) -> tuple[Any, NDArray[np.int64] | None]:
    """The samples of an HDF5 file, read row by row when they are needed, and their classes."""
    try:
        import h5py
    except ImportError:
        raise InputError(f'{path}: HDF5 files need h5py: pip install "onnx-lrp[hdf5]"') from None
    try:
        file = h5py.File(path, "r")
    except OSError as error:
        raise InputError(f"cannot read {path}: {getattr(error, 'strerror', None) or 'it is no HDF5 file, or damaged'}") from None
    sets = {name: value for name, value in file.items() if isinstance(value, h5py.Dataset)}
    key, classes = _keys(path, list(sets), next(iter(inputs)))
    return _numeric(path, sets[key], inputs), _classes(path, sets[classes][()] if classes else None)


def _keys(path: Path, keys: list[str], name: str) -> tuple[str, str | None]:
    """Under which names a file has its samples and its classes."""
    classes = next((key for key in TARGETS if key in keys), None)
    rest = [key for key in keys if key != classes]
    samples = next((key for key in (name, *SAMPLES) if key in rest), rest[0] if len(rest) == 1 else None)
    if samples is None:
        raise InputError(f"{path} has no samples under {name!r}, the model's input; it has: {', '.join(keys) or 'nothing'}")
    return samples, classes


def _numeric(path: Path, samples: Any, inputs: dict[str, TensorType]) -> Any:
    if samples.dtype.kind not in "fiub" or not samples.ndim:
        raise InputError(f"{path} holds no samples of numbers")
    ((_, kind),) = inputs.items()
    if kind.shape is not None and samples.ndim == len(kind.shape) - 1:
        return np.asarray(samples)[None]
    return samples


def _classes(path: Path, given: Any) -> NDArray[np.int64] | None:
    """Classes as numbers; rows of more than one are taken for scores of which the largest counts."""
    if given is None:
        return None
    array = np.asarray(given)
    if array.dtype.kind not in "fiub":
        raise InputError(f"{path}: the classes are of type {array.dtype}, not numbers")
    if array.ndim == 2 and array.shape[1] > 1:
        array = array.argmax(1)
    return array.reshape(len(array) if array.ndim else 1, -1)[:, 0].astype(np.int64)
