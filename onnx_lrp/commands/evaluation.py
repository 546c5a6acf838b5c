"""The options of evaluate, compare and tune."""

from pathlib import Path
from typing import Annotated, Any

import typer

from onnx_lrp.commands.arguments import (
    FILES,
    HOW,
    WHAT,
    Epsilon,
    Gamma,
    High,
    Low,
    Method,
    Model,
    More,
    Output,
    Prepare,
    Providers,
    composite_options,
)

__all__ = ["compare", "evaluate", "tune"]

_FLIPS = "How regions are flipped"

DataSet = Annotated[
    list[str],
    typer.Argument(
        metavar="DATA",
        show_default=False,
        help="Folders of pictures or arrays (a sub-folder for each class, or none), .npy, .npz, HDF5, or a .csv of paths and classes.",
    ),
]
Target = Annotated[
    str | None,
    typer.Option(
        "-t", "--target", metavar="CLASS", rich_help_panel=WHAT, help="Follow this class. Default: as the data says, else the best."
    ),
]
LabelFile = Annotated[Path | None, typer.Option("--labels", metavar="FILE", help="Names of the classes, one a line.", rich_help_panel=WHAT)]
Limit = Annotated[int | None, typer.Option(min=1, help="Take so many samples, evenly spread.", rich_help_panel=WHAT)]
Patch = Annotated[
    int | None, typer.Option(min=1, help="The side of a region. Default: 8; 1 for tables.", rich_help_panel=_FLIPS, show_default=False)
]
Perturbation = Annotated[
    str, typer.Option(metavar="NAME", help="inpaint, random, mean, blur, noise, or a number to put there.", rich_help_panel=_FLIPS)
]
Schedule = Annotated[
    str, typer.Option(metavar="NAME", help="quadratic (1, 3, 5, ... regions a step) or linear (equally many).", rich_help_panel=_FLIPS)
]
Steps = Annotated[int | None, typer.Option(min=1, help="How many steps. Default: as the schedule needs.", rich_help_panel=_FLIPS)]
RandomSeed = Annotated[int, typer.Option(min=0, help="Of all random numbers.", rich_help_panel=_FLIPS)]
Compat = Annotated[str | None, typer.Option(metavar="NAME", help="rlrp: exactly as rodrigobdz/lrp does it.", rich_help_panel=_FLIPS)]
BatchSize = Annotated[int, typer.Option(min=1, help="How many samples run together.", rich_help_panel=HOW)]
Checkpoints = Annotated[
    Path | None,
    typer.Option(metavar="DIR", help="Keep what is done here, and go on from it after a run that was cut short.", rich_help_panel=FILES),
]
Threads = Annotated[int | None, typer.Option(min=1, help="How many processor threads to use.", rich_help_panel=HOW)]
RunOn = Annotated[Providers, typer.Option(help="Where to run the model.", rich_help_panel=HOW)]


def _flipping(
    patch: int | None, perturbation: str, schedule: str, steps: int | None, seed: int, compat: str | None, batch_size: int
) -> dict[str, Any]:
    try:
        named: str | float = float(perturbation)
    except ValueError:
        named = perturbation
    return {
        "patch": patch,
        "perturbation": named,
        "schedule": schedule,
        "steps": steps,
        "seed": seed,
        "compat": compat,
        "batch_size": batch_size,
    }


def evaluate(
    model: Model,
    data: DataSet,
    composite: Method = None,
    low: Low = None,
    high: High = None,
    epsilon: Epsilon = None,
    gamma: Gamma = None,
    option: More = None,
    maps: Annotated[
        Path | None,
        typer.Option(
            metavar="PATH",
            rich_help_panel=HOW,
            help="Evaluate maps made elsewhere: an array file with one for each sample, or a folder with STEM.npy or STEM_relevance.npz.",
        ),
    ] = None,
    target: Target = None,
    labels: LabelFile = None,
    limit: Limit = None,
    preprocess: Prepare = None,
    output: Output = None,
    order: Annotated[
        str, typer.Option(metavar="LIST", help="Which regions go first: most, least, random, or all three.", rich_help_panel=_FLIPS)
    ] = "all",
    patch: Patch = None,
    perturbation: Perturbation = "inpaint",
    schedule: Schedule = "quadratic",
    steps: Steps = None,
    random_seed: RandomSeed = 0,
    compat: Compat = None,
    checks: Annotated[
        bool,
        typer.Option(
            "--checks", help="Also: completeness, sparseness, sensitivity to noise, and randomised parameters.", rich_help_panel=HOW
        ),
    ] = False,
    folder: Annotated[Path, typer.Option("-o", "--out", metavar="DIR", help="Where the files go.", rich_help_panel=FILES)] = Path(
        "evaluation"
    ),
    show: Annotated[int, typer.Option(min=0, help="How many samples the sheet of steps has.", rich_help_panel=FILES)] = 6,
    checkpoints: Checkpoints = None,
    batch_size: BatchSize = 64,
    threads: Threads = None,
    providers: RunOn = Providers.AUTO,
) -> None:
    """Measure how good explanations are: flip regions by their relevance, and follow the score.

    A good explanation makes it fall fast when the most relevant regions go first, and slowly when the least relevant do.

    Example: onnx-lrp evaluate model.onnx photos/ --preprocess imagenet -c epsilon_plus_flat
    """
    from onnx_lrp.commands.evaluate import What, run
    from onnx_lrp.commands.scoring import Request

    request = Request(
        model,
        data,
        composite_options(low, high, epsilon, gamma, option),
        target,
        labels,
        limit,
        preprocess,
        output,
        _flipping(patch, perturbation, schedule, steps, random_seed, compat, batch_size),
        folder,
        checkpoints,
        threads,
        providers.value,
    )
    raise typer.Exit(run(request, What(composite, order, maps, show, checks)))


