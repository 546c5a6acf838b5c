"""Models for the rewrites of scales and shifts, and near misses."""

from __future__ import annotations

from typing import Any

import numpy as np
from canonical import Case
from models import build, op

IMAGE = ("N", 3, 5, 4)
RECOGNISE, MERGE = "recognise_scales", "merge_scales"


def w(*shape: int) -> np.ndarray:
    """Weights that are the same for the same shape."""
    return np.random.default_rng(shape).standard_normal(shape)


def norm(channels: int, source: str = "h", result: str = "y", **attributes: Any) -> tuple[Any, dict[str, Any]]:
    """A BatchNormalization and its parameters."""
    rng = np.random.default_rng(channels)
    names = [f"{result}{part}" for part in ("gain", "shift", "mean", "variance")]
    values = [*rng.standard_normal((3, channels)), rng.uniform(0.5, 2.0, channels)]
    return op("BatchNormalization", " ".join([source, *names]), result, **attributes), dict(zip(names, values, strict=True))


def _model(nodes: Any, constants: dict[str, Any], x: Any = IMAGE, outputs: str = "y", **options: Any) -> Any:
    return build(nodes if isinstance(nodes, list) else [nodes], x if isinstance(x, dict) else {"x": x}, outputs, constants, **options)


def _recognised() -> list[Case]:
    x, c = ("N", 3), {"c": np.array([0.5, -2.0, 3.0])}
    batch, parameters = norm(3, "x", epsilon=0.02)
    line, of_line = norm(3, "x")
    trained = dict(parameters) | {"e": np.float32(0.1)}
    counts = {"x": ("N", 4), "i": ("N",)}
    return [
        Case("mul", _model(op("Mul", "x c"), c, x), "Scale", RECOGNISE),
        Case("mul_first", _model(op("Mul", "c x"), c, x), "Scale", RECOGNISE),
        Case("add", _model(op("Add", "c x"), c, x), "Scale", RECOGNISE),
        Case("sub", _model(op("Sub", "x c"), c, x), "Scale", RECOGNISE),
        Case("sub_from", _model(op("Sub", "c x"), c, x), "Scale", RECOGNISE),
        Case("div", _model(op("Div", "x c"), c, x), "Scale", RECOGNISE),
        Case("div_into", _model(op("Div", "c x"), c, x), "Reciprocal Scale", RECOGNISE),
        Case("neg", _model(op("Neg"), {}, x), "Scale", RECOGNISE),
        Case("repeats", _model(op("Mul", "x c"), {"c": w(2, 1, 3)}, x), "Scale", RECOGNISE),
        Case("higher_rank", _model(op("Add", "x c"), {"c": w(1, 1, 1)}, x), "Scale", RECOGNISE),
        Case("batch_norm", _model(batch, parameters), "Scale", RECOGNISE),
        Case("batch_norm_of_matrix", _model(line, of_line, x), "Scale", RECOGNISE),
        Case("batch_norm_of_line", _model(line, of_line, ("N", 3, 7)), "Scale", RECOGNISE),
        Case("batch_norm_opset_7", _model(batch, parameters, opset=7), "Scale", RECOGNISE),
        Case(
            "training",
            _model(op("BatchNormalization", "x ygain yshift ymean yvariance", "y m v", training_mode=1), trained),
            "BatchNormalization",
            quiet=RECOGNISE,
        ),
        Case(
            "computed_statistics",
            _model([op("Abs", "v", "u"), op("BatchNormalization", "x ygain yshift ymean u")], parameters, {"x": IMAGE, "v": (3,)}),
            "Abs BatchNormalization",
            quiet=RECOGNISE,
        ),
        Case("div_by_zero", _model(op("Div", "x c"), {"c": np.array([1.0, 0.0, 2.0])}, x), "Div", quiet=RECOGNISE, runs=False),
        Case("two_data", _model(op("Mul", "x z"), {}, {"x": x, "z": x}), "Mul", quiet=RECOGNISE),
        Case("square", _model(op("Mul", "x x"), {}, x), "Mul", quiet=RECOGNISE),
        Case(
            "integers",
            _model([op("Add", "i two", "j"), op("Gather", "x j", axis=1)], {"two": np.array(2)}, counts, types={"i": np.int64}),
            "Add Gather",
            quiet=RECOGNISE,
            feeds={"i": [0, 1]},
        ),
        Case(
            "negated_integers",
            _model([op("Neg", "i", "j"), op("Gather", "x j", axis=1)], {}, counts, types={"i": np.int64}),
            "Neg Gather",
            quiet=RECOGNISE,
            feeds={"i": [1, 2]},
        ),
        Case(
            "negated_shape",
            _model(
                [op("Shape", "x", "s", start=0, end=1), op("Neg", "s", "n"), op("Slice", "x n e one")],
                {"e": np.array([9]), "one": np.array([1])},
                ("N", 4),
            ),
            "Shape Neg Slice",
            quiet=RECOGNISE,
        ),
    ]


