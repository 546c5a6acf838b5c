"""Explain the predictions of any ONNX model with layer-wise relevance propagation.

>>> explanation = onnx_lrp.explain("model.onnx", x)
>>> explanation.relevance
"""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
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

__version__ = "0.4.0"

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

if not TYPE_CHECKING:  # a name is imported when it is first asked for, so that each command starts with what it needs
    _MODULES = {
        "composites": ("COMPOSITES", "Composite"),
        "errors": ("CompositeError", "InputError", "ModelError", "OnnxLrpError", "UnsupportedOperatorError"),
        "explainer": ("Explainer", "explain"),
        "explanation": ("Explanation",),
        "gradcam": ("grad_cam",),
        "gradients": ("gradient", "integrated_gradients", "smoothgrad"),
        "patterns": ("Patterns", "fit_patterns"),
        "streams": ("ExplanationFile",),
        "targets": ("Region",),
    }
    _HOME = {name: module for module, names in _MODULES.items() for name in names}

    def __getattr__(name):
        from importlib import import_module

        missing = AttributeError(f"module {__name__!r} has no attribute {name!r}")
        if name.startswith("_"):
            raise missing
        whole = f"{__name__}.{_HOME.get(name, name)}"
        try:
            found = import_module(whole)
        except ModuleNotFoundError as error:
            if error.name != whole:
                raise
            raise missing from None
        if name in _HOME:
            found = globals()[name] = getattr(found, name)
        return found

    def __dir__():
        return sorted({*globals(), *__all__})
