"""Gradient cases of layers: convolutions, dense layers, scales, pools, reductions, resizing."""

from __future__ import annotations

import itertools
from functools import partial
from typing import Any

import numpy as np
from gradients import Case
from models import op
from oracles import conv_transpose, lp_pool, max_pool


def _layer(name: str, kind: str, x: tuple[int, ...], weight: tuple[int, ...], *, bias: bool = True, **attributes: Any) -> Case:
    channels = weight[1] * attributes.get("group", 1) if kind == "ConvTranspose" else weight[0]
    constants: dict[str, Any] = {"w": weight} | ({"b": (channels,)} if bias else {})
    free = tuple(axis for axis in range(len(x)) if axis != 1)
    if "auto_pad" in attributes or "output_shape" in attributes:
        free = (0,)
    function = partial(conv_transpose, **attributes) if kind == "ConvTranspose" else None
    return Case(name, kind, op(kind, "x w b" if bias else "x w", **attributes), {"x": x}, constants, free=free, function=function)


CONVOLUTIONS = [
    _layer("1d", "Conv", (2, 3, 7), (4, 3, 3), pads=[1, 1]),
    _layer("1d_stride_dilation", "Conv", (2, 2, 11), (3, 2, 3), strides=[2], dilations=[2], pads=[2, 1]),
    _layer("1d_group", "Conv", (2, 4, 6), (6, 2, 2), group=2),
    _layer("2d_no_bias", "Conv", (2, 2, 5, 4), (3, 2, 3, 2), bias=False),
    _layer("2d_one_by_one", "Conv", (2, 6, 3, 4), (5, 6, 1, 1)),
    _layer("2d_one_by_one_stride", "Conv", (2, 3, 5, 4), (2, 3, 1, 1), strides=[2, 3]),
    _layer("2d_stride_left_over", "Conv", (2, 2, 7, 6), (3, 2, 3, 2), strides=[3, 2], pads=[0, 1, 1, 0]),
    _layer("2d_uneven_pads", "Conv", (1, 2, 5, 5), (2, 2, 3, 3), pads=[2, 0, 1, 2]),
    _layer("2d_pads_beyond_the_kernel", "Conv", (1, 6, 4, 3), (2, 6, 2, 2), pads=[3, 0, 0, 2]),
    _layer("2d_dilation", "Conv", (2, 2, 7, 6), (2, 2, 3, 2), dilations=[2, 3], pads=[1, 2, 1, 0]),
    _layer("2d_dilation_stride", "Conv", (1, 2, 9, 8), (2, 2, 3, 3), dilations=[2, 2], strides=[2, 3], pads=[2, 2, 2, 2]),
    _layer("2d_depthwise", "Conv", (2, 5, 5, 4), (5, 1, 3, 3), group=5, pads=[1, 1, 1, 1]),
    _layer("2d_depthwise_stride", "Conv", (2, 3, 6, 5), (3, 1, 3, 3), group=3, strides=[2, 2], pads=[0, 0, 1, 1]),
    _layer("2d_depthwise_multiplier", "Conv", (1, 3, 4, 5), (6, 1, 2, 3), group=3),
    _layer("2d_group", "Conv", (2, 6, 4, 5), (4, 3, 3, 3), group=2, pads=[1, 1, 1, 1]),
    _layer("2d_group_stride", "Conv", (1, 6, 5, 5), (9, 2, 3, 3), group=3, strides=[2, 2], pads=[1, 1, 1, 1]),
    _layer("2d_many_channels", "Conv", (2, 6, 4, 4), (3, 6, 3, 3), pads=[1, 1, 1, 1]),
    _layer("2d_same_upper", "Conv", (2, 2, 6, 5), (2, 2, 3, 4), auto_pad="SAME_UPPER", strides=[2, 2]),
    _layer("2d_same_lower", "Conv", (2, 2, 6, 5), (2, 2, 4, 2), auto_pad="SAME_LOWER", strides=[3, 1]),
    _layer("2d_same_dilation", "Conv", (1, 2, 6, 5), (2, 2, 3, 2), auto_pad="SAME_UPPER", dilations=[2, 3]),
    _layer("2d_valid", "Conv", (2, 2, 6, 5), (2, 2, 3, 4), auto_pad="VALID", strides=[2, 1]),
    _layer("3d", "Conv", (2, 2, 4, 3, 4), (2, 2, 2, 3, 2), strides=[1, 2, 2], pads=[1, 1, 0, 0, 1, 1]),
    _layer("3d_group_stride_one", "Conv", (1, 4, 3, 3, 3), (2, 2, 2, 2, 2), group=2, pads=[1, 0, 1, 0, 1, 1]),
]

