"""What is perturbed together: patches of images, stretches of signals, single features of tables."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from onnx_lrp.errors import InputError

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from onnx_lrp.graph import Array

PATCH = 8
"""The side of a patch of an image or signal, where none is asked for."""


def guess_channel_axis(shape: Sequence[int]) -> int | None:
    """The channel axis of a sample: of images (C, H, W) or (H, W, C) with one, three or four channels, of signals (C, T); else none."""
    if len(shape) < 2:
        return None
    last = len(shape) - 1
    return last if len(shape) > 2 and shape[last] in (1, 3, 4) and shape[0] not in (1, 3, 4) else 0


class Regions:
    """A sample cut into regions that are perturbed together.

    Args:
        shape: of one sample, without the batch axis.
        patch: the side of a region along each axis but the channels; at the far edges regions are smaller. Default: 8, and 1 for tables.
        channel_axis: the axis of `shape` that holds channels, "none", or None to guess by `guess_channel_axis`.

    Raises:
        InputError: a patch or an axis that does not fit.
    """

    def __init__(self, shape: Sequence[int], patch: int | None = None, channel_axis: int | str | None = None):
        self.shape = tuple(shape)
        if channel_axis is not None and channel_axis != "none" and not (isinstance(channel_axis, int) and 0 <= channel_axis < len(shape)):
            raise InputError(f'channel_axis is an axis of a sample of shape {self.shape}, or "none", not {channel_axis!r}')
        axis = guess_channel_axis(shape) if channel_axis is None else channel_axis
        self.channel_axis = axis if isinstance(axis, int) else None
        """The axis that holds channels, if there is one."""
        self.grid = tuple(length for index, length in enumerate(shape) if index != self.channel_axis)
        """The lengths of the other axes."""
        side = (1 if len(self.grid) == 1 and self.channel_axis is None else PATCH) if patch is None else patch
        if not isinstance(side, int) or side < 1:
            raise InputError(f"patch is a positive int, not {patch!r}")
        self.labels: NDArray[np.int64] = np.zeros(self.grid, np.int64)
        """Each position's region, numbered row by row."""
        for index, length in enumerate(self.grid):
            along = np.arange(length) // side
            self.labels = self.labels * (int(along[-1]) + 1) + along.reshape([-1 if i == index else 1 for i in range(len(self.grid))])
        self.count = int(self.labels.max()) + 1
        """How many regions there are."""

    @property
    def is_image(self) -> bool:
        """Whether there are two axes beside the channels."""
        return len(self.grid) == 2

    def scores(self, relevance: Array) -> NDArray[np.float64]:
        """Each region's relevance: the sum over its positions and all channels. Shape (count,)."""
        positions = relevance if self.channel_axis is None else relevance.sum(self.channel_axis, dtype=np.float64)
        summed: NDArray[np.float64] = np.bincount(self.labels.ravel(), positions.ravel(), self.count).astype(np.float64)
        return summed

    def mask(self, chosen: NDArray[np.int64]) -> NDArray[np.bool_]:
        """Where a sample belongs to some regions; shaped like `grid`, with an axis of one in place of the channels."""
        table = np.zeros(self.count, bool)
        table[chosen] = True
        mask = table[self.labels]
        return mask if self.channel_axis is None else np.expand_dims(mask, self.channel_axis)
