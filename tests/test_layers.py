"""Relevance layer by layer: what is recorded, in which order, and the figures of it."""

from __future__ import annotations

import importlib.util
import math
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
from models import build, op
from PIL import Image

import onnx_lrp

ROOT = Path(__file__).resolve().parents[1]
DEMO = ROOT / "onnx_lrp" / "demo"


def weights(*shape, seed=0):
    return np.random.default_rng([seed, *shape]).normal(size=shape).astype(np.float32)


@pytest.fixture(scope="module")
def digits():
    return np.load(DEMO / "digits.npz")["images"]


def explainer(model, composite="epsilon", **options):
    return onnx_lrp.Explainer(model, composite, providers="cpu", threads=1, **options)


def chain_model():
    """A chain without biases: whatever tensor of it one looks at, all relevance flows through it."""
    nodes = [
        op("Conv", "x u", "c1", pads=[1, 0, 1, 2], strides=[1, 2]),
        op("Relu", "c1", "r1"),
        op("MaxPool", "r1", "p", kernel_shape=[2, 2], strides=[2, 1]),
        op("Conv", "p v", "c2", group=2, dilations=[1, 2]),
        op("Relu", "c2", "r2"),
        op("GlobalAveragePool", "r2", "g"),
        op("Flatten", "g", "f"),
        op("Gemm", "f w", "y"),
    ]
    constants = {"u": weights(4, 3, 3, 3), "v": weights(6, 2, 2, 2), "w": weights(6, 5)}
    return build(nodes, {"x": ["N", 3, 9, 12]}, constants=constants)


def gated_model():
    """A product of which one factor is a gate, which gets no relevance; its nodes have names of their own."""
    nodes = [
        op("Gemm", "x a", "p", name="/main/dense"),
        op("Gemm", "x b", "q", name="/gate/dense"),
        op("Sigmoid", "q", "s", name="/gate/sigmoid"),
        op("Mul", "p s", "m", name="/mul"),
        op("Split", "m", "m0 m1", name="/split", num_outputs=2, axis=1),
        op("Add", "m0 m1", "t", name="/add"),
        op("Gemm", "t c", "y", name="/head"),
    ]
    return build(nodes, {"x": ["N", 4]}, constants={"a": weights(4, 6), "b": weights(4, 6, seed=1), "c": weights(3, 2)})


# what is recorded -----------------------------------------------------------------------------------------------------


def test_all_are_recorded_in_graph_order_and_conserve(digits):
    explanation = explainer(chain_model(), record="all").explain(weights(3, 3, 9, 12))
    assert list(explanation.relevances) == ["x", "c1", "r1", "p", "c2", "r2", "g", "f", "y"]
    seed = explanation.output.max(1)
    for name, relevance in explanation.relevances.items():
        np.testing.assert_allclose(relevance.reshape(3, -1).sum(1), seed, rtol=2e-3, err_msg=name)
    demo = explainer(DEMO / "digits.onnx", record="all")
    order = [tensor for node in demo.graph.nodes for tensor in node.outputs]
    assert list(demo.explain(digits).relevances) == ["image", *order]


