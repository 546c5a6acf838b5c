"""The command line: onnx-lrp. The commands themselves are in `onnx_lrp.commands`, imported when they are called."""

import sys
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer

from onnx_lrp import __version__
from onnx_lrp.cli_convert import convert
from onnx_lrp.cli_errors import Group

__all__ = ["app", "main"]

_SHOWN, _WHAT, _HOW, _FILES = "Pictures", "What is explained", "How it is explained", "Files"
_RUNS = "Integrated gradients, SmoothGrad, DeepLIFT"


class Providers(StrEnum):
    """Where a model runs."""

    AUTO = "auto"
    CPU = "cpu"
    CUDA = "cuda"


class Seed(StrEnum):
    """Where relevance starts."""

    OUTPUT = "output"
    ONE = "one"
    CONTRASTIVE = "contrastive"
    SOFTMAX_GRADIENT = "softmax_gradient"


app = typer.Typer(
    cls=Group,
    name="onnx-lrp",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog="Start with: onnx-lrp demo. Then: onnx-lrp explain MODEL.onnx PHOTO.jpg. The options of a command: onnx-lrp COMMAND --help",
)


def _print_version(value: bool) -> None:
    if value:
        typer.echo(f"onnx-lrp {__version__}")
        raise typer.Exit


@app.callback()
def _app(
    version: Annotated[bool, typer.Option("--version", help="Print the version and exit.", callback=_print_version, is_eager=True)] = False,
) -> None:
    """See which parts of an input a prediction rests on: layer-wise relevance propagation for any ONNX model."""


Model = Annotated[Path, typer.Argument(metavar="MODEL", help="The model, an .onnx file.", show_default=False)]
Composite = Annotated[
    str | None,
    typer.Option(
        "-c",
        "--composite",
        metavar="NAME",
        rich_help_panel=_HOW,
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
        rich_help_panel=_HOW,
        help="Which rule each kind of layer gets; [bold]onnx-lrp composites[/bold] lists the names. "
        "Default: epsilon_plus_flat, for models without convolutions epsilon. "
        "Also integrated_gradients and smoothgrad, which run the gradient several times.",
    ),
]
Low = Annotated[
    float | None, typer.Option(help="The smallest value that the input can have (composites with a box).", rich_help_panel=_HOW)
]
High = Annotated[
    float | None, typer.Option(help="The largest value that the input can have (composites with a box).", rich_help_panel=_HOW)
]
Epsilon = Annotated[float | None, typer.Option(help="The composite's epsilon: larger is smoother.", rich_help_panel=_HOW)]
Gamma = Annotated[float | None, typer.Option(help="The composite's gamma: larger favours what speaks for.", rich_help_panel=_HOW)]
More = Annotated[
    list[str] | None,
    typer.Option(
        "--option",
        metavar="NAME=VALUE",
        rich_help_panel=_HOW,
        help="Another option of the composite, as [bold]onnx-lrp composites[/bold] lists them; may be repeated.",
    ),
]
Prepare = Annotated[
    str | None,
    typer.Option(
        metavar="NAME",
        rich_help_panel=_WHAT,
        help="How the model wants its pictures: imagenet, caffe, tf, unit (0 to 1), none (0 to 255), or a .json file with the fields "
        "resize, crop, layout, channels, scale, mean, std. Default: what a converter wrote into the model; else imagenet, for grey "
        "pictures unit.",
    ),
]
Output = Annotated[
    str | None,
    typer.Option(metavar="TENSOR", help="The tensor to explain; default: the first output, before a final softmax.", rich_help_panel=_WHAT),
]
Record = Annotated[
    list[str] | None,
    typer.Option(
        metavar="TENSOR",
        rich_help_panel=_WHAT,
        help="Also give the relevance of this tensor: its name, that of its node, a pattern such as '/layer4/*', or all; may be repeated.",
    ),
]


def _options(low: float | None, high: float | None, epsilon: float | None, gamma: float | None, more: list[str] | None) -> dict[str, Any]:
    from onnx_lrp.commands.options import parse_options

    given = {"low": low, "high": high, "epsilon": epsilon, "gamma": gamma}
    return parse_options(more or []) | {name: value for name, value in given.items() if value is not None}


