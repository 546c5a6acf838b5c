"""Successive halving, the candidates, and onnx-lrp tune."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from test_cli_evaluate import IMAGES, LABELS, MODEL, Run, run

from onnx_lrp import Composite, Explainer, InputError
from onnx_lrp.evaluation import PixelFlipping, abpc
from onnx_lrp.evaluation.search import candidates, rungs_of, successive_halving

__all__ = ["run"]


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ((77, 100), [(77, 8), (26, 24), (9, 72), (3, 100)]),
        ((5, 1000), [(5, 8), (2, 1000)]),
        ((3, 50), [(3, 50)]),
        ((40, 6), [(40, 6)]),
        ((1, 9), [(1, 9)]),
    ],
)
def test_rungs(given: tuple[int, int], expected: list[tuple[int, int]]) -> None:
    assert rungs_of(*given) == expected
    seen: list[int] = []

    def score(_: str, rows: NDArray[np.int64]) -> float:
        seen.append(len(rows))
        return 0.0

    successive_halving([str(index) for index in range(given[0])], score, given[1])
    assert seen == [size for count, size in expected for _ in range(count)]


def test_halving_finds_the_best_and_keeps_its_samples() -> None:
    rows_of: dict[str, list[set[int]]] = {}

    def score(name: str, rows: NDArray[np.int64]) -> float:
        rows_of.setdefault(name, []).append(set(rows.tolist()))
        return float("nan") if name == "30" else -abs(int(name) - 17)

    names = [str(index) for index in range(40)]
    rungs = successive_halving(names, score, 100, seed=4)
    assert next(iter(rungs[-1].scores)) == "17"
    assert list(rungs[0].scores)[-1] == "30"
    smaller, larger = rows_of["17"][:2]
    assert smaller < larger
    assert [list(rung.scores) for rung in successive_halving(names, score, 100, seed=4)] == [list(rung.scores) for rung in rungs]
    with pytest.raises(InputError):
        successive_halving([], score, 3)


def test_candidates_are_distinct_and_can_be_saved(tmp_path: Path) -> None:
    for bounds in ({}, {"low": 0.0, "high": 1.0}):
        found = candidates(**bounds)
        assert len({one.name for one in found}) == len(found)
        plans = set()
        for one in found:
            one.composite.save(tmp_path / "c.json")
            again = Composite.load(tmp_path / "c.json")
            assert [rule for _, rule in again.entries] == [rule for _, rule in one.composite.entries]
            plans.add(str(one.composite))
        assert len(plans) == len(found)
        assert any("ZBox" in plan for plan in plans) == bool(bounds)


def test_tune_finds_a_composite_that_explain_reads(run: Run) -> None:
    """What is printed and written is the score of the saved composite, on the samples kept apart."""
    x, y = np.tile(IMAGES, (3, 1, 1, 1))[:24], np.tile(LABELS, 3)[:24].astype(int)
    x = np.clip(x + np.random.default_rng(0).normal(0, 0.05, x.shape), 0, 1).astype(np.float32)
    np.savez("data.npz", x=x, y=y)
    arguments = ("data.npz", "--patch", "4", "--perturbation", "mean", "--tries", "6", "--threads", "1", "--to", "best.json")
    code, out = run("tune", *arguments)
    assert code == 0, out
    found = json.loads(Path("tuning/tune.json").read_text())
    judged = np.sort(np.random.default_rng([0, 1]).permutation(24)[12:])
    for key, composite in (("best_score", "best.json"), ("default_score", "epsilon_plus_flat")):
        relevance = Explainer(MODEL, composite, providers="cpu").explain(x[judged], y[judged]).relevance
        runs = [
            PixelFlipping(MODEL, 4, f"{order}_relevant_first", "mean", providers="cpu").run(x[judged], relevance, y[judged])
            for order in ("least", "most")
        ]
        assert found[key] == pytest.approx(abpc(*runs), rel=1e-3)
    assert found["margin"] == pytest.approx(found["best_score"] - found["default_score"])
    with Path("tuning/tune.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [sum(row["round"] == str(number) for row in rows) for number in (1, 2)] == [7, 3]
    assert found["best"] == max((row for row in rows if row["round"] == "2"), key=lambda row: float(row["score"]))["candidate"]
    assert run("tune", *arguments)[1] == out
    np.save("one.npy", x[:1])
    assert run("explain", "one.npy", "-c", "best.json", "--format", "npz")[0] == 0


def test_few_samples_are_all_searched(run: Run) -> None:
    np.savez("data.npz", x=IMAGES[:4], y=LABELS[:4])
    arguments = ("data.npz", "--patch", "8", "--perturbation", "mean", "--tries", "2", "--score", "most", "--threads", "1")
    code, out = run("tune", *arguments)
    assert code == 0
    assert "too few to keep some apart" in out
    assert json.loads(Path("tuning/tune.json").read_text())["margin"] >= 0


@pytest.mark.parametrize(
    ("arguments", "says"), [(["--score", "auc"], "between"), (["--to", "best.txt"], ".json"), (["--perturbation", "x"], "inpaint")]
)
def test_wrong_options(run: Run, arguments: list[str], says: str) -> None:
    np.save("data.npy", IMAGES[:4])
    code, out = run("tune", "data.npy", *arguments)
    assert code == 2
    assert says in out
    assert len(out.strip().splitlines()) == 1


def test_bars_are_not_nested(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    from onnx_lrp import progress

    monkeypatch.setattr("sys.stderr.isatty", lambda: True)
    with progress.progress_bar(3) as outer:
        with progress.progress_bar(3) as inner:
            assert len(progress._shown) == 1
            inner(3)
        outer(3)
    assert not progress._shown
