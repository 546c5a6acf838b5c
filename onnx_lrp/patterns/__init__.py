"""Patterns: what each layer's outputs react to in data (Kindermans et al. 2018, "Learning how to explain neural networks")."""

from onnx_lrp.patterns.fit import BIASES, ESTIMATORS, PatternFit, fit_patterns
from onnx_lrp.patterns.store import Patterns

__all__ = ["BIASES", "ESTIMATORS", "PatternFit", "Patterns", "fit_patterns"]
