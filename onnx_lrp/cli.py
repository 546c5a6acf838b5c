"""The command line: onnx-lrp. The commands themselves are in `onnx_lrp.commands`, imported when they are called."""

import sys
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from onnx_lrp import __version__
from onnx_lrp.cli_convert import convert
from onnx_lrp.cli_errors import Group
from onnx_lrp.cli_patterns import patterns
from onnx_lrp.cli_start import load_numpy
from onnx_lrp.commands.arguments import (
    FILES,
    HOW,
    RUNS,
    WHAT,
    BatchSize,
    Composite,
    Epsilon,
    Gamma,
    High,
    Low,
    Method,
    Model,
    More,
    Output,
    PatternFile,
    Precise,
    Precision,
    Prepare,
    Providers,
    Record,
    composite_options,
    parse_batch_size,
)
from onnx_lrp.commands.evaluation import compare, evaluate, tune

__all__ = ["app", "main"]


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
        typer.Option(help="The input's value to compare with (integrated_gradients, deeplift). Default: 0.", rich_help_panel=RUNS),
    ] = None,
    steps: Annotated[
        int | None, typer.Option(min=1, help="Points on the way from the baseline (integrated_gradients).", rich_help_panel=RUNS)
    ] = None,
    samples: Annotated[
        int | None,
        typer.Option(min=1, help="Noisy copies of each input to average over: SmoothGrad, of any composite.", rich_help_panel=RUNS),
    ] = None,
    noise: Annotated[
        float | None,
        typer.Option(min=0, help="The noise of these copies, as a fraction of the input's range. Default: 0.1.", rich_help_panel=RUNS),
    ] = None,
    random_seed: Annotated[int | None, typer.Option(min=0, help="Of the noise. Default: 0.", rich_help_panel=RUNS)] = None,
    patterns: PatternFile = None,
    target: Annotated[
        str | None,
        typer.Option(
            "-t",
            "--target",
            metavar="CLASS",
            rich_help_panel=WHAT,
            help="The class to explain: its number, or its name with --labels; several with commas between. "
            "Default: the best of each input. For outputs of several axes a place such as 3:10:12.",
        ),
    ] = None,
    top: Annotated[
        int | None, typer.Option(min=1, help="Explain the K best classes of each input.", metavar="K", rich_help_panel=WHAT)
    ] = None,
    seed: Annotated[
        Seed | None,
        typer.Option(
            rich_help_panel=HOW,
            help="Where relevance starts: with the output's value, with one, or with what sets the class apart from the others: "
            "contrastive (CLRP) or softmax_gradient (SGLRP). Default: output; one for gradients.",
            show_default=False,
        ),
    ] = None,
    two_pass: Annotated[
        bool,
        typer.Option("--two-pass", rich_help_panel=HOW, help="With these two seeds: explain the class and the others apart, and subtract."),
    ] = False,
    region: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            rich_help_panel=WHAT,
            help="Explain a region of a dense output such as a segmentation: a picture that is bright there, as large as the output or "
            "the photo, or a .npy file that is not zero there. The class is that of --target; default: the largest at each place.",
        ),
    ] = None,
    labels: Annotated[Path | None, typer.Option(metavar="FILE", help="Names of the classes, one a line.", rich_help_panel=WHAT)] = None,
    preprocess: Prepare = None,
    output: Output = None,
    record: Record = None,
    layers: Annotated[
        bool,
        typer.Option(
            "--layers",
            rich_help_panel=WHAT,
            help="Print and draw relevance layer by layer: of the tensors of --record, else of all.",
        ),
    ] = False,
    caffe_config: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            rich_help_panel=HOW,
            help="A configuration of lrp_toolbox's Caffe extension: formula, epsilon, beta, first and last layer; other options go first.",
        ),
    ] = None,
    folder: Annotated[Path, typer.Option("-o", "--out", metavar="DIR", help="Where the files go.", rich_help_panel=FILES)] = Path(
        "explanations"
    ),
    formats: Annotated[
        str | None,
        typer.Option(
            "--format",
            metavar="LIST",
            rich_help_panel=FILES,
            show_default=False,
            help="What to write for each input: png for pictures, npz or h5 for arrays (relevance, output, target, input ...), or several. "
            "Default: png,npz; with --together nothing.",
        ),
    ] = None,
    together: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            rich_help_panel=FILES,
            help="Write the arrays of all inputs to this one .h5 or .npz file, with the names of the inputs as source.",
        ),
    ] = None,
    batch_size: BatchSize = "auto",
    cmap: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            rich_help_panel=FILES,
            help="Colours: bwr, coldnhot, hot, seismic, ..., any of matplotlib, or your own such as 00f,80:fff,f00.",
        ),
    ] = None,
    overlay: Annotated[
        bool | None,
        typer.Option(
            "--overlay/--no-overlay",
            rich_help_panel=FILES,
            show_default=False,
            help="Also draw relevance on top of the picture. Default: for photos, not for arrays.",
        ),
    ] = None,
    account: Annotated[
        bool,
        typer.Option("--account", rich_help_panel=WHAT, help="Also print where relevance went, and which nodes lose most of it and why."),
    ] = False,
    threads: Annotated[int | None, typer.Option(min=1, help="How many processor threads to use.", rich_help_panel=HOW)] = None,
    providers: Annotated[Providers, typer.Option(help="Where to run the model.", rich_help_panel=HOW)] = Providers.AUTO,
    precision: Precise = Precision.FLOAT32,
    cache: Annotated[
        bool,
        typer.Option(
            "--cache",
            rich_help_panel=HOW,
            help="Keep the compiled explainer on disk, and start from there the next time; [bold]onnx-lrp cache[/bold] lists and clears.",
        ),
    ] = False,
) -> None:
    """Explain predictions: print the best classes of each input, and draw what they rest on.

    Red speaks for the explained class, blue against it.

    Example: onnx-lrp explain resnet50.onnx cat.jpg dog.jpg --labels imagenet.txt --top 2
    """
    load_numpy()
    from onnx_lrp.commands.explain import Request, run

    runs = {"baseline": baseline, "steps": steps, "samples": samples, "noise": noise, "random_seed": random_seed}
    request = Request(
        model,
        inputs,
        composite,
        composite_options(low, high, epsilon, gamma, option, patterns),
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
        together=together,
        batch_size=parse_batch_size(batch_size),
        output=output,
        record=record or [],
        layers=layers,
        threads=threads,
        providers=providers.value,
        precision=precision.value,
        account=account,
        cache=cache,
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
    patterns: PatternFile = None,
    preprocess: Prepare = None,
    output: Output = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the plan as JSON.", rich_help_panel=FILES)] = False,
    providers: Annotated[
        Providers | None,
        typer.Option(help="Also show how many nodes run where, and which ones fall back to the CPU.", rich_help_panel=HOW),
    ] = None,
    precision: Precise = Precision.FLOAT32,
) -> None:
    """Show what would be done with a model: each node, its rule, and what is not supported.

    Nothing is run. The exit code is 0 if every node has a rule, 1 if not.
    """
    from onnx_lrp.commands.models import check as run

    options = composite_options(low, high, epsilon, gamma, option, patterns)
    where = None if providers is None else {"providers": providers.value, "precision": precision.value}
    raise typer.Exit(run(model, composite, options, preprocess, output, as_json=as_json, where=where))


