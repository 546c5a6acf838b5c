"""onnx-lrp compare: the numbers are the library's, and what fails does not stop the rest."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import pytest
from test_cli_evaluate import FAST, IMAGES, LABELS, MODEL, Run, run

from onnx_lrp import Explainer, integrated_gradients, smoothgrad
from onnx_lrp.evaluation import PixelFlipping, abpc

__all__ = ["run"]


def test_table_files_and_pictures(run: Run) -> None:
    np.savez("data.npz", x=IMAGES[:8], y=LABELS[:8])
    Path("own.json").write_text('{"composite": "gamma", "options": {"gamma": 0.4}}')
    composites = "epsilon,own.json,alpha_beta:alpha=1.5:bias=ignore,epsilon_gamma_box,input_x_gradient"
    code, out = run("compare", "data.npz", "-c", composites, "--low", "0", "--high", "1", "--show", "2", *FAST[:-2])
    assert code == 0, out
    with Path("comparison/compare.csv").open(newline="") as file:
        rows = {row["composite"]: row for row in csv.DictReader(file)}
    assert list(rows) == composites.split(",")
    made = {
        "epsilon": ("epsilon", {}),
        "own.json": ("gamma", {"gamma": 0.4}),
        "epsilon_gamma_box": ("epsilon_gamma_box", {"low": 0, "high": 1}),
    }
    made["alpha_beta:alpha=1.5:bias=ignore"] = ("alpha_beta", {"alpha": 1.5, "bias": "ignore"})
    target = LABELS[:8].astype(int)
    for name, (key, options) in made.items():
        explanation = Explainer(MODEL, key, providers="cpu", **options).explain(IMAGES[:8], target)
        runs = [
            PixelFlipping(MODEL, 7, order, "mean", providers="cpu").run(IMAGES[:8], explanation.relevance, target)
            for order in ("least_relevant_first", "most_relevant_first")
        ]
        assert float(rows[name]["auc_most_relevant_first"]) == pytest.approx(runs[1].auc, rel=1e-3)
        assert float(rows[name]["abpc"]) == pytest.approx(abpc(*runs), rel=1e-3)
        share = (explanation.relevance.sum((1, 2, 3)) / explanation.output[np.arange(8), target]).mean()
        assert float(rows[name]["relevance_over_score"]) == pytest.approx(share, rel=1e-3)
        assert float(rows[name]["forward_passes"]) > 0
    assert rows["input_x_gradient"]["relevance_over_score"] == ""
    assert all(name in out for name in rows)
    assert Path("comparison/curves.png").is_file()
    assert Path("comparison/heatmaps.png").is_file()


def test_a_composite_that_fails_is_named(run: Run) -> None:
    np.save("data.npy", IMAGES[:4])
    code, out = run("compare", "data.npy", "-c", "epsilon,lrp_tutorial", *FAST)
    assert code == 2
    assert "left out: lrp_tutorial needs --low and --high" in out
    assert [row["composite"] for row in json.loads(Path("comparison/compare.json").read_text())["composites"]] == ["epsilon"]


@pytest.mark.parametrize(
    ("composites", "says"),
    [
        ("epsilonn", "epsilon"),
        ("", "names with commas"),
        ("gamma,gamma", "twice"),
        ("gamma:gama=2", "gama"),
        ("lrp_tutorial", "no composite"),
    ],
)
def test_wrong_composites(run: Run, composites: str, says: str) -> None:
    np.save("data.npy", IMAGES[:4])
    code, out = run("compare", "data.npy", "-c", composites, *FAST)
    assert code == 2
    assert says in out
    assert out.startswith("error: ")


def test_methods_of_several_runs(run: Run) -> None:
    """Their options stand behind the name; evaluate takes them as --option."""
    np.savez("data.npz", x=IMAGES[:4], y=LABELS[:4])
    target = LABELS[:4].astype(int)
    code, out = run("compare", "data.npz", "-c", "integrated_gradients:steps=5,smoothgrad:samples=3:noise=0.2", "--show", "0", *FAST[:-2])
    assert code == 0, out
    with Path("comparison/compare.csv").open(newline="") as file:
        found = [float(row["auc_most_relevant_first"]) for row in csv.DictReader(file)]
    maps = [
        integrated_gradients(MODEL, IMAGES[:4], target, steps=5, providers="cpu").relevance,
        smoothgrad(MODEL, IMAGES[:4], target, n=3, noise=0.2, providers="cpu").relevance,
    ]
    flipping = PixelFlipping(MODEL, 7, perturbation="mean", providers="cpu")
    assert found == pytest.approx([flipping.run(IMAGES[:4], one, target).auc for one in maps], rel=1e-3)
    arguments = ("data.npz", "-c", "integrated_gradients", "--option", "steps=5", "--order", "most", *FAST)
    assert run("evaluate", *arguments)[0] == 0
    evaluated = json.loads(Path("evaluation/evaluation.json").read_text())["orders"]["most_relevant_first"]["auc"]
    assert evaluated == pytest.approx(found[0], rel=1e-3)
    code, out = run("evaluate", *arguments, "--checks")
    assert code == 2
    assert "--checks are for composites" in out
