"""Complexity, localisation, likeness, sensitivity and completeness against loops and closed forms."""

from __future__ import annotations

from itertools import product
from typing import Any

import numpy as np
import pytest
from models import build, op
from numpy.typing import NDArray

from onnx_lrp import Explainer, InputError
from onnx_lrp.evaluation import (
    box_mask,
    completeness,
    complexity,
    effective_complexity,
    max_sensitivity,
    pointing_game,
    rank_correlation,
    relevance_mass,
    relevance_rank,
    sparseness,
    ssim,
)

RNG = np.random.default_rng(5)


def maps(*shape: int) -> NDArray[np.float64]:
    return RNG.standard_normal(shape)


# complexity ---------------------------------------------------------------------------------------------------------


def test_sparseness_is_half_the_mean_difference_over_the_mean() -> None:
    """The Gini index by its other definition: the mean absolute difference of two elements, over twice the mean."""
    relevance = maps(4, 2, 3, 5)
    flat = np.abs(relevance).reshape(4, -1)
    expected = [np.abs(row[:, None] - row).mean() / (2 * row.mean()) for row in flat]
    np.testing.assert_allclose(sparseness(relevance), expected, rtol=1e-12)
    np.testing.assert_allclose(sparseness([[1.0, 1, 1, 1], [0, 0, 3, 0], [0, 0, 0, 0]]), [0, 0.75, 0], atol=1e-12)


def test_complexity_is_the_entropy_of_shares() -> None:
    relevance = maps(3, 7)
    share = np.abs(relevance) / np.abs(relevance).sum(1, keepdims=True)
    expected = [-sum(p * np.log(p) for p in row) for row in share]
    np.testing.assert_allclose(complexity(relevance), expected, rtol=1e-12)
    np.testing.assert_allclose(complexity([[1.0, -1, 1, 1], [0, 2, 0, 0], [0, 0, 0, 0]]), [np.log(4), 0, np.log(4)], atol=1e-12)


def test_effective_complexity_counts() -> None:
    assert effective_complexity([[1.0, -0.5, 1e-7, 0], [2, 2, 2, 2]]).tolist() == [2, 4]
    assert effective_complexity([[1.0, -0.5, 0.2]], 0.3).tolist() == [2]


@pytest.mark.parametrize("metric", [sparseness, complexity, effective_complexity])
@pytest.mark.parametrize("given", [np.ones(3), np.array([[np.nan, 1]]), np.ones((0, 3))])
def test_what_is_no_map(metric: Any, given: Any) -> None:
    with pytest.raises(InputError):
        metric(given)


# localisation -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("shape", "axis"), [((3, 3, 6, 7), 1), ((3, 6, 7, 3), 3), ((3, 1, 6, 7), 1)])
def test_localisation_against_loops(shape: tuple[int, ...], axis: int) -> None:
    relevance = maps(*shape)
    mask = RNG.random((3, 6, 7)) < 0.4
    plain = relevance.sum(axis)
    for row in range(3):
        points = sorted(product(range(6), range(7)), key=lambda at: -plain[(row, *at)])
        inside = [mask[(row, *at)] for at in points]
        assert pointing_game(relevance, mask)[row] == inside[0]
        assert relevance_rank(relevance, mask)[row] == pytest.approx(np.mean(inside[: mask[row].sum()]))
        positive = np.clip(plain[row], 0, None)
        assert relevance_mass(relevance, mask)[row] == pytest.approx(positive[mask[row]].sum() / positive.sum())
        assert relevance_mass(relevance, mask, positive=False)[row] == pytest.approx(plain[row][mask[row]].sum() / plain[row].sum())
    np.testing.assert_array_equal(relevance_mass(relevance, np.expand_dims(mask, axis)), relevance_mass(relevance, mask))


def test_localisation_at_its_ends() -> None:
    mask = box_mask([[2, 1, 5, 3]], (4, 6))
    assert mask.sum() == 6
    assert mask[0, 1:3, 2:5].all()
    inside = mask[:, None].astype(float)
    assert [metric(inside, mask).item() for metric in (pointing_game, relevance_mass, relevance_rank)] == [1, 1, 1]
    outside = 1 - inside
    assert [metric(outside, mask).item() for metric in (pointing_game, relevance_mass, relevance_rank)] == [0, 0, 0]
    assert pointing_game(np.ones((1, 1, 4, 6)), mask).item() == 6 / 24
    assert np.isnan(relevance_mass(-inside, mask)).all()


def test_masks_that_do_not_fit() -> None:
    relevance = maps(2, 1, 4, 4)
    with pytest.raises(InputError, match="shape"):
        pointing_game(relevance, np.ones((2, 4, 5)))
    with pytest.raises(InputError, match="sample 1 is empty"):
        relevance_mass(relevance, np.stack([np.ones((4, 4)), np.zeros((4, 4))]))
    with pytest.raises(InputError, match="NaN"):
        relevance_rank(relevance * np.nan, np.ones((2, 4, 4)))
    with pytest.raises(InputError, match="no pixel"):
        box_mask([[0, 0, 2, 2], [3, 3, 3, 4]], (4, 4))


# likeness -----------------------------------------------------------------------------------------------------------


def spearman(a: NDArray[np.float64], b: NDArray[np.float64]) -> float:
    """Pearson's correlation of the ranks, each the mean of the places that a value takes in the sorted list."""

    def ranks(values: NDArray[np.float64]) -> list[float]:
        return [float(np.mean(np.flatnonzero(np.sort(values) == value))) for value in values]

    return float(np.corrcoef(ranks(a), ranks(b))[0, 1])


