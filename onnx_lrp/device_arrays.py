"""Arrays of other frameworks (PyTorch, CuPy, JAX ...), on the CPU or a GPU: by DLPack into a session and out of it, without a copy.

They are called foreign here. What is done to them beside running a session is little, and is what these frameworks have in common with
numpy: `shape`, slices, `reshape`, `swapaxes`, and in their module `from_dlpack`, `asarray`, `concatenate`, `broadcast_to`, `isfinite`.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from onnx_lrp.errors import InputError

if TYPE_CHECKING:
    from onnx_lrp.graph import Array

CPU, CUDA, PINNED = 1, 2, 3
"""Kinds of device, by DLPack's numbers; PINNED is memory of the CPU."""


def is_foreign(value: Any) -> bool:
    """Whether a value is an array of a framework that can take arrays by DLPack; numpy's own are not foreign."""
    return not isinstance(value, np.ndarray | np.generic) and hasattr(value, "__dlpack_device__") and _module(value) is not None


def foreign_among(values: Iterable[Any]) -> Any:
    """The first foreign array, None where there is none.

    Raises:
        InputError: they are of several frameworks, or on several devices.
    """
    found = [value for value in values if is_foreign(value)]
    for value in found[1:]:
        if _module(value) is not _module(found[0]):
            raise InputError(f"the inputs are arrays of {_module(found[0]).__name__} and of {_module(value).__name__}: give one kind")
        if device_of(value) != device_of(found[0]):
            raise InputError(f"the inputs are on {written(device_of(found[0]))} and on {written(device_of(value))}: move them to one")
    return found[0] if found else None


def _module(value: Any) -> Any:
    """The module whose from_dlpack makes arrays like a value, None where there is none. Nothing is imported: it is in use already."""
    if hasattr(value, "__array_namespace__"):
        module = value.__array_namespace__()
    else:
        module = sys.modules.get(type(value).__module__.partition(".")[0])
    return module if hasattr(module, "from_dlpack") else None


def device_of(value: Any) -> tuple[str, int]:
    """Where a foreign array is, as onnxruntime names it: "cpu" or "cuda", and the number of the device.

    Raises:
        InputError: it is on another kind of device.
    """
    kind, index = value.__dlpack_device__()
    if kind in (CPU, PINNED):
        return "cpu", 0
    if kind != CUDA:
        where = f"device {kind:d} of DLPack's list, neither the CPU nor CUDA"
        raise InputError(f"an array of {_module(value).__name__} is on {where}")
    return "cuda", int(index)


def written(device: tuple[str, int]) -> str:
    """A device in words."""
    return "the CPU" if device[0] == "cpu" else f"{device[0]}:{device[1]}"


def dtype_name(value: Any) -> str:
    """The type of an array's elements by numpy's name, also of foreign arrays."""
    return str(value.dtype).rpartition(".")[2]


def kind_of(value: Any) -> str:
    """The kind of the elements of an array as numpy.dtype.kind has it: f, i, u or b; ? for other types."""
    name = dtype_name(value).replace("bfloat", "float")
    return next((kind for kind, start in (("f", "float"), ("i", "int"), ("u", "uint"), ("b", "bool")) if name.startswith(start)), "?")


def fitted(name: str, value: Any, dtype: Any) -> Any:
    """A foreign array as a session can read it where it is: of the wanted type and contiguous. If it is both, it is returned as it is.

    Raises:
        InputError: it tracks gradients, or its framework cannot convert it.
    """
    if getattr(value, "requires_grad", False):
        raise InputError(f"input {name!r} tracks gradients, which relevance has none of: pass it by .detach()")
    if kind_of(value) == "b":
        return to_numpy(value).astype(dtype)
    wanted = np.dtype(dtype).name
    if dtype_name(value) != wanted:
        value = _module(value).asarray(value, dtype=getattr(_module(value), wanted))
    try:
        to_ort(value)
    except Exception:  # noqa: BLE001 - onnxruntime has no class of its own for it; the second try tells if something else is wrong
        value = value.reshape(-1).reshape(tuple(value.shape))  # which copies in the order of the axes
    try:
        to_ort(value)
    except Exception as error:
        raise InputError(f"input {name!r} cannot be read by DLPack: {' '.join(str(error).split())[:200]}") from error
    return value


def to_ort(value: Any) -> Any:
    """An OrtValue that reads a foreign array where it is."""
    from onnxruntime import OrtValue

    return OrtValue.from_dlpack(value)


def from_ort(value: Any, like: Any) -> Any:
    """An array of the framework of `like` that shares an OrtValue's memory."""
    return _module(like).from_dlpack(value)


def to_numpy(value: Any) -> Array:
    """An array in the memory of the CPU: a numpy array is returned as it is, a foreign one on a GPU is copied."""
    if not is_foreign(value):
        return np.asarray(value)
    if getattr(value, "requires_grad", False):
        value = value.detach()
    if dtype_name(value) == "bfloat16":
        value = _module(value).asarray(value, dtype=_module(value).float32)
    if device_of(value)[0] == "cpu":
        return np.from_dlpack(value)
    if kind_of(value) == "b":  # which onnxruntime does not take
        return to_numpy(_module(value).asarray(value, dtype=_module(value).uint8)).astype(bool)
    copied = to_ort(value.reshape(-1).reshape(tuple(value.shape))).numpy()
    return np.asarray(copied)


def to_framework(value: Array, like: Any) -> Any:
    """A numpy array as one of the framework of `like`, on its device."""
    from onnxruntime import OrtValue

    value = np.require(value, requirements=["C", "W"])
    if device_of(like)[0] == "cpu":
        return _module(like).from_dlpack(value)  # an OrtValue would only borrow the memory
    return from_ort(OrtValue.ortvalue_from_numpy(value, *device_of(like)), like)


def count_not_finite(value: Any) -> int:
    """How many elements are NaN or infinite. Of an array on a GPU it is counted there."""
    if not is_foreign(value):
        return int(value.size - np.isfinite(value).sum())
    size = int(np.prod(tuple(value.shape)))
    return size - int(_module(value).isfinite(value).sum())


def joined(parts: Sequence[Any], axis: int = 0) -> Any:
    """Arrays, all numpy's or all foreign, put one after the other; a single one is returned as it is."""
    if len(parts) == 1:
        return parts[0]
    return (_module(parts[0]) if is_foreign(parts[0]) else np).concatenate(list(parts), axis)


def spread(value: Any, shape: tuple[int, ...]) -> Any:
    """An array broadcast to a shape."""
    return (_module(value) if is_foreign(value) else np).broadcast_to(value, shape)
