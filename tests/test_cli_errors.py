"""The command line: whatever goes wrong is one line and exit code 2, and leaves nothing behind."""

from __future__ import annotations

import itertools
import os
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import onnx
import pytest
from models import build, op
from PIL import Image

import onnx_lrp
from onnx_lrp.cli import main

RNG = np.random.default_rng(0)


def weights(*shape):
    return RNG.normal(size=shape).astype(np.float32)


@pytest.fixture
def folder(monkeypatch, tmp_path):
    """A folder with a model, good inputs and bad ones."""
    monkeypatch.chdir(tmp_path)
    nodes = [op("Conv", "x w", "c"), op("Relu", "c", "r"), op("GlobalAveragePool", "r", "g"), op("Flatten", "g", "y")]
    onnx.save(build(nodes, {"x": ["N", 3, 8, 8]}, constants={"w": weights(4, 3, 3, 3)}), "model.onnx")
    onnx.save(build([op("Gemm", "x w")], {"x": ["N", 9]}, constants={"w": weights(9, 2)}), "table.onnx")
    nodes = [op("Gemm", "a w", "p"), op("Gemm", "b w", "q"), op("Add", "p q", "y")]
    onnx.save(build(nodes, {"a": ["N", 9], "b": ["N", 9]}, constants={"w": weights(9, 2)}), "two.onnx")
    onnx.save(build([op("Conv", "x w")], {"x": ["N", 3, 8, 8]}, constants={"w": weights(4, 3, 2, 1)}), "dense.onnx")
    Image.fromarray(np.zeros((7, 8), np.uint8)).save("black.png")
    Image.fromarray(np.zeros((4, 3), np.uint8)).save("small.png")
    nodes = [op("Conv", "x w", "c"), op("Det", "c", "d"), op("Exp", "d", "y")]
    onnx.save(build(nodes, {"x": ["N", 3, 8, 8]}, constants={"w": weights(4, 3, 3, 3)}), "odd.onnx")
    Path("empty.onnx").write_bytes(b"")
    Path("random.onnx").write_bytes(RNG.bytes(3000))
    Path("cut.onnx").write_bytes(Path("model.onnx").read_bytes()[:-40])
    Image.fromarray(RNG.integers(0, 256, (20, 30, 3)).astype(np.uint8)).save("good.png")
    Path("cut.png").write_bytes(Path("good.png").read_bytes()[:500])
    Path("text.png").write_text("no picture")
    Path("labels.txt").write_text("cat\ndog\nbird\ncat\n")
    Path("few.txt").write_text("cat\n")
    Path("wrong.json").write_text('{"mean": "grey"}')
    Path("nothing").mkdir()
    x = weights(2, 3, 8, 8)
    np.save("good.npy", x)
    np.savez("named.npz", z=x, w=x)
    np.savez("half.npz", a=weights(2, 9))
    np.savez("uneven.npz", a=weights(2, 9), b=weights(3, 9))
    np.save("shape.npy", weights(2, 3, 9, 8))
    np.save("none.npy", weights(0, 3, 8, 8))
    np.save("number.npy", np.float32(1))
    np.save("complex.npy", x.astype(np.complex64))
    np.save("words.npy", np.array(["a", "b"]))
    np.save("objects.npy", np.array([{}], dtype=object))
    x[1, 2, 3, 4] = np.nan
    np.save("nan.npy", x)
    Path("cut.npy").write_bytes(Path("good.npy").read_bytes()[:700])
    Path("junk.npy").write_bytes(RNG.bytes(500))
    Path("cut.npz").write_bytes(Path("named.npz").read_bytes()[:700])
    return tmp_path


def content(folder):
    return {path: path.read_bytes() if path.is_file() else None for path in folder.rglob("*")}


