"""The inputs that a user gives, checked against what the model wants."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from onnx_lrp.device_arrays import count_not_finite, dtype_name, fitted, is_foreign, kind_of, to_numpy
from onnx_lrp.errors import InputError, suggest
from onnx_lrp.tensors import Array, TensorType

if TYPE_CHECKING:
    import onnx

Input: TypeAlias = "Array | Mapping[str, Array] | Any"
"""An array of numpy or of another framework, or a dict name -> array."""


def value_info(name: str, dtype: Any, shape: Sequence[int | str | None] | None) -> onnx.ValueInfoProto:
    """The declaration of an input or output; float32 where the type is not known."""
    from onnx import helper

    return helper.make_tensor_value_info(name, helper.np_dtype_to_tensor_dtype(np.dtype(dtype or np.float32)), shape)


def feeds_for(x: Input, names: list[str], types: Mapping[str, TensorType]) -> tuple[dict[str, Array], int]:
    """The arrays for the inputs that a model needs, and how many samples they hold.

    Args:
        x: an array for a model of one input, or a dict name -> array.
        names: the inputs that are needed.
        types: all inputs of the model; those that are not needed may be given too.

    Raises:
        InputError: a wrong name, shape, type or value.
    """
    if not isinstance(x, Mapping) and len(names) != 1:
        raise InputError(f"the model has {len(names)} inputs ({', '.join(names)}): pass a dict name -> array")
    given = dict(x) if isinstance(x, Mapping) else {names[0]: x}
    for name in given:
        if name not in types:
            raise InputError(f"the model has no input {name!r}" + suggest(name, names))
    missing = [name for name in names if name not in given]
    if missing:
        raise InputError(f"input {missing[0]!r} is missing")
    feeds = {name: _fitting(name, given[name], types[name].dtype, types[name].shape) for name in names}
    batches = {value.shape[0] for value in feeds.values()}
    if len(batches) != 1:
        raise InputError(f"the inputs have different numbers of samples: {sorted(batches)}")
    batch = batches.pop()
    if batch == 0:
        raise InputError("the input has no samples")
    return feeds, batch


def on_host(x: Input) -> Input:
    """The arrays that a user gives as numpy arrays, for what is not computed by a session."""
    if isinstance(x, Mapping):
        return {name: to_numpy(value) if is_foreign(value) else value for name, value in x.items()}
    return to_numpy(x) if is_foreign(x) else x


def _fitting(name: str, value: Any, dtype: Any, shape: tuple[int | str | None, ...] | None) -> Any:
    """An input as an array of the right type, checked against the model's shape but for the batch; a foreign array stays one."""
    try:
        array = value if is_foreign(value) else np.asarray(value)
    except (TypeError, ValueError):
        raise InputError(f"input {name!r} is no array") from None
    if kind_of(array) not in "fiub":
        raise InputError(f"input {name!r} has type {dtype_name(array)}, which is not numeric")
    if shape is not None and (
        array.ndim != len(shape) or any(isinstance(w, int) and w != h for w, h in zip(shape[1:], array.shape[1:], strict=True))
    ):
        wanted = "(" + ", ".join("N" if i == 0 else str(length or "?") for i, length in enumerate(shape)) + ")"
        raise InputError(f"input {name!r} has shape {tuple(array.shape)}, the model wants {wanted}")
    if array.ndim == 0:
        raise InputError(f"input {name!r} has no batch axis")
    wrong = count_not_finite(array) if kind_of(array) == "f" else 0
    if wrong:
        raise InputError(f"input {name!r} has {wrong} values that are NaN or infinite")
    if dtype is not None and np.dtype(dtype).kind in "iu" and kind_of(array) == "f":
        raise InputError(f"input {name!r} wants {np.dtype(dtype)}, not {dtype_name(array)}")
    if is_foreign(array):
        return fitted(name, array, dtype or np.float32)
    return np.ascontiguousarray(array.astype(dtype or np.float32, copy=False))
