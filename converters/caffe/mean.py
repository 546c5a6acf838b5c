"""Caffe's files with the mean picture: what is taken off each pixel."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from google.protobuf import message
from numpy.typing import NDArray

from onnx_lrp.errors import InputError, ModelError

from .network import blob_values
from .schema import BlobProto

if TYPE_CHECKING:
    Array = NDArray[Any]

__all__ = ["read_mean"]

_NPY: Final = b"\x93NUMPY"
_LARGEST: Final = 2**28


def read_mean(path: Path) -> Array:
    """Read a mean picture.

    Args:
        path: A `.binaryproto` file, a `.npy` file, or the text of the LRP extension: the lengths C H W, then the values of each
            channel column by column.

    Returns:
        (channels,) or (channels, height, width), in the order of channels that the file has.

    Raises:
        InputError: The file is missing, none of these, or damaged.
    """
    try:
        if path.stat().st_size > _LARGEST:
            raise InputError(f"{path} is too large for a mean picture")
        data = path.read_bytes()
        mean = _npy(path) if data.startswith(_NPY) else _text(data) if _is_text(data) else _proto(data, path)
    except OSError as error:
        raise InputError(f"cannot read {path}: {error.strerror or error}") from None
    except ModelError as error:
        raise InputError(str(error)) from None
    except (ValueError, message.DecodeError, EOFError, MemoryError) as error:
        raise InputError(f"{path} holds no mean picture: {' '.join(str(error).split())[:120]}") from None
    if mean.ndim == 4 and mean.shape[0] == 1:
        mean = mean[0]
    if mean.ndim not in (1, 3) or not 1 <= mean.shape[0] <= 4 or not np.isfinite(mean).all():
        raise InputError(f"{path} holds no mean picture: an array of shape {mean.shape}, or values that are not finite")
    return mean


def _is_text(data: bytes) -> bool:
    return not data[:4096].translate(None, b"0123456789+-.eE \t\r\n")


def _npy(path: Path) -> Array:
    array = np.load(path, mmap_mode="r", allow_pickle=False)  # mapped: a header cannot promise more than there is
    if array.dtype.kind not in "fiu":
        raise ValueError(f"values of type {array.dtype}")
    return np.asarray(array, np.float64)


def _text(data: bytes) -> Array:
    words = data.split()
    channels, height, width = (int(word) for word in words[:3])
    values = np.array([float(word) for word in words[3:]])
    if min(channels, height, width) < 1 or len(values) != channels * height * width:
        raise ValueError(f"{len(values)} values for {channels} x {height} x {width}")
    return values.reshape(channels, width, height).transpose(0, 2, 1)


def _proto(data: bytes, path: Path) -> Array:
    blob = BlobProto()
    blob.ParseFromString(data)
    return blob_values(blob, str(path)).astype(np.float64)
