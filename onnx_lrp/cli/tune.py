"""Search composites, and gamma and epsilon by depth, for the best score on some data.

Many candidates are scored on few samples, the best third on three times as many, and so on. With 20 samples or more, half of them
are kept for the margin over the default that is printed.

Example: onnx-lrp tune model.onnx photos/ --preprocess imagenet, then: onnx-lrp explain model.onnx cat.jpg -c composite.json
"""

from __future__ import annotations

from pathlib import Path

from onnx_lrp.cli.arguments import BOUNDS, FILES, HOW, MODEL, out_folder
from onnx_lrp.cli.evaluation import DATA, FLIPS, RUNNING, SAMPLES, request
from onnx_lrp.cli.parser import Argument, Namespace
from onnx_lrp.cli.values import Whole

__all__ = ["ARGUMENTS", "run"]

ARGUMENTS = (
    MODEL,
    DATA,
    *SAMPLES,
    Argument(
        "--score",
        metavar="NAME",
        default="between",
        under=HOW,
        help="What is sought: a large area between the curves (between), a small one under most relevant first (most), "
        "or a large one under least relevant first (least).",
    ),
    Argument("--tries", type=Whole(1), under=HOW, help="Draw so many candidates. Default: all."),
    *BOUNDS,
    *RUNNING,
    *FLIPS,
    Argument(
        "--to",
        metavar="FILE",
        type=Path,
        default="composite.json",
        under=FILES,
        help="The composite file to write, .json or .yaml.",
    ),
    out_folder("tuning", "the numbers go"),
)


def run(given: Namespace) -> int:
    """Search, and write and print the best."""
    from onnx_lrp.commands.tune import run

    return run(request(given), given.score, given.tries, given.to)
