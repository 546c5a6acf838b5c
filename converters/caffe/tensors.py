"""What the functions that write a layer's nodes share."""

from __future__ import annotations

from collections.abc import Callable
from math import prod
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias

from numpy.typing import NDArray

from onnx_lrp.errors import ModelError

from ..builder import Builder
from .network import Layer

if TYPE_CHECKING:
    Array = NDArray[Any]

__all__ = ["Emit", "Tensor", "blob", "rank_of"]


class Tensor(NamedTuple):
    """An ONNX tensor and its shape, whose first length is the batch size of the description."""

    name: str
    shape: tuple[int, ...]


Emit: TypeAlias = Callable[[Builder, Layer, list[Tensor], str], "list[Tensor]"]
"""Writes a layer: takes the builder, the layer, its inputs and a name for its output; gives the outputs."""


def blob(layer: Layer, index: int, shape: tuple[int, ...]) -> Array:
    """One of the layer's weights in the shape that it must have.

    Raises:
        ModelError: It is missing, or has not as many numbers.
    """
    if index >= len(layer.blobs):
        raise ModelError(f"layer {layer.name!r} ({layer.kind}) has {len(layer.blobs)} arrays of weights, not {index + 1}")
    found = layer.blobs[index]
    if found.size != prod(shape):
        raise ModelError(f"layer {layer.name!r} ({layer.kind}): weights of shape {list(found.shape)} where {list(shape)} is needed")
    return found.reshape(shape)


def rank_of(layer: Layer, x: Tensor, least: int) -> int:
    """How many axes the input has.

    Raises:
        ModelError: Fewer than the layer needs.
    """
    if len(x.shape) < least:
        raise ModelError(f"layer {layer.name!r} ({layer.kind}) needs at least {least} axes, but gets the shape {list(x.shape)}")
    return len(x.shape)
