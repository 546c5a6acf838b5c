"""Show what would be done with a model: each node, its rule, and what is not supported.

Nothing is run. The exit code is 0 if every node has a rule, 1 if not.
"""

from __future__ import annotations

from onnx_lrp.cli.arguments import (
    COMPOSITE,
    DEVICES,
    FILES,
    HOW,
    MODEL,
    OUTPUT,
    PATTERNS,
    PRECISION,
    PREPROCESS,
    RULES,
    composite_options,
)
from onnx_lrp.cli.parser import Argument, Namespace

__all__ = ["ARGUMENTS", "run"]

ARGUMENTS = (
    MODEL,
    PREPROCESS,
    OUTPUT,
    COMPOSITE,
    *RULES,
    PATTERNS,
    Argument(
        "--providers",
        type=DEVICES,
        under=HOW,
        help="Also show how many nodes run where, and which ones fall back to the CPU.",
    ),
    PRECISION,
    Argument("--json", action="store_true", under=FILES, help="Print the plan as JSON."),
)


def run(given: Namespace) -> int:
    """Print a model's plan."""
    from onnx_lrp.commands.models import check

    where = None if given.providers is None else {"providers": given.providers, "precision": given.precision}
    return check(given.model, given.composite, composite_options(given), given.preprocess, given.output, as_json=given.json, where=where)
