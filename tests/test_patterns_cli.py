"""The command patterns, and the option --patterns of the commands that explain."""

from __future__ import annotations

import io
import json
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest
from helpers import make_model, node, normal
from PIL import Image

import onnx_lrp
from onnx_lrp.patterns import Patterns, fit_patterns
from onnx_lrp.progress import progress_bar


@pytest.fixture
def model(tmp_path: Path) -> Path:
    nodes = [node("Conv", "x W", "c", pads=[1, 1, 1, 1]), node("Relu", "c", "r"), node("Flatten", "r", "f"), node("Gemm", "f V", "y")]
    path = tmp_path / "model.onnx"
    onnx.save(make_model(nodes, {"W": normal("W", 3, 1, 3, 3), "V": normal("V", 108, 4)}, (1, 6, 6)), path)
    return path


@pytest.fixture
def data(tmp_path: Path) -> list[Path]:
    """Five samples in arrays, and two pictures in a folder."""
    np.save(tmp_path / "a.npy", normal("a", 3, 1, 6, 6))
    np.savez(tmp_path / "b.npz", x=normal("b", 2, 1, 6, 6))
    (tmp_path / "photos").mkdir()
    for name in ("one", "two"):
        grey = np.random.default_rng(len(name)).integers(0, 256, (6, 6)).astype(np.uint8)
        Image.fromarray(grey).save(tmp_path / "photos" / f"{name}.png")
    return [tmp_path / "a.npy", tmp_path / "b.npz", tmp_path / "photos"]


def test_patterns_of_arrays(run, model, data):
    code, out, err = run("patterns", model, *data[:2], "-o", "p.npz", "--estimator", "all", "--batch-size", 4)
    assert (code, out, err) == (0, "patterns (all) of 2 layers, fitted to 5 samples: p.npz\n", "")
    want = fit_patterns(model, [np.load(data[0]), np.load(data[1])["x"]], estimator="all", batch_size=4, providers="cpu")
    got = Patterns.load("p.npz")
    assert all(np.array_equal(got.arrays[name], pattern) for name, pattern in want.arrays.items())


def test_patterns_of_pictures(run, model, data):
    code, out, err = run("patterns", model, data[2])
    assert (code, out) == (0, "patterns (positive) of 2 layers, fitted to 2 samples: patterns.npz\n")
    assert "scaled to 0 to 1" in err
    pictures = np.stack([np.asarray(Image.open(file), np.float32)[None] / 255 for file in sorted(data[2].iterdir())])
    want = fit_patterns(model, pictures, providers="cpu").arrays["layer_Conv"]
    np.testing.assert_allclose(Patterns.load("patterns.npz").arrays["layer_Conv"], want, rtol=1e-5)


def test_explaining_with_patterns(run, model, data):
    assert run("patterns", model, *data[:2])[0] == 0
    for composite in ("pattern_net", "pattern_attribution"):
        code, _, err = run("explain", model, data[0], "-c", composite, "--patterns", "patterns.npz")
        assert (code, err) == (0, "")
        with np.load("explanations/a_relevance.npz") as file:
            want = onnx_lrp.explain(model, np.load(data[0]), composite=composite, patterns="patterns.npz")
            np.testing.assert_allclose(file["relevance"], want.relevance, rtol=1e-5)
    code, out, _ = run("check", model, "-c", "pattern_attribution", "--patterns", "patterns.npz", "--json")
    assert code == 0
    assert json.loads(out)["nodes"][0]["rule"]["patterns"] == {"estimator": "positive", "bias": "neuron", "samples": 5, "layers": 2}
    assert run("compile", model, "-c", "pattern_attribution", "--patterns", "patterns.npz", "-o", "with.onnx")[0] == 0
    feeds = {"x": np.load(data[0]), "target_relevance": np.eye(3, 4, dtype=np.float32)}
    with np.errstate(over="ignore"):  # steps are HardSigmoids so steep that numpy warns
        relevance = onnx.reference.ReferenceEvaluator("with.onnx").run(["relevance"], feeds)[0]
    want = onnx_lrp.explain(model, feeds["x"], composite="pattern_attribution", patterns="patterns.npz", seed=feeds["target_relevance"])
    np.testing.assert_allclose(relevance, want.relevance, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("command", "message"),
    [
        ("patterns model.onnx missing.npy", "no such file: missing.npy"),
        ("patterns model.onnx wrong.npy", "input 'x' has shape (2, 5), the model wants"),
        ("patterns model.onnx a.npy -o photos", "cannot write photos: it is a folder"),
        ("patterns model.onnx a.npy -o a.npy", "a.npy would be written over"),
        ("patterns model.onnx a.npy -o nowhere/p.npz", "cannot write nowhere/p.npz: No such file or directory"),
        ("explain model.onnx a.npy -c pattern_net", "pattern_net needs --patterns"),
        ("explain model.onnx a.npy -c epsilon --patterns a.npy", "composite 'epsilon' has no --patterns; it takes --epsilon"),
        ("explain model.onnx a.npy -c pattern_net --patterns a.npy", "cannot read a.npy: it is no .npz file"),
        ("explain model.onnx a.npy -c pattern_net --patterns b.npz", "b.npz holds no patterns"),
    ],
)
def test_errors_are_one_line(run, model, data, tmp_path, command, message):
    np.save(tmp_path / "wrong.npy", np.zeros((2, 5)))
    before = sorted(tmp_path.rglob("*"))
    code, out, err = run(*command.split())
    assert (code, out) == (2, "")
    assert err.startswith("error: ")
    assert err.count("\n") == 1
    assert message in err
    assert sorted(tmp_path.rglob("*")) == before


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize(
    ("stream", "total", "shown"), [(Terminal, 3, True), (Terminal, None, True), (Terminal, 1, False), (io.StringIO, 3, False)]
)
def test_progress_is_shown_on_a_terminal_only(monkeypatch, stream, total, shown):
    monkeypatch.setattr(sys, "stderr", stream())
    monkeypatch.setenv("TERM", "xterm")
    with progress_bar(total) as advance:
        advance(1)
    assert bool(sys.stderr.getvalue()) == shown
