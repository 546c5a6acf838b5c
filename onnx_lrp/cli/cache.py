"""Show what explain --cache keeps on disk: where, how many explainers, and how large they are.

The folder is that of the environment variable ONNX_LRP_CACHE, if it is set.
"""

from __future__ import annotations

from onnx_lrp.cli.parser import Argument, Namespace

__all__ = ["ARGUMENTS", "run"]

ARGUMENTS = (Argument("--clear", action="store_true", under="Options", help="Remove all of it."),)


def run(given: Namespace) -> int:
    """Print what is there, or remove it."""
    from onnx_lrp.commands.cache import run

    run(clear=given.clear)
    return 0