TRANSPOSED = [
    _layer("1d", "ConvTranspose", (2, 3, 4), (3, 2, 3), strides=[2]),
    _layer("2d_no_bias", "ConvTranspose", (2, 2, 3, 4), (2, 3, 3, 2), bias=False),
    _layer("2d_stride_pads", "ConvTranspose", (2, 2, 3, 4), (2, 3, 3, 4), strides=[2, 3], pads=[1, 0, 1, 2]),
    _layer("2d_output_padding", "ConvTranspose", (1, 2, 3, 3), (2, 2, 3, 3), strides=[2, 3], output_padding=[1, 2], pads=[1, 1, 1, 1]),
    _layer("2d_dilation", "ConvTranspose", (1, 2, 3, 4), (2, 2, 3, 2), dilations=[2, 3], strides=[2, 1]),
    _layer("2d_group", "ConvTranspose", (2, 4, 3, 3), (4, 3, 2, 3), group=2, strides=[2, 1]),
    _layer("2d_depthwise", "ConvTranspose", (2, 3, 3, 4), (3, 1, 3, 3), group=3, strides=[2, 2], pads=[1, 1, 1, 1]),
    _layer("2d_output_shape", "ConvTranspose", (1, 2, 3, 4), (2, 2, 3, 3), strides=[2, 2], output_shape=[6, 8]),
    _layer(
        "2d_output_shape_upper", "ConvTranspose", (1, 2, 3, 4), (2, 2, 3, 3), strides=[2, 2], output_shape=[6, 8], auto_pad="SAME_UPPER"
    ),
    _layer("2d_same_upper", "ConvTranspose", (1, 2, 3, 4), (2, 2, 3, 4), strides=[2, 2], auto_pad="SAME_UPPER"),
    _layer("2d_same_lower", "ConvTranspose", (1, 2, 3, 4), (2, 2, 3, 4), strides=[2, 2], auto_pad="SAME_LOWER"),
    _layer("2d_valid", "ConvTranspose", (1, 2, 3, 4), (2, 2, 3, 4), strides=[2, 2], auto_pad="VALID"),
    _layer("3d", "ConvTranspose", (1, 2, 2, 3, 2), (2, 2, 2, 2, 3), strides=[2, 1, 2], pads=[0, 1, 1, 1, 0, 1]),
]

