"""onnx-lrp evaluate: the data it takes, what it writes, and what it does with samples that cannot be used."""

from __future__ import annotations

import csv
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from models import build, op
from PIL import Image

from onnx_lrp import Explainer
from onnx_lrp.cli import main
from onnx_lrp.demo import load
from onnx_lrp.evaluation import PixelFlipping, complexity, max_sensitivity, randomisation_test, sparseness

Run = Callable[..., tuple[int, str]]
MODEL, IMAGES, LABELS = load()
NAMES = "nought one two three four five six seven eight nine".split()
FAST = ("--patch", "7", "--perturbation", "mean", "--threads", "1", "--show", "0")


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Run:
    """Calls the command line in a folder with digits.onnx, and gives the exit code and what it printed."""
    (tmp_path / "digits.onnx").write_bytes(MODEL)
    monkeypatch.chdir(tmp_path)

    def call(command: str, *arguments: str) -> tuple[int, str]:
        monkeypatch.setattr(sys, "argv", ["onnx-lrp", command, "digits.onnx", *arguments])
        with pytest.raises(SystemExit) as stop:
            main()
        printed = capsys.readouterr()
        return int(str(stop.value.code)), printed.out + printed.err

    return call


def summary(folder: str = "evaluation") -> dict[str, Any]:
    return json.loads(Path(folder, "evaluation.json").read_text())


def pictures(folder: Path, count: int, *, classes: bool) -> None:
    for row in range(count):
        place = folder / str(LABELS[row]) if classes else folder
        place.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.rint(IMAGES[row, 0] * 255).astype(np.uint8)).save(place / f"{row}.png")


