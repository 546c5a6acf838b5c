"""A stand-in for the arrays of a framework on a GPU: it can do what `onnx_lrp.device_arrays` asks for, and cannot become a numpy array."""

from __future__ import annotations

import types
from typing import Any

import numpy as np


class DeviceArray:
    """Its memory is that of a numpy array, which only DLPack gets at."""

    def __init__(self, values: Any):
        self._values = np.ascontiguousarray(values)

    @property
    def shape(self) -> tuple[int, ...]:
        return self._values.shape

    @property
    def ndim(self) -> int:
        return self._values.ndim

    @property
    def dtype(self) -> str:
        return f"framework.{self._values.dtype.name}"

    def __len__(self) -> int:
        return len(self._values)

    def __getitem__(self, index: Any) -> DeviceArray:
        assert all(isinstance(i, (int, slice, type(None))) for i in (index if isinstance(index, tuple) else (index,)))
        return DeviceArray(self._values[index])

    def reshape(self, *shape: Any) -> DeviceArray:
        return DeviceArray(self._values.reshape(*shape))

    def swapaxes(self, a: int, b: int) -> DeviceArray:
        return DeviceArray(self._values.swapaxes(a, b))

    def __array__(self, *arguments: Any, **options: Any) -> np.ndarray:
        raise TypeError("it is on a device")

    def __dlpack__(self, **options: Any) -> Any:
        return self._values.__dlpack__()

    def __dlpack_device__(self) -> tuple[int, int]:
        return self._values.__dlpack_device__()

    def __array_namespace__(self) -> types.ModuleType:
        return FRAMEWORK


FRAMEWORK = types.ModuleType("framework")
FRAMEWORK.from_dlpack = lambda value: DeviceArray(np.from_dlpack(value).copy())
FRAMEWORK.isfinite = lambda value: np.isfinite(value._values)
FRAMEWORK.asarray = lambda value, dtype: DeviceArray(value._values.astype(dtype))
FRAMEWORK.concatenate = lambda values, axis: DeviceArray(np.concatenate([value._values for value in values], axis))
FRAMEWORK.broadcast_to = lambda value, shape: DeviceArray(np.broadcast_to(value._values, shape))
FRAMEWORK.float32 = np.float32