MATRIX = {"x": (3, 4)}
DENSE = [
    Case("bias", "Gemm", op("Gemm", "x w b"), MATRIX, {"w": (4, 5), "b": (5,)}),
    Case("no_bias", "Gemm", op("Gemm", "x w"), MATRIX, {"w": (4, 5)}),
    Case("trans_b", "Gemm", op("Gemm", "x w b", transB=1), MATRIX, {"w": (5, 4), "b": (1, 5)}),
    Case("alpha_beta", "Gemm", op("Gemm", "x w b", alpha=0.5, beta=-2.0), MATRIX, {"w": (4, 5), "b": (5,)}),
    Case("trans_a", "Gemm", op("Gemm", "x w b", transA=1, alpha=2.0, beta=0.5), {"x": (4, 3)}, {"w": (4, 2), "b": (3, 1)}, free=(1,)),
    Case("data_on_the_right", "onnx_lrp.Linear", op("Gemm", "w x b", transA=1, transB=1), {"x": (3, 4)}, {"w": (4, 2), "b": (2, 3)}),
    Case("matmul", "Gemm", [op("MatMul", "x w", "h"), op("Add", "b h")], MATRIX, {"w": (4, 2), "b": (2,)}),
    Case(
        "rank_3", "onnx_lrp.Linear", [op("MatMul", "x w", "h"), op("Add", "h b")], {"x": (2, 3, 4)}, {"w": (4, 5), "b": (5,)}, free=(0, 1)
    ),
    Case("left", "onnx_lrp.Linear", op("MatMul", "w x"), {"x": (2, 4, 3)}, {"w": (5, 4)}, free=(0, 2)),
    Case("left_of_matrix", "onnx_lrp.Linear", op("MatMul", "w x"), {"x": (4, 3)}, {"w": (5, 4)}, free=(1,)),
    Case("batch_of_weights", "onnx_lrp.Linear", op("MatMul", "x w"), {"x": (2, 3, 4)}, {"w": (2, 4, 5)}),
    Case("repeated_by_weights", "onnx_lrp.Linear", op("MatMul", "x w"), {"x": (3, 4)}, {"w": (2, 4, 5)}),
    Case("repeated_by_weights_left", "onnx_lrp.Linear", op("MatMul", "w x"), {"x": (1, 4, 3)}, {"w": (2, 5, 4)}, free=(2,)),
    Case("vector_weight", "onnx_lrp.Linear", op("MatMul", "x w"), {"x": (2, 3, 4)}, {"w": (4,)}),
    Case("vector_weight_left", "onnx_lrp.Linear", op("MatMul", "w x"), {"x": (2, 4, 3)}, {"w": (4,)}),
    Case("vector_input", "onnx_lrp.Linear", op("MatMul", "x w"), {"x": (4,)}, {"w": (4, 3)}, free=()),
    Case("vector_input_left", "onnx_lrp.Linear", op("MatMul", "w x"), {"x": (4,)}, {"w": (3, 4)}, free=()),
    Case("vector_input_batch", "onnx_lrp.Linear", op("MatMul", "x w"), {"x": (4,)}, {"w": (2, 4, 3)}, free=()),
]

SCALES = [
    Case("mul_channel", "onnx_lrp.Scale", op("Mul", "x c"), {"x": (2, 3, 4)}, {"c": (3, 1)}, free=(0, 2)),
    Case("mul_repeats", "onnx_lrp.Scale", op("Mul", "c x"), {"x": (2, 1, 4)}, {"c": (2, 1, 3, 1)}, free=(0, 2)),
    Case("add_repeats", "onnx_lrp.Scale", op("Add", "x c"), {"x": (2, 1)}, {"c": (4,)}),
    Case("sub", "onnx_lrp.Scale", op("Sub", "x c"), {"x": (2, 3)}, {"c": (3,)}),
    Case("sub_from", "onnx_lrp.Scale", op("Sub", "c x"), {"x": (2, 1)}, {"c": (2, 3)}),
    Case("div", "onnx_lrp.Scale", op("Div", "x c"), {"x": (2, 3)}, {"c": np.array([0.5, -2.0, 3.0])}),
    Case("div_into", "onnx_lrp.Scale", op("Div", "c x"), {"x": np.array([[0.5, -2.0, 3.0]])}, {"c": (2, 3)}),
    Case("neg", "onnx_lrp.Scale", op("Neg"), {"x": (2, 3)}),
    Case("two", "onnx_lrp.Scale", [op("Mul", "x a", "h"), op("Add", "h b")], {"x": (2, 1, 2)}, {"a": (3, 1), "b": (2,)}, free=(0, 2)),
    Case(
        "batch_norm",
        "onnx_lrp.Scale",
        op("BatchNormalization", "x s b m v", epsilon=1e-2),
        {"x": (2, 3, 4)},
        {"s": (3,), "b": (3,), "m": (3,), "v": np.array([0.5, 2.0, 1.0])},
        free=(0, 2),
    ),
]


