"""The propagation rules. Each class's docstring is its formula and where it comes from."""

from onnx_lrp.rules.affine import AffineRule
from onnx_lrp.rules.base import Relevance, Rule, Site
from onnx_lrp.rules.deeplift import Rescale
from onnx_lrp.rules.general import (
    BetaSmooth,
    Deconvnet,
    FlatPool,
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
from onnx_lrp.rules.lrp import AlphaBeta, AlphaPlusBeta, ClassicGamma, Epsilon, Flat, Gamma, WindowSum, WSquare, ZBox, Zero, ZPlus
from onnx_lrp.rules.pattern import Normalized, PatternAttribution, PatternNet
from onnx_lrp.rules.stabilizer import Stabilizer

__all__ = [
    "AffineRule",
    "AlphaBeta",
    "AlphaPlusBeta",
    "BetaSmooth",
    "ClassicGamma",
    "Deconvnet",
    "Epsilon",
    "Flat",
    "FlatPool",
    "Gamma",
    "Gradient",
    "GuidedBackprop",
    "Move",
    "Norm",
    "Normalized",
    "Pass",
    "PatternAttribution",
    "PatternNet",
    "Relevance",
    "Rescale",
    "Rule",
    "Signal",
    "Site",
    "SoftmaxTaylor",
    "Stabilizer",
    "Stop",
    "Taylor",
    "Uniform",
    "WSquare",
    "WindowSum",
    "ZBox",
    "ZPlus",
    "Zero",
]