CASES = [
    ("explain missing.onnx good.png", "no such file: missing.onnx"),
    ("explain empty.onnx good.png", "empty.onnx is empty"),
    ("explain random.onnx good.png", "random.onnx is not an ONNX model"),
    ("explain cut.onnx good.png", "cut.onnx is not an ONNX model"),
    ("explain good.png good.png", "good.png is not an ONNX model"),
    ("explain nothing good.png", "nothing is a folder"),
    ("explain odd.onnx good.npy", "no rule for node 'd': Det"),
    ("check missing.onnx", "no such file: missing.onnx"),
    ("check random.onnx --json", "random.onnx is not an ONNX model"),
    ("check model.onnx --output q", "output 'q' is no tensor of the model"),
    ("check model.onnx -c epsilon_gamma_box", "needs --low and --high"),
    ("compile cut.onnx -o out.onnx", "cut.onnx is not an ONNX model"),
    ("compile odd.onnx -o out.onnx", "no rule for node 'd'"),
    ("compile model.onnx -o nothing", "it is a folder"),
    ("compile model.onnx -o nowhere/out.onnx", "cannot write nowhere"),
    ("compile model.onnx -o model.onnx", "is the model itself"),
    ("explain model.onnx missing.png", "no such file: missing.png"),
    ("explain model.onnx missing.npy", "no such file: missing.npy"),
    ("explain model.onnx missing*.png", "no such file: missing*.png"),
    ("explain model.onnx nothing", "the folder nothing has no pictures"),
    ("explain model.onnx cut.png", "cannot read the picture cut.png"),
    ("explain model.onnx text.png", "text.png is not a picture"),
    ("explain model.onnx model.onnx", "model.onnx is not a picture"),
    ("explain table.onnx good.png", "does not take pictures"),
    ("explain two.onnx good.png", "the model has 2 inputs (a, b)"),
    ("explain two.onnx good.npy", "the model has 2 inputs (a, b)"),
    ("explain two.onnx half.npz", "half.npz has no array named 'b'"),
    ("explain two.onnx uneven.npz", "different numbers of samples"),
    ("explain model.onnx named.npz", "named.npz has no array named 'x', the model's input; it has: z, w"),
    ("explain model.onnx shape.npy", "shape.npy: input 'x' has shape (2, 3, 9, 8), the model wants (N, 3, 8, 8)"),
    ("explain model.onnx nan.npy", "nan.npy: input 'x' has 1 values that are NaN"),
    ("explain model.onnx none.npy", "no samples"),
    ("explain model.onnx number.npy", "number.npy holds a single number"),
    ("explain model.onnx complex.npy", "complex.npy holds values of type complex64"),
    ("explain model.onnx words.npy", "words.npy holds values of type <U1"),
    ("explain model.onnx objects.npy", "cannot read objects.npy"),
    ("explain model.onnx cut.npy", "cannot read cut.npy"),
    ("explain model.onnx junk.npy", "cannot read junk.npy"),
    ("explain model.onnx cut.npz", "cannot read cut.npz"),
    ("explain model.onnx good.png -c epsilon_plus_falt", "unknown composite 'epsilon_plus_falt'; did you mean 'epsilon_plus_flat'"),
    ("explain model.onnx good.png --gamma 1", "composite 'epsilon_plus_flat' has no --gamma; it takes --epsilon"),
    ("explain model.onnx good.png -c gradient --low 1", "composite 'gradient' has no --low; it takes none"),
    ("explain model.onnx good.npy -c epsilon_gamma_box", "needs --low and --high"),
    ("explain model.onnx good.npy -c epsilon_gamma_box --low 1 --high 0", "low <= high"),
    ("explain model.onnx good.png -t 4", "target 4 is out of range: the output has 4 elements"),
    ("explain model.onnx good.png -t -1", "target -1 is out of range"),
    ("explain model.onnx good.png -t 1,9", "target 9 is out of range"),
    ("explain model.onnx good.png -t cat", "names of classes need --labels"),
    ("explain model.onnx good.png -t brid --labels labels.txt", "no class is named 'brid'; did you mean 'bird'"),
    ("explain model.onnx good.png -t cat --labels labels.txt", "'cat' names the classes 0, 3"),
    ("explain model.onnx good.png --labels few.txt", "few.txt has 1 label, the model's output 4 elements"),
    ("explain model.onnx good.png --labels missing.txt", "no such file: missing.txt"),
    ("explain model.onnx good.png --labels nothing", "cannot read nothing"),
    ("explain model.onnx good.png --labels empty.onnx", "no list of labels"),
    ("explain model.onnx good.png --top 5", "--top 5: the model's output has 4 elements"),
    ("explain model.onnx good.png --top 1 -t 1", "--top and --target exclude each other"),
    ("explain model.onnx good.png --two-pass", "two passes need seed 'contrastive' or 'softmax_gradient', not 'output'"),
    ("explain dense.onnx good.npy --region good.png --top 2", "--region explains one class"),
    ("explain dense.onnx good.npy --region good.png -t 1,2", "--region explains one class"),
    ("explain dense.onnx good.npy --region good.png -t 1:2:3", "--region explains one class"),
    ("explain dense.onnx good.npy --region missing.png", "no such file: missing.png"),
    ("explain dense.onnx good.npy --region missing.npy", "no such file: missing.npy"),
    ("explain dense.onnx good.npy --region cut.npy", "cannot read cut.npy"),
    ("explain dense.onnx good.npy --region words.npy", "words.npy holds values of type"),
    ("explain dense.onnx good.npy --region named.npz", "a region is a picture or a .npy file"),
    ("explain dense.onnx good.npy --region good.npy", "good.npy has shape (2, 3, 8, 8), which fits no region"),
    ("explain dense.onnx good.npy --region good.png", "good.png is 30 x 20, the model's output 8 x 7"),
    ("explain dense.onnx good.png --region small.png --preprocess unit", "small.png is 3 x 4, the model's output 8 x 7, the photo 30 x 20"),
    ("explain dense.onnx good.npy --region black.png -t 1", "the target is empty"),
    ("explain model.onnx good.npy --region black.png", "--region needs an output of classes in two dimensions"),
    ("explain model.onnx good.png --preprocess imagnet", "unknown preprocessing 'imagnet'; did you mean 'imagenet'"),
    ("explain model.onnx good.npy --preprocess imagnet", "unknown preprocessing 'imagnet'"),
    ("explain table.onnx good.npy -c epsilon_gamma_box --preprocess unit", "does not take pictures"),
    ("explain model.onnx good.png --preprocess missing.json", "no such file: missing.json"),
    ("explain model.onnx good.png --preprocess wrong.json", "wrong.json: preprocess: mean must be a number"),
    ("explain model.onnx good.png --cmap bwrr", "unknown colour map 'bwrr'; did you mean"),
    ("explain model.onnx good.png --format pdf", "unknown format 'pdf'"),
    ("explain model.onnx good.png --format ,", "--format needs"),
    ("explain model.onnx good.png --output q", "output 'q' is no tensor of the model"),
    ("explain model.onnx good.png --record q", "cannot record 'q'"),
    ("explain model.onnx good.png --record q*", "cannot record 'q*': it matches no tensor"),
    ("explain model.onnx good.png -o good.png", "cannot write to the folder good.png: it is a file"),
    ("explain model.onnx good.png -o good.png/deep/er", "is a file"),
    ("demo -o labels.txt", "cannot write to the folder labels.txt: it is a file"),
    ("composites nope", "unknown composite 'nope'"),
]  # fmt: skip


