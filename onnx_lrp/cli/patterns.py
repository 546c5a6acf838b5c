"""Find the patterns that the layers of a model react to in your data, for the composites pattern_net and pattern_attribution.

Example: onnx-lrp patterns model.onnx photos/ -o patterns.npz, then: onnx-lrp explain model.onnx cat.jpg -c pattern_attribution
--patterns patterns.npz
"""

from __future__ import annotations

from onnx_lrp.cli.arguments import HOW, MODEL, OUTPUT, PREPROCESS, PROVIDERS, THREADS, out_file
from onnx_lrp.cli.parser import Argument, Namespace
from onnx_lrp.cli.values import Choice, Whole

__all__ = ["ARGUMENTS", "run"]

ARGUMENTS = (
    MODEL,
    Argument("data", metavar="DATA", nargs="+", help="What to fit to: pictures, .npy or .npz files, folders of them."),
    PREPROCESS,
    OUTPUT,
    Argument(
        "--estimator",
        type=Choice("all", "positive"),
        default="positive",
        under=HOW,
        help="Fit to each output where it is positive, as behind a ReLU, or to all of it.",
    ),
    Argument(
        "--bias",
        type=Choice("neuron", "ignore"),
        default="neuron",
        under=HOW,
        help="Take biases for constant inputs, or leave them out as iNNvestigate does.",
    ),
    Argument("--batch-size", type=Whole(1), default=32, under=HOW, help="How many samples are run at once."),
    THREADS,
    PROVIDERS,
    out_file("patterns.npz", ".npz"),
)


def run(given: Namespace) -> int:
    """Fit patterns, and write them."""
    from onnx_lrp.commands.patterns import run

    run(
        given.model,
        given.data,
        given.out,
        estimator=given.estimator,
        bias=given.bias,
        batch_size=given.batch_size,
        preprocess=given.preprocess,
        output=given.output,
        threads=given.threads,
        providers=given.providers,
    )
    return 0
