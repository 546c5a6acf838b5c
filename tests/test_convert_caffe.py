"""Caffe networks: both forms of the files, every kind of layer against a plain computation, mean files, configurations."""

from __future__ import annotations

import importlib
import json
import re
from pathlib import Path

import numpy as np
import onnx
import pytest
from caffe_nets import SMALL, SMALL_FEATURES, fill, older, random_weights, save_mean
from models import run

import onnx_lrp
from onnx_lrp.commands.caffe_config import CaffeConfig, class_target, parse_config, parse_file_list
from onnx_lrp.converters import convert
from onnx_lrp.converters.caffe.schema import NetParameter
from onnx_lrp.errors import InputError, ModelError
from onnx_lrp.metadata import CAFFE, PREPROCESS

RNG = np.random.default_rng(0)


def write(folder: Path, text: str, weights) -> tuple[Path, Path]:
    (folder / "net.prototxt").write_text(text)
    (folder / "net.caffemodel").write_bytes(weights.SerializeToString())
    return folder / "net.prototxt", folder / "net.caffemodel"


def metadata(model: onnx.ModelProto) -> dict:
    return {entry.key: json.loads(entry.value) for entry in model.metadata_props}


@pytest.fixture
def small(tmp_path):
    return write(tmp_path, SMALL, random_weights(SMALL, SMALL_FEATURES))


# real networks ----------------------------------------------------------------------------------------------------------

NETWORKS = {
    # AlexNet's dense layers are made smaller: their 59 million random numbers take longer than all else
    "alexnet": ({"fc6": 9216}, lambda text: text.replace("4096", "64"), 23, "fc8"),
    "googlenet": ({"loss3/classifier": 1024}, lambda text: text, 142, "loss3/classifier"),
}


@pytest.mark.parametrize("name", NETWORKS)
def test_real_networks_with_random_weights(shared_data, tmp_path, name) -> None:
    features, change, count, scores = NETWORKS[name]
    text = change((shared_data / "caffe" / f"{name}_deploy.prototxt").read_text())
    source, weights = write(tmp_path, text, random_weights(text, features))
    conversion = convert(source, weights=weights)
    report, model = conversion.report, conversion.model
    assert report.kind == "Caffe"
    assert [layer.name for layer in report.layers] == re.findall(r'^\s*name: "(.*)"\s*\n\s*type:', text, re.MULTILINE)
    assert len(report.layers) == count
    assert report.difference < 5e-5
    assert model.opset_import[0].version >= 18
    assert {layer.name for layer in report.layers if layer.kind != "Dropout"} == {
        node.name for node in model.graph.node if not node.output[0].endswith("/flat")
    }
    shape = [dim.dim_param or dim.dim_value for dim in model.graph.input[0].type.tensor_type.shape.dim]
    assert shape == ["N", 3, *[227 if name == "alexnet" else 224] * 2]
    explainer = onnx_lrp.Explainer(model, "caffe_100", providers="cpu", threads=1)
    assert explainer.output_name == scores
    assert explainer.plan.coverage == 1


def test_numbering_has_the_splits_that_caffe_puts_in(shared_data, tmp_path) -> None:
    text = (shared_data / "caffe" / "googlenet_deploy.prototxt").read_text()
    source, weights = write(tmp_path, text, random_weights(text, {"loss3/classifier": 1024}))
    layers = metadata(convert(source, weights=weights).model)[CAFFE]
    assert len(layers) == 142 + 9  # every inception module's input has four readers
    names = [name for name, *_ in layers]
    first = names.index("inception_3a/1x1")
    assert layers[first - 1][1] == "Split"
    assert layers[first][2] == layers[first - 1][3] == ["pool2/3x3_s2"]


# forms of the files -----------------------------------------------------------------------------------------------------


def results(source: Path, weights: Path) -> np.ndarray:
    conversion = convert(source, weights=weights)
    x = np.random.default_rng(1).normal(size=(3, 3, 14, 13)).astype(np.float32)
    return run(conversion.model, {"data": x})[0]


