"""Grad-CAM against its formula in float64, with derivatives by central differences."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from helpers import make_model, node, normal

from onnx_lrp import Explainer, InputError, explain, grad_cam
from onnx_lrp.demo import load
from onnx_lrp.gradcam import enlarge
from onnx_lrp.graph import Array

OPTIONS: dict[str, Any] = {"providers": "cpu", "threads": 1}
SIZES = {1: (11,), 2: (7, 10), 3: (5, 6, 4)}
MODEL, IMAGES, _ = load()
CHANNELS, HIDDEN, CLASSES = 4, 6, 3


def convolved(x: Array, weights: Array, bias: Array) -> Array:
    """A convolution with stride 1 and no padding, over any number of axes, and a ReLU."""
    spatial = range(2, x.ndim)
    windows = np.lib.stride_tricks.sliding_window_view(x.astype(np.float64), weights.shape[2:], tuple(spatial))
    summed = np.tensordot(windows, weights.astype(np.float64), ((1, *range(x.ndim, 2 * x.ndim - 2)), (1, *spatial)))
    return np.maximum(np.moveaxis(summed, -1, 1) + bias.reshape(-1, *(1,) * len(spatial)), 0)


def net(dims: int) -> tuple[Any, Callable[[Array], Array], Callable[[Array], Array]]:
    """Convolution, ReLU, and a head that bends: the model, and in float64 its feature map and its head."""
    size = [length - 2 for length in SIZES[dims]]
    constants = {
        "w": normal("w", CHANNELS, 2, *(3,) * dims), "b": normal("b", CHANNELS),
        "v": normal("v", CHANNELS * int(np.prod(size)), HIDDEN) / np.float32(8), "u": normal("u", HIDDEN, CLASSES),
    }  # fmt: skip
    nodes = [
        node("Conv", "x w b", "c"), node("Relu", "c", "a"), node("Flatten", "a", "f"), node("MatMul", "f v", "h"),
        node("Tanh", "h", "t"), node("MatMul", "t u", "y"),
    ]  # fmt: skip
    for index, made in enumerate(nodes):
        made.name = f"node{index}"

    def head(a: Array) -> Array:
        return np.tanh(a.reshape(len(a), -1) @ constants["v"].astype(np.float64)) @ constants["u"].astype(np.float64)

    return make_model(nodes, constants, (2, *SIZES[dims])), lambda x: convolved(x, constants["w"], constants["b"]), head


def numeric_gradient(head: Callable[[Array], Array], a: Array, target: int) -> Array:
    """Central differences, element by element."""
    result, step = np.zeros_like(a), 1e-5
    for place in np.ndindex(a.shape[1:]):
        moved = [a.copy(), a.copy()]
        for value, sign in zip(moved, (1, -1), strict=True):
            value[:, *place] += sign * step
        up, down = (head(value)[:, target] for value in moved)
        result[:, *place] = (up - down) / (2 * step)
    return result


def expected_cam(head: Callable[[Array], Array], a: Array, target: int, sizes: tuple[int, ...], channels: int = 1) -> Array:
    """(N, *sizes) from the feature map, whose channels are at an axis."""
    places = tuple(axis for axis in range(1, a.ndim) if axis != channels)
    weights = numeric_gradient(head, a, target).mean(places, keepdims=True)
    cam = np.maximum((weights * a).sum(channels), 0)
    for axis, size in enumerate(sizes, 1):
        old, new = ((np.arange(length) + 0.5) / length for length in (cam.shape[axis], size))
        cam = np.apply_along_axis(lambda row, old=old, new=new: np.interp(new, old, row), axis, cam)
    return cam


def samples(dims: int) -> Array:
    return normal("samples", 2, 2, *SIZES[dims])


@pytest.mark.parametrize("dims", SIZES)
@pytest.mark.parametrize("target", [0, 2])
def test_formula(dims: int, target: int) -> None:
    model, feature_map, head = net(dims)
    x = samples(dims)
    found = grad_cam(model, x, target, **OPTIONS).relevance
    want = expected_cam(head, feature_map(x), target, SIZES[dims])
    assert want.max() > 0
    assert found.shape == x.shape
    np.testing.assert_allclose(found.sum(1), want, atol=1e-5 * want.max())
    np.testing.assert_array_equal(found[:, 0], found[:, 1])


def test_targets() -> None:
    model, feature_map, head = net(2)
    x = samples(2)
    maps = [expected_cam(head, feature_map(x), target, SIZES[2]) for target in range(CLASSES)]
    best = head(feature_map(x)).argmax(1)
    by_default = grad_cam(model, x, **OPTIONS)
    assert by_default.target.tolist() == best.tolist()
    for explanation, chosen in ((by_default, best), (grad_cam(model, x, [2, 0], **OPTIONS), [2, 0])):
        np.testing.assert_allclose(explanation.relevance.sum(1), [maps[t][n] for n, t in enumerate(chosen)], atol=1e-5)
    several = grad_cam(model, x, np.array([[0, 2, 1], [1, 1, 0]]), **OPTIONS).relevance
    assert several.shape == (2, 3, *x.shape[1:])
    want = [[maps[t][n] for t in row] for n, row in enumerate([[0, 2, 1], [1, 1, 0]])]
    np.testing.assert_allclose(several.sum(2), want, atol=1e-5)


def test_a_sample_does_not_depend_on_the_batch() -> None:
    model, *_ = net(2)
    x = samples(2)
    np.testing.assert_allclose(grad_cam(model, x, 1, **OPTIONS).relevance[1:], grad_cam(model, x[1:], 1, **OPTIONS).relevance, atol=1e-6)


@pytest.mark.parametrize("perm", [(0, 3, 1, 2), (0, 3, 2, 1), (0, 2, 3, 1)])
def test_inputs_that_the_model_transposes(perm: tuple[int, ...]) -> None:
    """Channels last, in either order of the places, or in the middle: the map lies where the input has its places."""
    model, *_ = net(2)
    x = samples(2)
    want = grad_cam(model, x, 1, **OPTIONS).relevance
    inverse = np.argsort(perm)
    turned = x.transpose(inverse)
    model.graph.node[0].input[0] = "turned"
    model.graph.node.insert(0, node("Transpose", "x", "turned", perm=perm))
    for dim, length in zip(model.graph.input[0].type.tensor_type.shape.dim[1:], turned.shape[1:], strict=True):
        dim.dim_value = length
    for guided in (False, True):
        found = grad_cam(model, turned, 1, guided=guided, **OPTIONS).relevance
        plain = grad_cam(net(2)[0], x, 1, guided=guided, **OPTIONS).relevance if guided else want
        np.testing.assert_allclose(found, plain.transpose(inverse), atol=1e-6)


def test_a_layer_with_channels_last() -> None:
    """Between two transpositions a dense layer makes the channels, as in ConvNeXt."""
    size = (5, 8)
    constants = {"w": normal("w", 4, 2, 3, 3), "b": normal("b", 4), "m": normal("m", 4, 5), "v": normal("v", 5 * 40, 3)}
    nodes = [
        node("Conv", "x w b", "c"), node("Relu", "c", "r"), node("Transpose", "r", "last", perm=(0, 2, 3, 1)),
        node("MatMul", "last m", "d"), node("Relu", "d", "a"), node("Flatten", "a", "f"), node("MatMul", "f v", "y"),
    ]  # fmt: skip
    for index, made in enumerate(nodes):
        made.name = f"node{index}"
    x = samples(2)
    a = np.maximum(np.moveaxis(convolved(x, constants["w"], constants["b"]), 1, -1) @ constants["m"].astype(np.float64), 0)
    assert a.shape == (2, *size, 5)
    found = grad_cam(make_model(nodes, constants, x.shape[1:]), x, 1, layer="a", **OPTIONS).relevance
    want = expected_cam(lambda value: value.reshape(2, -1) @ constants["v"].astype(np.float64), a, 1, SIZES[2], channels=3)
    np.testing.assert_allclose(found.sum(1), want, atol=1e-5 * want.max())


@pytest.mark.parametrize(("layer", "name"), [(None, "/Relu_4_output_0"), ("/MaxPool", "/MaxPool_output_0"), ("/Add_output_0",) * 2])
def test_layers_of_the_demonstration_model(layer: str | None, name: str) -> None:
    """From the recorded gradient and the values of the layer. Where the map is not enlarged, or by a whole factor, its mean is that of
    the layer's places."""
    x = IMAGES[:3]
    gradient = explain(MODEL, x, target=3, composite="gradient", record=name, **OPTIONS).relevances[name]
    values = Explainer(MODEL, output=name, **OPTIONS).explain(x).output
    cam = np.maximum((gradient.mean((2, 3), keepdims=True) * values).sum(1), 0)
    found = grad_cam(MODEL, x, 3, layer=layer, **OPTIONS)
    assert found.target.tolist() == [3, 3, 3]
    np.testing.assert_allclose(found.relevance.mean((1, 2, 3)), cam.mean((1, 2)), rtol=1e-4)
    if cam.shape[1:] == x.shape[2:]:
        np.testing.assert_allclose(found.relevance[:, 0], cam, atol=1e-5 * cam.max())


