"""What Keras models come as: .keras, HDF5 with the architecture inside, architecture and weights apart, and unpacked or saved folders."""

from __future__ import annotations

import os
import sys
import tempfile
from pathlib import Path
from typing import Any, Final

from onnx_lrp.errors import InputError, ModelError

from ..archives import ZIP, check_expansion, members, read
from ..frameworks import installed, quiet, reason, require
from .scan import check_config, check_weights, parse_config

__all__ = ["kind_of", "load", "output_names", "use_keras"]

_HDF5: Final = b"\x89HDF\r\n\x1a\n"
_CONFIG: Final = "config.json"
_WEIGHTS: Final = "model.weights.h5"
_LONGEST: Final = 2**28


def kind_of(path: Path, head: bytes) -> str | None:
    """The kind of a source by its content: "archive" (.keras), "hdf5", "json", "folder" (an unpacked .keras), "saved_model" or None."""
    if path.is_dir():
        if (path / "saved_model.pb").is_file():
            return "saved_model"
        return "folder" if (path / _CONFIG).is_file() and (path / _WEIGHTS).is_file() else None
    if head.startswith(_HDF5):
        return "hdf5"
    if head.startswith(ZIP):
        names = members(path)
        return "archive" if _CONFIG in names and any(name.startswith("model.weights.") for name in names) else None
    text = head.lstrip(b"\xef\xbb\xbf \t\r\n")
    return "json" if text.startswith(b"{") and b'"class_name"' in text and b'"config"' in text else None


def use_keras() -> Any:
    """Import Keras; where nothing says which backend it shall have, PyTorch if that is there.

    Raises:
        ModelError: Keras or its backend is missing.
    """
    if "keras" not in sys.modules and "KERAS_BACKEND" not in os.environ and installed("torch"):
        os.environ["KERAS_BACKEND"] = "torch"
    with quiet():
        keras = require("keras", "keras", "h5py")
    if not hasattr(keras, "export") and int(keras.__version__.split(".")[0]) < 3:
        raise ModelError(f"this needs Keras 3, not {keras.__version__}: pip install 'onnx-lrp[keras]'")
    return keras


def output_names(model: Any) -> list[str]:
    """The names of the layers that give a model's outputs; none if they are not known."""
    names = getattr(model, "output_names", None)
    if names is None and type(model).__name__ == "Sequential":
        names = [model.layers[-1].name]
    return [str(name) for name in names or []]


def load(path: Path, weights: Path | None) -> Any:
    """Read a model.

    Args:
        path: A file or folder that is no SavedModel.
        weights: The weights for an architecture in JSON.

    Raises:
        InputError: The weights are missing, or are there twice.
        ModelError: The file is broken, far larger than it should be, or holds code.
    """
    head = b""
    if path.is_file():
        with path.open("rb") as file:
            head = file.read(65536)
    kind = kind_of(path, head)
    if weights is not None and kind != "json":
        raise InputError(f"{path} has its weights: --weights is for an architecture in JSON")
    if kind == "json":
        return _apart(path, weights)
    if kind == "hdf5":
        return _hdf5(path)
    if kind == "archive":
        return _archive(path)
    if kind == "folder":
        config = parse_config(_text(path / _CONFIG), str(path / _CONFIG))
        check_config(config, str(path), check_weights(path / _WEIGHTS, str(path / _WEIGHTS)))
        return _loaded(path, str(path))
    raise ModelError(f"{path} is no Keras model: no .keras, no HDF5, and no architecture in JSON")


def _text(path: Path) -> bytes:
    if path.stat().st_size > _LONGEST:
        raise ModelError(f"{path} is refused: it is larger than {_LONGEST:,} bytes")
    return path.read_bytes()


def _loaded(path: Path, where: str) -> Any:
    keras = use_keras()
    try:
        with quiet():
            return keras.saving.load_model(path, compile=False, safe_mode=True)
    except Exception as error:
        raise ModelError(f"{where}: Keras {keras.__version__} cannot read this: {reason(error)}") from error


def _named(path: Path, folder: Path, name: str) -> Path:
    """The same file under the name that Keras goes by."""
    link = folder / name
    try:
        link.symlink_to(path.resolve())
    except OSError:  # where links are not allowed
        link.write_bytes(path.read_bytes())
    return link


def _archive(path: Path) -> Any:
    check_expansion(path)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        elements = _LONGEST
        config = parse_config(read(path, _CONFIG), f"{path}: {_CONFIG}")
        if _WEIGHTS in members(path):
            (folder / _WEIGHTS).write_bytes(read(path, _WEIGHTS, 2**40))
            elements = check_weights(folder / _WEIGHTS, f"{path}: {_WEIGHTS}")
        check_config(config, str(path), elements)
        return _loaded(_named(path, folder, "model.keras"), str(path))


def _hdf5(path: Path) -> Any:
    require("keras", "h5py", "keras")
    import h5py

    elements = check_weights(path, str(path))
    try:
        with h5py.File(path, "r") as file:
            config = file.attrs.get("model_config")
    except Exception as error:  # noqa: BLE001 - h5py lets errors of every kind through
        raise ModelError(f"{path} is a broken HDF5 file: {reason(error)}") from None
    if not isinstance(config, (str, bytes)):
        raise InputError(f"{path} has weights alone: give the architecture, a .json file, as the source, and this with --weights")
    check_config(parse_config(config, f"{path}: model_config"), str(path), elements)
    with tempfile.TemporaryDirectory() as name:
        return _loaded(_named(path, Path(name), "model.h5"), str(path))


def _apart(path: Path, weights: Path | None) -> Any:
    """An architecture and its weights in two files; those of Keras 1 and 2 are put into one, which Keras 3 can read."""
    text = _text(path)
    config = parse_config(text, str(path))
    if weights is None:
        raise InputError(f"{path} is an architecture without its weights: give the .h5 file with --weights")
    if not weights.is_file():
        raise InputError(f"no such file: {weights}")
    require("keras", "h5py", "keras")
    check_config(config, str(path), check_weights(weights, str(weights)))
    import h5py

    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        try:
            with h5py.File(weights, "r") as file:
                whole, old = "model_weights" in file, "layer_names" in file.attrs or "model_weights" in file
                if old:
                    with h5py.File(folder / "model.h5", "w") as both:
                        both.attrs["model_config"] = text.decode()
                        file.copy(file["model_weights" if whole else "/"], both, "model_weights")
        except Exception as error:
            raise ModelError(f"{weights} cannot be read: {reason(error)}") from error
        if old and config.get("module") is None:
            return _loaded(folder / "model.h5", f"{path} with {weights}")
        keras = use_keras()
        source = _named(folder / "model.h5" if old else weights, folder, "old.h5" if old else _WEIGHTS)
        try:
            with quiet():
                model = keras.models.model_from_json(text.decode())
                model.load_weights(source)
        except Exception as error:
            raise ModelError(f"{path} with {weights}: Keras {keras.__version__} cannot read this: {reason(error)}") from error
        return model