@app.command()
def explain(
    model: Model,
    inputs: Annotated[
        list[str],
        typer.Argument(
            metavar="INPUT",
            show_default=False,
            help="Pictures, .npy files, .npz files (arrays by the names of the model's inputs), folders of them, or patterns.",
        ),
    ],
    composite: Method = None,
    low: Low = None,
    high: High = None,
    epsilon: Epsilon = None,
    gamma: Gamma = None,
    option: More = None,
    baseline: Annotated[
        float | None,
        typer.Option(help="The input's value to compare with (integrated_gradients, deeplift). Default: 0.", rich_help_panel=_RUNS),
    ] = None,
    steps: Annotated[
        int | None, typer.Option(min=1, help="Points on the way from the baseline (integrated_gradients).", rich_help_panel=_RUNS)
    ] = None,
    samples: Annotated[
        int | None,
        typer.Option(min=1, help="Noisy copies of each input to average over: SmoothGrad, of any composite.", rich_help_panel=_RUNS),
    ] = None,
    noise: Annotated[
        float | None,
        typer.Option(min=0, help="The noise of these copies, as a fraction of the input's range. Default: 0.1.", rich_help_panel=_RUNS),
    ] = None,
    random_seed: Annotated[int | None, typer.Option(min=0, help="Of the noise. Default: 0.", rich_help_panel=_RUNS)] = None,
    target: Annotated[
        str | None,
        typer.Option(
            "-t",
            "--target",
            metavar="CLASS",
            rich_help_panel=_WHAT,
            help="The class to explain: its number, or its name with --labels; several with commas between. "
            "Default: the best of each input. For outputs of several axes a place such as 3:10:12.",
        ),
    ] = None,
    top: Annotated[
        int | None, typer.Option(min=1, help="Explain the K best classes of each input.", metavar="K", rich_help_panel=_WHAT)
    ] = None,
    seed: Annotated[
        Seed | None,
        typer.Option(
            rich_help_panel=_HOW,
            help="Where relevance starts: with the output's value, with one, or with what sets the class apart from the others: "
            "contrastive (CLRP) or softmax_gradient (SGLRP). Default: output; one for gradients.",
            show_default=False,
        ),
    ] = None,
    two_pass: Annotated[
        bool,
        typer.Option(
            "--two-pass", rich_help_panel=_HOW, help="With these two seeds: explain the class and the others apart, and subtract."
        ),
    ] = False,
    region: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            rich_help_panel=_WHAT,
            help="Explain a region of a dense output such as a segmentation: a picture that is bright there, as large as the output or "
            "the photo, or a .npy file that is not zero there. The class is that of --target; default: the largest at each place.",
        ),
    ] = None,
    labels: Annotated[Path | None, typer.Option(metavar="FILE", help="Names of the classes, one a line.", rich_help_panel=_WHAT)] = None,
    preprocess: Prepare = None,
    output: Output = None,
    record: Record = None,
    layers: Annotated[
        bool,
        typer.Option(
            "--layers",
            rich_help_panel=_WHAT,
            help="Print and draw relevance layer by layer: of the tensors of --record, else of all.",
        ),
    ] = False,
    caffe_config: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            rich_help_panel=_HOW,
            help="A configuration of lrp_toolbox's Caffe extension: formula, epsilon, beta, first and last layer; other options go first.",
        ),
    ] = None,
    folder: Annotated[Path, typer.Option("-o", "--out", metavar="DIR", help="Where the files go.", rich_help_panel=_FILES)] = Path(
        "explanations"
    ),
    formats: Annotated[
        str,
        typer.Option(
            "--format",
            metavar="LIST",
            rich_help_panel=_FILES,
            help="png for pictures, npz or h5 for arrays (relevance, output, target, input ...), or several such as png,npz.",
        ),
    ] = "png,npz",
    cmap: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            rich_help_panel=_FILES,
            help="Colours: bwr, coldnhot, hot, seismic, ..., any of matplotlib, or your own such as 00f,80:fff,f00.",
        ),
    ] = None,
    overlay: Annotated[
        bool | None,
        typer.Option(
            "--overlay/--no-overlay",
            rich_help_panel=_FILES,
            show_default=False,
            help="Also draw relevance on top of the picture. Default: for photos, not for arrays.",
        ),
    ] = None,
    account: Annotated[
        bool,
        typer.Option("--account", rich_help_panel=_WHAT, help="Also print where relevance went, and which nodes lose most of it and why."),
    ] = False,
    threads: Annotated[int | None, typer.Option(min=1, help="How many processor threads to use.", rich_help_panel=_HOW)] = None,
    providers: Annotated[Providers, typer.Option(help="Where to run the model.", rich_help_panel=_HOW)] = Providers.AUTO,
) -> None:
    """Explain predictions: print the best classes of each input, and draw what they rest on.

    Red speaks for the explained class, blue against it.

    Example: onnx-lrp explain resnet50.onnx cat.jpg dog.jpg --labels imagenet.txt --top 2
    """
    from onnx_lrp.commands.explain import Request, run

    runs = {"baseline": baseline, "steps": steps, "samples": samples, "noise": noise, "random_seed": random_seed}
    request = Request(
        model,
        inputs,
        composite,
        _options(low, high, epsilon, gamma, option),
        {name: value for name, value in runs.items() if value is not None},
        target=target,
        seed=seed and seed.value,
        two_pass=two_pass,
        region=region,
        top=top,
        labels=labels,
        preprocess=preprocess,
        folder=folder,
        cmap=cmap,
        overlay=overlay,
        formats=formats,
        output=output,
        record=record or [],
        layers=layers,
        threads=threads,
        providers=providers.value,
        account=account,
    )
    if caffe_config is not None:
        from onnx_lrp.commands.caffe_config import configure

        configure(request, caffe_config)
    raise typer.Exit(run(request))


