"""What is explained: several outputs at once, regions of dense outputs, classes by their labels."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from helpers import check_close, normal
from models import build, op

import onnx_lrp
from onnx_lrp import Region

N, IN, C, H, WIDTH = 2, 3, 4, 5, 6
WEIGHT = normal("weight", C, IN)
X = normal("x", N, IN, H, WIDTH)
SCORES = np.einsum("ci,nihw->nchw", WEIGHT.astype(float), X)


def first(free: bool = False, rank_known: bool = True) -> onnx.ModelProto:
    """A 1x1 convolution, (N, C, H, W)."""
    shape = ["N", IN, "h", "w"] if free else ["N", IN, H, WIDTH]
    return build([op("Conv", "x w")], {"x": shape if rank_known else None}, constants={"w": WEIGHT[:, :, None, None]})


def last() -> onnx.ModelProto:
    """The same with channels last, (N, H, W, C)."""
    return build([op("MatMul", "x w")], {"x": ["N", H, WIDTH, IN]}, constants={"w": WEIGHT.T.copy()})


def relevance(seed: np.ndarray) -> np.ndarray:
    """Relevance of the input under Epsilon, from a seed (N, C, H, W)."""
    return X * np.einsum("ci,nchw->nihw", WEIGHT.astype(float), seed / (SCORES + 1e-6 * np.where(SCORES >= 0, 1, -1)))


def seed_of(classes: np.ndarray, name: str = "output") -> np.ndarray:
    """The seed of a map of classes (N, H, W), negative where none is explained."""
    at = (np.arange(C)[None, :, None, None] == classes[:, None]).astype(float)
    others = (classes >= 0)[:, None] - at
    value = (SCORES * at).sum(1, keepdims=True)
    p = np.exp(SCORES) / np.exp(SCORES).sum(1, keepdims=True)
    p_t = (p * at).sum(1, keepdims=True)
    return {
        "output": SCORES * at,
        "one": at,
        "contrastive": SCORES * at - value / (C - 1) * others,
        "softmax_gradient": p_t * (1 - p_t) * at - p_t * p * others,
    }[name]


MASK = np.zeros((H, WIDTH), bool)
MASK[1:4, 2:] = True
MASKS = np.stack([MASK, ~MASK])
MAP = np.random.default_rng(0).integers(-1, C, (N, H, WIDTH))


def map_of(mask: np.ndarray, channel: int | None) -> np.ndarray:
    return np.where(np.broadcast_to(mask, (N, H, WIDTH)), SCORES.argmax(1) if channel is None else channel, -1)


CASES = [
    (Region(MASK, 2), map_of(MASK, 2)),
    (Region(MASKS, 0), map_of(MASKS, 0)),
    (Region(MASKS), map_of(MASKS, None)),
    (Region(MAP), MAP),
    (Region(MAP[0].astype(np.int8)), np.stack([MAP[0]] * N)),
    (MAP, MAP),
]


@pytest.mark.parametrize("seed", ["output", "one", "contrastive", "softmax_gradient"])
@pytest.mark.parametrize(("target", "classes"), CASES)
def test_regions_with_channels_first(target, classes, seed) -> None:
    explainer = onnx_lrp.Explainer(first(), "epsilon", threads=1)
    found = explainer.explain(X, target, seed)
    np.testing.assert_array_equal(found.target, classes)
    check_close(found.relevance, relevance(seed_of(classes, seed)), 1e-4)
    again = explainer.explain(X, found.target_as_given, seed)
    np.testing.assert_array_equal(again.relevance, found.relevance)


@pytest.mark.parametrize("seed", ["output", "contrastive"])
@pytest.mark.parametrize(("target", "classes"), CASES)
@pytest.mark.parametrize("axis", [None, 3, -1])
def test_regions_with_channels_last(target, classes, seed, axis) -> None:
    if axis is not None:
        given = target if isinstance(target, Region) else Region(target)
        target = Region(given.mask, given.channel, axis)
    found = onnx_lrp.Explainer(last(), "epsilon", threads=1).explain(X.transpose(0, 2, 3, 1), target, seed)
    np.testing.assert_array_equal(found.target, classes)
    check_close(found.relevance.transpose(0, 3, 1, 2), relevance(seed_of(classes, seed)), 1e-4)


@pytest.mark.parametrize(("target", "classes"), CASES)
def test_regions_of_outputs_whose_size_the_model_leaves_open(target, classes) -> None:
    found = onnx_lrp.Explainer(first(free=True), "epsilon", threads=1).explain(X, target)
    np.testing.assert_array_equal(found.target, classes)
    check_close(found.relevance, relevance(seed_of(classes)), 1e-4)


def test_two_passes_of_a_region() -> None:
    found = onnx_lrp.Explainer(first(), "epsilon", threads=1).explain(X, Region(MASKS, 1), "contrastive", two_pass=True)
    classes = map_of(MASKS, 1)
    target, both = relevance(seed_of(classes)), relevance(seed_of(classes, "contrastive"))
    dual = target - both
    factor = target.sum((1, 2, 3), keepdims=True) / dual.sum((1, 2, 3), keepdims=True)
    check_close(found.relevance, target - factor * dual, 1e-4)


def test_one_position_of_a_text_against_the_other_tokens() -> None:
    """Next-token scores (N, length, words): Region with one place, the classes in the last axis."""
    weight, x = normal("words", 3, 9), normal("text", 2, 4, 3)
    explainer = onnx_lrp.Explainer(build([op("MatMul", "x w")], {"x": ["N", 4, 3]}, constants={"w": weight}), "epsilon", threads=1)
    found = explainer.explain(x, Region(np.arange(4) == 3, 7), "contrastive").relevance
    y = x.astype(float) @ weight
    seed = np.zeros_like(y)
    seed[:, 3] = -y[:, 3, 7:8] / 8
    seed[:, 3, 7] = y[:, 3, 7]
    check_close(found, x * ((seed / (y + 1e-6 * np.sign(y))) @ weight.T.astype(float)), 1e-4)


@pytest.mark.parametrize(("target", "classes"), CASES)
def test_methods_of_several_runs_take_regions(target, classes) -> None:
    """Of a linear model without bias, integrated gradients are input x gradient, and add up to the output's values in the region."""
    want = X * np.einsum("ci,nchw->nihw", WEIGHT.astype(float), seed_of(classes, "one"))
    found = onnx_lrp.integrated_gradients(first(), X, target, steps=3, batch_size=2, threads=1)
    check_close(found.relevance, want, 1e-4)
    np.testing.assert_allclose(found.explained, seed_of(classes).sum((1, 2, 3)), rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(found.gap, 0, atol=1e-4)
    smooth = onnx_lrp.smoothgrad(first(), X, target, n=3, batch_size=4, threads=1)
    check_close(smooth.relevance, onnx_lrp.gradient(first(), X, target, threads=1).relevance, 1e-4)


def test_methods_of_several_runs_take_several_outputs() -> None:
    mask = np.random.default_rng(1).random((N, C, H, WIDTH)) < 0.3
    found = onnx_lrp.integrated_gradients(first(), X, mask, steps=2, threads=1)
    check_close(found.relevance, relevance(SCORES * mask), 1e-4)
    np.testing.assert_allclose(found.explained, (SCORES * mask).sum((1, 2, 3)), rtol=1e-4)


# several outputs at once ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("mask", [np.array([1, 0, 0, 1], bool), [True, False, False, True], np.array([[1, 1, 0, 0], [0, 0, 0, 1]], bool)])
@pytest.mark.parametrize("known", [True, False])
def test_several_outputs_of_a_regression(mask, known) -> None:
    weight, x = normal("regression", 5, 4), normal("rows", 2, 5)
    model = build([op("MatMul", "x w")], {"x": ["N", 5] if known else None}, constants={"w": weight})
    explainer = onnx_lrp.Explainer(model, "epsilon", threads=1)
    found = explainer.explain(x, mask)
    chosen = np.broadcast_to(np.array(mask), (2, 4))
    np.testing.assert_array_equal(found.target, chosen)
    each = [explainer.explain(x, index).relevance for index in range(4)]
    check_close(found.relevance, sum(each[index] * chosen[:, index, None] for index in range(4)), 1e-5)
    one = explainer.explain(x, mask, "one").relevance
    check_close(one, explainer.explain(x, seed=chosen.astype(np.float32)).relevance, 1e-5)
    np.testing.assert_array_equal(explainer.explain(x, found.target_as_given).relevance, found.relevance)


def test_booleans_shaped_like_a_dense_output() -> None:
    mask = np.random.default_rng(1).random((N, C, H, WIDTH)) < 0.3
    explainer = onnx_lrp.Explainer(first(), "epsilon", threads=1)
    check_close(explainer.explain(X, mask).relevance, relevance(SCORES * mask), 1e-4)
    check_close(explainer.explain(X, mask[0]).relevance, relevance(SCORES * mask[0]), 1e-4)


def test_saved_explanations_of_regions_have_no_label_unless_given(tmp_path) -> None:
    found = onnx_lrp.Explainer(first(), "epsilon", threads=1).explain(X, Region(MASK, 2), "contrastive", two_pass=True)
    np.testing.assert_array_equal(found.inputs["x"], X)
    for label in (None, [3, 1]):
        found.save(tmp_path / "found.npz", label=label)
        with np.load(tmp_path / "found.npz") as file:
            np.testing.assert_array_equal(file["target"], map_of(MASK, 2))
            np.testing.assert_array_equal(file["attribution"], found.relevance)
            assert ("label" in file) == (label is not None)


# labels ---------------------------------------------------------------------------------------------------------------

NAMES = ["n00000001 tench, Tinca tinca", "n00000002 cat", "n00000003 crane", "n00000004 crane"]


def classifier(**options) -> onnx_lrp.Explainer:
    model = build([op("MatMul", "x w")], {"x": ["N", IN]}, constants={"w": WEIGHT.T.copy()})
    return onnx_lrp.Explainer(model, "epsilon", threads=1, **options)


@pytest.mark.parametrize(
    ("target", "expected"),
    [
        ("cat", 1),
        ("Tinca Tinca", 0),
        (["cat", "tench"], [1, 0]),
        (("cat", 3), [1, 3]),
        (np.array(["tench", "cat"]), [0, 1]),
        ([["cat", "tench"], [2, "cat"]], [[1, 0], [2, 1]]),
    ],
)
def test_targets_by_label(target, expected) -> None:
    explainer, x = classifier(labels=NAMES), normal("rows", 2, IN)
    found = explainer.explain(x, target)
    plain = explainer.explain(x, np.array(expected) if np.ndim(expected) else expected)
    np.testing.assert_array_equal(found.target, plain.target)
    np.testing.assert_array_equal(found.relevance, plain.relevance)


def test_labels_from_a_file_and_in_regions(tmp_path) -> None:
    path = tmp_path / "labels.txt"
    path.write_text("sky\nroad\ncar\ntree\n")
    explainer = onnx_lrp.Explainer(first(), "epsilon", labels=path, threads=1)
    np.testing.assert_array_equal(explainer.explain(X, Region(MASK, "car")).target, map_of(MASK, 2))
    np.testing.assert_array_equal(explainer.explain(X, ("tree", 1, 2)).target, [[3, 1, 2]] * N)


@pytest.mark.parametrize(
    ("labels", "target", "message"),
    [
        (NAMES, "kat", "no class is named 'kat'; did you mean 'cat'"),
        (NAMES, "crane", "'crane' names the classes 2, 3: give the number of one"),
        (NAMES, ["cat", "nothing like it"], "no class is named 'nothing like it'"),
        (None, "cat", "unless the Explainer is given labels="),
        (NAMES[:2], 0, "the list of labels has 2 labels, the model's output 4 elements"),
        ([], 0, "the list of labels is empty"),
        (["cat", 3], 0, "not 3"),
        ("missing.txt", 0, "no such file: missing.txt"),
    ],
)
def test_bad_labels(labels, target, message) -> None:
    with pytest.raises(onnx_lrp.InputError, match=message):
        classifier(labels=labels).explain(normal("rows", 2, IN), target)


# errors ---------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("target", "message"),
    [
        (1, "give the target as a tuple of 3 ints, or a Region"),
        ((9, 0, 0), "does not fit"),
        (MASK, r"the booleans have shape \(5, 6\), the output \(N, 4, 5, 6\); for places: onnx_lrp.Region"),
        (np.zeros((C, H, WIDTH), bool), "the target is empty"),
        (Region(np.zeros((H, WIDTH), bool), 1), "the target is empty"),
        (Region(MASK.T, 1), r"places of shape \(6, 5\) does not fit an output of shape \(N, 4, 5, 6\)"),
        (Region(MASK[0], 1), "does not fit"),
        (Region(np.stack([MASK] * 3), 1), "a region for 3 samples, the input has 2"),
        (Region(MASK, C), "target 4 is out of range: the output has 4 classes"),
        (Region(MASK, -1), "a region's channel is a class or None, not -1"),
        (Region(MASK, 1.5), "not 1.5"),
        (Region(MASK, "cat"), "labels="),
        (Region(MASK, 1, axis=0), "axis 0"),
        (Region(MASK, 1, axis=4), "axis 4"),
        (Region(MASK, 1, axis=-1), "does not fit"),
        (Region(MAP, 1), "leave its channel out"),
        (Region(MASK * 0.5, 1), "not as float64"),
        (np.full((N, H, WIDTH), C), "target 4 is out of range"),
        (MAP[:, 1:], "does not fit"),
    ],
)
def test_bad_targets_of_a_dense_output(target, message) -> None:
    with pytest.raises(onnx_lrp.InputError, match=message) as caught:
        onnx_lrp.Explainer(first(), "epsilon", threads=1).explain(X, target)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("target", "message"),
    [
        (Region(np.ones((H, 2), bool), 1), r"the region has places of shape \(5, 2\), the output \(N, 4, 5, 6\)"),
        (Region(np.ones((7, 7), bool), 1), r"the region has places of shape \(7, 7\), the output \(N, 4, 5, 6\)"),
        (Region(np.ones((WIDTH, H), bool), 1), r"the region has places of shape \(6, 5\), the output \(N, 4, 5, 6\)"),
        (Region(MASK, C), "the output has 4 classes"),
        (np.ones((C, WIDTH, H), bool), r"the mask of outputs has places of shape \(4, 6, 5\), the output \(N, 4, 5, 6\)"),
    ],
)
def test_targets_that_only_the_run_can_refuse(target, message) -> None:
    with pytest.raises(onnx_lrp.InputError, match=message) as caught:
        onnx_lrp.Explainer(first(free=True), "epsilon", threads=1).explain(X, target)
    assert "\n" not in str(caught.value)


def test_square_maps_need_an_axis() -> None:
    model = build([op("Conv", "x w")], {"x": ["N", IN, 4, 4]}, constants={"w": WEIGHT[:, :, None, None]})
    explainer, mask = onnx_lrp.Explainer(model, "epsilon", threads=1), np.eye(4, dtype=bool)
    with pytest.raises(onnx_lrp.InputError, match="axis="):
        explainer.explain(X[..., :4, :4], Region(mask, 1))
    found = explainer.explain(X[..., :4, :4], Region(mask, 1, axis=1))
    assert (found.relevance[..., ~mask] == 0).all()
    assert (np.abs(found.relevance).sum(1)[..., mask] > 0).all()


def test_contrasts_of_a_single_position_need_the_axis_of_the_classes() -> None:
    explainer = onnx_lrp.Explainer(first(), "epsilon", threads=1)
    with pytest.raises(onnx_lrp.InputError, match="give the target as a Region"):
        explainer.explain(X, (1, 2, 3), "contrastive")


def test_unknown_rank() -> None:
    explainer = onnx_lrp.Explainer(first(rank_known=False), "epsilon", threads=1)
    with pytest.raises(onnx_lrp.InputError, match="as a seed array"):
        explainer.explain(X, Region(MASK, 1))
