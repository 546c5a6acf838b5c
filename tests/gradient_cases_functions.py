"""Gradient cases of activations, normalisations and softmax."""

from __future__ import annotations

from typing import Any

import numpy as np
from gradients import Case
from models import op
from oracles import erf, gelu, window_norm

WIDE = np.array([[-4.3, -2.7, -1.6, -0.8, -0.3, -0.04], [0.06, 0.37, 0.9, 1.4, 2.6, 5.1]])
"""Points on both sides of every kink, and none near one."""
FAR = np.array([[-100.0, -30.0, -12.0, 0.3], [12.0, 30.0, 100.0, -0.7]])
"""Where exponentials of float32 overflow or vanish."""
POSITIVE = np.array([[0.07, 0.4, 0.9, 1.3, 2.2, 4.8]])
INSIDE = np.array([[-0.93, -0.5, -0.1], [0.04, 0.3, 0.88]])
ABOVE_ONE = np.array([[1.05, 1.4, 2.0, 5.0]])


def _of(kind: str, name: str, x: Any, parameters: dict[str, Any] | None = None, *, domain: str = "", **attributes: Any) -> Case:
    opset = {"Gelu": 20, "Swish": 24, "RMSNormalization": 23}.get(kind, 18)
    parameters = parameters or {}
    key = f"onnx_lrp.{kind}" if opset > 18 else kind
    node = op(kind, " ".join(["x", *parameters]), domain=domain, **attributes)
    return Case(name, key, node, {"x": x}, {k: v for k, v in parameters.items() if k != "-"}, opset=opset, free=(0, 1, 2, 3))


ACTIVATIONS = [
    *(_of(kind, "default", WIDE) for kind in ("Relu", "Sigmoid", "Tanh", "Softplus", "Softsign", "HardSwish", "Mish", "Abs", "Exp")),
    *(_of(kind, "default", WIDE) for kind in ("Sin", "Cos", "Sinh", "Cosh", "Atan", "Asinh", "LeakyRelu", "Elu", "Celu", "Selu")),
    *(_of(kind, "default", WIDE) for kind in ("HardSigmoid", "ThresholdedRelu", "Shrink", "Clip", "Swish")),
    *(_of(kind, "far", FAR) for kind in ("Sigmoid", "Tanh", "Softplus", "Softsign", "Mish", "Elu", "Celu", "Selu", "HardSigmoid", "Swish")),
    Case("far", "onnx_lrp.Gelu", op("Gelu"), {"x": FAR}, opset=20, free=(0, 1), function=gelu),
    Case("default", "Erf", op("Erf"), {"x": WIDE}, free=(0, 1), function=erf),
    Case("default", "onnx_lrp.Gelu", op("Gelu"), {"x": WIDE}, opset=20, free=(0, 1), function=gelu),
    *(_of(kind, "flat", WIDE) for kind in ("Floor", "Ceil", "Round", "Sign")),
    *(_of(kind, "positive", POSITIVE) for kind in ("Log", "Sqrt")),
    *(_of(kind, "inside", INSIDE) for kind in ("Asin", "Acos", "Atanh", "Tan")),
    _of("Acosh", "above_one", ABOVE_ONE),
    _of("Reciprocal", "both_signs", WIDE),
    _of("Tan", "beyond_the_pole", np.array([2.0, 3.0, -2.5])),
    _of("LeakyRelu", "alpha", WIDE, alpha=0.3),
    _of("LeakyRelu", "negative_alpha", WIDE, alpha=-0.5),
    _of("PRelu", "scalar", WIDE, {"s": np.array([0.25])}),
    _of("PRelu", "channel", (2, 3, 4), {"s": (3, 1)}),
    _of("PRelu", "negative", WIDE, {"s": np.array([-0.5, 0.1, 2.0, 0.0, 1.0, -1.0])}),
    _of("Elu", "alpha", WIDE, alpha=0.4),
    _of("Celu", "alpha", WIDE, alpha=0.6),
    _of("Selu", "alpha_gamma", WIDE, alpha=0.9, gamma=2.0),
    _of("HardSigmoid", "alpha_beta", WIDE, alpha=0.31, beta=0.4),
    _of("ThresholdedRelu", "alpha", WIDE, alpha=0.5),
    _of("ThresholdedRelu", "negative_alpha", WIDE, alpha=-2.0),
    _of("Shrink", "lambda_bias", WIDE, lambd=1.0, bias=0.7),
    _of("Clip", "both", WIDE, {"a": np.float32(-1.0), "b": np.float32(1.7)}),
    _of("Clip", "low", WIDE, {"a": np.float32(0.0)}),
    _of("Clip", "high", WIDE, {"-": 0, "b": np.float32(0.5)}),
    _of("Gelu", "tanh", WIDE, approximate="tanh"),
    _of("Swish", "alpha", WIDE, alpha=1.7),
    _of("Pow", "square", WIDE, {"p": np.float32(2.0)}),
    _of("Pow", "cube", WIDE, {"p": np.float32(3.0)}),
    _of("Pow", "root", POSITIVE, {"p": np.float32(0.5)}),
    _of("Pow", "negative", POSITIVE, {"p": np.array([-1.5])}),
    Case("each_its_own", "Pow", op("Pow", "x p"), {"x": POSITIVE}, {"p": np.array([1.0, 2.0, 3.0, 0.5, -1.0, 2.5])}),
    Case("int_exponent", "Pow", op("Pow", "x p"), {"x": WIDE}, {"p": np.array(2)}, free=(0, 1), function=lambda x, p: x**p),
]


