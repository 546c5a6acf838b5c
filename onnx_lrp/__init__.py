"""Explain the predictions of any ONNX model with layer-wise relevance propagation.

>>> explanation = onnx_lrp.explain("model.onnx", x)
>>> explanation.relevance
"""

from onnx_lrp import rules
from onnx_lrp.composites import COMPOSITES, Composite
from onnx_lrp.errors import CompositeError, InputError, ModelError, OnnxLrpError, UnsupportedOperatorError
from onnx_lrp.explainer import Explainer, explain
from onnx_lrp.explanation import Explanation
from onnx_lrp.gradcam import grad_cam
from onnx_lrp.gradients import gradient, integrated_gradients, smoothgrad
from onnx_lrp.patterns import Patterns, fit_patterns
from onnx_lrp.streams import ExplanationFile
from onnx_lrp.targets import Region

__version__ = "0.2.0"

__all__ = [
    "COMPOSITES",
    "Composite",
    "CompositeError",
    "Explainer",
    "Explanation",
    "ExplanationFile",
    "InputError",
    "ModelError",
    "OnnxLrpError",
    "Patterns",
    "Region",
    "UnsupportedOperatorError",
    "explain",
    "fit_patterns",
    "grad_cam",
    "gradient",
    "integrated_gradients",
    "rules",
    "smoothgrad",
]
