"""Every rule on every kind of affine layer, against its formula in float64."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

import numpy as np
import onnx
import pytest
from helpers import Array, Layer, Oracle, check_close, make_model, node, normal, with_weights
from onnx import helper

from onnx_lrp import CompositeError, Explainer
from onnx_lrp.composites import Composite, base_map, by_name, by_role
from onnx_lrp.operators import Role
from onnx_lrp.rules import (
    AlphaBeta,
    AlphaPlusBeta,
    ClassicGamma,
    Epsilon,
    Flat,
    Gamma,
    Gradient,
    Norm,
    Rule,
    Stabilizer,
    WindowSum,
    WSquare,
    ZBox,
    Zero,
    ZPlus,
)

# layers ---------------------------------------------------------------------------------------------------------------


def convolution(
    shape: tuple[int, ...], kernel: tuple[int, ...], op: str = "Conv", *, bias: bool = True, free: tuple[int, ...] = (), **attributes: Any
) -> Layer:
    """A Conv or ConvTranspose; `kernel` is the shape of its weights."""
    channels = kernel[0] if op == "Conv" else kernel[1] * attributes.get("group", 1)
    constants = {"W": normal(f"W{kernel}", *kernel)} | ({"b": normal(f"b{kernel}", channels)} if bias else {})
    return Layer(shape, [node(op, "x W b" if bias else "x W", **attributes)], constants, free)


def transposed(shape: tuple[int, ...], kernel: tuple[int, ...], **options: Any) -> Layer:
    return convolution(shape, kernel, "ConvTranspose", **options)


def gemm(shape: tuple[int, ...], weights: tuple[int, ...], c: tuple[int, ...] | None = None, **attributes: Any) -> Layer:
    constants = {"W": normal(f"gemm{weights}", *weights)} | ({} if c is None else {"b": normal(f"c{c}", *c)})
    return Layer(shape, [node("Gemm", "x W" if c is None else "x W b", **attributes)], constants)


def pool(shape: tuple[int, ...], kernel: list[int], free: tuple[int, ...] = (), **attributes: Any) -> Layer:
    return Layer(shape, [node("AveragePool", "x", kernel_shape=kernel, **attributes)], {}, free)


def reduction(op: str, shape: tuple[int, ...], axes: list[int], free: tuple[int, ...] = (), **attributes: Any) -> Layer:
    return Layer(shape, [node(op, "x axes", **attributes)], {"axes": np.array(axes)}, free)


def scale(op: str, inputs: str, shape: tuple[int, ...], constant: tuple[int, ...], free: tuple[int, ...] = ()) -> Layer:
    """Mul, Div, Add or Sub with the constant W (for products) or c."""
    name = "W" if "W" in inputs else "c"
    value = normal(f"scale{constant}", *constant)
    return Layer(shape, [node(op, inputs)], {name: np.where(np.abs(value) < 0.2, np.float32(0.5), value)}, free)


def matmul(inputs: str, shape: tuple[int, ...], weights: tuple[int, ...], bias: tuple[int, ...] | None = None) -> Layer:
    nodes = [node("MatMul", inputs)] if bias is None else [node("MatMul", inputs, "z"), node("Add", "z b")]
    return Layer(shape, nodes, {"W": normal(f"matmul{weights}", *weights)} | ({} if bias is None else {"b": normal(f"b{bias}", *bias)}))


def batch_norm(shape: tuple[int, ...]) -> Layer:
    names = ("W", "shift", "mean", "variance")
    constants = {name: normal(f"bn {name}", shape[0]) for name in names}
    constants["variance"] = constants["variance"] ** 2 + np.float32(0.5)
    return Layer(shape, [node("BatchNormalization", "x W shift mean variance", epsilon=1e-3)], constants)


def resize(shape: tuple[int, ...], scales: list[float], mode: str, **attributes: Any) -> Layer:
    return Layer(shape, [node("Resize", "x - scales", mode=mode, **attributes)], {"scales": np.array([1.0, *scales], np.float32)})


LAYERS: dict[str, Layer] = {
    "conv1d strided": convolution((3, 17), (4, 3, 4), strides=[3], pads=[2, 0]),
    "conv1d unused tail": convolution((2, 12), (3, 2, 2), strides=[5]),
    "conv1d free length": convolution((2, 12), (3, 2, 3), strides=[2], pads=[0, 1], free=(1,)),
    "conv1d unused tail, free": convolution((2, 13), (3, 2, 2), strides=[5], free=(1,)),
    "conv1d windows of padding": convolution((2, 5), (3, 2, 2), pads=[3, 4]),
    "conv1d windows of padding, strided": convolution((2, 5), (3, 2, 2), pads=[3, 4], strides=[2]),
    "conv1d windows of padding, free": convolution((2, 5), (3, 2, 2), pads=[3, 4], strides=[2], free=(1,)),
    "conv2d odd": convolution((3, 8, 7), (5, 3, 3, 2), strides=[2, 1], pads=[1, 0, 2, 1]),
    "conv2d odd, free": convolution((3, 8, 7), (5, 3, 3, 2), strides=[2, 3], pads=[1, 0, 2, 1], free=(1, 2)),
    "conv2d one free": convolution((3, 8, 7), (5, 3, 3, 2), strides=[2, 3], pads=[1, 0, 2, 1], free=(2,)),
    "conv2d stride 1": convolution((5, 5, 6), (4, 5, 3, 3), pads=[1, 1, 1, 1]),
    "conv2d stride 1, free": convolution((5, 5, 6), (4, 5, 3, 3), pads=[1, 0, 2, 1], free=(1, 2)),
    "conv2d dilated": convolution((2, 9, 8), (3, 2, 2, 3), dilations=[3, 2], strides=[2, 1], pads=[2, 0, 1, 3]),
    "conv2d dilated, stride 1": convolution((5, 7, 6), (3, 5, 2, 3), dilations=[3, 2], pads=[2, 0, 1, 3]),
    "conv2d groups": convolution((4, 6, 6), (6, 2, 3, 3), group=2, strides=[2, 2], pads=[0, 1, 1, 0]),
    "conv2d groups, stride 1": convolution((4, 5, 5), (6, 2, 3, 3), group=2),
    "conv2d groups, free": convolution((4, 6, 6), (6, 2, 3, 3), group=2, strides=[2, 2], pads=[0, 1, 1, 0], free=(1, 2)),
    "conv2d depthwise": convolution((3, 6, 5), (6, 1, 3, 2), group=3, strides=[1, 2], pads=[1, 1, 1, 1]),
    "conv2d depthwise, stride 1": convolution((3, 6, 5), (3, 1, 3, 3), group=3, pads=[1, 1, 1, 1]),
    "conv2d 1x1 without bias": convolution((6, 4, 4), (3, 6, 1, 1), bias=False),
    "conv2d same upper": convolution((2, 7, 8), (3, 2, 4, 3), auto_pad="SAME_UPPER", strides=[2, 3]),
    "conv2d same lower": convolution((2, 7, 8), (3, 2, 4, 3), auto_pad="SAME_LOWER", strides=[2, 3]),
    "conv2d same lower, stride 1, free": convolution((2, 5, 6), (3, 2, 4, 3), auto_pad="SAME_LOWER", free=(1, 2)),
    "conv2d valid": convolution((2, 7, 8), (3, 2, 2, 3), auto_pad="VALID", strides=[2, 3]),
    "conv3d": convolution((2, 4, 5, 4), (3, 2, 2, 3, 2), strides=[1, 2, 3], pads=[0, 1, 1, 1, 0, 2]),
    "conv3d free": convolution((2, 4, 5, 4), (3, 2, 2, 3, 2), strides=[1, 2, 3], pads=[0, 1, 1, 1, 0, 2], free=(1, 2, 3)),
    "transposed 1d": transposed((3, 6), (3, 4, 3), strides=[2], pads=[1, 0], output_padding=[1]),
    "transposed 2d": transposed((3, 4, 5), (3, 2, 3, 2), strides=[2, 3], pads=[1, 0, 0, 1], output_padding=[1, 2]),
    "transposed 2d, free": transposed((3, 4, 5), (3, 2, 3, 2), strides=[2, 3], output_padding=[1, 2], free=(1, 2)),
    "transposed 2d groups": transposed((4, 4, 3), (4, 3, 2, 3), group=2, strides=[2, 1]),
    "transposed 2d dilated": transposed((2, 4, 3), (2, 3, 2, 3), dilations=[2, 3], bias=False),
    "transposed 2d same upper": transposed((2, 4, 3), (2, 3, 3, 4), auto_pad="SAME_UPPER", strides=[2, 2]),
    "transposed 2d output shape": transposed((2, 4, 3), (2, 3, 3, 4), output_shape=[8, 7], strides=[2, 2]),
    "transposed 3d": transposed((2, 3, 2, 3), (2, 3, 2, 2, 3), strides=[2, 1, 2], pads=[1, 0, 0, 0, 1, 0]),
    "gemm": gemm((7,), (7, 5), (5,)),
    "gemm transB": gemm((7,), (5, 7), (1, 5), transB=1),
    "gemm alpha beta": gemm((7,), (7, 5), (5,), alpha=-0.5, beta=2.0),
    "gemm scalar C": gemm((7,), (5, 7), (), transB=1, beta=0.5),
    "gemm C of one": gemm((7,), (7, 5), (1,)),
    "gemm C of one by one": gemm((7,), (7, 5), (1, 1)),
    "gemm without C": gemm((7,), (7, 5), alpha=2.0),
    "gemm transA": Layer(
        (6,),
        [node("Transpose", "x", "t", perm=[1, 0]), node("Gemm", "t W b", transA=1)],
        {"W": normal("transA", 6, 4), "b": normal("transA b", 4)},
    ),
    "matmul right": matmul("x W", (7,), (7, 4)),
    "matmul right, bias": matmul("x W", (7,), (7, 4), (4,)),
    "matmul right, 3-D, bias": matmul("x W", (3, 5), (5, 4), (4,)),
    "matmul left, 3-D": matmul("W x", (3, 5), (4, 3)),
    "matmul left, 3-D, bias": matmul("W x", (3, 5), (4, 3), (4, 1)),
    "matmul vector": matmul("x W", (3, 5), (5,)),
    "matmul left vector": matmul("W x", (3, 5), (3,)),
    "matmul batch of weights": matmul("x W", (2, 3, 5), (2, 5, 4)),
    "matmul repeated by weights": matmul("x W", (1, 3, 5), (2, 5, 4)),
    "average pool": pool((2, 6, 6), [2, 2], strides=[2, 2]),
    "average pool 1d": pool((2, 9), [4], strides=[3], pads=[1, 2]),
    "average pool overlapping": pool((2, 6, 5), [3, 2], strides=[2, 1], pads=[1, 0, 1, 1]),
    "average pool overlapping, free": pool((2, 6, 5), [3, 2], (1, 2), strides=[2, 1], pads=[1, 0, 1, 1]),
    "average pool counts padding": pool((2, 6, 5), [3, 2], strides=[2, 1], pads=[1, 0, 1, 1], count_include_pad=1),
    "average pool ceil": pool((2, 6, 7), [3, 2], strides=[2, 3], ceil_mode=1),
    "average pool ceil, padded": pool((2, 6, 7), [3, 2], strides=[2, 3], pads=[1, 0, 0, 1], ceil_mode=1),
    "average pool ceil, free": pool((2, 6, 7), [3, 2], (1, 2), strides=[2, 3], pads=[1, 0, 0, 1], ceil_mode=1),
    "average pool ceil, counts padding": pool((2, 6, 6), [3, 3], strides=[2, 2], pads=[1, 0, 0, 0], ceil_mode=1, count_include_pad=1),
    "average pool stride 1": pool((2, 5, 5), [3, 2], pads=[1, 1, 1, 0]),
    "average pool gaps": pool((2, 7, 8), [2, 2], strides=[3, 3]),
    "average pool 3d": pool((2, 4, 5, 4), [2, 3, 2], strides=[2, 1, 2], pads=[0, 1, 0, 0, 1, 1]),
    "global average pool": Layer((3, 4, 5), [node("GlobalAveragePool", "x")]),
    "global average pool, free": Layer((3, 4, 5), [node("GlobalAveragePool", "x")], free=(1, 2)),
    "global average pool 1d": Layer((3, 6), [node("GlobalAveragePool", "x")]),
    "mean": reduction("ReduceMean", (3, 4, 5), [2, 3], keepdims=1),
    "mean without axes kept, free": reduction("ReduceMean", (3, 4, 5), [1, -1], (0, 2), keepdims=0),
    "sum": reduction("ReduceSum", (3, 4, 5), [-2], keepdims=0),
    "sum of two axes, free": reduction("ReduceSum", (3, 4, 5), [3, 1], (0, 1), keepdims=1),
    "mul": scale("Mul", "x W", (3, 4), (3, 4)),
    "mul number, free": scale("Mul", "W x", (3, 4), (), (0, 1)),
    "mul per channel": scale("Mul", "W x", (3, 4, 2), (3, 1, 1)),
    "mul that repeats x": scale("Mul", "x W", (1, 4), (3, 1)),
    "mul that repeats x, free": scale("Mul", "x W", (3, 1), (3, 4), (1,)),
    "mul that repeats x, all free": scale("Mul", "x W", (1, 1, 2), (3, 4, 1), (0, 1, 2)),
    "div": scale("Div", "x W", (3, 4), (3, 1)),
    "add": scale("Add", "c x", (3, 4), (4,)),
    "add that repeats x": scale("Add", "x c", (3, 1, 2), (1, 4, 2)),
    "add that repeats x, free": scale("Add", "x c", (3, 1), (3, 4), (1,)),
    "sub": scale("Sub", "x c", (3, 4), (3, 1)),
    "sub from a constant": scale("Sub", "c x", (3, 4), (1,)),
    "mul, then add": Layer((3, 4), [node("Mul", "x W", "z"), node("Add", "z c")], {"W": normal("w", 4), "c": normal("c", 3, 1)}),
    "batch norm": batch_norm((4, 3, 3)),
    "batch norm of vectors": batch_norm((6,)),
    "resize linear": resize((2, 3, 4), [1.0, 2.0, 1.5], "linear"),
    "resize linear smaller": resize((2, 6, 5), [1.0, 0.5, 0.6], "linear", coordinate_transformation_mode="asymmetric"),
    "resize to sizes": Layer((2, 3, 4), [node("Resize", "x - - sizes", mode="linear", axes=[2, 3])], {"sizes": np.array([5, 6])}),
    "resize nearest": resize((2, 3, 4), [1.0, 2.0, 1.5], "nearest"),
    "resize nearest smaller": resize((2, 5, 4), [1.0, 0.5, 0.75], "nearest", nearest_mode="floor"),
}
TYPICAL = ("conv2d odd", "conv2d groups, stride 1", "transposed 2d groups", "gemm", "matmul left, 3-D, bias", "mul, then add",
           "average pool overlapping", "mean")  # fmt: skip

# rules ----------------------------------------------------------------------------------------------------------------

Formula = Callable[[Oracle], Array]
STABILIZERS: dict[str, tuple[Any, dict[str, Any]]] = {
    "": (1e-6, {"epsilon": 1e-6}),
    " 0.25": (0.25, {"epsilon": 0.25}),
    " clip": (Stabilizer(0.5, "clip"), {"epsilon": 0.5, "mode": "clip"}),
    " scaled": (Stabilizer(0.125, "scaled"), {"epsilon": 0.125, "mode": "scaled"}),
    " none": (0.0, {"epsilon": 0.0}),
}
WITH_BIAS: dict[str, tuple[Callable[..., Rule], Formula]] = {
    "epsilon": (Epsilon, Oracle.epsilon_rule),
    "zplus": (ZPlus, Oracle.zplus),
    "alpha2beta1": (lambda **o: AlphaBeta(2, 1, **o), lambda o: o.alpha_beta(2, 1)),
    "alpha1beta0": (lambda **o: AlphaBeta(1, 0, **o), lambda o: o.alpha_beta(1, 0)),
    "alpha3beta2 conserve": (lambda **o: AlphaBeta(3, 2, empty="conserve", **o), lambda o: o.alpha_beta(3, 2, conserve=True)),
    "alpha1beta0 conserve": (lambda **o: AlphaBeta(1, 0, empty="conserve", **o), lambda o: o.alpha_beta(1, 0, conserve=True)),
    "alpha 1/4 plus beta 3/4": (lambda **o: AlphaPlusBeta(0.25, **o), lambda o: o.alpha_beta(0.25, -0.75, drop=False)),
    "gamma": (Gamma, lambda o: o.gamma(0.25)),
    "gamma 2": (lambda **o: Gamma(2.0, **o), lambda o: o.gamma(2.0)),
    "gamma 0": (lambda **o: Gamma(0.0, **o), lambda o: o.gamma(0.0)),
    "classic gamma": (ClassicGamma, lambda o: o.classic_gamma(0.25)),
    "classic gamma 2": (lambda **o: ClassicGamma(2.0, **o), lambda o: o.classic_gamma(2.0)),
}
WITHOUT_BIAS: dict[str, tuple[Callable[..., Rule], Formula]] = {
    "zbox": (lambda **o: ZBox(-3.0, 2.0, **o), lambda o: o.zbox(-3.0, 2.0)),
    "zbox of positive values": (lambda **o: ZBox(0.5, 4.0, **o), lambda o: o.zbox(0.5, 4.0)),
    "wsquare": (WSquare, Oracle.wsquare),
    "wsquare of the bias": (lambda **o: WSquare(bias="square", **o), lambda o: o.wsquare(square_bias=True)),
    "flat": (Flat, Oracle.flat),
    "window sum": (WindowSum, Oracle.window_sum),
    "norm": (Norm, Oracle.epsilon_rule),
}


def rules(*, every_option: bool) -> dict[str, tuple[Rule, dict[str, Any], Formula]]:
    """Name -> (the rule, the oracle's options, its formula)."""
    found: dict[str, tuple[Rule, dict[str, Any], Formula]] = {}
    stabilizers = STABILIZERS if every_option else {"": STABILIZERS[""]}
    for (name, (make, formula)), (suffix, (given, options)) in itertools.product((WITH_BIAS | WITHOUT_BIAS).items(), stabilizers.items()):
        key = "epsilon" if make is Epsilon else "stabilizer"
        found[name + suffix] = make(**{key: given}), options, formula
    found["zero"] = Zero(), {"epsilon": 0.0}, Oracle.epsilon_rule
    found["gradient"] = Gradient(), {}, Oracle.gradient
    biases = ("ignore", "redistribute")
    for name, (make, formula) in WITHOUT_BIAS.items():
        if every_option and "bias" not in name:
            found[f"{name}, redistribute"] = make(bias="redistribute"), {"bias": "redistribute"}, formula
    for (name, (make, formula)), bias in itertools.product(WITH_BIAS.items(), biases):
        if every_option or (name, bias) in (("epsilon", "ignore"), ("zplus", "redistribute")):
            found[f"{name}, bias {bias}"] = make(bias=bias), {"bias": bias}, formula
        if every_option:
            given, options = STABILIZERS[" clip"]
            found[f"{name} clip, bias {bias}"] = make(bias=bias, stabilizer=given), {"bias": bias, **options}, formula
    return found


BASIC, ALL = rules(every_option=False), rules(every_option=True)
# Pools' weights count as ones in WSquare: their common factor cancels, but for stabilisers that are not small.
CASES = [(layer, name) for layer in TYPICAL for name in ALL if "W" in LAYERS[layer].constants or not name.startswith("wsquare ")]

# checking -------------------------------------------------------------------------------------------------------------


def chain(layer: Layer, outputs: int, *, before: bool, after: bool, batch: int | None = None) -> onnx.ModelProto:
    """The layer, behind a Relu or not, and with a Relu and a small dense layer behind it or not."""
    nodes = []
    for original in layer.nodes:
        copy = onnx.NodeProto()
        copy.CopyFrom(original)
        copy.input[:] = ["relu" if before and name == "x" else name for name in original.input]
        nodes.append(copy)
    if before:
        nodes.insert(0, helper.make_node("Relu", ["x"], ["relu"], name="before"))
    if after:
        nodes += [
            helper.make_node("Relu", ["y"], ["activation"], name="activation"),
            helper.make_node("Flatten", ["activation"], ["flat"], name="flatten"),
            helper.make_node("Gemm", ["flat", "V", "c2"], ["end"], name="after"),
        ]
    constants = {**layer.constants, "V": normal("after", outputs, 3), "c2": normal("c2", 3)} if after else layer.constants
    return make_model(nodes, constants, layer.shape, free=layer.free, batch=batch, output="end" if after else "y")


def check_rule(
    layer: Layer, rule: Rule, options: dict[str, Any], formula: Formula, x: Array, *, before: bool = False, after: bool = False,
    batch: int | None = None,
) -> None:  # fmt: skip
    """Compares relevance, and the layer's output, with the oracle's."""
    affine, n = layer.affine, len(x)
    outputs = len(affine.b)
    model = chain(layer, outputs, before=before, after=after, batch=batch)
    entries = [(by_role(Role.AFFINE) & ~by_name("after"), rule), ("dense", Epsilon(0.125)), *base_map()]
    composite = rule if layer.is_layer and not after else Composite(entries)
    explainer = Explainer(model, composite, providers="cpu", threads=1)
    given = x.reshape(n, -1).astype(np.float64)
    a = np.maximum(given, 0) if before else given
    y = a @ affine.J.T + affine.b
    if after:
        V, c = normal("after", outputs, 3).astype(np.float64), normal("c2", 3).astype(np.float64)
        active = np.maximum(y, 0)
        seed = normal("seed", n, 3)
        end = active @ V + c
        R = active * ((seed / (end + 0.125 * np.where(end >= 0, 1, -1))) @ V.T)
    else:
        seed, end = normal("seed", n, outputs), y
        R = seed.astype(np.float64)
    shape = (n, 3) if after else (n, *affine.out_shape)
    explanation = explainer.explain(x, seed=seed.reshape(shape))
    check_close(explanation.output, end.reshape(shape), 1e-5, "output")
    want = formula(Oracle(affine, a, R, **options))
    check_close(explanation.relevance, want.reshape(x.shape), 1e-5 if layer.is_exact else 1e-4)


CHAINS: dict[str, dict[str, bool]] = {
    "alone": {},
    "behind a relu": {"before": True},
    "before a relu": {"after": True},
    "between": {"before": True, "after": True},
}
WEIGHTS: dict[str, Callable[[Array], Array]] = {
    "zero": lambda w: w * 0,
    "negative": lambda w: -np.abs(w),
    "positive": np.abs,
    "with zeros": lambda w: np.where(w > 0.5, np.float32(0), w),
    "of one sign per output": lambda w: np.abs(w) * np.resize([-1, 1], w.shape[0]).reshape(-1, *[1] * (w.ndim - 1)).astype(np.float32),
}


@pytest.mark.parametrize("name", BASIC)
@pytest.mark.parametrize("layer", LAYERS)
def test_basic_rules_on_all_layers(layer: str, name: str) -> None:
    check_rule(LAYERS[layer], *BASIC[name], normal("x" + layer, 2, *LAYERS[layer].shape))


@pytest.mark.parametrize("where", CHAINS)
@pytest.mark.parametrize(("layer", "name"), CASES)
def test_all_options(layer: str, where: str, name: str) -> None:
    check_rule(LAYERS[layer], *ALL[name], normal("x" + layer, 3, *LAYERS[layer].shape), **CHAINS[where])


@pytest.mark.parametrize("name", [name for name in ALL if not any(word in name for word in ("scaled", "clip", "0.25"))])
@pytest.mark.parametrize("weights", WEIGHTS)
@pytest.mark.parametrize(("layer", "where"), [*(("conv1d strided", where) for where in CHAINS), ("gemm transB", "between")])
def test_weights_and_inputs_with_zeros(layer: str, where: str, weights: str, name: str) -> None:
    """Sign parts that are empty for all or for some outputs, biases of both signs, and a sample of zeros."""
    changed = with_weights(LAYERS[layer], WEIGHTS[weights])
    x = normal("zeros" + layer, 3, *changed.shape)
    x[x > 1] = 0
    x[2] = 0
    check_rule(changed, *ALL[name], x, **CHAINS[where])


@pytest.mark.parametrize("name", ["epsilon", "zplus, bias redistribute", "gamma", "flat"])
@pytest.mark.parametrize("layer", ["conv2d groups", "gemm C of one", "matmul left, 3-D", "average pool ceil", "mean", "add"])
@pytest.mark.parametrize("samples", [1, 2, 3])
def test_models_with_a_fixed_batch_of_two(layer: str, name: str, samples: int) -> None:
    check_rule(LAYERS[layer], *BASIC[name], normal("x" + layer, samples, *LAYERS[layer].shape), batch=2)


@pytest.mark.parametrize("bounds", ["per channel", "full array", "one full array"])
@pytest.mark.parametrize("layer", ["conv1d strided", "conv2d odd, free", "conv3d", "transposed 2d", "gemm", "matmul right, 3-D, bias"])
def test_bounds_of_zbox(layer: str, bounds: str) -> None:
    shape = LAYERS[layer].shape
    axis = len(shape) - 1 if "matmul" in layer else 0  # the channels of x W come last
    spread = [length if i == axis else 1 for i, length in enumerate(shape)] if bounds == "per channel" else shape
    low, high = -1 - np.abs(normal("low", *spread)), np.abs(normal("high", *spread)) + 1
    flat_low, flat_high = (np.broadcast_to(value, shape).reshape(-1) for value in (low, high))
    given = (low.reshape(-1), high.reshape(-1)) if bounds == "per channel" else (low, high)
    if bounds == "one full array":
        given, flat_high = (low, 2.0), np.array(2.0)
    x = normal("x" + layer, 2, *shape)
    check_rule(LAYERS[layer], ZBox(*given), {}, lambda o: o.zbox(flat_low, flat_high), x)


def test_bounds_of_zbox_go_through_scale_and_shift() -> None:
    """The bounds are given for the model's input; a factor below zero makes the lowest value the highest."""
    conv = LAYERS["conv2d odd"]
    factor, shift = np.float32([[[2]], [[-1.5]], [[0.5]]]), np.float32([[[1]], [[0.25]], [[-3]]])
    nodes = [node("Mul", "x factor", "scaled"), node("Add", "scaled shift", "z"), node("Conv", "z W b", strides=[2, 1], pads=[1, 0, 2, 1])]
    model = make_model(nodes, {**conv.constants, "factor": factor, "shift": shift}, conv.shape)
    explainer = Explainer(model, ZBox(-4.0, 3.0), record=["z"], providers="cpu", threads=1)
    x, seed = normal("x", 2, *conv.shape), normal("seed", 2, *conv.affine.out_shape)
    ends = [np.broadcast_to(value * factor + shift, conv.shape).reshape(-1) for value in (-4.0, 3.0)]
    want = Oracle(conv.affine, (x * factor + shift).reshape(2, -1), seed.reshape(2, -1)).zbox(np.minimum(*ends), np.maximum(*ends))
    check_close(explainer.explain(x, seed=seed).relevances["z"], want.reshape(x.shape), 1e-5)


@pytest.mark.parametrize("name", BASIC)
def test_fixed_weights_of_both_signs(name: str) -> None:
    """Cubic resizing: rules that treat the signs apart refuse, the others work."""
    layer, x = resize((2, 4, 5), [1.0, 2.0, 1.0], "cubic"), normal("cubic", 2, 2, 4, 5)
    if isinstance(BASIC[name][0], (Epsilon, Norm, WSquare, WindowSum, Flat, Gradient)):
        check_rule(layer, *BASIC[name], x)
    else:
        with pytest.raises(CompositeError, match=r"does not fit node 'layer_Resize': Resize has fixed weights of both signs"):
            check_rule(layer, *BASIC[name], x)


@pytest.mark.parametrize("layer", [name for name, layer in LAYERS.items() if "W" in layer.constants])
def test_oracle_takes_parts_of_the_jacobian_for_jacobians_of_parts(layer: str) -> None:
    affine, part = LAYERS[layer].affine, LAYERS[layer].part
    if not any(name in layer for name in ("alpha", "without C", "div", "batch norm")):  # what the map multiplies by is not W itself
        check_close(part(lambda w: np.maximum(w, 0)), np.maximum(affine.J, 0), 1e-12)
        check_close(part(lambda w: w * w), affine.J**2, 1e-12)
    assert (affine.ones[affine.J != 0] == 1).all()