def test_older_forms_are_the_same_network(tmp_path, small) -> None:
    """V1 layers in text and weights, four-dimensional shapes, weights in double precision, input_dim, Input layers."""
    expected = results(*small)
    net = NetParameter.FromString(small[1].read_bytes())
    legacy = NetParameter(name="old")
    for layer in net.layer:
        entry = legacy.layers.add(name=layer.name, type="CONVOLUTION" if layer.type == "Convolution" else "INNER_PRODUCT")
        for index, blob in enumerate(layer.blobs):
            values = np.frombuffer(blob.data, "<f4").reshape(tuple(blob.shape.dim))
            fill(entry.blobs.add(), values, legacy=True, double=index == 1)
    texts = {
        "newer": SMALL,
        "older": older(SMALL),
        "dims": older(SMALL).replace(
            "input_shape { dim: 2 dim: 3 dim: 14 dim: 13 }", "input_dim: 2 input_dim: 3 input_dim: 14 input_dim: 13"
        ),
        "input layer": SMALL.replace('input: "data"\ninput_shape { dim: 2 dim: 3 dim: 14 dim: 13 }', "").replace(
            'layer { name: "conv1"',
            'layer { name: "in" type: "Input" top: "data" input_param { shape { dim: 1 dim: 3 dim: 14 dim: 13 } } }\nlayer { name: "conv1"',
        ),
        "phases": SMALL.replace('type: "Dropout"', 'type: "Dropout" include { phase: TEST }')
        + 'layer { name: "loss" type: "Loss" bottom: "fc" include { phase: TRAIN } }\n',
        "comments": "# a comment\r\n" + SMALL.replace("\n", "\r\n").replace("kernel_size: 3", "kernel_h: 3 kernel_w: 3"),
    }
    for name, text in texts.items():
        for weights in (net, legacy):
            assert np.array_equal(results(*write(tmp_path, text, weights)), expected), name


def test_names_and_open_batch(small) -> None:
    model = convert(small[0], weights=small[1]).model
    assert [node.name for node in model.graph.node if "/" not in node.name] == [
        "conv1", "relu1", "pool1", "left", "right", "both", "fc", "prob",
    ]  # fmt: skip
    assert model.graph.node[0].output[0] == "conv1"
    assert (model.graph.input[0].name, model.graph.output[0].name) == ("data", "prob")
    assert model.graph.input[0].type.tensor_type.shape.dim[0].dim_param == "N"
    assert model.graph.name == "small"


def test_another_size_of_the_input(small) -> None:
    with pytest.raises(ModelError, match=re.escape("layer 'fc' (InnerProduct): weights of shape [5, 96] where [5, 150] is needed")):
        convert(small[0], weights=small[1], input_size=(3, 18, 18))
    assert convert(small[0], weights=small[1], input_size=(3, 15, 15)).report.difference < 1e-5


# layers one by one ------------------------------------------------------------------------------------------------------


def layer_output(folder: Path, layers: str, x: np.ndarray, blobs=(), inputs: str = "data") -> np.ndarray:
    """What a network of a layer named "l" gives, once its ONNX form has been compared with the NumPy pass."""
    shape = " ".join(f"dim: {length}" for length in x.shape)
    text = "".join(f'input: "{name}" input_shape {{ {shape} }}\n' for name in inputs.split()) + layers
    weights = NetParameter()
    entry = weights.layer.add(name="l")
    for values in blobs or [np.ones(1)]:
        fill(entry.blobs.add(), np.asarray(values))
    source, file = write(folder, text, weights)
    model = convert(source, weights=file).model
    return run(model, {name: x.astype(np.float32) + index for index, name in enumerate(inputs.split())})[0]


def one(kind: str, parameters: str = "", bottoms: str = "data") -> str:
    return f'layer {{ name: "l" type: "{kind}" {" ".join(f"bottom: {name!r}" for name in bottoms.split())} top: "y" {parameters} }}\n'


def line(values) -> np.ndarray:
    return np.array(values, np.float64).reshape(1, 1, 1, -1)


