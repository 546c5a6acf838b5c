"""Models for the rewrites that put activations and normalisations back together, and near misses of each."""

from __future__ import annotations

import itertools
import math
from typing import Any

import numpy as np
from canonical import Case
from models import build, op

NAME, LRN = "recognise_activations", "recognise_lrn"
X = ("N", 5)
NUMBERS = {
    "half": np.float32(0.5),
    "one": np.float32(1),
    "two": np.float32(2),
    "three": np.float32(3),
    "root": np.float32(math.sqrt(2)),
    "inverse": np.array([math.sqrt(0.5)]),
    "slope": np.float32(math.sqrt(2 / math.pi)),
    "bend": np.float32(0.044715),
    "beta": np.float32(1.702),
    "vector": np.linspace(0.5, 2, 5),
    "deep": np.ones((1, 1, 1)),
    "wrong": np.float32(0.05),
}


def _model(*nodes: Any, x: Any = X, outputs: str = "y") -> Any:
    used = {name for node in nodes for name in node.input}
    return build(nodes, x if isinstance(x, dict) else {"x": x}, outputs, {name: value for name, value in NUMBERS.items() if name in used})


def _products(factors: str) -> list[list[Any]]:
    """All ways to multiply three factors, in two Muls, to y."""
    ways = []
    for a, b, c in itertools.permutations(factors.split()):
        ways += [[op("Mul", f"{a} {b}", "p"), op("Mul", f"p {c}")], [op("Mul", f"{a} {b}", "p"), op("Mul", f"{c} p")]]
    return ways


def _gelu() -> list[Case]:
    gate = [op("Div", "x root", "i"), op("Erf", "i", "e"), op("Add", "e one", "g")]
    cases = [Case(f"erf_{index}", _model(*gate, *way), "Gelu", NAME) for index, way in enumerate(_products("x half g"))]
    other = [op("Mul", "inverse x", "i"), op("Erf", "i", "e"), op("Add", "one e", "g")]
    cases.append(Case("erf_times_inverse", _model(*other, *_products("x half g")[0]), "Gelu", NAME))
    cubes = {
        "pow": [op("Pow", "x three", "c")],
        "right": [op("Mul", "x x", "q"), op("Mul", "x q", "c")],
        "left": [op("Mul", "x x", "q"), op("Mul", "q x", "c")],
    }
    for (name, cube), (number, (inner, scaled, shifted)) in itertools.product(
        cubes.items(), enumerate([("x b", "a slope", "t one"), ("b x", "slope a", "one t")])
    ):
        tanh = [
            *cube,
            op("Mul", "c bend", "b"),
            op("Add", inner, "a"),
            op("Mul", scaled, "i"),
            op("Tanh", "i", "t"),
            op("Add", shifted, "g"),
        ]
        cases.append(Case(f"tanh_{name}_{number}", _model(*tanh, *_products("x half g")[number * 5]), "Gelu", NAME))
    erf = _products("x half g")[0]
    two = {"x": X, "z": X}
    wrong_tanh = [
        op("Pow", "x three", "c"),
        op("Mul", "c wrong", "b"),
        op("Add", "x b", "a"),
        op("Mul", "a slope", "i"),
        op("Tanh", "i", "t"),
    ]
    squared = [op("Pow", "x two", "c"), op("Mul", "c bend", "b"), op("Add", "x b", "a"), op("Mul", "a slope", "i"), op("Tanh", "i", "t")]
    steep = [op("Pow", "x three", "c"), op("Mul", "c bend", "b"), op("Add", "x b", "a"), op("Mul", "a half", "i"), op("Tanh", "i", "t")]
    end = [op("Add", "t one", "g"), *erf]
    cases += [
        Case("erf_of_another", _model(op("Div", "z root", "i"), *gate[1:], *erf, x=two), "Scale Erf Scale Scale Mul", quiet=NAME),
        Case("erf_wrong_width", _model(op("Div", "x two", "i"), *gate[1:], *erf), "Scale Erf Scale Scale Mul", quiet=NAME),
        Case("erf_wrong_factor", _model(*gate, *_products("x two g")[0]), "Scale Erf Scale Scale Mul", quiet=NAME),
        Case("erf_plus_two", _model(*gate[:2], op("Add", "e two", "g"), *erf), "Scale Erf Scale Scale Mul", quiet=NAME),
        Case("erf_no_shift", _model(*gate[:2], op("Mul", "x half", "p"), op("Mul", "p e")), "Scale Erf Scale Mul", quiet=NAME),
        Case("erf_inverted", _model(op("Div", "root x", "i"), *gate[1:], *erf), "Reciprocal Scale Erf Scale Scale Mul", quiet=NAME),
        Case(
            "erf_partly_read",
            _model(*gate, op("Mul", "x half", "p"), op("Mul", "p g", "q"), op("Add", "p q")),
            "Scale Erf Scale Scale Mul Add",
            quiet=NAME,
        ),
        Case(
            "erf_partly_output", _model(*gate, op("Mul", "x g", "p"), op("Mul", "p half"), outputs="y p"), "Scale Erf Scale Mul Gelu", NAME
        ),
        Case(
            "erf_deep_constant",
            _model(op("Div", "x root", "i"), op("Erf", "i", "e"), op("Add", "e deep", "g"), *erf),
            "Scale Erf Scale Scale Mul",
            quiet=NAME,
        ),
        Case("tanh_wrong_bend", _model(*wrong_tanh, *end), "Pow Scale Add Scale Tanh Scale Scale Mul", quiet=NAME),
        Case("tanh_square", _model(*squared, *end), "Pow Scale Add Scale Tanh Scale Scale Mul", quiet=NAME),
        Case("tanh_wrong_slope", _model(*steep, *end), "Pow Scale Add Scale Tanh Scale Scale Mul", quiet=NAME),
    ]
    return cases


