"""The composites: which rule each layer gets, other libraries' names, and what the options do."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import pytest
from helpers import Affine, Array, Oracle, check_close, make_model, node, normal

from onnx_lrp import COMPOSITES, CompositeError, Explainer, Patterns
from onnx_lrp.composites import ALIASES, FAMILIES, find_composite, make_composite, option_names
from onnx_lrp.rules import (
    AlphaBeta,
    AlphaPlusBeta,
    BetaSmooth,
    ClassicGamma,
    Deconvnet,
    Epsilon,
    Flat,
    FlatPool,
    Gamma,
    Gradient,
    GuidedBackprop,
    Move,
    Pass,
    Rule,
    WindowSum,
    WSquare,
    ZBox,
    Zero,
    ZPlus,
)

BOX = {"low": -1.0, "high": 2.0}


def layered(convolutions: int, dense: int, pools: tuple[int, ...] = ()) -> onnx.ModelProto:
    """Convolutions and dense layers named conv0, conv1 ..., dense0 ..., a Relu behind each but the last, pools behind some."""
    nodes, constants, tensor = [], {}, "x"

    def add(kind: str, inputs: str = "", name: str = "", **attributes: Any) -> None:
        nonlocal tensor
        nodes.append(node(kind, f"{tensor} {inputs}", f"t{len(nodes)}", **attributes))
        nodes[-1].name = name or f"{kind}{len(nodes)}"
        tensor = nodes[-1].output[0]

    for index in range(convolutions):
        constants |= {f"W{index}": normal(f"composites W{index}", 2, 2, 3, 3), f"b{index}": normal(f"composites b{index}", 2)}
        add("Conv", f"W{index} b{index}", f"conv{index}", pads=[1, 1, 1, 1])
        add("Relu")
        if index in pools:
            add("MaxPool", kernel_shape=[2, 2], strides=[2, 2])
    if convolutions:
        add("GlobalAveragePool")
        add("Flatten")
    for index in range(dense):
        constants |= {f"V{index}": normal(f"composites V{index}", 2, 2), f"c{index}": normal(f"composites c{index}", 2)}
        add("Gemm", f"V{index} c{index}", f"dense{index}")
        if index < dense - 1:
            add("Relu")
    return make_model(nodes, constants, (2, 8, 8) if convolutions else (2,), output=tensor)


def rules_of(model: onnx.ModelProto, composite: str, **options: Any) -> dict[str, Rule | None]:
    plan = Explainer(model, composite, providers="cpu", threads=1, **options).plan
    return {step.view.name: step.rule for step in plan.steps}


# which rule where -----------------------------------------------------------------------------------------------------

AB1, AB2 = AlphaBeta(1.0, 0.0), AlphaBeta(2.0, 1.0)
ZP = ZPlus(bias="ignore")
EXACT1, EXACT2, EXACT3 = AlphaBeta(1.0, 0.0, 0.0), AlphaBeta(2.0, 1.0, 0.0), AlphaBeta(3.0, 2.0, 0.0)
FLAT, SQUARE, E = Flat(0.0), WSquare(0.0), Epsilon(1e-10)
LAYERS: list[tuple[str, dict[str, Any], tuple[Rule, Rule, Rule]]] = [
    ("zero", {}, (Zero(), Zero(), Zero())),
    ("z_plus", {}, (ZPlus(), ZPlus(), ZPlus())),
    ("alpha_beta", {}, (AB2, AB2, AB2)),
    ("alpha_beta", {"alpha": 3.0, "empty": "conserve"}, (AlphaBeta(3.0, 2.0, empty="conserve"),) * 3),
    ("alpha_beta", {"beta": 0.5}, (AlphaBeta(1.5, 0.5),) * 3),
    ("gamma", {"gamma": 0.5}, (Gamma(0.5),) * 3),
    ("classic_gamma", {"gamma": 0.5}, (ClassicGamma(0.5),) * 3),
    ("w_square", {}, (WSquare(),) * 3),
    ("flat", {}, (Flat(),) * 3),
    ("sequential_preset_a", {}, (AB1, AB1, Epsilon(0.1))),
    ("sequential_preset_a_flat", {}, (Flat(), AB1, Epsilon(0.1))),
    ("sequential_preset_b", {"epsilon": 0.5}, (AB2, AB2, Epsilon(0.5))),
    ("sequential_preset_b_flat", {}, (Flat(), AB2, Epsilon(0.1))),
    ("sequential_preset_b_flat", {"flat_layers": 2}, (Flat(), Flat(), Epsilon(0.1))),
    ("deep_taylor", {}, (WSquare(), ZP, ZP)),
    ("deep_taylor_bounded", BOX, (ZBox(-1.0, 2.0), ZP, ZP)),
    ("caffe_0", {}, (E, E, E)),
    ("caffe_2", {"beta": 2.0}, (EXACT3, EXACT3, EXACT3)),
    ("caffe_6", BOX | {"beta": 2.0}, (ZBox(-1.0, 2.0), EXACT3, EXACT2)),
    ("caffe_6", BOX | {"beta": 2.0, "lower_layers": 2}, (ZBox(-1.0, 2.0), EXACT3, EXACT1)),
    ("caffe_8", BOX | {"epsilon": 0.5, "lower_layers": 3}, (ZBox(-1.0, 2.0), Epsilon(0.5), EXACT2)),
    ("caffe_8", BOX | {"lower_layers": 0}, (ZBox(-1.0, 2.0), E, EXACT1)),
    ("caffe_18", BOX | {"lower_layers": 1}, (ZBox(-1.0, 2.0), EXACT1, EXACT1)),
    ("caffe_18", BOX | {"lower_layers": 2}, (ZBox(-1.0, 2.0), EXACT2, EXACT1)),
    ("caffe_22", {"lower_layers": 1}, (EXACT2, EXACT1, EXACT1)),
    ("caffe_22", {}, (EXACT2, EXACT2, EXACT2)),
    ("caffe_54", {"epsilon": 0.5}, (FLAT, Epsilon(0.5), Epsilon(0.5))),
    ("caffe_56", {"low_layers": 2}, (SQUARE, SQUARE, E)),
    ("caffe_58", {}, (FLAT, EXACT1, EXACT1)),
    ("caffe_60", {"beta": 2.0}, (SQUARE, EXACT3, EXACT3)),
    ("caffe_100", {"beta": 2.0}, (EXACT3, EXACT3, E)),
    ("caffe_102", {}, (FLAT, EXACT1, E)),
    ("caffe_102", {"low_layers": 0}, (EXACT1, EXACT1, E)),
    ("caffe_104", {"low_layers": 3}, (SQUARE, SQUARE, SQUARE)),
    ("caffe_114", {"beta": 2.0}, (EXACT3, E, E)),
]


@pytest.mark.parametrize(("composite", "options", "want"), LAYERS)
def test_rules_of_the_layers(composite: str, options: dict[str, Any], want: tuple[Rule, Rule, Rule]) -> None:
    found = rules_of(layered(2, 1), composite, **options)
    assert tuple(found[name] for name in ("conv0", "conv1", "dense0")) == want


TOOLBOX: list[tuple[dict[str, Any], tuple[Rule, Rule, Rule]]] = [
    ({}, (Epsilon(1e-16), WindowSum(1e-12), Move("split"))),
    ({"variant": None}, (Epsilon(1e-16), WindowSum(1e-12), Move("split"))),
    ({"variant": "Epsilon", "param": 0.01}, (Epsilon(0.01), WindowSum(0.01), Move("split"))),
    ({"variant": "alpha", "param": 2}, (AlphaPlusBeta(2, 1e-16), AlphaPlusBeta(2, 1e-16), Move("split"))),
    ({"variant": "flat"}, (FLAT, FLAT, FlatPool())),
    ({"variant": "w^2"}, (SQUARE, FLAT, FlatPool())),
]


@pytest.mark.parametrize(("options", "want"), TOOLBOX)
def test_rules_of_lrp_toolboxs_variants(options: dict[str, Any], want: tuple[Rule, Rule, Rule]) -> None:
    found = rules_of(layered(2, 1, pools=(0,)), "lrp_toolbox", **options)
    assert (found["conv0"], found["GlobalAveragePool6"], found["MaxPool3"]) == want
    assert found["conv1"] == found["dense0"] == want[0]
    assert found["Relu2"] == Pass()


def vgg16_rules(composite: str, **options: Any) -> list[tuple[int, Rule | None]]:
    """The rules of VGG16's layers, with their numbers as torchvision counts: every layer, ReLU and pool has one."""
    pools = (1, 3, 6, 9, 12)
    found = rules_of(layered(13, 3, pools), composite, **BOX, **options)
    numbers, number = [], 0
    for index in range(13):
        numbers.append(number)
        number += 3 if index in pools else 2
    assert number == 31  # the average pool
    return [*zip(numbers, (found[f"conv{i}"] for i in range(13)), strict=True), *((32, found[f"dense{i}"]) for i in range(3))]