POOLS = [
    # kernel, stride, padding, x, maxima, averages; the last window is rounded up, and padding counts, but not what hangs over behind it
    (2, 2, 0, [1, 2, 3, 4, 6], [2, 4, 6], [1.5, 3.5, 6]),
    (3, 2, 1, [1, 2, 3, 4, 5], [2, 4, 5], [1, 3, 3]),
    (3, 2, 1, [1, 2, 3, 4], [2, 4, 4], [1, 3, 2]),
    (2, 2, 1, [1, 2, 3], [1, 3], [0.5, 2.5]),
    (2, 3, 1, [1, 2, 3, 4], [1, 4], [0.5, 3.5]),
    (4, 3, 0, [1, 2, 3, 4, 5], [4, 5], [2.5, 4.5]),
    (3, 1, 2, [3, -6], [3, 3, 3, -6], [1, -1, -1, -2]),
]


@pytest.mark.parametrize(("kernel", "stride", "padding", "x", "maxima", "averages"), POOLS)
def test_pools_round_up_and_count_as_caffe_does(tmp_path, kernel, stride, padding, x, maxima, averages) -> None:
    for pool, expected in (("MAX", maxima), ("AVE", averages)):
        window = f"kernel_h: 1 kernel_w: {kernel} stride_h: 1 stride_w: {stride} pad_h: 0 pad_w: {padding}"
        got = layer_output(tmp_path, one("Pooling", f"pooling_param {{ pool: {pool} {window} }}"), line(x))
        assert got.ravel().tolist() == pytest.approx(expected)


def test_pools_that_round_down_and_global_ones(tmp_path) -> None:
    x = line([1, 2, 3, 4, 6])
    window = "kernel_h: 1 kernel_w: 2 stride_h: 1 stride_w: 2 round_mode: FLOOR"
    assert layer_output(tmp_path, one("Pooling", f"pooling_param {{ {window} }}"), x).ravel().tolist() == [2, 4]
    for pool, expected in (("MAX", 6), ("AVE", 3.2)):
        got = layer_output(tmp_path, one("Pooling", f"pooling_param {{ pool: {pool} global_pooling: true }}"), x)
        assert got.shape == (1, 1, 1, 1)
        assert got.item() == pytest.approx(expected)


def test_a_window_that_sees_nothing_is_refused(tmp_path) -> None:
    window = "kernel_h: 1 kernel_w: 1 stride_h: 1 stride_w: 2"
    with pytest.raises(ModelError, match="windows of 1 at stride 2, padding 0, do not fit 4"):
        layer_output(tmp_path, one("Pooling", f"pooling_param {{ {window} }}"), line([1, 2, 3, 4]))


def per_channel(values, rank: int) -> np.ndarray:
    return np.asarray(values, np.float64).reshape(-1, *[1] * (rank - 2))


X = RNG.normal(size=(2, 4, 5, 6))
FACTOR, SHIFT, SPREAD = RNG.normal(size=4), RNG.normal(size=4), RNG.uniform(0.5, 2, 4)
WITHIN = np.stack([np.pad(X**2, [(0, 0), (0, 0), (1, 1), (1, 1)])[:, :, i : i + 5, j : j + 6] for i in range(3) for j in range(3)]).sum(0)

