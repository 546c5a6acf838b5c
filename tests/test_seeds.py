"""Where relevance starts: the seeds against their formulas in float64, one pass and two."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest
from helpers import check_close, normal, stabilize
from models import build, op
from PIL import Image

import onnx_lrp
from onnx_lrp.seeds import SEEDS, TWO_PASS, combine

CONTRASTS = list(TWO_PASS)
INPUTS, HIDDEN, CLASSES = 5, 7, 4
W, B, V, C = normal("W", INPUTS, HIDDEN), normal("B", HIDDEN), normal("V", HIDDEN, CLASSES), normal("C", CLASSES)
X = normal("X", 3, INPUTS)


def network(batch: int | str = "N", final: str = "Identity", scale: float = 1.0) -> onnx.ModelProto:
    """y = relu(x W + B) V + C, then `final`."""
    nodes = [op("Gemm", "x w b", "z"), op("Relu", "z", "h"), op("Gemm", "h v c", "y"), op(final, "y", "end")]
    return build(nodes, {"x": [batch, INPUTS]}, "end", {"w": W, "b": B, "v": V * np.float32(scale), "c": C * np.float32(scale)})


def scores(x: np.ndarray, scale: float = 1.0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """z, relu(z) and y in float64."""
    z = x.astype(float) @ W + B
    h = np.maximum(z, 0)
    return z, h, h @ (V.astype(float) * scale) + C.astype(float) * scale


def relevance(x: np.ndarray, seed: np.ndarray, scale: float = 1.0) -> np.ndarray:
    """Epsilon in both layers, epsilon 1e-6."""
    z, h, y = scores(x, scale)
    hidden = h * ((seed / stabilize(y, 1e-6)) @ (V.T.astype(float) * scale))
    return x * ((hidden / stabilize(z, 1e-6)) @ W.T.astype(float))


def formula(name: str, y: np.ndarray, t: np.ndarray) -> np.ndarray:
    """The initial relevance of scores (N, classes) and targets (N,)."""
    at = np.eye(y.shape[1])[t]
    value = np.take_along_axis(y, t[:, None], 1)
    p = np.exp(y - y.max(1, keepdims=True))
    p = p / p.sum(1, keepdims=True)
    p_t = np.take_along_axis(p, t[:, None], 1)
    others = value / max(y.shape[1] - 1, 1) * (1 - at)
    gain = p_t * (p * (1 - at)).sum(1, keepdims=True) * at
    return {
        "output": at * value,
        "one": at,
        "contrastive": at * value - others,
        "contrastive, target": at * value,
        "contrastive, dual": others,
        "softmax_gradient": gain - p_t * p * (1 - at),
        "softmax_gradient, target": gain,
        "softmax_gradient, dual": p_t * p * (1 - at),
    }[name]


def two_pass(name: str, x: np.ndarray, t: np.ndarray) -> np.ndarray:
    y = scores(x)[2]
    target, dual = (relevance(x, formula(f"{name}, {part}", y, t)) for part in ("target", "dual"))
    return target - target.sum(1, keepdims=True) / dual.sum(1, keepdims=True) * dual


@pytest.fixture(scope="module")
def explainer() -> onnx_lrp.Explainer:
    return onnx_lrp.Explainer(network(), "epsilon", threads=1)


@pytest.mark.parametrize("name", SEEDS)
@pytest.mark.parametrize("target", [None, 2, [0, 3, 1]])
def test_seeds_follow_their_formulas(explainer, name, target) -> None:
    found = explainer.explain(X, target, name)
    y = scores(X)[2]
    t = y.argmax(1) if target is None else np.broadcast_to(target, 3)
    np.testing.assert_array_equal(found.target, t)
    seed = formula(name, y, t)
    check_close(found.relevance, relevance(X, seed), 1e-4)
    np.testing.assert_allclose(found.conservation.seed, seed.sum(1), rtol=1e-4, atol=1e-6)
    check_close(explainer.explain(X, seed=seed).relevance, relevance(X, seed), 1e-4)


@pytest.mark.parametrize("name", CONTRASTS)
@pytest.mark.parametrize("target", [None, 2, [0, 3, 1]])
def test_two_passes_are_rescaled_and_subtracted(explainer, name, target) -> None:
    found = explainer.explain(X, target, name, two_pass=True)
    t = scores(X)[2].argmax(1) if target is None else np.broadcast_to(target, 3)
    want = two_pass(name, X, t)
    check_close(found.relevance, want, 1e-4)
    np.testing.assert_allclose(found.relevance.sum(1), 0, atol=1e-5 * np.abs(want).max())
    assert found.output.shape == (3, CLASSES)
    np.testing.assert_array_equal(found.target, t)


@pytest.mark.parametrize("name", CONTRASTS)
@pytest.mark.parametrize("batch", ["N", 2])
def test_several_targets_per_sample(name, batch) -> None:
    explainer = onnx_lrp.Explainer(network(batch), "epsilon", threads=1, record=["h"])
    targets = np.array([[0, 1], [3, 2], [1, 1]])
    signed = explainer.explain(X, targets, name)
    apart = explainer.explain(X, targets, name, two_pass=True)
    assert apart.relevances["h"].shape == (3, 2, HIDDEN)
    assert apart.output.shape == (3, CLASSES)
    np.testing.assert_array_equal(apart.target, targets)
    y = scores(X)[2]
    for k in (0, 1):
        check_close(signed.relevance[:, k], relevance(X, formula(name, y, targets[:, k])), 1e-4)
        check_close(apart.relevance[:, k], two_pass(name, X, targets[:, k]), 1e-4)
    pairs = [formula(f"{name}, {part}", y, targets[:, k]).sum(1) for k in (0, 1) for part in ("target", "dual")]
    np.testing.assert_allclose(apart.conservation.seed, np.stack(pairs, 1).reshape(-1), rtol=1e-4, atol=1e-6)
    four_rows = explainer.explain(X[:2], targets[:2], name)  # as many as the view has axes
    check_close(four_rows.relevance, signed.relevance[:2], 1e-5)
    np.testing.assert_allclose(four_rows.conservation.seed, signed.conservation.seed[:4], rtol=1e-5, atol=1e-7)


def test_both_passes_of_several_inputs_and_recorded_tensors_share_one_factor() -> None:
    nodes = [op("Gemm", "a v", "p"), op("Gemm", "b w", "q"), op("Add", "p q", "y")]
    constants = {"v": normal("v", 5, 3), "w": normal("w", 4, 3)}
    explainer = onnx_lrp.Explainer(build(nodes, {"a": ["N", 5], "b": ["N", 4]}, constants=constants), "epsilon", record=["p"], threads=1)
    x = {"a": normal("a", 2, 5), "b": normal("b", 2, 4)}
    y = sum(x[name].astype(float) @ constants[weight] for name, weight in (("a", "v"), ("b", "w")))
    passes = [explainer.explain(x, seed=formula(f"contrastive, {part}", y, np.array([1, 0]))).relevances for part in ("target", "dual")]
    sums = [passed["a"].sum(1, keepdims=True) + passed["b"].sum(1, keepdims=True) for passed in passes]
    found = explainer.explain(x, [1, 0], "contrastive", two_pass=True).relevances
    for name in ("a", "b", "p"):
        check_close(found[name], passes[0][name] - sums[0] / sums[1] * passes[1][name], 1e-4)


def test_softmax_gradient_is_the_gradient_of_the_probability() -> None:
    """The seed is the derivative of p_t, so relevance by the gradient equals the gradient of the model with its softmax."""
    seeded = onnx_lrp.Explainer(network(), "gradient", threads=1).explain(X, 1, "softmax_gradient")
    through = onnx_lrp.Explainer(network(final="Softmax"), "gradient", keep_final_activation=True, threads=1).explain(X, 1)
    check_close(seeded.relevance, through.relevance, 1e-4)


@pytest.mark.parametrize("two", [False, True])
def test_a_sure_network_gives_no_nan(two) -> None:
    """With scores 200 times as large, all other probabilities are zero in float32."""
    explainer = onnx_lrp.Explainer(network(scale=200.0), "epsilon", threads=1)
    y = scores(X, 200.0)[2]
    assert (np.sort(y, 1)[:, -1] - np.sort(y, 1)[:, -2]).min() > 110
    found = explainer.explain(X, None, "softmax_gradient", two_pass=two)
    np.testing.assert_array_equal(found.relevance, np.zeros_like(X))


def test_a_rather_sure_network_keeps_its_small_seed() -> None:
    """1 - p_t is far below what float32 resolves beside one, and still right."""
    y = scores(X, 20.0)[2]
    t = y.argmax(1)
    seed = formula("softmax_gradient", y, t)
    assert 0 < seed.max(1).min() < 1e-8
    found = onnx_lrp.Explainer(network(scale=20.0), "epsilon", threads=1).explain(X, t, "softmax_gradient").relevance
    for sample, want in enumerate(relevance(X, seed, 20.0)):
        check_close(found[sample], want, 1e-4)


def test_combine_without_dual_relevance_takes_nothing_off() -> None:
    target, none = np.array([[1.0, 2.0, -1.0]], np.float32), np.zeros((1, 3), np.float32)
    found = combine({"x": np.stack([target, none], 1)}, ["x"])
    np.testing.assert_array_equal(found["x"], target)
    cancels = np.array([[1e6, -1e6, 1e-3]], np.float32)  # its sum is below what rounding leaves of its parts
    np.testing.assert_array_equal(combine({"x": np.stack([target, cancels], 1)}, ["x"])["x"], target)
    dual = np.array([[3.0, 0.0, 1.0]], np.float32)
    np.testing.assert_allclose(combine({"x": np.stack([target, dual], 1)}, ["x"])["x"], [[-0.5, 2.0, -1.5]])


def test_two_pass_of_the_digits_is_finite_and_sums_to_zero() -> None:
    demo = Path(onnx_lrp.__file__).parent / "demo"
    images = np.load(demo / "digits.npz")["images"]
    explainer = onnx_lrp.Explainer(demo / "digits.onnx", "epsilon_plus", threads=1)
    for name in CONTRASTS:
        found = explainer.explain(images, np.tile([3, 8], (len(images), 1)), name, two_pass=True).relevance
        assert found.shape == (len(images), 2, 1, 16, 16)
        size = np.abs(found).sum((2, 3, 4))
        assert (size > 0).all()
        assert (np.abs(found.sum((2, 3, 4))) < 1e-5 * size).all()


@pytest.mark.parametrize(
    ("model", "arguments", "message"),
    [
        (network(), {"seed": "contrastiv"}, "unknown seed 'contrastiv'; did you mean 'contrastive'"),
        (network(), {"seed": "output", "two_pass": True}, "two passes need seed 'contrastive' or 'softmax_gradient', not 'output'"),
        (network(), {"two_pass": True}, "not 'output'"),
        (network(), {"seed": np.ones((3, CLASSES)), "two_pass": True}, "not an array"),
        (network(), {"seed": "contrastive", "target": np.ones(CLASSES, bool)}, "which axis holds the classes"),
        (network(final="Softmax"), {"seed": "softmax_gradient"}, "from scores, not from the probabilities"),
    ],
)
def test_errors(model, arguments, message) -> None:
    explainer = onnx_lrp.Explainer(model, "gradient" if "probab" in message else "epsilon", keep_final_activation=True, threads=1)
    with pytest.raises(onnx_lrp.InputError, match=message) as caught:
        explainer.explain(X, **arguments)
    assert "\n" not in str(caught.value)


def test_two_passes_of_a_recorded_tensor_without_the_batch_in_front_are_refused() -> None:
    nodes = [op("Transpose", "x", "turned", perm=[1, 0]), op("Relu", "turned", "r"), op("Transpose", "r", "back", perm=[1, 0])]
    model = build([*nodes, op("MatMul", "back w")], {"x": ["N", INPUTS]}, constants={"w": normal("w", INPUTS, 3)})
    explainer = onnx_lrp.Explainer(model, "epsilon", record=["r"], threads=1)
    assert explainer.explain(X, 1, "contrastive").relevances["r"].shape == (INPUTS, 3)
    with pytest.raises(onnx_lrp.InputError, match="the samples in the first axis, which 'r' has not"):
        explainer.explain(X, 1, "contrastive", two_pass=True)


@pytest.mark.parametrize("name", CONTRASTS)
@pytest.mark.parametrize("known", [True, False])
def test_one_output_has_no_other_classes(name, known) -> None:
    shape = ["N", INPUTS] if known else None
    model = build([op("MatMul", "x w")], {"x": shape}, constants={"w": W[:, :1]})
    with pytest.raises(onnx_lrp.InputError, match="only one"):
        onnx_lrp.Explainer(model, "epsilon", threads=1).explain(X, seed=name)


def test_a_seed_of_the_wrong_shape_is_refused_after_the_run_too() -> None:
    model = build([op("MatMul", "x w")], {"x": None}, constants={"w": normal("w", INPUTS, 6)})
    explainer = onnx_lrp.Explainer(model, "epsilon", threads=1)
    with pytest.raises(onnx_lrp.InputError, match=r"the seed has shape \(3, 2, 3\), the output \(3, 6\)"):
        explainer.explain(X, seed=np.ones((3, 2, 3)))
    with pytest.raises(onnx_lrp.InputError, match=r"the seed has shape \(3, 7\), the output \(3, 6\)"):
        explainer.explain(X, seed=np.ones((3, 7)))


def test_example(tmp_path) -> None:
    script = Path(__file__).resolve().parents[1] / "examples" / "seeds.py"
    command = [sys.executable, str(script), "-o", str(tmp_path / "seeds.png")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    shares = [int(line.split(": ")[1].split("%")[0]) for line in done.stdout.splitlines() if "%" in line]
    assert len(shares) == 5
    assert min(shares[1:]) > shares[0], "seeds that contrast tell the two digits apart better than the plain one"
    with Image.open(tmp_path / "seeds.png") as picture:
        assert min(picture.size) > 500