def test_lrp_tutorial_on_vgg16() -> None:
    for number, rule in vgg16_rules("lrp_tutorial"):
        want = ZBox(-1.0, 2.0) if number == 0 else Gamma(0.25) if number <= 16 else Epsilon(0.25) if number <= 30 else Zero()
        assert rule == want, number


def test_decreasing_gamma_on_vgg16() -> None:
    for number, rule in vgg16_rules("decreasing_gamma", gamma1=0.5, gamma2=0.125):
        want = ZBox(-1.0, 2.0) if number == 0 else Gamma(0.5) if number <= 17 else Gamma(0.125) if number <= 24 else Zero()
        assert rule == want, number


def test_rules_by_depth_without_convolutions() -> None:
    """The dense layers but the last take the place of the convolutions."""
    found = rules_of(layered(0, 5), "lrp_tutorial", **BOX)
    assert [found[f"dense{i}"] for i in range(5)] == [ZBox(-1.0, 2.0), Gamma(0.25), Epsilon(0.25), Epsilon(0.25), Zero()]
    assert rules_of(layered(0, 2), "decreasing_gamma", **BOX)["dense1"] == Zero()
    assert rules_of(layered(0, 1), "decreasing_gamma", **BOX)["dense0"] == ZBox(-1.0, 2.0)