NORMALISATIONS = [
    _of("InstanceNormalization", "1d", (2, 3, 4), {"s": (3,), "b": (3,)}),
    _of("InstanceNormalization", "2d", (2, 2, 3, 2), {"s": (2,), "b": (2,)}, epsilon=0.1),
    _of("LayerNormalization", "last", (2, 3, 4), {"s": (4,), "b": (4,)}),
    _of("LayerNormalization", "no_bias", (2, 5), {"s": (5,)}, epsilon=0.01),
    _of("LayerNormalization", "two_axes", (2, 3, 4), {"s": (3, 4), "b": (3, 4)}, axis=1),
    _of("LayerNormalization", "negative_axis", (2, 2, 3), {"s": (2, 3)}, axis=-2),
    _of("LayerNormalization", "repeated_scale", (2, 2, 3), {"s": (3,), "b": (1, 3)}, axis=1),
    _of("RMSNormalization", "last", (2, 3, 4), {"s": (4,)}),
    _of("RMSNormalization", "two_axes", (2, 3, 4), {"s": (3, 4)}, axis=1, epsilon=0.1),
    *(
        Case(
            f"size_{size}",
            "LRN" if size % 2 else "onnx_lrp.LRN",
            op("LRN", size=size, alpha=2.0, beta=0.6, bias=1.5),
            {"x": (2, 5, 2, 3)},
            free=(0, 2, 3),
            function=lambda x, size=size: window_norm(x, size, 2.0, 0.6, 1.5),
        )
        for size in (1, 2, 3, 4, 5, 7)
    ),
    Case("default", "LRN", op("LRN", size=3), {"x": (1, 4, 2, 2)}, free=(0, 2, 3), function=lambda x: window_norm(x, 3, 1e-4, 0.75, 1.0)),
]

SOFTMAX = [
    *(_of(kind, f"axis_{axis}", (2, 3, 4), axis=axis) for kind in ("Softmax", "LogSoftmax") for axis in (-1, 0, 1, 2, -2)),
    *(_of(kind, "default", (2, 5)) for kind in ("Softmax", "LogSoftmax")),
    Case(
        "opset_11",
        "Softmax",
        op("Softmax", axis=1),
        {"x": (2, 2, 3)},
        opset=11,
        function=lambda x: np.exp(x) / np.exp(x).sum((1, 2), keepdims=True),
    ),
]

CASES = [*ACTIVATIONS, *NORMALISATIONS, *SOFTMAX]
