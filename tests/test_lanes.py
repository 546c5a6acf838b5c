"""Several targets and conditions over one forward pass, through the face: equal to single runs, and to the formulas in NumPy."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from models import build, op, relative_error, run, value_info

import onnx_lrp
from onnx_lrp import COMPOSITES, InputError
from onnx_lrp.composites import option_names
from onnx_lrp.concepts import Mask, strongest
from onnx_lrp.emitter import embed
from onnx_lrp.lanes.rules import RULES
from onnx_lrp.lanes.session import _lifted as emit_lifted
from onnx_lrp.seeds import make_seed
from onnx_lrp.targets import Region, make_targets

DEMO = Path(onnx_lrp.__file__).parent / "demo"
BOX = {"low": 0.0, "high": 1.0}
LAST, MIDDLE = "/Relu_4_output_0", "/Concat_output_0"
"""Tensors of the demonstration network that all relevance passes through: 64 and 48 channels."""


def weights(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng([seed, *shape]).normal(size=shape).astype(np.float32)


def was_lifted(explainer: onnx_lrp.Explainer) -> bool:
    sessions = list(explainer._runner.lane_sessions.values())
    assert sessions
    return all(session.lifted for session in sessions)


@pytest.fixture(scope="module")
def digits() -> np.ndarray:
    return np.load(DEMO / "digits.npz")["images"][:3]


CONV = {"K": weights(4, 2, 3, 3), "b": weights(4), "L": weights(5, 4, 3, 3), "W": weights(5, 3)}
CONV_NODES = [op("Conv", "x K b", "c"), op("Relu", "c", "r"), op("Conv", "r L", "d", strides=[2, 2], pads=[1, 1, 1, 1])]
TOKENS = {"Q": weights(6, 6), "P": weights(6, 6, seed=1), "V": weights(6, 6, seed=2), "G": weights(6), "W": weights(6, 3)}

MODELS: dict[str, tuple[Sequence[onnx.NodeProto], Sequence[Any], Mapping[str, Any], tuple[int, ...]]] = {
    "convolutions": (
        [*CONV_NODES, op("GlobalAveragePool", "d", "p"), op("Flatten", "p", "f"), op("MatMul", "f W")], ["N", 2, 9, 8], CONV, (3, 2, 9, 8)
    ),
    "of-any-size": (
        [*CONV_NODES, op("ReduceMean", "d axes", "f", keepdims=0), op("MatMul", "f W")],
        ["N", 2, None, None],
        {**CONV, "axes": np.array([2, 3])},
        (3, 2, 9, 8),
    ),
    "of-unknown-batch": (
        [*CONV_NODES, op("ReduceMean", "d axes", "f", keepdims=0), op("MatMul", "f W")],
        [None, 2, 9, 8],
        {**CONV, "axes": np.array([2, 3])},
        (3, 2, 9, 8),
    ),
    "batch-of-one": (
        [*CONV_NODES, op("GlobalMaxPool", "d", "p"), op("Flatten", "p", "f"), op("MatMul", "f W")], [1, 2, 9, 8], CONV, (3, 2, 9, 8)
    ),
    "batch-of-two": (
        [*CONV_NODES, op("MaxPool", "d", "p", kernel_shape=[2, 2], pads=[0, 0, 1, 1]), op("ReduceMax", "p axes", "f", keepdims=0),
         op("MatMul", "f W")],
        [2, 2, 9, 8],
        {**CONV, "axes": np.array([2, 3])},
        (3, 2, 9, 8),
    ),
    "batch-in-the-middle": (
        [op("Transpose", "x", "t", perm=[1, 0, 2]), op("MatMul", "t Q", "h"), op("Relu", "h", "r"), op("MatMul", "r P", "g"),
         op("Add", "g t", "s"), op("ReduceMean", "s axes", "f", keepdims=0), op("MatMul", "f W")],
        ["N", 4, 6],
        {**TOKENS, "axes": np.array([0])},
        (3, 4, 6),
    ),
    "attention": (
        [op("MatMul", "x Q", "q"), op("MatMul", "x P", "k"), op("MatMul", "x V", "v"), op("Transpose", "k", "kt", perm=[0, 2, 1]),
         op("MatMul", "q kt", "s"), op("Softmax", "s", "a"), op("MatMul", "a v", "o"), op("Add", "o x", "n"),
         op("LayerNormalization", "n G", "m"), op("Slice", "m zero one one", "first"), op("Squeeze", "first one", "f"),
         op("MatMul", "f W")],
        ["N", 4, 6],
        {**TOKENS, "zero": np.array([0]), "one": np.array([1])},
        (3, 4, 6),
    ),
    "selections": (
        [op("Gather", "x index", "g", axis=1), op("Pad", "g pads", "p"), op("Split", "p sizes", "l r", axis=1), op("Mul", "l r", "m"),
         op("Concat", "m l", "c", axis=2), op("Expand", "c shape", "e"), op("ReduceSum", "e axes", "f", keepdims=0), op("Gemm", "f W")],
        ["N", 5, 2],
        {"index": np.array([4, 1, 1]), "pads": np.array([0, 0, 0, 0, 1, 1]), "sizes": np.array([2, 2]), "shape": np.array([2, 1, 1, 1]),
         "axes": np.array([0, 2]), "W": weights(6, 3)},
        (3, 5, 2),
    ),
}  # fmt: skip


def model_named(name: str) -> tuple[onnx.ModelProto, np.ndarray]:
    nodes, declared, constants, shape = MODELS[name]
    return build(nodes, {"x": declared}, constants=constants), weights(*shape, seed=7)


def options_for(composite: str) -> dict[str, Any]:
    options = option_names(COMPOSITES[composite])
    if "patterns" in options:
        return {"patterns": onnx_lrp.fit_patterns(DEMO / "digits.onnx", np.load(DEMO / "digits.npz")["images"], providers="cpu")}
    return (BOX if "low" in options else {}) | ({"variant": "epsilon", "param": 0.1} if "variant" in options else {})


@pytest.mark.parametrize("composite", sorted(COMPOSITES))
def test_several_targets_equal_single_runs(composite: str, digits: np.ndarray) -> None:
    explainer = onnx_lrp.Explainer(DEMO / "digits.onnx", composite, record=[MIDDLE], **options_for(composite))
    targets = np.array([[3, 0, 9, 4], [1, 1, 8, 0], [2, 3, 4, 5]])
    several = explainer.explain(digits, targets)
    np.testing.assert_array_equal(several.target, targets)
    for lane in range(targets.shape[1]):
        single = explainer.explain(digits, targets[:, lane])
        np.testing.assert_allclose(several.output, single.output, rtol=1e-5, atol=1e-5)
        for name, relevance in single.relevances.items():
            assert np.abs(relevance).max() > 0
            assert relative_error(several.relevances[name][:, lane], relevance) < 1e-5
    assert was_lifted(explainer)


@pytest.mark.parametrize("composite", ["epsilon", "epsilon_plus_flat", "epsilon_gamma_box", "epsilon_alpha2_beta1", "gradient"])
@pytest.mark.parametrize("name", MODELS)
def test_models_of_all_layouts(name: str, composite: str) -> None:
    model, x = model_named(name)
    explainer = onnx_lrp.Explainer(model, composite, **options_for(composite))
    several = explainer.explain(x, np.array([[2, 0], [1, 1], [0, 2]]))
    for lane, targets in enumerate(([2, 1, 0], [0, 1, 2])):
        single = explainer.explain(x, targets).relevance
        assert np.abs(single).max() > 0
        assert relative_error(several.relevance[:, lane], single) < 1e-5
    assert was_lifted(explainer)


@pytest.mark.parametrize("name", ["convolutions", "batch-of-one", "batch-of-two"])
def test_what_cannot_be_lifted_is_repeated(name: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    for operator in ("Conv", "ConvTranspose"):
        monkeypatch.delitem(RULES, operator)
    model, x = model_named(name)
    explainer = onnx_lrp.Explainer(model, "gradient", record=["r"])
    with caplog.at_level(logging.INFO):
        several = explainer.explain(x, np.array([[2, 0], [1, 1], [0, 2]]))
    assert not was_lifted(explainer)
    assert "no rule for Conv" in caplog.text
    for lane, targets in enumerate(([2, 1, 0], [0, 1, 2])):
        single = explainer.explain(x, targets)
        for tensor in ("x", "r"):
            assert relative_error(several.relevances[tensor][:, lane], single.relevances[tensor]) < 1e-5
    masked = explainer.explain(x, 1, conditions=[{"r": [0, 2]}, {"r": [1, 3]}])
    assert relative_error(masked.relevance.sum(1), explainer.explain(x, 1).relevance) < 1e-5
    assert np.abs(masked.relevances["r"][:, 0][:, [1, 3]]).max() == 0


def test_seed_per_lane(digits: np.ndarray) -> None:
    explainer = onnx_lrp.Explainer(DEMO / "digits.onnx", "epsilon")
    seeds = weights(3, 4, 10)
    several = explainer.explain(digits, seed=seeds)
    for lane in range(4):
        assert relative_error(several.relevance[:, lane], explainer.explain(digits, seed=seeds[:, lane]).relevance) < 1e-5
    shared = explainer.explain(digits, np.zeros((3, 2), int), seed=seeds[:, 0]).relevance
    for lane in range(2):
        assert relative_error(shared[:, lane], several.relevance[:, 0]) < 1e-5
    for seed, target, message in (
        (weights(2, 4, 10), None, "shape"),
        (weights(3, 4, 9), None, "shape"),
        (weights(3, 4, 10), np.zeros((3, 2), int), "2 targets and 4 seeds"),
        (weights(3, 0, 10), None, "shape"),
    ):
        with pytest.raises(InputError, match=message):
            explainer.explain(digits, target, seed=seed)


def test_account_of_several_targets_closes(digits: np.ndarray) -> None:
    explainer = onnx_lrp.Explainer(DEMO / "digits.onnx", "epsilon_plus_flat")
    several = explainer.explain(digits, np.array([[3, 0], [1, 8], [2, 5]]))
    np.testing.assert_allclose(several.conservation.seed, several.output[[0, 0, 1, 1, 2, 2], [3, 0, 1, 8, 2, 5]], rtol=1e-4)
    assert several.conservation.closes()
    np.testing.assert_allclose(several.conservation.inputs.reshape(3, 2), several.relevance.sum((2, 3, 4)), rtol=1e-3, atol=1e-4)


def test_plain_explainer_compiles_no_lanes(digits: np.ndarray) -> None:
    explainer = onnx_lrp.Explainer(DEMO / "digits.onnx", "epsilon")
    explainer.explain(digits, 3)
    assert not explainer._runner.lane_sessions
    assert not any(node.name.startswith("lane/") for node in explainer.to_onnx().graph.node)


# conditions -----------------------------------------------------------------------------------------------------------


def epsilon_rule(x: np.ndarray, weight: np.ndarray, bias: np.ndarray, relevance: np.ndarray) -> np.ndarray:
    z = x @ weight + bias
    return x * ((relevance / (z + np.where(z >= 0, 1e-6, -1e-6))) @ weight.T)


def test_conditions_follow_the_formula() -> None:
    """Epsilon in float64, layer by layer, with the masks between the layers."""
    W, b, V, c, U = weights(4, 6), weights(6), weights(6, 5), weights(5), weights(5, 3)
    nodes = [op("Gemm", "x W b", "h"), op("Relu", "h", "r"), op("Gemm", "r V c", "g"), op("Relu", "g", "q"), op("MatMul", "q U")]
    model = build(nodes, {"x": ["N", 4]}, constants={"W": W, "b": b, "V": V, "c": c, "U": U})
    x = weights(3, 4)
    conditions = [{"r": [0, 3]}, {"q": [1, 2], "r": [0, 1, 2, 3]}, {"y": 1, "q": [4]}, {}, {"y": [2], "r": 5}]
    explainer = onnx_lrp.Explainer(model, "epsilon", record=["r", "q"])
    explanation = explainer.explain(x, 0, conditions=conditions)
    W, b, V, c, U, given = (array.astype(np.float64) for array in (W, b, V, c, U, x))
    r = np.maximum(given @ W + b, 0)
    q = np.maximum(r @ V + c, 0)
    for lane, condition in enumerate(conditions):
        target = np.ravel(condition.get("y", 0))[0]
        keep = {name: np.isin(np.arange(size), condition.get(name, np.arange(size))) for name, size in (("r", 6), ("q", 5))}
        relevance = np.eye(3)[target] * (q @ U)
        at_q = epsilon_rule(q, U, np.zeros(3), relevance) * keep["q"]
        at_r = epsilon_rule(r, V, c, at_q) * keep["r"]
        expected = {"x": epsilon_rule(given, W, b, at_r), "r": at_r, "q": at_q}
        for name, value in expected.items():
            assert relative_error(explanation.relevances[name][:, lane], value) < 1e-4
    np.testing.assert_array_equal(explanation.target, np.tile([0, 0, 1, 0, 2], (3, 1)))


@pytest.mark.parametrize("composite", ["epsilon", "epsilon_plus_flat", "epsilon_gamma_box", "gradient"])
def test_conditional_relevances_of_all_channels_add_up(composite: str, digits: np.ndarray) -> None:
    explainer = onnx_lrp.Explainer(DEMO / "digits.onnx", composite, record=[LAST], **options_for(composite))
    whole = explainer.explain(digits, 3)
    parts = explainer.explain(digits, 3, conditions=[{LAST: [channel]} for channel in range(64)])
    assert parts.relevance.shape == (3, 64, 1, 16, 16)
    assert relative_error(parts.relevance.sum(1), whole.relevance) < 1e-5
    channels = whole.channels(LAST)
    np.testing.assert_allclose(channels, whole.relevances[LAST].sum((2, 3)), rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(np.einsum("nkk->nk", parts.channels(LAST)), channels, rtol=1e-4, atol=1e-6)
    order = strongest(channels, 5)
    np.testing.assert_array_equal(np.take_along_axis(channels, order, 1), -np.sort(-channels, axis=1)[:, :5])
    assert was_lifted(explainer)


def test_conditions_on_several_layers_are_a_path(digits: np.ndarray) -> None:
    explainer = onnx_lrp.Explainer(DEMO / "digits.onnx", "epsilon_plus_flat")
    rest = list(range(1, 48))
    first, second, both = explainer.explain(
        digits, conditions=[{LAST: [7], MIDDLE: [0]}, {LAST: [7], MIDDLE: rest}, {LAST: [7]}]
    ).relevance.swapaxes(0, 1)
    assert relative_error(first + second, both) < 1e-5
    assert np.abs(first).max() > 0


def test_conditions_run_one_forward_pass(digits: np.ndarray) -> None:
    explainer = onnx_lrp.Explainer(DEMO / "digits.onnx", "epsilon")
    mask = Mask(LAST, 1, 4, 64)
    model, constants, names = emit_lifted(
        explainer.emitter(),
        explainer.output_name,
        lambda e, seed: explainer.blueprint.relevances(e, seed, [mask]),
        (explainer.model_inputs(), explainer.seed_inputs(), [value_info(mask.input, mask.shape)]),
    )
    convolutions = [node for node in explainer.graph.needed_for([explainer.output_name]) if node.op == "Conv"]
    seeds = make_seed("output", False, 3, (10,)).feeds(make_targets(np.zeros((3, 4), int), 3, (None, 10)))
    rows = {
        name: value.reshape(3, 4, *value.shape[1:]).swapaxes(0, 1).reshape(value.shape)
        for name, value in seeds.items()
        if value.shape[:1] == (12,)
    }
    feeds = {"image": digits, **seeds, **rows, "lrp/lanes": np.array([4]), mask.input: np.ones((4, 1, 64, 1, 1), np.float32)}
    wanted = [node.outputs[0] for node in convolutions]
    model.graph.output.extend(onnx.ValueInfoProto(name=name) for name in wanted)
    assert [len(value) for value in run(embed(model, constants), feeds, wanted)] == [3] * 6  # samples, whatever the number of lanes
    assert run(embed(model, constants), feeds, [names["image"][0]])[0].shape == (4, 3, 1, 16, 16)


def test_channel_axis_of_tokens_is_the_last() -> None:
    model, x = model_named("attention")
    explainer = onnx_lrp.Explainer(model, "epsilon", record=["n"])
    whole = explainer.explain(x, 1)
    assert whole.channels("n").shape == (3, 6)
    assert whole.channels("n", axis=1).shape == (3, 4)
    tokens = explainer.explain(x, 1, conditions=[{"n": (1, [0])}, {"n": (1, [1, 2, 3])}, {"n": (-2, [0, 1, 2, 3])}])
    assert relative_error(tokens.relevance[:, :2].sum(1), whole.relevance) < 1e-5
    assert relative_error(tokens.relevance[:, 2], whole.relevance) < 1e-5
    channels = explainer.explain(x, 1, conditions=[{"n": [0, 5]}, {"n": [1, 2, 3, 4]}])
    assert relative_error(channels.relevance.sum(1), whole.relevance) < 1e-5
    assert (channels.relevances["n"][:, 0][..., 1:5] == 0).all()


def test_conditions_with_all_kinds_of_starts(digits: np.ndarray) -> None:
    explainer = onnx_lrp.Explainer(DEMO / "digits.onnx", "epsilon_plus_flat")
    parts = [{LAST: list(range(20))}, {LAST: list(range(20, 64))}]
    for start in ({"seed": "contrastive"}, {"seed": "one", "target": [1, 2, 3]}, {"seed": weights(3, 10)}):
        whole = explainer.explain(digits, **start).relevance
        assert relative_error(explainer.explain(digits, conditions=parts, **start).relevance.sum(1), whole) < 1e-5
    seeds = weights(3, 2, 10)
    each = explainer.explain(digits, conditions=[{LAST: [3]}, {LAST: [5]}], seed=seeds).relevance
    for lane, channel in enumerate([3, 5]):
        alone = explainer.explain(digits, conditions=[{LAST: [channel]}], seed=seeds[:, lane]).relevance[:, 0]
        assert relative_error(each[:, lane], alone) < 1e-5
    both = explainer.explain(digits, 3, seed="contrastive", two_pass=True, conditions=[{}, {LAST: [3, 4, 5]}])
    assert relative_error(both.relevance[:, 0], explainer.explain(digits, 3, seed="contrastive", two_pass=True).relevance) < 1e-5
    np.testing.assert_allclose(both.relevance.sum((2, 3, 4)), 0, atol=1e-5)  # combined for each condition


def test_conditions_on_a_region() -> None:
    nodes = [op("Conv", "x K b", "h"), op("Relu", "h", "r"), op("Conv", "r L")]
    model = build(nodes, {"x": ["N", 2, 6, 5]}, constants={"K": CONV["K"], "b": CONV["b"], "L": weights(3, 4, 1, 1)})
    explainer, x = onnx_lrp.Explainer(model, "epsilon"), weights(2, 2, 6, 5)
    mask = weights(4, 3) > 0
    region = Region(mask, channel=1)
    parts = explainer.explain(x, region, conditions=[{"r": [0]}, {"r": [1, 2, 3]}])
    whole = explainer.explain(x, region)
    assert relative_error(parts.relevance.sum(1), whole.relevance) < 1e-5
    with pytest.raises(InputError, match="one form"):
        explainer.explain(x, region, conditions=[{"r": [0]}, {"y": (0, 1, 1)}])


def test_conditions_in_one_call(digits: np.ndarray) -> None:
    conditions = [{LAST: 3}, {"/Concat": [0, 1]}]  # the second by its node's name
    explainer = onnx_lrp.Explainer(DEMO / "digits.onnx")
    found = onnx_lrp.explain(DEMO / "digits.onnx", digits, 1, conditions=conditions).relevance
    np.testing.assert_array_equal(found, explainer.explain(digits, 1, conditions=conditions).relevance)
    named = explainer.explain(digits, 1, conditions=[{LAST: [3]}, {MIDDLE: [0, 1]}]).relevance
    np.testing.assert_array_equal(found, named)


def test_conditional_relevance_has_no_account(digits: np.ndarray) -> None:
    explainer = onnx_lrp.Explainer(DEMO / "digits.onnx", "epsilon")
    with pytest.raises(InputError, match="no account"):
        _ = explainer.explain(digits, conditions=[{LAST: [0]}]).conservation
    assert explainer.explain(digits, conditions=[{"y": 3}, {"logits": 5}]).conservation.closes()


def test_targets_of_outputs_with_several_axes_as_conditions() -> None:
    model = build([op("Conv", "x K b")], {"x": ["N", 2, 5, 4]}, constants={"K": weights(3, 2, 3, 3), "b": weights(3)})
    explainer, x = onnx_lrp.Explainer(model, "epsilon"), weights(2, 2, 5, 4)
    several = explainer.explain(x, conditions=[{"y": (0, 1, 1)}, {"y": (2, 2, 0)}])
    for lane, target in enumerate([(0, 1, 1), (2, 2, 0)]):
        assert relative_error(several.relevance[:, lane], explainer.explain(x, target).relevance) < 1e-5
    np.testing.assert_array_equal(several.target, [np.ravel_multi_index(((0, 2), (1, 2), (1, 0)), several.output.shape[1:])] * 2)


@pytest.mark.parametrize(
    ("conditions", "message"),
    [
        ([], "list of dicts"),
        ({LAST: [0]}, "list of dicts"),
        ([[0]], "a condition is a dict"),
        ([{"nothing": [0]}], "cannot mask 'nothing'"),
        ([{LAST: [64]}], "channel 64 .*0 to 63"),
        ([{LAST: [-1]}], "channel -1"),
        ([{LAST: [0.5]}], "ints"),
        ([{LAST: "all"}], "ints"),
        ([{LAST: (4, [0])}], "no channel axis 4"),
        ([{LAST: (0, [0])}], "no channel axis 0"),
        ([{"y": [1, 2]}], "one target"),
        ([{"y": 10}], "out of range"),
        ([{"y": "three"}], "one target"),
    ],
)
def test_bad_conditions_are_refused(conditions: Any, message: str, digits: np.ndarray) -> None:
    explainer = onnx_lrp.Explainer(DEMO / "digits.onnx", "epsilon")
    with pytest.raises(InputError, match=message):
        explainer.explain(digits, conditions=conditions)


def test_several_targets_beside_conditions_are_refused(digits: np.ndarray) -> None:
    explainer = onnx_lrp.Explainer(DEMO / "digits.onnx", "epsilon")
    with pytest.raises(InputError, match="with conditions"):
        explainer.explain(digits, np.zeros((3, 2), int), conditions=[{LAST: [0]}])
    with pytest.raises(InputError, match="not asked for"):
        explainer.explain(digits).channels(LAST)
