"""What is explained, and where relevance starts."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod
from typing import TYPE_CHECKING, Any

import numpy as np

from onnx_lrp.errors import InputError, suggest

if TYPE_CHECKING:
    from onnx_lrp.emitter import Emitter
    from onnx_lrp.graph import Array

SEEDS = ("output", "one")
"""output: the output's value at the target, zero elsewhere. one: one at the target."""

INDEX, MODE, GIVEN = "lrp/index", "lrp/mode", "lrp/given"
"""Inputs of the explaining graph: the target's position among a sample's outputs (negative: the largest), the mode, a given seed."""

MODES = {"output": 0, "one": 1, "given": 2}


def emit_seed(e: Emitter, output: str) -> str:
    """Emits the initial relevance from INDEX, MODE and GIVEN, so that target and seed can be chosen in the same run that computes them."""
    flat = e.op("Reshape", output, e.constant([0, -1], np.int64))
    index = e.op("Reshape", INDEX, e.ints(-1, 1))
    largest = e.op("ArgMax", flat, axis=1, keepdims=1)
    chosen = e.op("Where", e.op("Less", index, e.constant([0], np.int64)), largest, index)
    width = e.op("Squeeze", e.op("Slice", e.op("Shape", flat), e.ints(1), e.ints(2)), e.ints(0))
    positions = e.op("Range", e.constant(0, np.int64), width, e.constant(1, np.int64))
    one = e.op("Cast", e.op("Equal", positions, chosen), to=1)
    values = e.op("Where", e.op("Equal", MODE, e.constant(MODES["one"], np.int64)), e.constant(1.0), flat)
    seed = e.op("Reshape", e.mul(one, values), e.op("Shape", output))
    return e.op("Where", e.op("Equal", MODE, e.constant(MODES["given"], np.int64)), GIVEN, seed)


def sample_shape(shape: Sequence[int | str | None] | None) -> tuple[int, ...] | None:
    """The lengths of an output's axes but the first, if known."""
    if shape is None or not all(isinstance(length, int) for length in shape[1:]):
        return None
    return tuple(int(length) for length in shape[1:] if isinstance(length, int))


def target_indices(target: Any, batch: int, shape: tuple[int, ...]) -> tuple[Array, int | None]:
    """Targets as positions in a sample's flattened output.

    Args:
        target: None (each sample's largest output), an int, one int per sample, an (N, K) array of ints (K targets per sample), a tuple of
            ints (one position in an output of several axes, the batch axis left out), or a list of such tuples, one per sample.
        batch: how many samples there are.
        shape: the output's shape without the batch axis.

    Returns:
        int64 (batch * K,), negative for "the largest", and K, which is None when targets are not given as (N, K).

    Raises:
        InputError: a target of the wrong form, or out of range.
    """
    if target is None:
        return np.full(batch, -1, np.int64), None
    classes = [length for length in shape if length != 1]
    size = prod(shape)
    if isinstance(target, tuple) and len(target) == len(shape) != 1:
        return np.full(batch, _position(target, shape), np.int64), None
    if isinstance(target, (list, tuple)) and target and all(isinstance(item, (list, tuple)) for item in target) and len(classes) > 1:
        if len(target) != batch:
            raise InputError(f"{len(target)} targets for {batch} samples")
        return np.array([_position(item, shape) for item in target], np.int64), None
    array = np.asarray(target)
    if array.dtype.kind not in "iu":
        raise InputError(f"a target is None, an int, one int per sample, an (N, K) array of ints or a tuple, not {target!r}")
    if len(classes) > 1:
        raise InputError(f"the output has shape (N, {', '.join(map(str, shape))}): give the target as a tuple of {len(shape)} ints")
    if array.ndim > 2 or (array.ndim >= 1 and array.shape[0] != batch) or not array.size:
        raise InputError(f"targets of shape {array.shape} for {batch} samples: give one int, one per sample, or (N, K)")
    if (array < 0).any() or (array >= size).any():
        wrong = array[(array < 0) | (array >= size)].reshape(-1)[0]
        raise InputError(f"target {wrong} is out of range: the output has {size} elements (0 to {size - 1})")
    array = array.astype(np.int64)
    if array.ndim == 0:
        return np.full(batch, array, np.int64), None
    return array.reshape(-1), array.shape[1] if array.ndim == 2 else None


def _position(target: Sequence[int], shape: tuple[int, ...]) -> int:
    try:
        return int(np.ravel_multi_index(tuple(int(i) for i in target), shape))
    except (TypeError, ValueError):
        raise InputError(f"target {tuple(target)} does not fit an output of shape (N, {', '.join(map(str, shape))})") from None


def seed_array(seed: Any, output_shape: tuple[int, ...] | None, batch: int) -> tuple[str, Array | None]:
    """The mode of a seed, and the initial relevance itself where an array is given.

    Raises:
        InputError: an unknown name, or an array of the wrong shape or with NaN.
    """
    if isinstance(seed, str):
        if seed not in SEEDS:
            raise InputError(f"unknown seed {seed!r}" + suggest(seed, SEEDS))
        return seed, None
    array = np.asarray(seed)
    if array.dtype.kind not in "fiub":
        raise InputError(f"a seed is one of {', '.join(SEEDS)}, or an array shaped like the output, not {type(seed).__name__}")
    array = array.astype(np.float32)
    wanted = (batch, *output_shape) if output_shape is not None else None
    if wanted is not None and array.shape == wanted[1:]:
        array = np.broadcast_to(array, wanted)
    if (wanted is not None and array.shape != wanted) or array.shape[:1] != (batch,):
        raise InputError(f"the seed has shape {array.shape}, the output {wanted or (batch, '...')}")
    if not np.isfinite(array).all():
        raise InputError(f"the seed has {int((~np.isfinite(array)).sum())} values that are NaN or infinite")
    return "given", np.ascontiguousarray(array)