LAYERS = {
    "relu": ("ReLU", "", (), np.maximum(X, 0)),
    "leaky": ("ReLU", "relu_param { negative_slope: 0.25 }", (), np.where(X > 0, X, X / 4)),
    "prelu": ("PReLU", "", [FACTOR], np.where(X > 0, X, per_channel(FACTOR, 4) * X)),
    "prelu, one slope": ("PReLU", "prelu_param { channel_shared: true }", [[0.3]], np.where(X > 0, X, 0.3 * X)),
    "elu": ("ELU", "elu_param { alpha: 0.5 }", (), np.where(X > 0, X, 0.5 * (np.exp(X) - 1))),
    "sigmoid": ("Sigmoid", "", (), 1 / (1 + np.exp(-X))),
    "tanh": ("TanH", "", (), np.tanh(X)),
    "abs": ("AbsVal", "", (), np.abs(X)),
    "bnll": ("BNLL", "", (), np.log(1 + np.exp(X))),
    "power": ("Power", "power_param { power: 2 scale: 3 shift: 0.5 }", (), (0.5 + 3 * X) ** 2),
    "power, nothing": ("Power", "", (), X),
    "batch norm": ("BatchNorm", "batch_norm_param { eps: 0.01 }", [SHIFT * 5, SPREAD * 5, [5]],
                   (X - per_channel(SHIFT, 4)) / np.sqrt(per_channel(SPREAD, 4) + 0.01)),
    "batch norm, no statistics": ("BatchNorm", "", [SHIFT, SPREAD, [0]], X / np.sqrt(1e-5)),
    "scale": ("Scale", "", [FACTOR], per_channel(FACTOR, 4) * X),
    "scale and bias": ("Scale", "scale_param { bias_term: true }", [FACTOR, SHIFT], per_channel(FACTOR, 4) * X + per_channel(SHIFT, 4)),
    "scale by number": ("Scale", "scale_param { num_axes: 0 }", [[2]], 2 * X),
    "scale, last axes": ("Scale", "scale_param { axis: 2 num_axes: -1 }", [X[0, 0]], X * X[0, 0]),
    "bias": ("Bias", "", [SHIFT], X + per_channel(SHIFT, 4)),
    "lrn": ("LRN", "lrn_param { local_size: 3 alpha: 0.6 beta: 0.75 k: 2 }", (),
            X / (2 + 0.2 * np.stack([(X[:, max(c - 1, 0) : c + 2] ** 2).sum(1) for c in range(4)], 1)) ** 0.75),
    "lrn within": ("LRN", "lrn_param { local_size: 3 alpha: 0.9 beta: 0.5 norm_region: WITHIN_CHANNEL }", (),
                   X / (1 + 0.1 * WITHIN) ** 0.5),
    "flatten": ("Flatten", "", (), X.reshape(2, -1)),
    "flatten, some axes": ("Flatten", "flatten_param { axis: 2 end_axis: 3 }", (), X.reshape(2, 4, 30)),
    "reshape": ("Reshape", "reshape_param { shape { dim: 0 dim: -1 dim: 3 } }", (), X.reshape(2, 40, 3)),
    "reshape, batch given": ("Reshape", "reshape_param { shape { dim: 2 dim: 8 dim: 15 } }", (), X.reshape(2, 8, 15)),
    "reshape, middle": ("Reshape", "reshape_param { shape { dim: 2 dim: -1 } axis: 1 num_axes: 1 }", (), X.reshape(2, 2, 2, 5, 6)),
    "softmax": ("Softmax", "", (), np.exp(X) / np.exp(X).sum(1, keepdims=True)),
    "softmax, last axis": ("Softmax", "softmax_param { axis: -1 }", (), np.exp(X) / np.exp(X).sum(3, keepdims=True)),
    "dense": ("InnerProduct", "inner_product_param { num_output: 3 }", [np.arange(360).reshape(3, 120) / 100, [1, 2, 3]],
              X.reshape(2, -1) @ (np.arange(360).reshape(3, 120) / 100).T + [1, 2, 3]),
    "dense, transposed": ("InnerProduct", "inner_product_param { num_output: 3 transpose: true bias_term: false }",
                          [np.arange(360).reshape(120, 3) / 100], X.reshape(2, -1) @ (np.arange(360).reshape(120, 3) / 100)),
}  # fmt: skip


@pytest.mark.parametrize("name", LAYERS)
def test_layers_against_their_formulas(tmp_path, name) -> None:
    kind, parameters, blobs, expected = LAYERS[name]
    got = layer_output(tmp_path, one(kind, parameters), X, blobs)
    assert got.shape == expected.shape
    assert np.abs(got - expected).max() < 1e-5 * max(1, np.abs(expected).max())


SEVERAL = {
    "sum": ("Eltwise", "", X + (X + 1)),
    "difference": ("Eltwise", "eltwise_param { operation: SUM coeff: 2 coeff: -1 }", 2 * X - (X + 1)),
    "product": ("Eltwise", "eltwise_param { operation: PROD }", X * (X + 1)),
    "maximum": ("Eltwise", "eltwise_param { operation: MAX }", X + 1),
    "concat": ("Concat", "", np.concatenate([X, X + 1], 1)),
    "concat, older": ("Concat", "concat_param { concat_dim: 2 }", np.concatenate([X, X + 1], 2)),
    "scale": ("Scale", "scale_param { axis: 0 }", X * (X + 1)),
    "bias": ("Bias", "bias_param { axis: 0 }", X + (X + 1)),
}


