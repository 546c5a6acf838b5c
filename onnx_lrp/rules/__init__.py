"""The propagation rules. Each class's docstring is its formula and where it comes from."""

from onnx_lrp.rules.affine import AffineRule
from onnx_lrp.rules.base import Relevance, Rule, Site
from onnx_lrp.rules.general import (
    Deconvnet,
    Gradient,
    GuidedBackprop,
    Move,
    Norm,
    Pass,
    Signal,
    SoftmaxTaylor,
    Stop,
    Taylor,
    Uniform,
)
from onnx_lrp.rules.lrp import AlphaBeta, ClassicGamma, Epsilon, Flat, Gamma, WSquare, ZBox, Zero, ZPlus
from onnx_lrp.rules.stabilizer import Stabilizer

__all__ = [
    "AffineRule",
    "AlphaBeta",
    "ClassicGamma",
    "Deconvnet",
    "Epsilon",
    "Flat",
    "Gamma",
    "Gradient",
    "GuidedBackprop",
    "Move",
    "Norm",
    "Pass",
    "Relevance",
    "Rule",
    "Signal",
    "Site",
    "SoftmaxTaylor",
    "Stabilizer",
    "Stop",
    "Taylor",
    "Uniform",
    "WSquare",
    "ZBox",
    "ZPlus",
    "Zero",
]
