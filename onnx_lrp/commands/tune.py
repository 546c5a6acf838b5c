"""The command tune: search composites and their parameters for the best score, and save the best as a file."""

from __future__ import annotations

import csv
import io
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from onnx_lrp.commands.files import Folder
from onnx_lrp.commands.options import FALLBACK, USUAL, has_convolutions
from onnx_lrp.commands.printing import say
from onnx_lrp.commands.scoring import Request, Scorer, report, table, write_json
from onnx_lrp.composites.files import composite_data
from onnx_lrp.errors import InputError, OnnxLrpError, suggest
from onnx_lrp.evaluation.curves import abpc
from onnx_lrp.evaluation.search import Candidate, Rung, candidates, rungs_of, successive_halving
from onnx_lrp.explainer import Explainer
from onnx_lrp.progress import progress_bar

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["SCORES", "run"]

SCORES = ("between", "most", "least")
"""What is made large: the area between the curves; less the area under most relevant first; the area under least relevant first."""
_DEFAULT = "the default"
_HELD_OUT = 20
"""From how many samples on half of them are kept for judging the winner."""


class _Search:
    """The candidates with their scores on the samples."""

    def __init__(self, scorer: Scorer, found: list[Candidate], score: str):
        self.scorer, self.kind = scorer, score
        self.found = {candidate.name: candidate for candidate in found}
        self.failed: dict[str, str] = {}

    def score(self, name: str, rows: NDArray[np.int64]) -> float:
        """The score of a candidate on some samples; NaN if it does not fit the model."""
        scorer = self.scorer
        try:
            explainer = Explainer(scorer.request.model, self.found[name].composite, **scorer.same)
        except OnnxLrpError as error:
            self.failed[name] = str(error)
            return float("nan")
        explained = scorer.explain(explainer, rows.tolist())
        if explained.bad:
            self.failed[name] = next(iter(explained.bad.values()))
            return float("nan")
        x, target = scorer.data.x[rows], scorer.target[rows]
        orders = {"between": ("least", "most")}.get(self.kind, (self.kind,))
        runs = {order: scorer.flipping[f"{order}_relevant_first"].run(x, explained.relevance, target) for order in orders}
        if self.kind == "between":
            return abpc(runs["least"], runs["most"])
        return runs["least"].auc if self.kind == "least" else -runs["most"].auc


def run(request: Request, score: str, tried: int | None, to: Path) -> int:
    """Search, print the best with its margin over the default, and write it.

    Args:
        request: The model, the data, and how to flip.
        score: One of `SCORES`.
        tried: How many candidates are drawn from all; None for all.
        to: The composite file to write, .json or .yaml.

    Returns:
        The exit code: 0, or 2 if samples were left out.

    Raises:
        OnnxLrpError: Nothing can be searched, or the file cannot be written.
    """
    if score not in SCORES:
        raise InputError(f"unknown score {score!r}" + suggest(score, SCORES))
    if to.suffix.lower() not in (".json", ".yaml", ".yml"):
        raise InputError(f"the composite is written to a .json or .yaml file, not to {to}")
    folder = Folder(request.folder)
    scorer = Scorer(request)
    seed = request.flipping["seed"]
    found = _candidates(scorer, tried, seed)
    search = _Search(scorer, found, score)
    count = len(scorer.data.x)
    order = np.random.default_rng([seed, 1]).permutation(count)
    apart = count >= _HELD_OUT
    searched, judged = (np.sort(order[: count // 2]), np.sort(order[count // 2 :])) if apart else (np.arange(count), np.arange(count))
    with progress_bar(sum(left for left, _ in rungs_of(len(found), len(searched)))) as advance:

        def scored(name: str, rows: NDArray[np.int64]) -> float:
            advance(1)
            return search.score(name, searched[rows])

        rungs = successive_halving([one.name for one in found], scored, len(searched), seed=seed)
    best = next(iter(rungs[-1].scores))
    if best in search.failed:
        raise InputError(f"no candidate fits the model; the first: {next(iter(search.failed.values()))}")
    margin = {name: search.score(name, judged) for name in (best, _DEFAULT)}
    composite = search.found[best].composite
    composite.save(to)
    files = [to, *_write(folder, request, score, rungs, margin, best, search, apart)]
    _tell(rungs, margin, best, len(judged), score, apart)
    for file in files:
        say(f"    -> {file}")
    return 2 if report(scorer.data.problems) else 0


def _candidates(scorer: Scorer, tried: int | None, seed: int) -> list[Candidate]:
    """The default, and what is tried; the default is always among them."""
    low, high = scorer.request.options.get("low"), scorer.request.options.get("high")
    if scorer.preprocess is not None and low is None and high is None:
        low, high = scorer.preprocess.low(), scorer.preprocess.high()
    rest = candidates(low, high)
    if tried is not None and tried < len(rest):
        chosen = np.random.default_rng([seed, 2]).permutation(len(rest))[:tried]
        rest = [rest[index] for index in sorted(chosen)]
    usual = Explainer(scorer.request.model, USUAL, **scorer.same)
    if not has_convolutions(usual.plan):
        usual = Explainer(scorer.request.model, FALLBACK, **scorer.same)
    return [Candidate(_DEFAULT, usual.composite), *rest]


def _write(
    folder: Folder,
    request: Request,
    score: str,
    rungs: list[Rung],
    margin: dict[str, float],
    best: str,
    search: _Search,
    apart: bool,
) -> list[Path]:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["round", "samples", "candidate", "score"])
    for number, rung in enumerate(rungs, 1):
        writer.writerows([number, rung.samples, name, value] for name, value in rung.scores.items())
    summary = {
        "model": str(request.model),
        "score": score,
        "best": best,
        "composite": composite_data(search.found[best].composite),
        "judged_on_other_samples": apart,
        "best_score": margin[best],
        "default_score": margin[_DEFAULT],
        "margin": margin[best] - margin[_DEFAULT],
        "failed": search.failed,
    }
    return [folder.save("tune.csv", text.getvalue().encode()), folder.save("tune.json", write_json(summary))]


def _tell(rungs: list[Rung], margin: dict[str, float], best: str, judged: int, score: str, apart: bool) -> None:
    for number, rung in enumerate(rungs, 1):
        say(f"round {number}: {len(rung.scores)} candidates on {rung.samples} samples, the best is {next(iter(rung.scores))}")
    last: list[tuple[str, Any]] = list(rungs[-1].scores.items())[:5]
    table(["best candidates", "score"], [[name, f"{value:.4g}"] for name, value in last])
    of = "samples that the search did not see" if apart else "the same samples, too few to keep some apart"
    say(
        f"{best}: {margin[best]:.4g} against {margin[_DEFAULT]:.4g} of the default, a margin of {margin[best] - margin[_DEFAULT]:.4g} "
        f"({score}, on {judged} {of})"
    )
