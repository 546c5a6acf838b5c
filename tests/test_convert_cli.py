"""onnx-lrp convert, what explain makes of what it wrote into the model, and the examples."""

from __future__ import annotations

import json
import runpy
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest
from caffe_nets import SMALL, SMALL_FEATURES, random_weights, save_mean
from frameworks import need
from models import build, op
from PIL import Image

import onnx_lrp
from onnx_lrp.converters import CONVERTERS, find
from onnx_lrp.errors import InputError, ModelError
from onnx_lrp.metadata import PREPROCESS, for_model, recorded, stated

ROOT = Path(__file__).resolve().parents[1]
RNG = np.random.default_rng(0)
TEXT = (
    "Convolution 3 3 1 2 1 1\n"
    + " ".join(["0.5"] * 18)
    + "\n0 0\nRect\nFlatten\nLinear 8 3\n"
    + " ".join(map(str, range(24)))
    + "\n0 1 2\n"
)


@pytest.fixture
def folder(monkeypatch, tmp_path):
    """A folder with a small model of each kind and a picture."""
    monkeypatch.chdir(tmp_path)
    Path("toolbox.txt").write_text(TEXT)
    Path("net.prototxt").write_text(SMALL)
    Path("net.caffemodel").write_bytes(random_weights(SMALL, SMALL_FEATURES).SerializeToString())
    save_mean(Path("mean.binaryproto"), np.broadcast_to(np.array([100.0, 110, 120])[:, None, None], (3, 4, 4)))
    Image.fromarray(RNG.integers(0, 256, (14, 13, 3)).astype(np.uint8)).save("photo.png")
    Image.fromarray(RNG.integers(0, 256, (4, 4)).astype(np.uint8)).save("grey.png")
    return tmp_path


@pytest.fixture
def run(run):
    """Runs the command line: arguments in one text -> exit code, standard output, standard error."""
    return lambda text: run(*text.split())


def used_input(folder: Path, stem: str) -> np.ndarray:
    with np.load(folder / "explanations" / f"{stem}_relevance.npz") as file:
        return file["input"]


def test_text_to_onnx_and_back(folder, run) -> None:
    code, out, err = run("convert toolbox.txt")
    assert (code, err) == (0, "")
    assert "toolbox.txt: lrp_toolbox (text)" in out
    assert "4 x 4 x 1, the smallest square picture that fits" in out
    assert "-> toolbox.onnx" in out
    onnx.checker.check_model(onnx.load("toolbox.onnx"), full_check=True)
    assert run("convert toolbox.onnx -o again.txt")[0] == 0
    assert [line.split() for line in Path("again.txt").read_text().splitlines()][::3] == [
        ["Convolution", "3", "3", "1", "2", "1", "1"], ["Rect"], [str(float(n)) for n in range(24)],
    ]  # fmt: skip
    assert run("convert toolbox.txt -o direct.txt")[0] == 0
    assert Path("direct.txt").read_text() == Path("again.txt").read_text()


def test_caffe_with_its_mean(folder, run) -> None:
    code, out, err = run("convert net.prototxt --weights net.caffemodel --mean mean.binaryproto -o net.onnx")
    assert (code, err) == (0, "")
    assert "9 tensors compared" in out
    code, out, err = run("explain net.onnx photo.png -c epsilon")
    assert (code, err) == (0, "")
    pixels = np.asarray(Image.open("photo.png")).astype(np.float32)
    assert np.array_equal(used_input(folder, "photo"), (pixels[..., ::-1] - [100, 110, 120]).transpose(2, 0, 1)[None])
    assert run("explain net.onnx photo.png -c epsilon --preprocess none")[0] == 0
    assert np.array_equal(used_input(folder, "photo"), pixels.transpose(2, 0, 1)[None])


def test_what_the_source_does_not_say_is_said(folder, run) -> None:
    assert run("convert net.prototxt --weights net.caffemodel")[0] == 0
    code, _, err = run("explain net.onnx photo.png -c epsilon")
    assert code == 0
    assert (
        err == "note: pictures are prepared as for Caffe's ImageNet models; if the model wants something else, say so with --preprocess\n"
    )
    assert used_input(folder, "photo").min() < -90
    assert run("convert toolbox.txt --preprocess tf")[0] == 0
    code, _, err = run("explain toolbox.onnx grey.png -c epsilon")
    assert (code, err) == (0, "")
    assert np.allclose(used_input(folder, "grey")[0, ..., 0], np.asarray(Image.open("grey.png")) / 127.5 - 1)


def test_the_box_follows_from_the_metadata(folder, run) -> None:
    assert run("convert net.prototxt --weights net.caffemodel --mean mean.binaryproto")[0] == 0
    assert run("explain net.onnx photo.png -c epsilon_gamma_box")[0] == 0
    with np.load("explanations/photo_relevance.npz") as file:
        got, x = file["relevance"], file["input"]
    low, high = (np.array([edge - mean for mean in (100, 110, 120)], np.float32)[:, None, None] for edge in (0, 255))
    expected = onnx_lrp.explain("net.onnx", x, composite="epsilon_gamma_box", low=low, high=high, providers="cpu").relevance
    assert np.allclose(got, expected, rtol=1e-4, atol=1e-6 * np.abs(expected).max())