def test_numbers_are_those_of_the_library(run: Run) -> None:
    np.savez("data.npz", x=IMAGES, y=LABELS)
    code, out = run("evaluate", "data.npz", "-c", "epsilon", *FAST)
    assert code == 0
    relevance = Explainer(MODEL, "epsilon", providers="cpu").explain(IMAGES, LABELS.astype(int)).relevance
    found = summary()
    assert found["samples"] == len(IMAGES)
    for order, numbers in found["orders"].items():
        expected = PixelFlipping(MODEL, 7, order, "mean", providers="cpu").run(IMAGES, relevance, LABELS.astype(int))
        assert numbers["auc"] == pytest.approx(expected.auc, rel=1e-4)
        assert numbers["mean_curve"] == pytest.approx(expected.mean.tolist(), rel=1e-3, abs=1e-3)
        assert order in out
    with Path("evaluation", "curves.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 3 * len(IMAGES)
    assert [int(row["target"]) for row in rows[: len(IMAGES)]] == LABELS.tolist()
    assert {path.name for path in Path("evaluation").iterdir()} == {
        "curves.png", "curves_least_relevant_first.png", "curves_most_relevant_first.png", "curves_random.png", "curves.csv",
        "evaluation.json", "regions_per_step.png",
    }  # fmt: skip


def test_the_same_seed_gives_the_same_files(run: Run) -> None:
    np.save("data.npy", IMAGES[:4])
    arguments = ("data.npy", "--patch", "7", "--perturbation", "noise", "--threads", "1", "--order", "random")
    for folder, seed in (("a", "1"), ("b", "1"), ("c", "2")):
        assert run("evaluate", *arguments, "--random-seed", seed, "-o", folder)[0] == 0
    assert Path("a/curves.csv").read_text() == Path("b/curves.csv").read_text() != Path("c/curves.csv").read_text()
    assert Path("a/steps_random.png").read_bytes() == Path("b/steps_random.png").read_bytes()


@pytest.mark.parametrize("kind", ["npz", "h5", "csv", "classes", "named classes", "flat"])
def test_every_kind_of_data_says_the_same(run: Run, kind: str) -> None:
    """The pictures' targets come from the data where it has them; the scores are the same."""
    count = 8
    x = np.rint(IMAGES[:count] * 255).astype(np.uint8).astype(np.float32) / np.float32(255)
    arguments = ["data"]
    if kind == "npz":
        np.savez("data.npz", images=x, labels=np.eye(10)[LABELS[:count]])
        arguments = ["data.npz"]
    elif kind == "h5":
        h5py = pytest.importorskip("h5py", reason="HDF5 needs h5py")
        with h5py.File("data.h5", "w") as file:
            file["data"], file["y"] = x, LABELS[:count]
        arguments = ["data.h5"]
    elif kind == "csv":
        pictures(Path("elsewhere"), count, classes=False)
        Path("data.csv").write_text("target,path\n" + "".join(f"{LABELS[row]},elsewhere/{row}.png\n" for row in range(count)))
        arguments = ["data.csv"]
    elif kind == "named classes":
        pictures(Path("data"), count, classes=True)
        for folder in list(Path("data").iterdir()):
            folder.rename(folder.with_name(NAMES[int(folder.name)]))
        Path("names.txt").write_text("\n".join(NAMES))
        arguments += ["--labels", "names.txt"]
    else:
        pictures(Path("data"), count, classes=kind == "classes")
    code, out = run("evaluate", *arguments, "--order", "most", *FAST)
    assert (code, summary()["samples"]) == (0, count), out
    with Path("evaluation/curves.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    scores = PixelFlipping(MODEL, 7, perturbation="mean", providers="cpu").predict(x)
    targets = scores.argmax(1) if kind == "flat" else LABELS[:count]
    found = sorted((int(row["target"]), round(float(row["score_0"]), 3)) for row in rows)
    assert found == sorted((int(t), round(float(s[t]), 3)) for t, s in zip(targets, scores, strict=True))


def test_class_folders_without_labels_are_numbered(run: Run) -> None:
    for row, name in ((0, "b"), (1, "a")):
        pictures(Path("data") / name, row + 1, classes=False)
        (Path("data") / name / f"{row}.png").rename(Path("data") / name / f"x{row}.png")
    code, out = run("evaluate", "data", "--order", "random", *FAST)
    assert code == 0
    assert "numbered in their order, a is 0" in out


def test_bad_pictures_are_named_and_the_rest_is_evaluated(run: Run) -> None:
    pictures(Path("data"), 12, classes=False)
    Path("data/3.png").write_bytes(b"no picture")
    Path("data/5.png").write_bytes(Path("data/5.png").read_bytes()[:60])
    np.save("data/nan.npy", np.full((1, 16, 16), np.nan, np.float32))
    np.save("data/wide.npy", np.zeros((1, 1, 16, 17), np.float32))
    code, out = run("evaluate", "data", *FAST)
    assert code == 2
    assert summary()["samples"] == 10
    assert len(summary()["left_out"]) == 4
    for name, reason in (("3.png", "not a picture"), ("5.png", "truncated"), ("nan.npy", "NaN"), ("wide.npy", "shape")):
        (line,) = [line for line in out.splitlines() if line.startswith("left out:") and name in line]
        assert reason in line


def test_classes_out_of_range_are_left_out(run: Run) -> None:
    np.savez("data.npz", x=IMAGES[:4], y=[1, 12, 3, -1])
    code, out = run("evaluate", "data.npz", *FAST)
    assert (code, summary()["samples"]) == (2, 2)
    assert "data.npz [1]: class 12 is out of range: the output has 10 elements" in out
    assert "data.npz [3]: class -1 is below zero" in out


def test_lists_name_their_bad_lines(run: Run) -> None:
    pictures(Path("p"), 3, classes=False)
    Path("data.csv").write_text("p/0.png,7\np/1.png,seven\np/none.png,1\np/2.png\n")
    code, out = run("evaluate", "data.csv", *FAST)
    assert (code, summary()["samples"]) == (2, 2)
    assert "data.csv, line 2: class 'seven' is no number" in out
    assert "none.png" in out


@pytest.mark.parametrize("kind", ["npy", "folder"])
def test_maps_made_elsewhere(run: Run, kind: str) -> None:
    """Maps that are NaN, missing or of another shape cost only their own sample."""
    pictures(Path("data"), 5, classes=False)
    x = np.rint(IMAGES[:5] * 255).astype(np.float32) / np.float32(255)
    maps = Explainer(MODEL, "epsilon", providers="cpu").explain(x).relevance
    if kind == "npy":
        maps[2] = np.nan
        np.save("maps.npy", maps)
    else:
        Path("maps").mkdir()
        for row in (0, 1):
            np.savez(f"maps/{row}_relevance.npz", relevance=maps[row : row + 1])
        np.save("maps/2.npy", np.full_like(maps[2], np.inf))
        np.save("maps/3.npy", maps[3, :, :9])
    code, out = run("evaluate", "data", "--maps", "maps.npy" if kind == "npy" else "maps", "--order", "most", *FAST)
    assert code == 2
    rows = [0, 1, 3, 4] if kind == "npy" else [0, 1]
    assert summary()["samples"] == len(rows)
    expected = PixelFlipping(MODEL, 7, perturbation="mean", providers="cpu").run(x[rows], maps[rows])
    assert summary()["orders"]["most_relevant_first"]["auc"] == pytest.approx(expected.auc, rel=1e-4)
    assert "2.png: the map holds NaN or infinity" in out
    if kind == "folder":
        assert "3.png: the map has shape (1, 9, 16), the sample (1, 16, 16)" in out
        assert "4.png: no map 4.npy" in out


def test_maps_of_all_samples_go_with_a_limit(run: Run) -> None:
    np.save("data.npy", IMAGES[:5])
    maps = np.random.default_rng(1).standard_normal(IMAGES[:5].shape).astype(np.float32)
    np.savez("maps.npz", relevance=maps)
    code, out = run("evaluate", "data.npy", "--maps", "maps.npz", "--limit", "3", "--order", "most", *FAST)
    assert code == 0, out
    expected = PixelFlipping(MODEL, 7, perturbation="mean", providers="cpu").run(IMAGES[[0, 2, 4]], maps[[0, 2, 4]])
    assert summary()["orders"]["most_relevant_first"]["auc"] == pytest.approx(expected.auc, rel=1e-4)


def test_limit_spreads_over_the_data(run: Run) -> None:
    np.savez("data.npz", x=IMAGES[:9], y=np.arange(9))
    assert run("evaluate", "data.npz", "--limit", "3", "--order", "most", *FAST)[0] == 0
    with Path("evaluation/curves.csv").open(newline="") as file:
        assert [row["target"] for row in csv.DictReader(file)] == ["0", "4", "8"]


def test_checkpoints_are_kept_and_used(run: Run) -> None:
    np.save("data.npy", IMAGES[:6])
    arguments = ("data.npy", "--checkpoints", "kept", "--batch-size", "2", *FAST)
    assert run("evaluate", *arguments)[0] == 0
    assert len(list(Path("kept").iterdir())) == 3
    first = summary()
    assert run("evaluate", *arguments)[0] == 0
    assert summary() == first
    code, out = run("evaluate", *arguments, "-c", "gamma")
    assert code == 2
    assert "another run" in out


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["none"], "no such file"),
        (["empty"], "no pictures"),
        (["broken.npy"], "cannot read"),
        (["ok.npy", "--order", "mots"], "most"),
        (["ok.npy", "--perturbation", "blurr"], "blur"),
        (["ok.npy", "--target", "1,2"], "one class"),
        (["ok.npy", "--target", "99"], "out of range"),
        (["ok.npy", "--maps", "short.npy"], "1 maps for 3 samples"),
        (["two.npz"], "no samples under"),
        (["uneven.npz"], "3 samples and 2 classes"),
        (["words.npz"], "classes are of type"),
        (["ok.npy", "-c", "epsilonn"], "epsilon"),
    ],
)
def test_errors_are_one_line(run: Run, arguments: list[str], says: str) -> None:
    Path("empty").mkdir()
    Path("broken.npy").write_bytes(b"x")
    np.save("ok.npy", IMAGES[:3])
    np.save("short.npy", IMAGES[:1])
    np.savez("two.npz", a=IMAGES[:3], b=IMAGES[:3])
    np.savez("uneven.npz", x=IMAGES[:3], y=[1, 2])
    np.savez("words.npz", x=IMAGES[:3], y=["a", "b", "c"])
    code, out = run("evaluate", *arguments, "--threads", "1")
    assert code == 2
    lines = out.strip().splitlines()
    assert len(lines) == 1
    assert lines[0].startswith("error: ")
    assert says in lines[0]


