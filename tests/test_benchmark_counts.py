"""The benchmark's floor and its count of the emitted graph, against counts by hand."""

from __future__ import annotations

import importlib
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

import onnx_lrp
from onnx_lrp.composites import Composite, base_map, by_name
from onnx_lrp.rules import AlphaBeta, ClassicGamma, Epsilon, Flat, Gamma, Gradient, WindowSum, WSquare, ZBox, ZPlus

BENCHMARKS = Path(__file__).resolve().parents[1] / "benchmarks"
IMAGE, DEEP, DENSE = 2 * 3 * 9 * 16, 4 * 2 * 9 * 16, 5 * 4
"""Multiply-adds of the layers of `net()`."""
FORWARD = IMAGE + DEEP + DENSE


@pytest.fixture
def benchmark(monkeypatch):
    """Imports a module of the benchmarks by its name."""
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    return importlib.import_module


def weights(*shape: int) -> onnx.TensorProto:
    return numpy_helper.from_array(np.random.default_rng(0).standard_normal(shape).astype(np.float32))


def model(nodes: list[onnx.NodeProto], shapes: dict[str, tuple[int, ...]], sample: tuple[int, ...], scores: int) -> onnx.ModelProto:
    constants = []
    for name, shape in shapes.items():
        constants.append(weights(*shape))
        constants[-1].name = name
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch", *sample])
    y = helper.make_tensor_value_info("y", TensorProto.FLOAT, ["batch", scores])
    graph = helper.make_graph(nodes, "net", [x], [y], constants)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)


def net() -> onnx.ModelProto:
    """On 3x4x4 images: a convolution of 2 channels, ReLU, one of 4 channels, mean over the places, 5 scores."""
    nodes = [
        helper.make_node("Conv", ["x", "w1"], ["a"], name="image", pads=[1, 1, 1, 1]),
        helper.make_node("Relu", ["a"], ["b"], name="relu"),
        helper.make_node("Conv", ["b", "w2"], ["c"], name="deep", pads=[1, 1, 1, 1]),
        helper.make_node("GlobalAveragePool", ["c"], ["d"], name="mean"),
        helper.make_node("Flatten", ["d"], ["e"], name="flat"),
        helper.make_node("Gemm", ["e", "w3"], ["y"], name="dense", transB=1),
    ]
    return model(nodes, {"w1": (2, 3, 3, 3), "w2": (4, 2, 3, 3), "w3": (5, 4)}, (3, 4, 4), 5)


def gated(groups: int = 2) -> onnx.ModelProto:
    """A transposed convolution by 2x2 at stride 2 in two groups, times a gate that a 1x1 convolution makes; mean, no dense layer."""
    nodes = [
        helper.make_node("ConvTranspose", ["x", "w1"], ["a"], name="enlarge", strides=[2, 2], group=groups),
        helper.make_node("GlobalAveragePool", ["a"], ["b"], name="squeeze"),
        helper.make_node("Conv", ["b", "w2"], ["c"], name="excite"),
        helper.make_node("Sigmoid", ["c"], ["g"], name="gate"),
        helper.make_node("Mul", ["a", "g"], ["d"], name="product"),
        helper.make_node("GlobalAveragePool", ["d"], ["e"], name="mean"),
        helper.make_node("Flatten", ["e"], ["y"], name="flat"),
    ]
    return model(nodes, {"w1": (4, 3, 2, 2), "w2": (6, 6, 1, 1)}, (4, 5, 5), 6)


def explainer(source: onnx.ModelProto, **rules: onnx_lrp.rules.Rule) -> onnx_lrp.Explainer:
    entries = [(by_name(name), rule) for name, rule in rules.items()]
    return onnx_lrp.Explainer(source, Composite([*entries, *base_map()]), providers="cpu", threads=1)


@pytest.mark.parametrize(
    ("image", "deep", "needed"),
    [
        (Epsilon(), Epsilon(), IMAGE + DEEP),
        (Gradient(), Gradient(), IMAGE + DEEP),
        (ZPlus(), ZPlus(), 4 * IMAGE + 2 * DEEP),
        (Flat(), ZPlus(), 9 * 16 + 2 * DEEP),
        (WSquare(), AlphaBeta(2, 1), IMAGE + 3 * DEEP),
        (AlphaBeta(2, 1), AlphaBeta(1, 0), 6 * IMAGE + 2 * DEEP),
        (ZBox(-1.0, 1.0), Gamma(0.25), 2 * IMAGE + 3 * DEEP),
        (Gamma(0.25), ClassicGamma(0.25), 4 * IMAGE + 2 * DEEP),
    ],
    ids=str,
)
def test_the_floor_is_what_the_formulas_name(benchmark, image, deep, needed) -> None:
    """The picture is of any sign and only a ReLU reads the first convolution; the second one's input is not negative."""
    floor = benchmark("floor")
    plan = explainer(net(), image=image, deep=deep, dense=Epsilon()).plan
    assert floor.forward_multiply_adds(plan) == FORWARD
    assert floor.floor(plan) * FORWARD == pytest.approx(FORWARD + needed + DENSE)


def test_a_gate_needs_no_relevance_but_a_gradient(benchmark) -> None:
    floor = benchmark("floor")
    enlarge, excite = 4 * 5 * 5 * 3 * 4, 6 * 6
    lrp = explainer(gated(), enlarge=Epsilon(), excite=Epsilon()).plan
    assert floor.floor(lrp) * (enlarge + excite) == pytest.approx(2 * enlarge + excite)
    flat = explainer(gated(), enlarge=Flat(), excite=Epsilon()).plan
    assert floor.floor(flat) * (enlarge + excite) == pytest.approx(enlarge + excite + 5 * 5 * 4 * 2)
    gradient = onnx_lrp.Explainer(gated(), "gradient", providers="cpu").plan
    assert floor.floor(gradient) == 2.0


def test_a_rule_without_floor_is_named(benchmark) -> None:
    floor = benchmark("floor")
    with pytest.raises(floor.UncountableError, match="WindowSum"):
        floor.floor(explainer(net(), image=Epsilon(), deep=WindowSum(), dense=Epsilon()).plan)


def test_the_emitted_graph_is_counted(benchmark) -> None:
    emitted = benchmark("emitted")
    assert emitted.multiply_adds(net()) == FORWARD
    assert emitted.multiply_adds(gated()) == 4 * 5 * 5 * 3 * 4 + 6 * 6
    graph = explainer(net(), image=Epsilon(), deep=Epsilon(), dense=Epsilon()).to_onnx()
    assert emitted.multiply_adds(graph) == 2 * FORWARD


def test_what_only_constants_lead_to_is_not_counted(benchmark) -> None:
    nodes = [helper.make_node("MatMul", ["u", "v"], ["w"]), helper.make_node("MatMul", ["x", "w"], ["y"])]
    assert benchmark("emitted").multiply_adds(model(nodes, {"u": (7, 8), "v": (8, 9)}, (7,), 9)) == 7 * 9
