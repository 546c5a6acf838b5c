"""Pixel flipping against loops written out in NumPy."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from models import build, op
from numpy.typing import NDArray

from onnx_lrp import InputError
from onnx_lrp.evaluation import Flipping, PixelFlipping, abpc
from onnx_lrp.evaluation.regions import Regions, guess_channel_axis

RNG = np.random.default_rng(11)


def linear(*shape: int, classes: int = 3) -> tuple[Any, NDArray[np.float32]]:
    """A linear model on samples of a shape, and its weights (features, classes)."""
    weights = RNG.standard_normal((int(np.prod(shape)), classes)).astype(np.float32)
    nodes = [op("Flatten", "x", "flat"), op("MatMul", "flat w", "y")]
    return build(nodes, {"x": ("N", *shape)}, constants={"w": weights}), weights


def samples(count: int, *shape: int) -> NDArray[np.float32]:
    return RNG.standard_normal((count, *shape)).astype(np.float32)


# regions ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("shape", "axis"),
    [((3, 9, 7), 0), ((9, 7, 3), 2), ((1, 9, 7), 0), ((5, 9, 7), 0), ((2, 20), 0), ((20,), None), ((4, 5, 4), 0), ((3, 4, 5, 6), 0)],
)
def test_channel_axis(shape: tuple[int, ...], axis: int | None) -> None:
    assert guess_channel_axis(shape) == axis
    assert Regions(shape).channel_axis == axis


@pytest.mark.parametrize(
    ("shape", "patch", "axis"), [((3, 9, 7), 4, 0), ((9, 7, 3), 2, 2), ((2, 20), 6, 0), ((7, 5), 3, "none"), ((6,), 1, None)]
)
def test_region_scores_are_sums(shape: tuple[int, ...], patch: int, axis: Any) -> None:
    """Patches at the far edges are smaller; channels are summed."""
    relevance = samples(1, *shape)[0]
    regions = Regions(shape, patch, axis)
    plain = relevance.astype(np.float64)
    plain = plain.sum(axis) if isinstance(axis, int) else plain
    starts = [range(0, length, patch) for length in plain.shape]
    expected = [
        plain[tuple(slice(s, s + patch) for s in start)].sum()
        for start in np.array(np.meshgrid(*starts, indexing="ij")).reshape(plain.ndim, -1).T
    ]
    np.testing.assert_allclose(regions.scores(relevance), expected, rtol=1e-5, atol=1e-6)
    assert regions.count == len(expected)
    mask = np.broadcast_to(regions.mask(np.array([0, regions.count - 1])), shape)
    assert mask.sum() == sum(np.broadcast_to(regions.mask(np.array([k])), shape).sum() for k in (0, regions.count - 1))


@pytest.mark.parametrize(("patch", "axis"), [(0, None), (2.5, None), (2, 3), (2, "channels")])
def test_impossible_regions(patch: Any, axis: Any) -> None:
    with pytest.raises(InputError):
        Regions((3, 8, 8), patch, axis)


# schedules ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("schedule", "steps", "expected"),
    [
        ("quadratic", None, [0, 1, 4, 9, 12]),
        ("quadratic", 2, [0, 1, 12]),
        ("quadratic", 6, [0, 1, 4, 9, 12, 12, 12]),
        ("linear", None, list(range(13))),
        ("linear", 4, [0, 3, 6, 9, 12]),
        ("linear", 1, [0, 12]),
    ],
)
def test_schedule(schedule: str, steps: int | None, expected: list[int]) -> None:
    model, _ = linear(3, 8, 6)
    flipping = PixelFlipping(model, 2, perturbation="mean", schedule=schedule, steps=steps)
    assert flipping.flips(Regions((3, 8, 6), 2)).tolist() == expected


# scores -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("order", ["most_relevant_first", "least_relevant_first"])
@pytest.mark.parametrize("shape", [(3, 7, 9), (9, 7, 3), (2, 23), (11,)])
def test_scores_of_a_constant(shape: tuple[int, ...], order: str) -> None:
    """Region after region is set to a constant, in the order of the summed relevance."""
    model, weights = linear(*shape)
    x, relevance = samples(5, *shape), samples(5, *shape)
    target = np.array([0, 1, 2, 1, 0])
    result = PixelFlipping(model, 3, order, 0.5, schedule="linear", steps=4, batch_size=2).run(x, relevance, target)
    regions = Regions(shape, 3)
    for row in range(5):
        ranks = np.argsort(regions.scores(relevance[row]))
        ranks = ranks[::-1] if order == "most_relevant_first" else ranks
        for step, flips in enumerate(result.flips):
            sample = np.where(regions.mask(ranks[:flips]), 0.5, x[row].astype(np.float64))
            np.testing.assert_allclose(result.scores[row, step], sample.ravel() @ weights[:, target[row]], rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(result.scores[:, -1], 0.5 * weights[:, target].sum(0), rtol=1e-4, atol=1e-4)


def test_without_a_target_the_largest_output_is_followed() -> None:
    model, weights = linear(1, 4, 4)
    x = samples(6, 1, 4, 4)
    result = PixelFlipping(model, 2, perturbation="mean").run(x, samples(6, 1, 4, 4))
    scores = x.reshape(6, -1) @ weights
    np.testing.assert_array_equal(result.target, scores.argmax(1))
    np.testing.assert_allclose(result.scores[:, 0], scores.max(1), rtol=1e-5)


def test_true_relevance_orders_the_curves() -> None:
    """For a linear model x * w is the truth: flipping to zero falls fastest from the top, and slowest from the bottom."""
    model, weights = linear(1, 8, 8)
    x = samples(20, 1, 8, 8)
    truth = x * weights[:, 0].reshape(1, 8, 8)
    runs = {
        order: PixelFlipping(model, 1, order, 0.0).run(x, truth, 0) for order in ("most_relevant_first", "random", "least_relevant_first")
    }
    most, random, least = (runs[order].auc for order in runs)
    assert most < random < least
    assert abpc(runs["least_relevant_first"], runs["most_relevant_first"]) == pytest.approx((least - most) / 8)
    noise = PixelFlipping(model, 1, perturbation=0.0).run(x, samples(20, 1, 8, 8), 0)
    assert most < noise.auc < least


# perturbations ------------------------------------------------------------------------------------------------------


def perturbed(name: Any, x: NDArray[np.float32], steps: int = 2, **options: Any) -> list[NDArray[np.float32]]:
    model, _ = linear(*x.shape[1:])
    flipping = PixelFlipping(model, 2, perturbation=name, schedule="linear", steps=steps, **options)
    return [done.samples for done in flipping.steps_of(x, np.arange(x.size, dtype=np.float32).reshape(x.shape), 0)]


def test_mean_is_each_channels_mean() -> None:
    x = samples(2, 3, 6, 5)
    np.testing.assert_allclose(perturbed("mean", x)[-1], np.broadcast_to(x.mean((2, 3), keepdims=True), x.shape), rtol=1e-5)


def test_random_is_one_value_for_a_sample_and_step() -> None:
    x = samples(3, 2, 8, 8)
    first, second = perturbed("random", x)[1:]
    for row in range(3):
        new = np.unique(first[row][first[row] != x[row]])
        assert len(new) == 1
        assert x[row].min() <= new[0] <= x[row].max()
        later = np.unique(second[row])
        assert len(later) == 2
        assert new[0] in later
    assert len(np.unique(second)) == 6


def test_noise_is_a_value_for_each_element() -> None:
    x = samples(2, 1, 8, 8)
    last = perturbed("noise", x)[-1]
    assert len(np.unique(last)) == x.size
    for row in range(2):
        assert x[row].min() <= last[row].min() <= last[row].max() <= x[row].max()
    bounded = perturbed("noise", x, low=5.0, high=6.0)[-1]
    assert bounded.min() >= 5
    assert bounded.max() <= 6


def test_blur_keeps_flat_images_and_the_mean_of_smooth_ones() -> None:
    flat = np.full((1, 1, 9, 9), 3.0, np.float32)
    np.testing.assert_allclose(perturbed("blur", flat)[-1], flat, rtol=1e-6)
    spike = np.zeros((1, 1, 41, 41), np.float32)
    spike[0, 0, 20, 20] = 1
    blurred = perturbed("blur", spike)[-1][0, 0]
    assert blurred.sum() == pytest.approx(1, rel=1e-4)
    np.testing.assert_allclose(blurred, blurred.T, atol=1e-8)
    deviation = 41 / 8
    assert blurred[20, 20] == pytest.approx(1 / (2 * np.pi * deviation**2), rel=0.03)


def test_an_array_and_a_function() -> None:
    x = samples(2, 3, 4, 4)
    value = samples(1, 3, 1, 1)[0]
    np.testing.assert_array_equal(perturbed(value, x)[-1], np.broadcast_to(value, x.shape))
    seen: list[float] = []

    def negative(sample: Any, mask: Any, rng: np.random.Generator) -> Any:
        seen.append(float(mask.mean()))
        assert rng.random() < 1
        return -sample

    np.testing.assert_array_equal(perturbed(negative, x)[-1], -x)
    assert sum(seen) == pytest.approx(2)


def test_inpainting_is_opencvs_on_all_that_is_perturbed_so_far() -> None:
    cv2 = pytest.importorskip("cv2", reason="inpainting needs OpenCV")
    x = RNG.uniform(0, 1, (2, 3, 8, 8)).astype(np.float32)
    stages = perturbed("inpaint", x, 4, low=0.0, high=1.0)
    ranks = np.argsort(-Regions((3, 8, 8), 2).scores(np.arange(x.size, dtype=np.float32).reshape(x.shape)[1]))
    now = x[1]
    for step in range(1, 4):
        hole = Regions((3, 8, 8), 2).mask(ranks[: 4 * step])[0]
        pixels = np.ascontiguousarray(np.rint(now * 255).astype(np.uint8).transpose(1, 2, 0))
        filled = cv2.inpaint(pixels, hole.astype(np.uint8), 3, cv2.INPAINT_TELEA).transpose(2, 0, 1) / 255
        now = np.where(hole, filled, now).astype(np.float32)
        np.testing.assert_allclose(stages[step][1], now, atol=1e-6)
        np.testing.assert_array_equal(stages[step][1][:, ~hole], x[1][:, ~hole])
    np.testing.assert_array_equal(stages[4], np.full_like(x, 0.5))


def test_inpainting_takes_any_number_of_channels() -> None:
    pytest.importorskip("cv2", reason="inpainting needs OpenCV")
    for shape in ((1, 8, 8), (5, 8, 8), (8, 8, 3)):
        x = samples(1, *shape)
        stages = perturbed("inpaint", x, 4)
        assert np.isfinite(stages[-1]).all()
        assert not np.array_equal(stages[1], x)
    with pytest.raises(InputError, match="images"):
        perturbed("inpaint", samples(1, 30))


# the numbers --------------------------------------------------------------------------------------------------------


def flipping(scores: Any) -> Flipping:
    scores = np.array(scores, np.float64)
    return Flipping(scores, np.arange(scores.shape[1]), scores.shape[1] - 1, np.zeros(len(scores), np.int64), "most_relevant_first")


def test_areas() -> None:
    result = flipping([[4, 2, 0], [2, 2, 0]])
    assert result.mean.tolist() == [3, 2, 0]
    assert result.auc == 3.5
    assert result.aucs.tolist() == [4, 3]
    assert result.auc_normalised == pytest.approx(3.5 / 3 / 2)
    assert result.mse.tolist() == [0, 2, 10]
    assert result.au_mse == 7
    assert np.isnan(flipping([[1, 2, 1]]).auc_normalised)


def test_abpc_wants_both_orders() -> None:
    one = flipping([[1, 0]])
    with pytest.raises(InputError, match="least_relevant_first"):
        abpc(one, one)


# reproducible, and resumed -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("order", ["random", "most_relevant_first"])
def test_batches_do_not_matter(order: str) -> None:
    model, _ = linear(1, 8, 8)
    x, relevance = samples(7, 1, 8, 8), samples(7, 1, 8, 8)
    one, again, other = (
        PixelFlipping(model, 2, order, "noise", batch_size=size, seed=seed).run(x, relevance, 0).scores
        for size, seed in ((64, 3), (2, 3), (64, 4))
    )
    np.testing.assert_allclose(one, again, rtol=1e-5, atol=1e-5)
    assert not np.allclose(one, other, rtol=1e-3)


def test_a_run_cut_short_is_taken_up_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model, _ = linear(1, 4, 4)
    x, relevance = samples(6, 1, 4, 4), samples(6, 1, 4, 4)
    flipping = PixelFlipping(model, 2, perturbation="noise", batch_size=2)
    whole = flipping.run(x, relevance, 0)
    predict, calls = flipping.predict, 0

    def failing(samples: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls == 6:
            raise KeyboardInterrupt
        return predict(samples)

    path = tmp_path / "run.npz"
    monkeypatch.setattr(flipping, "predict", failing)
    with pytest.raises(KeyboardInterrupt):
        flipping.run(x, relevance, 0, checkpoint=path)
    with np.load(path) as file:
        assert np.isfinite(file["scores"]).all(1).tolist() == [True, True, False, False, False, False]
    calls = 100
    resumed = flipping.run(x, relevance, 0, checkpoint=path)
    assert calls - 100 == 1 + 2 * 3  # one look at the output's shape, then two batches of three steps
    np.testing.assert_array_equal(resumed.scores, whole.scores)
    with pytest.raises(InputError, match="another run"):
        flipping.run(x, relevance + 1, 0, checkpoint=path)
    path.write_bytes(b"nothing")
    with pytest.raises(InputError, match="cannot read"):
        flipping.run(x, relevance, 0, checkpoint=path)


# rodrigobdz/lrp -----------------------------------------------------------------------------------------------------


def peer(x: Any, relevance: Any, score: Any, patch: int, order: str) -> Any:
    """That library's loop: 1, 3, 5, ... patches set to one random value per image and step, then grey everywhere."""
    rng = np.random.default_rng(0)
    side = x.shape[2] // patch
    weighted = np.tensordot([0.2989, 0.587, 0.114], relevance.astype(np.float64), (0, 1))
    patches = weighted.reshape(len(x), side, patch, side, patch).sum((2, 4)).reshape(len(x), -1)
    ranks = np.argsort(-patches if order == "most_relevant_first" else patches, 1)
    now = x.copy()
    scores = [score(now)]
    low, high = float(x.min()), float(x.max())
    for step in range(1, side + 1):
        for row in range(len(x)):
            value = np.float32(rng.uniform(low, high))
            for index in ranks[row][(step - 1) ** 2 : step**2]:
                top, left = patch * (index // side), patch * (index % side)
                now[row, :, top : top + patch, left : left + patch] = value
        scores.append(score(now))
    scores.append(score(np.full_like(x, (low + high) / 2)))
    return np.stack(scores, 1)


@pytest.mark.parametrize("order", ["most_relevant_first", "least_relevant_first"])
def test_compatible_with_rlrp(order: str) -> None:
    model, weights = linear(3, 16, 16)
    x, relevance = samples(3, 3, 16, 16), samples(3, 3, 16, 16)
    result = PixelFlipping(model, 4, order, "random", compat="rlrp", batch_size=1).run(x, relevance, 1)
    expected = peer(x, relevance, lambda now: now.reshape(3, -1).astype(np.float64) @ weights[:, 1], 4, order)
    np.testing.assert_allclose(result.scores, expected, rtol=1e-4, atol=1e-4)
    assert np.diff(result.flips).tolist() == [1, 3, 5, 7, 0]
    steps = np.arange(6)
    assert result.auc == pytest.approx(np.sum(np.diff(steps) * (expected.mean(0)[1:] + expected.mean(0)[:-1]) / 2), rel=1e-4)


def test_rlrp_has_limits() -> None:
    model, _ = linear(3, 16, 12)
    with pytest.raises(InputError, match="square"):
        PixelFlipping(model, 4, perturbation="random", compat="rlrp").run(samples(1, 3, 16, 12), samples(1, 3, 16, 12), 0)
    square, _ = linear(3, 16, 16)
    with pytest.raises(InputError, match="at most 5 steps"):
        PixelFlipping(square, 4, perturbation="random", compat="rlrp", steps=6).run(samples(1, 3, 16, 16), samples(1, 3, 16, 16), 0)
    with pytest.raises(InputError, match="quadratic"):
        PixelFlipping(square, 4, compat="rlrp", schedule="linear")


# errors -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"order": "most_relevant"}, "did you mean 'most_relevant_first'"),
        ({"perturbation": "inpainting"}, "did you mean 'inpaint'"),
        ({"schedule": "cubic"}, "unknown schedule"),
        ({"steps": 0}, "steps is a positive int"),
        ({"batch_size": -1}, "batch_size is a positive int"),
        ({"low": 0.0}, "together"),
        ({"compat": "quantus"}, "unknown compat"),
    ],
)
def test_wrong_options(options: dict[str, Any], message: str) -> None:
    model, _ = linear(1, 4, 4)
    with pytest.raises(InputError, match=message):
        PixelFlipping(model, **options)


def test_wrong_data() -> None:
    model, _ = linear(1, 4, 4)
    run = PixelFlipping(model, 2, perturbation="mean").run
    x = samples(2, 1, 4, 4)
    nan = x.copy()
    nan[1, 0, 0, 0] = np.nan
    for arguments, message in (
        ((x, x[:, :, :2]), "shape"),
        ((x, nan), "sample 1"),
        ((nan, x), "NaN"),
        ((x, x, 3), "out of range"),
        ((x, x, [[0, 1], [1, 2]]), "one target per sample"),
        ((x[:0], x[:0]), "samples"),
    ):
        with pytest.raises(InputError, match=message):
            run(*arguments)
    with pytest.raises(InputError, match="broadcast"):
        PixelFlipping(model, 2, perturbation="random", low=np.zeros(3), high=np.ones(3)).run(x, x)