def run(capsys, monkeypatch, *arguments):
    monkeypatch.setattr(sys, "argv", ["onnx-lrp", *map(str, arguments)])
    with pytest.raises(SystemExit) as stop:
        main()
    out, err = capsys.readouterr()
    return stop.value.code, out, err


@pytest.mark.parametrize(("command", "message"), CASES, ids=[command for command, _ in CASES])
def test_one_line_and_exit_code_2(capsys, monkeypatch, folder, command, message):
    before = content(folder)
    code, out, err = run(capsys, monkeypatch, *command.split())
    assert code == 2
    assert out == ""
    lines = err.splitlines()
    assert len(lines) == 1
    assert lines[0].startswith("error: ")
    assert message in lines[0]
    assert content(folder) == before


@pytest.mark.parametrize(
    "command",
    [
        "explain model.onnx", "explain", "nonsense", "explain model.onnx good.png --colour red", "explain model.onnx good.png --threads x",
        "explain model.onnx good.png --threads 0", "explain model.onnx good.png --top 0", "explain model.onnx good.png --seed two",
        "explain model.onnx good.png --providers tpu", "explain model.onnx good.png --low low", "check", "demo more",
    ],
)  # fmt: skip
def test_wrong_usage(capsys, monkeypatch, folder, command):
    before = content(folder)
    code, _, err = run(capsys, monkeypatch, *command.split())
    assert code == 2
    assert err.startswith("error: ")
    assert len(err.splitlines()) == 1
    assert "Traceback" not in err
    assert "Usage: onnx-lrp" in err
    assert content(folder) == before


