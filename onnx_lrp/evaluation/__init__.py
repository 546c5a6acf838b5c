"""Is an explanation any good? Pixel flipping, sanity checks, choosing a composite."""

from onnx_lrp.evaluation.complexity import complexity, effective_complexity, sparseness
from onnx_lrp.evaluation.curves import Flipping, abpc
from onnx_lrp.evaluation.flipping import Perturbed, PixelFlipping
from onnx_lrp.evaluation.localisation import box_mask, pointing_game, relevance_mass, relevance_rank
from onnx_lrp.evaluation.randomisation import Randomisation, randomisation_test, randomised
from onnx_lrp.evaluation.sensitivity import completeness, max_sensitivity
from onnx_lrp.evaluation.similarity import rank_correlation, ssim

__all__ = [
    "Flipping",
    "Perturbed",
    "PixelFlipping",
    "Randomisation",
    "abpc",
    "box_mask",
    "completeness",
    "complexity",
    "effective_complexity",
    "max_sensitivity",
    "pointing_game",
    "randomisation_test",
    "randomised",
    "rank_correlation",
    "relevance_mass",
    "relevance_rank",
    "sparseness",
    "ssim",
]
