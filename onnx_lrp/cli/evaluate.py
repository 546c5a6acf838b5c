"""Measure how good explanations are: flip regions by their relevance, and follow the score.

A good explanation makes it fall fast when the most relevant regions go first, and slowly when the least relevant do.

Example: onnx-lrp evaluate model.onnx photos/ --preprocess imagenet -c epsilon_plus_flat
"""

from __future__ import annotations

from pathlib import Path

from onnx_lrp.cli.arguments import FILES, HOW, METHOD, MODEL, RULES, out_folder
from onnx_lrp.cli.evaluation import CHECKPOINTS, COMPAT, DATA, FLIPS, ORDER, RUNNING, SAMPLES, request
from onnx_lrp.cli.parser import Argument, Namespace
from onnx_lrp.cli.values import Whole

__all__ = ["ARGUMENTS", "run"]

ARGUMENTS = (
    MODEL,
    DATA,
    *SAMPLES,
    METHOD,
    *RULES,
    Argument(
        "--maps",
        metavar="PATH",
        type=Path,
        under=HOW,
        help="Evaluate maps made elsewhere: an array file with one for each sample, or a folder with STEM.npy or STEM_relevance.npz.",
    ),
    Argument(
        "--checks",
        action="store_true",
        under=HOW,
        help="Also: completeness, sparseness, sensitivity to noise, and randomised parameters.",
    ),
    *RUNNING,
    ORDER,
    *FLIPS,
    COMPAT,
    out_folder("evaluation"),
    Argument("--show", type=Whole(0), default=6, under=FILES, help="How many samples the sheet of steps has."),
    CHECKPOINTS,
)


def run(given: Namespace) -> int:
    """Flip regions, and write and print the curves."""
    from onnx_lrp.commands.evaluate import What, run

    return run(request(given), What(given.composite, given.order, given.maps, given.show, given.checks))
