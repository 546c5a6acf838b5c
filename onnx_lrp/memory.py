"""How much memory the runs of an explainer may take, and how much there is."""

from __future__ import annotations

import os
from collections.abc import Callable, Hashable, Sequence
from pathlib import Path
from typing import Any

from onnx_lrp.errors import InputError

FRACTION = 0.5
"""How much of the free memory the runs of an explainer may take when nothing else is said."""
PART = 2**29
"""Bytes that a run takes at most on a CPU, for larger ones are no faster: a few pictures have enough work for all threads, and a session's
first runs take time for each new page of memory, often more than for computing. Measured in docs/performance.md."""


class Budget:
    """How much memory the runs of one explainer take: what they may, and on a CPU no more than makes them faster, `PART`.

    Args:
        limit: bytes; None: half of the memory that is free, and no limit on a GPU, unless its options have a gpu_mem_limit.
        providers: those of the explainer.

    Raises:
        InputError: the limit is no positive int.
    """

    def __init__(self, limit: int | None, providers: Sequence[Any]):
        if limit is not None and (isinstance(limit, bool) or not isinstance(limit, int) or limit < 1):
            raise InputError(f"memory_limit is a number of bytes, an int >= 1, not {limit!r}")
        self._limit = limit
        self._on_cpu = not providers or providers[0] == "CPUExecutionProvider"
        if limit is None and providers and not isinstance(providers[0], str):
            own = providers[0][1].get("gpu_mem_limit")
            self._limit = None if own is None else int(int(own) * FRACTION)
        self._each: dict[Hashable, int] = {}
        self._held = 0
        """What earlier runs took: the session keeps it, and uses it again."""

    def samples(self, batch: int, kind: Hashable, cost: Callable[[], int]) -> int | None:
        """How many samples to run at once, at least one; None for any number.

        Args:
            batch: how many there are.
            kind: what a sample's bytes depend on.
            cost: finds those.
        """
        limit = self._limit
        if self._on_cpu:
            if limit is None and (free := free_bytes()) is not None:
                limit = int((free + self._held) * FRACTION)
            limit = PART if limit is None else min(limit, PART)
        if limit is None:
            return None
        if kind not in self._each:
            self._each[kind] = max(1, cost())
        most = max(1, limit // self._each[kind])
        self._held = max(self._held, min(batch, most) * self._each[kind])
        return most


def free_bytes() -> int | None:
    """The memory that can be had now without swapping; None where the system does not tell.

    Linux says what is free and what could be freed, and a control group (a container) what is left of its limit. Elsewhere it is all
    the memory that is built in.
    """
    known = [value for value in (_available(), _left_in_group()) if value is not None]
    if known:
        return min(known)
    try:
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, OSError, ValueError):
        return None


def _available() -> int | None:
    try:
        lines = Path("/proc/meminfo").read_text(encoding="ascii").splitlines()
    except OSError:
        return None
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable:")), None)


def _left_in_group(root: Path = Path("/sys/fs/cgroup")) -> int | None:
    """What the control group leaves, version 2 or 1; the page cache counts as free."""
    for folder, limit, used, cache in (
        (root, "memory.max", "memory.current", "inactive_file"),
        (root / "memory", "memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"),
    ):
        try:
            most, now = ((folder / name).read_text(encoding="ascii").strip() for name in (limit, used))
            stat = dict(line.split() for line in (folder / "memory.stat").read_text(encoding="ascii").splitlines())
        except (OSError, ValueError):
            continue
        if most.isdecimal() and now.isdecimal():
            return max(0, int(most) - int(now) + int(stat.get(cache, 0)))
    return None