@app.command()
def check(
    model: Model,
    composite: Composite = None,
    low: Low = None,
    high: High = None,
    epsilon: Epsilon = None,
    gamma: Gamma = None,
    option: More = None,
    preprocess: Prepare = None,
    output: Output = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the plan as JSON.", rich_help_panel=_FILES)] = False,
) -> None:
    """Show what would be done with a model: each node, its rule, and what is not supported.

    Nothing is run. The exit code is 0 if every node has a rule, 1 if not.
    """
    from onnx_lrp.commands.models import check as run

    raise typer.Exit(run(model, composite, _options(low, high, epsilon, gamma, option), preprocess, output, as_json=as_json))


@app.command("compile")
def compile_(
    model: Model,
    to: Annotated[Path, typer.Option("-o", "--out", metavar="FILE", help="The .onnx file to write.", rich_help_panel=_FILES)] = Path(
        "explainer.onnx"
    ),
    composite: Composite = None,
    low: Low = None,
    high: High = None,
    epsilon: Epsilon = None,
    gamma: Gamma = None,
    option: More = None,
    preprocess: Prepare = None,
    output: Output = None,
    record: Record = None,
) -> None:
    """Write a model that explains itself: an ordinary .onnx file that gives relevance beside its output.

    It runs wherever ONNX models run, without this package.
    """
    from onnx_lrp.commands.models import compile_ as run

    run(model, composite, _options(low, high, epsilon, gamma, option), preprocess, output, record or [], to)


app.command()(convert)


@app.command()
def composites(
    name: Annotated[str | None, typer.Argument(metavar="[NAME]", help="Only this one.", show_default=False)] = None,
) -> None:
    """List the composites, with their options and other names; of one, which rule each kind of node gets."""
    from onnx_lrp.commands.models import composites as run

    run(name)


@app.command()
def demo(
    folder: Annotated[Path, typer.Option("-o", "--out", metavar="DIR", help="Where digits.png goes.", rich_help_panel=_FILES)] = Path(
        "onnx_lrp_demo"
    ),
) -> None:
    """Try it: explain a small model for handwritten digits, which comes with the package, in several ways."""
    from onnx_lrp.commands.demo import run

    run(folder)


def main() -> None:
    """Run the command line."""
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")  # file names may have what a terminal has not
    app(prog_name="onnx-lrp")


if __name__ == "__main__":
    main()