def _before() -> list[Case]:
    """A layer, then a scale."""
    conv, kernel = op("Conv", "x w b", "h", pads=[1, 1, 0, 0]), {"w": w(4, 3, 3, 2), "b": w(4)}
    bare = op("Conv", "x w", "h")
    batch, of_batch = norm(4)
    channel = {"c": w(4, 1, 1), "d": w(1, 4, 1, 1)}
    both = [op("Mul", "h c", "k"), op("Add", "k d")]
    depthwise, of_depth = op("Conv", "x w", "h", group=3), {"w": w(6, 1, 2, 2), "c": w(1, 6, 1, 1), "d": w(1, 6, 1, 1)}
    grouped = op("Conv", "x w b", "h", group=2)
    up, of_up = op("ConvTranspose", "x w b", "h", strides=[2, 1]), {"w": w(3, 4, 2, 3), "b": w(4)}
    grouped_up = op("ConvTranspose", "x w b", "h", group=2)
    gemm, of_gemm = op("Gemm", "x w b", "h", transB=1), {"w": w(5, 4), "b": w(5), "c": w(5), "d": w(1, 5)}
    matrix, rows = ("N", 4), ("N", 3, 4)
    relu = op("Relu", "h", "r")
    return [
        Case("conv_norm", _model([conv, batch], kernel | of_batch), "Conv", MERGE),
        Case("conv_norm_no_bias", _model([bare, batch], kernel | of_batch), "Conv", MERGE),
        Case("conv_mul_add", _model([conv, *both], kernel | channel), "Conv", MERGE),
        Case("conv_scalar", _model([bare, op("Div", "h c")], kernel | {"c": np.float32(3)}), "Conv", MERGE),
        Case("conv_sub_from", _model([conv, op("Sub", "c h")], kernel | channel), "Conv", MERGE),
        Case("conv_zero_shift", _model([bare, op("Add", "h c")], kernel | {"c": np.zeros((4, 1, 1))}), "Conv", MERGE),
        Case("depthwise_keras", _model([depthwise, *both], of_depth), "Conv", MERGE),
        Case("grouped_norm", _model([grouped, batch], {"w": w(4, 2, 2, 2), "b": w(4)} | of_batch, ("N", 4, 5, 4)), "Conv", MERGE),
        Case("transposed_norm", _model([up, batch], of_up | of_batch), "ConvTranspose", MERGE),
        Case(
            "grouped_transposed_norm",
            _model([grouped_up, batch], {"w": w(6, 2, 2, 2), "b": w(4)} | of_batch, ("N", 6, 3, 4)),
            "ConvTranspose",
            MERGE,
        ),
        Case("gemm", _model([gemm, op("Mul", "h c", "k"), op("Add", "k d")], of_gemm, matrix), "Gemm", MERGE),
        Case("gemm_norm", _model([op("Gemm", "x w b", "h"), *norm(5)[:1]], {"w": w(4, 5), "b": w(5)} | norm(5)[1], matrix), "Gemm", MERGE),
        Case("linear", _model([op("MatMul", "x w", "h"), op("Mul", "h c")], {"w": w(4, 5), "c": w(1, 1, 5)}, rows), "Linear", MERGE),
        Case("line", _model([op("Conv", "x w", "h"), *norm(4)[:1]], {"w": w(4, 3, 2)} | of_batch, ("N", 3, 6)), "Conv", MERGE),
        Case(
            "volume", _model([op("Conv", "x w", "h"), *norm(4)[:1]], {"w": w(4, 3, 2, 1, 2)} | of_batch, ("N", 3, 2, 3, 4)), "Conv", MERGE
        ),
        Case(
            "shared_weights",
            _model(
                [op("Conv", "x w b", "h"), batch, op("Relu", "y", "r"), op("Conv", "r w b", "z")],
                {"w": w(4, 4, 2, 2), "b": w(4)} | of_batch,
                ("N", 4, 4, 4),
                "z",
            ),
            "Conv Relu Conv",
            MERGE,
        ),
        Case(
            "read_twice",
            _model([conv, batch, relu, op("Add", "y r", "z")], kernel | of_batch, outputs="z"),
            "Conv Scale Relu Add",
            quiet=MERGE,
        ),
        Case("output", _model([conv, batch], kernel | of_batch, outputs="y h"), "Conv Scale", quiet=MERGE),
        Case("per_pixel", _model([bare, op("Mul", "h c")], kernel | {"c": w(3, 3)}), "Conv Scale", quiet=MERGE),
        Case("per_row", _model([bare, op("Mul", "h c")], {"w": w(3, 3, 3, 2), "c": w(3, 1)}), "Conv Scale", quiet=MERGE),
        Case("per_column_of_as_many", _model([bare, op("Add", "h c")], {"w": w(3, 3, 3, 2), "c": w(3)}), "Conv Scale", quiet=MERGE),
        Case("adds_an_axis", _model([bare, op("Mul", "h c")], kernel | {"c": w(1, 1, 1, 1, 1)}), "Conv Scale", quiet=MERGE),
        Case("adds_an_axis_of_channels", _model([bare, op("Mul", "h c")], kernel | {"c": w(1, 1, 4, 1, 1)}), "Conv Scale", quiet=MERGE),
        Case("repeats_channels", _model([bare, op("Mul", "h c")], {"w": w(1, 3, 2, 2), "c": w(1, 4, 1, 1)}), "Conv Scale", quiet=MERGE),
        Case(
            "repeats_gemm", _model([op("Gemm", "x w", "h"), op("Mul", "h c")], {"w": w(4, 1), "c": w(5)}, matrix), "Gemm Scale", quiet=MERGE
        ),
        Case(
            "per_sample",
            _model([op("Gemm", "x w", "h"), op("Mul", "h c")], {"w": w(4, 5), "c": w(5, 1)}, (5, 4)),
            "Gemm Scale",
            quiet=MERGE,
        ),
        Case(
            "left",
            _model([op("MatMul", "w x", "h"), op("Mul", "h c")], {"w": w(4, 4), "c": w(4)}, ("N", 4, 4)),
            "Linear Scale",
            quiet=MERGE,
        ),
        Case(
            "weight_batch",
            _model([op("MatMul", "x w", "h"), op("Mul", "h c")], {"w": w(2, 4, 5), "c": w(5)}, (2, 3, 4)),
            "Linear Scale",
            quiet=MERGE,
        ),
        Case(
            "computed_weights",
            _model([op("Conv", "x k", "h"), op("Mul", "h c")], {"c": w(4, 1, 1)}, {"x": (2, 3, 4, 4), "k": (4, 3, 2, 2)}),
            "Conv Scale",
            quiet=MERGE,
        ),
        Case(
            "pool_between",
            _model([conv, op("MaxPool", "h", "p", kernel_shape=[2, 2]), op("Mul", "p c")], kernel | channel),
            "Conv MaxPool Scale",
            quiet=MERGE,
        ),
    ]


