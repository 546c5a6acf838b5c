"""The command patterns: its arguments. What it does is in `onnx_lrp.commands.patterns`, imported when it is called."""

from pathlib import Path
from typing import Annotated

import typer

from onnx_lrp.commands.arguments import FILES, HOW, Estimator, Model, Output, PatternBias, Prepare, Providers

__all__ = ["patterns"]


def patterns(
    model: Model,
    data: Annotated[
        list[str],
        typer.Argument(metavar="DATA", show_default=False, help="What to fit to: pictures, .npy or .npz files, folders of them."),
    ],
    to: Annotated[Path, typer.Option("-o", "--out", metavar="FILE", help="The .npz file to write.", rich_help_panel=FILES)] = Path(
        "patterns.npz"
    ),
    estimator: Annotated[
        Estimator, typer.Option(help="Fit to each output where it is positive, as behind a ReLU, or to all of it.", rich_help_panel=HOW)
    ] = Estimator.POSITIVE,
    bias: Annotated[
        PatternBias, typer.Option(help="Take biases for constant inputs, or leave them out as iNNvestigate does.", rich_help_panel=HOW)
    ] = PatternBias.NEURON,
    batch_size: Annotated[int, typer.Option(min=1, help="How many samples are run at once.", rich_help_panel=HOW)] = 32,
    preprocess: Prepare = None,
    output: Output = None,
    threads: Annotated[int | None, typer.Option(min=1, help="How many processor threads to use.", rich_help_panel=HOW)] = None,
    providers: Annotated[Providers, typer.Option(help="Where to run the model.", rich_help_panel=HOW)] = Providers.AUTO,
) -> None:
    """Find the patterns that the layers of a model react to in your data, for the composites pattern_net and pattern_attribution.

    Example: onnx-lrp patterns model.onnx photos/ -o patterns.npz, then: onnx-lrp explain model.onnx cat.jpg -c pattern_attribution
    --patterns patterns.npz
    """
    from onnx_lrp.commands.patterns import run

    run(
        model,
        data,
        to,
        estimator=estimator.value,
        bias=bias.value,
        batch_size=batch_size,
        preprocess=preprocess,
        output=output,
        threads=threads,
        providers=providers.value,
    )
