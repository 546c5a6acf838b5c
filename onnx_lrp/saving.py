"""Explanations as files: .npz, and HDF5 with the arrays that CoRelAy and ViRelAy read. Explainers as files: ONNX."""

from __future__ import annotations

import os
import tempfile
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

import numpy as np

from onnx_lrp.errors import InputError
from onnx_lrp.image import atomic_write

if TYPE_CHECKING:
    import onnx
    from numpy.typing import ArrayLike

    from onnx_lrp.explanation import Explanation
    from onnx_lrp.graph import Array

__all__ = ["SUFFIXES", "array_writer", "arrays_of", "hdf5", "hdf5_name", "known_suffix", "save_arrays", "save_model"]

SUFFIXES = (".npz", ".h5", ".hdf5")
LIMIT = 2**31 - 2**20
"""An ONNX file holds up to 2 GB of weights; a little of it is left for the graph."""
EXTERNAL = 4096
"""Weights of more bytes go to the other file."""
_PAGE = 65536
"""On what multiples weights start in a file, so that every system can map them into memory."""


def arrays_of(explanation: Explanation, label: ArrayLike | None = None) -> dict[str, Array]:
    """What a file holds of an explanation.

    Args:
        explanation: for N samples.
        label: the true classes, ints (N,); default: the explained targets, if each is one position of the output.

    Returns:
        - "relevance" of the explained input, "relevance:<name>" of several and of recorded tensors: as in `Explanation.relevances`;
        - "output", "target": as in an Explanation; "input" of the model, "input:<name>" of several: as they were run;
        - of a single explained input also "attribution" (M, ...), "prediction" (M, classes) and "label" (M,) int64. M is N; of K targets
          per sample N * K, and then "index" (M,) uint32 tells the sample;
        - "composite" and "explained_output": texts, as arrays of no axes.

    Raises:
        InputError: the labels do not fit.
    """
    explanation = explanation.numpy()
    arrays = {_key("relevance", name, explanation.explained_inputs): value for name, value in explanation.relevances.items()}
    arrays |= {"output": explanation.output, "target": explanation.target}
    names = list(explanation.inputs)
    arrays |= {_key("input", name, names): value for name, value in explanation.inputs.items()}
    if "relevance" in arrays:
        target = arrays["target"] if explanation.explains_positions else None
        arrays |= _for_virelay(arrays["relevance"], arrays["output"], target, explanation.targets_per_sample, label)
    elif label is not None:
        raise InputError("labels go with the relevance of a single explained input")
    return arrays | {"composite": np.array(explanation.composite), "explained_output": np.array(explanation.explained_output)}


def _key(word: str, name: str, alone: list[str]) -> str:
    return word if [name] == alone else f"{word}:{name}"


def _for_virelay(relevance: Array, output: Array, target: Array | None, count: int | None, label: ArrayLike | None) -> dict[str, Array]:
    """One row for each sample and target, as CoRelAy and ViRelAy read them; without labels where neither those nor targets are given."""
    samples, copies = len(output), count or 1
    scores = output if output.ndim == 2 else output.reshape(samples, -1)
    if target is not None and target.ndim > (1 if count is None else 2):  # places in an output of several axes
        target = np.ravel_multi_index(tuple(np.moveaxis(target, -1, 0)), output.shape[1:])
    given = np.repeat(_labels(label, samples), copies) if label is not None else target
    rows = {
        "attribution": relevance if count is None else relevance.reshape(samples * copies, *relevance.shape[2:]),
        "prediction": np.repeat(scores, copies, 0) if copies > 1 else scores,
    }
    if given is not None:
        rows["label"] = given.reshape(-1).astype(np.int64)
    return rows if count is None else rows | {"index": np.repeat(np.arange(samples, dtype=np.uint32), copies)}


def _labels(label: ArrayLike, samples: int) -> Array:
    labels = np.asarray(label)
    if labels.shape != (samples,) or labels.dtype.kind not in "iu":
        raise InputError(f"labels are {samples} ints, one per sample, not {labels.dtype} of shape {labels.shape}")
    return labels