def _after() -> list[Case]:
    """A scale, then a layer."""
    kernel = {"w": w(4, 3, 3, 2), "b": w(4)}
    batch, of_batch = norm(3, "x", "h")
    plain, padded = op("Conv", "h w b"), op("Conv", "h w b", pads=[1, 0, 0, 1])
    mean, deviation = {"m": w(3, 1, 1)}, {"d": np.array([0.5, 2.0, 1.5]).reshape(3, 1, 1)}
    same = op("Conv", "h w", auto_pad="SAME_UPPER", strides=[2, 2])
    gemm = {"w": w(3, 5), "b": w(5), "c": w(3), "d": w(1, 3)}
    grouped = {"w": w(4, 2, 2, 2), "c": w(1, 4, 1, 1), "d": w(4, 1, 1)}
    affine = [op("Mul", "x c", "k"), op("Add", "k d", "h")]
    rows = ("N", 2, 3)
    return [
        Case("norm_conv", _model([batch, plain], kernel | of_batch), "Conv", MERGE),
        Case("normalised_input", _model([op("Sub", "x m", "k"), op("Div", "k d", "h"), plain], kernel | mean | deviation), "Conv", MERGE),
        Case("factor_padded", _model([op("Mul", "x d", "h"), padded], kernel | deviation), "Conv", MERGE),
        Case(
            "factor_same",
            _model([op("Mul", "x d", "h"), same], kernel | deviation, ("N", 3, "H", "W")),
            "Conv",
            MERGE,
            feeds={"x": (2, 3, 4, 5)},
        ),
        Case("grouped_conv", _model([*affine, op("Conv", "h w", group=2)], grouped, ("N", 4, 3, 4)), "Conv", MERGE),
        Case("norm_gemm", _model([*affine, op("Gemm", "h w b")], gemm, ("N", 3)), "Gemm", MERGE),
        Case("norm_gemm_transposed", _model([*affine, op("Gemm", "h w", transB=1)], gemm | {"w": w(5, 3)}, ("N", 3)), "Gemm", MERGE),
        Case("norm_linear", _model([*affine, op("MatMul", "h w")], gemm, rows), "Linear", MERGE),
        Case("scalar", _model([op("Mul", "x c", "h"), plain], kernel | {"c": np.float32(1 / 255)}), "Conv", MERGE),
        Case(
            "shared_after",
            _model([op("Mul", "x d", "h"), op("Conv", "h w", "a"), op("Conv", "x w", "c"), op("Sub", "a c")], kernel | deviation),
            "Conv Conv Sub",
            MERGE,
        ),
        Case("shift_padded", _model([batch, padded], kernel | of_batch), "Scale Conv", quiet=MERGE),
        Case("shift_same", _model([batch, same], kernel | of_batch), "Scale Conv", quiet=MERGE),
        Case(
            "shift_same_of_unknown_size",
            _model([batch, same], kernel | of_batch, ("N", 3, "H", "W")),
            "Scale Conv",
            quiet=MERGE,
            feeds={"x": (2, 3, 4, 5)},
        ),
        Case(
            "shift_behind_padding",
            _model([op("Add", "x m", "k"), op("Pad", "k p", "h"), plain], kernel | mean | {"p": np.array([0, 0, 1, 1, 0, 0, 0, 0])}),
            "Scale Conv",
            quiet=MERGE,
        ),
        Case(
            "transposed_after",
            _model([batch, op("ConvTranspose", "h w")], {"w": w(3, 2, 2, 2)} | of_batch),
            "Scale ConvTranspose",
            quiet=MERGE,
        ),
        Case(
            "read_by_two",
            _model(
                [
                    batch,
                    op("Conv", "h w", "a"),
                    op("Relu", "h", "r"),
                    op("GlobalMaxPool", "r", "g"),
                    op("Concat", "g g", "t", axis=1),
                    op("Slice", "t z f one", "u"),
                    op("Add", "a u"),
                ],
                kernel | of_batch | {"z": np.array([0]), "f": np.array([4]), "one": np.array([1])},
            ),
            "Scale Conv Relu GlobalMaxPool Concat Slice Add",
            quiet=MERGE,
        ),
        Case("output_before", _model([batch, plain], kernel | of_batch, outputs="y h"), "Scale Conv", quiet=MERGE),
        Case("row_before", _model([op("Mul", "x c", "h"), plain], kernel | {"c": w(5, 1)}), "Scale Conv", quiet=MERGE),
        Case(
            "sample_before", _model([op("Mul", "x c", "h"), op("Gemm", "h w b")], gemm | {"c": w(3, 1)}, (3, 3)), "Scale Gemm", quiet=MERGE
        ),
        Case("repeated_before", _model([op("Mul", "x c", "h"), op("Gemm", "h w b")], gemm, ("N", 1)), "Scale Gemm", quiet=MERGE),
        Case(
            "axis_before",
            _model([op("Mul", "x c", "h"), op("MatMul", "h w")], gemm | {"c": w(1, 1, 1, 3)}, rows),
            "Scale Linear",
            quiet=MERGE,
        ),
        Case(
            "left_after",
            _model([op("Mul", "x c", "h"), op("MatMul", "w h")], {"w": w(5, 3), "c": w(3)}, ("N", 3, 3)),
            "Scale Linear",
            quiet=MERGE,
        ),
        Case(
            "weights_scaled",
            _model([op("Mul", "k d", "h"), op("Conv", "x h")], deviation, {"x": (2, 3, 4, 4), "k": (4, 3, 2, 2)}),
            "Scale Conv",
            quiet=MERGE,
        ),
    ]


