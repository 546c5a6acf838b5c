"""Reading the inputs of explain: files that fit together are put into one batch."""

from __future__ import annotations

from collections.abc import Callable, Generator, Hashable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from onnx_lrp.commands.inputs import Item
from onnx_lrp.errors import OnnxLrpError

if TYPE_CHECKING:
    from onnx_lrp.graph import Array

__all__ = ["Failure", "feeds_of", "grouped", "parts"]


@dataclass(frozen=True)
class Failure:
    """A file that could not be read."""

    path: Path
    error: OnnxLrpError


def grouped(
    paths: Iterable[Path], load: Callable[[Path], Item], kind: Callable[[Item], Hashable], size: int
) -> Generator[list[Item] | Failure]:
    """Reads files in their order.

    Args:
        paths: the files.
        load: reads one of them.
        kind: what items must have in common to be run together, beside the shapes and types of their arrays.
        size: how many samples are run together.

    Yields:
        Neighbours of one sample each that can be run together, at most `size` of them; a file of several samples alone; what failed.
    """
    waiting: list[Item] = []
    common: Hashable = None
    for path in paths:
        try:
            item = load(path)
        except OnnxLrpError as error:
            if waiting:
                yield waiting
            waiting = []
            yield Failure(path, error)
            continue
        except BaseException:
            if waiting:
                yield waiting
            raise
        own = (kind(item), *((name, value.shape[1:], value.dtype) for name, value in item.feeds.items()))
        single = all(len(value) == 1 for value in item.feeds.values())
        if waiting and (not single or own != common or len(waiting) == size):
            yield waiting
            waiting = []
        if single:
            waiting, common = [*waiting, item], own
        else:
            yield [item]
    if waiting:
        yield waiting


def feeds_of(items: list[Item]) -> dict[str, Array]:
    """The inputs of a group as one batch."""
    if len(items) == 1:
        return items[0].feeds
    return {name: np.concatenate([item.feeds[name] for item in items]) for name in items[0].feeds}


def parts(item: Item, size: int) -> Generator[dict[str, Array]]:
    """The samples of one file, at most `size` at once."""
    for start in range(0, max(item.count, 1), size):
        yield {name: _part(value, start, start + size) for name, value in item.feeds.items()}


def _part(value: Array, start: int, stop: int) -> Array:
    """Some samples; of a memory map by a map of their own, for what is once read of one stays in memory as long as it is open."""
    if not isinstance(value, np.memmap) or not value.flags.c_contiguous or value.filename is None or start >= len(value):
        return np.array(value[start:stop])
    shape = value[start:stop].shape
    return np.array(np.memmap(value.filename, value.dtype, "r", value.offset + start * value[:1].nbytes, shape))
