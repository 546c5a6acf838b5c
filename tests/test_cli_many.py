"""The command explain with many inputs: batches that change nothing, and one file for all."""

from __future__ import annotations

import weakref
from pathlib import Path

import numpy as np
import onnx
import pytest
from models import build, op, value_info
from PIL import Image

from onnx_lrp.explanation import Explanation
from onnx_lrp.interpreter import Interpreter

RNG = np.random.default_rng(0)
PICTURES = 9


def weights(*shape):
    return RNG.normal(size=shape).astype(np.float32)


@pytest.fixture
def model(tmp_path):
    """It takes pictures of any size."""
    nodes = [op("Conv", "x w", "c", pads=[1] * 4), op("Relu", "c", "r"), op("GlobalAveragePool", "r", "g"), op("Flatten", "g", "f")]
    nodes += [op("Gemm", "f v", "z"), op("Softmax", "z", "y")]
    constants = {"w": weights(4, 3, 3, 3), "v": weights(4, 6)}
    onnx.save(build(nodes, {"x": ["N", 3, "H", "W"]}, [value_info("y", ["N", 6])], constants), tmp_path / "model.onnx")
    return tmp_path / "model.onnx"


@pytest.fixture
def folder(tmp_path):
    """Pictures of two sizes in turn of five and four, with a damaged one and one of NaN among them."""
    made = tmp_path / "pictures"
    made.mkdir()
    for number in range(PICTURES):
        side = 16 if number < 5 else 24
        Image.fromarray(RNG.integers(0, 256, (side, side, 3)).astype(np.uint8)).save(made / f"{number}.png")
    (made / "2a.png").write_bytes(b"no picture")
    np.save(made / "3a.npy", np.full((1, 3, 16, 16), np.nan, np.float32))
    return made


@pytest.fixture
def sizes(monkeypatch):
    """How many samples each run of a session has."""
    found = []
    run = Interpreter.run

    def count(self, outputs, feeds):
        found.append(len(feeds["x"]))
        return run(self, outputs, feeds)

    monkeypatch.setattr(Interpreter, "run", count)
    return found


def arrays(folder):
    found = {}
    for path in sorted(Path(folder).glob("*.npz")):
        with np.load(path) as file:
            found[path.name] = dict(file)
    return found


@pytest.mark.parametrize(
    "options", [[], ["--top", "2"], ["--layers", "--record", "c"], ["--account"], ["-c", "smoothgrad", "--samples", "2"]], ids=" ".join
)
def test_batches_change_nothing(run, model, folder, sizes, options):
    """Neither messages nor errors nor files."""
    shared = ["explain", model, folder, "--preprocess", "unit", *options]
    code, out, err = run(*shared, "-o", "alone", "--batch-size", "1")
    if not options:
        assert max(sizes) == 1
    sizes.clear()
    again, output, errors = run(*shared, "-o", "joined")
    assert max(sizes) >= 4
    assert (again, errors) == (code, err) == (2, err)
    assert err.count("error: ") == 2
    assert "2a.png" in err
    assert "3a.npy" in err
    assert output.replace("joined", "alone") == out
    alone, batch = arrays("alone"), arrays("joined")
    assert len(alone) == PICTURES
    assert {file.name for file in Path("alone").iterdir()} == {file.name for file in Path("joined").iterdir()}
    for name, one in alone.items():
        assert list(one) == list(batch[name])
        for key, value in one.items():
            if value.dtype.kind == "f":
                np.testing.assert_allclose(batch[name][key], value, rtol=1e-4, atol=1e-5 * np.abs(value).max())
            else:
                np.testing.assert_array_equal(batch[name][key], value)


def test_the_size_of_batches(run, model, folder, sizes):
    run("explain", model, folder, "--preprocess", "unit", "--format", "npz", "--batch-size", "2")
    assert sizes == [2, 1, 1, 1, 2, 2]  # what is damaged or of another size ends a batch; one with NaN in it is run one by one
    for wrong in ("0", "many", "-1"):
        code, _, err = run("explain", model, folder, "--batch-size", wrong)
        assert code == 2
        assert err.strip() == f"error: --batch-size is auto or a whole number above 0, not {wrong!r}"


