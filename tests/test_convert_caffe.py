"""Caffe networks: real ones, both forms of the files, what is wrong with files, mean files."""

from __future__ import annotations

import importlib
import json
import re
from pathlib import Path

import numpy as np
import onnx
import pytest
from caffe_nets import SMALL, SMALL_FEATURES, fill, older, random_weights, save_mean, write
from models import run

import onnx_lrp
from onnx_lrp.converters import convert
from onnx_lrp.converters.caffe.schema import NetParameter
from onnx_lrp.errors import InputError, ModelError
from onnx_lrp.metadata import CAFFE, PREPROCESS

RNG = np.random.default_rng(0)


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
