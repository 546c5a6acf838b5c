"""How help looks: in colours on a terminal, with lines of at most 120 characters."""

from __future__ import annotations

import shutil
from argparse import HelpFormatter
from collections.abc import Callable
from typing import ClassVar

__all__ = ["formatter"]


def formatter(prog: str) -> HelpFormatter:
    """What argparse lays help out with: rich-argparse, or argparse's own if that is not there."""
    width, column = min(shutil.get_terminal_size().columns, 120), 28
    try:
        from rich_argparse.contrib import ParagraphRichHelpFormatter
    except ImportError:
        return HelpFormatter(prog, max_help_position=column, width=width)

    class Rich(ParagraphRichHelpFormatter):
        group_name_formatter: ClassVar[Callable[[str], str]] = _capitalised
        help_markup = text_markup = False
        styles = ParagraphRichHelpFormatter.styles | {
            "argparse.groups": "bold",
            "argparse.prog": "bold",
            "argparse.metavar": "yellow",
            "argparse.default": "default",
        }

    return Rich(prog, max_help_position=column, width=width)


def _capitalised(heading: str) -> str:
    return heading[:1].upper() + heading[1:]