def _pool(name: str, kind: str, x: tuple[int, ...], **attributes: Any) -> Case:
    free = (0,) if attributes.get("auto_pad", "").startswith("SAME") else tuple(axis for axis in range(len(x)) if axis != 1)
    function = partial(lp_pool, **attributes) if "LpPool" in kind else max_pool if kind == "GlobalMaxPool" else None
    return Case(name, kind, op(kind, "x", **attributes), {"x": x}, free=free, function=function)


BOTH, ALL_THREE = ("AveragePool", "MaxPool"), ("AveragePool", "MaxPool", "LpPool")
POOLS = [
    *(_pool("1d", kind, (2, 2, 7), kernel_shape=[3], strides=[2]) for kind in ALL_THREE),
    *(_pool("2d_tiled", kind, (2, 2, 4, 6), kernel_shape=[2, 3], strides=[2, 3]) for kind in ALL_THREE),
    *(_pool("2d_left_over", kind, (1, 2, 5, 7), kernel_shape=[2, 3], strides=[2, 3]) for kind in ALL_THREE),
    *(_pool("2d_stride_one", kind, (1, 2, 4, 5), kernel_shape=[3, 2], pads=[1, 1, 1, 0]) for kind in ALL_THREE),
    *(_pool("2d_overlap", kind, (2, 1, 6, 5), kernel_shape=[3, 3], strides=[2, 2], pads=[1, 0, 1, 2]) for kind in ALL_THREE),
    *(_pool("2d_same", kind, (1, 2, 5, 6), kernel_shape=[3, 2], strides=[2, 2], auto_pad="SAME_UPPER") for kind in BOTH),
    *(_pool("2d_valid", kind, (1, 2, 6, 6), kernel_shape=[3, 2], strides=[2, 3], auto_pad="VALID") for kind in BOTH),
    *(_pool("2d_ceil", kind, (1, 2, 6, 7), kernel_shape=[3, 2], strides=[2, 2], ceil_mode=1) for kind in BOTH),
    *(_pool("2d_ceil_pads", kind, (2, 1, 6, 5), kernel_shape=[3, 3], strides=[2, 3], pads=[1, 1, 0, 0], ceil_mode=1) for kind in BOTH),
    *(_pool("3d", kind, (1, 2, 4, 3, 4), kernel_shape=[2, 2, 3], strides=[2, 1, 1], pads=[0, 1, 1, 0, 0, 1]) for kind in BOTH),
    _pool("2d_same_lower", "AveragePool", (1, 2, 5, 6), kernel_shape=[2, 4], strides=[1, 2], auto_pad="SAME_LOWER"),
    _pool("2d_count_pad", "AveragePool", (1, 2, 5, 4), kernel_shape=[3, 2], strides=[2, 1], pads=[1, 1, 1, 0], count_include_pad=1),
    _pool(
        "2d_same_count_pad", "AveragePool", (1, 2, 5, 4), kernel_shape=[3, 2], strides=[2, 1], auto_pad="SAME_UPPER", count_include_pad=1
    ),
    Case(
        "2d_same_lower",
        "MaxPool",
        op("MaxPool", kernel_shape=[2, 4], strides=[1, 2], auto_pad="SAME_LOWER"),
        {"x": (1, 2, 5, 6)},
        function=partial(max_pool, kernel_shape=[2, 4], strides=[1, 2], pads=[1, 1, 0, 1]),
    ),
    _pool("2d_dilation", "MaxPool", (1, 2, 6, 7), kernel_shape=[2, 3], dilations=[3, 2], strides=[1, 2], pads=[1, 2, 1, 2]),
    _pool("2d_storage_order", "MaxPool", (1, 2, 5, 4), kernel_shape=[3, 2], strides=[2, 2], storage_order=1),
    _pool("2d_dilation", "LpPool", (1, 1, 6, 5), kernel_shape=[2, 2], dilations=[3, 2], strides=[2, 1]),
    _pool("2d_p1", "LpPool", (1, 2, 5, 4), kernel_shape=[2, 2], p=1),
    _pool("2d_p3", "LpPool", (1, 2, 5, 4), kernel_shape=[3, 2], strides=[2, 1], pads=[1, 0, 0, 1], p=3),
    Case(
        "2d_ceil",
        "LpPool",
        op("LpPool", kernel_shape=[3, 2], strides=[2, 2], ceil_mode=1),
        {"x": (1, 2, 6, 7)},
        function=partial(lp_pool, kernel_shape=[3, 2], strides=[2, 2], pads=[0, 0, 1, 1]),
        free=(0, 2, 3),
    ),
    Case(
        "2d_same",
        "LpPool",
        op("LpPool", kernel_shape=[3, 2], strides=[2, 2], auto_pad="SAME_UPPER"),
        {"x": (1, 2, 5, 6)},
        function=partial(lp_pool, kernel_shape=[3, 2], strides=[2, 2], pads=[1, 0, 1, 0]),
    ),
    *(_pool("2d", kind, (2, 3, 4, 2)) for kind in ("GlobalAveragePool", "GlobalMaxPool")),
    *(_pool("1d", kind, (2, 3, 4)) for kind in ("GlobalAveragePool", "GlobalMaxPool")),
    *(_pool("3d", kind, (1, 2, 2, 3, 2)) for kind in ("GlobalAveragePool", "GlobalMaxPool")),
    *(_pool(f"2d_p{p}", "GlobalLpPool", (2, 2, 3, 4), p=p) for p in (1, 2, 3)),
    _pool(
        "2d_count_pad_ceil",
        "AveragePool",
        (1, 1, 6, 5),
        kernel_shape=[3, 3],
        strides=[2, 2],
        pads=[1, 0, 0, 1],
        count_include_pad=1,
        ceil_mode=1,
    ),
]


