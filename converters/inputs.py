"""What a module is run on: the examples that the user gives, or random tensors of the given shapes."""

from __future__ import annotations

import inspect
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from onnx_lrp.errors import InputError

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["Shape", "arguments", "batch", "parse", "random", "tensors"]

Shape = tuple[tuple[int, ...], str]
"""Lengths with the batch first, and the type of the elements."""
_TYPES: Final = ("float32", "int64", "int32", "bool")
_LARGEST: Final = 2**28


def parse(shapes: Iterable[str | Sequence[int]] | str) -> list[Shape]:
    """Read shapes such as "1,3,224,224", "1x16:int64" or (1, 3, 224, 224).

    Raises:
        InputError: One is none.
    """
    return [_parse(shape) for shape in ([shapes] if isinstance(shapes, str) else shapes)]


def _parse(shape: str | Sequence[int]) -> Shape:
    text, _, kind = shape.partition(":") if isinstance(shape, str) else (",".join(map(str, shape)), "", "")
    words = [word.strip() for word in text.replace("x", ",").split(",")]
    if not all(word.isdecimal() and int(word[:12]) > 0 for word in words):
        raise InputError(f"a shape is whole numbers with the batch first, such as 1,3,224,224 or 1,16:int64, not {str(shape)!r}")
    if kind and kind not in _TYPES:
        raise InputError(f"the elements of an input are {', '.join(_TYPES)}, not {kind!r}")
    lengths = tuple(int(word) for word in words)
    if np.prod(lengths, dtype=float) > _LARGEST:
        raise InputError(f"an input of shape {text} is too large: it has more than {_LARGEST:,} elements")
    return lengths, kind or "float32"


def random(shapes: Iterable[Shape], *, pictures: bool = False) -> tuple[NDArray[Any], ...]:
    """Arrays of these shapes: normal numbers; whole numbers are 0 or 1, so that they fit every table of embeddings.

    Args:
        shapes: What is wanted.
        pictures: Whether the numbers are those of pictures instead, 0 to 255.
    """
    rng = np.random.default_rng(0)
    values = []
    for lengths, kind in shapes:
        numbers = rng.uniform(0, 255, lengths) if pictures else rng.standard_normal(lengths)
        values.append((rng.integers(0, 2, lengths) if kind != "float32" else numbers).astype(kind))
    return tuple(values)


def arguments(module: Any, example: Any) -> tuple[Any, ...]:
    """An example as the positional arguments of a module: it may be a tensor, an array, a sequence of them, or a dict by name.

    Raises:
        InputError: It does not fit `forward`.
    """
    if isinstance(example, Mapping):
        try:
            bound = inspect.signature(module.forward).bind(**example)
        except TypeError as error:
            raise InputError(f"the example does not fit {type(module).__name__}.forward: {error}") from None
        bound.apply_defaults()
        last = max(list(bound.arguments).index(name) for name in example)
        return tuple(_tensor(value) for value in list(bound.arguments.values())[: last + 1])
    if isinstance(example, (tuple, list)):
        return tuple(_tensor(value) for value in example)
    return (_tensor(example),)


def tensors(values: Iterable[NDArray[Any]]) -> tuple[Any, ...]:
    """Arrays as tensors."""
    return tuple(_tensor(value) for value in values)


def _tensor(value: Any) -> Any:
    import torch

    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    if isinstance(value, np.ndarray):
        value = torch.from_numpy(np.ascontiguousarray(value, np.float32 if value.dtype == np.float64 else value.dtype))
    if not isinstance(value, torch.Tensor):
        raise InputError(f"an example is made of tensors or arrays, not {type(value).__name__}")
    value = value.detach().cpu()
    return value.float() if value.is_floating_point() else value


def batch(values: Sequence[Any], samples: int) -> tuple[Any, ...]:
    """The same arguments with a batch of this many samples; what repeats is rolled along its last axis, so that no two are alike."""
    import torch

    def grown(value: Any) -> Any:
        if not isinstance(value, torch.Tensor) or not value.ndim or not len(value):
            return value
        rows = [value[index % len(value)] for index in range(samples)]
        if value.is_floating_point() and value.ndim > 1:
            rows = [row.roll(index // len(value), -1) for index, row in enumerate(rows)]
        return torch.stack(rows)

    return tuple(grown(value) for value in values)
