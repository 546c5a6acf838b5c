"""The command line: what it prints and writes."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from models import build, op
from PIL import Image

import onnx_lrp

RNG = np.random.default_rng(0)


def weights(*shape):
    return RNG.normal(size=shape).astype(np.float32)


def photo_model(size=16, channels=3, layout="NCHW", final="Softmax"):
    nodes = [op("Conv", "t w", "c"), op("Relu", "c", "r"), op("GlobalAveragePool", "r", "g"), op("Flatten", "g", "f")]
    nodes = [*nodes, op("Gemm", "f v", "z"), op(final, "z", "y")]
    if layout == "NHWC":
        nodes = [op("Transpose", "x", "t", perm=[0, 3, 1, 2]), *nodes]
    else:
        nodes[0].input[0] = "x"
    shape = ["N", channels, size, size] if layout == "NCHW" else ["N", size, size, channels]
    return build(nodes, {"x": shape}, constants={"w": weights(4, channels, 3, 3), "v": weights(4, 6)})


@pytest.fixture
def model(tmp_path):
    path = tmp_path / "model.onnx"
    onnx.save(photo_model(), path)
    return path


@pytest.fixture
def photo(tmp_path):
    return save_photo(tmp_path / "photo.png")


def save_photo(path):
    Image.fromarray(RNG.integers(0, 256, (20, 30, 3)).astype(np.uint8)).save(path)
    return path


def save(path, *arrays, **named):
    if arrays:
        np.save(path, *arrays)
    else:
        np.savez(path, **named)
    return path


def size(path):
    with Image.open(path) as picture:
        return picture.size


def files(folder="explanations"):
    return sorted(file.name for file in Path(folder).iterdir())


# explain --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("file", "label", "best"), [("cat.jpg", "Egyptian cat", 285), ("dog.jpg", "golden retriever", 207), ("pelican.jpeg", "pelican", 144)]
)
def test_photos(run, shared_data, file, label, best):
    folder = shared_data / "squeezenet"
    model = folder / "squeezenet_fp16.onnx"
    code, out, err = run("explain", model, folder / file, "--preprocess", "caffe", "--labels", folder / "labels.txt")
    assert (code, err) == (0, "")
    lines = out.splitlines()
    assert lines[0] == str(folder / file)
    assert re.fullmatch(rf"  \* {best}  {label} +\d\d\.\d\d %", lines[1])
    assert sum(line.endswith(" %") for line in lines) == 5
    stem = Path(file).stem
    written = [f"{stem}_relevance.png", f"{stem}_overlay.png", f"{stem}_relevance.npz"]
    assert files() == sorted(written)
    assert lines[6:] == [f"    -> {Path('explanations') / name}" for name in written]
    for name in written[:2]:
        assert size(Path("explanations") / name) == (448, 448)
    with np.load(Path("explanations") / written[2]) as numbers:
        assert numbers["relevance"].shape == (1, 3, 224, 224)
        assert numbers["target"].tolist() == [best]


def test_several_photos_at_once(run, shared_data):
    folder = shared_data / "squeezenet"
    inputs = [folder / name for name in ("cat.jpg", "dog.jpg")]
    code, out, _ = run("explain", folder / "squeezenet_fp16.onnx", *inputs, "--preprocess", "caffe", "--format", "npz", "--threads", 1)
    assert code == 0
    assert re.findall(r"\* (\d+)", out) == ["285", "207"]
    assert out.endswith(f"2 of 2 inputs explained; 2 files in {Path('explanations')}\n")
    with np.load("explanations/cat_relevance.npz") as file:
        assert {"input", "output", "relevance", "target"} < set(file)
        assert file["relevance"].shape == file["input"].shape == (1, 3, 224, 224)
        assert file["output"].shape == (1, 1000)
        assert file["target"].tolist() == [285]
        inside = np.abs(file["relevance"][0].sum(0))[20:170, 20:180].sum()  # the cat's face
        assert inside > 0.6 * np.abs(file["relevance"]).sum()


def test_box_follows_from_the_preprocessing(run, model, photo):
    code, _, err = run("explain", model, photo, "-c", "epsilon_gamma_box", "--preprocess", "imagenet", "--format", "npz")
    assert (code, err) == (0, "")
    mean, std = np.array([0.485, 0.456, 0.406]), np.array([0.229, 0.224, 0.225])
    with np.load("explanations/photo_relevance.npz") as file:
        explanation = onnx_lrp.explain(model, file["input"], composite="epsilon_gamma_box", low=-mean / std, high=(1 - mean) / std)
        np.testing.assert_allclose(file["relevance"], explanation.relevance, rtol=1e-4, atol=1e-7)


def test_box_of_other_layouts_and_options(run, photo):
    onnx.save(photo_model(layout="NHWC"), "nhwc.onnx")
    assert run("explain", "nhwc.onnx", photo, "-c", "epsilon_gamma_box")[0] == 0
    assert run("explain", "nhwc.onnx", photo, "-c", "epsilon_gamma_box", "--low", -3, "--high", 3, "--gamma", 0.5, "--epsilon", 0.1)[0] == 0


def test_usual_preprocessing_is_told(run, model, photo):
    code, _, err = run("explain", model, photo)
    assert code == 0
    assert err.startswith("note: pictures are prepared as for ImageNet models")
    onnx.save(photo_model(channels=1), "grey.onnx")
    _, _, err = run("explain", "grey.onnx", photo)
    assert err.startswith("note: pictures are scaled to 0 to 1")
    assert run("explain", model, photo, "--preprocess", "none")[2] == ""


def test_own_preprocessing(run, model, photo):
    Path("own.json").write_text(json.dumps({"resize": [16, 16], "scale": 0.5, "channels": "BGR"}))
    assert run("explain", model, photo, "--preprocess", "own.json", "--format", "npz")[0] == 0
    with Image.open(photo) as picture:
        pixels = np.asarray(picture.resize((16, 16), Image.Resampling.BILINEAR))
    with np.load("explanations/photo_relevance.npz") as file:
        np.testing.assert_array_equal(file["input"][0], pixels[..., ::-1].transpose(2, 0, 1) * np.float32(0.5))


def test_targets(run, model, photo):
    Path("labels.txt").write_text("n00000001 tench, Tinca tinca\nn00000002 cat\ndog\nbird\ncrane\ncrane, machine\n")
    common = ("explain", model, photo, "--preprocess", "unit", "--format", "npz", "--labels", "labels.txt")
    for text, expected in (("2", [2]), ("Tinca tinca", [0]), ("CAT", [1]), ("dog,3,tench", [[2, 3, 0]])):
        code, out, _ = run(*common, "-t", text)
        assert code == 0
        assert {int(found) for found in re.findall(r"\* (\d)", out)} == set(np.ravel(expected))
        with np.load("explanations/photo_relevance.npz") as file:
            assert file["target"].tolist() == expected
            assert file["relevance"].shape == (*np.shape(expected), 3, 16, 16)
    assert "  crane, machine" not in out
    assert re.search(r"0  tench +\d", out)


def test_top(run, model, photo):
    code, out, _ = run("explain", model, photo, "--top", 2, "--preprocess", "unit", "--seed", "one", "--format", "png,npz")
    assert code == 0
    best = re.findall(r"^  . (\d)", out, re.MULTILINE)[:2]
    assert re.findall(r"\* (\d)", out) == best
    names = [f"photo_{index}_{kind}.png" for index in best for kind in ("overlay", "relevance")]
    assert files() == sorted([*names, "photo_relevance.npz"])


def test_softmax_and_sigmoid_show_probabilities(run, tmp_path):
    x = save(tmp_path / "x.npy", RNG.uniform(size=(3, 3, 16, 16)).astype(np.float32))
    for final in ("Softmax", "LogSoftmax", "Sigmoid"):
        model = photo_model(final=final)
        onnx.save(model, "model.onnx")
        _, out, _ = run("explain", "model.onnx", x)
        shown = [float(found) / 100 for found in re.findall(r"\* \d +(.*) %", out)]
        session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
        output = session.run(None, {"x": np.load(x)})[0]
        np.testing.assert_allclose(shown, (np.exp(output) if final == "LogSoftmax" else output).max(1), atol=1e-4)


def test_record_and_output(run, model, photo):
    common = ("explain", model, photo, "--preprocess", "unit", "--format", "png,npz", "--no-overlay")
    assert run(*common, "--record", "r", "--record", "g", "--output", "z")[0] == 0
    assert files() == ["photo_g_relevance.png", "photo_r_relevance.png", "photo_relevance.npz", "photo_relevance.png"]
    with np.load("explanations/photo_relevance.npz") as file:
        assert file["relevance:r"].shape == (1, 4, 14, 14)
        assert file["relevance"].sum() == pytest.approx(file["relevance:r"].sum(), rel=1e-3)


def test_arrays_of_pictures(run, model, tmp_path):
    x = save(tmp_path / "x.npy", RNG.uniform(size=(20, 3, 16, 16)))
    code, out, err = run("explain", model, x, "--cmap", "coldnhot", "--format", "png,npz", "-o", "deep/er")
    assert (code, err) == (0, "")
    assert out.count("x.npy [") == 20
    assert files("deep/er") == [*(f"x_{index:02d}_relevance.png" for index in range(20)), "x_relevance.npz"]
    with np.load("deep/er/x_relevance.npz") as file:
        assert file["relevance"].shape == (20, 3, 16, 16)
        np.testing.assert_allclose(file["relevance"], onnx_lrp.explain(model, np.load(x)).relevance, rtol=1e-4, atol=1e-6)
    single = save(tmp_path / "single.npy", np.load(x)[0])
    assert run("explain", model, single, "--overlay", "-o", "one")[0] == 0
    assert files("one") == ["single_overlay.png", "single_relevance.npz", "single_relevance.png"]


def test_signals_and_tables(run, tmp_path, shared_data):
    for name in ("seq1d", "mlp"):
        with np.load(shared_data / "zennit" / f"{name}.npz") as file:
            save(tmp_path / f"{name}.npy", file["x"][:2])
        code, _, err = run("explain", shared_data / "zennit" / f"{name}.onnx", tmp_path / f"{name}.npy", "-t", 1)
        assert code == 0
        assert ("composite is epsilon" in err) == (name == "mlp")
        for index in (0, 1):
            assert size(f"explanations/{name}_{index}_relevance.png")[0] > 600


def test_several_inputs(run, tmp_path):
    nodes = [op("Gemm", "a v", "p"), op("Gemm", "b w", "q"), op("Add", "p q", "y")]
    onnx.save(build(nodes, {"a": ["N", 5], "b": ["N", 3]}, constants={"v": weights(5, 2), "w": weights(3, 2)}), "two.onnx")
    x = save(tmp_path / "x.npz", a=weights(2, 5), b=weights(2, 3), label=np.arange(2))
    assert run("explain", "two.onnx", x, "--format", "png,npz")[0] == 0
    assert files() == [*(f"x_{index}_{name}_relevance.png" for index in (0, 1) for name in "ab"), "x_relevance.npz"]
    with np.load("explanations/x_relevance.npz") as file:
        arrays = ["input:a", "input:b", "output", "relevance:a", "relevance:b", "target"]
        assert sorted(file) == ["composite", "explained_output", *arrays]


def test_tokens(run, tmp_path):
    nodes = [op("Gather", "e x", "t"), op("ReduceMean", "t a", "m", keepdims=0), op("Gemm", "m w", "y")]
    constants = {"e": weights(50, 8), "w": weights(8, 3), "a": np.array([1])}
    onnx.save(build(nodes, {"x": ["N", 6]}, constants=constants, types={"x": np.int64}), "tokens.onnx")
    x = save(tmp_path / "x.npy", RNG.integers(0, 50, (1, 6)))
    assert run("explain", "tokens.onnx", x)[0] == 0
    assert files() == ["x_relevance.npz", "x_relevance.png"]


def test_outputs_of_several_axes(run, tmp_path):
    x = save(tmp_path / "x.npy", weights(1, 3, 8, 9))
    for shape in (["N", 3, 8, 9], ["N", 3, "h", "w"]):
        onnx.save(build([op("Conv", "x w")], {"x": shape}, constants={"w": weights(4, 3, 3, 3)}), "map.onnx")
        code, out, _ = run("explain", "map.onnx", x, "-t", "3:2:1", "--format", "npz")
        assert code == 0
        assert "* output at 3:2:1  " in out
        with np.load("explanations/x_relevance.npz") as file:
            assert np.argwhere(file["relevance"][0].any(0)).min(0).tolist() == [2, 1]
        assert run("explain", "map.onnx", x)[0] == 0
        for wrong in (("-t", 3), ("-t", "9:9:9"), ("--top", 2)):
            assert run("explain", "map.onnx", x, *wrong)[0] == 2


def test_shapes_that_are_not_drawn(run, tmp_path):
    nodes = [op("Conv", "x w", "c"), op("GlobalAveragePool", "c", "g"), op("Flatten", "g", "y")]
    onnx.save(build(nodes, {"x": ["N", 1, 5, 5, 5]}, constants={"w": weights(2, 1, 3, 3, 3)}), "volume.onnx")
    code, out, _ = run("explain", "volume.onnx", save(tmp_path / "x.npy", weights(1, 1, 5, 5, 5)))
    assert code == 0
    assert "--format npz" in out
    assert [path.name for path in Path("explanations").iterdir()] == ["x_relevance.npz"]


def test_folders_patterns_and_equal_names(run, model, tmp_path):
    for name in ("a/one.png", "a/one.jpg", "a/two.png", "b/one.png"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        save_photo(tmp_path / name)
    Path("a/notes.txt").write_text("no picture")
    code, out, _ = run("explain", model, "a", "b/o*.png", "b/one.png", "--preprocess", "unit", "--no-overlay")
    assert code == 0
    assert out.endswith("4 of 4 inputs explained; 8 files in explanations\n")
    names = ("one_relevance", "one_relevance_2", "one_relevance_3", "two_relevance")
    assert files() == sorted(f"{name}.{suffix}" for name in names for suffix in ("npz", "png"))


# other commands -------------------------------------------------------------------------------------------------------


def test_check(run, model):
    code, out, err = run("check", model)
    assert (code, err) == (0, "")
    assert re.search(r"Conv +affine +Flat\(\)", out)
    assert out.endswith("5 of 5 nodes covered (100.0 %)\n")
    code, out, _ = run("check", model, "--json", "-c", "epsilon_gamma_box", "--preprocess", "unit")
    assert code == 0
    assert json.loads(out)["nodes"][0]["rule"]["rule"] == "ZBox"


def test_check_of_unsupported_nodes(run, tmp_path):
    nodes = [op("Conv", "x w", "c"), op("Frob", "c", "d", domain="my.ops"), op("GlobalAveragePool", "d", "y")]
    onnx.save(build(nodes, {"x": ["N", 3, 8, 8]}, constants={"w": weights(4, 3, 3, 3)}, domains=["my.ops"]), "odd.onnx")
    code, out, _ = run("check", "odd.onnx")
    assert code == 1
    assert re.search(r"Frob +unknown +not supported", out)
    assert "not supported: node 'd': my.ops.Frob\n" in out
    assert out.endswith("2 of 3 nodes covered (66.7 %)\n")
    code, out, _ = run("check", "odd.onnx", "--json")
    assert code == 1
    assert json.loads(out)["coverage"] == pytest.approx(2 / 3)
    assert run("explain", "odd.onnx", save(tmp_path / "x.npy", weights(1, 3, 8, 8)))[0] == 2


def test_compile(run, model):
    code, out, err = run("compile", model, "-o", "explainer.onnx", "--record", "r")
    assert (code, err) == (0, "")
    for line in (
        "x  float32 (N, 3, 16, 16)",
        "target_relevance  float32 (N, 6)",
        "z  float32 (N, 6)  the explained output, before Softmax",
    ):
        assert line in out
    session = onnxruntime.InferenceSession("explainer.onnx", providers=["CPUExecutionProvider"])
    x, seed = weights(2, 3, 16, 16), np.eye(2, 6, dtype=np.float32)
    relevance = session.run(["relevance:x"], {"x": x, "target_relevance": seed})[0]
    np.testing.assert_allclose(relevance, onnx_lrp.explain(model, x, seed=seed).relevance, rtol=1e-4, atol=1e-6)


def test_demo(run):
    code, out, err = run("demo")
    assert (code, err) == (0, "")
    assert "12 of 12 digits are recognised" in out
    assert str(Path("onnx_lrp_demo") / "digits.png") in out
    assert size("onnx_lrp_demo/digits.png")[1] > 1000
    assert run("demo", "-o", "there")[0] == 0
    assert files("there") == ["digits.png"]


def test_version_and_help(run):
    assert run("--version") == (0, f"onnx-lrp {onnx_lrp.__version__}\n", "")
    for command in ("explain", "check", "compile", "composites", "demo"):
        code, out, _ = run(command, "--help")
        assert code == 0
        assert "Usage: onnx-lrp" in out
    assert "demo" in run("--help")[1]


# processes ------------------------------------------------------------------------------------------------------------

SCRIPT = "from onnx_lrp.cli import process; process()"
ENVIRONMENT = os.environ | {"PYTHONPATH": str(Path(onnx_lrp.__file__).parents[1])}


def start(command, folder):
    return subprocess.Popen(command, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=ENVIRONMENT)


def test_nothing_heavy_is_imported_before_it_is_needed():
    program = "from onnx_lrp.cli import main; main()"
    script = f"import sys\ntry:\n    {program}\nfinally:\n    print({{'matplotlib', 'PIL', 'onnxruntime', 'torch'}} & set(sys.modules))"
    for arguments in (["--help"], ["composites"]):
        done = subprocess.run([sys.executable, "-c", script, *arguments], capture_output=True, text=True, check=True, env=ENVIRONMENT)
        assert done.stdout.endswith("set()\n")
        assert done.stderr == ""


@pytest.mark.parametrize(
    ("arguments", "code", "out", "err"),
    [
        (["--version"], 0, f"onnx-lrp {onnx_lrp.__version__}\n", ""),
        (["check", "no.onnx"], 2, "", "error: no such file: no.onnx\n"),
        (["cache"], 0, "none\n  0 explainers, 0 MiB of at most 8192 MiB\n", ""),
    ],
)
def test_a_process_ends_with_its_code_and_all_it_wrote(tmp_path, arguments, code, out, err):
    """Also into files and pipes, which Python writes to when it has something to write, or ends."""
    with start([sys.executable, "-c", f"import os; os.environ['ONNX_LRP_CACHE'] = 'none'; {SCRIPT}", *arguments], tmp_path) as process:
        found = process.communicate(timeout=60)
    assert (process.returncode, found[0][-len(out) :], found[1]) == (code, out, err)


@pytest.mark.skipif(os.name == "nt", reason="signals differ")
def test_interruption(model, photo, tmp_path):
    # In a shell's background the signal is ignored, and the command would inherit that.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    for index in range(200):
        (tmp_path / "many").mkdir(exist_ok=True)
        (tmp_path / "many" / f"{index}.png").write_bytes(photo.read_bytes())
    command = [sys.executable, "-u", "-c", SCRIPT, "explain", str(model), "many", "--preprocess", "unit"]
    try:
        with start(command, tmp_path) as process:
            process.stdout.readline()
            process.send_signal(signal.SIGINT)
            _, err = process.communicate(timeout=60)
    finally:
        signal.signal(signal.SIGINT, before)
    assert process.returncode == 130
    assert "Traceback" not in err
    assert not list(tmp_path.rglob(".*"))


@pytest.mark.skipif(os.name == "nt", reason="pipes differ")
@pytest.mark.parametrize("arguments", [["composites"], ["cache"], ["check", "--help"], ["--version"]])
def test_closed_pipe(tmp_path, arguments):
    command = [sys.executable, "-c", SCRIPT, *arguments]
    with start(command, tmp_path) as process:
        process.stdout.close()
        assert process.stderr.read() == ""
    assert process.returncode == 1


@pytest.mark.skipif(os.name == "nt", reason="shells differ")
@pytest.mark.parametrize("arguments", ["composites", "check --help", "--version", "composites nope"])
def test_without_standard_output(tmp_path, arguments):
    command = ["sh", "-c", f'"{sys.executable}" -c "{SCRIPT}" {arguments} >&-']
    with start(command, tmp_path) as process:
        _, err = process.communicate(timeout=60)
    assert (process.returncode, "Traceback" in err) == (2 if "nope" in arguments else 0, False)
