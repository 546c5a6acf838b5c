"""Arguments and options that several commands have, and the headings that options are listed under."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from onnx_lrp.cli.parser import Argument, Namespace
from onnx_lrp.cli.values import BatchSize, Choice, Number, Whole

WHAT, HOW, FILES = "What is explained", "How it is explained", "Files"

MODEL = Argument("model", metavar="MODEL", type=Path, help="The model, an .onnx file.")

# what is explained ----------------------------------------------------------------------------------------------------

LABELS = Argument("--labels", metavar="FILE", type=Path, under=WHAT, help="Names of the classes, one a line.")
PREPROCESS = Argument(
    "--preprocess",
    metavar="NAME",
    under=WHAT,
    help="How the model wants its pictures: imagenet, caffe, tf, unit (0 to 1), none (0 to 255), or a .json file with the fields "
    "resize, crop, layout, channels, scale, mean, std. Default: what a converter wrote into the model; else imagenet, for grey "
    "pictures unit.",
)
OUTPUT = Argument(
    "--output", metavar="TENSOR", under=WHAT, help="The tensor to explain; default: the first output, before a final softmax."
)
RECORD = Argument(
    "--record",
    metavar="TENSOR",
    action="append",
    under=WHAT,
    help="Also give the relevance of this tensor: its name, that of its node, a pattern such as '/layer4/*', or all; may be repeated.",
)

# how it is explained --------------------------------------------------------------------------------------------------

_COMPOSITE = (
    "Which rule each kind of layer gets; `onnx-lrp composites` lists the names. "
    "Default: epsilon_plus_flat, for models without convolutions epsilon."
)
COMPOSITE = Argument("-c", "--composite", metavar="NAME", under=HOW, help=_COMPOSITE)
METHOD = Argument(
    "-c",
    "--composite",
    metavar="NAME",
    under=HOW,
    help=f"{_COMPOSITE} Also integrated_gradients and smoothgrad, which run the gradient several times, and grad_cam and guided_grad_cam.",
)
BOUNDS = (
    Argument("--low", type=Number(), under=HOW, help="The smallest value that the input can have (composites with a box)."),
    Argument("--high", type=Number(), under=HOW, help="The largest value that the input can have (composites with a box)."),
)
RULES = (
    *BOUNDS,
    Argument("--epsilon", type=Number(), under=HOW, help="The composite's epsilon: larger is smoother."),
    Argument("--gamma", type=Number(), under=HOW, help="The composite's gamma: larger favours what speaks for."),
    Argument(
        "--option",
        metavar="NAME=VALUE",
        action="append",
        under=HOW,
        help="Another option of the composite, as `onnx-lrp composites` lists them; may be repeated.",
    ),
)
PATTERNS = Argument(
    "--patterns",
    metavar="FILE",
    type=Path,
    under=HOW,
    help="The model's patterns (composites pattern_net and pattern_attribution); `onnx-lrp patterns` makes the file.",
)
PRECISION = Argument(
    "--precision",
    type=Choice("float32", "tf32", "float16"),
    default="float32",
    under=HOW,
    help="How exactly convolutions and matrix products are computed; less exact is faster on a GPU only.",
)
BATCH_SIZE = Argument(
    "--batch-size",
    type=BatchSize(),
    default="auto",
    under=HOW,
    help="How many samples are run at once; auto: as many as fit the memory, at most 16. It does not change the result.",
)
THREADS = Argument("--threads", type=Whole(1), under=HOW, help="How many processor threads to use.")
DEVICES = Choice("auto", "cpu", "cuda")
PROVIDERS = Argument("--providers", type=DEVICES, default="auto", under=HOW, help="Where to run the model.")

# files ----------------------------------------------------------------------------------------------------------------


def out_folder(default: str, content: str = "the files go") -> Argument:
    """The option for the folder that a command writes to."""
    return Argument("-o", "--out", metavar="DIR", type=Path, default=default, under=FILES, help=f"Where {content}.")


def out_file(default: str, kind: str) -> Argument:
    """The option for the file that a command writes."""
    return Argument("-o", "--out", metavar="FILE", type=Path, default=default, under=FILES, help=f"The {kind} file to write.")


# reading them ---------------------------------------------------------------------------------------------------------


def composite_options(given: Namespace) -> dict[str, Any]:
    """The options of a composite, as far as a command has them and they were given."""
    from onnx_lrp.commands.options import parse_options

    named = {name: vars(given).get(name) for name in ("low", "high", "epsilon", "gamma", "patterns")}
    more = parse_options(vars(given).get("option") or [])
    return more | {name: value for name, value in named.items() if value is not None}