def test_checks(run: Run) -> None:
    """The sanity checks' numbers are those of the library's functions."""
    np.savez("data.npz", x=IMAGES[:6], y=LABELS[:6])
    code, out = run("evaluate", "data.npz", "-c", "epsilon", "--checks", *FAST)
    assert code == 0
    found = summary()["checks"]
    explainer = Explainer(MODEL, "epsilon", providers="cpu")
    relevance = explainer.explain(IMAGES[:6], LABELS[:6].astype(int)).relevance
    assert found["sparseness"] == pytest.approx(sparseness(relevance).mean(), rel=1e-4)
    assert found["complexity"] == pytest.approx(complexity(relevance).mean(), rel=1e-4)
    noisy = max_sensitivity(explainer, IMAGES[:6], LABELS[:6].astype(int), radius=found["noise"])
    assert found["max_sensitivity"] == pytest.approx(noisy.mean(), rel=1e-3)
    test = randomisation_test(MODEL, IMAGES[:6], LABELS[:6].astype(int), "epsilon", providers="cpu")
    assert found["randomisation"]["layers"] == test.layers
    assert found["randomisation"]["ssim"] == pytest.approx(test.ssim.mean(1).tolist(), abs=1e-3)
    assert "sparseness" in out
    assert Path("evaluation/randomisation.png").is_file()


