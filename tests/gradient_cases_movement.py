"""Gradient cases of operators that move, repeat, select, add and multiply elements."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np
from gradients import Case
from models import op
from oracles import mean, pad

BIG = np.iinfo(np.int64).max
ALL = (0, 1, 2, 3)


def ints(*values: int) -> np.ndarray:
    return np.array(values, np.int64)


def _of(
    kind: str,
    name: str,
    x: tuple[int, ...],
    parameters: dict[str, Any] | None = None,
    *,
    free: Any = ALL,
    opset: int = 18,
    **attributes: Any,
) -> Case:
    parameters = parameters or {}
    return Case(name, kind, op(kind, " ".join(["x", *parameters]), **attributes), {"x": x}, parameters, free=free, opset=opset)


SHAPES = [
    _of("Reshape", "merge", (2, 3, 4), {"s": ints(2, 12)}),
    _of("Reshape", "zero_and_rest", (2, 3, 4), {"s": ints(0, -1, 2)}),
    _of("Reshape", "all", (2, 3, 4), {"s": ints(-1)}),
    _of("Flatten", "one", (2, 3, 2, 2)),
    _of("Flatten", "two", (2, 3, 2, 2), axis=2),
    _of("Flatten", "negative", (2, 3, 2), axis=-1),
    _of("Flatten", "zero", (2, 3), axis=0),
    _of("Squeeze", "all", (1, 3, 1), free=(1,)),
    _of("Squeeze", "axes", (2, 1, 3, 1), {"a": ints(-1, 1)}, free=(0, 2)),
    _of("Squeeze", "attribute", (2, 1, 3), opset=11, free=(0, 2), axes=[1]),
    Case(
        "axes",
        "Unsqueeze",
        op("Unsqueeze", "x a"),
        {"x": (2, 3)},
        {"a": ints(3, -5, -3)},
        free=ALL,
        function=lambda x, a: np.expand_dims(x, tuple(a)),
    ),
    _of("Unsqueeze", "attribute", (2, 3), opset=11, axes=[0]),
    _of("Transpose", "default", (2, 3, 4)),
    _of("Transpose", "cycle", (2, 3, 4), perm=[1, 2, 0]),
    _of("Transpose", "images", (2, 3, 4, 2), perm=[0, 2, 3, 1]),
    _of("Expand", "one", (2, 1, 3), {"s": ints(2, 4, 3)}, free=(0, 2)),
    _of("Expand", "new_axes", (2, 1), {"s": ints(3, 1, 2, 4)}, free=()),
    _of("Expand", "smaller_shape", (2, 3, 4), {"s": ints(3, 1)}),
    _of("Tile", "all", (2, 3), {"r": ints(2, 3)}),
    _of("Tile", "some", (2, 1, 3), {"r": ints(1, 4, 2)}),
    _of("DepthToSpace", "dcr", (2, 8, 2, 3), blocksize=2, mode="DCR", free=(0, 2, 3)),
    _of("DepthToSpace", "crd", (2, 12, 2, 1), blocksize=2, mode="CRD", free=(0, 2, 3)),
    _of("DepthToSpace", "crd_3", (1, 18, 1, 2), blocksize=3, mode="CRD", free=(0, 2, 3)),
    _of("SpaceToDepth", "2", (2, 3, 4, 2), blocksize=2, free=(0, 2, 3)),
    _of("SpaceToDepth", "3", (1, 2, 3, 6), blocksize=3, free=(0, 2, 3)),
]

# Canonical graphs keep these only where an output is read that the rewrites cannot do without.
UNREWRITTEN = [
    Case("alone", "Identity", op("Identity"), {"x": (2, 3)}, canonical=False),
    Case("ratio", "Dropout", op("Dropout", "x r"), {"x": (2, 3)}, {"r": np.float32(0.5)}, canonical=False),
    Case("to_float", "Cast", op("Cast", to=1), {"x": (2, 3)}, canonical=False),
    Case("like_a_constant", "CastLike", op("CastLike", "x c"), {"x": (2, 3)}, {"c": (1,)}, canonical=False),
]


def _slice(name: str, x: tuple[int, ...], starts: Any, ends: Any, axes: Any = None, steps: Any = None, *, free: Any = ALL) -> Case:
    given = {"s": ints(*starts), "e": ints(*ends)}
    given |= {} if axes is None else {"a": ints(*axes)}
    given |= {} if steps is None else {"t": ints(*steps)}
    return _of("Slice", name, x, given, free=free)


SELECTIONS = [
    _slice("start", (4, 3), [1], [BIG], [0]),
    _slice("default_axes", (4, 5), [1, 2], [3, 4]),
    _slice("negative_start", (2, 6), [-4], [-1], [1]),
    _slice("negative_axes", (2, 3, 5), [1, 0], [4, 2], [-1, -2]),
    _slice("beyond_the_end", (2, 4), [-100], [100], [1]),
    _slice("steps", (5, 7), [0, 1], [5, 7], [0, 1], [2, 3]),
    _slice("backwards", (2, 6), [-1], [-BIG], [1], [-1]),
    _slice("backwards_two", (5, 6), [4, -2], [0, -6], [0, 1], [-2, -3]),
    _slice("mixed", (4, 5), [3, 1], [0, 4], [0, 1], [-1, 1]),
    _slice("nothing_cut", (3, 2), [0], [3], [0]),
    Case(
        "attributes",
        "Slice",
        op("Slice", starts=[1], ends=[-1], axes=[1]),
        {"x": (2, 5)},
        opset=9,
        free=(0, 1),
        function=lambda x: x[:, 1:-1],
    ),
    Case(
        "computed",
        "Slice",
        [op("Shape", "x", "s", start=1), op("Div", "s two", "h"), op("Slice", "x zero h one")],
        {"x": (2, 6)},
        {"zero": ints(0), "one": ints(1), "two": ints(2)},
        free=ALL,
    ),
    _of("Gather", "axis_0", (4, 3), {"i": np.array([[0, 3], [1, 1]])}),
    _of("Gather", "repeated", (2, 5), {"i": ints(4, 0, 4, 4, -1)}, axis=1),
    _of("Gather", "negative_axis", (2, 3, 4), {"i": ints(-2, 1)}, axis=-2),
    _of("Gather", "scalar", (2, 3, 4), {"i": np.array(1)}, axis=1),
    Case("input_indices", "Gather", op("Gather", "x i", axis=0), {"x": (3, 4), "i": ints(2, 0, 2)}),
    _of("GatherElements", "axis_1", (2, 4), {"i": np.array([[0, 0, 3], [1, -1, 1]])}, axis=1),
    _of("GatherElements", "axis_0", (3, 2), {"i": np.array([[2, 0], [2, 2], [0, 1], [1, 1]])}, axis=0),
    Case(
        "negative_axis",
        "GatherElements",
        op("GatherElements", "x i", axis=-1),
        {"x": (2, 2, 3)},
        {"i": np.arange(20).reshape(2, 2, 5) % 3},
        free=ALL,
        function=lambda x, i: np.take_along_axis(x, i, -1),
    ),
    _of("GatherND", "elements", (2, 3), {"i": np.array([[0, 1], [1, 2], [0, 1], [-1, 0]])}),
    _of("GatherND", "slices", (3, 2, 2), {"i": np.array([[[2]], [[0]], [[2]]])}),
    _of("GatherND", "batch_dims", (2, 3, 2), {"i": np.array([[[1]], [[2]]])}, batch_dims=1),
]

SPLITS = [
    Case("equal", "Split", [op("Split", "x", "a b c", axis=1, num_outputs=3), op("Concat", "c a b", axis=0)], {"x": (2, 6)}, free=ALL),
    Case(
        "unequal", "Split", [op("Split", "x s", "a b", axis=-1), op("Concat", "b a b", axis=1)], {"x": (2, 5)}, {"s": ints(3, 2)}, free=ALL
    ),
    Case("unused_part", "Split", [op("Split", "x s", "a b c", axis=1), op("Mul", "a c")], {"x": (2, 5, 2)}, {"s": ints(2, 1, 2)}, free=ALL),
    Case("unused_first", "Split", [op("Split", "x s", "a y", axis=0)], {"x": (4, 3)}, {"s": ints(3, 1)}, free=ALL),
    Case("left_out", "Split", [op("Split", "x s", "- y -", axis=0)], {"x": (4, 3)}, {"s": ints(1, 2, 1)}, free=ALL),
    Case(
        "last_smaller",
        "Split",
        [op("Split", "x", "a b", axis=0, num_outputs=2), op("Concat", "b a", axis=0)],
        {"x": (5, 2)},
        free=(1,),
        function=lambda x: np.concatenate([x[3:], x[:3]]),
    ),
    Case(
        "attribute",
        "Split",
        [op("Split", "x", "a b", axis=1, split=[1, 3]), op("Concat", "b a", axis=1)],
        {"x": (2, 4)},
        opset=11,
        free=ALL,
        function=lambda x: np.concatenate([x[:, 1:], x[:, :1]], 1),
    ),
    Case("two", "Concat", op("Concat", "x z", axis=1), {"x": (2, 3), "z": (2, 1)}, free=ALL),
    Case("negative_axis", "Concat", op("Concat", "x z x", axis=-2), {"x": (2, 3, 2), "z": (2, 1, 2)}, free=ALL),
    Case("constants", "Concat", op("Concat", "c x d", axis=0), {"x": (2, 3)}, {"c": (1, 3), "d": (3, 3)}, free=ALL),
    Case("first_axis", "Concat", op("Concat", "x z", axis=0), {"x": (2, 3), "z": (3, 3)}, free=ALL),
]


def _pads() -> list[Case]:
    cases = []
    for mode in ("constant", "reflect", "edge"):
        cases += [
            _of("Pad", f"{mode}_2d", (2, 3, 4), {"p": ints(0, 1, 2, 0, 2, 3)}, mode=mode),
            _of("Pad", f"{mode}_one_sided", (3, 4), {"p": ints(0, 3, 2, 0)}, mode=mode),
            _of("Pad", f"{mode}_axes", (2, 3, 4), {"p": ints(1, 2, 0, 1), "-": 0.0, "a": ints(-1, 1)}, mode=mode),
        ]
    cases += [
        _of("Pad", "value", (2, 3), {"p": ints(1, 0, 0, 2), "v": np.float32(1.5)}),
        Case("negative", "Pad", op("Pad", "x p"), {"x": (3, 5)}, {"p": ints(-1, 2, 1, -3)}, free=ALL, function=pad),
        Case("negative_all", "Pad", op("Pad", "x p"), {"x": (4, 5)}, {"p": ints(-1, -2, -2, 0)}, free=ALL, function=pad),
        _of("Pad", "nothing", (2, 3), {"p": ints(0, 0, 0, 0)}),
        Case(
            "attributes",
            "Pad",
            op("Pad", pads=[0, 1, 0, 2], value=0.5),
            {"x": (2, 3)},
            opset=9,
            free=ALL,
            function=lambda x: np.pad(x, [(0, 0), (1, 2)], constant_values=0.5),
        ),
        Case(
            "edge_negative",
            "Pad",
            op("Pad", "x p", mode="edge"),
            {"x": (3, 5)},
            {"p": ints(-1, 2, 2, -1)},
            free=ALL,
            function=partial(pad, mode="edge"),
        ),
        Case(
            "reflect_negative",
            "Pad",
            op("Pad", "x p", mode="reflect"),
            {"x": (4, 5)},
            {"p": ints(-1, 2, 2, -1)},
            free=ALL,
            function=partial(pad, mode="reflect"),
        ),
        Case(
            "wrap",
            "Pad",
            op("Pad", "x p", mode="wrap"),
            {"x": (2, 4)},
            {"p": ints(0, 3, 0, 2)},
            opset=19,
            free=ALL,
            function=partial(pad, mode="wrap"),
        ),
    ]
    for case in cases:
        case.constants.pop("-", None)
    return cases


def _broadcasting() -> list[Case]:
    """Both operands are repeated: along lost axes, along axes of length one, and both at once."""
    shapes = [((2, 3), (2, 3)), ((2, 3, 4), (3, 1)), ((4,), (2, 3, 1)), ((2, 1, 3), (2, 4, 1)), ((1, 3), (2, 1)), ((2, 3), ())]
    shapes.append(((1,), (1, 2, 1)))
    cases = []
    for kind in ("Add", "Sub", "Mul", "Div", "Max", "Min", "Sum", "Mean"):
        function = (lambda **tensors: mean(*tensors.values())) if kind == "Mean" else None
        for number, (a, b) in enumerate(shapes):
            inputs: dict[str, Any] = {"x": a, "z": b}
            if kind == "Div":
                inputs["z"] = np.random.default_rng(number).uniform(0.5, 2.0, b)
            cases.append(Case(f"broadcast_{number}", kind, op(kind, "x z"), inputs, free=ALL, function=function))
    for kind in ("Sum", "Mean", "Max", "Min"):
        function = (lambda **tensors: mean(*tensors.values())) if kind == "Mean" else None
        cases.append(Case("three", kind, op(kind, "x z v"), {"x": (2, 1), "z": (3,), "v": (4, 1, 3)}, free=ALL, function=function))
        cases.append(
            Case("constant_between", kind, op(kind, "x c z"), {"x": (2, 3), "z": (3,)}, {"c": (2, 1)}, free=ALL, function=function)
        )
    twice = {kind: [op("Tanh", "x", "h"), op(kind, "h h")] for kind in ("Add", "Mul", "Sub", "Max")}
    cases += [Case("itself", kind, nodes, {"x": (2, 3)}, free=ALL) for kind, nodes in twice.items()]
    condition = np.array([[True], [False]])
    for number, (a, b) in enumerate([((2, 3), (2, 3)), ((3,), (2, 1)), ((1, 3), (4, 2, 1)), ((), (2, 3))]):
        where = op("Where", "c x z")
        cases.append(Case(f"broadcast_{number}", "Where", where, {"x": a, "z": b}, {"c": condition}, free=ALL))
    cases += [
        Case("input_condition", "Where", op("Where", "c x z"), {"c": np.array([[True, False, True]] * 2), "x": (2, 3), "z": (2, 1)}),
        Case("computed_condition", "Where", [op("Greater", "x z", "c"), op("Where", "c x z")], {"x": (2, 3), "z": (2, 1)}),
        Case("constant_branch", "Where", op("Where", "c k x"), {"x": (3,)}, {"c": condition, "k": np.float32(-1)}, free=ALL),
    ]
    return cases


def _matmul(name: str, a: tuple[int, ...], b: tuple[int, ...]) -> Case:
    return Case(name, "MatMul", op("MatMul", "x z"), {"x": a, "z": b}, free=ALL)


PRODUCTS = [
    _matmul("matrices", (2, 3), (3, 4)),
    _matmul("batches", (2, 3, 4), (2, 4, 2)),
    _matmul("two_batch_axes", (2, 3, 2, 4), (2, 3, 4, 1)),
    _matmul("lower_rank", (2, 3, 4), (4, 2)),
    _matmul("lower_rank_left", (3, 4), (2, 4, 2)),
    _matmul("both_repeated", (2, 1, 3, 2), (3, 2, 2)),
    _matmul("both_repeated_both_ways", (2, 1, 2, 3), (1, 3, 3, 2)),
    Case("attention", "MatMul", [op("Transpose", "x", "t", perm=[0, 2, 1]), op("MatMul", "x t")], {"x": (2, 3, 4)}, free=ALL),
]

CASES = [*SHAPES, *UNREWRITTEN, *SELECTIONS, *SPLITS, *_pads(), *_broadcasting(), *PRODUCTS]
