"""Arguments and options of evaluate, compare and tune."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from onnx_lrp.cli.arguments import FILES, HOW, LABELS, OUTPUT, PREPROCESS, PROVIDERS, THREADS, WHAT, composite_options
from onnx_lrp.cli.parser import Argument, Namespace
from onnx_lrp.cli.values import Whole

if TYPE_CHECKING:
    from onnx_lrp.commands.scoring import Request

__all__ = ["CHECKPOINTS", "COMPAT", "DATA", "FLIPS", "ORDER", "RUNNING", "SAMPLES", "request"]

_FLIPS = "How regions are flipped"

DATA = Argument(
    "data",
    metavar="DATA",
    nargs="+",
    help="Folders of pictures or arrays (a sub-folder for each class, or none), .npy, .npz, HDF5, or a .csv of paths and classes.",
)
SAMPLES = (
    Argument("-t", "--target", metavar="CLASS", under=WHAT, help="Follow this class. Default: as the data says, else the best."),
    LABELS,
    Argument("--limit", type=Whole(1), under=WHAT, help="Take so many samples, evenly spread."),
    PREPROCESS,
    OUTPUT,
)
ORDER = Argument("--order", metavar="LIST", default="all", under=_FLIPS, help="Which regions go first: most, least, random, or all three.")
FLIPS = (
    Argument("--patch", type=Whole(1), under=_FLIPS, help="The side of a region. Default: 8; 1 for tables."),
    Argument(
        "--perturbation",
        metavar="NAME",
        default="inpaint",
        under=_FLIPS,
        help="inpaint, random, mean, blur, noise, or a number to put there.",
    ),
    Argument(
        "--schedule",
        metavar="NAME",
        default="quadratic",
        under=_FLIPS,
        help="quadratic (1, 3, 5, ... regions a step) or linear (equally many).",
    ),
    Argument("--steps", type=Whole(1), under=_FLIPS, help="How many steps. Default: as the schedule needs."),
    Argument("--random-seed", type=Whole(0), default=0, under=_FLIPS, help="Of all random numbers."),
)
COMPAT = Argument("--compat", metavar="NAME", under=_FLIPS, help="rlrp: exactly as rodrigobdz/lrp does it.")
RUNNING = (
    Argument("--batch-size", type=Whole(1), default=64, under=HOW, help="How many samples run together."),
    THREADS,
    PROVIDERS,
)
CHECKPOINTS = Argument(
    "--checkpoints",
    metavar="DIR",
    type=Path,
    under=FILES,
    help="Keep what is done here, and go on from it after a run that was cut short.",
)


def request(given: Namespace) -> Request:
    """What the three commands have in common."""
    from onnx_lrp.commands.scoring import Request

    flipping = {
        "patch": given.patch,
        "perturbation": _number_or_name(given.perturbation),
        "schedule": given.schedule,
        "steps": given.steps,
        "seed": given.random_seed,
        "compat": vars(given).get("compat"),
        "batch_size": given.batch_size,
    }
    return Request(
        given.model,
        given.data,
        composite_options(given),
        given.target,
        given.labels,
        given.limit,
        given.preprocess,
        given.output,
        flipping,
        given.out,
        vars(given).get("checkpoints"),
        given.threads,
        given.providers,
    )


def _number_or_name(text: str) -> float | str:
    try:
        return float(text)
    except ValueError:
        return text