def _gated() -> list[Case]:
    two = {"x": X, "z": X}
    sigmoid, relu = op("Sigmoid", "x", "g"), op("Relu", "y", "r")
    hard = op("HardSigmoid", "x", "g", alpha=1 / 6, beta=0.5)
    soft = [op("Softplus", "x", "s"), op("Tanh", "s", "g")]
    gate = op("Mul", "x g")
    return [
        Case("silu", _model(sigmoid, gate), "Swish", NAME),
        Case("silu_gate_first", _model(sigmoid, op("Mul", "g x")), "Swish", NAME),
        Case("silu_beta", _model(op("Mul", "x beta", "b"), op("Sigmoid", "b", "g"), gate), "Swish", NAME),
        Case("silu_beta_first", _model(op("Mul", "beta x", "b"), op("Sigmoid", "b", "g"), op("Mul", "g x")), "Swish", NAME),
        Case("silu_divided", _model(op("Div", "x two", "b"), op("Sigmoid", "b", "g"), gate), "Swish", NAME),
        Case("silu_gate_read_twice", _model(sigmoid, gate, op("Add", "y g", "z"), outputs="z"), "Sigmoid Swish Add", NAME),
        Case("hard_swish", _model(hard, gate), "HardSwish", NAME),
        Case("hard_swish_gate_first", _model(hard, op("Mul", "g x")), "HardSwish", NAME),
        Case("mish", _model(*soft, gate), "Mish", NAME),
        Case("mish_gate_first", _model(*soft, op("Mul", "g x"), relu, outputs="r"), "Mish Relu", NAME),
        Case("of_a_layer", _model(op("Tanh", "z", "x"), sigmoid, gate, x={"z": X}), "Tanh Swish", NAME),
        Case("gate_of_another", _model(op("Sigmoid", "z", "g"), gate, x=two), "Sigmoid Mul", quiet=NAME),
        Case(
            "gate_of_another_scaled",
            _model(op("Mul", "z beta", "b"), op("Sigmoid", "b", "g"), gate, x=two),
            "Scale Sigmoid Mul",
            quiet=NAME,
        ),
        Case("gate_per_channel", _model(op("Mul", "x vector", "b"), op("Sigmoid", "b", "g"), gate), "Scale Sigmoid Mul", quiet=NAME),
        Case("gate_inverted", _model(op("Div", "two x", "b"), op("Sigmoid", "b", "g"), gate), "Reciprocal Scale Sigmoid Mul", quiet=NAME),
        Case("gate_shifted", _model(op("Add", "x one", "b"), op("Sigmoid", "b", "g"), gate), "Scale Sigmoid Mul", quiet=NAME),
        Case("gate_with_more_axes", _model(op("Mul", "x deep", "b"), op("Sigmoid", "b", "g"), gate), "Scale Sigmoid Mul", quiet=NAME),
        Case("divided", _model(sigmoid, op("Div", "x g")), "Sigmoid Div", quiet=NAME),
        Case("hard_sigmoid_of_keras", _model(op("HardSigmoid", "x", "g"), gate), "HardSigmoid Mul", quiet=NAME),
        Case("hard_sigmoid_shifted", _model(op("HardSigmoid", "x", "g", alpha=1 / 6, beta=0.4), gate), "HardSigmoid Mul", quiet=NAME),
        Case("hard_sigmoid_of_another", _model(op("HardSigmoid", "z", "g", alpha=1 / 6), gate, x=two), "HardSigmoid Mul", quiet=NAME),
        Case("mish_of_another", _model(op("Softplus", "z", "s"), op("Tanh", "s", "g"), gate, x=two), "Softplus Tanh Mul", quiet=NAME),
        Case("tanh_gate", _model(op("Tanh", "x", "g"), gate), "Tanh Mul", quiet=NAME),
        Case("tanh_of_sigmoid", _model(op("Sigmoid", "x", "s"), op("Tanh", "s", "g"), gate), "Sigmoid Tanh Mul", quiet=NAME),
        Case(
            "squeeze_excite",
            _model(op("GlobalAveragePool", "x", "p"), op("Sigmoid", "p", "g"), gate, x=("N", 3, 4, 4)),
            "GlobalAveragePool Sigmoid Mul",
            quiet=NAME,
        ),
    ]


