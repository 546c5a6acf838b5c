"""Models of lrp_toolbox: the three file formats, their ONNX form, and the way back."""

from __future__ import annotations

import importlib
import io
import pickle
import re
import sys
import types
import zlib
from pathlib import Path

import numpy as np
import onnx
import pytest
from models import build, op, run

import onnx_lrp
from onnx_lrp.converters import convert
from onnx_lrp.converters.lrp_toolbox import read, write
from onnx_lrp.converters.lrp_toolbox.layers import Convolution, Flatten, Linear, MaxPool, Rect, SoftMax, SumPool, Tanh
from onnx_lrp.converters.lrp_toolbox.text import read as read_text
from onnx_lrp.converters.lrp_toolbox.text import write as write_text

LENETS = ("LeNet-5.txt", "LeNet-5.nn", "LeNet-5.mat")
RNG = np.random.default_rng(0)


def same_layers(first, second) -> bool:
    """Whether two models have the same layers, with the same bits in their weights."""
    arrays = ("weight", "bias")
    return len(first) == len(second) and all(
        type(a) is type(b)
        and all(
            np.array_equal(getattr(a, name), getattr(b, name)) if name in arrays else getattr(a, name) == getattr(b, name)
            for name in vars(a)
        )
        for a, b in zip(first, second, strict=True)
    )


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


# text -------------------------------------------------------------------------------------------------------------------


def sample_layers(depth: int = 2):
    return [
        Convolution(RNG.normal(size=(2, 3, depth, 4)), RNG.normal(size=4), (2, 1)),
        Rect(),
        MaxPool((2, 2), (1, 1)),
        SumPool((1, 3), (1, 2)),
        Flatten(),
        Linear(RNG.normal(size=(16, 5)), RNG.normal(size=5)),
        Tanh(),
        Linear(RNG.normal(size=(5, 3)), RNG.normal(size=3)),
        SoftMax(),
    ]


def in_float32(layers):
    return [
        type(layer)(
            **{
                name: value.astype(np.float32).astype(np.float64) if isinstance(value, np.ndarray) else value
                for name, value in vars(layer).items()
            }
        )
        for layer in layers
    ]


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


