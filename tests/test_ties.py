"""Where relevance goes at a maximum, with and without equal elements, against plain loops."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import Any

import numpy as np
import onnx
import pytest
from helpers import Array, check_close, make_model, node, normal, pool_windows

from onnx_lrp import Explainer
from onnx_lrp.rules import FlatPool, Move

Index = tuple[int, ...]


def share(x: Array, R: Array, groups: Iterator[tuple[Index, list[Index]]], *, ties: str, lowest: bool = False) -> tuple[Array, Array]:
    """The extreme of each group of elements, and the relevance that they get; the elements of a group come in row-major order."""
    y, relevance = np.full(R.shape, np.nan), np.zeros(x.shape)
    for position, elements in groups:
        values = [x[element] for element in elements]
        y[position] = min(values) if lowest else max(values)
        largest = [element for element, value in zip(elements, values, strict=True) if value == y[position]]
        winners = {"first": largest[:1], "split": largest, "flat": elements}[ties]
        for winner in winners:
            relevance[winner] += R[position] / len(winners)
    return y, relevance


def pooled(shape: Index, attributes: dict[str, Any]) -> tuple[Index, Iterator[tuple[Index, list[Index]]]]:
    """The output's shape of a pool, and its windows without their padding."""
    axes = pool_windows(shape[1:], attributes)
    out_shape = (*shape[:2], *(len(axis) for axis in axes))

    def groups() -> Iterator[tuple[Index, list[Index]]]:
        for position in itertools.product(*map(range, out_shape)):
            ranges = [[i for i in axis[at] if 0 <= i < size] for axis, at, size in zip(axes, position[2:], shape[2:], strict=True)]
            yield position, [(*position[:2], *place) for place in itertools.product(*ranges)]

    return out_shape, groups()


def reduced(shape: Index, axes: list[int], *, keep: bool) -> tuple[Index, Iterator[tuple[Index, list[Index]]]]:
    """The output's shape of a reduction, and the elements that each output comes from."""
    gone = [axis % len(shape) for axis in axes]
    kept = [1 if axis in gone else length for axis, length in enumerate(shape)]

    def groups() -> Iterator[tuple[Index, list[Index]]]:
        for position in itertools.product(*map(range, kept)):
            ranges = [range(shape[axis]) if axis in gone else [at] for axis, at in enumerate(position)]
            yield position if keep else tuple(at for axis, at in enumerate(position) if axis not in gone), [*itertools.product(*ranges)]

    return tuple(kept) if keep else tuple(length for axis, length in enumerate(shape) if axis not in gone), groups()


POOLS: dict[str, tuple[Index, dict[str, Any]]] = {
    "1d overlapping": ((2, 11), {"kernel_shape": [4], "strides": [2]}),
    "1d padded": ((2, 9), {"kernel_shape": [3], "strides": [2], "pads": [2, 1]}),
    "1d dilated": ((2, 11), {"kernel_shape": [3], "strides": [2], "dilations": [3]}),
    "2d tiles": ((2, 6, 4), {"kernel_shape": [2, 2], "strides": [2, 2]}),
    "2d tiles, rest": ((2, 7, 5), {"kernel_shape": [2, 2], "strides": [2, 2]}),
    "2d overlapping": ((2, 5, 6), {"kernel_shape": [3, 2]}),
    "2d asymmetric padding": ((2, 6, 5), {"kernel_shape": [3, 3], "strides": [2, 1], "pads": [0, 1, 2, 0]}),
    "2d ceil": ((2, 6, 8), {"kernel_shape": [3, 2], "strides": [2, 3], "ceil_mode": 1}),
    "2d ceil, padded": ((2, 6, 7), {"kernel_shape": [3, 3], "strides": [2, 2], "pads": [1, 0, 0, 1], "ceil_mode": 1}),
    "2d ceil, padded before": ((1, 6, 5), {"kernel_shape": [3, 2], "strides": [3, 2], "pads": [2, 1, 0, 0], "ceil_mode": 1}),
    "2d dilated": ((2, 7, 8), {"kernel_shape": [2, 3], "strides": [1, 2], "dilations": [3, 2], "pads": [1, 2, 0, 1]}),
    "2d dilated, ceil": ((1, 8, 7), {"kernel_shape": [2, 2], "strides": [3, 2], "dilations": [2, 3], "ceil_mode": 1}),
    "2d gaps": ((2, 7, 8), {"kernel_shape": [2, 1], "strides": [3, 2]}),
    "3d": ((2, 4, 5, 4), {"kernel_shape": [2, 3, 2], "strides": [2, 1, 2], "pads": [0, 1, 1, 1, 1, 0]}),
    "3d ceil": ((1, 5, 4, 3), {"kernel_shape": [2, 2, 2], "strides": [2, 3, 2], "ceil_mode": 1}),
}
REDUCTIONS: dict[str, tuple[str, Index, list[int] | None, bool]] = {
    "global 1d": ("GlobalMaxPool", (3, 7), None, True),
    "global 2d": ("GlobalMaxPool", (3, 4, 3), None, True),
    "global 3d": ("GlobalMaxPool", (2, 2, 3, 2), None, True),
    "maximum, last axis": ("ReduceMax", (3, 4, 5), [-1], False),
    "maximum, two axes apart": ("ReduceMax", (3, 4, 3), [3, 1], True),
    "maximum, two axes apart, not kept": ("ReduceMax", (3, 4, 3), [1, 3], False),
    "maximum, neighbouring axes": ("ReduceMax", (3, 4, 3), [1, 2], False),
    "maximum, all but the batch": ("ReduceMax", (2, 3, 3), [1, 2, 3], True),
    "minimum, two axes": ("ReduceMin", (3, 4, 3), [-2, 1], False),
}
DATA = ("ties", "all equal", "no ties")