@pytest.mark.parametrize("step", [0.0, 0.5])
def test_rank_correlation(step: float) -> None:
    a, b = maps(4, 2, 9), maps(4, 2, 9)
    if step:  # with ties
        a, b = np.round(a / step), np.round(b / step)
    expected = [spearman(x.ravel(), y.ravel()) for x, y in zip(a, b, strict=True)]
    np.testing.assert_allclose(rank_correlation(a, b), expected, rtol=1e-10)
    np.testing.assert_allclose(rank_correlation(a, np.exp(a)), 1)
    np.testing.assert_allclose(rank_correlation(a, -a), -1)
    assert np.isnan(rank_correlation(a, np.zeros_like(a))).all()


@pytest.mark.parametrize(("shape", "window"), [((2, 9, 11), 7), ((2, 9, 11), 3), ((2, 5, 12), 7), ((2, 20), 7), ((2, 5, 6, 7), 5)])
def test_ssim_against_windows(shape: tuple[int, ...], window: int) -> None:
    a = maps(*shape)
    b = 0.7 * a + 0.4 * maps(*shape)
    sides = [min(window, length if length % 2 else length - 1) for length in shape[1:]]
    for row in range(2):
        span = max(a[row].max(), b[row].max()) - min(a[row].min(), b[row].min())
        c1, c2 = (0.01 * span) ** 2, (0.03 * span) ** 2
        values = []
        for start in product(*(range(length - side + 1) for length, side in zip(shape[1:], sides, strict=True))):
            at = tuple(slice(s, s + side) for s, side in zip(start, sides, strict=True))
            x, y = a[row][at].ravel(), b[row][at].ravel()
            covariance = np.cov(x, y)
            above = (2 * x.mean() * y.mean() + c1) * (2 * covariance[0, 1] + c2)
            values.append(above / ((x.mean() ** 2 + y.mean() ** 2 + c1) * (covariance[0, 0] + covariance[1, 1] + c2)))
        assert ssim(a, b, window)[row] == pytest.approx(np.mean(values), rel=1e-9)
    np.testing.assert_allclose(ssim(a, a, window), 1)


def test_ssim_of_flat_maps() -> None:
    np.testing.assert_array_equal(ssim(np.zeros((2, 9, 9)), np.zeros((2, 9, 9))), [1, 1])
    assert (ssim(maps(2, 9, 9), np.zeros((2, 9, 9))) < 0.2).all()
    with pytest.raises(InputError, match="odd"):
        ssim(maps(2, 9, 9), maps(2, 9, 9), 4)
    with pytest.raises(InputError, match="one shape"):
        ssim(maps(2, 9, 9), maps(2, 9, 8))
    with pytest.raises(InputError, match="one shape"):
        rank_correlation(maps(2, 9), maps(3, 9))


# sensitivity and completeness ---------------------------------------------------------------------------------------


def linear() -> tuple[Any, NDArray[np.float32]]:
    weights = RNG.standard_normal((6, 2)).astype(np.float32)
    return build([op("MatMul", "x w", "y")], {"x": ("N", 6)}, constants={"w": weights}), weights


def test_sensitivity_of_a_linear_model() -> None:
    """Input x gradient is x * w there, so its change is noise * w."""
    model, weights = linear()
    x = RNG.standard_normal((3, 6)).astype(np.float32)
    explainer = Explainer(model, "input_x_gradient", providers="cpu")
    got = {by: max_sensitivity(explainer, x, [0, 1, 0], radius=0.3, samples=4, seed=9, divided_by=by) for by in ("map", "input", "nothing")}
    for row, target in enumerate((0, 1, 0)):
        rng = np.random.default_rng([9, row])
        w = weights[:, target].astype(np.float64)
        largest = max(np.linalg.norm(rng.uniform(-0.3, 0.3, 6) * w) for _ in range(4))
        for by, length in (("map", np.linalg.norm(x[row] * w)), ("input", np.linalg.norm(x[row])), ("nothing", 1)):
            assert got[by][row] == pytest.approx(largest / length, rel=1e-4)
    np.testing.assert_allclose(max_sensitivity(explainer, x[:1], [0], radius=0.3, samples=4, seed=9), got["map"][:1], rtol=1e-6)
    gradient = Explainer(model, "gradient", providers="cpu")
    np.testing.assert_array_equal(max_sensitivity(gradient, x, 0, samples=2), 0)


@pytest.mark.parametrize("options", [{"radius": 0}, {"radius": np.nan}, {"samples": 0}, {"samples": 1.5}, {"divided_by": "maps"}])
def test_sensitivity_wants_positive_numbers(options: Any) -> None:
    model, _ = linear()
    with pytest.raises(InputError):
        max_sensitivity(Explainer(model, "gradient", providers="cpu"), np.ones((1, 6), np.float32), 0, **options)


def test_completeness() -> None:
    relevance = np.array([[1.0, 2, 3], [1, 1, 1], [1, 0, 0]])
    np.testing.assert_allclose(completeness(relevance, [6, 4, 0]), [0, -0.25, np.nan])
    np.testing.assert_allclose(completeness(relevance, [7, 4, 2], [1, 1, 1]), [0, 0, 0])
    model, weights = linear()
    x = RNG.standard_normal((3, 6)).astype(np.float32)
    explanation = Explainer(model, "epsilon", epsilon=0.0, providers="cpu").explain(x, 1)
    np.testing.assert_allclose(completeness(explanation.relevance, x @ weights[:, 1]), 0, atol=1e-5)
    with pytest.raises(InputError, match="scores"):
        completeness(relevance, [1, 2])