@app.command("compile")
def compile_(
    model: Model,
    to: Annotated[Path, typer.Option("-o", "--out", metavar="FILE", help="The .onnx file to write.", rich_help_panel=FILES)] = Path(
        "explainer.onnx"
    ),
    composite: Composite = None,
    low: Low = None,
    high: High = None,
    epsilon: Epsilon = None,
    gamma: Gamma = None,
    option: More = None,
    patterns: PatternFile = None,
    preprocess: Prepare = None,
    output: Output = None,
    record: Record = None,
    precision: Precise = Precision.FLOAT32,
) -> None:
    """Write a model that explains itself: an ordinary .onnx file that gives relevance beside its output.

    It runs wherever ONNX models run, without this package.
    """
    from onnx_lrp.commands.models import compile_ as run

    options = composite_options(low, high, epsilon, gamma, option, patterns)
    run(model, composite, options, preprocess, output, record or [], to, precision.value)


app.command()(patterns)
app.command()(convert)


@app.command()
def composites(
    name: Annotated[str | None, typer.Argument(metavar="[NAME]", help="Only this one.", show_default=False)] = None,
) -> None:
    """List the composites, with their options and other names; of one, which rule each kind of node gets."""
    from onnx_lrp.commands.models import composites as run

    run(name)


app.command()(evaluate)
app.command()(compare)
app.command()(tune)


@app.command("cache")
def cache_(
    clear: Annotated[bool, typer.Option("--clear", help="Remove all of it.")] = False,
) -> None:
    """Show what explain --cache keeps on disk: where, how many explainers, and how large they are.

    The folder is that of the environment variable ONNX_LRP_CACHE, if it is set.
    """
    from onnx_lrp.commands.cache import run

    run(clear=clear)


@app.command()
def demo(
    folder: Annotated[Path, typer.Option("-o", "--out", metavar="DIR", help="Where digits.png goes.", rich_help_panel=FILES)] = Path(
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