def _lrn(
    size: int,
    before: int | None = None,
    *,
    square: str = "x x",
    kernel: Any = None,
    value: float = 0.0,
    mode: str = "constant",
    divided: str = "x d",
    beta: str = "beta",
    channels: int = 7,
) -> Any:
    """PyTorch's export of local_response_norm on (2, channels, 3, 4)."""
    before = size // 2 if before is None else before
    after = size - 1 - before
    constants: dict[str, Any] = {
        "split": np.array([2, 1, channels, 3, 4]),
        "whole": np.array([2, channels, 3, 4]),
        "axis": np.array([1]),
        "value": np.float32(value),
        "pads": np.array([0, 0, before, 0, 0, 0, 0, after, 0, 0]),
        "alpha": np.float32(0.3),
        "k": np.float32(2),
        "beta": np.float32(0.75),
        "vector": np.linspace(0.5, 1, 4),
    }
    nodes = [
        op("Mul", square, "q"),
        op("Reshape", "q split", "r"),
        op("Pad", "r pads value" if mode == "constant" else "r pads", "p", mode=mode),
        op("AveragePool", "p", "a", kernel_shape=kernel or [size, 1, 1], strides=[1, 1, 1]),
        op("Squeeze", "a axis", "s"),
        op("Reshape", "s whole", "t"),
        op("Mul", "t alpha", "m"),
        op("Add", "m k", "n"),
        op("Pow", f"n {beta}", "d"),
        op("Div", divided, "y"),
    ]
    used = {name for node in nodes for name in node.input}
    return build(nodes, {"x": (2, channels, 3, 4)}, constants={name: value for name, value in constants.items() if name in used})


def _norms() -> list[Case]:
    apart = "Mul Reshape Pad AveragePool Squeeze Reshape Scale Pow Div"
    return [
        *(Case(f"lrn_{size}", _lrn(size), "LRN", LRN) for size in (3, 5, 7)),
        Case("lrn_wider_than_the_channels", _lrn(7, channels=4), "LRN", LRN),
        *(Case(f"lrn_even_{size}", _lrn(size), apart, quiet=LRN) for size in (2, 4)),
        Case("lrn_window_before", _lrn(3, 2), apart, quiet=LRN),
        Case("lrn_window_behind", _lrn(5, 1), apart, quiet=LRN),
        Case("lrn_not_squared", _lrn(3, square="x vector"), apart.replace("Mul", "Scale", 1), quiet=LRN),
        Case("lrn_other_value", _lrn(3, value=1.0), apart, quiet=LRN),
        Case("lrn_edge", _lrn(3, mode="edge"), apart, quiet=LRN),
        Case("lrn_inverted", _lrn(3, divided="d x"), apart, quiet=LRN),
        Case("lrn_of_itself", _lrn(3, divided="q d"), apart, quiet=LRN),
        Case("lrn_exponent_per_column", _lrn(3, beta="vector"), apart, quiet=LRN),
        Case("lrn_one", build([op("LRN", size=5, alpha=0.1)], {"x": (2, 6, 3, 3)}), "LRN", quiet=LRN),
        Case("lrn_of_even_size", build([op("LRN", size=4, alpha=0.1)], {"x": (2, 6, 3, 3)}), "LRN", LRN, runs=False),
    ]


CASES = [*_gelu(), *_gated(), *_norms()]
