"""Lines for the user: results on standard output, notes and errors on standard error.

On a terminal a progress bar takes both streams over, so that lines come above it: they are looked up for each line.
"""

from __future__ import annotations

import os
import sys

__all__ = ["BOLD", "CYAN", "say", "styled", "warn"]

BOLD, CYAN = 1, 36
"""Codes of ECMA-48."""


def say(text: str) -> None:
    """Print a line, at once: what is piped is read while more is computed."""
    print(text, flush=True)


def warn(text: str) -> None:
    """Print a line to standard error."""
    print(text, file=sys.stderr, flush=True)


def styled(text: str, code: int) -> str:
    """The text in bold or in a colour, on a terminal that shows these; see no-color.org."""
    terminal = sys.stdout is not None and sys.stdout.isatty() and (os.name != "nt" or "WT_SESSION" in os.environ)
    return f"\x1b[{code}m{text}\x1b[0m" if terminal and not os.environ.get("NO_COLOR") else text
