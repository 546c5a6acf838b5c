"""The command cache: what compiled explainers are on disk."""

from __future__ import annotations

from onnx_lrp.cache import Cache
from onnx_lrp.commands.printing import BOLD, say, styled

__all__ = ["run"]


def run(*, clear: bool) -> None:
    """Print where the cache is and what it holds, or empty it.

    Raises:
        InputError: A file cannot be removed.
    """
    cache = Cache()
    size = cache.size()
    if clear:
        count = cache.clear()
        say(f"{_counted(count)} removed, {_megabytes(size)}")
        return
    say(styled(str(cache.folder), BOLD))
    say(f"  {_counted(len(cache.entries()))}, {_megabytes(size)} of at most {_megabytes(cache.limit)}")


def _counted(count: int) -> str:
    return f"{count} explainer{'' if count == 1 else 's'}"


def _megabytes(size: int) -> str:
    return f"{size / 2**20:.0f} MiB"
