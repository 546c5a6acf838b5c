"""The relevance under the composite "gradient" is the vector-Jacobian product, for every operator of the table."""

from collections.abc import Sequence
from contextlib import suppress
from functools import cache

import numpy as np
import pytest
from gradient_cases_functions import CASES as FUNCTIONS
from gradient_cases_layers import CASES as LAYERS
from gradient_cases_movement import CASES as MOVEMENT
from gradients import Case, Expected, check, expected
from models import branch, build, op
from onnx import ModelProto, NodeProto

from onnx_lrp import Explainer, InputError, UnsupportedOperatorError
from onnx_lrp.operators import OPERATORS, Role

CASES = {f"{case.op}-{case.name}": case for case in [*LAYERS, *MOVEMENT, *FUNCTIONS]}


@cache
def wanted(name: str) -> Expected:
    return expected(CASES[name])


def prepare(case: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    if not case.canonical:
        monkeypatch.setattr("onnx_lrp.blueprint.canonicalise", lambda graph: graph)


def test_no_two_cases_share_a_name() -> None:
    assert len(CASES) == len(LAYERS) + len(MOVEMENT) + len(FUNCTIONS)


def test_every_operator_has_a_case() -> None:
    covered = {case.key for case in CASES.values()}
    missing = [key for key, operator in OPERATORS.items() if operator.role is not Role.STOP and key not in covered]
    assert not missing
    assert covered <= set(OPERATORS)


@pytest.mark.parametrize("name", CASES)
def test_gradient(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    prepare(CASES[name], monkeypatch)
    check(CASES[name], wanted(name))


@pytest.mark.parametrize("name", [name for name, case in CASES.items() if case.free])
def test_gradient_with_symbolic_lengths(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    case = CASES[name]
    prepare(case, monkeypatch)
    check(case, wanted(name), case.free or ())


@pytest.mark.parametrize("symbolic", [range(6), None], ids=["no_length_known", "no_rank_known"])
@pytest.mark.parametrize("name", CASES)
def test_what_is_not_known_is_right_or_refused(name: str, symbolic: Sequence[int] | None, monkeypatch: pytest.MonkeyPatch) -> None:
    prepare(CASES[name], monkeypatch)
    with suppress(UnsupportedOperatorError):
        check(CASES[name], wanted(name), symbolic, same_plan=False)


def _refused() -> dict[str, ModelProto]:
    """Models on which relevance would be lost or sent to the wrong place without a word."""
    three, mean = {"x": (2, 3)}, op("ReduceMean", "x", "s", keepdims=0)
    gate, channels = op("Sigmoid", "x", "s"), op("ReduceMean", "x a", "s", keepdims=0)
    image, kernel = {"x": ("N", 2, "H", "W")}, {"w": np.ones((2, 2, 3, 3))}
    ones = {"w": np.ones(3), "b": np.ones(3), "a": np.array([0, 2])}
    then, other = branch([op("Sin", "h", "t")], "t"), branch([op("Identity", "h", "e")], "e")
    chosen = [op("Tanh", "x", "h"), op("If", "o", "a", then_branch=then, else_branch=other), op("Add", "a h")]
    return {
        "branches": build(chosen, {"x": (2, 3), "o": ()}, types={"o": np.bool_}),
        "output_shape": build([op("ConvTranspose", "x w", strides=[2, 2], output_shape=[6, 8])], image, constants=kernel),
        "same_padding": build([op("Conv", "x w", strides=[2, 2], auto_pad="SAME_UPPER")], image, constants=kernel),
        "same_pool": build([op("AveragePool", "x", kernel_shape=[3, 3], strides=[2, 2], auto_pad="SAME_LOWER")], image),
        "resize": build([op("Resize", "x - s")], image, constants={"s": np.array([1, 1, 2.0, 2])}),
        "channels": build([op("DepthToSpace", "x", blocksize=2, mode="CRD")], {"x": ("N", "C", 2, 2)}),
        "weights": build([op("Conv", "x w")], {"x": (1, 2, 5, 5), "w": (3, 2, 3, 3)}),
        "conv_bias": build([channels, op("Conv", "x k s")], {"x": (1, 3, 5)}, constants={"k": np.ones((3, 3, 1)), **ones}),
        "slope": build([gate, op("PRelu", "x s")], three),
        "exponent": build([gate, op("Pow", "x s")], three),
        "exponents_that_repeat": build([op("Pow", "x p")], {"x": ("N", 1)}, constants={"p": np.array([1.0, 2.0])}),
        "bound": build([mean, op("Clip", "x s")], three),
        "padded_value": build([mean, op("Pad", "x p s")], three, constants={"p": np.array([0, 1, 0, 1])}),
        "layer_gain": build([gate, op("LayerNormalization", "x s")], {"x": (1, 3)}),
        "layer_shift": build([gate, op("LayerNormalization", "x w s")], {"x": (1, 3)}, constants=ones),
        "instance_gain": build([channels, op("InstanceNormalization", "x s b")], {"x": (2, 3, 4)}, constants=ones),
        "batch_mean": build([channels, op("BatchNormalization", "x w b s w")], {"x": (2, 3, 4)}, constants=ones),
        "second_output": build([op("LayerNormalization", "x w", "h m"), op("Add", "h m")], three, constants=ones),
        "only_second_output": build([op("LayerNormalization", "x w", "h m"), op("Tanh", "m")], three, constants=ones),
        "vectors": build([op("MatMul", "x z", "h"), op("Reshape", "h n")], {"x": (3,), "z": (3,)}, constants={"n": np.array([1])}),
        "batch_of_weights": build([op("MatMul", "x w")], {"x": None}, constants={"w": np.ones((2, 3, 4))}),
        "unknown_operator": build([op("Einsum", "x x", equation="ij,ij->i")], three),
        "other_domain": build([op("Relu", domain="com.example")], three, domains=["com.example"]),
    }


REFUSED = _refused()


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_be_right_is_refused(name: str) -> None:
    with pytest.raises(UnsupportedOperatorError, match=r"no rule for node .[ayh]."):
        Explainer(REFUSED[name], "gradient", providers="cpu")


def test_a_parameter_that_is_not_explained_may_be_computed() -> None:
    model = build([op("Tanh", "g", "s"), op("InstanceNormalization", "x s b")], {"x": (2, 3, 4), "g": (3,)}, constants={"b": np.ones(3)})
    explainer = Explainer(model, "gradient", inputs=["x"], providers="cpu")
    assert explainer.plan.coverage == 1.0


@pytest.mark.parametrize("low", [0.0, -1.5, 0.25])
@pytest.mark.parametrize("high", [6.0, 0.5, 1.0, 0.3, 3.7, 20.0, 127.0, 1e-3])
def test_clip_passes_nothing_at_its_bounds(low: float, high: float) -> None:
    """As ReLU6 does in PyTorch and TensorFlow."""
    low, high = np.float32(low), np.float32(high)
    inside = [np.nextafter(low, np.float32(100)), (low + high) / 2, np.nextafter(high, np.float32(-100))]
    x = np.array([[low - 1, low, *(inside if low < high else [high] * 3), high, high + 1]], np.float32)
    if low == 0:
        x[0, 2] = 1e-30  # the number next to zero is denormal
    model = build([op("Clip", "x low high")], {"x": ("N", 7)}, constants={"low": low, "high": high})
    found = Explainer(model, "gradient", providers="cpu").explain(x, seed=np.full_like(x, 2)).relevance
    np.testing.assert_array_equal(found, 2.0 * ((x > low) & (x < high)))


@pytest.mark.parametrize("composite", ["gradient", "guided_backprop", "deconvnet", "beta_smooth"])
@pytest.mark.parametrize("skip", [False, True])
def test_a_pooled_relu_has_the_same_gradient_seen_or_not(composite: str, skip: bool) -> None:
    """Where nobody asks for the relevance between the two, the derivative of the ReLU is applied before that of the pool."""
    nodes = [op("Relu", "x", "r"), op("MaxPool", "r", "p", kernel_shape=[3, 3], strides=[2, 2], ceil_mode=1), op("Conv", "p w", "z")]
    nodes += [op("GlobalMaxPool", "r", "m"), op("Add", "z m")] if skip else [op("Identity", "z")]
    model = build(nodes, {"x": ("N", 3, 8, 7)}, constants={"w": np.random.default_rng(0).normal(size=(3, 3, 1, 1))})
    x = np.random.default_rng(1).integers(-3, 3, (4, 3, 8, 7)).astype(np.float32)  # many are equal, and zero
    x[0] = -1.0
    hidden, shown = (Explainer(model, composite, record=record, providers="cpu") for record in ((), ["r"]))
    seed = np.random.default_rng(2).normal(size=hidden.explain(x).output.shape).astype(np.float32)
    found, wanted = hidden.explain(x, seed=seed), shown.explain(x, seed=seed)
    np.testing.assert_array_equal(found.relevance, wanted.relevance)
    assert np.count_nonzero(found.relevance) > 20


def test_an_output_without_batch_axis_is_refused() -> None:
    model = build([op("Tanh", "x", "h"), op("ReduceSum", "h", "y", keepdims=0)], {"x": (2, 3)})
    for output in (None, "y"):
        with pytest.raises(InputError, match="'y' is a single number"):
            Explainer(model, output=output, providers="cpu")
    assert Explainer(model, "gradient", output="h", providers="cpu").plan.coverage == 1.0


@pytest.mark.parametrize(
    "node", [op("Identity"), op("Dropout"), op("Cast", to=1), op("Sum"), op("Softmax", axis=1)], ids=lambda node: node.op_type
)
def test_models_of_one_node_that_could_be_left_out(node: NodeProto) -> None:
    x = np.array([[0.5, -1.0, 2.0], [1.0, 0.0, 3.0]], np.float32)
    seed = np.ones_like(x)
    explanation = Explainer(build([node], {"x": (2, 3)}), "gradient", providers="cpu").explain(x, seed=seed)
    np.testing.assert_allclose(explanation.relevance, 0.0 if node.op_type == "Softmax" else seed, atol=1e-6)


def test_most_cases_need_no_known_length() -> None:
    refused = []
    for name, case in CASES.items():
        try:
            Explainer(case.model(range(6)), "gradient", keep_final_activation=True, providers="cpu")
        except UnsupportedOperatorError:
            refused.append(name)
    assert len(refused) < len(CASES) / 8
