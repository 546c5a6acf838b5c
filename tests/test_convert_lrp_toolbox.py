"""Models of lrp_toolbox: the real files, text in all its writings, and their ONNX form."""

from __future__ import annotations

import importlib
import re
import zlib

import numpy as np
import onnx
import pytest
from models import run
from toolbox_models import by_hand, in_float32, same_layers, sample_layers

import onnx_lrp
from onnx_lrp.converters import convert
from onnx_lrp.converters.lrp_toolbox import read
from onnx_lrp.converters.lrp_toolbox.layers import Convolution, Linear, Rect
from onnx_lrp.converters.lrp_toolbox.text import read as read_text
from onnx_lrp.converters.lrp_toolbox.text import write as write_text

LENETS = ("LeNet-5.txt", "LeNet-5.nn", "LeNet-5.mat")
RNG = np.random.default_rng(0)


def weights(model: onnx.ModelProto) -> dict[str, bytes]:
    return {tensor.name: onnx.numpy_helper.to_array(tensor).tobytes() for tensor in model.graph.initializer}


@pytest.fixture(scope="module")
def lenets(shared_data):
    return {name: convert(shared_data / "lrp_toolbox" / name) for name in LENETS}


@pytest.fixture(scope="module")
def digits(shared_data):
    """The digits as lrp_toolbox's LeNet-5 wants them, and their classes."""
    with np.load(shared_data / "mnist" / "test_first500.npz") as file:
        pixels = np.pad(file["X"].astype(np.float32) / 127.5 - 1, [(0, 0), (2, 2), (2, 2)], constant_values=-1)
        return pixels[..., None], file["y"]


# real files -------------------------------------------------------------------------------------------------------------


def test_the_three_formats_hold_the_same_bits(shared_data, lenets) -> None:
    layers = [read(shared_data / "lrp_toolbox" / name)[1] for name in LENETS]
    assert same_layers(layers[0], layers[1])
    assert same_layers(layers[0], layers[2])
    first, second, third = (weights(lenets[name].model) for name in LENETS)
    assert first == second == third
    assert len(first) == 11  # 4 convolutions, each with a bias, and the factors of 3 pools


@pytest.mark.parametrize("name", LENETS)
def test_lenet_is_as_accurate_and_gives_what_lrp_toolbox_gave(shared_data, lenets, digits, name) -> None:
    model, (x, y) = lenets[name].model, digits
    onnx.checker.check_model(model, full_check=True)
    assert model.opset_import[0].version >= 18
    assert [dim.dim_param or dim.dim_value for dim in model.graph.input[0].type.tensor_type.shape.dim] == ["N", 32, 32, 1]
    assert (run(model, {"input": x})[0].argmax(1) == y).mean() >= 0.99
    with np.load(shared_data / "lrp_toolbox" / "golden_lenet5.npz") as golden:
        (got,) = run(model, {"input": golden["X"].astype(np.float32)})
        assert np.abs(got - golden["Y"]).max() < 1e-5
    assert lenets[name].report.difference < 1e-5


@pytest.mark.parametrize("variant", ["simple_None", "epsilon_1.0", "flat_None"])
def test_relevance_of_the_converted_model_is_that_of_lrp_toolbox(shared_data, lenets, variant) -> None:
    name, _, value = variant.partition("_")
    param = None if value == "None" else float(value)
    explainer = onnx_lrp.Explainer(lenets["LeNet-5.nn"].model, "lrp_toolbox", variant=name, param=param, providers="cpu", threads=1)
    with np.load(shared_data / "lrp_toolbox" / "golden_lenet5.npz") as golden:
        got = explainer.explain(golden["X"].astype(np.float32), seed=golden["Rinit"].astype(np.float32)).relevance
        expected = golden[variant]
    assert got.shape == expected.shape
    assert np.abs(got - expected).max() < 1e-4 * np.abs(expected).max()


def test_the_legacy_text_is_the_same_model(shared_data) -> None:
    new, legacy = (read(shared_data / "lrp_toolbox" / f"xor_net_small{end}.txt")[1] for end in ("", "_legacy"))
    assert same_layers(new, legacy)
    model = convert(shared_data / "lrp_toolbox" / "xor_net_small_legacy.txt").model
    with np.load(shared_data / "lrp_toolbox" / "golden_xor.npz") as golden:
        scores = onnx_lrp.Explainer(model, "epsilon", providers="cpu", threads=1).explain(golden["X"].astype(np.float32)).output
        assert np.abs(scores - golden["Y"]).max() < 1e-5


