"""List the composites, with their options and other names; of one, which rule each kind of node gets."""

from __future__ import annotations

from onnx_lrp.cli.parser import Argument, Namespace

__all__ = ["ARGUMENTS", "run"]

ARGUMENTS = (Argument("name", metavar="NAME", nargs="?", help="Only this one."),)


def run(given: Namespace) -> int:
    """Print the composites."""
    from onnx_lrp.commands.models import composites

    composites(given.name)
    return 0