@pytest.mark.parametrize("name", SEVERAL)
def test_layers_with_two_bottoms(tmp_path, name) -> None:
    kind, parameters, expected = SEVERAL[name]
    got = layer_output(tmp_path, one(kind, parameters, "a b"), X, inputs="a b")
    assert np.abs(got - expected).max() < 1e-5


def test_slices_splits_and_silence(tmp_path) -> None:
    text = """layer { name: "cut" type: "Slice" bottom: "data" top: "a" top: "b" top: "c"
      slice_param { axis: 1 slice_point: 1 slice_point: 3 } }
    layer { name: "twice" type: "Split" bottom: "b" top: "b1" top: "b2" }
    layer { name: "quiet" type: "Silence" bottom: "c" }
    layer { name: "sum" type: "Eltwise" bottom: "b1" bottom: "b2" top: "s" }
    layer { name: "l" type: "Concat" bottom: "a" bottom: "s" top: "y" }"""
    assert np.abs(layer_output(tmp_path, text, X) - np.concatenate([X[:, :1], 2 * X[:, 1:3]], 1)).max() < 1e-6


def test_squeeze_and_excitation_scale(tmp_path) -> None:
    text = one("Scale", "scale_param { axis: 0 }", "data p").replace('name: "l"', 'name: "s"')
    first = """layer { name: "pool" type: "Pooling" bottom: "data" top: "pool" pooling_param { pool: AVE global_pooling: true } }
    layer { name: "p" type: "Flatten" bottom: "pool" top: "p" }\n"""
    got = layer_output(tmp_path, first + text, X)
    assert np.abs(got - X * X.mean((2, 3), keepdims=True)).max() < 1e-5


CONVOLUTIONS = [
    "kernel_size: 3 pad: 1 stride: 2",
    "kernel_h: 2 kernel_w: 3 pad_h: 0 pad_w: 2 stride_h: 1 stride_w: 2",
    "kernel_size: 2 dilation: 2 group: 2 pad: 1",
    "kernel_size: 3 kernel_size: 1 stride: 2 stride: 1 bias_term: false",
]