def test_keras_txt_needs_what_the_export_left_out(shared_data) -> None:
    path = shared_data / "keras" / "LeNet1_keras_txt.txt"
    with np.load(shared_data / "mnist" / "test_first500.npz") as file:
        x, y = (file["X"].astype(np.float32) / 255)[..., None], file["y"]
    accuracy = {}
    for relu in (False, True):
        conversion = convert(path, same_padding=True, relu_after_conv=relu)
        accuracy[relu] = (run(conversion.model, {"input": x})[0].argmax(1) == y).mean()
        assert conversion.report.difference < 1e-5
    assert accuracy[False] < 0.96
    assert accuracy[True] > 0.97


# text -----------------------------------------------------------------------------------------------------------------


def as_legacy(text: str) -> str:
    """Each line of weights of a Linear cut into as many lines as it has inputs."""

    def cut(match: re.Match[str]) -> str:
        m, n = int(match[1]), int(match[2])
        words = match[3].split()
        return f"Linear {m} {n}\n" + "\n".join(" ".join(words[row * n : (row + 1) * n]) for row in range(m))

    return re.sub(r"Linear (\d+) (\d+)\n(.*)", cut, text)


WRITINGS = {
    "plain": lambda text: text,
    "windows": lambda text: text.replace("\n", "\r\n"),
    "no last line end": lambda text: text.rstrip("\n"),
    "blank lines at the end": lambda text: text + "\n \n",
    "trailing blanks": lambda text: text.replace("\n", " \n"),
    "byte order mark": lambda text: "\ufeff" + text,
    "numpy 2": lambda text: re.sub(r"(?<=[ \n])-?\d+\.[\de-]+", lambda match: f"np.float64({match[0]})", text),
    "old linear layers": as_legacy,
}


@pytest.mark.parametrize("name", WRITINGS)
def test_text_in_all_its_writings(name) -> None:
    layers = in_float32(sample_layers())
    text = write_text(layers)
    changed = WRITINGS[name](text)
    assert (changed == text) == (name == "plain")
    found = read_text(changed.encode(), "x.txt")
    assert [type(layer) for layer in found] == [type(layer) for layer in layers]
    for got, expected in zip(found, layers, strict=True):
        if isinstance(expected, Linear | Convolution):
            assert np.array_equal(got.weight.astype(np.float32), expected.weight.astype(np.float32))
            assert np.array_equal(got.bias.astype(np.float32), expected.bias.astype(np.float32))


def test_matlab_writes_seven_digits() -> None:
    text = "Linear 2 1\n-2.015958e+00 5.000000e-01\n1.000000e+00\nRect\n"
    (layer, _) = read_text(text.encode(), "x.txt")
    assert layer.weight.tolist() == [[-2.015958], [0.5]]


BROKEN = {
    "": "x.txt has no layers",
    "\n\n": "x.txt has no layers",
    "Linear 2 1\n1 2 3\n1\n": "line 2: 2 weights are expected here, not 3",
    "Linear 2 1\n1 2\n1 2\n": "line 3: 1 biases are expected here, not 2",
    "Linear 2 1\n1 x\n1\n": "line 2: 'x' is not a number",
    "Linear 2 1\n1 1_0\n1\n": "line 2: '1_0' is not a number",
    "Linear 2 1\n1 nan\n1\n": "W has values that are not finite",
    "Linear 2 1\n1 1e60\n1\n": "W has values that are not finite",
    "Linear 2\n1 2\n1\n": "line 1: Linear is followed by 2 whole numbers",
    "Linear 2 1.5\n1 2\n1\n": "line 1: Linear is followed by 2 whole numbers",
    "Linear 2 1\n1 2\n": "ends after line 2, where a line of 1 biases should follow",
    "Linear 1000000 1000000\n1 2\n1\n": "line 2: 1000000000000 weights are expected here, not 2",
    "Convolution 1000 1000 1000 1000 1 1\n1\n1\n": "line 2: 1000000000000 weights are expected here, not 1",
    "Linear 1000000 2\n1 2\n1 2\n": "line 3: 2 weights are expected here, not 0",
    "Rect\n\nRect\n": "line 2: an empty line within the model",
    "RectFoo\n": "line 1: 'RectFoo' is no layer of lrp_toolbox; did you mean 'Rect'",
    "SumPool 2 2 0 2\n": "line 1: SumPool is followed by 4 whole numbers above 0",
    "Rect 1\n": "line 1: Rect is followed by 0 whole numbers",
    "SumPool 9999999999999999999999 2 2 2\n": "line 1: SumPool is followed by 4 whole numbers",
    f"Linear {'0' * 9}1{'1' * 5000} 2\n1 2\n1\n": "line 1: Linear is followed by 2 whole numbers",
}