def test_the_extensions_configuration(folder, run) -> None:
    assert run("convert net.prototxt --weights net.caffemodel --mean mean.binaryproto")[0] == 0
    values = {
        "relpropformulatype": 104, "epsstab": 0.5, "alphabeta_beta": 1, "auxiliaryvariable_maxlayerindexforflatdistinconv": 0,
        "lastlayerindex": -2, "firstlayerindex": 2,
    }  # fmt: skip
    Path("config.txt").write_text("".join(f"{key}\n{value}\n\n" for key, value in values.items()))
    code, _, err = run("explain net.onnx photo.png --caffe-config config.txt")
    assert (code, err) == (0, "")
    with np.load("explanations/photo_relevance.npz") as file:
        got = {name: file[name] for name in file}
    options = {"epsilon": 0.5, "beta": 1.0, "low_layers": 1, "output": "fc", "record": ["relu1"], "providers": "cpu"}
    expected = onnx_lrp.explain("net.onnx", got["input"], composite="caffe_104", **options)
    assert np.allclose(got["relevance"], expected.relevances["data"], rtol=1e-4, atol=1e-6)
    assert np.allclose(got["relevance:relu1"], expected.relevances["relu1"], rtol=1e-4, atol=1e-6)
    check_file_list(folder, run, options)
    assert run("convert toolbox.txt")[0] == 0
    code, _, err = run("explain toolbox.onnx grey.png --caffe-config config.txt")
    assert code == 2
    assert "was not made by onnx-lrp convert from a Caffe network" in err


def test_bounds_of_the_extensions_formulas_follow_from_the_mean(folder, run) -> None:
    assert run("convert net.prototxt --weights net.caffemodel --mean mean.binaryproto")[0] == 0
    values = {
        "relpropformulatype": 18, "epsstab": 0.5, "alphabeta_beta": 1, "auxiliaryvariable_maxlayerindexforflatdistinconv": 0,
        "lastlayerindex": -2, "firstlayerindex": 0,
    }  # fmt: skip
    Path("config.txt").write_text("".join(f"{key}\n{value}\n\n" for key, value in values.items()))
    assert run("explain net.onnx photo.png --caffe-config config.txt")[::2] == (0, "")
    with np.load("explanations/photo_relevance.npz") as file:
        got, x = file["relevance"], file["input"]
    low, high = (np.array([edge - mean for mean in (100, 110, 120)], np.float32)[:, None, None] for edge in (0, 255))
    options = {"low": low, "high": high, "lower_layers": 4, "output": "fc", "providers": "cpu"}
    expected = onnx_lrp.explain("net.onnx", x, composite="caffe_18", **options).relevance
    assert np.allclose(got, expected, rtol=1e-4, atol=1e-6 * np.abs(expected).max())


def check_file_list(folder, run, options) -> None:
    """Each file of a list is explained for its class, -2 for the five best together."""
    (folder / "lists").mkdir()
    for name in ("one", "best", "five"):
        (folder / "lists" / f"{name}.png").write_bytes((folder / "photo.png").read_bytes())
    Path("lists/files.txt").write_text("lists/one.png 1\nbest.png -1\nfive.png -2\n")
    code, out, err = run("explain net.onnx lists/files.txt --caffe-config config.txt --format npz,png")
    assert (code, err) == (0, "")
    assert "3 of 3 inputs explained" in out
    x = used_input(folder, "one")
    explainer = onnx_lrp.Explainer("net.onnx", "caffe_104", **options)
    best = np.argsort(-explainer.explain(x).output[0])
    for name, classes in (("one", [1]), ("best", best[:1]), ("five", best[:5])):
        with np.load(folder / "explanations" / f"{name}_relevance.npz") as file:
            got = file["relevance"]
        expected = sum(explainer.explain(x, int(index)).relevance for index in classes)
        assert np.allclose(got, expected, rtol=1e-3, atol=1e-5 * np.abs(expected).max())
    code, _, err = run("explain net.onnx lists/files.txt --caffe-config config.txt -t 1")
    assert (code, err) == (2, "error: a file list says which classes are explained: leave out --target, --top and --region\n")