@pytest.mark.parametrize("suffix", ["npz", "h5"])
def test_all_in_one_file(run, model, folder, suffix):
    """The arrays of all that could be explained, with their names; nothing else is written, and inputs of another shape are errors."""
    code, out, err = run("explain", model, folder, "--preprocess", "unit", "--together", f"all.{suffix}")
    assert code == 2
    assert err.count("the array 'relevance' is (3, 24, 24) for each sample, in ") == 4
    assert out.splitlines()[-1] == f"5 of 11 inputs explained; all arrays in all.{suffix}"
    assert not Path("explanations").exists()
    run("explain", model, folder, "--preprocess", "unit", "--format", "npz", "-o", "alone")
    if suffix == "npz":
        with np.load("all.npz") as file:
            found = dict(file)
            names = found["source"].tolist()
    else:
        with pytest.importorskip("h5py").File("all.h5") as file:
            found = {name: file[name][()] for name in ("attribution", "prediction", "label", "relevance", "input")}
            names = [text.decode() for text in file["source"][()]]
    assert names == [str(folder / f"{number}.png") for number in range(5)]
    for row, name in enumerate(names):
        one = arrays("alone")[f"{Path(name).stem}_relevance.npz"]
        for key in ("attribution", "prediction", "relevance", "input"):
            np.testing.assert_allclose(found[key][row], one[key][0], rtol=1e-4, atol=1e-6)
        assert found["label"][row] == one["label"][0]


def test_together_with_pictures(run, model, folder):
    code, out, _ = run("explain", model, folder / "0.png", "--preprocess", "unit", "--together", "all.npz", "--format", "png")
    assert code == 0
    assert out.splitlines()[-1] == "    -> all.npz"
    assert {file.name for file in Path("explanations").iterdir()} == {"0_relevance.png", "0_overlay.png"}


def test_together_goes_wrong(run, model, folder):
    for name, message in (
        ("all.txt", "cannot write an explanation to a file with suffix '.txt'"),
        ("nowhere/all.npz", "there is no folder nowhere"),
        (folder / "3a.npy", "suffix '.npy'"),
    ):
        code, out, err = run("explain", model, folder / "0.png", folder / "3a.npy", "--together", name)
        assert (code, out) == (2, "")
        assert message in err
        assert err.count("\n") == 1
    np.savez("in.npz", x=weights(2, 3, 8, 8))
    code, out, err = run("explain", model, "in.npz", "--together", "in.npz")
    assert "in.npz would be written over, and it is an input" in err
    code, _, _ = run("explain", model, folder / "2a.png", folder / "3a.npy", "--together", "none.npz")
    assert code == 2
    assert not Path("none.npz").exists()


def test_a_long_array_file_is_not_held(run, model, tmp_path, monkeypatch):
    """Its samples are mapped, its results written as they come; the file is that of one run."""
    alive, most = weakref.WeakSet(), 0
    init = Explanation.__init__

    def count(self, *arguments, **options):
        nonlocal most
        init(self, *arguments, **options)
        alive.add(self)
        most = max(most, len(alive))

    monkeypatch.setattr(Explanation, "__init__", count)
    np.save("long.npy", weights(30, 3, 8, 8))
    for suffix in ("npz", "h5"):
        code, out, _ = run("explain", model, "long.npy", "--format", suffix, "--batch-size", "4", "-o", "parts")
        assert code == 0
        assert out.splitlines()[-1] == f"    -> {Path('parts') / f'long_relevance.{suffix}'}"
    assert most <= 3
    run("explain", model, "long.npy", "--format", "npz", "--batch-size", "30", "-o", "whole")
    parts, whole = arrays("parts")["long_relevance.npz"], arrays("whole")["long_relevance.npz"]
    assert list(parts) == list(whole)
    np.testing.assert_allclose(parts["relevance"], whole["relevance"], rtol=1e-4, atol=1e-6)
    np.testing.assert_array_equal(parts["input"], whole["input"])


def test_an_error_in_the_middle_leaves_no_file(run, model):
    values = weights(20, 3, 8, 8)
    values[18] = np.inf
    np.save("long.npy", values)
    code, out, err = run("explain", model, "long.npy", "--format", "npz,h5", "--batch-size", "4")
    assert code == 2
    assert err.startswith("error: long.npy: input 'x' has ")
    assert out.count("long.npy [") == 16
    assert list(Path("explanations").iterdir()) == []