@pytest.mark.parametrize("text", BROKEN)
def test_broken_text_is_refused_with_the_line(text) -> None:
    with pytest.raises(onnx_lrp.errors.ModelError) as caught:
        read_text(text.encode(), "x.txt")
    if text == "Linear 1000000 2\n1 2\n1 2\n":
        assert "ends after line 3" in str(caught.value)
    else:
        assert BROKEN[text] in str(caught.value)


@pytest.mark.parametrize(
    ("layers", "message"),
    [
        ([Linear(np.ones((2, 3)), np.ones(3)), Linear(np.ones((2, 3)), np.ones(3))], "layer 2 (Linear) takes 2 features, but gets 3"),
        ([Convolution(np.ones((1, 1, 2, 3)), np.ones(3), (1, 1)), Linear(np.ones((2, 3)), np.ones(3))], "a Flatten is missing"),
        ([Convolution(np.ones((1, 1, 2, 3)), np.ones(3), (1, 1))] * 2, "layer 2 (Convolution) takes 2 channels, but gets 3"),
        ([Rect()], "no layer has weights"),
    ],
)
def test_layers_that_do_not_fit_each_other(layers, message, tmp_path) -> None:
    (tmp_path / "x.txt").write_text(write_text(layers))
    with pytest.raises(onnx_lrp.errors.ModelError, match=re.escape(message)):
        convert(tmp_path / "x.txt")


@pytest.mark.parametrize("order", ["C", "F"])
def test_model_against_a_plain_computation(tmp_path, order) -> None:
    layers = in_float32(sample_layers())
    (tmp_path / "x.txt").write_text(write_text(layers))
    conversion = convert(tmp_path / "x.txt", input_size=(7, 8, 2), flatten_order=order)
    x = RNG.normal(size=(3, 7, 8, 2)).astype(np.float32)
    (got,) = run(conversion.model, {"input": x})
    assert np.abs(got - by_hand(layers, x.astype(np.float64), order)).max() < 1e-5
    assert [(layer.kind, layer.shape[0]) for layer in conversion.report.layers] == [(layer.kind, 2) for layer in layers]


# MATLAB -----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("end", [0, 60, 128, 200, 500, 60_000])
def test_mat_files_that_are_cut_off(shared_data, tmp_path, end) -> None:
    (tmp_path / "x.mat").write_bytes((shared_data / "lrp_toolbox" / "LeNet-5.mat").read_bytes()[:end])
    with pytest.raises(onnx_lrp.errors.ModelError, match=r"x\.mat"):
        convert(tmp_path / "x.mat")


def test_flatten_goes_as_the_system_that_wrote_the_file(tmp_path, monkeypatch) -> None:
    """Of MATLAB the rows run fastest, which a text cannot tell."""
    layers = in_float32(sample_layers())
    (tmp_path / "x.txt").write_text(write_text(layers))
    toolbox = importlib.import_module("onnx_lrp.converters.lrp_toolbox")
    x = RNG.normal(size=(2, 7, 8, 2)).astype(np.float32)
    for kind, order in (("text", "C"), ("MATLAB", "F")):
        monkeypatch.setattr(toolbox, "read", lambda _, kind=kind: (kind, layers))
        conversion = convert(tmp_path / "x.txt", input_size=(7, 8, 2))
        assert np.abs(run(conversion.model, {"input": x})[0] - by_hand(layers, x.astype(np.float64), order)).max() < 1e-5
        assert any(f"needs --flatten-order {'CF'[order == 'C']}" in note for note in conversion.report.notes)


def test_mat_files_that_inflate_without_end(tmp_path) -> None:
    packed = zlib.compress(bytes(2**26), 9)
    data = b"MATLAB 5.0 MAT-file".ljust(124) + b"\0\x01IM" + (b"\x0f\0\0\0" + len(packed).to_bytes(4, "little") + packed)
    (tmp_path / "x.mat").write_bytes(data)
    with pytest.raises(onnx_lrp.errors.ModelError, match="far too large"):
        convert(tmp_path / "x.mat")


def test_other_mat_files_are_refused(tmp_path) -> None:
    element = (
        b"\x06\0\0\0\x08\0\0\0\x06\0\0\0\0\0\0\0\x05\0\0\0\x08\0\0\0\x01\0\0\0\x01\0\0\0\x01\0\x01\0x\0\0\0\x09\0\0\0\x08\0\0\0" + bytes(8)
    )
    data = b"MATLAB 5.0 MAT-file".ljust(124) + b"\0\x01IM" + b"\x0e\0\0\0" + len(element).to_bytes(4, "little") + element
    (tmp_path / "x.mat").write_bytes(data)
    with pytest.raises(onnx_lrp.errors.ModelError, match="no variable is an object"):
        convert(tmp_path / "x.mat")
