"""Curves of pixel flipping, and the numbers that sum them up."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from onnx_lrp.errors import InputError

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Curve = NDArray[np.float64]


@dataclass(frozen=True)
class Flipping:
    """What `PixelFlipping.run` returns.

    A sample's curve is its score at steps 0 ... S. Areas are taken by the trapezoid rule, with steps one apart.
    """

    scores: NDArray[np.float64]
    """The explained output of each sample after each step, (N, S + 1); step 0 is the sample itself."""
    flips: NDArray[np.int64]
    """How many regions are perturbed after each step, (S + 1,)."""
    regions: int
    """How many regions a sample has."""
    target: NDArray[np.int64]
    """The position of each sample's followed output among its outputs, (N,)."""
    order: str

    @property
    def mean(self) -> Curve:
        """The samples' mean curve, (S + 1,)."""
        return np.asarray(self.scores.mean(0))

    @property
    def aucs(self) -> Curve:
        """The area under each sample's curve, (N,)."""
        return area(self.scores)

    @property
    def auc(self) -> float:
        """The area under the mean curve (Samek et al. 2017; as in rodrigobdz/lrp): score times steps."""
        return float(area(self.mean))

    @property
    def auc_normalised(self) -> float:
        """The area with both axes brought to 0 ... 1: the share of steps, and the mean score from that of the last step (0, everything
        perturbed) to that of the first (1). NaN where these are equal.
        """
        start, end = self.mean[0], self.mean[-1]
        if start == end:
            return float("nan")
        return float(area((self.mean - end) / (start - end))) / (len(self.flips) - 1)

    @property
    def mse(self) -> Curve:
        """The mean squared change of the score after each step, (S + 1,)."""
        return np.asarray(((self.scores - self.scores[:, :1]) ** 2).mean(0))

    @property
    def au_mse(self) -> float:
        """The area under the curve of mean squared change. Under "least_relevant_first", small is good."""
        return float(area(self.mse))

    def plot(self, path: str | os.PathLike[str], title: str | None = None) -> None:
        """Draws the samples' curves in grey, their mean with its area filled; the suffix of the path decides the format."""
        from onnx_lrp.evaluation.pictures import flipping_figure
        from onnx_lrp.plot import save_figure

        save_figure(flipping_figure(self, title), path)


def area(curves: Curve) -> Curve:
    """The area under curves, (..., S + 1), by the trapezoid rule with steps one apart."""
    return np.asarray((curves[..., 1:] + curves[..., :-1]).sum(-1) / 2)


def abpc(least: Flipping, most: Flipping) -> float:
    """The area between the perturbation curves: mean score with the least relevant regions first minus that with the most relevant first,
    averaged over the steps (Petsiuk et al. 2018 take the two apart; Schulz et al. 2020 subtract them). Large is good.

    Raises:
        InputError: the two were not run on as many samples and steps, or in other orders.
    """
    if least.scores.shape != most.scores.shape or (least.order, most.order) != ("least_relevant_first", "most_relevant_first"):
        raise InputError("abpc takes a least_relevant_first and a most_relevant_first run of the same samples and steps")
    return float(area(least.mean - most.mean)) / (len(least.flips) - 1)