def test_a_class_folder_without_a_label_is_left_out(run: Run) -> None:
    pictures(Path("data") / "seven", 2, classes=False)
    pictures(Path("data") / "unknown", 3, classes=False)
    Path("names.txt").write_text("\n".join(NAMES))
    code, out = run("evaluate", "data", "--labels", "names.txt", "--order", "most", *FAST)
    assert (code, summary()["samples"]) == (2, 2)
    assert "left out: data/unknown: no class is named" in out.replace("\\", "/")


def test_tables(run: Run) -> None:
    """A model without convolutions gets epsilon, its features are flipped one by one, and there is no sheet."""
    rng = np.random.default_rng(0)
    weights, x = rng.standard_normal((6, 3)).astype(np.float32), rng.standard_normal((5, 6)).astype(np.float32)
    onnx.save(build([op("MatMul", "x w", "y")], {"x": ("N", 6)}, constants={"w": weights}), "digits.onnx")
    for row in range(5):
        np.save(f"{row}.npy", x[row])
    Path("data.csv").write_text("path,class\n" + "".join(f"{row}.npy,{row % 3}\n" for row in range(5)))
    code, out = run("evaluate", "data.csv", "--perturbation", "0", "--order", "most", "--schedule", "linear", "--threads", "1")
    assert code == 0, out
    assert summary()["regions"] == 6
    shares = np.sort(x * weights[:, np.arange(5) % 3].T, 1)  # the most relevant first: what is left is the sum of the others
    expected = np.concatenate([shares.cumsum(1)[:, ::-1], np.zeros((5, 1), np.float32)], 1).mean(0)
    np.testing.assert_allclose(summary()["orders"]["most_relevant_first"]["mean_curve"], expected, atol=1e-4)
    assert not list(Path("evaluation").glob("steps*"))
    code, out = run("evaluate", "data.csv", "--threads", "1")
    assert code == 2
    assert 'take "mean"' in out


def test_models_of_several_inputs(run: Run) -> None:
    onnx.save(build([op("Add", "a b", "y")], {"a": ("N", 6), "b": ("N", 6)}), "digits.onnx")
    np.save("data.npy", np.ones((2, 6), np.float32))
    code, out = run("evaluate", "data.npy")
    assert code == 2
    assert "the model has 2 inputs (a, b)" in out