def _reductions() -> list[Case]:
    cases = []
    for kind in ("ReduceSum", "ReduceMean", "ReduceMax", "ReduceMin"):
        x, free = {"x": (2, 3, 4)}, (0, 1, 2)
        for keep in (0, 1):
            cases += [
                Case(f"one_axis_{keep}", kind, op(kind, "x a", keepdims=keep), x, {"a": np.array([1])}, free=free),
                Case(f"negative_axes_{keep}", kind, op(kind, "x a", keepdims=keep), x, {"a": np.array([-1, 1])}, free=free),
                Case(f"outer_axes_{keep}", kind, op(kind, "x a", keepdims=keep), x, {"a": np.array([2, 0])}, free=free),
                Case(
                    f"all_axes_{keep}",
                    kind,
                    [op(kind, "x", "h", keepdims=keep), op("Reshape", "h one")],
                    x,
                    {"one": np.array([1])},
                    free=free,
                ),
            ]
        none = op(kind, "x a", noop_with_empty_axes=1)
        cases.append(Case("no_axes", kind, none, x, {"a": np.zeros(0, np.int64)}, free=free, function=lambda x, a: x + a.size))
        cases.append(Case("opset_13", kind, op(kind, "x", axes=[-2], keepdims=0), x, opset=11, free=free))
    return cases


_COORDINATES = ("half_pixel", "pytorch_half_pixel", "align_corners", "asymmetric", "half_pixel_symmetric")