def save_arrays(path: str | os.PathLike[str], arrays: Mapping[str, Array]) -> None:
    """Writes arrays to a .npz or HDF5 file, whole or not at all.

    Raises:
        InputError: unknown suffix, h5py is missing, or the file cannot be written.
    """
    write = array_writer(Path(path).suffix, arrays)
    try:
        atomic_write(path, write)
    except OSError as error:
        raise InputError(f"cannot write {path}: {error.strerror or error}") from None


def array_writer(suffix: str, arrays: Mapping[str, Array]) -> Callable[[IO[bytes]], object]:
    """What writes arrays to an open file, in the format of a suffix.

    In HDF5, data sets keep their order, and have the names that `hdf5_name` gives.

    Raises:
        InputError: unknown suffix, or h5py is missing.
    """
    known_suffix(suffix)
    if suffix.lower() == ".npz":
        return lambda file: _write_npz(file, arrays)
    h5py = hdf5()

    def write(file: IO[bytes]) -> None:
        written: dict[int, str] = {}
        with h5py.File(file, "w", track_order=True) as database:
            for name, array in arrays.items():
                key = hdf5_name(name)
                if id(array) in written:
                    database[key] = database[written[id(array)]]  # a second name of the same data
                    continue
                database[key] = str(array) if array.dtype.kind == "U" else array
                written[id(array)] = key

    return write


def _write_npz(file: IO[bytes], arrays: Mapping[str, Array]) -> None:
    """What np.savez writes, whatever the arrays' names. Not compressed: it takes some 20 times as long, and saves a tenth."""
    with zipfile.ZipFile(file, "w") as archive:
        for name, array in arrays.items():
            with archive.open(f"{name}.npy", "w", force_zip64=True) as entry:
                np.lib.format.write_array(entry, np.asanyarray(array), allow_pickle=False)


def known_suffix(suffix: str) -> None:
    """Raises InputError for a suffix that explanations cannot be saved with."""
    if suffix.lower() not in SUFFIXES:
        raise InputError(f"cannot write an explanation to a file with suffix {suffix!r}; known: {', '.join(SUFFIXES)}")


def hdf5() -> Any:
    """Imports h5py.

    Raises:
        InputError: it is missing.
    """
    try:
        import h5py
    except ImportError:
        raise InputError("HDF5 files need h5py: pip install 'onnx-lrp[hdf5]'") from None
    return h5py


def hdf5_name(name: str) -> str:
    """The name of an array as that of a data set: "/" is "%2F" ("%" is "%25"), because there it parts groups."""
    return name.replace("%", "%25").replace("/", "%2F")


def save_model(path: str | os.PathLike[str], model: onnx.ModelProto, constants: Mapping[str, Array]) -> None:
    """Writes a model to a file, whole or not at all. Weights of over 2 GB go to a file beside it (path + ".data"), one after the other.

    Args:
        path: the file.
        model: the model without its initialisers.
        constants: these, by name.

    Raises:
        InputError: the file cannot be written.
    """
    from onnx_lrp.emitter import embed

    path = Path(path)
    arrays = {name: np.asarray(value, order="C") for name, value in constants.items()}
    large = {name: value for name, value in arrays.items() if value.nbytes > EXTERNAL}
    if sum(value.nbytes for value in arrays.values()) <= LIMIT:
        large = {}
    embed(model, {name: value for name, value in arrays.items() if name not in large})
    try:
        with tempfile.TemporaryDirectory(dir=path.parent, prefix=f".{path.name}.") as folder:
            if large:
                _write_weights(Path(folder) / f"{path.name}.data", model, large)
            (Path(folder) / path.name).write_bytes(model.SerializeToString())
            for file in sorted(Path(folder).iterdir(), reverse=True):  # the weights first
                file.replace(path.parent / file.name)
    except OSError as error:
        raise InputError(f"cannot write {path}: {error.strerror or error}") from None


def _write_weights(path: Path, model: onnx.ModelProto, weights: Mapping[str, Array]) -> None:
    """Writes arrays to a file, each from the start of a page of memory on, and tells the model where they are."""
    from onnx_lrp.interpreter import placeholder

    with path.open("wb") as file:
        for name, value in weights.items():
            file.seek(-file.tell() % _PAGE, os.SEEK_CUR)
            model.graph.initializer.append(placeholder(name, value, path, file.tell()))
            value.tofile(file)