# what comes out -------------------------------------------------------------------------------------------------------


def dense_net() -> tuple[onnx.ModelProto, list[Array]]:
    """Two dense layers with a Relu between them, and their weights and biases in float64."""
    values = [normal(f"composites dense {i}", *shape) for i, shape in enumerate([(4, 5), (5,), (5, 3), (3,)])]
    nodes = [node("Gemm", "x W b", "z"), node("Relu", "z", "a"), node("Gemm", "a V c")]
    nodes[2].name = "second"
    return make_model(nodes, dict(zip("WbVc", values, strict=True)), (4,)), [value.astype(float) for value in values]


def relevance(model: onnx.ModelProto, x: Array, composite: str, seed: Array, **options: Any) -> Array:
    return Explainer(model, composite, providers="cpu", threads=1, **options).explain(x, seed=seed).relevance


@pytest.mark.parametrize(("composite", "options"), [("deep_taylor", {}), ("deep_taylor_bounded", {"low": -3.0, "high": 3.0})])
def test_deep_taylor_conserves(composite: str, options: dict[str, float]) -> None:
    """Its rules, one behind the other; whatever arrives at a hidden neuron that fires goes on in full."""
    model, (W, b, V, c) = dense_net()
    x, seed = normal("deep taylor", 6, 4), np.abs(normal("deep taylor seed", 6, 3))
    hidden = np.maximum(x @ W + b, 0)
    R = Oracle(Affine(V.T, np.ones((3, 5)), c, (3,)), hidden, seed, bias="ignore").zplus()
    first = Oracle(Affine(W.T, np.ones((5, 4)), b, (5,)), x.astype(float), R)
    got = relevance(model, x, composite, seed, **options)
    check_close(got, first.zbox(-3.0, 3.0) if options else first.wsquare(), 1e-5)
    np.testing.assert_allclose(got.sum(1), R.sum(1), rtol=1e-5)


@pytest.mark.parametrize("beta", [10.0, 0.5, 0.0])
def test_beta_smooth_is_the_gradient_through_softplus_gates(beta: float) -> None:
    model, (W, b, V, _) = dense_net()
    x, seed = normal("beta smooth", 6, 4), normal("beta smooth seed", 6, 3)
    gate = 1 / (1 + np.exp(-beta * (x @ W + b)))
    check_close(relevance(model, x, "beta_smooth", seed, beta=beta), (seed @ V.T * gate) @ W.T, 1e-5)


@pytest.mark.parametrize("name", ["sensitivity", "caffe_99"])
def test_sensitivity_is_the_gradients_length_over_the_channels(name: str) -> None:
    x, seed = normal("sensitivity", 3, 2, 8, 8), normal("sensitivity seed", 3, 2)
    model = layered(2, 1)
    gradient = relevance(model, x, "gradient", seed)
    want = np.broadcast_to(np.sqrt((gradient**2).sum(1, keepdims=True)), gradient.shape)
    assert np.abs(want).max() > 0
    check_close(relevance(model, x, name, seed), want, 1e-5)


