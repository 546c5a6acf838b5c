"""Is an explanation any good? Pixel flipping, sanity checks, choosing a composite."""

from onnx_lrp.evaluation.curves import Flipping, abpc
from onnx_lrp.evaluation.flipping import Perturbed, PixelFlipping

__all__ = ["Flipping", "Perturbed", "PixelFlipping", "abpc"]
