"""The command evaluate: pixel flipping of one composite's maps, with curves, pictures and numbers."""

from __future__ import annotations

import csv
import io
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from onnx_lrp.commands.files import Folder
from onnx_lrp.commands.maps import align
from onnx_lrp.commands.printing import say
from onnx_lrp.commands.scoring import Request, Scorer, report, table, write_json
from onnx_lrp.errors import InputError, suggest
from onnx_lrp.evaluation.curves import Flipping, abpc
from onnx_lrp.evaluation.flipping import ORDERS
from onnx_lrp.evaluation.pictures import curves_figure, flipping_figure, flipping_sheet, flips_figure

if TYPE_CHECKING:
    from onnx_lrp.graph import Array

__all__ = ["run"]

_SHORT = {order.split("_")[0]: order for order in ORDERS}


@dataclass(frozen=True)
class What:
    """What is evaluated, and what is drawn."""

    composite: str | None
    orders: str
    """ "all", or names with commas between them."""
    maps: Path | None
    shown: int
    """How many samples the sheet has."""
    checks: bool


def run(request: Request, what: What) -> int:
    """Flip the regions of all samples, and write curves, pictures and numbers.

    Returns:
        The exit code: 0, or 2 if samples were left out.

    Raises:
        OnnxLrpError: Nothing can be evaluated.
    """
    orders = _orders(what.orders)
    folder = Folder(request.folder)
    scorer = Scorer(request)
    relevance, explainer = _relevance(scorer, what)
    runs = {order: scorer.flip(order, relevance, "evaluate") for order in orders}
    files = _write(folder, scorer, runs, relevance, what)
    numbers = _numbers(runs)
    if what.checks and explainer is not None:
        from onnx_lrp.commands.checks import checks

        scores, seed = next(iter(runs.values())).scores[:, 0], request.flipping["seed"]
        found, pictures = checks(request.model, explainer, scorer.data.x, scorer.target, relevance, scores, scorer.same, seed)
        numbers["checks"] = found
        files += [folder.save(name, picture) for name, picture in pictures.items()]
    problems = scorer.data.problems
    summary = {
        "model": str(request.model),
        "composite": None if what.maps else what.composite or "default",
        "maps": str(what.maps) if what.maps else None,
        "settings": {name: str(value) if callable(value) else value for name, value in request.flipping.items()},
        "samples": len(scorer.data.x),
        "left_out": [str(problem) for problem in problems],
        **numbers,
    }
    files.append(folder.save("evaluation.json", write_json(summary)))
    _tell(scorer, runs, numbers)
    for file in files:
        say(f"    -> {file}")
    return 2 if report(problems) else 0


def _orders(text: str) -> list[str]:
    names = ORDERS if text == "all" else [part.strip() for part in text.split(",") if part.strip()]
    found = [_SHORT.get(name, name) for name in names]
    for name in found:
        if name not in ORDERS:
            raise InputError(f"unknown order {name!r}" + suggest(name, [*_SHORT, *ORDERS, "all"]))
    if not found:
        raise InputError("--order needs most, least, random or all")
    return list(dict.fromkeys(found))


def _relevance(scorer: Scorer, what: What) -> tuple[Array, Any]:
    """The maps of all samples; those without one are left out of the scorer's data."""
    if what.maps is not None:
        maps, bad = align(what.maps, scorer.data, [entry.name for entry in scorer.listing.entries])
        explainer = None
    else:
        compiled, method = scorer.compiled(what.composite, scorer.request.options)
        if what.checks and method is not None:
            raise InputError(f"--checks are for composites, not for {what.composite}")
        explained = scorer.explain(compiled, method=method)
        maps, bad, explainer = explained.relevance, explained.bad, explained.explainer
    keep = [row for row in range(len(maps)) if row not in bad]
    scorer.data = scorer.data.without(bad)
    return maps[keep], explainer


def _write(folder: Folder, scorer: Scorer, runs: dict[str, Flipping], relevance: Array, what: What) -> list[Path]:
    files = [folder.save("curves.png", curves_figure(runs, f"{len(relevance)} samples"))]
    files += [folder.save(f"curves_{order}.png", flipping_figure(run)) for order, run in runs.items()]
    first = next(iter(runs))
    files.append(folder.save("regions_per_step.png", flips_figure(runs[first])))
    shown = min(what.shown, len(relevance))
    if shown and scorer.is_image:
        rows = np.linspace(0, len(relevance) - 1, shown).round().astype(int)
        flipping = scorer.flipping[first]
        steps = flipping.steps_of(scorer.data.x[rows], relevance[rows], scorer.target[rows])
        last = len(runs[first].flips) - 1
        chosen = sorted({1, *np.linspace(0, last, 6).round().astype(int)[1:].tolist()})
        bgr = scorer.preprocess is not None and scorer.preprocess.channels == "BGR"
        sheet = flipping_sheet(steps, relevance[rows], chosen, scorer.regions.channel_axis, bgr=bgr)
        files.append(folder.save(f"steps_{first}.png", sheet))
    files.append(folder.save("curves.csv", _csv(scorer, runs)))
    return files


def _csv(scorer: Scorer, runs: dict[str, Flipping]) -> bytes:
    """A line for each sample and order: its name, the output followed, its area, and its score after each step."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    flips = next(iter(runs.values())).flips
    writer.writerow(["sample", "target", "order", "auc", *(f"score_{step}" for step in range(len(flips)))])
    for order, run in runs.items():
        for name, target, area, scores in zip(scorer.data.names, run.target, run.aucs, run.scores, strict=True):
            writer.writerow([name, target, order, repr(float(area)), *(repr(float(score)) for score in scores)])
    return text.getvalue().encode()


def _numbers(runs: dict[str, Flipping]) -> dict[str, Any]:
    first = next(iter(runs.values()))
    numbers: dict[str, Any] = {"regions": first.regions, "regions_perturbed": first.flips, "orders": {}}
    for order, run in runs.items():
        numbers["orders"][order] = {
            "auc": run.auc,
            "auc_normalised": run.auc_normalised,
            "au_mse": run.au_mse,
            "mean_curve": run.mean,
        }
    if {"least_relevant_first", "most_relevant_first"} <= runs.keys():
        numbers["abpc"] = abpc(runs["least_relevant_first"], runs["most_relevant_first"])
    return numbers


def _tell(scorer: Scorer, runs: dict[str, Flipping], numbers: dict[str, Any]) -> None:
    first = next(iter(runs.values()))
    count = len(scorer.data.x)
    say(f"{count} sample{'s' * (count != 1)}, {first.regions} regions each, {len(first.flips) - 1} steps")
    rows = [[order, f"{run.auc:.4g}", f"{run.auc_normalised:.4g}", f"{run.au_mse:.4g}"] for order, run in runs.items()]
    table(["order", "area", "normalised", "area of squared change"], rows)
    if "abpc" in numbers:
        say(f"area between least and most relevant first, per step: {numbers['abpc']:.4g}")
    if "checks" in numbers:
        from onnx_lrp.commands.checks import tell

        tell(numbers["checks"])
