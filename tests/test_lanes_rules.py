"""Lifting over lanes: each rule against one run of the narrow graph per lane, by onnx.reference."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnx
import pytest
from models import branch, build, op, run
from onnx import NodeProto
from onnx.reference import ReferenceEvaluator

from onnx_lrp.emitter import embed
from onnx_lrp.lanes.lifter import lift
from onnx_lrp.lanes.shapes import NotLiftable

LANES = 3
BIG = np.iinfo(np.int64).max


@dataclass(frozen=True)
class Case:
    """Nodes from the wide inputs w, v and the narrow ones a, b to the outputs."""

    nodes: Sequence[NodeProto]
    shapes: Mapping[str, Sequence[int]]
    constants: Mapping[str, Any] = field(default_factory=dict)
    outputs: str = "y"
    integers: Mapping[str, int] = field(default_factory=dict)
    """Inputs that hold whole numbers below this one."""
    exact_shapes: bool = False
    """Cannot be lifted without the lengths of all axes."""


def ints(*values: int) -> np.ndarray:
    return np.array(values, np.int64)


def numbers(*shape: int) -> np.ndarray:
    return np.random.default_rng(sum(shape)).normal(size=shape).astype(np.float32)


def one(kind: str, inputs: str, shapes: Mapping[str, Sequence[int]], constants: Mapping[str, Any] | None = None, **attributes: Any) -> Case:
    return Case([op(kind, inputs, **attributes)], shapes, constants or {})


IMAGE = {"w": (2, 4, 5, 6)}
NEAREST = {"mode": "nearest", "coordinate_transformation_mode": "asymmetric", "nearest_mode": "floor"}
AFTER_CONV = [op("Conv", "w K", "c")], {"K": numbers(4, 4, 1, 1)}  # makes the folded form the one that is there


def after_conv(kind: str, inputs: str, shapes: Mapping[str, Sequence[int]] | None = None, constants=None, **attributes: Any) -> Case:
    nodes, weights = AFTER_CONV
    return Case([*nodes, op(kind, inputs, **attributes)], {**IMAGE, **(shapes or {})}, {**weights, **(constants or {})})


CASES = {
    # elementwise
    "unary": one("Relu", "w", IMAGE),
    "unary-folded": after_conv("Sigmoid", "c"),
    "mul-narrow": one("Mul", "w a", {"w": (2, 3), "a": (2, 3)}),
    "mul-narrow-folded": after_conv("Mul", "c a", {"a": (2, 4, 5, 6)}),
    "div-narrow-first": after_conv("Div", "a c", {"a": (2, 4, 5, 6)}),
    "one-narrow-sample": after_conv("Mul", "c a", {"a": (1, 4, 1, 1)}),
    "constant-per-channel": after_conv("Mul", "c k", constants={"k": numbers(4, 1, 1)}),
    "constant-with-batch": after_conv("Add", "c k", constants={"k": numbers(2, 1, 1, 1)}),
    "wide-of-fewer-axes": one("Add", "w a", {"w": (3,), "a": (2, 3)}),
    "wide-vector-and-constant": one("Sub", "w k", {"w": (3,)}, {"k": numbers(2, 3)}),
    "narrow-of-fewer-axes": one("Sub", "a w", {"w": (2, 3, 4), "a": (4,)}),
    "two-wide": one("Add", "w v", {"w": (2, 3), "v": (2, 3)}),
    "two-wide-broadcast": one("Mul", "w v", {"w": (1, 3), "v": (2, 3)}),
    "two-wide-ranks": one("Mul", "w v", {"w": (3,), "v": (2, 3)}),
    "number": one("Mul", "w a", {"w": (), "a": (2, 3)}),
    "two-wide-folded-and-not": Case([*AFTER_CONV[0], op("Add", "c v", "y")], {**IMAGE, "v": (2, 4, 5, 6)}, AFTER_CONV[1]),
    "same-twice": after_conv("Mul", "c c"),
    "chain": Case(
        [*AFTER_CONV[0], op("Mul", "c a", "m"), op("Div", "m b", "d"), op("Conv", "d K", "e"), op("Add", "e m", "y")],
        {**IMAGE, "a": (2, 4, 5, 6), "b": (2, 4, 5, 6)},
        AFTER_CONV[1],
    ),
    "where-wide-condition": Case([op("Greater", "w a", "g"), op("Where", "g a b")], {"w": (2, 3), "a": (2, 3), "b": (3,)}),
    "where-narrow-condition": Case([op("Greater", "a b", "g"), op("Where", "g w z")], {"w": (2, 3), "a": (2, 3), "b": (3,)}, {"z": 0.0}),
    "clip": one("Clip", "w low high", IMAGE, {"low": np.float32(-0.5), "high": np.float32(0.5)}),
    "clip-from-above": one("Clip", "w - high", IMAGE, {"high": np.float32(0.5)}),
    "sum-of-three": one("Sum", "w a v", {"w": (2, 3), "a": (2, 1), "v": (3,)}),
    "prelu": one("PRelu", "w slope", IMAGE, {"slope": numbers(4, 1, 1)}),
    # reductions and axes
    **{
        f"reduce-{'-'.join(map(str, axes))}-{keep}{form}": (after_conv if form else one)(
            "ReduceSum", ("c" if form else "w") + " axes", *(() if form else (IMAGE,)), constants={"axes": ints(*axes)}, keepdims=keep
        )
        for axes in ((1,), (0,), (-1, 2), (0, 3), ())
        for keep in (0, 1)
        for form in ("", "-folded")
    },
    "reduce-nothing": one("ReduceSum", "w axes", IMAGE, {"axes": ints()}, noop_with_empty_axes=1),
    "reduce-all-by-default": one("ReduceMean", "w", IMAGE, keepdims=1),
    "reduce-vector": one("ReduceMax", "w axes", {"w": (4,)}, {"axes": ints(0)}, keepdims=0),
    "reduce-computed-axes": Case(
        [op("Shape", "w", "s"), op("Slice", "s zero one", "n"), op("Sub", "n two", "axes"), op("ReduceSum", "w axes")],
        {"w": (3, 4, 5)},
        {"zero": ints(0), "one": ints(1), "two": ints(2)},
    ),
    "reduce-computed-negative-axes": Case(
        [op("Shape", "w", "s"), op("Slice", "s zero one", "n"), op("Sub", "n five", "axes"), op("ReduceSum", "w axes")],
        {"w": (3, 4, 5)},
        {"zero": ints(0), "one": ints(1), "five": ints(5)},
    ),
    "argmax": one("ArgMax", "w", IMAGE, axis=1, keepdims=0),
    "argmax-first": one("ArgMax", "w", IMAGE, keepdims=1),
    "softmax": one("Softmax", "w", IMAGE),
    "softmax-first": one("Softmax", "w", IMAGE, axis=0),
    "logsoftmax-folded": after_conv("LogSoftmax", "c", axis=-3),
    "cumsum": one("CumSum", "w axis", IMAGE, {"axis": np.int64(-2)}, reverse=1),
    "cumsum-first": one("CumSum", "w axis", IMAGE, {"axis": np.int64(0)}),
    "topk": Case([op("TopK", "w k", "y i", axis=0)], {"w": (4, 3)}, {"k": ints(2)}, "y i"),
    "topk-last": Case([op("TopK", "w k", "y i")], {"w": (4, 3)}, {"k": ints(2)}, "y i"),
    # movements
    "concat-channels": one("Concat", "w a v", {"w": (2, 3, 2), "a": (2, 1, 2), "v": (2, 2, 2)}, axis=1),
    "concat-first": one("Concat", "a w", {"w": (2, 3), "a": (4, 3)}, axis=0),
    "concat-last-folded": after_conv("Concat", "c a", {"a": (2, 4, 5, 1)}, axis=-1),
    "split": Case([op("Split", "w sizes", "y z", axis=1)], IMAGE, {"sizes": ints(1, 3)}, "y z"),
    "split-first": Case([op("Split", "w sizes", "y z")], IMAGE, {"sizes": ints(1, 1)}, "y z"),
    "split-folded": Case([*AFTER_CONV[0], op("Split", "c sizes", "y z", axis=-3)], IMAGE, {**AFTER_CONV[1], "sizes": ints(2, 2)}, "y z"),
    "split-computed": Case(
        [*AFTER_CONV[0], op("Shape", "a", "sizes"), op("Split", "c sizes", "p q", axis=1), op("Conv", "p P", "r"),
         op("Concat", "r q", axis=1)],
        {**IMAGE, "a": (1, 3)},
        {**AFTER_CONV[1], "P": numbers(3, 1, 1, 1)},
    ),
    "slice": one(
        "Slice", "w starts ends axes steps", IMAGE,
        {"starts": ints(-1, 1), "ends": ints(-BIG, 3), "axes": ints(-1, 1), "steps": ints(-1, 1)},
    ),
    "slice-first": one("Slice", "w starts ends", IMAGE, {"starts": ints(1, 0), "ends": ints(2, 2)}),
    "slice-folded": after_conv("Slice", "c starts ends axes", constants={"starts": ints(1), "ends": ints(3), "axes": ints(2)}),
    "slice-first-folded": after_conv("Slice", "c starts ends axes", constants={"starts": ints(1), "ends": ints(2), "axes": ints(0)}),
    "gather": one("Gather", "w index", IMAGE, {"index": ints(2, 0, 0)}, axis=1),
    "gather-number": one("Gather", "w index", IMAGE, {"index": np.int64(1)}, axis=-2),
    "gather-first": one("Gather", "w index", IMAGE, {"index": ints(1, 0, 1)}),
    "gather-from-a-table": Case([op("Gather", "table w")], {"w": (2, 3)}, {"table": numbers(5, 4)}, integers={"w": 5}),
    "gather-elements": Case([op("GatherElements", "a w", axis=1)], {"w": (2, 2), "a": (2, 5)}, integers={"w": 5}),
    "gather-elements-wide": Case([op("GatherElements", "w index", axis=0)], {"w": (3, 2)}, {"index": np.array([[2, 0]])}),
    "scatter-add": one(
        "ScatterElements", "zeros index w", {"w": (4,)}, {"zeros": np.zeros(5, np.float32), "index": ints(1, 1, 4, 0)}, reduction="add"
    ),
    "scatter-rows": one("ScatterElements", "w index a", {"w": (2, 5), "a": (2, 1)}, {"index": np.array([[3], [0]])}, axis=-1),
    "pad": one("Pad", "w pads", IMAGE, {"pads": ints(0, 0, 1, 2, 0, 0, 3, 0)}),
    "pad-first": one("Pad", "w pads value", IMAGE, {"pads": ints(1, 0, 0, 0, 0, 0, 0, 2), "value": np.float32(2)}),
    "pad-axes": one("Pad", "w pads - axes", IMAGE, {"pads": ints(1, 2, 0, 1), "axes": ints(-1, 0)}),
    "pad-folded": after_conv("Pad", "c pads", constants={"pads": ints(0, 0, 1, 1, 0, 0, 1, 1)}, mode="reflect"),
    "pad-computed": Case(
        [op("Shape", "a", "pads"), op("Pad", "w pads")], {"w": (2, 3), "a": (1, 2, 1, 1)}
    ),
    "tile": one("Tile", "w repeats", {"w": (2, 3)}, {"repeats": ints(2, 3)}),
    "transpose": one("Transpose", "w", IMAGE, perm=[0, 2, 3, 1]),
    "transpose-first": one("Transpose", "w", IMAGE, perm=[1, 0, 3, 2]),
    "transpose-folded": after_conv("Transpose", "c", perm=[0, 3, 1, 2]),
    "transpose-reversed": after_conv("Transpose", "c"),
    "transpose-vector": one("Transpose", "w", {"w": (4,)}),
    # shapes
    "reshape": one("Reshape", "w shape", IMAGE, {"shape": ints(0, -1)}),
    "reshape-across-first": one("Reshape", "w shape", IMAGE, {"shape": ints(4, 2, -1)}),
    "reshape-one-first": one("Reshape", "w shape", IMAGE, {"shape": ints(1, -1, 1)}),
    "reshape-folded": after_conv("Reshape", "c shape", constants={"shape": ints(-1, 0, 30)}),
    "reshape-like": Case([op("Shape", "a", "s"), op("Reshape", "w s")], {"w": (2, 12), "a": (2, 3, 4)}),
    "reshape-computed": Case(
        [op("Shape", "a", "t"), op("Abs", "t", "s"), op("Reshape", "w s", "r"), op("Mul", "r a")], {"w": (2, 12), "a": (2, 3, 4)}
    ),
    "reshape-to-a-number": one("Reshape", "w shape", {"w": (1,)}, {"shape": ints()}),
    "flatten": one("Flatten", "w", IMAGE),
    "flatten-far": Case([op("Flatten", "w", axis=2)], IMAGE, exact_shapes=True),
    "squeeze": one("Squeeze", "w axes", {"w": (2, 1, 3)}, {"axes": ints(1)}),
    "squeeze-first": one("Squeeze", "w axes", {"w": (1, 3, 1)}, {"axes": ints(-1, 0)}),
    "squeeze-all": Case([op("Squeeze", "w")], {"w": (1, 3, 1)}, exact_shapes=True),
    "unsqueeze": one("Unsqueeze", "w axes", {"w": (2, 3)}, {"axes": ints(1, -1)}),
    "unsqueeze-first": one("Unsqueeze", "w axes", {"w": (2, 3)}, {"axes": ints(0)}),
    "shape": Case([op("Shape", "w", "s"), op("Expand", "a s")], {"w": (2, 3), "a": (3,)}),
    "shape-from-to": Case([op("Shape", "w", "s", start=-2, end=3), op("Reshape", "a s")], {**IMAGE, "a": (5,)}),
    "shape-from-the-first": Case([op("Shape", "w", "s", start=0, end=-2), op("Reshape", "a s")], {**IMAGE, "a": (8,)}),
    "shape-folded": Case([*AFTER_CONV[0], op("Shape", "c", "s"), op("Expand", "a s")], {**IMAGE, "a": (6,)}, AFTER_CONV[1]),
    "expand": one("Expand", "w shape", {"w": (2, 1, 3)}, {"shape": ints(2, 4, 3)}),
    "expand-first": one("Expand", "w shape", {"w": (1, 3)}, {"shape": ints(5, 3)}),
    "expand-to-more-axes": one("Expand", "w shape", {"w": (2, 1)}, {"shape": ints(4, 1, 3)}),
    "expand-computed": Case(
        [op("Shape", "a", "t"), op("Abs", "t", "s"), op("Expand", "w s", "r"), op("ReduceSum", "r last")],
        {"w": (3, 1), "a": (2, 3, 4)},
        {"last": ints(-1)},
    ),
    "expand-like": Case([op("Shape", "a", "s"), op("Expand", "w s")], {"w": (2, 3, 1, 1), "a": (2, 3, 4, 5)}),
    # layers
    "conv": one("Conv", "w K b", IMAGE, {"K": numbers(6, 2, 3, 2), "b": numbers(6)}, group=2, strides=[2, 1], pads=[1, 0, 0, 1]),
    "conv-1d": one("Conv", "w K", {"w": (3, 2, 9)}, {"K": numbers(4, 2, 3)}, dilations=[2]),
    "conv-transpose": one("ConvTranspose", "w K", IMAGE, {"K": numbers(4, 3, 3, 3)}, strides=[2, 2]),
    "average-pool": one("AveragePool", "w", IMAGE, kernel_shape=[2, 3]),
    "global-pool": one("GlobalAveragePool", "w", IMAGE),
    "max-pool": one("MaxPool", "w", IMAGE, kernel_shape=[2, 2]),
    "depth-to-space": one("DepthToSpace", "w", IMAGE, blocksize=2),
    "resize": one("Resize", "w - scales", IMAGE, {"scales": np.array([1, 1, 2, 2], np.float32)}, **NEAREST),
    "resize-axes": one("Resize", "w - - sizes", IMAGE, {"sizes": ints(10, 12)}, axes=[2, 3], **NEAREST),
    "gemm": one("Gemm", "w W b", {"w": (2, 3)}, {"W": numbers(4, 3), "b": numbers(4)}, transB=1),
    "gemm-row-bias": one("Gemm", "w W b", {"w": (2, 3)}, {"W": numbers(3, 4), "b": numbers(1, 4)}),
    "gemm-after-flatten": Case([op("Flatten", "w", "f"), op("Gemm", "f W")], IMAGE, {"W": numbers(120, 4)}),
    # matrix products
    "matmul": one("MatMul", "w W", {"w": (2, 3)}, {"W": numbers(3, 4)}),
    "matmul-left": one("MatMul", "W w", {"w": (2, 3)}, {"W": numbers(4, 2)}),
    "matmul-left-batch": one("MatMul", "W w", {"w": (5, 2, 3)}, {"W": numbers(4, 2)}),
    "matmul-tokens": one("MatMul", "w W", {"w": (2, 5, 3)}, {"W": numbers(3, 4)}),
    "matmul-vector": one("MatMul", "w W", {"w": (3,)}, {"W": numbers(3, 4)}),
    "matmul-by-vector": one("MatMul", "w k", {"w": (2, 5, 3)}, {"k": numbers(3)}),
    "matmul-vector-left": one("MatMul", "k w", {"w": (2, 3, 5)}, {"k": numbers(3)}),
    "matmul-dot": one("MatMul", "w k", {"w": (3,)}, {"k": numbers(3)}),
    "matmul-narrow": one("MatMul", "w a", {"w": (2, 4, 5, 3), "a": (2, 4, 3, 5)}),
    "matmul-narrow-left": one("MatMul", "a w", {"w": (2, 4, 3, 5), "a": (2, 4, 5, 3)}),
    "matmul-narrow-of-more-axes": one("MatMul", "w a", {"w": (5, 3), "a": (2, 3, 4)}),
    "matmul-narrow-of-fewer-axes": one("MatMul", "w a", {"w": (2, 4, 5, 3), "a": (4, 3, 2)}),
    "einsum": one("Einsum", "w a", {"w": (2, 5, 3), "a": (2, 4, 3)}, equation="bij, bkj -> bik"),
    "einsum-two-wide": one("Einsum", "w v a", {"w": (2, 5), "v": (5,), "a": (5, 4)}, equation="ab,b,bc->c"),
    "matmul-two-wide": one("MatMul", "w v", {"w": (2, 5, 3), "v": (3, 4)}),
}  # fmt: skip


def prepare(case: Case, known: bool) -> tuple[onnx.ModelProto, dict[str, np.ndarray], list[str]]:
    """The narrow model without initialisers, its constants, and its wide inputs."""
    shapes = {name: shape if known else [None] * len(shape) for name, shape in case.shapes.items()}
    types = dict.fromkeys(case.integers, np.int64)
    infos = [onnx.ValueInfoProto(name=name) for name in case.outputs.split()]
    model = build(case.nodes, shapes, infos, types=types)
    constants = {
        name: np.asarray(value, np.float32 if np.asarray(value).dtype.kind == "f" else np.int64) for name, value in case.constants.items()
    }
    return model, constants, [name for name in case.shapes if name in ("w", "v")]


def feeds_of(case: Case) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(0)
    feeds = {}
    for name, shape in case.shapes.items():
        full = (LANES, *shape) if name in ("w", "v") else shape
        feeds[name] = rng.integers(case.integers[name], size=full) if name in case.integers else rng.normal(size=full).astype(np.float32)
    return feeds


@pytest.mark.parametrize("known", [True, False], ids=["lengths-known", "lengths-unknown"])
@pytest.mark.parametrize("name", CASES)
def test_lifted_graph_equals_a_loop_over_lanes(name: str, known: bool) -> None:
    case = CASES[name]
    if case.exact_shapes and not known:
        pytest.skip("needs the lengths")
    model, constants, wide = prepare(case, known)
    feeds = feeds_of(case)
    lifted, kept, outputs = lift(model, constants, wide, {})
    results = run(embed(lifted, kept), feeds, [outputs[name][0] for name in case.outputs.split()])
    evaluator = ReferenceEvaluator(embed(model, constants))
    for index, (output, result) in enumerate(zip(case.outputs.split(), results, strict=True)):
        per_lane = [evaluator.run(None, {k: v[lane] if k in wide else v for k, v in feeds.items()})[index] for lane in range(LANES)]
        expected = np.stack(per_lane) if outputs[output][1] else per_lane[0]
        assert result.shape == expected.shape
        np.testing.assert_allclose(result, expected, rtol=1e-5, atol=1e-5)


NOT_LIFTABLE = {
    "no-rule": one("Hardmax", "w", IMAGE),
    "wide-weights": one("Conv", "a w", {"w": (2, 4, 1, 1), "a": (2, 4, 5, 6)}),
    "rows-that-are-no-samples": one("Gemm", "w W", {"w": (3, 2)}, {"W": numbers(3, 4)}, transA=1),
    "bias-per-row": one("Gemm", "w W b", {"w": (2, 3)}, {"W": numbers(3, 4), "b": numbers(2, 4)}),
    "resized-batch": one("Resize", "w - scales", IMAGE, {"scales": np.array([2, 1, 1, 1], np.float32)}),
    "indices-of-a-pool": Case([op("MaxPool", "w", "y i", kernel_shape=[2, 2])], IMAGE, outputs="y i"),
    "table-along-another-axis": Case([op("Gather", "table w", axis=1)], {"w": (2, 3)}, {"table": numbers(5, 4)}, integers={"w": 4}),
    "einsum-with-an-ellipsis": one("Einsum", "w", IMAGE, equation="...i->..."),
    "sum-of-a-number": one("ReduceSum", "w", {"w": ()}),
    "foreign-domain": Case([op("Mul", "w w", domain="com.example")], IMAGE),
    "captured": Case(
        [op("If", "c", then_branch=branch([op("Relu", "w", "t")], "t"), else_branch=branch([op("Neg", "w", "t")], "t"))],
        IMAGE,
        {"c": np.array(True)},
    ),
}


@pytest.mark.parametrize("name", NOT_LIFTABLE)
def test_what_cannot_be_lifted_is_refused(name: str) -> None:
    model, constants, wide = prepare(NOT_LIFTABLE[name], True)
    with pytest.raises(NotLiftable):
        lift(model, constants, wide, {})


def test_narrow_part_is_kept_as_it_is() -> None:
    model, constants, _ = prepare(Case([op("Relu", "a", "r"), op("Mul", "r w")], {"w": (2, 3), "a": (2, 3)}), True)
    lifted, _, outputs = lift(model, constants, ["w"], {})
    assert [node.op_type for node in lifted.graph.node] == ["Relu", "Mul"]
    assert outputs == {"y": ("y/unfolded", True)}
