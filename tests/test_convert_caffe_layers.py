"""Every kind of layer of Caffe against its formula."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
from caffe_nets import fill, write
from models import run

from onnx_lrp.converters import convert
from onnx_lrp.converters.caffe.schema import NetParameter
from onnx_lrp.errors import ModelError

RNG = np.random.default_rng(0)


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
