"""Searching for the composite that suits a model: what is tried, and successive halving."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import product
from typing import TYPE_CHECKING, Any

import numpy as np

from onnx_lrp.composites import LAYER, Composite, base_map, first, make_composite, stage
from onnx_lrp.errors import InputError
from onnx_lrp.rules import Epsilon, Flat, Gamma, Rule, Stabilizer, ZBox

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from onnx_lrp.graph import Array

GAMMAS = (0.0, 0.1, 0.25, 0.5, 1.0)
EPSILONS = (1e-6, 0.01, 0.1, 0.25)
"""Of the scaled stabiliser: fractions of each layer's root mean square, so that they mean the same in every model."""


@dataclass(frozen=True)
class Candidate:
    """A composite to try, with its name."""

    name: str
    composite: Composite


@dataclass(frozen=True)
class Rung:
    """One round of successive halving."""

    samples: int
    """How many samples each candidate was scored on."""
    scores: dict[str, float]
    """The candidates' scores, best first."""


def candidates(low: float | Array | None = None, high: float | Array | None = None) -> list[Candidate]:
    """Presets, and gamma and epsilon by depth, as lrp_tutorial and decreasing_gamma have them, over a grid.

    By depth: ZBox on first layers where the input's bounds are given, else Flat; Gamma(g1) in the lower half of the convolutions (in a net
    without any: of the dense layers), Gamma(g2) in the upper half, g2 <= g1; Epsilon above. Gamma(0) is Epsilon, too.

    Args:
        low: the smallest value that the input can have, as for ZBox; None if not known.
        high: the largest.
    """
    presets: list[tuple[str, dict[str, Any]]] = [
        ("epsilon_plus", {}),
        ("epsilon_plus_flat", {}),
        ("epsilon_alpha2_beta1", {}),
        ("epsilon_alpha2_beta1_flat", {}),
        ("z_plus", {}),
        *(("epsilon", {"epsilon": Stabilizer(epsilon, "scaled")}) for epsilon in EPSILONS),
        *(("gamma", {"gamma": gamma}) for gamma in GAMMAS if gamma),
    ]
    bounded = low is not None and high is not None
    if bounded:
        box = {"low": low, "high": high}
        presets += [("epsilon_gamma_box", box | {"gamma": gamma}) for gamma in GAMMAS if gamma]
        presets += [("lrp_tutorial", box), ("decreasing_gamma", box), ("deep_taylor_bounded", box)]
    found = [Candidate(_name(key, options), make_composite(key, options)) for key, options in presets]
    lowest: Rule = ZBox(low, high) if bounded else Flat()
    for g1, g2, epsilon in product(GAMMAS, GAMMAS, EPSILONS):
        if g2 <= g1 and g1 > 0:
            found.append(Candidate(f"by depth: gamma {g1:g}, {g2:g}, epsilon {epsilon:g}", by_depth(lowest, g1, g2, epsilon)))
    return found


def by_depth(lowest: Rule, lower: float, upper: float, epsilon: float) -> Composite:
    """A rule for first layers, Gamma(lower) and Gamma(upper) in the halves of the convolutions, Epsilon(epsilon, scaled) above."""
    above = Epsilon(Stabilizer(epsilon, "scaled"))
    return Composite(
        [
            (LAYER & first(), lowest),
            (stage(0.0, 0.5), Gamma(lower) if lower else above),
            (stage(0.5, 1.0), Gamma(upper) if upper else above),
            (LAYER, above),
            *base_map(),
        ]
    )


def _name(key: str, options: dict[str, Any]) -> str:
    shown = [f"{name} {getattr(value, 'epsilon', value):g}" for name, value in options.items() if name not in ("low", "high")]
    return " ".join([key, *shown])


def successive_halving(
    names: Sequence[str],
    score: Callable[[str, NDArray[np.int64]], float],
    samples: int,
    *,
    least: int = 8,
    keep: int = 3,
    seed: int = 0,
) -> list[Rung]:
    """Scores all candidates on few samples, the best third on three times as many, and so on (Jamieson and Talwalkar 2016).

    Args:
        names: of the candidates.
        score: (name, rows of the samples) -> how good it is; more is better. NaN counts as worst.
        samples: how many there are. Which come first is drawn from the seed; each rung has those of the one before.
        least: how many samples the first rung has, if there are as many.
        keep: one in how many goes on to the next rung, which has as many times the samples.
        seed: of the order of the samples.

    Returns:
        The rungs; the last has all samples, and its first name is the best.

    Raises:
        InputError: no candidates or samples, or numbers that make no sense.
    """
    order = np.random.default_rng(seed).permutation(samples)
    rungs: list[Rung] = []
    left = list(names)
    for count, size in rungs_of(len(left), samples, least=least, keep=keep):
        rows = np.sort(order[:size])
        scores = {name: score(name, rows) for name in left[:count]}
        left = sorted(scores, key=lambda name: (math.isnan(scores[name]), -scores[name]))
        rungs.append(Rung(size, {name: scores[name] for name in left}))
    return rungs


def rungs_of(candidates: int, samples: int, *, least: int = 8, keep: int = 3) -> list[tuple[int, int]]:
    """How many candidates each rung of `successive_halving` has, and on how many samples they are scored; arguments and errors as there."""
    if candidates < 1 or samples < 1 or least < 1 or keep < 2:
        raise InputError("successive halving needs candidates, samples, least >= 1 and keep >= 2")
    left, size, rungs = candidates, min(least, samples), []
    while True:
        size = samples if left <= keep else size  # those that are left are worth all samples
        rungs.append((left, size))
        if size == samples:
            return rungs
        left, size = math.ceil(left / keep), min(samples, size * keep)
