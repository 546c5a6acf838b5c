"""Compare composites on the same data: heat maps side by side, curves on one axis, and a table.

The table has the area under the curves, the time in forward passes of the model, and how much of the score arrives at the input.

Example: onnx-lrp compare model.onnx photos/ --preprocess imagenet -c epsilon_plus_flat,epsilon_gamma_box,lrp_tutorial
"""

from __future__ import annotations

from onnx_lrp.cli.arguments import BOUNDS, FILES, HOW, MODEL, out_folder
from onnx_lrp.cli.evaluation import CHECKPOINTS, COMPAT, DATA, FLIPS, RUNNING, SAMPLES, request
from onnx_lrp.cli.parser import Argument, Namespace
from onnx_lrp.cli.values import Whole

__all__ = ["ARGUMENTS", "run"]

ARGUMENTS = (
    MODEL,
    DATA,
    *SAMPLES,
    Argument(
        "-c",
        "--composites",
        metavar="LIST",
        default="epsilon_plus_flat,epsilon_plus,epsilon,gamma,epsilon_alpha2_beta1_flat,input_x_gradient",
        under=HOW,
        help="Composites, their files, or methods such as smoothgrad, with commas between them; options behind a colon: "
        "gamma:gamma=0.1:bias=ignore, smoothgrad:samples=10.",
    ),
    *BOUNDS,
    *RUNNING,
    *FLIPS,
    COMPAT,
    out_folder("comparison"),
    Argument("--show", type=Whole(0), default=6, under=FILES, help="How many samples the sheet of heat maps has."),
    CHECKPOINTS,
)


def run(given: Namespace) -> int:
    """Evaluate the composites, and write and print what they have in common and what not."""
    from onnx_lrp.commands.compare import run

    return run(request(given), given.composites, given.show)
