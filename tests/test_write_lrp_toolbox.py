"""Writing ONNX models as lrp_toolbox's text, and what is refused."""

from __future__ import annotations

import re

import numpy as np
import pytest
from models import build, op, run
from toolbox_models import by_hand, in_float32, same_layers, sample_layers

import onnx_lrp
from onnx_lrp.converters import convert
from onnx_lrp.converters.lrp_toolbox import read, write
from onnx_lrp.converters.lrp_toolbox.text import write as write_text

RNG = np.random.default_rng(0)


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