def _resizes() -> list[Case]:
    x = {"x": (2, 2, 3, 4)}
    up, down, mixed = np.array([1, 1, 2, 3.0]), np.array([1, 1, 0.7, 0.5]), np.array([1, 1, 1.5, 0.75])
    cases = []
    for mode, coordinates in itertools.product(("nearest", "linear"), _COORDINATES):
        resize = {"mode": mode, "coordinate_transformation_mode": coordinates}
        cases.append(Case(f"{mode}_{coordinates}_scales", "Resize", op("Resize", "x - s", **resize), x, {"s": up}))
        cases.append(
            Case(f"{mode}_{coordinates}_sizes", "Resize", op("Resize", "x - - t", **resize), x, {"t": np.array([2, 2, 5, 3])}, free=None)
        )
    for nearest in ("round_prefer_floor", "round_prefer_ceil", "floor", "ceil"):
        shrink = op("Resize", "x - s", mode="nearest", nearest_mode=nearest, coordinate_transformation_mode="asymmetric")
        cases.append(Case(f"nearest_{nearest}", "Resize", shrink, x, {"s": mixed}))
    resize = op("Resize", "x - s", mode="linear")
    cases += [
        Case("linear_down", "Resize", resize, x, {"s": down}),
        Case("linear_1d", "Resize", resize, {"x": (2, 3, 4)}, {"s": np.array([1, 1, 2.5])}),
        Case("linear_3d", "Resize", resize, {"x": (1, 2, 2, 3, 2)}, {"s": np.array([1, 1, 2, 1.5, 2])}),
        Case(
            "linear_antialias",
            "Resize",
            op("Resize", "x - s", mode="linear", antialias=1),
            {"x": (1, 1, 6, 8)},
            {"s": np.array([1, 1, 0.5, 0.5])},
        ),
        Case("cubic_inside", "Resize", op("Resize", "x - s", mode="cubic", cubic_coeff_a=-0.5, exclude_outside=1), x, {"s": mixed}),
        Case("cubic", "Resize", op("Resize", "x - s", mode="cubic"), x, {"s": up}),
        Case("axes", "Resize", op("Resize", "x - s", axes=[3, 2], mode="linear"), x, {"s": np.array([2, 1.5])}),
        Case(
            "axes_negative",
            "Resize",
            op("Resize", "x - - t", axes=[-1], mode="nearest"),
            x,
            {"t": np.array([9])},
            function=lambda x, t: x[..., np.ceil((np.arange(t[0]) + 0.5) * 4 / t[0] - 1).astype(int)],
        ),
        Case(
            "upsample_9",
            "Resize",
            op("Upsample", "x s", mode="nearest"),
            x,
            {"s": up},
            opset=9,
            function=lambda x, s: x.repeat(s[2], 2).repeat(s[3], 3),
        ),
    ]
    for policy in ("not_larger", "not_smaller"):
        keep = op("Resize", "x - - t", axes=[2, 3], mode="linear", keep_aspect_ratio_policy=policy)
        cases.append(Case(f"linear_{policy}", "Resize", keep, x, {"t": np.array([7, 7])}))
    for mode in ("nearest", "linear"):
        crop = op("Resize", "x r - t", axes=[2, 3], mode=mode, coordinate_transformation_mode="tf_crop_and_resize", extrapolation_value=3.0)
        cases.append(Case(f"{mode}_crop", "Resize", crop, x, {"r": np.array([0.1, 0.3, 0.8, 1.2]), "t": np.array([4, 5])}))
    batch = [
        op("Shape", "x", "s"),
        op("Slice", "s zero two", "lead"),
        op("Concat", "lead tail", "t", axis=0),
        op("Resize", "x - - t", mode="linear"),
    ]
    constants = {"zero": np.array([0]), "two": np.array([2]), "tail": np.array([5, 6])}
    cases.append(Case("batch_of_any_size", "Resize", batch, x, constants))
    return cases


CASES = [*CONVOLUTIONS, *TRANSPOSED, *DENSE, *SCALES, *POOLS, *_reductions(), *_resizes()]