def by_hand(layers, x, order):
    """A model's output, element by element, from the layers' definitions."""
    for layer in layers:
        if isinstance(layer, Convolution | SumPool | MaxPool):
            h, w = layer.weight.shape[:2] if isinstance(layer, Convolution) else layer.pool
            rows, columns = ((x.shape[a] - k) // s + 1 for a, k, s in ((1, h, layer.stride[0]), (2, w, layer.stride[1])))
            channels = layer.weight.shape[3] if isinstance(layer, Convolution) else x.shape[3]
            y = np.zeros((len(x), rows, columns, channels))
            for r, c in np.ndindex(rows, columns):
                seen = x[:, r * layer.stride[0] :, c * layer.stride[1] :][:, :h, :w]
                if isinstance(layer, Convolution):
                    y[:, r, c] = np.einsum("nhwd,hwdk->nk", seen, layer.weight) + layer.bias
                else:
                    y[:, r, c] = seen.max((1, 2)) if isinstance(layer, MaxPool) else seen.sum((1, 2)) / np.sqrt(h * w)
            x = y
        elif isinstance(layer, Flatten):
            x = np.stack([sample.reshape(-1, order=order) for sample in x])
        elif isinstance(layer, Linear):
            x = x @ layer.weight + layer.bias
        elif isinstance(layer, SoftMax):
            x = np.exp(x) / np.exp(x).sum(1, keepdims=True)
        else:
            x = np.tanh(x) if isinstance(layer, Tanh) else np.maximum(x, 0)
    return x


@pytest.mark.parametrize("order", ["C", "F"])
def test_model_against_a_plain_computation(tmp_path, order) -> None:
    layers = in_float32(sample_layers())
    (tmp_path / "x.txt").write_text(write_text(layers))
    conversion = convert(tmp_path / "x.txt", input_size=(7, 8, 2), flatten_order=order)
    x = RNG.normal(size=(3, 7, 8, 2)).astype(np.float32)
    (got,) = run(conversion.model, {"input": x})
    assert np.abs(got - by_hand(layers, x.astype(np.float64), order)).max() < 1e-5
    assert [(layer.kind, layer.shape[0]) for layer in conversion.report.layers] == [(layer.kind, 2) for layer in layers]


# pickles ----------------------------------------------------------------------------------------------------------------


def as_pickle(protocol: int) -> tuple[bytes, list]:
    """A model as lrp_toolbox writes it, with classes of the same names in modules of the same names."""
    layers = sample_layers()
    kinds = {
        name: type(name, (), {})
        for name in ("Sequential", "Convolution", "Rect", "MaxPool", "SumPool", "Flatten", "Linear", "Tanh", "SoftMax")
    }
    made = {}
    try:
        for name, kind in kinds.items():
            module = types.ModuleType(f"modules.{name.lower()}")
            setattr(module, name, kind)
            kind.__module__, kind.__qualname__ = module.__name__, name
            sys.modules[module.__name__] = made[name] = module
        sys.modules["modules"] = types.ModuleType("modules")
        root = kinds["Sequential"]()
        root.lrp_var, root.lrp_param, root.modules = None, 1.0, []
        for layer in layers:
            module = kinds[type(layer).__name__]()
            names = {"weight": "W", "bias": "B"}
            vars(module).update(
                {names.get(name, name): value for name, value in vars(layer).items() if name != "same"}, Y=None, lrp_aware=False
            )
            if isinstance(layer, Linear):
                module.m, module.n = np.int64(layer.weight.shape[0]), layer.weight.shape[1]
            root.modules.append(module)
        return pickle.dumps(root, protocol), layers
    finally:
        for name in ("modules", *(f"modules.{kind.lower()}" for kind in kinds)):
            sys.modules.pop(name, None)


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
def test_pickles_of_python_3(tmp_path, protocol) -> None:
    data, layers = as_pickle(protocol)
    path = tmp_path / "model.pickled"
    path.write_bytes(data)
    kind, found = read(path)
    assert kind == "pickle"
    assert same_layers(found, layers)
    assert convert(path, input_size=(7, 8, 2)).report.kind == "lrp_toolbox (pickle)"


class Runs:
    """Pickles to a call that leaves a trace."""

    def __init__(self, function, *arguments):
        self.call = function, arguments

    def __reduce__(self):
        return self.call


@pytest.mark.parametrize(
    ("value", "named"),
    [
        (lambda trace: Runs(Path.touch, trace), "refers to"),
        (lambda trace: Runs(exec, f"open({str(trace)!r}, 'w')"), ".exec, which no lrp_toolbox model needs"),
        (lambda trace: Runs(eval, f"open({str(trace)!r}, 'w')"), ".eval, which no lrp_toolbox model needs"),
        (lambda _: io.BytesIO(b"x"), "_io.BytesIO, which no lrp_toolbox model needs"),
        (lambda _: np.array([{"a": 1}], object), "an array that is not of numbers"),
    ],
)
@pytest.mark.parametrize("protocol", [2, 4, 5])
def test_pickles_that_would_run_code_are_refused(tmp_path, value, named, protocol) -> None:
    trace, path = tmp_path / "trace", tmp_path / "x.nn"
    path.write_bytes(pickle.dumps({"modules": "Sequential", "x": value(trace)}, protocol))
    with pytest.raises(onnx_lrp.errors.ModelError, match="nothing of the file was run") as caught:
        read(path)
    assert named in str(caught.value)
    assert not trace.exists()


HOSTILE = {
    "memo": b"\x80\x02Nr\xff\xff\xff\x7f.",  # a place in the memo that would need 16 GB as a list
    "long": b"\x80\x04\x8e" + (2**40).to_bytes(8, "little") + b"x.",
    "bytearray": b"\x80\x05\x96" + (2**40).to_bytes(8, "little") + b"x.",
    "deep": b"\x80\x02" + b"]" * 200_000 + b"a" * 199_999 + b".",
    "deep key": b"\x80\x02}" + b"N" + b"\x85" * 200_000 + b"Ns.",
    "twice": b"\x80\x02]q\x00" + b"(h\x00h\x00e" * 1000 + b".",
    "no end": b"\x80\x02N",
    "shape": b"\x80\x02cnumpy._core.numeric\n_frombuffer\n(C\x00cnumpy\ndtype\nU\x02f8\x85R\x8a\x06\x00\x00\x00\x00\x00\x01\x85U\x01CtR.",
    "empty": b"\x80\x02",
}


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_pickles(tmp_path, name) -> None:
    (tmp_path / "x.nn").write_bytes(HOSTILE[name])
    with pytest.raises(onnx_lrp.errors.ModelError, match=r"x\.nn"):
        read(tmp_path / "x.nn")


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


# the way back -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["LeNet-5.nn", "xor_net_small.txt"])
def test_round_trip_of_real_models(shared_data, tmp_path, name) -> None:
    path = tmp_path / "x.txt"
    report = write(convert(shared_data / "lrp_toolbox" / name).model, path)
    assert same_layers(in_float32(read(path)[1]), in_float32(read(shared_data / "lrp_toolbox" / name)[1]))
    assert report.difference < 1e-5


@pytest.mark.parametrize("order", ["C", "F"])
def test_round_trip_of_all_layers(tmp_path, order) -> None:
    (tmp_path / "a.txt").write_text(write_text(sample_layers()))
    first = convert(tmp_path / "a.txt", input_size=(7, 8, 2), flatten_order=order)
    write(first.model, tmp_path / "b.txt")
    if order == "C":
        assert (tmp_path / "b.txt").read_text() == (tmp_path / "a.txt").read_text()
    second = convert(tmp_path / "b.txt", input_size=(7, 8, 2))
    x = RNG.normal(size=(2, 7, 8, 2)).astype(np.float32)
    assert np.abs(run(first.model, {"input": x})[0] - run(second.model, {"input": x})[0]).max() < 1e-6


def channels_first(*more, **constants):
    """A model whose input is (N, C, H, W), as most are."""
    nodes = [
        op("Conv", "x w b", "c", strides=[1, 2]),
        op("BatchNormalization", "c gain shift mean variance", "n"),
        op("Relu", "n", "r"),
        op("AveragePool", "r", "p", kernel_shape=[2, 3], strides=[2, 1]),
        op("MaxPool", "p", "m", kernel_shape=[2, 1]),
        *more,
    ]
    given = {
        "w": RNG.normal(size=(4, 2, 3, 2)), "b": RNG.normal(size=4), "gain": RNG.uniform(0.5, 2, 4), "shift": RNG.normal(size=4),
        "mean": RNG.normal(size=4), "variance": RNG.uniform(0.5, 2, 4), "w2": RNG.normal(size=(24, 3)),
    }  # fmt: skip
    return build(nodes, {"x": ["N", 2, 9, 10]}, constants=given | constants)


def test_model_with_channels_first_is_written(tmp_path) -> None:
    """Its batch normalisation, the factor of its mean and the order in which it flattens go into the weights."""
    model = channels_first(op("Flatten", "m", "f"), op("Gemm", "f w2", "y"))
    write(model, tmp_path / "x.txt")
    x = RNG.normal(size=(2, 2, 9, 10)).astype(np.float32)
    got = by_hand(read(tmp_path / "x.txt")[1], x.transpose(0, 2, 3, 1).astype(np.float64), "C")
    (expected,) = run(model, {"x": x})
    assert got.shape == expected.shape == (2, 3)
    assert np.abs(got - expected).max() < 1e-5


MISFITS = {
    "Sigmoid": ([op("Sigmoid", "m", "y")], {}, "node 'y' (Sigmoid) is none of the layers"),
    "padding": ([op("Conv", "m w3", "y", pads=[1, 1, 1, 1])], {"w3": (1, 4, 3, 3)}, "has pads [1, 1, 1, 1], which the format cannot say"),
    "groups": ([op("Conv", "m w3", "y", group=2)], {"w3": (2, 2, 1, 1)}, "has group 2, which the format cannot say"),
    "dilation": ([op("Conv", "m w3", "y", dilations=[1, 2])], {"w3": (2, 4, 1, 1)}, "has dilations [1, 2]"),
    "branches": ([op("Relu", "m", "a"), op("Add", "a m", "y")], {}, "it is no sequence: 'm' is read by"),
    "no weights after a mean": ([op("Tanh", "m", "y")], {}, "node 'y' (Tanh) follows an average pool"),
    "mean at the end": ([op("Relu", "m", "y")], {}, "no layer with weights follows the last average pool"),
    "order at the end": ([op("Conv", "m w3", "a"), op("Flatten", "a", "y")], {"w3": (2, 4, 1, 1)}, "the last Flatten goes through"),
    "two outputs": ([op("Split", "m", "a z", axis=1, num_outputs=2), op("Relu", "a", "y")], {}, "(Split) is none of the layers"),
}  # fmt: skip


@pytest.mark.parametrize("name", MISFITS)
def test_what_does_not_fit_is_refused_with_the_reason(tmp_path, name) -> None:
    more, shapes, message = MISFITS[name]
    model = channels_first(*more, **{key: np.ones(shape) for key, shape in shapes.items()})
    with pytest.raises(onnx_lrp.errors.ModelError, match=re.escape(message)):
        write(model, tmp_path / "x.txt")
    assert not (tmp_path / "x.txt").exists()