def test_bad_inputs_among_good_ones(capsys, monkeypatch, folder):
    inputs = ["cut.png", "good.png", "nan.npy", "good.npy", "missing.png"]
    code, out, err = run(capsys, monkeypatch, "explain", "model.onnx", *inputs, "--preprocess", "unit")
    assert code == 2
    lines = err.splitlines()
    assert [line.startswith("error: ") for line in lines] == [True] * 3
    assert [name in line for name, line in zip(("cut.png", "nan.npy", "missing.png"), lines, strict=True)] == [True] * 3
    assert out.endswith("2 of 5 inputs explained; 6 files in explanations\n")
    names = sorted(path.name for path in (folder / "explanations").iterdir())
    pictures = ["good_0_relevance.png", "good_1_relevance.png", "good_overlay.png", "good_relevance.png"]
    assert names == sorted([*pictures, "good_relevance.npz", "good_relevance_2.npz"])


def test_all_inputs_bad(capsys, monkeypatch, folder):
    code, _, err = run(capsys, monkeypatch, "explain", "model.onnx", "cut.png", "text.png")
    assert code == 2
    assert len(err.splitlines()) == 2
    assert not (folder / "explanations").exists()


def test_inputs_are_not_written_over(capsys, monkeypatch, folder):
    Path("x_relevance.png").write_bytes(Path("good.png").read_bytes())
    Path("x.png").write_bytes(Path("good.png").read_bytes())
    before = content(folder)
    code, _, err = run(capsys, monkeypatch, "explain", "model.onnx", "x.png", "x_relevance.png", "-o", ".", "--preprocess", "unit")
    assert code == 2
    assert "it is an input" in err
    assert content(folder) == before


def test_a_failure_while_writing_leaves_the_old_file(capsys, monkeypatch, folder):
    assert run(capsys, monkeypatch, "explain", "model.onnx", "good.png")[0] == 0
    before = content(folder)

    def fail(self, file, **options):
        file.write(b"half")
        time.sleep(0.2 * next(order))  # the first fails while the others are still being written
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Image.Image, "save", fail)
    for inputs in (["good.png"], ["good.png", "good.npy"]):  # also with many inputs the first failure ends it
        order = itertools.count()
        code, _, err = run(capsys, monkeypatch, "explain", "model.onnx", *inputs, "--preprocess", "unit")
        assert code == 2
        assert err == f"error: cannot write {Path('explanations') / 'good_relevance.png'}: No space left on device\n"
        assert content(folder) == before


@pytest.mark.skipif(os.name == "nt" or os.geteuid() == 0, reason="nothing is forbidden here")
def test_read_only_folder(capsys, monkeypatch, folder):
    (folder / "nothing").chmod(0o500)
    for command in ("explain model.onnx good.png -o nothing", "explain model.onnx good.png -o nothing/deep", "demo -o nothing"):
        code, _, err = run(capsys, monkeypatch, *command.split())
        assert code == 2
        assert "permission denied" in err
    code, _, err = run(capsys, monkeypatch, "compile", "model.onnx", "-o", "nothing/out.onnx")
    assert code == 2
    assert "cannot write" in err


def test_forbidden_folder(capsys, monkeypatch, folder):
    monkeypatch.setattr(os, "access", lambda _, mode: mode == os.R_OK)
    code, _, err = run(capsys, monkeypatch, "explain", "model.onnx", "good.png")
    assert (code, err) == (2, "error: cannot write to the folder explanations: permission denied\n")


def test_no_memory(capsys, monkeypatch, folder):
    def fail(*_, **__):
        raise MemoryError

    monkeypatch.setattr("onnx_lrp.explainer.Explainer.explain", fail)
    code, _, err = run(capsys, monkeypatch, "explain", "model.onnx", "good.npy")
    assert (code, err) == (2, "error: not enough memory\n")


@pytest.mark.skipif(sys.platform != "linux", reason="file names are text")
def test_file_names_that_are_no_text(folder):
    name = b"odd \xff.png"
    os.rename(b"good.png", name)  # noqa: PTH104
    script = "from onnx_lrp.cli import process; process()"
    command = [sys.executable, "-c", script, b"explain", b"model.onnx", name]
    environment = os.environ | {"PYTHONPATH": str(Path(onnx_lrp.__file__).parents[1])}
    done = subprocess.run(command, capture_output=True, cwd=folder, check=True, env=environment)
    assert b"odd" in done.stdout
    assert len(list((folder / "explanations").iterdir())) == 3