@pytest.mark.parametrize("targets", [None, [[0, 1], [2, 1], [0, 0]]])
def test_recorded_relevance_is_that_of_the_formula(targets):
    first, second = weights(7, 5), weights(5, 3)
    model = build(
        [op("Gemm", "x a", "z"), op("Relu", "z", "h"), op("Gemm", "h b", "y")], {"x": ["N", 7]}, constants={"a": first, "b": second}
    )
    x = weights(3, 7)
    explanation = explainer(model, record="all", epsilon=0.25).explain(x, targets)
    hidden = np.maximum(x.astype(np.float64) @ first, 0)
    output = hidden @ second
    for sample in range(3):
        for place, target in enumerate([output[sample].argmax()] if targets is None else targets[sample]):
            score = output[sample, target]
            expected = hidden[sample] * second[:, target] * score / (score + math.copysign(0.25, score))
            for name in ("z", "h"):
                got = explanation.relevances[name][sample] if targets is None else explanation.relevances[name][sample, place]
                np.testing.assert_allclose(got, expected, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize(
    ("record", "names"),
    [
        ("m", ["m"]),
        ("/main/dense", ["/main/dense"]),
        (["/head", "p"], ["p", "/head"]),
        ("/gate/*", ["q", "s"]),
        (["/mul", "*"], ["p", "q", "s", "/mul", "m0", "m1", "t", "y"]),
        (["[pq]", "m?", "p"], ["p", "q", "m0", "m1"]),
        (["all", "/head"], ["p", "q", "s", "m", "m0", "m1", "t", "/head"]),
        ([], []),
        (["x"], []),
    ],
)
def test_names_nodes_and_globs(record, names):
    explanation = explainer(gated_model(), record=record).explain(weights(2, 4))
    assert list(explanation.relevances) == ["x", *names]


def test_a_node_stands_for_its_output_and_a_gate_has_no_relevance():
    explanation = explainer(gated_model(), record=["m", "/mul", "s", "q", "p"]).explain(weights(2, 4))
    np.testing.assert_array_equal(explanation.relevances["/mul"], explanation.relevances["m"])
    np.testing.assert_array_equal(explanation.relevances["p"], explanation.relevances["m"])
    for gate in ("s", "q"):
        np.testing.assert_array_equal(explanation.relevances[gate], np.zeros((2, 6)))


def test_a_tensor_named_all_is_meant_before_all_tensors():
    model = build([op("Gemm", "x a", "all"), op("Relu", "all", "y")], {"x": ["N", 4]}, constants={"a": weights(4, 2)})
    assert list(explainer(model, record="all").explain(weights(1, 4)).relevances) == ["x", "all"]


@pytest.mark.parametrize(
    ("record", "message"),
    [
        ("/gaet/*", "cannot record '/gaet/*': it matches no tensor that relevance flows through; the nearest name is"),
        (["m", "z*"], "cannot record 'z*'"),
        ("/split", "cannot record '/split': the node has 2 outputs, name one of 'm0', 'm1'"),
        ("/gate/sigmoit", "no relevance flows through a tensor of that name; did you mean '/gate/sigmoid'"),
        ("a", "no relevance flows through a tensor of that name"),
    ],
)
def test_names_that_do_not_fit(record, message):
    with pytest.raises(onnx_lrp.InputError) as caught:
        explainer(gated_model(), record=record)
    assert str(caught.value).startswith("cannot record ")
    assert message in str(caught.value)


def test_merged_tensors_are_named_and_skipped_by_globs(digits):
    merged = "/stem/stem.0/Conv_output_0"
    with pytest.raises(onnx_lrp.InputError, match=r"it was merged into node '/stem/stem.0/Conv'"):
        explainer(DEMO / "digits.onnx", record=merged)
    with pytest.raises(onnx_lrp.InputError, match=r"flows through: '/stem/stem.0/Conv_output_0' was merged into node '/stem/stem.0/Conv'"):
        explainer(DEMO / "digits.onnx", record="/stem/*Conv_output_?")
    explanation = explainer(DEMO / "digits.onnx", record="/stem/*").explain(digits[:1])
    assert list(explanation.relevances) == ["image", "/stem/stem.1/BatchNormalization_output_0"]


def test_recorded_tensors_of_a_saved_explainer():
    names = [value.name for value in explainer(chain_model(), record=["r?", "f"]).to_onnx().graph.output]
    assert names == ["y", "relevance:x", "relevance:r1", "relevance:r2", "relevance:f"]


# the summary ----------------------------------------------------------------------------------------------------------


def figures(relevance):
    """Sum, positive share, entropy and largest value of one sample, number by number."""
    values = [float(value) for value in relevance.reshape(-1)]
    total = math.fsum(map(abs, values))
    if not total:
        return 0.0, math.nan, math.nan, 0.0
    shares = [abs(value) / total for value in values if value]
    entropy = -math.fsum(share * math.log(share) for share in shares) / math.log(len(values)) if len(values) > 1 else 0.0
    return math.fsum(values), math.fsum(value for value in values if value > 0) / total, entropy, max(map(abs, values))


def of_relevances(relevances, targets=None):
    """An explanation with made-up relevances of two samples."""
    model = build([op("Gemm", "x a", "y")], {"x": ["N", 4]}, constants={"a": weights(4, 2)})
    return explainer(model).explain(weights(2, 4), targets).with_relevances(relevances)


@pytest.mark.parametrize("targets", [None, [[0, 1, 1], [1, 1, 0]]])
def test_figures(targets):
    lead = (2,) if targets is None else (2, 3)
    sparse = weights(*lead, 5, 3)
    sparse[..., 1:, :] = 0
    relevances = {
        "dense": weights(*lead, 3, 4, 5),
        "sparse": sparse,
        "zero": np.zeros((*lead, 6)),
        "one": weights(*lead, 1),
        "bare": weights(*lead),
    }
    relevances["even"] = np.full((*lead, 8), -0.5, np.float32)
    explanation = of_relevances(relevances, targets)
    summary = explanation.summary()
    assert [layer.name for layer in summary.layers] == list(relevances)
    for layer in summary.layers:
        relevance = relevances[layer.name]
        assert layer.shape == relevance.shape[len(lead) :]
        expected = [figures(relevance[place]) for place in np.ndindex(lead)]
        got = [getattr(layer, name) for name in ("sum", "positive", "entropy", "largest")]
        assert all(values.shape == lead and values.dtype == np.float64 for values in got)
        np.testing.assert_allclose(np.stack([values.reshape(-1) for values in got], 1), expected, rtol=1e-6, atol=1e-12)
        mean = [np.mean(column) for column in zip(*expected, strict=True)]
        row = next(row for row in summary.rows() if row["name"] == layer.name)
        np.testing.assert_allclose([row[name] for name in ("sum", "positive", "entropy", "largest")], mean, rtol=1e-6, atol=1e-12)
    even = summary.layers[-1]
    np.testing.assert_allclose(even.entropy, 1)
    np.testing.assert_array_equal(even.positive, 0)


def test_a_sample_of_a_summary():
    relevances = {"a": weights(2, 3), "b": weights(2, 4, 4)}
    summary = of_relevances(relevances).summary()
    one = summary.sample(1)
    assert [row["sum"] for row in one.rows()] == pytest.approx([relevances["a"][1].sum(), relevances["b"][1].sum()], rel=1e-5)
    for wrong in ((2,), (-1,), (0, 0)):
        with pytest.raises(onnx_lrp.InputError, match=f"there is no sample {', '.join(map(str, wrong))} in a summary of shape "):
            summary.sample(*wrong)


def test_one_target_of_several():
    relevance = weights(2, 3, 4, 4)
    summary = of_relevances({"a": relevance}, [[0, 1, 1], [1, 1, 0]]).summary()
    np.testing.assert_allclose(summary.sample(1, 2).layers[0].sum, [relevance[1, 2].sum()], rtol=1e-5)
    np.testing.assert_allclose(summary.sample(1).layers[0].sum, [relevance[1].sum((1, 2))], rtol=1e-5)
    with pytest.raises(onnx_lrp.InputError, match=r"no sample 1, 3 in a summary of shape \(2, 3\)"):
        summary.sample(1, 3)


def test_axes_before_the_batch():
    """A folded tensor (N * heads, ...) has figures for each sample; one without the batch in front has none."""
    folded = weights(6, 4)
    summary = of_relevances({"folded": folded, "turned": weights(5, 2)}).summary()
    assert summary.layers[0].shape == (3, 4)
    np.testing.assert_allclose(summary.layers[0].sum, folded.reshape(2, -1).astype(np.float64).sum(1))
    assert summary.left_out == ("turned",)
    assert str(summary).splitlines()[-1] == "without the batch as first axis: turned"


@pytest.mark.parametrize(("batch", "samples"), [("N", 2), ("N", 4), (2, 4), (1, 4)])
@pytest.mark.parametrize("tokens", [4, "T"])
def test_tokens_before_the_batch(batch, samples, tokens):
    """(4, N, F) is not read as (N, ...) even where the lengths would fit, but for runs of single samples, one after the other."""
    nodes = [op("Transpose", "x", "t", perm=[1, 0, 2]), op("MatMul", "t a", "m"), op("Transpose", "m", "b", perm=[1, 0, 2])]
    nodes = [*nodes, op("ReduceMean", "b i", "p", keepdims=0), op("Gemm", "p w", "y")]
    constants = {"a": weights(6, 5), "w": weights(5, 3), "i": np.array([1])}
    made = explainer(build(nodes, {"x": [batch, tokens, 6]}, constants=constants), record="all")
    for targets in (None, np.tile([0, 1], (samples, 1))):
        explanation = made.explain(weights(samples, 4, 6), targets)
        summary = explanation.summary()
        if batch == 1:
            assert summary.left_out == ()
        else:
            assert summary.left_out == ("t", "m")
            assert explanation.relevances["t"].ndim == (3 if targets is None else 4)  # (K, T, N, F)
        seed = explanation.output.max(1) if targets is None else explanation.output[:, :2]
        for layer in summary.layers:
            np.testing.assert_allclose(layer.sum, seed, rtol=1e-3, err_msg=layer.name)


def test_the_table():
    relevances = {"one": np.array([[1, -1, 2], [3, 0, 0]], np.float32), "nothing": np.zeros((2, 2, 2))}
    assert str(of_relevances(relevances).summary()).splitlines() == [
        "tensor   shape  sum  positive  entropy  largest |R|",
        "one          3  2.5     0.875    0.473          2.5",
        "nothing    2x2    0         -        -            0",
    ]


@pytest.mark.parametrize("samples", [1, 2])
def test_the_figure_shows_the_figures(tmp_path, samples):
    relevances = {"in$put": np.abs(weights(2, 3)), "zero": np.zeros((2, 4)), "/a/long/name" * 6: -np.abs(weights(2, 4, 4))}
    summary = of_relevances(relevances).summary()
    shown = summary if samples == 2 else summary.sample(0)
    figure = shown.plot(tmp_path / "layers.png", "Title")
    sums, shares, spreads = figure.axes
    assert [bar.get_width() for bar in sums.patches] == [row["sum"] for row in shown.rows()]
    assert sums.patches[2].get_facecolor() != sums.patches[0].get_facecolor()
    assert [text.get_text() for text in sums.get_yticklabels()][:2] == [r"in\$put", "zero"]
    assert sums.yaxis_inverted()
    for axes, name in ((shares, "positive"), (spreads, "entropy")):
        np.testing.assert_array_equal(axes.lines[-1].get_xdata(), [row[name] for row in shown.rows()])
        assert len(axes.lines) == (1 if samples == 1 else 3)  # ranges of the two layers that have the figure
    with Image.open(tmp_path / "layers.png") as picture:
        assert picture.width > 900


def test_a_figure_of_nothing():
    with pytest.raises(onnx_lrp.InputError, match="without layers"):
        of_relevances({}).summary().plot()


def test_the_example(tmp_path, monkeypatch, capsys):
    spec = importlib.util.spec_from_file_location("layers_example", ROOT / "examples" / "layers.py")
    example = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(example)
    monkeypatch.setattr("sys.argv", ["layers.py", "-o", str(tmp_path / "out")])
    example.main()
    assert "/Flatten_output_0" in capsys.readouterr().out
    assert sorted(file.name for file in (tmp_path / "out").iterdir()) == ["layers.png", "maps.png"]
    for name in ("layers.png", "maps.png"):
        with Image.open(tmp_path / "out" / name) as picture:
            assert picture.width > 600


def test_the_page(tmp_path, monkeypatch, digits, capsys):
    """The code of docs/layers.md runs as it stands, one block after the other."""
    pytest.importorskip("h5py")
    monkeypatch.chdir(tmp_path)
    shutil.copy(DEMO / "digits.onnx", "model.onnx")
    blocks = re.findall(r"```python\n(.*?)```", (ROOT / "docs" / "layers.md").read_text(), re.DOTALL)
    assert len(blocks) == 4
    names = {"x": digits, "labels": np.arange(12)}
    for block in blocks:
        if "SummaryWriter" not in block:  # test_tensorboard.py has that
            exec(block, names)  # noqa: S102
    assert sorted(file.name for file in tmp_path.iterdir()) == ["explanation.h5", "explanation.npz", "layers.png", "model.onnx"]
    shown = capsys.readouterr().out
    assert "/MaxPool (12, 16, 8, 8)" in shown
    assert str(names["summary"]) in shown
