"""From what stands on the command line to arrays for the model."""

from __future__ import annotations

import glob
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from onnx_lrp.errors import InputError

if TYPE_CHECKING:
    from PIL.Image import Image

    from onnx_lrp.explainer import Explainer
    from onnx_lrp.graph import Array, TensorType
    from onnx_lrp.preprocess import Preprocess

ARRAYS: Final = (".npy", ".npz")
PICTURES: Final = (
    ".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".gif", ".bmp", ".webp", ".avif", ".tif", ".tiff", ".jp2", ".tga", ".ico",
    ".ppm", ".pgm", ".pbm", ".pnm",
)  # fmt: skip
"""What is looked for in a folder; a file named by itself is tried as a picture whatever its suffix."""


@dataclass
class Item:
    """The samples of one file."""

    path: Path
    feeds: dict[str, Array]
    """The model's inputs by name, each with a batch axis."""
    photo: Image | None = None
    """A picture as the model sees it."""
    size: tuple[int, int] | None = None
    """The width and height of the picture in the file."""

    @property
    def count(self) -> int:
        """How many samples there are."""
        return max((len(value) for value in self.feeds.values()), default=0)


def is_array(path: Path) -> bool:
    """Whether a file holds arrays, not a picture."""
    return path.suffix.lower() in ARRAYS


def expand(arguments: Iterable[str]) -> list[Path]:
    """Replace folders by the pictures and arrays in them, and patterns by the files that match. Each file comes once.

    Raises:
        InputError: A folder without pictures and arrays, or one that cannot be read.
    """
    found: dict[Path, None] = {}
    for argument in arguments:
        path = Path(argument)
        if path.is_dir():
            found.update(dict.fromkeys(_inside(path)))
        elif glob.has_magic(argument) and not path.exists():
            matches = sorted(match for match in glob.glob(argument, recursive=True) if Path(match).is_file())  # noqa: PTH207
            found.update(dict.fromkeys(Path(match) for match in matches or [argument]))
        else:
            found[path] = None
    return list(found)


def _inside(folder: Path) -> list[Path]:
    try:
        files = [file for file in sorted(folder.iterdir()) if file.is_file() and not file.name.startswith(".")]
    except OSError as error:
        raise InputError(f"cannot read the folder {folder}: {error.strerror or error}") from None
    wanted = [file for file in files if file.suffix.lower() in (*PICTURES, *ARRAYS)]
    if not wanted:
        raise InputError(f"the folder {folder} has no pictures, .npy or .npz files")
    return wanted


def model_inputs(explainer: Explainer) -> dict[str, TensorType]:
    """The inputs that the explained output depends on."""
    signature = explainer.signature
    return {name: signature.model_inputs[name] for name in signature.needed}


def open_picture(path: Path) -> Image:
    """Read a picture, and import what else it takes to draw on it.

    Raises:
        InputError: It is missing or damaged.
    """
    from onnx_lrp import image  # noqa: F401
    from onnx_lrp.preprocess import PRESETS

    return PRESETS["none"].load(path)


def load(path: Path, inputs: dict[str, TensorType], preprocess: Preprocess | None, opened: Image | None = None) -> Item:
    """Read a file.

    Args:
        path: A picture, .npy or .npz.
        inputs: The model's inputs.
        preprocess: What makes of a picture an input; fitted to the model.
        opened: The picture, if it was read already.

    Raises:
        InputError: The file is missing or damaged, or does not fit the model.
    """
    if is_array(path):
        given = _arrays(path, list(inputs))
        return Item(path, {name: _batched(value, inputs[name].shape) for name, value in given.items()})
    if preprocess is None:
        preprocess, _ = prepare("none", inputs, {})
    image = preprocess.load(path) if opened is None else opened
    (name, kind), *_ = inputs.items()
    displayed = preprocess.displayed(image)
    values = preprocess.values(displayed)
    whole = kind.dtype is not None and kind.dtype.kind in "iu"
    return Item(path, {name: np.rint(values).astype(kind.dtype) if whole else values}, displayed, image.size)


def prepare(name: str | None, inputs: dict[str, TensorType], metadata: Mapping[str, str]) -> tuple[Preprocess, str]:
    """A preprocessing fitted to the model.

    Args:
        name: A preset or a JSON file. None: as the model's metadata says, else as is usual.
        inputs: The model's inputs.
        metadata: The model's metadata.

    Returns:
        The preprocessing, and what of it is a guess; "" if nothing.

    Raises:
        InputError: The model takes no pictures, or the preprocessing is unknown, or the metadata is wrong.
    """
    from onnx_lrp.metadata import for_model
    from onnx_lrp.preprocess import find

    if len(inputs) != 1:
        raise InputError(f"the model has {len(inputs)} inputs ({', '.join(inputs)}): give a .npz file with an array for each")
    (kind,) = inputs.values()
    return for_model(metadata, kind.shape) if name is None else (find(name).fit(kind.shape), "")


def _arrays(path: Path, names: Sequence[str]) -> dict[str, Array]:
    """The arrays of a file by the names of the model's inputs."""
    try:
        if path.suffix.lower() == ".npy":
            array = np.load(path, mmap_mode="r", allow_pickle=False)
            return {names[0]: _numeric(path, array)} if len(names) == 1 else _one_for_many(path, names)
        with path.open("rb") as handle, np.load(handle, allow_pickle=False) as file:
            return {name: _numeric(path, file[key]) for name, key in _keys(path, list(file), names).items()}
    except InputError:
        raise
    except FileNotFoundError:
        raise InputError(f"no such file: {path}") from None
    except MemoryError:
        raise InputError(f"{path}: not enough memory for this array") from None
    except Exception as error:  # noqa: BLE001 - a damaged file fails in many ways inside NumPy; to the user they are one
        reason = getattr(error, "strerror", None) or "it is no array of numbers, or it is damaged"
        raise InputError(f"cannot read {path}: {reason}") from None


def _one_for_many(path: Path, names: Sequence[str]) -> dict[str, Array]:
    raise InputError(f"{path}: the model has {len(names)} inputs ({', '.join(names)}): give a .npz file with an array for each")


def _keys(path: Path, keys: list[str], names: Sequence[str]) -> dict[str, str]:
    """For each input of the model the key of its array."""
    if len(names) == 1 and names[0] not in keys and (len(keys) == 1 or "input" in keys):
        return {names[0]: "input" if "input" in keys else keys[0]}
    for name in names:
        if name not in keys:
            raise InputError(f"{path} has no array named {name!r}, the model's input; it has: {', '.join(keys) or 'nothing'}")
    return {name: name for name in names}


def _numeric(path: Path, array: Any) -> Array:
    values: Array = np.asanyarray(array)
    if values.dtype.kind not in "fiub":
        raise InputError(f"{path} holds values of type {values.dtype}, not numbers")
    if values.ndim == 0:
        raise InputError(f"{path} holds a single number, not samples")
    return values


def _batched(values: Array, shape: tuple[int | str | None, ...] | None) -> Array:
    """Gives a sample without batch axis one."""
    if shape is None or values.ndim != len(shape) - 1:
        return values
    fits = all(not isinstance(wanted, int) or wanted == length for wanted, length in zip(shape[1:], values.shape, strict=True))
    return values[None] if fits else values
