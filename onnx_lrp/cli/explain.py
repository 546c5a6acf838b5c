"""Explain predictions: print the best classes of each input, and draw what they rest on.

Red speaks for the explained class, blue against it.

Example: onnx-lrp explain resnet50.onnx cat.jpg dog.jpg --labels imagenet.txt --top 2
"""

from __future__ import annotations

from argparse import BooleanOptionalAction
from pathlib import Path

from onnx_lrp.cli.arguments import (
    BATCH_SIZE,
    FILES,
    HOW,
    LABELS,
    METHOD,
    MODEL,
    OUTPUT,
    PATTERNS,
    PRECISION,
    PREPROCESS,
    PROVIDERS,
    RECORD,
    RULES,
    THREADS,
    WHAT,
    composite_options,
    out_folder,
)
from onnx_lrp.cli.numpy_threads import load_numpy
from onnx_lrp.cli.parser import Argument, Namespace
from onnx_lrp.cli.values import Choice, Number, Whole

__all__ = ["ARGUMENTS", "run"]

_RUNS = "Integrated gradients, SmoothGrad, DeepLIFT"

ARGUMENTS = (
    MODEL,
    Argument(
        "inputs",
        metavar="INPUT",
        nargs="+",
        help="Pictures, .npy files, .npz files (arrays by the names of the model's inputs), folders of them, or patterns.",
    ),
    Argument(
        "-t",
        "--target",
        metavar="CLASS",
        under=WHAT,
        help="The class to explain: its number, or its name with --labels; several with commas between. "
        "Default: the best of each input. For outputs of several axes a place such as 3:10:12.",
    ),
    Argument("--top", metavar="K", type=Whole(1), under=WHAT, help="Explain the K best classes of each input."),
    Argument(
        "--region",
        metavar="FILE",
        type=Path,
        under=WHAT,
        help="Explain a region of a dense output such as a segmentation: a picture that is bright there, as large as the output or "
        "the photo, or a .npy file that is not zero there. The class is that of --target; default: the largest at each place.",
    ),
    LABELS,
    PREPROCESS,
    OUTPUT,
    RECORD,
    Argument(
        "--layers",
        action="store_true",
        under=WHAT,
        help="Print and draw relevance layer by layer: of the tensors of --record, else of all.",
    ),
    Argument(
        "--account", action="store_true", under=WHAT, help="Also print where relevance went, and which nodes lose most of it and why."
    ),
    METHOD,
    *RULES,
    PATTERNS,
    Argument(
        "--seed",
        type=Choice("output", "one", "contrastive", "softmax_gradient"),
        under=HOW,
        help="Where relevance starts: with the output's value, with one, or with what sets the class apart from the others: "
        "contrastive (CLRP) or softmax_gradient (SGLRP). Default: output; one for gradients.",
    ),
    Argument(
        "--two-pass", action="store_true", under=HOW, help="With these two seeds: explain the class and the others apart, and subtract."
    ),
    Argument(
        "--caffe-config",
        metavar="FILE",
        type=Path,
        under=HOW,
        help="A configuration of lrp_toolbox's Caffe extension: formula, epsilon, beta, first and last layer; other options go first.",
    ),
    BATCH_SIZE,
    THREADS,
    PROVIDERS,
    PRECISION,
    Argument(
        "--cache",
        action="store_true",
        under=HOW,
        help="Keep the compiled explainer on disk, and start from there the next time; `onnx-lrp cache` lists and clears.",
    ),
    Argument(
        "--baseline",
        type=Number(),
        under=_RUNS,
        help="The input's value to compare with (integrated_gradients, deeplift). Default: 0.",
    ),
    Argument("--steps", type=Whole(1), under=_RUNS, help="Points on the way from the baseline (integrated_gradients)."),
    Argument("--samples", type=Whole(1), under=_RUNS, help="Noisy copies of each input to average over: SmoothGrad, of any composite."),
    Argument("--noise", type=Number(0), under=_RUNS, help="The noise of these copies, as a fraction of the input's range. Default: 0.1."),
    Argument("--random-seed", type=Whole(0), under=_RUNS, help="Of the noise. Default: 0."),
    out_folder("explanations"),
    Argument(
        "--format",
        metavar="LIST",
        under=FILES,
        help="What to write for each input: png for pictures, npz or h5 for arrays (relevance, output, target, input ...), or several. "
        "Default: png,npz; with --together nothing.",
    ),
    Argument(
        "--together",
        metavar="FILE",
        type=Path,
        under=FILES,
        help="Write the arrays of all inputs to this one .h5 or .npz file, with the names of the inputs as source.",
    ),
    Argument(
        "--cmap",
        metavar="NAME",
        under=FILES,
        help="Colours: bwr, coldnhot, hot, seismic, ..., any of matplotlib, or your own such as 00f,80:fff,f00.",
    ),
    Argument(
        "--overlay",
        action=BooleanOptionalAction,
        under=FILES,
        help="Also draw relevance on top of the picture. Default: for photos, not for arrays.",
    ),
)


def run(given: Namespace) -> int:
    """Explain all inputs."""
    load_numpy()
    from onnx_lrp.commands.explain import Request, run

    runs = {name: getattr(given, name) for name in ("baseline", "steps", "samples", "noise", "random_seed")}
    request = Request(
        given.model,
        given.inputs,
        given.composite,
        composite_options(given),
        {name: value for name, value in runs.items() if value is not None},
        target=given.target,
        seed=given.seed,
        two_pass=given.two_pass,
        region=given.region,
        top=given.top,
        labels=given.labels,
        preprocess=given.preprocess,
        folder=given.out,
        cmap=given.cmap,
        overlay=given.overlay,
        formats=given.format,
        together=given.together,
        batch_size=given.batch_size,
        output=given.output,
        record=given.record or [],
        layers=given.layers,
        threads=given.threads,
        providers=given.providers,
        precision=given.precision,
        account=given.account,
        cache=given.cache,
    )
    if given.caffe_config is not None:
        from onnx_lrp.commands.caffe_config import configure

        configure(request, given.caffe_config)
    return run(request)