def test_guided_grad_cam_is_the_product() -> None:
    model, *_ = net(2)
    x = samples(2)
    target = np.array([[0, 1]] * 2)
    cam = grad_cam(model, x, target, **OPTIONS).relevance.sum(2, keepdims=True)
    want = explain(model, x, target, composite="guided_backprop", **OPTIONS).relevance * cam
    np.testing.assert_allclose(grad_cam(model, x, target, guided=True, **OPTIONS).relevance, want, atol=1e-6)


def test_an_explainer_is_used_again() -> None:
    explainer = Explainer(MODEL, "gradient", **OPTIONS)
    for layer in (None, "/MaxPool", None):
        found, want = (grad_cam(one, IMAGES[:2], layer=layer, **extra) for one, extra in ((explainer, {}), (MODEL, OPTIONS)))
        np.testing.assert_array_equal(found.relevance, want.relevance)


def test_the_layer_lies_before_what_has_one_place() -> None:
    """Neither the gate of a channel nor what a 1x1 convolution makes behind the global pool is a map; the gated map is one."""
    constants = {"w": normal("w", 4, 2, 3, 3), "g": normal("g", 4, 4, 1, 1), "v": normal("v", 3, 4, 1, 1)}
    nodes = [
        node("Conv", "x w", "a"), node("GlobalAveragePool", "a", "p"), node("Conv", "p g", "q"), node("Sigmoid", "q", "s"),
        node("Mul", "a s", "gated"), node("GlobalAveragePool", "gated", "pooled"), node("Conv", "pooled v", "z"), node("Flatten", "z", "y"),
    ]  # fmt: skip
    for index, made in enumerate(nodes):
        made.name = f"node{index}"
    model, x = make_model(nodes, constants, (2, *SIZES[2])), samples(2)
    np.testing.assert_array_equal(grad_cam(model, x, **OPTIONS).relevance, grad_cam(model, x, layer="gated", **OPTIONS).relevance)