def _joined() -> list[Case]:
    x, relu = ("N", 3), op("Relu", "k")
    chain = [op("Mul", "x a", "g"), op("Add", "g b", "h"), op("Sub", "c h", "i"), op("Div", "i a", "k"), relu]
    vectors = {"a": np.array([0.5, 2.0, -1.0]), "b": w(3), "c": w(1)}
    undone = [op("Mul", "x c", "h"), op("Div", "h c", "k"), relu]
    shifted = [op("Add", "x b", "h"), op("Sub", "h b", "k"), relu]
    zeros = [op("Add", "x z", "h"), op("Mul", "h c", "k"), relu]
    ones = [op("Mul", "x o", "h"), op("Add", "h n", "k"), relu]
    grown = [op("Add", "x b", "h"), op("Mul", "h a", "k"), relu]
    return [
        Case("chain", _model(chain, vectors, x), "Scale Relu", MERGE),
        Case("undone", _model(undone, {"c": np.float32(4)}, x), "Scale Relu", MERGE),
        Case("shift_undone", _model(shifted, vectors, x), "Scale Relu", MERGE),
        Case("zeros_that_repeat", _model(zeros, {"z": np.zeros((4, 1, 3)), "c": np.float32(2)}, x), "Scale Relu", MERGE),
        Case("zeros_that_repeat_along_one", _model(zeros, {"z": np.zeros((1, 3)), "c": np.float32(2)}, ("N", 1)), "Scale Relu", MERGE),
        Case("ones_that_add_an_axis", _model(ones, {"o": np.ones((1, 1, 1)), "n": np.zeros(3)}, x), "Scale Relu", MERGE),
        Case("constants_would_grow", _model(grown, {"a": w(4, 1), "b": w(1, 5)}, ("N", 4, 5)), "Scale Scale Relu", quiet=MERGE),
        Case(
            "activation_between",
            _model([op("Mul", "x c", "h"), op("Relu", "h", "k"), op("Add", "k b")], vectors, x),
            "Scale Relu Scale",
            quiet=MERGE,
        ),
    ]


CASES = [*_recognised(), *_before(), *_after(), *_joined()]