def test_sensitivity_without_channels_is_the_absolute_gradient() -> None:
    model, _ = dense_net()
    x, seed = normal("sensitivity 1", 3, 4), normal("sensitivity 1 seed", 3, 3)
    check_close(relevance(model, x, "sensitivity", seed), np.abs(relevance(model, x, "gradient", seed)), 1e-6)


def test_caffes_flat_counts_the_channels() -> None:
    """Spread over the window and its channels, relevance keeps its sum; the extension itself divides by the window alone."""
    model = make_model([node("Conv", "x W b")], {"W": normal("flat W", 2, 3, 2, 2), "b": normal("flat b", 2)}, (3, 5, 5))
    x, seed = normal("flat x", 2, 3, 5, 5), normal("flat seed", 2, 2, 4, 4)
    np.testing.assert_allclose(relevance(model, x, "caffe_54", seed).sum((1, 2, 3)), seed.sum((1, 2, 3)), rtol=1e-4)


SHARES = [([0, 1], [0, 2]), ([1, 0], [-1, 0]), ([2, 4], [-1, 2])]


@pytest.mark.parametrize(("x", "want"), SHARES)
@pytest.mark.parametrize(("name", "options"), [("lrp_toolbox", {"variant": "alphabeta", "param": 2.0}), ("lrp.alpha_2_beta_1", {})])
def test_alpha_beta_with_weights_of_both_signs(name: str, options: dict[str, Any], x: list[int], want: list[int]) -> None:
    model = make_model([node("Gemm", "x W")], {"W": np.float32([[-1], [1]])}, (2,))
    np.testing.assert_allclose(relevance(model, np.float32([x]), name, np.float32([[1]]), **options), [want], rtol=1e-5)


@pytest.mark.parametrize(("name", "want"), [("lrp.alpha_1_beta_0", [-1, 0]), ("lrp.alpha_2_beta_1", [-2, 0.5])])
def test_alpha_beta_with_a_bias(name: str, want: list[float]) -> None:
    model = make_model([node("Gemm", "x W b")], {"W": np.float32([[1], [-1]]), "b": np.float32([-1])}, (2,))
    np.testing.assert_allclose(relevance(model, np.ones((1, 2), np.float32), name, np.float32([[-1]])), [want], rtol=1e-5, atol=1e-7)


# names and options ----------------------------------------------------------------------------------------------------

INNVESTIGATE = """gradient input_t_gradient deconvnet guided_backprop deep_taylor deep_taylor.bounded lrp.z lrp.epsilon lrp.w_square
lrp.flat lrp.alpha_beta lrp.alpha_2_beta_1 lrp.alpha_2_beta_1_IB lrp.alpha_1_beta_0 lrp.alpha_1_beta_0_IB lrp.z_plus lrp.z_plus_fast
lrp.sequential_preset_a lrp.sequential_preset_b lrp.sequential_preset_a_flat lrp.sequential_preset_b_flat
lrp.sequential_preset_b_flat_until_idx""".split()
ZENNIT = "EpsilonPlus EpsilonPlusFlat EpsilonAlpha2Beta1 EpsilonAlpha2Beta1Flat EpsilonGammaBox ExcitationBackprop BetaSmooth".split()
CAFFE = [f"caffe_{number}" for number in (0, 2, 6, 8, 11, 18, 22, 26, 54, 56, 58, 60, 99, 100, 102, 104, 114, 166)]


RULES: dict[str, Rule] = {
    "lrp.z": Zero(),
    "lrp.epsilon": Epsilon(1e-7),
    "lrp.w_square": WSquare(),
    "lrp.flat": Flat(),
    "lrp.alpha_2_beta_1": AB2,
    "lrp.alpha_2_beta_1_IB": AlphaBeta(2.0, 1.0, bias="ignore"),
    "lrp.alpha_1_beta_0": AB1,
    "lrp.alpha_1_beta_0_IB": AlphaBeta(1.0, 0.0, bias="ignore"),
    "lrp.z_plus": ZP,
    "lrp.z_plus_fast": ZP,
    "alpha1beta0": AlphaBeta(1.0, 0.0, bias="ignore"),
    "alpha2beta1": AlphaBeta(2.0, 1.0, bias="ignore"),
    "gamma+epsilon": ClassicGamma(0.1, 0.1),
}


