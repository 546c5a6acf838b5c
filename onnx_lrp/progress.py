"""A progress bar."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable, Iterator


@contextlib.contextmanager
def progress_bar(total: int | None) -> Iterator[Callable[[int], None]]:
    """A progress bar, on a terminal only and if there is more than one step.

    Args:
        total: How many steps there are; None if that is not known.

    Yields:
        What to call with the number of steps done.
    """
    if (total is not None and total < 2) or not sys.stderr.isatty():
        yield lambda steps: None  # noqa: ARG005
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TimeRemainingColumn

    console = Console(stderr=True)
    with Progress(
        BarColumn(), MofNCompleteColumn(), TimeRemainingColumn(), console=console, redirect_stdout=sys.stdout.isatty(), transient=True
    ) as bar:
        task = bar.add_task("", total=total)
        yield lambda steps: bar.advance(task, steps)
