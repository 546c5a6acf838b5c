"""The command cache: what compiled explainers are on disk."""

from __future__ import annotations

import typer

from onnx_lrp.cache import Cache

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
        typer.echo(f"{_counted(count)} removed, {_megabytes(size)}")
        return
    typer.secho(str(cache.folder), bold=True)
    typer.echo(f"  {_counted(len(cache.entries()))}, {_megabytes(size)} of at most {_megabytes(cache.limit)}")


def _counted(count: int) -> str:
    return f"{count} explainer{'' if count == 1 else 's'}"


def _megabytes(size: int) -> str:
    return f"{size / 2**20:.0f} MiB"
