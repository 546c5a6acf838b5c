"""The face: Explainer, Explanation, explain, plan, to_onnx, save, record, conservation."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from models import build, op
from onnx import TensorProto, helper, numpy_helper

import onnx_lrp
from onnx_lrp import rules
from onnx_lrp.composites import Composite, base_map, by_name, by_type, first_n, option_names

DEMO = Path(onnx_lrp.__file__).parent / "demo"


@pytest.fixture(scope="module")
def digits() -> np.ndarray:
    return np.load(DEMO / "digits.npz")["images"]


@pytest.fixture(scope="module")
def explainer() -> onnx_lrp.Explainer:
    return onnx_lrp.Explainer(DEMO / "digits.onnx", "epsilon_plus_flat")


def logits_of(x: np.ndarray) -> np.ndarray:
    session = onnxruntime.InferenceSession(DEMO / "digits.onnx", providers=["CPUExecutionProvider"])
    return session.run(None, {session.get_inputs()[0].name: x})[0]


def two_input_model(batch: str | int = "N") -> onnx.ModelProto:
    """logits = Softmax(relu(a W) + b V), with an int input that nothing reads."""
    rng = np.random.default_rng(0)
    weights = [
        numpy_helper.from_array(rng.standard_normal(shape).astype(np.float32), name) for name, shape in (("W", (4, 3)), ("V", (5, 3)))
    ]
    nodes = [
        helper.make_node("MatMul", ["a", "W"], ["aw"], name="left"),
        helper.make_node("Relu", ["aw"], ["r"], name="relu"),
        helper.make_node("MatMul", ["b", "V"], ["bv"], name="right"),
        helper.make_node("Add", ["r", "bv"], ["logits"], name="sum"),
        helper.make_node("Softmax", ["logits"], ["p"], name="softmax"),
    ]
    inputs = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [batch, size]) for name, size in (("a", 4), ("b", 5))]
    outputs = [helper.make_tensor_value_info("p", TensorProto.FLOAT, [batch, 3])]
    return helper.make_model(
        helper.make_graph(nodes, "two", inputs, outputs, weights), opset_imports=[helper.make_opsetid("", 18)], ir_version=8
    )


@pytest.fixture
def feeds() -> dict[str, np.ndarray]:
    rng = np.random.default_rng(1)
    return {"a": rng.standard_normal((6, 4)).astype(np.float32), "b": rng.standard_normal((6, 5)).astype(np.float32)}


def test_default_target_is_the_largest_output(explainer, digits) -> None:
    explanation = explainer.explain(digits)
    logits = logits_of(digits)
    np.testing.assert_allclose(explanation.output, logits, rtol=1e-5, atol=1e-5)
    np.testing.assert_array_equal(explanation.target, logits.argmax(1))
    assert explanation.relevance.shape == digits.shape
    given = explainer.explain(digits, target=logits.argmax(1))
    np.testing.assert_array_equal(given.relevance, explanation.relevance)


def test_targets_in_all_forms(explainer, digits) -> None:
    single = explainer.explain(digits, target=3)
    np.testing.assert_array_equal(single.target, np.full(len(digits), 3))
    each = explainer.explain(digits, target=[3] * len(digits))
    np.testing.assert_array_equal(each.relevance, single.relevance)
    alone = explainer.explain(digits, target=[[3]] * len(digits))  # one target per sample, asked for as several are
    np.testing.assert_array_equal(alone.relevance, single.relevance[:, None])
    several = explainer.explain(digits, target=np.tile([3, 7], (len(digits), 1)))
    assert several.relevance.shape == (len(digits), 2, *digits.shape[1:])
    assert several.target.shape == (len(digits), 2)
    assert several.output.shape == (len(digits), 10)
    np.testing.assert_allclose(several.relevance[:, 0], single.relevance, rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(several.relevance[:, 1], explainer.explain(digits, target=7).relevance, rtol=1e-4, atol=1e-6)


def test_seeds(explainer, digits) -> None:
    logits = logits_of(digits)
    output = explainer.explain(digits, target=2)
    one = explainer.explain(digits, target=2, seed="one")
    np.testing.assert_allclose(one.relevance * logits[:, 2].reshape(-1, 1, 1, 1), output.relevance, rtol=1e-3, atol=1e-5)
    start = np.zeros_like(logits)
    start[:, 2] = logits[:, 2]
    np.testing.assert_allclose(explainer.explain(digits, seed=start).relevance, output.relevance, rtol=1e-4, atol=1e-6)


def test_gradient_composites_start_with_one(digits) -> None:
    explainer = onnx_lrp.Explainer(DEMO / "digits.onnx", "gradient")
    np.testing.assert_array_equal(explainer.explain(digits, target=1).relevance, explainer.explain(digits, target=1, seed="one").relevance)


def test_targets_of_an_output_with_several_axes(tmp_path) -> None:
    weight = numpy_helper.from_array(np.random.default_rng(0).standard_normal((2, 1, 3, 3)).astype(np.float32), "w")
    nodes = [helper.make_node("Conv", ["x", "w"], ["y"], pads=[1, 1, 1, 1])]
    x_info = helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N", 1, 5, 6])
    y_info = helper.make_tensor_value_info("y", TensorProto.FLOAT, ["N", 2, 5, 6])
    model = helper.make_model(
        helper.make_graph(nodes, "g", [x_info], [y_info], [weight]), opset_imports=[helper.make_opsetid("", 18)], ir_version=8
    )
    x = np.random.default_rng(1).standard_normal((3, 1, 5, 6)).astype(np.float32)
    explainer = onnx_lrp.Explainer(model, "epsilon")
    explanation = explainer.explain(x, target=(1, 2, 3))
    reach = np.zeros((5, 6), bool)
    reach[1:4, 2:5] = True
    assert (explanation.relevance[:, 0][:, ~reach] == 0).all()
    np.testing.assert_allclose(explanation.relevance.sum((1, 2, 3)), explanation.output[:, 1, 2, 3], rtol=1e-4)
    np.testing.assert_array_equal(explanation.target, np.tile([1, 2, 3], (3, 1)))
    with pytest.raises(onnx_lrp.InputError, match="tuple of 3"):
        explainer.explain(x, target=1)
    with pytest.raises(onnx_lrp.InputError, match="does not fit"):
        explainer.explain(x, target=(2, 0, 0))
    assert explainer.explain(x).target.shape == (3, 3)


def test_several_inputs_and_record(feeds) -> None:
    explainer = onnx_lrp.Explainer(two_input_model(), "epsilon", record=["aw", "r"])
    explanation = explainer.explain(feeds, target=0)
    assert set(explanation.relevance) == {"a", "b"}
    assert set(explanation.relevances) == {"a", "b", "aw", "r"}
    total = explanation.relevances["a"].sum(1) + explanation.relevances["b"].sum(1)
    np.testing.assert_allclose(total, explanation.output[:, 0], rtol=1e-3, atol=1e-4)
    np.testing.assert_array_equal(explanation.relevances["aw"], explanation.relevances["r"])
    np.testing.assert_allclose(explanation.relevances["aw"].sum(1), explanation.relevances["a"].sum(1), rtol=1e-3, atol=1e-4)
    only = onnx_lrp.Explainer(two_input_model(), "epsilon", inputs=["b"])
    alone = only.explain(feeds, target=0)
    np.testing.assert_array_equal(alone.relevance, explanation.relevances["b"])
    account = alone.conservation
    np.testing.assert_allclose(account.kept["stop"], explanation.relevances["r"].sum(1), rtol=1e-3, atol=1e-4)
    assert account.closes()


def test_final_softmax_is_left_off(feeds) -> None:
    explainer = onnx_lrp.Explainer(two_input_model(), "epsilon")
    assert explainer.final_activation == "Softmax"
    assert explainer.output_name == "logits"
    kept = onnx_lrp.Explainer(two_input_model(), "gradient", keep_final_activation=True)
    np.testing.assert_allclose(kept.explain(feeds).output.sum(1), 1.0, rtol=1e-5)


def test_fixed_batch_is_run_in_chunks(feeds) -> None:
    free = onnx_lrp.Explainer(two_input_model(), "epsilon").explain(feeds)
    fixed = onnx_lrp.Explainer(two_input_model(4), "epsilon").explain(feeds)  # 6 samples: 4, then 2 filled up
    for name in ("a", "b"):
        np.testing.assert_allclose(fixed.relevances[name], free.relevances[name], rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(fixed.conservation.seed, free.conservation.seed, rtol=1e-5)


def test_saved_explainer_is_an_ordinary_model(explainer, digits, tmp_path) -> None:
    path = tmp_path / "explainer.onnx"
    explainer.save(path)
    assert [file.name for file in tmp_path.iterdir()] == ["explainer.onnx"]
    onnx.checker.check_model(str(path), full_check=True)
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    assert [value.name for value in session.get_inputs()] == ["image", "target_relevance"]
    assert [value.name for value in session.get_outputs()] == ["logits", "relevance"]
    explanation = explainer.explain(digits)
    start = np.where(np.arange(10) == explanation.target[:, None], explanation.output, 0).astype(np.float32)
    output, relevance = session.run(None, {"image": digits, "target_relevance": start})
    np.testing.assert_allclose(output, explanation.output, rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(relevance, explanation.relevance, rtol=1e-4, atol=1e-6)


def test_save_leaves_nothing_behind_on_failure(explainer, tmp_path) -> None:
    with pytest.raises(onnx_lrp.InputError, match="cannot write"):
        explainer.save(tmp_path / "missing" / "explainer.onnx")
    assert list(tmp_path.iterdir()) == []


def test_names_that_the_saved_explainer_needs() -> None:
    model = two_input_model()
    for node in model.graph.node:
        node.input[:] = ["relevance" if name == "r" else name for name in node.input]
        node.output[:] = ["relevance" if name == "r" else name for name in node.output]
    explainer = onnx_lrp.Explainer(model, "epsilon")
    with pytest.raises(onnx_lrp.InputError, match="named 'relevance'"):
        explainer.to_onnx()


def test_plan_prints_and_serialises(explainer) -> None:
    text = str(explainer.plan)
    assert "100.0 %" in text
    data = json.loads(explainer.plan.to_json())
    assert data["coverage"] == 1.0
    assert data["inputs"] == ["image"]
    used = [row["rule"]["rule"] for row in data["nodes"]]
    assert used[0] == "Flat"
    assert {"ZPlus", "Norm", "Move", "Pass", "Epsilon"} <= set(used)


def test_plan_of_the_demo_is_golden(explainer) -> None:
    golden = Path(__file__).parent / "golden" / "digits_epsilon_plus_flat.txt"
    assert str(explainer.plan) + "\n" == golden.read_text()


def test_conservation_closes_for_all_lrp_composites(digits) -> None:
    for key, kind in onnx_lrp.COMPOSITES.items():
        options = {"low": 0.0, "high": 1.0} if "low" in option_names(kind) else {}
        if kind.seed == "one" or key in ("excitation_backprop", "pattern_net", "pattern_attribution"):  # gradients do not conserve
            continue
        account = onnx_lrp.Explainer(DEMO / "digits.onnx", key, **options).explain(digits).conservation
        assert account.closes(1e-5), f"{key}\n{account}"
        assert account.conserving
        assert "inputs" in str(account)
        losses = [np.abs(entry.lost).mean() for entry in account.worst(5)]
        assert losses == sorted(losses, reverse=True)


def test_conservation_shows_a_broken_adjoint(monkeypatch, digits) -> None:
    from onnx_lrp.operators.dense import GemmOperator

    right = GemmOperator.adjoint
    monkeypatch.setattr(GemmOperator, "adjoint", lambda self, e, node, s, weight: e.scale(right(self, e, node, s, weight), 1.5))
    account = onnx_lrp.Explainer(DEMO / "digits.onnx", "epsilon").explain(digits).conservation
    assert not account.closes()
    assert [entry.operator for entry in account.entries if np.abs(entry.error).max() > 1e-2 * np.abs(account.seed).max()] == ["Gemm"]


def test_no_bias_keeps_relevance_that_is_redistributed(digits) -> None:
    for key in ("epsilon", "epsilon_plus", "epsilon_alpha2_beta1"):
        options = {"empty": "conserve"} if "alpha" in key else {}
        account = onnx_lrp.Explainer(DEMO / "digits.onnx", key, bias="redistribute", **options).explain(digits).conservation
        assert (account.kept["bias"] == 0).all()
        assert account.closes(1e-4)
        assert (np.abs(account.inputs - account.seed) <= 1e-4 * np.abs(account.seed)).all()
        absorbed = onnx_lrp.Explainer(DEMO / "digits.onnx", key, **options).explain(digits).conservation
        assert (np.abs(absorbed.kept["bias"]) > 1e-3).all()


def test_composing_ones_own(digits) -> None:
    own = Composite(
        [
            (by_name("/head*"), rules.Zero()),
            (by_type("Conv") & first_n(2), rules.WSquare()),
            ("Conv", rules.Gamma(0.1)),
            *base_map(),
        ]
    )
    explainer = onnx_lrp.Explainer(DEMO / "digits.onnx", own)
    used = [str(step.rule) for step in explainer.plan.steps if step.view.kind in ("convolution", "dense")]
    assert used[:2] == ["WSquare()", "WSquare()"]
    assert set(used[2:-1]) == {"Gamma(gamma=0.1)"}
    assert used[-1].startswith("Zero")
    assert np.isfinite(explainer.explain(digits).relevance).all()
    mapped = onnx_lrp.Explainer(DEMO / "digits.onnx", "epsilon", layer_map=[("Conv", rules.ZPlus())], name_map=[("/stem*", rules.Flat())])
    used = [str(step.rule) for step in mapped.plan.steps if step.view.op == "Conv"]
    assert used[0] == "Flat()"
    assert set(used[1:]) == {"ZPlus()"}


def test_a_rule_stands_for_a_composite(digits) -> None:
    by_rule = onnx_lrp.explain(DEMO / "digits.onnx", digits, composite=rules.Epsilon(1e-6))
    by_key = onnx_lrp.explain(DEMO / "digits.onnx", digits, composite="epsilon")
    np.testing.assert_array_equal(by_rule.relevance, by_key.relevance)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"composite": "epsilon_pluss"}, "did you mean 'epsilon_plus'"),
        ({"composite": "epsilon", "gamma": 1.0}, "no option 'gamma'"),
        ({"composite": "epsilon_gamma_box"}, "needs low= and high="),
        ({"composite": "epsilon_gamma_box", "low": 2.0, "high": 1.0}, "low <= high"),
        ({"composite": "epsilon", "epsilon": -1.0}, "epsilon is a finite number"),
        ({"composite": "epsilon", "bias": "lose"}, "bias is"),
        ({"composite": 3}, "a composite is"),
        ({"composite": "epsilon", "layer_map": [("Conv", "ZPlus")]}, "is no rule"),
        ({"composite": "epsilon", "layer_map": [("Relu", rules.ZPlus())]}, "does not fit node"),
        ({"composite": "epsilon", "layer_map": [("Conv", rules.GuidedBackprop())]}, "is no Relu"),
    ],
)
def test_bad_composites(arguments, message) -> None:
    with pytest.raises(onnx_lrp.CompositeError, match=message):
        onnx_lrp.Explainer(DEMO / "digits.onnx", **arguments)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"inputs": ["imag"]}, "did you mean 'image'"),
        ({"output": "logit"}, "did you mean 'logits'"),
        ({"record": ["nothing like it"]}, "cannot record"),
        ({"providers": "tpu"}, "providers is"),
        ({"inputs": []}, "no input"),
    ],
)
def test_bad_names(arguments, message) -> None:
    with pytest.raises(onnx_lrp.InputError, match=message):
        onnx_lrp.Explainer(DEMO / "digits.onnx", **arguments)


@pytest.mark.parametrize(
    ("x", "options", "message"),
    [
        (np.zeros((2, 3, 16, 16), np.float32), {}, "has shape"),
        (np.zeros((1, 16, 16), np.float32), {}, "has shape"),
        (np.full((1, 1, 16, 16), np.nan, np.float32), {}, "256 values that are NaN"),
        (np.array(["a"]), {}, "not numeric"),
        ({"picture": np.zeros((1, 1, 16, 16))}, {}, "no input 'picture'"),
        ({}, {}, "is missing"),
        (np.zeros((0, 1, 16, 16), np.float32), {}, "no samples"),
        (np.zeros((2, 1, 16, 16), np.float32), {"target": 10}, "out of range"),
        (np.zeros((2, 1, 16, 16), np.float32), {"target": -1}, "out of range"),
        (np.zeros((2, 1, 16, 16), np.float32), {"target": [1, 2, 3]}, "for 2 samples"),
        (np.zeros((2, 1, 16, 16), np.float32), {"target": "seven"}, "a target is"),
        (np.zeros((2, 1, 16, 16), np.float32), {"target": 1.5}, "a target is"),
        (np.zeros((2, 1, 16, 16), np.float32), {"seed": "two"}, "unknown seed"),
        (np.zeros((2, 1, 16, 16), np.float32), {"seed": np.zeros((2, 9))}, "the seed has shape"),
        (np.zeros((2, 1, 16, 16), np.float32), {"seed": np.full((2, 10), np.inf)}, "NaN or infinite"),
    ],
)
def test_bad_inputs(explainer, x, options, message) -> None:
    with pytest.raises(onnx_lrp.InputError, match=message) as caught:
        explainer.explain(x, **options)
    assert "\n" not in str(caught.value)


def test_unsupported_operator_is_named() -> None:
    nodes = [helper.make_node("Relu", ["x"], ["r"]), helper.make_node("Det", ["r"], ["y"], name="the_det")]
    x_info, y_info = (
        helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N", 3, 3]),
        helper.make_tensor_value_info("y", TensorProto.FLOAT, ["N"]),
    )
    model = helper.make_model(helper.make_graph(nodes, "g", [x_info], [y_info]), opset_imports=[helper.make_opsetid("", 18)], ir_version=8)
    with pytest.raises(onnx_lrp.UnsupportedOperatorError, match=r"'the_det': Det \(opset 18\)") as caught:
        onnx_lrp.Explainer(model)
    assert caught.value.nodes == [("the_det", "Det", "", 18)]


def test_overflow_names_the_node() -> None:
    nodes = [helper.make_node("Exp", ["x"], ["e"], name="too_much"), helper.make_node("MatMul", ["e", "w"], ["y"], name="layer")]
    x_info, y_info = (
        helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N", 2]),
        helper.make_tensor_value_info("y", TensorProto.FLOAT, ["N", 2]),
    )
    weight = numpy_helper.from_array(np.eye(2, dtype=np.float32), "w")
    model = helper.make_model(
        helper.make_graph(nodes, "g", [x_info], [y_info], [weight]), opset_imports=[helper.make_opsetid("", 18)], ir_version=8
    )
    with pytest.raises(onnx_lrp.ModelError, match="'too_much'"):
        onnx_lrp.explain(model, np.array([[1000.0, 1.0]]), composite="epsilon")


def test_zeros_padded_before_a_maximum_count() -> None:
    """onnxruntime's own optimiser would lose them."""
    nodes = [
        op("Pad", "x pads", "padded"),
        op("MaxPool", "padded", "pooled", kernel_shape=[3, 3], strides=[2, 2]),
        op("Flatten", "pooled", "y"),
    ]
    model = build(nodes, {"x": ("N", 2, 5, 5)}, constants={"pads": np.array([0, 0, 1, 1, 0, 0, 1, 1])})
    x = -np.ones((1, 2, 5, 5), np.float32)
    explanation = onnx_lrp.explain(model, x, target=4, composite="epsilon", providers="cpu")
    expected = np.tile([[0, 0, 0], [0, -1, 0], [0, 0, 0]], (2, 1, 1)).reshape(1, -1)
    np.testing.assert_array_equal(explanation.output, expected)
    assert explanation.relevance.sum() == -1