@pytest.mark.parametrize("kind", ["Convolution", "Deconvolution"])
@pytest.mark.parametrize("parameters", CONVOLUTIONS)
def test_convolutions_against_torch(tmp_path, kind, parameters) -> None:
    torch = pytest.importorskip("torch")

    def number(name: str, default: int) -> list[int]:
        return [int(value) for value in re.findall(rf"{name}: (\d+)", parameters)] or [default]

    def pair(name: str, default: int) -> list[int]:
        if f"{name}_h" in parameters:
            return [*number(f"{name}_h", 0), *number(f"{name}_w", 0)]
        found = number("kernel_size" if name == "kernel" else name, default)
        return found * 2 if len(found) == 1 else found

    kernel, stride, padding = pair("kernel", 1), pair("stride", 1), pair("pad", 0)
    group, dilation = number("group", 1)[0], number("dilation", 1)[0]
    weight = RNG.normal(size=(6, 4 // group, *kernel) if kind == "Convolution" else (4, 6 // group, *kernel))
    bias = RNG.normal(size=6) if "bias_term" not in parameters else None
    got = layer_output(
        tmp_path, one(kind, f"convolution_param {{ num_output: 6 {parameters} }}"), X, [weight] if bias is None else [weight, bias]
    )
    function = torch.nn.functional.conv2d if kind == "Convolution" else torch.nn.functional.conv_transpose2d
    expected = function(
        *(None if value is None else torch.from_numpy(value) for value in (X, weight, bias)),
        stride=stride, padding=padding, dilation=dilation, groups=group,
    ).numpy()  # fmt: skip
    assert got.shape == expected.shape
    assert np.abs(got - expected).max() < 1e-5 * np.abs(expected).max()


def test_convolution_over_three_axes(tmp_path) -> None:
    torch = pytest.importorskip("torch")
    x, weight, bias = RNG.normal(size=(2, 4, 4, 5, 6)), RNG.normal(size=(2, 4, 2, 3, 1)), RNG.normal(size=2)
    window = "kernel_size: 2 kernel_size: 3 kernel_size: 1 stride: 1 stride: 2 stride: 3 pad: 1 pad: 0 pad: 2"
    got = layer_output(tmp_path, one("Convolution", f"convolution_param {{ num_output: 2 {window} }}"), x, [weight, bias])
    expected = torch.nn.functional.conv3d(*map(torch.from_numpy, (x, weight, bias)), stride=(1, 2, 3), padding=(1, 0, 2)).numpy()
    assert got.shape == expected.shape
    assert np.abs(got - expected).max() < 1e-5


# what is wrong ----------------------------------------------------------------------------------------------------------

WRONG = {
    "unknown field": (SMALL.replace("stride: 2 pad", "strides: 2 pad"), 'line 6: Message type "caffe.convolution_param" has no field'),
    "unknown kind": (SMALL.replace('"Softmax"', '"Softmaxx"'), "layer 'prob' (Softmaxx) is not supported; did you mean 'Softmax'"),
    "unknown bottom": (SMALL.replace('bottom: "left"', 'bottom: "up"'), "layer 'both' reads 'up', which no layer before it makes"),
    "no input": (SMALL.replace('input: "data"', ""), "has no input"),
    "training": (SMALL.replace('bottom: "left" bottom', "transform_param { scale: 2 } bottom"), "a network for inference is expected"),
    "input without shape": (SMALL.replace("input_shape { dim: 2 dim: 3 dim: 14 dim: 13 }", ""), "does not give each of its 1 inputs"),
    "huge input": (SMALL.replace("dim: 14", "dim: 100000000"), "the input 'data' has the shape"),
    "channels": (SMALL.replace("dim: 3", "dim: 4"), "(Convolution): weights of shape [4, 3, 3, 3] where [4, 4, 3, 3] is needed"),
    "group": (SMALL.replace("group: 2", "group: 3"), "layer 'right' (Convolution): axis 1, 3 groups, 4 channels"),
    "window": (SMALL.replace("pooling_param { pool: MAX kernel_size: 2", "pooling_param { pool: MAX kernel_size: 0"), "impossible window"),
    "pool too large": (SMALL.replace("MAX kernel_size: 2", "MAX kernel_size: 90"), "windows of 90 at stride 2, padding 0, do not fit 7"),
    "stochastic": (SMALL.replace("pool: MAX", "pool: STOCHASTIC"), "layer 'pool1' (Pooling): stochastic pools"),
    "no weights": (SMALL.replace('name: "left"', 'name: "lift"'), "has no weights for the layer 'lift'; did you mean 'left'"),
    "deep": ("layer { " * 3000, "line 1: "),
}  # fmt: skip


@pytest.mark.parametrize("name", WRONG)
def test_wrong_networks_are_refused(tmp_path, small, name) -> None:
    text, message = WRONG[name]
    small[0].write_text(text)
    with pytest.raises(ModelError, match=re.escape(message)) as caught:
        convert(small[0], weights=small[1])
    assert "net." in str(caught.value)


def test_wrong_weights_are_refused(tmp_path, small) -> None:
    source, weights = small
    data = weights.read_bytes()
    with pytest.raises(InputError, match="without its weights"):
        convert(source)
    with pytest.raises(InputError, match="holds a network's weights"):
        convert(weights)
    for broken, message in (
        (data[:-20], "is cut off"),
        (b"hello", "holds no weights"),
        (b"", "holds no weights"),
        (source.read_bytes(), "holds no"),
    ):
        weights.write_bytes(broken)
        with pytest.raises(ModelError, match=message):
            convert(source, weights=weights)
    with pytest.raises(ModelError, match="cannot read"):
        convert(source, weights=tmp_path / "none")
    net = NetParameter.FromString(data)
    net.layer[0].blobs[0].shape.dim[:] = [10**6, 10**6]
    weights.write_bytes(net.SerializeToString())
    with pytest.raises(ModelError, match=re.escape("layer 'conv1': an array of shape [1000000, 1000000] has 108 numbers")):
        convert(source, weights=weights)
    net = NetParameter.FromString(data)
    net.layer[0].blobs[0].data = np.full(108, np.nan, "<f4").tobytes()
    weights.write_bytes(net.SerializeToString())
    with pytest.raises(ModelError, match="layer 'conv1' has weights that are not finite"):
        convert(source, weights=weights)


def test_a_difference_names_the_first_layer(small, monkeypatch) -> None:
    table = importlib.import_module("onnx_lrp.converters.caffe.forward")._FORWARD
    right = table["Pooling"]
    monkeypatch.setitem(table, "Pooling", lambda layer, inputs: [right(layer, inputs)[0] + 0.1 * np.abs(inputs[0]).max()])
    with pytest.raises(ModelError, match=re.escape("layer 'pool1' (Pooling) is the first that differs from its ONNX form, by 0.09")):
        convert(small[0], weights=small[1])


# mean files -------------------------------------------------------------------------------------------------------------


def mean_file(folder: Path, form: str, mean: np.ndarray) -> Path:
    path = folder / f"mean.{form}"
    if form == "binaryproto":
        return save_mean(path, mean)
    if form == "txt":
        path.write_text(" ".join(map(str, mean.shape)) + "\n" + " ".join(map(repr, mean.transpose(0, 2, 1).ravel().tolist())))
    else:
        with path.open("wb") as file:
            np.save(file, mean.mean((1, 2)) if form == "values" else mean)
    return path


@pytest.mark.parametrize("form", ["binaryproto", "npy", "values", "txt"])
def test_mean_files_travel_with_the_model(tmp_path, small, form) -> None:
    mean = np.arange(3)[:, None, None] * 10 + 100 + RNG.uniform(-1, 1, (3, 6, 5))
    conversion = convert(small[0], weights=small[1], mean=mean_file(tmp_path, form, mean))
    fields = metadata(conversion.model)[PREPROCESS]
    assert fields.pop("mean") == pytest.approx(mean.mean((1, 2)), abs=1e-4)
    assert fields == {"layout": "NCHW", "channels": "BGR", "scale": 1.0}
    spread = [note for note in conversion.report.notes if "single pixels differ" in note]
    assert len(spread) == (form != "values")


def test_wrong_mean_files_are_refused(tmp_path, small) -> None:
    path = tmp_path / "mean"
    header = b"{'descr': '<f8', 'fortran_order': False, 'shape': (3, 1000000, 1000000), }".ljust(117) + b"\n"
    for data, message in (
        (b"", "holds no mean picture"),
        (b"\xff" * 50, "holds no mean picture"),
        (b"3 4 4 1 2 3", "3 values for 3 x 4 x 4"),
        (b"\x93NUMPY\x01\x00\x76\x00" + header, "holds no mean picture"),
    ):
        path.write_bytes(data)
        with pytest.raises(InputError, match=message):
            convert(small[0], weights=small[1], mean=path)
    with pytest.raises(InputError, match="has 1 channels, the network's input 3"):
        convert(small[0], weights=small[1], mean=save_mean(path, np.ones((1, 4, 4))))


# the extension's configuration -------------------------------------------------------------------------------------------


def test_the_extensions_own_configuration(shared_data) -> None:
    config = parse_config(shared_data / "caffe" / "lrp_config.txt")
    assert config == CaffeConfig(formula=100, epsilon=1, beta=1, first=0, last=-2, low=0)
    layers = [["conv", "Convolution", ["data"], ["conv"]], ["fc", "InnerProduct", ["conv"], ["fc"]], ["prob", "Softmax", ["fc"], ["prob"]]]
    assert config.composite(layers) == ("caffe_100", {"epsilon": 1, "beta": 1})
    assert config.output(layers) == "fc"
    assert config.explained(layers) == []


def config_text(**values) -> str:
    given = {
        "relpropformulatype": 102, "epsstab": 0.5, "alphabeta_beta": 2, "firstlayerindex": 0, "lastlayerindex": -2,
        "auxiliaryvariable_maxlayerindexforflatdistinconv": 0,
    } | values  # fmt: skip
    return "".join(
        f"{key} # of the extension\n  {value} more words\n\nwords between\n" for key, value in given.items() if value is not None
    )


NUMBERED = [
    ["", "Split", ["data"], ["data"]], ["c1", "Convolution", ["data"], ["c1"]], ["r1", "ReLU", ["c1"], ["r1"]],
    ["c2", "Convolution", ["r1"], ["c2"]], ["f1", "InnerProduct", ["c2"], ["f1"]], ["f2", "InnerProduct", ["f1"], ["f2"]],
    ["p", "Softmax", ["f2"], ["p"]],
]  # fmt: skip


@pytest.mark.parametrize(
    ("values", "composite", "output", "record"),
    [
        ({}, ("caffe_102", {"epsilon": 0.5, "beta": 2, "low_layers": 0}), "f2", []),
        ({"auxiliaryvariable_maxlayerindexforflatdistinconv": 3}, ("caffe_102", {"epsilon": 0.5, "beta": 2, "low_layers": 2}), "f2", []),
        ({"relpropformulatype": 0}, ("caffe_0", {"epsilon": 0.5}), "f2", []),
        ({"relpropformulatype": 2, "lastlayerindex": -1}, ("caffe_2", {"beta": 2}), "f2", []),
        ({"relpropformulatype": 11, "lastlayerindex": 4}, ("caffe_11", {}), "f1", []),
        ({"relpropformulatype": 56, "firstlayerindex": 3}, ("caffe_56", {"epsilon": 0.5, "low_layers": 0}), "f2", ["r1"]),
    ],
)
def test_configurations(tmp_path, values, composite, output, record) -> None:
    (tmp_path / "c.txt").write_text(config_text(**values))
    config = parse_config(tmp_path / "c.txt")
    assert config.composite(NUMBERED) == composite
    assert config.output(NUMBERED) == output
    assert config.explained(NUMBERED) == record


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"epsstab": None}, "epsstab: there is no value"),
        ({"epsstab": "much"}, "epsstab: 'much' is not a number"),
        ({"epsstab": -1}, "epsstab must be a number from 0 on"),
        ({"alphabeta_beta": "nan"}, "alphabeta_beta must be a number from 0 on"),
        ({"relpropformulatype": 1.5}, "relpropformulatype: '1.5' is not a whole number"),
        ({"relpropformulatype": 22}, "relpropformulatype 22 is not supported"),
        ({"lastlayerindex": 7}, "lastlayerindex 7: the network has no such layer"),
        ({"lastlayerindex": -3}, "lastlayerindex -3: the network has no such layer"),
        ({"firstlayerindex": -1}, "firstlayerindex -1: the network has no such layer"),
    ],
)
def test_wrong_configurations(tmp_path, values, message) -> None:
    (tmp_path / "c.txt").write_text(config_text(**values))

    def use() -> None:
        config = parse_config(tmp_path / "c.txt")
        for part in (config.composite, config.output, config.explained):
            part(NUMBERED)

    with pytest.raises(InputError, match=re.escape(message)):
        use()


