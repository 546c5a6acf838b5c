"""A progress bar."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable, Iterator

_shown: list[object] = []
"""The bar that is on the screen: two at once would write over each other."""


@contextlib.contextmanager
def progress_bar(total: int | None) -> Iterator[Callable[[int], None]]:
    """A progress bar, on a terminal only and if there is more than one step; inside another one, that one goes on alone.

    Args:
        total: How many steps there are; None if that is not known.

    Yields:
        What to call with the number of steps done.
    """
    if (total is not None and total < 2) or not sys.stderr.isatty() or _shown:
        yield lambda steps: None  # noqa: ARG005
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TimeRemainingColumn

    console = Console(stderr=True)
    with Progress(
        BarColumn(), MofNCompleteColumn(), TimeRemainingColumn(), console=console, redirect_stdout=sys.stdout.isatty(), transient=True
    ) as bar:
        task = bar.add_task("", total=total)
        _shown.append(bar)
        try:
            yield lambda steps: bar.advance(task, steps)
        finally:
            _shown.pop()
