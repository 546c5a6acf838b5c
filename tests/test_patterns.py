"""Fitting in batches, the rules that use patterns, and the files that hold them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx
import pytest
from helpers import Array, check_close, jacobian, make_model, node, normal

from onnx_lrp import CompositeError, Explainer, InputError, ModelError, OnnxLrpError, Patterns, explain, fit_patterns, rules
from onnx_lrp.patterns import ESTIMATORS, PatternFit
from onnx_lrp.patterns.fit import rebatched

# fitting --------------------------------------------------------------------------------------------------------------


def conv_net(*, batch: int | None = None) -> onnx.ModelProto:
    nodes = [
        node("Conv", "x W1 B1", "c1", pads=[1, 1, 1, 1]),
        node("Relu", "c1", "a1"),
        node("AveragePool", "a1", "p", kernel_shape=[2, 2], strides=[2, 2]),
        node("Conv", "p W2", "c2", strides=[2, 1], group=2),
        node("Relu", "c2", "a2"),
        node("Flatten", "a2", "f"),
        node("Gemm", "f W3 B3", "y"),
    ]
    for index, made in enumerate(nodes):
        made.name = f"{made.op_type}_{index}"
    weights = {"W1": normal("W1", 4, 2, 3, 3), "B1": normal("B1", 4), "W2": normal("W2", 6, 2, 2, 2), "W3": normal("W3", 36, 3)}
    return make_model(nodes, weights | {"B3": normal("B3", 3)}, (2, 8, 8), batch=batch)


@pytest.fixture(scope="module")
def images() -> Array:
    return normal("images", 40, 2, 8, 8) + np.float32(0.25)


@pytest.fixture(scope="module")
def patterns(images: Array) -> Patterns:
    return fit_patterns(conv_net(), images, providers="cpu", threads=1)


@pytest.mark.parametrize("estimator", ESTIMATORS)
def test_fitting_in_batches_equals_fitting_at_once(images: Array, estimator: str) -> None:
    whole = fit_patterns(conv_net(), images, estimator=estimator, batch_size=40, providers="cpu", threads=1)
    pieces = [{"x": images[:3]}, images[3:20].tolist(), images[20:]]
    parts = fit_patterns(conv_net(), iter(pieces), estimator=estimator, batch_size=6, providers="cpu", threads=1)
    assert whole.samples == parts.samples == 40
    assert list(whole.arrays) == list(parts.arrays) == ["Conv_0", "Conv_3", "Gemm_6"]
    for name, pattern in whole.arrays.items():
        check_close(parts.arrays[name], pattern, 1e-4, name)


def test_a_fixed_batch_is_used(images: Array, patterns: Patterns) -> None:
    fitted = fit_patterns(conv_net(batch=8), images, providers="cpu", threads=1)
    check_close(fitted.arrays["Conv_3"], patterns.arrays["Conv_3"], 1e-4, "pattern")
    with pytest.raises(InputError, match="takes 8 samples at a time, and 7 are left over"):
        fit_patterns(conv_net(batch=8), images[:15], providers="cpu", threads=1)


def test_batches_are_cut_and_joined() -> None:
    items = [{"x": np.full((count, width), mark)} for mark, (count, width) in enumerate([(1, 2), (5, 2), (2, 2), (1, 3), (0, 3), (2, 3)])]
    made = [batch["x"] for batch in rebatched(iter(items), 3)]
    assert [batch.shape for batch in made] == [(3, 2), (3, 2), (2, 2), (3, 3)]
    assert [batch[:, 0].tolist() for batch in made] == [[0, 1, 1], [1, 1, 1], [2, 2], [3, 5, 5]]


# the maps -------------------------------------------------------------------------------------------------------------


def layer_map(made: onnx.NodeProto, weights: Array | None, shape: Sequence[int]) -> Array:
    """The Jacobian of one layer with other weights, without its bias."""
    inputs = "x W" if weights is not None else "x"
    copy = node(made.op_type, inputs, **{a.name: onnx.helper.get_attribute_value(a) for a in made.attribute})
    return jacobian(make_model([copy], {} if weights is None else {"W": weights}, shape, double=True), shape)[0]


@pytest.mark.parametrize("key", ["pattern_net", "pattern_attribution"])
def test_maps_follow_the_formula(images: Array, patterns: Patterns, key: str) -> None:
    """For each sample: A3, the second ReLU's gate, A2, the pool, the first ReLU's gate, A1; with W * A for attribution."""
    model, x = conv_net(), images[:3]
    made = {n.name: n for n in model.graph.node}
    weights = {t.name: onnx.numpy_helper.to_array(t).astype(np.float64) for t in model.graph.initializer}
    options = {"normalize": False} if key == "pattern_net" else {}
    explainer = Explainer(model, key, patterns=patterns, providers="cpu", threads=1, **options)
    got = explainer.explain(x)
    shapes = {"Conv_0": (2, 8, 8), "AveragePool_2": (4, 8, 8), "Conv_3": (4, 4, 4), "Gemm_6": (36,)}
    forward = {n: layer_map(made[n], weights.get(made[n].input[1]) if "Pool" not in n else None, s) for n, s in shapes.items()}
    used = {n: patterns.arrays[n].astype(np.float64) for n in ("Conv_0", "Conv_3", "Gemm_6")}
    if key == "pattern_attribution":
        used = {n: a * weights[made[n].input[1]] for n, a in used.items()}
    back = {n: layer_map(made[n], a, shapes[n]) for n, a in used.items()} | {"AveragePool_2": forward["AveragePool_2"]}
    for row, sample in enumerate(x.astype(np.float64)):
        z1 = forward["Conv_0"] @ sample.ravel() + np.repeat(weights["B1"], 64)
        z2 = forward["Conv_3"] @ forward["AveragePool_2"] @ np.maximum(z1, 0)
        y = forward["Gemm_6"] @ np.maximum(z2, 0) + weights["B3"]
        seed = np.where(np.arange(3) == y.argmax(), y, 0)
        r = back["AveragePool_2"].T @ back["Conv_3"].T @ ((z2 > 0) * (back["Gemm_6"].T @ seed))
        want = back["Conv_0"].T @ ((z1 > 0) * r)
        check_close(np.asarray(got.relevance)[row].ravel(), want, 1e-4)


def branching_net() -> onnx.ModelProto:
    """Dense layers with a sum around one of them, and then two branches that are joined again."""
    nodes = [
        node("Gemm", "x W1", "a"),
        node("Relu", "a", "p"),
        node("Gemm", "p W2", "b"),
        node("Add", "b p", "s"),
        node("Relu", "s", "q"),
        node("Gemm", "q W3", "c"),
        node("Gemm", "q W4", "d"),
        node("Concat", "c d", "e", axis=1),
        node("Gemm", "e W5", "y"),
    ]
    for index, made in enumerate(nodes):
        made.name = f"{made.op_type}_{index}"
    shapes = {"W1": (4, 5), "W2": (5, 5), "W3": (5, 3), "W4": (5, 2), "W5": (5, 3)}
    return make_model(nodes, {name: normal(name, *shape) for name, shape in shapes.items()}, (4,))


@pytest.mark.parametrize(("model", "shape", "normalized"), [(conv_net(), (2, 8, 8), [0, 3, 6]), (branching_net(), (4,), [0, 3, 7, 8])])
def test_normalizing_changes_only_the_scale_of_each_map(model: onnx.ModelProto, shape: Sequence[int], normalized: Sequence[int]) -> None:
    x = normal("images", 40, *shape) + np.float32(0.25)
    options: dict[str, Any] = {"patterns": fit_patterns(model, x, providers="cpu", threads=1), "providers": "cpu", "threads": 1}
    plain = np.asarray(Explainer(model, "pattern_net", normalize=False, **options).explain(x[:4]).relevance)
    explainer = Explainer(model, "pattern_net", **options)
    assert [i for i, step in enumerate(explainer.plan.steps) if isinstance(step.rule, rules.Normalized)] == normalized
    scaled = np.asarray(explainer.explain(x[:4]).relevance)
    factors = [float((s * p).sum() / (p * p).sum()) for s, p in zip(scaled, plain, strict=True)]
    assert min(factors) > 0
    assert max(abs(factor - 1) for factor in factors) > 0.1
    check_close(scaled, plain * np.reshape(factors, (-1, *[1] * len(shape))), 1e-5)


@pytest.mark.parametrize("key", ["pattern_net", "pattern_attribution"])
def test_several_targets_at_once_equal_one_after_the_other(images: Array, patterns: Patterns, key: str) -> None:
    explainer = Explainer(conv_net(), key, patterns=patterns, providers="cpu", threads=1)
    x, targets = images[:3], np.array([[0, 2], [1, 0], [2, 1]])
    got = np.asarray(explainer.explain(x, targets).relevance)
    for lane in range(2):
        check_close(got[:, lane], np.asarray(explainer.explain(x, targets[:, lane]).relevance), 1e-5)
        for row in range(3):
            alone = explainer.explain(x[row : row + 1], targets[row, lane])
            check_close(got[row, lane], np.asarray(alone.relevance)[0], 1e-5)


def test_signals_of_deep_residual_nets_stay_finite() -> None:
    """60 layers whose signals grow a hundredfold each, every two bridged by a sum: without normalisation they overflow."""
    nodes, weights, arrays, tensor = [], {}, {}, "x"
    for block in range(30):
        for half in "ab":
            made = node("Gemm", f"{tensor if half == 'a' else f'r{block}'} W{block}{half}", f"{half}{block}")
            made.name = f"{half}{block}"
            nodes.append(made)
            weights[f"W{block}{half}"] = np.eye(3, dtype=np.float32) * np.float32(0.5)
            arrays[made.name] = np.full((3, 3), 100, np.float32) + np.eye(3, dtype=np.float32) * np.float32(-98)
            if half == "a":
                nodes.append(node("Relu", f"a{block}", f"r{block}"))
        nodes.append(node("Add", f"b{block} {tensor}", f"s{block}"))
        tensor = f"s{block}"
    for index, made in enumerate(nodes):
        made.name = made.name if made.op_type == "Gemm" else f"{made.op_type}{index}"
    model, x = make_model(nodes, weights, (3,), output=tensor), np.ones((2, 3), np.float32)
    given = Patterns(arrays)
    with pytest.raises(ModelError, match="NaN or infinite"):
        explain(model, x, composite="pattern_net", patterns=given, normalize=False, threads=1)
    relevance = np.asarray(explain(model, x, composite="pattern_net", patterns=given, threads=1).relevance)
    assert np.abs(relevance).max() > 0


@pytest.mark.parametrize(("rule", "factor"), [(rules.PatternNet, [0.5, -0.25, 0, 1]), (rules.PatternAttribution, [1, 1, 1, 1])])
def test_scalings_are_undone(rule: type[rules.Rule], factor: Sequence[float]) -> None:
    """The pattern of y = w x + b is 1 / w: PatternNet divides by w (nothing comes from where it is zero), attribution passes R on."""
    nodes = [node("Sigmoid", "x", "s"), node("Mul", "s W", "m"), node("Add", "m B", "y")]
    constants = {"W": np.array([2, -4, 0, 1], np.float32), "B": np.array([1, 2, 3, 4], np.float32)}
    model = make_model(nodes, constants, (4,))
    x, seed = normal("x", 3, 4), normal("seed", 3, 4)
    slope = 1 / (1 + np.exp(-x.astype(np.float64)))
    maps = [("scale", rule(Patterns({}))), (bool, rules.Gradient())]  # type: ignore[call-arg]
    got = explain(model, x, composite="gradient", layer_map=maps, seed=seed, threads=1).relevance
    check_close(np.asarray(got), seed * np.asarray(factor) * slope * (1 - slope), 1e-5)


# files and errors -----------------------------------------------------------------------------------------------------


def test_saved_patterns_come_back(tmp_path, patterns: Patterns, images: Array) -> None:
    path = tmp_path / "patterns.npz"
    patterns.save(path)
    assert [file.name for file in tmp_path.iterdir()] == ["patterns.npz"]
    loaded = Patterns.load(path)
    assert (loaded.estimator, loaded.bias, loaded.samples) == ("positive", "neuron", 40)
    assert list(loaded.arrays) == list(loaded.totals) == list(patterns.arrays)
    assert all(np.array_equal(loaded.arrays[name], pattern) for name, pattern in patterns.arrays.items())
    options: dict[str, Any] = {"composite": "pattern_attribution", "threads": 1, "providers": "cpu"}
    maps = [np.asarray(explain(conv_net(), images[:2], patterns=given, **options).relevance) for given in (patterns, path)]
    assert np.array_equal(*maps)
    with pytest.raises(InputError, match="cannot write"):
        patterns.save(tmp_path / "nowhere" / "patterns.npz")


def broken_file(folder, content: str):
    path = folder / f"{content}.npz"
    entries = {"estimator": np.array("all"), "bias": np.array("neuron"), "samples": np.array(3)}
    match content:
        case "damaged":
            path.write_bytes(b"PK\x03\x04 and nothing more")
        case "empty":
            np.savez(path, **entries)
        case "foreign":
            np.savez(path, relevance=np.zeros(3))
        case "infinite":
            np.savez(path, **entries, **{"pattern:a": np.full(3, np.inf, np.float32)})
        case "double":
            np.savez(path, **entries, **{"pattern:a": np.zeros(3)})
    return path


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("missing", "No such file"),
        ("damaged", "no .npz file, or it is damaged"),
        ("empty", "holds no patterns"),
        ("foreign", "holds no patterns"),
        ("infinite", "the pattern of node 'a' is no array of finite float32"),
        ("double", "the pattern of node 'a' is no array of finite float32"),
    ],
)
def test_files_without_patterns(tmp_path, content: str, message: str) -> None:
    with pytest.raises(InputError, match=message) as caught:
        Patterns.load(broken_file(tmp_path, content))
    assert content in str(caught.value)


def test_patterns_of_another_model_are_refused(patterns: Patterns) -> None:
    def changed(name: str, array: Array) -> Patterns:
        return Patterns(patterns.arrays | {name: array}, patterns.totals)

    without = {name: value for name, value in patterns.arrays.items() if name != "Conv_3"}
    cut = Patterns(patterns.arrays, {"Conv_3": np.zeros(2)})
    for given, message in [
        (Patterns(without), "none for node 'Conv_3'"),
        (changed("Gemm_6", patterns.arrays["Gemm_6"].T), r"node 'Gemm_6' has weights of shape \(36, 3\), its pattern \(3, 36\)"),
        (changed("Conv_0", -patterns.arrays["Conv_0"]), "output 0 of node 'Conv_0' give -"),
        (cut, r"node 'Conv_3' has 6 outputs, and totals of shape \(2,\)"),
        (None, "pattern_net needs patterns="),
    ]:
        with pytest.raises(CompositeError, match=message):
            Explainer(conv_net(), "pattern_net", patterns=given, providers="cpu", threads=1)


def test_rules_refuse_nodes_without_weights(patterns: Patterns) -> None:
    with pytest.raises(CompositeError, match="AveragePool has no weights"):
        Explainer(conv_net(), "gradient", layer_map=[("pool", rules.PatternNet(patterns))], providers="cpu", threads=1)


@pytest.mark.parametrize(
    ("data", "options", "message"),
    [
        (np.zeros((2, 2, 8, 8)), {"estimator": "some"}, "unknown estimator 'some'"),
        (np.zeros((2, 2, 8, 8)), {"bias": "some"}, "bias is 'neuron' or 'ignore', not 'some'"),
        (np.zeros((2, 2, 8, 8)), {"batch_size": 0}, "batch_size is an int >= 1"),
        (np.zeros((0, 2, 8, 8)), {}, "no samples"),
        ([], {}, "no samples"),
        (np.zeros((2, 2, 8, 9)), {}, "has shape"),
        (np.full((2, 2, 8, 8), np.nan), {}, "NaN or infinite"),
        ([np.zeros((2, 2, 8, 8)), 3.0], {}, "no batch axis"),
        ({"z": np.zeros((2, 2, 8, 8))}, {}, "no input 'z'"),
        ({"x": np.zeros((2, 2, 8, 8)), "z": np.zeros(3)}, {}, "different numbers of samples"),
        (np.full((2, 2, 8, 8), 1e38), {}, "node 'Conv_0' have values that are NaN, infinite or too large"),
    ],
)
def test_data_that_do_not_fit(data: Any, options: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        fit_patterns(conv_net(), data, providers="cpu", threads=1, **options)


def test_models_without_layers_to_fit() -> None:
    with pytest.raises(ModelError, match="no convolution and no dense layer"):
        PatternFit(make_model([node("Relu", "x")], {}, (3,)), providers="cpu")
    weights = {"W": normal("W", 2, 5, 4)}
    with pytest.raises(OnnxLrpError, match="by a batch of weights"):
        PatternFit(make_model([node("MatMul", "x W")], weights, (2, 3, 5)), providers="cpu")


def test_plans_say_where_patterns_come_from(patterns: Patterns) -> None:
    plan = Explainer(conv_net(), "pattern_attribution", patterns=patterns, providers="cpu", threads=1).plan
    assert plan.rows()[0][3] == "PatternAttribution(patterns=positive)"
    assert '"samples": 40' in plan.to_json()