def data(kind: str, *shape: int) -> Array:
    if kind == "no ties":
        return np.random.default_rng(5).normal(size=shape).astype(np.float32)
    return np.full(shape, -0.5, np.float32) if kind == "all equal" else np.random.default_rng(6).integers(-3, 1, shape).astype(np.float32)


def check(model: onnx.ModelProto, x: Array, R: Array, want: tuple[Array, Array], ties: str) -> None:
    """Compares output and relevance of a model with one node with what is wanted."""
    rule = FlatPool() if ties == "flat" else Move(ties=ties)
    options = {} if ties == "first" else {"layer_map": [("max_pool", rule)]}
    explainer = Explainer(model, "epsilon", providers="cpu", threads=1, **options)
    assert [step.rule for step in explainer.plan.steps] == [rule]
    explanation = explainer.explain(x, seed=R)
    np.testing.assert_array_equal(explanation.output, want[0])
    check_close(explanation.relevance, want[1], 1e-6)


@pytest.mark.parametrize("ties", ["first", "split", "flat"])
@pytest.mark.parametrize("kind", DATA)
@pytest.mark.parametrize("free", [False, True], ids=["known size", "free size"])
@pytest.mark.parametrize("pool", POOLS)
def test_max_pool(pool: str, free: bool, kind: str, ties: str) -> None:
    sample, attributes = POOLS[pool]
    x = data(kind, 2, *sample)
    out_shape, groups = pooled(x.shape, attributes)
    R = normal("max pool", *out_shape)
    model = make_model([node("MaxPool", "x", **attributes)], {}, sample, free=range(1, len(sample)) if free else ())
    check(model, x, R, share(x, R, groups, ties=ties), ties)


@pytest.mark.parametrize("ties", ["first", "split", "flat"])
@pytest.mark.parametrize(("auto_pad", "pads"), [("SAME_UPPER", [1, 0, 1, 1]), ("SAME_LOWER", [1, 1, 1, 0]), ("VALID", [0, 0, 0, 0])])
def test_max_pool_with_auto_pad(auto_pad: str, pads: list[int], ties: str) -> None:
    window = {"kernel_shape": [3, 3], "strides": [2, 2]}
    x = data("ties", 2, 2, 7, 6)
    out_shape, groups = pooled(x.shape, {**window, "pads": pads})
    R = normal("auto_pad", *out_shape)
    check(make_model([node("MaxPool", "x", auto_pad=auto_pad, **window)], {}, (2, 7, 6)), x, R, share(x, R, groups, ties=ties), ties)


@pytest.mark.parametrize("ties", ["first", "split", "flat"])
@pytest.mark.parametrize("kind", DATA)
@pytest.mark.parametrize("free", [False, True], ids=["known size", "free size"])
@pytest.mark.parametrize("name", REDUCTIONS)
def test_reductions(name: str, free: bool, kind: str, ties: str) -> None:
    op, sample, axes, keep = REDUCTIONS[name]
    x = data(kind, 2, *sample)
    out_shape, groups = reduced(x.shape, axes or [*range(2, x.ndim)], keep=keep)
    R = normal("reduction", *out_shape)
    nodes = [node(op, "x")] if axes is None else [node(op, "x axes", keepdims=int(keep))]
    constants = {} if axes is None else {"axes": np.array(axes)}
    model = make_model(nodes, constants, sample, free=range(1, len(sample)) if free else ())
    check(model, x, R, share(x, R, groups, ties=ties, lowest=op == "ReduceMin"), ties)


def test_the_example_of_lrp_toolbox() -> None:
    """A pool of 2 x 2 with stride 1: the ten is the largest of two windows."""
    x = np.float32([[[[1, 2, 3], [10, 5, 6], [7, 8, 9]]]])
    R = np.float32([[[[1, 2], [3, 4]]]]) / np.float32(30)
    model = make_model([node("MaxPool", "x", kernel_shape=[2, 2])], {}, (1, 3, 3))
    relevance = Explainer(model, "epsilon", providers="cpu").explain(x, seed=R).relevance
    np.testing.assert_allclose(relevance, np.float32([[[[0, 0, 0], [4, 0, 2], [0, 0, 4]]]]) / 30, rtol=1e-6)


@pytest.mark.parametrize(("ties", "want"), [("first", [0, 5, 0, 0]), ("split", [0, 2.5, 0, 2.5]), ("flat", [1.25] * 4)])
def test_a_tie_of_two(ties: str, want: list[float]) -> None:
    x, R = np.float32([[[1, 4, 2, 4]]]), np.float32([[[5]]])
    model = make_model([node("GlobalMaxPool", "x")], {}, (1, 4))
    check(model, x, R, (np.float32([[[4]]]), np.float32([[want]])), ties)
