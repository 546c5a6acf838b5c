"""Where the relevance of each lane starts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from onnx_lrp.errors import InputError
from onnx_lrp.targets import Targets


def join_targets(lanes: Sequence[Targets]) -> Targets:
    """The targets of several lanes, each one per sample, as targets of which there are several per sample.

    Raises:
        InputError: a lane has several itself, or they are not of one form.
    """
    first = lanes[0]
    if any(targets.per_sample is not None for targets in lanes):
        raise InputError("with conditions there is one target for each sample: give each condition one of its own with the key 'y'")
    if any((targets.form, targets.view, targets.places) != (first.form, first.view, first.places) for targets in lanes):
        raise InputError("the targets of all conditions are of one form: all positions, or all regions of the same shape")
    index = np.stack([targets.index for targets in lanes], 1)
    return replace(first, index=index.reshape(-1, *index.shape[2:]), per_sample=len(lanes))


def spread_seeds(targets: Targets, seed: Any, batch: int, rank: int | None) -> tuple[Targets, Any, int]:
    """A seed array (N, K, ...), with one axis more than the output, as N * K seeds, with as many targets.

    Returns:
        The targets, the seed and how many samples it is for; unchanged for other seeds.

    Raises:
        InputError: there are not as many seeds as targets for each sample.
    """
    if isinstance(seed, str) or rank is None or np.ndim(seed) != rank + 1:
        return targets, seed, batch
    array = np.asarray(seed)
    count = array.shape[1]
    if len(array) != batch or not count:
        raise InputError(f"the seed has shape {array.shape} for {batch} samples")
    if targets.per_sample not in (None, count):
        raise InputError(f"{targets.per_sample} targets and {count} seeds for each sample")
    if targets.per_sample is None:
        targets = replace(targets, index=targets.index.repeat(count, 0), per_sample=count)
    return targets, array.reshape(-1, *array.shape[2:]), batch * count