def test_a_dense_output_is_no_layer() -> None:
    """Of a segmentation the map before the output is taken; with a linear head that is the class's own weights times the map."""
    constants = {"w": normal("w", 4, 2, 3, 3), "v": normal("v", 3, 4, 1, 1)}
    nodes = [node("Conv", "x w", "a", pads=(1, 1, 1, 1)), node("Conv", "a v", "y")]
    nodes[1].name = "head"
    x = samples(2)
    found = grad_cam(make_model(nodes, constants, x.shape[1:]), x, (1, 2, 3), **OPTIONS).relevance.sum(1)
    padded = np.pad(x, ((0, 0), (0, 0), (1, 1), (1, 1)))
    signed = convolved(padded, constants["w"], np.zeros(4)) - convolved(padded, -constants["w"], np.zeros(4))
    want = np.maximum(np.tensordot(signed, constants["v"][1, :, 0, 0], (1, 0)), 0) / (7 * 10)
    np.testing.assert_allclose(found, want, atol=1e-5 * want.max())


@pytest.mark.parametrize(("length", "size"), [(1, 5), (4, 4), (3, 12), (4, 7), (5, 3)])
def test_enlarging_is_linear_between_centres(length: int, size: int) -> None:
    values = np.random.default_rng(0).normal(size=(2, length, 3))
    old, new = ((np.arange(count) + 0.5) / count for count in (length, size))
    want = np.stack([np.stack([np.interp(new, old, row) for row in sample.T], -1) for sample in values])
    found = enlarge(values, (size, 3))
    np.testing.assert_allclose(found, want, atol=1e-12)
    if size % length == 0:
        np.testing.assert_allclose(found.mean(1), values.mean(1), atol=1e-12)


def dense() -> Any:
    return make_model([node("MatMul", "x w")], {"w": normal("w", 5, 3)}, (5,))


@pytest.mark.parametrize(
    ("model", "options", "message"),
    [
        (MODEL, {"layer": "/Relu_9"}, "cannot take as the layer '/Relu_9': no relevance flows through a tensor of that name; did you mean"),
        (MODEL, {"layer": "logits"}, "needs a layer with as many axes as the input, 4, and 'logits' has 2"),
        (MODEL, {"record": ["/MaxPool"]}, "explains one input and records nothing, not 'image', '/MaxPool'"),
        (MODEL, {"composite": "deconvnet"}, 'Grad-CAM needs the composite "gradient"'),
        (Explainer(MODEL, "gradient", **OPTIONS), {"guided": True}, 'Guided Grad-CAM needs the composite "guided_backprop"'),
        (Explainer(MODEL, "gradient", **OPTIONS), {"record": ["/MaxPool"]}, "options (record) go with a model"),
        (dense(), {}, "needs an input with places, (N, channels, ...): 'x' has 2 axes"),
        (make_model([node("Softmax", "x", axis=1)], {}, (2, 4, 4)), {"keep_final_activation": True}, "makes none with as many axes"),
    ],
)
def test_what_cannot_be_done(model: Any, options: dict[str, Any], message: str) -> None:
    x = IMAGES[:1] if model is MODEL or isinstance(model, Explainer) else np.ones((1, 5), np.float32)
    given = options if isinstance(model, Explainer) else options | OPTIONS
    with pytest.raises(InputError) as error:
        grad_cam(model, x, **given)
    assert message in str(error.value)


@pytest.mark.parametrize("target", [1, np.array([[0, 2], [1, 1]])])
def test_models_with_a_fixed_batch(target: Any) -> None:
    model, *_ = net(2)
    fixed, x = net(2)[0], samples(2)
    fixed.graph.input[0].type.tensor_type.shape.dim[0].dim_value = 1
    found, want = (grad_cam(one, x, target, **OPTIONS).relevance for one in (fixed, model))
    np.testing.assert_allclose(found, want, atol=1e-6)