ERRORS = [
    ("convert none.txt", "no such file: none.txt"),
    ("convert photo.png", "photo.png is not recognised as a model of PyTorch, lrp_toolbox, Caffe, Keras"),
    ("convert toolbox.txt --from kaffe", "unknown kind of source 'kaffe'; did you mean 'caffe'?"),
    ("convert toolbox.txt --from caffe", "toolbox.txt is not the description of a Caffe network"),
    ("convert toolbox.txt --weights net.caffemodel", "a source of lrp_toolbox takes no option 'weights'"),
    ("convert toolbox.txt --input-size 4,x", "a size is whole numbers with commas between"),
    ("convert toolbox.txt --input-size 5,5,1", "layer 4 (Linear) takes 8 features, but gets 18"),
    ("convert toolbox.txt --input-size 4,4", "the input's size is (height, width, channels) or (features,), not (4, 4)"),
    ("convert toolbox.txt -o toolbox.txt", "toolbox.txt is the source itself"),
    ("convert toolbox.txt -o .", "cannot write .: it is a folder"),
    ("convert toolbox.txt -o no/x.onnx", "cannot write no/x.onnx: No such file or directory"),
    ("convert toolbox.txt --preprocess unknown", "unknown preprocessing 'unknown'"),
    ("convert net.prototxt", "describes a network without its weights"),
    ("convert net.caffemodel", "give its deploy.prototxt as the source"),
    ("convert net.prototxt --weights none", "cannot read none"),
    ("convert net.prototxt --weights net.caffemodel --mean photo.png", "photo.png holds no mean picture"),
    ("convert photo.png -o x.txt", "photo.png is not an ONNX model"),
    ("explain toolbox.onnx grey.png --caffe-config none", "cannot read none"),
]


@pytest.mark.parametrize(("arguments", "message"), ERRORS)
def test_errors_are_one_line_and_leave_nothing(folder, run, arguments, message) -> None:
    before = {path: path.read_bytes() for path in folder.iterdir()}
    code, out, err = run(arguments)
    assert (code, out) == (2, "")
    assert err.startswith("error: ")
    assert message in err
    assert err.count("\n") == 1
    assert {path: path.read_bytes() for path in folder.iterdir()} == before


def test_sources_are_recognised_by_their_content(folder) -> None:
    for file, name in (("toolbox.txt", "lrp_toolbox"), ("net.prototxt", "caffe"), ("net.caffemodel", "caffe")):
        Path("copy").write_bytes(Path(file).read_bytes())
        assert find("copy") is CONVERTERS[name]
    model = build([op("Gemm", "x w")], {"x": ["N", 9]}, constants={"w": np.ones((9, 2))})
    for content in (b"Linear algebra\n", b"layer cake", b"\x80\x02N.", b"\0" * 100, model.SerializeToString()):
        Path("copy").write_bytes(content)
        with pytest.raises(ModelError, match="is not recognised"):
            find("copy")


def test_every_converter_says_what_it_is() -> None:
    for name, converter in CONVERTERS.items():
        assert converter.name == name
        assert set(converter.options())


def test_metadata_that_is_wrong() -> None:
    with pytest.raises(InputError, match="unknown field 'means'"):
        recorded({"means": 1})
    assert recorded({}) == {}
    assert stated({"other": "x"}) == {}
    for text, message in (
        ("{", "is not JSON"),
        ("[1]", "a JSON object"),
        ('{"scale": 0}', "scale must be a number"),
        ("[" * 10**5, "JSON"),
    ):
        with pytest.raises(InputError, match=message):
            stated({PREPROCESS: text})


@pytest.mark.parametrize(
    ("fields", "shape", "expected", "guess"),
    [
        ({}, (None, 3, 8, 8), ("RGB", 1 / 255), True),
        ({}, (None, 1, 8, 8), ("GRAY", 1 / 255), True),
        ({"channels": "BGR"}, (None, 3, 8, 8), ("BGR", 1.0), True),
        ({"layout": "NHWC"}, (None, 8, 8, 1), ("GRAY", 1 / 255), True),
        ({"channels": "BGR", "scale": 0.5}, (None, 3, 8, 8), ("BGR", 0.5), False),
        ({"mean": [1, 2, 3]}, (None, 3, 8, 8), ("RGB", 1.0), False),
    ],
)
def test_what_the_metadata_leaves_open_is_guessed(fields, shape, expected, guess) -> None:
    found, note = for_model({PREPROCESS: json.dumps(fields)}, shape)
    assert (found.channels, found.scale) == expected
    assert bool(note) == guess


@pytest.mark.parametrize(
    ("script", "picture", "modules"),
    [
        ("convert_lrp_toolbox", "lrp_toolbox.png", []),
        ("convert_caffe", "caffe.png", []),
        ("convert_pytorch", "pytorch.png", ["torch", "onnxscript"]),
        ("convert_keras", "keras.png", ["keras", "h5py", "torch", "onnxscript"]),
    ],
)
@pytest.mark.filterwarnings("ignore::DeprecationWarning:keras", "ignore:__array__ implementation:DeprecationWarning")
@pytest.mark.filterwarnings("ignore:.*LeafSpec:FutureWarning")
def test_examples(tmp_path, monkeypatch, capsys, script, picture, modules) -> None:
    need(*modules)
    path = str(ROOT / "examples" / f"{script}.py")
    monkeypatch.setattr(sys, "argv", [path, "-o", str(tmp_path / "out")])
    runpy.run_path(path, run_name="__main__")
    out, err = capsys.readouterr()
    assert "recognised as [0, 1, 2, 3, 4, 5]" in out
    assert err == ""
    with Image.open(tmp_path / "out" / picture) as sheet:
        pixels = np.asarray(sheet.convert("RGB")).astype(int)
    assert all((pixels[..., a] - pixels[..., 2 - a] > 100).sum() > 1000 for a in (0, 2))
