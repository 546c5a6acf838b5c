"""Arguments and options of the command line that several commands have, and the headings that options are listed under."""

from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer

from onnx_lrp.errors import InputError

WHAT, HOW, FILES = "What is explained", "How it is explained", "Files"
RUNS = "Integrated gradients, SmoothGrad, DeepLIFT"


class Providers(StrEnum):
    """Where a model runs."""

    AUTO = "auto"
    CPU = "cpu"
    CUDA = "cuda"


class Precision(StrEnum):
    """How exactly convolutions and matrix products are computed."""

    FLOAT32 = "float32"
    TF32 = "tf32"
    FLOAT16 = "float16"


class Estimator(StrEnum):
    """Over which outputs patterns are fitted."""

    ALL = "all"
    POSITIVE = "positive"


class PatternBias(StrEnum):
    """What patterns make of biases."""

    NEURON = "neuron"
    IGNORE = "ignore"


Model = Annotated[Path, typer.Argument(metavar="MODEL", help="The model, an .onnx file.", show_default=False)]
Composite = Annotated[
    str | None,
    typer.Option(
        "-c",
        "--composite",
        metavar="NAME",
        rich_help_panel=HOW,
        help="Which rule each kind of layer gets; [bold]onnx-lrp composites[/bold] lists the names. "
        "Default: epsilon_plus_flat, for models without convolutions epsilon.",
    ),
]
Method = Annotated[
    str | None,
    typer.Option(
        "-c",
        "--composite",
        metavar="NAME",
        rich_help_panel=HOW,
        help="Which rule each kind of layer gets; [bold]onnx-lrp composites[/bold] lists the names. "
        "Default: epsilon_plus_flat, for models without convolutions epsilon. "
        "Also integrated_gradients and smoothgrad, which run the gradient several times, and grad_cam and guided_grad_cam.",
    ),
]
Low = Annotated[float | None, typer.Option(help="The smallest value that the input can have (composites with a box).", rich_help_panel=HOW)]
High = Annotated[float | None, typer.Option(help="The largest value that the input can have (composites with a box).", rich_help_panel=HOW)]
Epsilon = Annotated[float | None, typer.Option(help="The composite's epsilon: larger is smoother.", rich_help_panel=HOW)]
Gamma = Annotated[float | None, typer.Option(help="The composite's gamma: larger favours what speaks for.", rich_help_panel=HOW)]
More = Annotated[
    list[str] | None,
    typer.Option(
        "--option",
        metavar="NAME=VALUE",
        rich_help_panel=HOW,
        help="Another option of the composite, as [bold]onnx-lrp composites[/bold] lists them; may be repeated.",
    ),
]
PatternFile = Annotated[
    Path | None,
    typer.Option(
        "--patterns",
        metavar="FILE",
        rich_help_panel=HOW,
        help="The model's patterns (composites pattern_net and pattern_attribution); [bold]onnx-lrp patterns[/bold] makes the file.",
    ),
]
Prepare = Annotated[
    str | None,
    typer.Option(
        metavar="NAME",
        rich_help_panel=WHAT,
        help="How the model wants its pictures: imagenet, caffe, tf, unit (0 to 1), none (0 to 255), or a .json file with the fields "
        "resize, crop, layout, channels, scale, mean, std. Default: what a converter wrote into the model; else imagenet, for grey "
        "pictures unit.",
    ),
]
Output = Annotated[
    str | None,
    typer.Option(metavar="TENSOR", help="The tensor to explain; default: the first output, before a final softmax.", rich_help_panel=WHAT),
]
Precise = Annotated[
    Precision,
    typer.Option(
        "--precision",
        rich_help_panel=HOW,
        help="How exactly convolutions and matrix products are computed; less exact is faster on a GPU only.",
    ),
]
BatchSize = Annotated[
    str,
    typer.Option(
        metavar="N",
        rich_help_panel=HOW,
        help="How many samples are run at once; auto: as many as fit the memory, at most 16. It does not change the result.",
    ),
]
Record = Annotated[
    list[str] | None,
    typer.Option(
        metavar="TENSOR",
        rich_help_panel=WHAT,
        help="Also give the relevance of this tensor: its name, that of its node, a pattern such as '/layer4/*', or all; may be repeated.",
    ),
]


def parse_batch_size(text: str) -> int | None:
    """The number of samples that are run at once; None for auto.

    Raises:
        InputError: It is neither auto nor a whole number above 0.
    """
    if text == "auto":
        return None
    if not text.isdecimal() or not int(text):
        raise InputError(f"--batch-size is auto or a whole number above 0, not {text!r}")
    return int(text)


def composite_options(
    low: float | None,
    high: float | None,
    epsilon: float | None = None,
    gamma: float | None = None,
    more: list[str] | None = None,
    patterns: Path | None = None,
) -> dict[str, Any]:
    """The options of a composite, as far as they were given."""
    from onnx_lrp.commands.options import parse_options

    given = {"low": low, "high": high, "epsilon": epsilon, "gamma": gamma, "patterns": patterns}
    return parse_options(more or []) | {name: value for name, value in given.items() if value is not None}
