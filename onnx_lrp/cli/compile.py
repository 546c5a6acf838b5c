"""Write a model that explains itself: an ordinary .onnx file that gives relevance beside its output.

It runs wherever ONNX models run, without this package.
"""

from __future__ import annotations

from onnx_lrp.cli.arguments import (
    COMPOSITE,
    MODEL,
    OUTPUT,
    PATTERNS,
    PRECISION,
    PREPROCESS,
    RECORD,
    RULES,
    composite_options,
    out_file,
)
from onnx_lrp.cli.parser import Namespace

__all__ = ["ARGUMENTS", "run"]

ARGUMENTS = (
    MODEL,
    PREPROCESS,
    OUTPUT,
    RECORD,
    COMPOSITE,
    *RULES,
    PATTERNS,
    PRECISION,
    out_file("explainer.onnx", ".onnx"),
)


def run(given: Namespace) -> int:
    """Write the model with its relevance pass."""
    from onnx_lrp.commands.models import compile_

    compile_(
        given.model,
        given.composite,
        composite_options(given),
        given.preprocess,
        given.output,
        given.record or [],
        given.out,
        given.precision,
    )
    return 0