def test_five_classes_together_are_the_sum_of_five(small) -> None:
    """Of six outputs, where the seed's values add up as the rules are linear in the relevance."""
    text = SMALL.replace("num_output: 5", "num_output: 6")
    source, weights = write(small[0].parent, text, random_weights(text, SMALL_FEATURES))
    explainer = onnx_lrp.Explainer(convert(source, weights=weights).model, "caffe_0", epsilon=0.1, providers="cpu", threads=1)
    x = RNG.normal(size=(2, 3, 14, 13)).astype(np.float32)
    output = explainer.explain(x).output
    together = explainer.explain(x, class_target(-2, output)).relevance
    best = np.argsort(-output, 1)[:, :5]
    assert np.abs(together - explainer.explain(x, best).relevance.sum(1)).max() < 1e-5 * np.abs(together).max()
    for index, classes in ((-1, output.argmax(1)), (3, [3, 3])):
        assert explainer.explain(x, class_target(index, output)).target.tolist() == list(classes)


def test_file_lists(tmp_path) -> None:
    path = tmp_path / "list.txt"
    path.write_text("a.jpg 3\n\nmy pictures/b.png -1\nc.jpg -2\n")
    assert parse_file_list(path) == [(Path("a.jpg"), 3), (Path("my pictures/b.png"), -1), (Path("c.jpg"), -2)]
    for text in ("a.jpg\n", "a.jpg -3\n", "a.jpg x\n"):
        path.write_text("ok.jpg 1\n" + text)
        with pytest.raises(InputError, match="line 2: a path and a class"):
            parse_file_list(path)
