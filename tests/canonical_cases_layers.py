"""Models for the rewrites of padding, dense layers and scales, and near misses of each."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
from canonical import Case
from models import build, op

IMAGE = ("N", 3, 6, 7)
RNG = np.random.default_rng(3)


def w(*shape: int) -> np.ndarray:
    """Weights that are the same for the same shape."""
    return np.random.default_rng(shape).standard_normal(shape)


def _model(nodes: Any, constants: dict[str, Any], x: Any = IMAGE, outputs: str = "y", **options: Any) -> Any:
    return build(nodes if isinstance(nodes, list) else [nodes], {"x": x} if not isinstance(x, dict) else x, outputs, constants, **options)


def ints(*values: int) -> np.ndarray:
    return np.array(values, np.int64)


KERNEL = {"w": w(4, 3, 3, 2), "b": w(4)}


def _explicit() -> list[Case]:
    name = "make_padding_explicit"
    cases = []
    for mode in ("SAME_UPPER", "SAME_LOWER", "VALID"):
        for strides in ([1, 1], [2, 3], [3, 1]):
            conv = op("Conv", "x w b", auto_pad=mode, strides=strides)
            cases.append(Case(f"conv_{mode}_{strides}", _model(conv, KERNEL), "Conv", name))
        transposed = {"w": w(3, 2, 3, 4)}
        cases += [
            Case(
                f"transposed_{mode}", _model(op("ConvTranspose", "x w", auto_pad=mode, strides=[2, 3]), transposed), "ConvTranspose", name
            ),
            Case(f"transposed_{mode}_one", _model(op("ConvTranspose", "x w", auto_pad=mode), transposed), "ConvTranspose", name),
        ]
        for kind in ("MaxPool", "AveragePool", "LpPool"):
            pool = op(kind, "x", kernel_shape=[3, 4], strides=[2, 2], auto_pad=mode)
            cases.append(Case(f"{kind}_{mode}", _model(pool, {}), kind, name))
        average = op("AveragePool", "x", kernel_shape=[4, 2], strides=[3, 1], auto_pad=mode, count_include_pad=1)
        cases.append(Case(f"count_padding_{mode}", _model(average, {}), "AveragePool", name))
    for mode in ("NOTSET", "SAME_UPPER", "SAME_LOWER"):
        shaped = op("ConvTranspose", "x w", strides=[2, 2], output_shape=[12, 13], auto_pad=mode)
        cases.append(Case(f"output_shape_{mode}", _model(shaped, {"w": w(3, 2, 3, 4)}), "ConvTranspose", name))
    free = ("N", 3, "H", "W")
    same = op("Conv", "x w", auto_pad="SAME_UPPER")
    computed = [op("Relu", "k", "h"), op("Conv", "x h", auto_pad="SAME_LOWER", strides=[2, 1])]
    cases += [
        Case("same_of_stride_one_needs_no_size", _model(same, KERNEL, free), "Conv", name, feeds={"x": (2, 3, 5, 4)}),
        Case(
            "valid_needs_no_size",
            _model(op("Conv", "x w", auto_pad="VALID", strides=[2, 2]), KERNEL, free),
            "Conv",
            name,
            feeds={"x": (2, 3, 5, 4)},
        ),
        Case(
            "same_of_unknown_size",
            _model(op("Conv", "x w", auto_pad="SAME_UPPER", strides=[2, 2]), KERNEL, free),
            "Conv",
            quiet=name,
            feeds={"x": (2, 3, 5, 4)},
        ),
        Case(
            "output_shape_of_unknown_size",
            _model(op("ConvTranspose", "x w", strides=[2, 2], output_shape=[9, 8]), {"w": w(3, 2, 3, 3)}, free),
            "ConvTranspose",
            quiet=name,
            feeds={"x": (2, 3, 4, 4)},
        ),
        Case("valid_dilated", _model(op("Conv", "x w", auto_pad="VALID", strides=[2, 1], dilations=[2, 3]), KERNEL), "Conv", name),
        Case("nothing_to_do", _model(op("Conv", "x w", auto_pad="NOTSET", pads=[1, 0, 0, 1]), KERNEL), "Conv", quiet=name),
        Case("computed_weights", _model(computed, {}, {"x": (2, 3, 6, 5), "k": (4, 3, 3, 2)}), "Relu Conv"),
        Case(
            "kernel_smaller_than_stride",
            _model(op("ConvTranspose", "x w", strides=[3, 3], auto_pad="SAME_UPPER"), {"w": w(3, 2, 2, 2)}),
            "ConvTranspose",
            runs=False,
        ),
    ]
    return cases


def _pad(pads: Any, *more: Any, reader: Any = None, x: Any = IMAGE, **attributes: Any) -> Any:
    """A Pad before a convolution, or before `reader`, which reads h."""
    names = ["p", "v", "a"][: 1 + len(more)]
    constants = {"p": ints(*pads)} | {name: value for name, value in zip(names[1:], more, strict=True) if value is not None} | KERNEL
    inputs = " ".join(name if name in constants else "-" for name in names)
    return _model([op("Pad", f"x {inputs}", "h", **attributes), reader or op("Conv", "h w b")], constants, x)


def _padding() -> list[Case]:
    name, zero = "merge_padding", np.float32(0)
    spatial = (0, 0, 1, 2, 0, 0, 0, 3)
    line = _model([op("Pad", "x p", "h"), op("Conv", "h k")], {"p": ints(0, 0, 2, 0, 0, 1), "k": w(2, 3, 3)}, ("N", 3, 5))
    twice = _model(
        [op("Pad", "x p", "h"), op("Conv", "h w", "a"), op("ReduceMax", "h", "r", keepdims=1), op("Add", "a r")],
        KERNEL | {"p": ints(*spatial)},
    )
    output = _model([op("Pad", "x p", "h"), op("Conv", "h w")], KERNEL | {"p": ints(*spatial)}, outputs="y h")
    weights = _model(
        [op("Pad", "k p", "h"), op("Conv", "x h")], {"p": ints(0, 0, 1, 1, 0, 0, 0, 0)}, {"x": (2, 3, 6, 6), "k": (2, 3, 2, 2)}
    )
    both = _model([op("Pad", "x p", "h"), op("Conv", "h h")], {"p": ints(0, 0, 1, 1, 0, 0, 0, 0)}, {"x": (2, 3, 3, 3)})
    computed = [op("Shape", "x", "s", start=0, end=1), op("Mul", "s z", "a"), op("Pad", "x p v a", "h"), op("Conv", "h w")]
    computed_axes = _model(computed, KERNEL | {"z": ints(0), "p": ints(0, 0), "v": zero})
    computed_pads = _model(
        [op("Shape", "x", "s"), op("Mul", "s z", "t"), op("Concat", "t t", "q", axis=0), op("Pad", "x q", "h"), op("Conv", "h w")],
        KERNEL | {"z": ints(0)},
    )
    return [
        Case("pad", _pad(spatial), "Conv", name),
        Case("pad_1d", line, "Conv", name),
        Case("explicit_zero", _pad(spatial, zero), "Conv", name),
        Case("axes", _pad((1, 2, 0, 3), zero, ints(2, 3)), "Conv", name),
        Case("negative_axes", _pad((1, 2, 0, 3), None, ints(-1, -2)), "Conv", name),
        Case("own_padding", _pad(spatial, reader=op("Conv", "h w", pads=[2, 1, 0, 1], strides=[2, 1], dilations=[1, 2])), "Conv", name),
        Case("valid", _pad(spatial, reader=op("Conv", "h w", auto_pad="VALID")), "Conv", name),
        Case("same", _pad(spatial, reader=op("Conv", "h w", auto_pad="SAME_UPPER", strides=[2, 2])), "Conv", name),
        Case(
            "same_of_unknown_size",
            _pad(spatial, reader=op("Conv", "h w", auto_pad="SAME_UPPER", strides=[2, 2]), x=("N", 3, "H", "W")),
            "Pad Conv",
            quiet=name,
            feeds={"x": (2, 3, 4, 5)},
        ),
        Case("other_value", _pad(spatial, np.float32(0.5)), "Pad Conv", quiet=name),
        Case(
            "channels",
            _model([op("Pad", "x p", "h"), op("Conv", "h w")], {"p": ints(0, 1, 1, 1, 0, 0, 0, 0), "w": w(2, 4, 2, 2)}),
            "Pad Conv",
            quiet=name,
        ),
        Case("batch", _pad((1, 0, 1, 1, 0, 0, 0, 0)), "Pad Conv", quiet=name),
        Case("cut", _pad((0, 0, -1, 2, 0, 0, 0, 0)), "Pad Conv", quiet=name),
        Case("reflect", _pad(spatial, mode="reflect"), "Pad Conv", quiet=name),
        Case("edge", _pad(spatial, mode="edge"), "Pad Conv", quiet=name),
        Case("read_twice", twice, "Pad Conv ReduceMax Add", quiet=name),
        Case("output", output, "Pad Conv", quiet=name),
        Case("pool", _pad(spatial, reader=op("MaxPool", "h", kernel_shape=[2, 2])), "Pad MaxPool", quiet=name),
        Case("average", _pad(spatial, reader=op("AveragePool", "h", kernel_shape=[2, 2])), "Pad AveragePool", quiet=name),
        Case(
            "transposed",
            _model([op("Pad", "x p", "h"), op("ConvTranspose", "h w")], {"p": ints(*spatial), "w": w(3, 2, 2, 2)}),
            "Pad ConvTranspose",
            quiet=name,
        ),
        Case("weights", weights, "Pad Conv", quiet=name),
        Case("weights_and_data", both, "Pad Conv", quiet=name),
        Case("computed_axes", computed_axes, "Shape Mul Pad Conv", quiet=name),
        Case("computed_pads", computed_pads, "Shape Mul Concat Pad Conv", quiet=name),
    ]


def _gemm() -> list[Case]:
    name, linear, x = "normalise_gemm", "recognise_linear", ("N", 4)
    cases = []
    for shape in ((5,), (1, 5), (1,), (), (1, 1)):
        changes = name if shape != (5,) else ""
        bias = _model(op("Gemm", "x w b"), {"w": w(4, 5), "b": w(*shape)}, x)
        cases.append(Case(f"bias_{shape}", bias, "Gemm", changes, quiet="" if changes else name))
    batch = {"x": (3, 4)}
    cases += [
        Case("no_bias", _model(op("Gemm", "x w", transB=1), {"w": w(5, 4)}, x), "Gemm", quiet=name),
        Case("one_column", _model(op("Gemm", "x w b"), {"w": w(4, 1), "b": w(1)}, x), "Gemm", quiet=name),
        Case("bias_of_rows", _model(op("Gemm", "x w b"), {"w": w(4, 5), "b": w(3, 1)}, batch), "Gemm Scale", f"{name} {linear}"),
        Case("bias_of_all", _model(op("Gemm", "x w b", transB=1), {"w": w(5, 4), "b": w(3, 5)}, batch), "Gemm Scale", f"{name} {linear}"),
        Case("alpha", _model(op("Gemm", "x w b", alpha=0.5), {"w": w(4, 5), "b": w(5)}, x), "Gemm", f"{name} {linear}"),
        Case("beta", _model(op("Gemm", "x w b", beta=-2.0), {"w": w(4, 5), "b": w(5)}, x), "Gemm", f"{name} {linear}"),
        Case("beta_zero", _model(op("Gemm", "x w b", beta=0.0, transB=1), {"w": w(5, 4), "b": w(1, 5)}, x), "Gemm", f"{name} {linear}"),
        Case("alpha_no_bias", _model(op("Gemm", "x w", alpha=3.0), {"w": w(4, 5)}, x), "Gemm", f"{name} {linear}"),
        Case(
            "trans_a",
            _model(op("Gemm", "x w b", transA=1), {"w": w(4, 5), "b": w(5)}, (4, "N")),
            "Transpose Gemm",
            f"{name} {linear}",
            feeds={"x": (4, 3)},
        ),
        Case(
            "all_flags",
            _model(op("Gemm", "x w b", transA=1, transB=1, alpha=0.3, beta=2.0), {"w": w(5, 4), "b": w(1, 5)}, (4, 3)),
            "Transpose Gemm",
            f"{name} {linear}",
        ),
        Case(
            "data_bias",
            _model(op("Gemm", "x w c", alpha=2.0, beta=0.5), {"w": w(4, 5)}, {"x": (3, 4), "c": (3, 5)}),
            "Gemm Scale Add",
            f"{name} {linear}",
        ),
        Case("data_bias_of_rows", _model(op("Gemm", "x w c"), {"w": w(4, 5)}, {"x": (3, 4), "c": (3, 1)}), "Gemm Add", f"{name} {linear}"),
        Case(
            "two_data",
            _model(op("Gemm", "x z b", alpha=0.5, transB=1), {"b": w(5)}, {"x": (3, 4), "z": (5, 4)}),
            "Transpose MatMul Scale",
            name,
        ),
        Case("two_data_plain", _model(op("Gemm", "x z"), {}, {"x": (3, 4), "z": (4, 5)}), "MatMul", name),
        Case(
            "three_data",
            _model(op("Gemm", "x z c", alpha=2.0, beta=3.0), {}, {"x": (3, 4), "z": (4, 5), "c": (5,)}),
            "MatMul Scale Scale Add",
            name,
        ),
        Case(
            "weight_left", _model(op("Gemm", "w x", alpha=2.0), {"w": w(5, 4)}, (4, "N")), "Linear", f"{name} {linear}", feeds={"x": (4, 3)}
        ),
        Case("weight_left_bias", _model(op("Gemm", "w x b", transA=1), {"w": w(4, 5), "b": w(5, 1)}, (4, 3)), "Linear", f"{name} {linear}"),
        Case(
            "shared_weight",
            _model([op("Gemm", "x w b", "h", alpha=2.0), op("Gemm", "h w b", "y")], {"w": w(4, 4), "b": w(4)}, x),
            "Gemm Gemm",
            f"{name} {linear}",
        ),
    ]
    return cases


def _linear() -> list[Case]:
    name, rows = "recognise_linear", ("N", 3, 4)

    def dense(bias: Any, x: Any = rows, weight: Any = (4, 5), order: str = "h b") -> Any:
        return _model([op("MatMul", "x w", "h"), op("Add", order)], {"w": w(*weight), "b": w(*bias)}, x)

    return [
        Case("matrix", _model(op("MatMul", "x w"), {"w": w(4, 5)}, ("N", 4)), "Gemm", name),
        Case("matrix_bias", dense((5,), ("N", 4)), "Gemm", name),
        Case("matrix_bias_first", dense((1, 5), ("N", 4), order="b h"), "Gemm", name),
        Case("scalar_bias", dense((), ("N", 4)), "Gemm", name),
        Case("rows", _model(op("MatMul", "x w"), {"w": w(4, 5)}, rows), "Linear", name),
        Case("rows_bias", dense((5,)), "Linear", name),
        Case("rows_bias_with_ones", dense((1, 1, 5)), "Linear", name),
        Case("rows_scalar_bias", dense((1,)), "Linear", name),
        Case("left", _model(op("MatMul", "w x"), {"w": w(5, 3)}, rows), "Linear", name),
        Case("left_of_matrix", _model(op("MatMul", "w x"), {"w": w(5, 4)}, (4, "N")), "Linear", name, feeds={"x": (4, 2)}),
        Case("left_bias", _model([op("MatMul", "w x", "h"), op("Add", "h b")], {"w": w(5, 3), "b": w(5, 1)}, rows), "Linear", name),
        Case("left_scalar_bias", _model([op("MatMul", "w x", "h"), op("Add", "b h")], {"w": w(5, 3), "b": w(1)}, rows), "Linear", name),
        Case(
            "left_bias_of_columns",
            _model([op("MatMul", "w x", "h"), op("Add", "h b")], {"w": w(4, 3), "b": w(4)}, rows),
            "Linear Scale",
            name,
        ),
        Case("left_of_vector", _model([op("MatMul", "w x", "h"), op("Add", "h b")], {"w": w(5, 4), "b": w(5)}, (4,)), "Linear Scale", name),
        Case(
            "left_of_vector_scalar",
            _model([op("MatMul", "w x", "h"), op("Add", "h b")], {"w": w(5, 4), "b": w()}, (4,)),
            "Linear Scale",
            name,
        ),
        Case("vector_by_matrix", _model([op("MatMul", "x w", "h"), op("Add", "h b")], {"w": w(4, 5), "b": w(5)}, (4,)), "Linear", name),
        Case("batch_of_weights", _model(op("MatMul", "x w"), {"w": w(2, 4, 5)}, (2, 3, 4)), "Linear", name),
        Case("batch_of_weights_bias", dense((5,), (2, 3, 4), (2, 4, 5)), "Linear Scale", name),
        Case("vector", _model(op("MatMul", "x w"), {"w": w(4)}, rows), "Linear", name),
        Case("vector_bias", dense((), rows, (4,)), "Linear Scale", name),
        Case("bias_per_row", dense((3, 1)), "Linear Scale", name),
        Case("bias_per_element", dense((3, 5)), "Linear Scale", name),
        Case("bias_of_higher_rank", dense((1, 1, 1, 5)), "Linear Scale", name),
        Case("bias_that_repeats", dense((2, 1), ("N", 1, 4)), "Linear Scale", name),
        Case("bias_that_repeats_columns", dense((5,), ("N", 4), (4, 1)), "Gemm Scale", name),
        Case(
            "data_bias",
            _model([op("MatMul", "x w", "h"), op("Add", "h b")], {"w": w(4, 5)}, {"x": (2, 3, 4), "b": (5,)}),
            "Linear Add",
            name,
        ),
        Case("doubled", _model([op("MatMul", "x w", "h"), op("Add", "h h")], {"w": w(4, 5)}, rows), "Linear Add", name),
        Case(
            "read_twice",
            _model(
                [op("MatMul", "x w", "h"), op("Add", "h b", "a"), op("Relu", "h", "r"), op("Add", "a r")], {"w": w(4, 5), "b": w(5)}, rows
            ),
            "Linear Scale Relu Add",
            name,
        ),
        Case(
            "output", _model([op("MatMul", "x w", "h"), op("Add", "h b")], {"w": w(4, 5), "b": w(5)}, ("N", 4), "y h"), "Gemm Scale", name
        ),
        Case("two_data", _model(op("MatMul", "x z"), {}, {"x": (2, 3), "z": (3, 4)}), "MatMul", quiet=name),
        Case(
            "computed_weight",
            _model([op("Tanh", "z", "h"), op("MatMul", "x h")], {}, {"x": ("N", 3), "z": (3, 4)}),
            "Tanh MatMul",
            quiet=name,
        ),
        Case("transposed_data", _model([op("Transpose", "x", "h"), op("MatMul", "x h")], {}, ("N", 3)), "Transpose MatMul", quiet=name),
        Case(
            "unknown_rank",
            _model([op("MatMul", "x w", "h"), op("Add", "h b")], {"w": w(4, 5), "b": w(5)}, {"x": None}),
            "Linear Scale",
            name,
            feeds={"x": (2, 3, 4)},
        ),
    ]


PARTS = {"explicit": _explicit(), "pad": _padding(), "gemm": _gemm(), "linear": _linear()}
CASES = [replace(case, name=f"{part}_{case.name}") for part, cases in PARTS.items() for case in cases]