def made(name: str, **options: Any) -> str:
    needed = {"low": 0.0, "high": 1.0, "patterns": Patterns({})}
    takes = option_names(find_composite(name)[0])
    return str(make_composite(name, {option: value for option, value in needed.items() if option in takes} | options))


@pytest.mark.parametrize("name", dict.fromkeys([*INNVESTIGATE, *ZENNIT, *CAFFE, *ALIASES]))
def test_names_of_other_libraries(name: str) -> None:
    assert (name in ALIASES) != (name in COMPOSITES)
    assert made(name)
    if name in RULES:
        assert [rules_of(layered(2, 1), name)[layer] for layer in ("conv0", "conv1", "dense0")] == [RULES[name]] * 3


def test_options_override_those_of_an_alias() -> None:
    assert "Epsilon(epsilon=0.5)" in made("lrp.epsilon", epsilon=0.5)
    assert "Epsilon(epsilon=1e-07)" in made("lrp.epsilon")


def test_every_composite_has_a_family() -> None:
    assert {kind.family for kind in COMPOSITES.values()} == set(FAMILIES)
    assert all(COMPOSITES[key].key == key for key in COMPOSITES)


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("lrp.epsilom", {}, "unknown composite 'lrp.epsilom'; did you mean 'lrp.epsilon'"),
        ("caffe_101", {}, "did you mean 'caffe_1"),
        ("lrp.epsilon", {"gamma": 1.0}, "composite 'lrp.epsilon' has no option 'gamma'"),
        ("lrp_tutorial", {"low": 0.0}, "lrp_tutorial needs low= and high="),
        ("decreasing_gamma", {}, "decreasing_gamma needs low= and high="),
        ("deep_taylor.bounded", {}, "deep_taylor_bounded needs low= and high="),
        ("alpha_beta", {"alpha": 2.0, "beta": 2.0}, "alpha - beta is 1"),
        ("caffe_2", {"beta": -0.5}, "beta is a finite number >= 0"),
        ("caffe_18", {"low": 0.0}, "caffe_18 needs low= and high="),
        ("caffe_22", {"lower_layers": -1}, "number of lowest layers is an int >= 0, not -1"),
        ("caffe_102", {"low_layers": -1}, "number of lowest layers is an int >= 0, not -1"),
        ("sequential_preset_a_flat", {"flat_layers": 1.5}, "number of lowest layers is an int >= 0, not 1.5"),
        ("beta_smooth", {"beta": -1.0}, "beta is a finite number >= 0"),
        ("lrp_toolbox", {"variant": "epsylon"}, "no variant 'epsylon'; did you mean 'epsilon'"),
        ("lrp_toolbox", {"variant": "epsilon"}, "variant 'epsilon' needs param=, its epsilon"),
        ("lrp_toolbox", {"variant": "alphabeta"}, "variant 'alphabeta' needs param=, its alpha"),
        ("lrp_toolbox", {"variant": "simple", "param": 1.0}, "variant 'simple' takes no param"),
        ("lrp_toolbox", {"variant": "alpha", "param": float("nan")}, "alpha is a finite number"),
        ("lrp_toolbox", {"variant": "epsilon", "param": -1.0}, "epsilon is a finite number"),
    ],
)
def test_what_is_refused(name: str, options: dict[str, Any], message: str) -> None:
    with pytest.raises(CompositeError, match=message):
        make_composite(name, options)


def test_flat_pool_refuses_what_is_no_pool() -> None:
    model = make_model([node("Max", "x c")], {"c": np.zeros(3, np.float32)}, (3,))
    with pytest.raises(CompositeError, match="is no maximum pool"):
        Explainer(model, "epsilon", layer_map=[("Max", FlatPool())])


@pytest.mark.parametrize(
    ("name", "rule"),
    [("beta_smooth", BetaSmooth(10.0)), ("caffe_11", Gradient()), ("caffe_26", Deconvnet()), ("caffe_166", GuidedBackprop())],
)
def test_rules_at_a_relu(name: str, rule: Rule) -> None:
    found = rules_of(layered(1, 1), name)
    assert found["Relu2"] == rule
    assert found["conv0"] == found["dense0"] == Gradient()
