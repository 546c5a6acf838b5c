"""The layers of lrp_toolbox: what its three file formats hold."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Final, TypeAlias

import numpy as np
from numpy.typing import NDArray

from onnx_lrp.errors import ModelError, suggest

if TYPE_CHECKING:
    Array = NDArray[Any]
    Pair = tuple[int, int]

__all__ = ["KINDS", "Convolution", "Flatten", "Layer", "Linear", "MaxPool", "Rect", "SoftMax", "SumPool", "Tanh", "build"]


@dataclass(frozen=True)
class Linear:
    """Y = X W + B."""

    kind: ClassVar = "Linear"
    weight: Array
    """(inputs, outputs), in float64."""
    bias: Array


@dataclass(frozen=True)
class Convolution:
    """A cross-correlation over (N, H, W, C)."""

    kind: ClassVar = "Convolution"
    weight: Array
    """(height, width, channels, filters), in float64."""
    bias: Array
    stride: Pair
    same: bool = False
    """Whether zeros are added around the input as Keras's "same" does. The formats cannot say so; an option of the converter can."""


@dataclass(frozen=True)
class SumPool:
    """The sum over each window, divided by the square root of the window's size."""

    kind: ClassVar = "SumPool"
    pool: Pair
    stride: Pair


@dataclass(frozen=True)
class MaxPool:
    """The maximum over each window."""

    kind: ClassVar = "MaxPool"
    pool: Pair
    stride: Pair


@dataclass(frozen=True)
class Rect:
    """max(x, 0)."""

    kind: ClassVar = "Rect"


@dataclass(frozen=True)
class Tanh:
    """tanh(x)."""

    kind: ClassVar = "Tanh"


@dataclass(frozen=True)
class SoftMax:
    """exp(x) / sum(exp(x)) over the classes."""

    kind: ClassVar = "SoftMax"


@dataclass(frozen=True)
class Flatten:
    """(N, H, W, C) -> (N, H * W * C)."""

    kind: ClassVar = "Flatten"


Layer: TypeAlias = Linear | Convolution | SumPool | MaxPool | Rect | Tanh | SoftMax | Flatten

_PLAIN: Final[dict[str, type[Rect | Tanh | SoftMax | Flatten]]] = {"Rect": Rect, "Tanh": Tanh, "SoftMax": SoftMax, "Flatten": Flatten}
KINDS: Final = ("Linear", "Convolution", "SumPool", "MaxPool", *_PLAIN)
"""The names that the formats use."""


def build(kind: str, values: Mapping[str, Any], where: str) -> Layer:
    """A layer from what a file says of it.

    Args:
        kind: One of `KINDS`.
        values: lrp_toolbox's own attributes: W, B, stride, pool.
        where: The place in the file, for messages.

    Raises:
        ModelError: An unknown kind, or values that are missing or do not fit.
    """
    if kind not in KINDS:
        raise ModelError(f"{where}: {kind!r} is no layer of lrp_toolbox{suggest(kind, KINDS)}")
    if kind in _PLAIN:
        return _PLAIN[kind]()
    if kind in ("SumPool", "MaxPool"):
        pool, stride = _pair(values, "pool", where), _pair(values, "stride", where)
        return SumPool(pool, stride) if kind == "SumPool" else MaxPool(pool, stride)
    rank = 2 if kind == "Linear" else 4
    weight, bias = _numbers(values, "W", where), _numbers(values, "B", where).reshape(-1)
    if weight.ndim != rank or not weight.size:
        raise ModelError(f"{where}: the weights of a {kind} have {rank} axes, not the shape {weight.shape}")
    if len(bias) != weight.shape[-1]:
        raise ModelError(f"{where}: {weight.shape[-1]} outputs need as many biases, not {len(bias)}")
    return Linear(weight, bias) if kind == "Linear" else Convolution(weight, bias, _pair(values, "stride", where))


def _numbers(values: Mapping[str, Any], name: str, where: str) -> Array:
    array = values.get(name)
    if not isinstance(array, np.ndarray) or array.dtype.kind not in "fiu":
        raise ModelError(f"{where}: there is no array of numbers {name!r}")
    numbers = array.astype(np.float64)
    with np.errstate(over="ignore"):
        finite = np.isfinite(numbers.astype(np.float32)).all()
    if not finite:
        raise ModelError(f"{where}: {name} has values that are not finite in float32")
    return numbers


def _pair(values: Mapping[str, Any], name: str, where: str) -> Pair:
    given = values.get(name)
    pair = list(given.flat) if isinstance(given, np.ndarray) and given.size == 2 else given
    if isinstance(pair, list | tuple) and len(pair) == 2 and all(map(_is_length, pair)):
        return int(pair[0]), int(pair[1])
    raise ModelError(f"{where}: {name} must be two whole numbers above 0")


def _is_length(value: Any) -> bool:
    return isinstance(value, int | float | np.number) and bool(1 <= value < 2**31 and value == int(value))
