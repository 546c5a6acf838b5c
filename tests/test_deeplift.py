"""DeepLIFT: contributions add up to the output's difference, for every operator; small nets by the formulas."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from gradient_cases_functions import CASES as FUNCTIONS
from gradient_cases_layers import CASES as LAYERS
from gradient_cases_movement import CASES as MOVEMENT
from gradients import Arrays, Case
from models import build, op, relative_error, run
from onnx.reference import ReferenceEvaluator

import onnx_lrp
from onnx_lrp import CompositeError, Explainer, UnsupportedOperatorError
from onnx_lrp.operators import OPERATORS, Role

CASES = {f"{case.op}-{case.name}": case for case in [*LAYERS, *MOVEMENT, *FUNCTIONS]}
DEMO = Path(onnx_lrp.__file__).parent / "demo" / "digits.onnx"


def forward(case: Case, inputs: Arrays) -> np.ndarray:
    """The output in float64."""
    if case.function is not None:
        return case.function(**inputs, **case.arrays()[1])
    return ReferenceEvaluator(case.model(dtype=np.float64)).run(None, inputs)[0]


def contributions(case: Case, inputs: Arrays, reference: Arrays, seed: np.ndarray) -> Arrays:
    options = {"keep_final_activation": True, "providers": "cpu", "threads": 1}
    explainer = Explainer(case.model(), "deeplift", reference=reference, **options)
    feeds = {name: np.asarray(value, np.float32 if value.dtype.kind == "f" else None) for name, value in inputs.items()}
    model = explainer.to_onnx()
    values = run(model, feeds | {"target_relevance": seed.astype(np.float32)}, [value.name for value in model.graph.output])
    return dict(zip(explainer.inputs, values[1:], strict=True))


def elsewhere(x: np.ndarray) -> np.ndarray:
    """A sample with other values from the same range."""
    return np.roll(x.reshape(-1), 1).reshape(x.shape)[:1] if x.ndim else x + 1


CHOOSING = "Where-computed_condition"
"""Which of two tensors counts depends on the input here: no part of either makes the difference."""


@pytest.mark.parametrize("name", [name for name in CASES if name != CHOOSING])
def test_contributions_add_up_to_the_difference(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    case = CASES[name]
    if not case.canonical:
        monkeypatch.setattr("onnx_lrp.blueprint.canonicalise", lambda graph: graph)
    inputs = case.arrays()[0]
    reference = {key: elsewhere(value) for key, value in inputs.items() if value.dtype.kind == "f"}
    before = inputs | {key: np.broadcast_to(value, inputs[key].shape) for key, value in reference.items()}
    difference = forward(case, inputs) - forward(case, before)
    seed = np.random.default_rng(3).standard_normal(difference.shape).astype(np.float32).astype(np.float64)
    found = contributions(case, inputs, reference, seed)
    total = sum(value.astype(np.float64).sum() for value in found.values())
    scale = sum(np.abs(value).sum() for value in found.values()) + np.abs(difference * seed).sum() + 1e-3
    assert abs(total - (difference * seed).sum()) < 2e-6 * scale
    for key, value in found.items():
        assert value.shape == inputs[key].shape
        assert not value[inputs[key] == before[key]].any(), "what does not differ contributes nothing"


def test_a_choice_that_depends_on_the_input_is_refused() -> None:
    with pytest.raises(UnsupportedOperatorError, match="Where whose input 'c' depends on the input's values"):
        Explainer(CASES[CHOOSING].model(), "deeplift", providers="cpu")


SMOOTH = [
    name
    for name, case in CASES.items()
    if OPERATORS[case.key].role in (Role.PRODUCT, Role.NORMALIZATION, Role.SOFTMAX, Role.SUM) and not name.endswith("p1")
]
"""The Lp pool of p = 1 has a kink at zero."""


@pytest.mark.parametrize("name", SMOOTH)
def test_near_the_reference_multipliers_are_the_gradient_half_way(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    case = CASES[name]
    if not case.canonical:
        monkeypatch.setattr("onnx_lrp.blueprint.canonicalise", lambda graph: graph)
    rng = np.random.default_rng(11)
    floats = {key: value for key, value in case.arrays()[0].items() if value.dtype.kind == "f"}
    reference = {key: value[:1] if value.ndim else value for key, value in floats.items()}
    inputs = case.arrays()[0] | {key: reference[key] + rng.choice([-0.01, 0.01], value.shape) for key, value in floats.items()}
    middle = inputs | {key: (inputs[key] + reference[key]) / 2 for key in floats}
    seed = rng.standard_normal(forward(case, inputs).shape)
    found = contributions(case, inputs, reference, seed)
    model = Explainer(case.model(), "gradient", keep_final_activation=True, providers="cpu", threads=1).to_onnx()
    feeds = {key: np.asarray(value, np.float32 if value.dtype.kind == "f" else None) for key, value in middle.items()}
    _, *slopes = run(model, feeds | {"target_relevance": seed.astype(np.float32)}, [value.name for value in model.graph.output])
    for (key, value), slope in zip(found.items(), slopes, strict=True):
        assert relative_error(value, slope * (inputs[key] - reference[key])) < 2e-3


ACTIVATIONS = {
    "Relu": lambda z: np.maximum(z, 0),
    "LeakyRelu": lambda z: np.where(z < 0, 0.01 * z, z),
    "Sigmoid": lambda z: 1 / (1 + np.exp(-z)),
    "Tanh": np.tanh,
    "Softplus": lambda z: np.log1p(np.exp(z)),
    "Exp": np.exp,
}


@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_a_small_net_meets_the_formulas(activation: str) -> None:
    """Dense, activation, dense, maximum of pairs, dense; the multipliers written out."""
    rng = np.random.default_rng(len(activation))
    shapes = {"A": (5, 8), "a": (8,), "B": (8, 6), "b": (6,), "C": (3, 2), "c": (2,)}
    w = {name: rng.standard_normal(shape).astype(np.float32) for name, shape in shapes.items()}
    nodes = [op("Gemm", "x A a", "u"), op(activation, "u", "h"), op("Gemm", "h B b", "v"), op("Reshape", "v three", "p")]
    nodes += [op("MaxPool", "p", "q", kernel_shape=[2], strides=[2]), op("Reshape", "q two", "r"), op("Gemm", "r C c")]
    model = build(nodes, {"x": ("N", 5)}, constants=w | {"three": np.array([-1, 1, 6]), "two": np.array([-1, 3])})
    x, x0 = rng.standard_normal((4, 5)).astype(np.float32), rng.standard_normal(5).astype(np.float32)
    f = ACTIVATIONS[activation]
    wanted = np.zeros((4, 5))
    for n in range(4):
        (u, u0) = (z.astype(float) @ w["A"] + w["a"] for z in (x[n], x0))
        v, v0 = f(u) @ w["B"] + w["b"], f(u0) @ w["B"] + w["b"]
        m = np.zeros(6)
        for pair in range(3):
            here, there = 2 * pair + int(v[2 * pair + 1] > v[2 * pair]), 2 * pair + int(v0[2 * pair + 1] > v0[2 * pair])
            top = max(v[here], v0[there])
            m[here] += w["C"][pair, 1] * (top - v0[there]) / (v[here] - v0[here])
            m[there] += w["C"][pair, 1] * (v[here] - top) / (v[there] - v0[there])
        m = (w["B"] @ m) * (f(u) - f(u0)) / (u - u0)
        wanted[n] = (w["A"] @ m) * (x[n] - x0)
    found = Explainer(model, "deeplift", reference=x0, providers="cpu", threads=1).explain(x, 1)
    assert relative_error(np.asarray(found.relevance), wanted) < 1e-4


def test_demo_contributions_add_up() -> None:
    images = np.load(DEMO.parent / "digits.npz")["images"][:4]
    reference = images.mean(0)
    for value in (0.0, reference):
        found = Explainer(DEMO, "deeplift", reference=value, providers="cpu").explain(images)
        before = Explainer(DEMO, "gradient", providers="cpu").explain(np.broadcast_to(np.float32(value), images.shape), 0).output
        rise = (found.output - before)[np.arange(4), found.target]
        np.testing.assert_allclose(np.asarray(found.relevance).sum((1, 2, 3)), rise, rtol=1e-4)


def test_several_inputs_and_recorded_tensors() -> None:
    nodes = [op("Mul", "x z", "h"), op("Tanh", "h", "t"), op("Add", "t z")]
    model = build(nodes, {"x": ("N", 3), "z": ("N", 3)})
    x, z = np.float32([[1, 2, -1], [0.5, 0, 3]]), np.float32([[0.3, -1, 1], [2, 1, 0]])
    seed = np.ones((2, 3), np.float32)
    found = Explainer(model, "deeplift", reference={"z": [1.0, 1.0, 0.5]}, record=["h"], providers="cpu").explain(
        {"x": x, "z": z}, seed=seed
    )
    rise = np.tanh(x * z) + z - np.float32([1, 1, 0.5])
    np.testing.assert_allclose(found.relevances["x"] + found.relevances["z"], rise, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(found.relevances["h"], np.tanh(x * z), rtol=1e-5, atol=1e-6)


def test_shapes_of_the_input_do_not_depend_on_its_values() -> None:
    nodes = [
        op("Tanh", "x", "h"),
        op("Shape", "h", "s"),
        op("Gather", "s i", "n"),
        op("Concat", "n minus", "to", axis=0),
        op("Reshape", "h to"),
    ]
    model = build(nodes, {"x": ("N", 2, 3)}, constants={"i": np.array([0]), "minus": np.array([-1])})
    x = np.linspace(-1, 1, 12, dtype=np.float32).reshape(2, 2, 3)
    found = Explainer(model, "deeplift", providers="cpu").explain(x, seed=np.ones((2, 6), np.float32))
    np.testing.assert_allclose(found.relevance, np.tanh(x), rtol=1e-5)


def test_masked_attention_with_its_guard_against_nan() -> None:
    mask = np.array([[0.0, 0.0, -np.inf], [-np.inf, 0.0, -np.inf]], np.float32)
    nodes = [op("Add", "x m", "a"), op("Softmax", "a", "s", axis=-1), op("IsNaN", "s", "n"), op("Where", "n zero s", "w")]
    nodes += [op("MatMul", "w v")]
    v = np.array([[1.0], [-2.0], [3.0]], np.float32)
    model = build(nodes, {"x": ("N", 2, 3)}, constants={"m": mask, "zero": np.float32(0), "v": v})
    x = np.random.default_rng(0).standard_normal((2, 2, 3)).astype(np.float32)
    found = np.asarray(Explainer(model, "deeplift", providers="cpu").explain(x, (0, 0)).relevance)
    weights = np.exp(x[:, 0, :2]) / np.exp(x[:, 0, :2]).sum(1, keepdims=True)
    np.testing.assert_allclose(found.sum((1, 2)), (weights - 0.5) @ v[:2, 0], rtol=1e-5)
    assert not found[:, 1].any()
    assert not found[:, :, 2].any()


@pytest.mark.parametrize(
    ("reference", "message"),
    [
        (np.zeros((2, 1, 16, 16)), "does not fit one sample"),
        (np.zeros(3), "does not fit one sample"),
        ({"imgae": 0.0}, "'imgae', which is not explained"),
        ("black", "a number, an array or a dict"),
        (np.nan, "NaN"),
    ],
)
def test_bad_references(reference: object, message: str) -> None:
    with pytest.raises(CompositeError, match=message):
        Explainer(DEMO, "deeplift", reference=reference, providers="cpu")


def test_the_plan_shows_the_reference() -> None:
    explainer = Explainer(DEMO, "deeplift", reference={"image": np.zeros((1, 16, 16))}, providers="cpu")
    assert "Rescale(reference of image)" in str(explainer.plan)
    assert '"reference": {' in explainer.plan.to_json()
    assert "Rescale(reference=0)" in str(Explainer(DEMO, "deeplift", providers="cpu").plan)