def compare(
    model: Model,
    data: DataSet,
    composites: Annotated[
        str,
        typer.Option(
            "-c",
            "--composites",
            metavar="LIST",
            rich_help_panel=HOW,
            help="Composites, their files, or methods such as smoothgrad, with commas between them; options behind a colon: "
            "gamma:gamma=0.1:bias=ignore, smoothgrad:samples=10.",
        ),
    ] = "epsilon_plus_flat,epsilon_plus,epsilon,gamma,epsilon_alpha2_beta1_flat,input_x_gradient",
    low: Low = None,
    high: High = None,
    target: Target = None,
    labels: LabelFile = None,
    limit: Limit = None,
    preprocess: Prepare = None,
    output: Output = None,
    patch: Patch = None,
    perturbation: Perturbation = "inpaint",
    schedule: Schedule = "quadratic",
    steps: Steps = None,
    random_seed: RandomSeed = 0,
    compat: Compat = None,
    folder: Annotated[Path, typer.Option("-o", "--out", metavar="DIR", help="Where the files go.", rich_help_panel=FILES)] = Path(
        "comparison"
    ),
    show: Annotated[int, typer.Option(min=0, help="How many samples the sheet of heat maps has.", rich_help_panel=FILES)] = 6,
    checkpoints: Checkpoints = None,
    batch_size: BatchSize = 64,
    threads: Threads = None,
    providers: RunOn = Providers.AUTO,
) -> None:
    """Compare composites on the same data: heat maps side by side, curves on one axis, and a table.

    The table has the area under the curves, the time in forward passes of the model, and how much of the score arrives at the input.

    Example: onnx-lrp compare model.onnx photos/ --preprocess imagenet -c epsilon_plus_flat,epsilon_gamma_box,lrp_tutorial
    """
    from onnx_lrp.commands.compare import run
    from onnx_lrp.commands.scoring import Request

    request = Request(
        model,
        data,
        composite_options(low, high, None, None, None),
        target,
        labels,
        limit,
        preprocess,
        output,
        _flipping(patch, perturbation, schedule, steps, random_seed, compat, batch_size),
        folder,
        checkpoints,
        threads,
        providers.value,
    )
    raise typer.Exit(run(request, composites, show))


def tune(
    model: Model,
    data: DataSet,
    score: Annotated[
        str,
        typer.Option(
            metavar="NAME",
            rich_help_panel=HOW,
            help="What is sought: a large area between the curves (between), a small one under most relevant first (most), "
            "or a large one under least relevant first (least).",
        ),
    ] = "between",
    tries: Annotated[
        int | None, typer.Option(min=1, help="Draw so many candidates. Default: all.", rich_help_panel=HOW, show_default=False)
    ] = None,
    low: Low = None,
    high: High = None,
    target: Target = None,
    labels: LabelFile = None,
    limit: Limit = None,
    preprocess: Prepare = None,
    output: Output = None,
    patch: Patch = None,
    perturbation: Perturbation = "inpaint",
    schedule: Schedule = "quadratic",
    steps: Steps = None,
    random_seed: RandomSeed = 0,
    to: Annotated[
        Path, typer.Option("--to", metavar="FILE", help="The composite file to write, .json or .yaml.", rich_help_panel=FILES)
    ] = Path("composite.json"),
    folder: Annotated[Path, typer.Option("-o", "--out", metavar="DIR", help="Where the numbers go.", rich_help_panel=FILES)] = Path(
        "tuning"
    ),
    batch_size: BatchSize = 64,
    threads: Threads = None,
    providers: RunOn = Providers.AUTO,
) -> None:
    """Search composites, and gamma and epsilon by depth, for the best score on some data.

    Many candidates are scored on few samples, the best third on three times as many, and so on. With 20 samples or more, half of them
    are kept for the margin over the default that is printed.

    Example: onnx-lrp tune model.onnx photos/ --preprocess imagenet, then: onnx-lrp explain model.onnx cat.jpg -c composite.json
    """
    from onnx_lrp.commands.scoring import Request
    from onnx_lrp.commands.tune import run

    request = Request(
        model,
        data,
        composite_options(low, high, None, None, None),
        target,
        labels,
        limit,
        preprocess,
        output,
        _flipping(patch, perturbation, schedule, steps, random_seed, None, batch_size),
        folder,
        None,
        threads,
        providers.value,
    )
    raise typer.Exit(run(request, score, tries, to))
