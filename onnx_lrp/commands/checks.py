"""evaluate --checks: sanity checks beside the curves."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from onnx_lrp.commands.scoring import table
from onnx_lrp.evaluation.complexity import complexity, sparseness
from onnx_lrp.evaluation.pictures import randomisation_figure
from onnx_lrp.evaluation.randomisation import randomisation_test
from onnx_lrp.evaluation.sensitivity import completeness, max_sensitivity

if TYPE_CHECKING:
    from pathlib import Path

    from matplotlib.figure import Figure

    from onnx_lrp.explainer import Explainer
    from onnx_lrp.graph import Array

__all__ = ["checks", "tell"]

_SAMPLES = 16
"""How many samples the expensive checks take."""
_STAGES = 8
"""How many stages of randomisation are measured."""
_NOISE = 0.02
"""The noise of the sensitivity, as a fraction of the data's range."""


def checks(
    model: Path, explainer: Explainer, x: Array, target: Array, relevance: Array, scores: Array, same: dict[str, Any], seed: int
) -> tuple[dict[str, Any], dict[str, Figure]]:
    """All sanity checks that need no more than a model and its maps.

    Args:
        model: The model.
        explainer: The compiled composite.
        x: The samples.
        target: The outputs that are explained.
        relevance: Their maps.
        scores: The explained outputs, (N,).
        same: Options of Explainer: output, providers, threads.
        seed: Of the random numbers.

    Returns:
        The numbers, and the pictures by name.
    """
    few = np.linspace(0, len(x) - 1, min(_SAMPLES, len(x))).round().astype(int)
    radius = _NOISE * float(x.max() - x.min())
    found: dict[str, Any] = {
        "completeness_error": float(np.nanmean(np.abs(completeness(relevance, scores)))) if scores.any() else None,
        "sparseness": float(sparseness(relevance).mean()),
        "complexity": float(complexity(relevance).mean()),
        "sensitivity_samples": len(few),
        "noise": radius,
    }
    if radius > 0:
        worst = max_sensitivity(explainer, x[few], target[few], radius=radius, seed=seed)
        found["max_sensitivity"] = float(np.nanmean(worst))
    test = randomisation_test(model, x[few], target[few], explainer.composite, stages=_STAGES, seed=seed, **same)
    found["randomisation"] = {
        "layers": test.layers,
        "rank_correlation": [_mean(stage) for stage in test.rank_correlation],
        "ssim": [_mean(stage) for stage in test.ssim],
    }
    return found, {"randomisation.png": randomisation_figure(test)}


def _mean(values: Array) -> float:
    known = values[np.isfinite(values)]
    return float(known.mean()) if len(known) else float("nan")


def tell(found: dict[str, Any]) -> None:
    """Print the numbers."""
    names = {
        "completeness_error": "relevance adds up to the score but for (mean share)",
        "sparseness": "sparseness (Gini index, 0 to 1)",
        "complexity": "complexity (entropy, nats)",
        "max_sensitivity": "largest change of the map under noise of 2 % of the range (share)",
    }
    table(["check", "value"], [[text, f"{found[name]:.4g}"] for name, text in names.items() if found.get(name) is not None])
    stages = found["randomisation"]
    rows = [
        [layer, f"{rank:.3f}", f"{alike:.3f}"]
        for layer, rank, alike in zip(stages["layers"], stages["rank_correlation"], stages["ssim"], strict=True)
    ]
    table(["randomised from the output down to", "rank correlation", "SSIM"], rows)
