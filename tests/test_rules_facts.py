"""What is known about the rules: published examples, identities, and the maps of another implementation."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from helpers import Affine, Array, Oracle, check_close, make_model, node, normal

from onnx_lrp import COMPOSITES, Explainer, fit_patterns, rules
from onnx_lrp.composites import Composite, base_map, option_names
from onnx_lrp.rules import AlphaBeta, ClassicGamma, Epsilon, Rule, ZBox, Zero

BOUNDED = ("epsilon_gamma_box",)


def dense_net(*layers: tuple[Any, Any], shape: Sequence[int]) -> onnx.ModelProto:
    """Dense layers (W, b) with y = W x + b, Relus between them."""
    nodes, constants, tensor = [], {}, "x"
    for index, (weights, bias) in enumerate(layers):
        if index:
            nodes.append(node("Relu", tensor, f"a{index}"))
            tensor = f"a{index}"
        constants |= {f"W{index}": np.asarray(weights, np.float32), f"b{index}": np.asarray(bias, np.float32)}
        made = node("Gemm", f"{tensor} W{index} b{index}", f"z{index}", transB=1)
        made.name = f"dense{index}"
        nodes.append(made)
        tensor = f"z{index}"
    return make_model(nodes, constants, shape, output=tensor)


def conv_net(*, bias: bool = True, zeros: bool = False) -> onnx.ModelProto:
    """Two convolutions, a maximum and a sum pool, a residual sum and two dense layers; with zeros, half of the channels are dead."""
    constants = {"W1": normal("W1", 4, 2, 3, 3), "W2": normal("W2", 4, 4, 3, 3), "W3": normal("W3", 16, 6), "W4": normal("W4", 6, 3)}
    constants |= {f"b{i}": normal(f"b{i}", n) * bias for i, n in enumerate((4, 4, 6, 3), 1)} | {"axes": np.array([2])}
    if zeros:
        for name in ("W1", "b1", "W2", "b2"):
            constants[name][:2] = 0
        constants["W3"][:, 3:] = constants["b3"][3:] = 0
        # No output lives by its bias alone, where there would be nothing to pass relevance to.
        constants["b2"], constants["b4"] = -np.abs(constants["b2"]), constants["b4"] * 0
    nodes = [
        node("Conv", "x W1 b1", "z1", pads=[1, 1, 1, 1]),
        node("Relu", "z1", "a1"),
        node("MaxPool", "a1", "p1", kernel_shape=[2, 2], strides=[2, 2]),
        node("Conv", "p1 W2 b2", "z2", pads=[1, 1, 1, 1]),
        node("Relu", "z2", "a2"),
        node("Add", "a2 p1", "r2"),
        node("ReduceSum", "r2 axes", "p2", keepdims=0),
        node("Flatten", "p2", "f"),
        node("Gemm", "f W3 b3", "z3"),
        node("Relu", "z3", "a3"),
        node("Gemm", "a3 W4 b4", "y"),
    ]
    for index, made in enumerate(nodes):
        made.name += str(index)
    return make_model(nodes, constants, (2, 8, 8))


def relevance(model: onnx.ModelProto, x: Any, composite: Any, **options: Any) -> Array:
    seed, target = options.pop("seed", None), options.pop("target", None)
    explainer = Explainer(model, composite, providers="cpu", threads=1, **options)
    return explainer.explain(np.asarray(x, np.float32), target=target, seed=seed).relevance


# identities -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("composite", [Zero(), Epsilon(0.0)], ids=str)
def test_zero_rule_is_input_times_gradient_without_biases(composite: Rule) -> None:
    x = normal("identity", 4, 2, 8, 8)
    model = conv_net(bias=False)
    base = relevance(model, x, "input_x_gradient", target=1, seed="one")
    check_close(relevance(model, x, "epsilon", epsilon=0.0, stabilizer=0.0, target=1, seed="output"), base, 1e-5)
    everywhere = Composite([(("convolution", "dense"), composite), (("pool", "sum"), rules.Norm(0.0)), *base_map()])
    check_close(relevance(model, x, everywhere, target=1), base, 1e-5)


@pytest.mark.parametrize(("alpha", "beta"), [(2, 1), (1, 0), (3, 2)])
@pytest.mark.parametrize("zeros", [False, True])
def test_alpha_beta_conserves(alpha: float, beta: float, zeros: bool) -> None:
    rule = AlphaBeta(alpha, beta, bias="ignore", empty="conserve", stabilizer=1e-12)
    explainer = Explainer(conv_net(zeros=zeros), rule, providers="cpu", threads=1)
    explanation = explainer.explain(normal("conserves", 5, 2, 8, 8))
    seed = np.take_along_axis(explanation.output, explanation.target[:, None], 1)[:, 0]
    np.testing.assert_allclose(explanation.relevance.sum((1, 2, 3)), seed, rtol=2e-5)


# shortcuts behind a Relu -----------------------------------------------------------------------------------------------

MEETING: dict[str, tuple[str, Rule]] = {
    "both behind the relu": ("a", Epsilon(0.125)),
    "one before the relu": ("z0", Epsilon(0.125)),
    "one not zero where the relu is": ("a", rules.Flat()),
    "one before it and not zero": ("z0", rules.Flat()),
}
LAYER_RULES: dict[str, tuple[Rule, Callable[[Oracle], Array]]] = {
    "epsilon": (Epsilon(), Oracle.epsilon_rule),
    "zplus": (rules.ZPlus(), Oracle.zplus),
    "gamma": (rules.Gamma(), lambda o: o.gamma(0.25)),
    "alpha_beta": (AlphaBeta(2, 1), lambda o: o.alpha_beta(2, 1)),
}


@pytest.mark.parametrize("rule", LAYER_RULES)
@pytest.mark.parametrize("meeting", MEETING)
def test_where_relevance_of_several_readers_meets(meeting: str, rule: str) -> None:
    """Relevance that comes past a Relu is zero where the Relu is; together with other relevance it is not."""
    (source, second), (given, formula) = MEETING[meeting], LAYER_RULES[rule]
    names = {"W": (5, 6), "b": (6,), "V": (6, 2), "c": (2,), "U": (6, 3), "d": (3,)}
    constants = {name: normal(f"meeting {name}", *shape) for name, shape in names.items()}
    nodes = [node("Gemm", "x W b", "z0"), node("Relu", "z0", "a"), node("Gemm", "a V c", "y0"), node("Gemm", f"{source} U d", "y1")]
    for made, name in zip(nodes, ("first", "relu", "second", "third"), strict=True):
        made.name = name
    model = make_model([*nodes, node("Concat", "y0 y1", axis=1)], constants, (5,))
    x, seed = normal("meeting x", 4, 5), normal("meeting seed", 4, 5)
    got = relevance(model, x, "epsilon", epsilon=0.125, name_map=[("first", given), ("third", second)], seed=seed)
    W, b, V, c, U, d = (constants[name].astype(float) for name in names)

    def oracle(weights: Array, bias: Array, at: Array, R: Array) -> Oracle:
        return Oracle(Affine(weights.T, np.ones(weights.T.shape), bias, bias.shape), at, R, 0.125)

    z = x @ W + b
    a = np.maximum(z, 0)
    other = oracle(U, d, a if source == "a" else z, seed[:, 2:])
    passed = other.epsilon_rule() if isinstance(second, Epsilon) else replace(other, epsilon=1e-6).flat()
    R = oracle(V, c, a, seed[:, :2]).epsilon_rule() + passed
    want = formula(replace(oracle(W, b, x.astype(float), R), epsilon=1e-6))
    check_close(got, want, 1e-5)


# published examples ---------------------------------------------------------------------------------------------------


def test_epsilon_in_captums_example() -> None:
    model = dense_net((np.full((3, 3), 2), [0, 0, 0]), (np.full((1, 3), 3), [0]), shape=(3,))
    np.testing.assert_allclose(relevance(model, [[1, 2, 3]], Epsilon()), [[18, 36, 54]], rtol=1e-5)


def test_gamma_in_captums_example() -> None:
    weights = np.full((3, 3), 2)
    weights[0, 0] = -2
    model = dense_net((weights, [0, 0, 0]), (np.full((1, 3), 3), [0]), shape=(3,))
    maps = [("dense0", ClassicGamma(1.0)), ("dense1", ClassicGamma(0.25))]
    np.testing.assert_allclose(relevance(model, [[1, 2, 3]], "epsilon", name_map=maps), [[28 / 3, 104 / 3, 52]], rtol=1e-5)


def test_a_sum_with_the_input_in_captums_example() -> None:
    nodes = [node("Gemm", "x W", "z"), node("Add", "z x")]
    model = make_model(nodes, {"W": np.full((2, 2), np.float32(5))}, (2,))
    np.testing.assert_allclose(relevance(model, [[2, 3]], Epsilon(), target=1), [[10, 18]], rtol=1e-5)


@pytest.mark.parametrize(("rule", "want"), [(AlphaBeta(1, 0), [-1, 0]), (AlphaBeta(2, 1), [-2, 0.5])], ids=str)
def test_alpha_beta_with_a_negative_bias(rule: Rule, want: list[float]) -> None:
    """Each sign part counts its part of the bias only."""
    model = dense_net(([[1, -1]], [-1]), shape=(2,))
    np.testing.assert_allclose(relevance(model, [[1, 1]], rule), [want], rtol=1e-5, atol=1e-7)


def test_zero_rule_with_biases() -> None:
    model = dense_net(([[3, 4], [5, 6]], [7, 8]), shape=(2,))
    seed = np.float32([[1, 2]]) / np.float32(3)
    np.testing.assert_allclose(relevance(model, [[1, 2]], Zero(), seed=seed), [[17 / 90, 316 / 675]], rtol=1e-6)


@pytest.mark.parametrize(("alpha", "beta"), [(2, 2), (1, 1), (0.5, -0.5), (-1, -2), (1, 0.5)])
def test_alpha_beta_refuses_what_does_not_fit(alpha: float, beta: float) -> None:
    with pytest.raises(ValueError, match="AlphaBeta"):
        AlphaBeta(alpha, beta)


# zeros ----------------------------------------------------------------------------------------------------------------

EVERY_RULE: list[Rule] = [
    *(kind(stabilizer=stab) for kind in (rules.ZPlus, rules.Gamma, rules.ClassicGamma, rules.WSquare, rules.Flat) for stab in (1e-6, 0.0)),
    *(AlphaBeta(2, 1, stab, bias, empty) for stab in (1e-6, 0.0) for bias in ("absorb", "ignore") for empty in ("drop", "conserve")),
    *(kind(bias=bias) for kind in (Zero, Epsilon, rules.ZPlus, rules.Gamma) for bias in ("ignore", "redistribute")),
    *(Epsilon(rules.Stabilizer(epsilon, mode)) for epsilon in (1e-6, 0.0) for mode in ("plain", "clip", "scaled")),
    *(ZBox(low, high, stab) for low, high in ((0.0, 0.0), (-1.0, 0.0), (0.0, 1.0)) for stab in (1e-6, 0.0)),
]


@pytest.mark.parametrize("rule", EVERY_RULE, ids=str)
def test_zeros_never_give_nan(rule: Rule) -> None:
    """Zeros in the input, in weights and biases, and outputs without any contribution; explain() itself refuses NaN and infinity."""
    x = normal("zeros", 3, 2, 8, 8)
    x[0], x[1, :, ::2], x[1, 1] = 0, 0, 0
    for bias in (True, False):
        explanation = Explainer(conv_net(zeros=True, bias=bias), rule, providers="cpu", threads=1).explain(x, target=0, seed="one")
        assert np.isfinite(explanation.relevance).all()
        assert explanation.conservation.closes()
        assert not bias or np.abs(explanation.output).max() > 0


@pytest.mark.parametrize("composite", COMPOSITES)
def test_composites_on_zeros(composite: str) -> None:
    takes = option_names(COMPOSITES[composite])
    options: dict[str, Any] = {"low": -1.0, "high": 1.0} if "low" in takes else {}
    for model in (conv_net(zeros=True), conv_net(zeros=True, bias=False)):
        if "patterns" in takes:
            options["patterns"] = fit_patterns(model, np.zeros((2, 2, 8, 8)), providers="cpu", threads=1)
        assert np.isfinite(relevance(model, np.zeros((2, 2, 8, 8)), composite, target=0, seed="one", **options)).all()


# zennit ---------------------------------------------------------------------------------------------------------------

GRADIENTS = ("gradient", "guided_backprop", "deconvnet")
KEYS = (
    "epsilon_plus",
    "epsilon_plus_flat",
    "epsilon_alpha2_beta1",
    "epsilon_alpha2_beta1_flat",
    "epsilon_gamma_box",
    "excitation_backprop",
    *GRADIENTS,
)


def zennit_map(model: Path, reference: Any, key: str) -> tuple[Array, Array]:
    """Our relevance and output for a reference's input and targets."""
    options = {"low": float(reference["low"]), "high": float(reference["high"])} if key in BOUNDED else {}
    explainer = Explainer(model, key, providers="cpu", **options)
    seed = "one" if key in GRADIENTS else "output"
    explanation = explainer.explain(reference["x"].astype(np.float32), target=reference["target"], seed=seed)
    return explanation.relevance, explanation.output


@pytest.mark.parametrize("key", KEYS)
@pytest.mark.parametrize("net", ["rescat", "seq1d", "mlp"])
def test_maps_equal_zennits(shared_data: Path, net: str, key: str) -> None:
    with np.load(shared_data / "zennit" / f"{net}.npz") as reference:
        got, output = zennit_map(shared_data / "zennit" / f"{net}.onnx", reference, key)
        check_close(output, reference["logits"], 1e-5, "output")
        check_close(got, reference[key], 1e-4)


@pytest.mark.parametrize("key", ["epsilon_plus", "epsilon_plus_flat", "epsilon_gamma_box", "gradient"])
def test_squeezenet_equals_zennits(shared_data: Path, key: str) -> None:
    """Sums over channels for two photographs."""
    with np.load(shared_data / "zennit" / "squeezenet.npz") as reference:
        got, output = zennit_map(shared_data / "squeezenet" / "squeezenet_fp16.onnx", reference, key)
        assert (output.reshape(2, -1).argmax(1) == reference["target"]).all()
        want = reference[key]
    assert np.linalg.norm(got.sum(1) - want) <= 1e-2 * np.linalg.norm(want)
