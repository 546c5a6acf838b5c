"""Try it: explain a small model for handwritten digits, which comes with the package, in several ways."""

from __future__ import annotations

from onnx_lrp.cli.arguments import out_folder
from onnx_lrp.cli.parser import Namespace

__all__ = ["ARGUMENTS", "run"]

ARGUMENTS = (out_folder("onnx_lrp_demo", "digits.png goes"),)


def run(given: Namespace) -> int:
    """Draw the digits with their heat maps."""
    from onnx_lrp.commands.demo import run

    run(given.out)
    return 0
