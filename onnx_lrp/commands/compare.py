"""The command compare: several composites side by side, as heat maps, as curves and in numbers."""

from __future__ import annotations

import csv
import inspect
import io
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from onnx_lrp.commands.data import Problem
from onnx_lrp.commands.files import Folder
from onnx_lrp.commands.methods import METHODS
from onnx_lrp.commands.options import parse_options
from onnx_lrp.commands.printing import say
from onnx_lrp.commands.scoring import Explained, Request, Scorer, report, table, write_json
from onnx_lrp.composites import find_composite
from onnx_lrp.errors import InputError, OnnxLrpError
from onnx_lrp.evaluation.curves import Flipping, abpc
from onnx_lrp.evaluation.localisation import pooled
from onnx_lrp.evaluation.pictures import curves_figure, heatmap_sheet

if TYPE_CHECKING:
    from onnx_lrp.graph import Array

__all__ = ["run"]

MOST, LEAST, RANDOM = "most_relevant_first", "least_relevant_first", "random"


@dataclass(frozen=True)
class Compared:
    """One composite's results."""

    name: str
    most: Flipping
    least: Flipping
    relevance: Array
    passes: float
    """Its time, with that of the model alone as one."""
    kept: float | None
    """The share of the explained score that arrives at the input, the mean over samples; None for methods that conserve nothing."""


def run(request: Request, composites: str, shown: int) -> int:
    """Evaluate several composites on the same samples.

    Args:
        request: The model, the data, and how to flip.
        composites: Names or files with commas between them; after a name, options such as gamma:gamma=0.1:bias=ignore.
        shown: How many samples the sheet of heat maps has.

    Returns:
        The exit code: 0, or 2 if composites failed or samples were left out.

    Raises:
        OnnxLrpError: Nothing can be compared.
    """
    wanted = parse_composites(composites)
    folder = Folder(request.folder)
    scorer = Scorer(request)
    explained: dict[str, Explained] = {}
    failed: list[Problem] = []
    for name, (key, options) in wanted.items():
        try:
            compiled, method = scorer.compiled(key, _fitting(key, request.options) | options)
            explained[name] = scorer.explain(compiled, method=method)
        except OnnxLrpError as error:
            failed.append(Problem(name, str(error)))
    if not explained:
        raise InputError(f"no composite can be used; the first: {failed[0]}")
    forward = scorer.forward_seconds
    bad = {row: f"{name}: {reason}" for name, one in explained.items() for row, reason in one.bad.items()}
    keep = [row for row in range(len(scorer.data.x)) if row not in bad]
    scorer.data = scorer.data.without(bad)
    random = scorer.flip(RANDOM, next(iter(explained.values())).relevance[keep], "random")
    scores = random.scores[:, 0]
    compared = [_compared(scorer, name, one, keep, scores, forward) for name, one in explained.items()]
    files = _write(folder, scorer, compared, random, shown, [*failed, *scorer.data.problems])
    _tell(compared, random)
    for file in files:
        say(f"    -> {file}")
    return 2 if report([*failed, *scorer.data.problems]) else 0


def parse_composites(text: str) -> dict[str, tuple[str, dict[str, Any]]]:
    """What --composites says: for each entry as it is written, the composite's name or file and its options.

    Raises:
        CompositeError: A name or an option is wrong.
        InputError: There is none, or one comes twice.
    """
    found: dict[str, tuple[str, dict[str, Any]]] = {}
    for entry in [part.strip() for part in text.split(",") if part.strip()]:
        parts = entry.split(":")
        options = [part for part in parts if "=" in part]
        name = ":".join(part for part in parts if "=" not in part)
        if name not in METHODS:
            find_composite(name)
        if entry in found:
            raise InputError(f"--composites has {entry} twice")
        found[entry] = (name, parse_options(options))
    if not found:
        raise InputError("--composites needs names with commas between them, such as epsilon_plus_flat,gamma:gamma=0.1")
    return found


def _fitting(key: str, options: dict[str, Any]) -> dict[str, Any]:
    """Those of the options for all composites that this one takes."""
    if key in METHODS:
        return {}
    kind, preset = find_composite(key)
    known = inspect.signature(kind).parameters
    return {name: value for name, value in options.items() if name in known and name not in preset}


def _compared(scorer: Scorer, name: str, one: Explained, keep: list[int], scores: Array, forward: float) -> Compared:
    relevance = one.relevance[keep]
    stem = "".join(letter if letter.isalnum() else "_" for letter in name)
    most, least = scorer.flip(MOST, relevance, stem), scorer.flip(LEAST, relevance, stem)
    conserving = all(step.rule.conserving for step in one.explainer.plan.steps if step.rule is not None)
    total = relevance.reshape(len(relevance), -1).sum(1, dtype=np.float64)
    nonzero = scores != 0
    kept = float((total[nonzero] / scores[nonzero]).mean()) if conserving and nonzero.any() else None
    return Compared(name, most, least, relevance, one.seconds / forward, kept)


def _write(folder: Folder, scorer: Scorer, compared: list[Compared], random: Flipping, shown: int, problems: list[Problem]) -> list[Path]:
    runs = {f"{one.name}, {order}": run for one in compared for order, run in (("most", one.most), ("least", one.least))}
    groups: dict[str, Any] = {f"{one.name}, {order}": one.name for one in compared for order in ("most", "least")}
    title = f"{len(random.scores)} samples; dashed: least relevant first"
    files = [folder.save("curves.png", curves_figure(runs | {"random order": random}, title, groups | {"random order": None}))]
    rows = np.linspace(0, len(random.scores) - 1, min(shown, len(random.scores))).round().astype(int)
    if shown and scorer.regions.is_image:
        axis: int | str = "none" if scorer.regions.channel_axis is None else scorer.regions.channel_axis
        maps = {one.name: pooled(one.relevance[rows], axis) for one in compared}
        names = [Path(scorer.data.names[row]).stem for row in rows]
        files.append(folder.save("heatmaps.png", heatmap_sheet(scorer.displayed(rows), maps, names)))
    rows_ = [_row(one) for one in compared]
    summary = {
        "model": str(scorer.request.model),
        "settings": scorer.request.flipping,
        "samples": len(random.scores),
        "random_order_auc": random.auc,
        "composites": rows_,
        "left_out": [str(problem) for problem in problems],
    }
    text = io.StringIO()
    writer = csv.DictWriter(text, rows_[0].keys(), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows_)
    return [*files, folder.save("compare.csv", text.getvalue().encode()), folder.save("compare.json", write_json(summary))]


def _row(one: Compared) -> dict[str, Any]:
    return {
        "composite": one.name,
        "auc_most_relevant_first": one.most.auc,
        "auc_least_relevant_first": one.least.auc,
        "abpc": abpc(one.least, one.most),
        "forward_passes": one.passes,
        "relevance_over_score": one.kept,
    }


def _tell(compared: list[Compared], random: Flipping) -> None:
    """Prints the table, the best first."""
    rows = []
    for one in sorted(compared, key=lambda one: -abpc(one.least, one.most)):
        kept = "-" if one.kept is None else f"{100 * one.kept:.1f} %"
        numbers = [f"{value:.4g}" for value in (one.most.auc, one.least.auc, abpc(one.least, one.most))]
        rows.append([one.name, *numbers, f"{one.passes:.1f}", kept])
    count = len(random.scores)
    say(f"{count} sample{'s' * (count != 1)}, {random.regions} regions each; in random order the area is {random.auc:.4g}")
    table(["composite", "area, most first", "area, least first", "between", "forward passes", "relevance / score"], rows)
