"""Operators that move, repeat or select elements: their adjoint moves relevance back, and copies add up."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from onnx_lrp.errors import UnsupportedOperatorError
from onnx_lrp.operators.base import Operator, Role, first_of

if TYPE_CHECKING:
    from onnx_lrp.emitter import Emitter
    from onnx_lrp.graph import Graph, Node


class RouteOperator(Operator):
    """Moves the elements of its first input."""

    role = Role.ROUTE
    kind = "movement"

    def data_inputs(self, node: Node, graph: Graph) -> list[int]:
        return [0] if node.input(0) not in graph.constants and graph.type_of(node.input(0)).is_float else []

    def nonnegative(self, node: Node, graph: Graph, known: set[str]) -> bool:  # noqa: ARG002
        return node.input(0) in known


class ReshapeOperator(RouteOperator):
    """Reshape, Flatten, Squeeze, Unsqueeze: the same elements in the same order."""

    def gradient(self, e: Emitter, node: Node, upstream: list[str | None]) -> dict[int, str]:
        return {0: e.reshape_like(first_of(upstream), node.input(0))}


class TransposeOperator(RouteOperator):
    """Permutes the axes; undone by the inverse permutation."""

    def gradient(self, e: Emitter, node: Node, upstream: list[str | None]) -> dict[int, str]:
        perm = node.attributes.get("perm")
        inverse = None if perm is None else [int(i) for i in np.argsort(perm)]
        return {0: e.op("Transpose", first_of(upstream), perm=inverse)}


class IdentityOperator(RouteOperator):
    """Identity, Dropout in inference, Cast between floats."""

    def gradient(self, e: Emitter, node: Node, upstream: list[str | None]) -> dict[int, str]:  # noqa: ARG002
        return {0: first_of(upstream)}


class ExpandOperator(RouteOperator):
    """Repeats along axes of length one."""

    def gradient(self, e: Emitter, node: Node, upstream: list[str | None]) -> dict[int, str]:
        return {0: e.unbroadcast(first_of(upstream), node.input(0), node.outputs[0])}


class TileOperator(RouteOperator):
    """Repeats whole axes: split each into (repeats, length) and sum over the repeats."""

    def gradient(self, e: Emitter, node: Node, upstream: list[str | None]) -> dict[int, str]:
        x = node.input(0)
        rank = e.graph.rank(x)
        if rank is None:
            raise UnsupportedOperatorError([(node.name, "Tile of a tensor of unknown rank", node.domain, e.graph.opset)])
        repeats = e.op("Unsqueeze", node.input(1), e.ints(1))
        lengths = e.op("Unsqueeze", e.shape_of(x), e.ints(1))
        split = e.op("Reshape", e.op("Concat", repeats, lengths, axis=1), e.ints(-1))
        return {0: e.reduce_sum(e.op("Reshape", first_of(upstream), split), list(range(0, 2 * rank, 2)), keepdims=False)}


class ConcatOperator(Operator):
    """Joins tensors along an axis; undone by splitting."""

    role = Role.ROUTE
    kind = "movement"

    def gradient(self, e: Emitter, node: Node, upstream: list[str | None]) -> dict[int, str]:
        axis = int(node.attributes["axis"])
        shapes = [e.graph.shape(tensor) for tensor in node.inputs]
        lengths = [shape[axis] if shape is not None else None for shape in shapes]
        if all(isinstance(length, int) for length in lengths):
            sizes = e.ints(*(int(length) for length in lengths if isinstance(length, int)))
        else:
            sizes = e.op("Concat", *(e.op("Gather", e.op("Shape", tensor), e.ints(axis)) for tensor in node.inputs), axis=0)
        if len(node.inputs) == 1:
            return {0: first_of(upstream)}
        parts = e.ops("Split", first_of(upstream), sizes, axis=axis, outputs=[""] * len(node.inputs))
        return dict(enumerate(parts))

    def nonnegative(self, node: Node, graph: Graph, known: set[str]) -> bool:
        return all(t in known or (t in graph.constants and bool((graph.constants[t] >= 0).all())) for t in node.inputs)


class SplitOperator(RouteOperator):
    """Cuts a tensor along an axis; parts that got no relevance count as zero."""

    several_outputs = True

    def gradient(self, e: Emitter, node: Node, upstream: list[str | None]) -> dict[int, str]:
        parts = [
            part if part is not None else e.op("ConstantOfShape", e.shape_of(output), value=np.zeros(1, np.float32))
            for part, output in zip(upstream, node.outputs, strict=True)
        ]
        return {0: e.op("Concat", *parts, axis=int(node.attributes.get("axis", 0)))}


class SelectOperator(RouteOperator):
    """Slice, Gather, GatherElements, GatherND: the adjoint adds each element to where it was read.

    Where each output element was read from is found by letting the node select from the elements' own numbers; constants for static shapes.
    """

    def gradient(self, e: Emitter, node: Node, upstream: list[str | None]) -> dict[int, str]:
        x, s = node.input(0), first_of(upstream)
        cut = self._as_pad(e, node, s)
        if cut is not None:
            return {0: cut}
        shape = e.shape_of(x)
        size = e.op("ReduceProd", shape, keepdims=1)
        numbers = e.op("Range", e.constant(0, np.int64), e.op("Squeeze", size, e.ints(0)), e.constant(1, np.int64))
        chosen = e.op(node.op, e.op("Reshape", numbers, shape), *node.inputs[1:], **node.attributes)
        zeros = e.op("ConstantOfShape", size, value=np.zeros(1, np.float32))
        flat = e.op("ScatterElements", zeros, e.op("Reshape", chosen, e.ints(-1)), e.op("Reshape", s, e.ints(-1)), axis=0, reduction="add")
        return {0: e.op("Reshape", flat, shape)}

    @staticmethod
    def _as_pad(e: Emitter, node: Node, s: str) -> str | None:
        """A slice of step one along axes of known length is undone by zero padding, which is faster."""
        graph = e.graph
        parts = [graph.constant(node.input(i)) if node.input(i) else None for i in range(1, 5)]
        shape = graph.shape(node.input(0))
        if node.op != "Slice" or shape is None or parts[0] is None or parts[1] is None or (node.input(3) and parts[2] is None):
            return None
        starts, ends = (part.reshape(-1).tolist() for part in parts[:2] if part is not None)
        axes = parts[2].reshape(-1).tolist() if parts[2] is not None else list(range(len(starts)))
        if (node.input(4) and parts[3] is None) or (parts[3] is not None and any(step != 1 for step in parts[3].reshape(-1))):
            return None
        rank = len(shape)
        before, after = [0] * rank, [0] * rank
        for start, end, axis in zip(starts, ends, axes, strict=True):
            length = shape[axis]
            if not isinstance(length, int):
                return None
            first, last, _ = slice(start, end).indices(length)
            before[axis % rank], after[axis % rank] = first, length - max(last, first)
        return e.op("Pad", s, e.ints(*before, *after))


class PadOperator(RouteOperator):
    """Constant padding is cut off; reflected, repeated and wrapped elements add to the ones that they copy."""

    def gradient(self, e: Emitter, node: Node, upstream: list[str | None]) -> dict[int, str]:
        x, s = node.input(0), first_of(upstream)
        rank = e.graph.rank(x)
        if rank is None:
            raise UnsupportedOperatorError([(node.name, "Pad of a tensor of unknown rank", node.domain, e.graph.opset)])
        if node.attributes.get("mode", "constant") == "constant":
            return {0: self._cut(e, node, s, rank)}
        shape = e.shape_of(x)
        size = e.op("ReduceProd", shape, keepdims=1)
        numbers = e.op("Range", e.constant(0, np.int64), e.op("Squeeze", size, e.ints(0)), e.constant(1, np.int64))
        copied = e.op("Pad", e.op("Reshape", numbers, shape), *node.inputs[1:], **node.attributes)
        zeros = e.op("ConstantOfShape", size, value=np.zeros(1, np.float32))
        flat = e.op("ScatterElements", zeros, e.op("Reshape", copied, e.ints(-1)), e.op("Reshape", s, e.ints(-1)), axis=0, reduction="add")
        return {0: e.op("Reshape", flat, shape)}

    @staticmethod
    def _cut(e: Emitter, node: Node, s: str, rank: int) -> str:
        pads, axes = e.graph.constant(node.input(1)), e.graph.constant(node.input(3)) if node.input(3) else np.arange(rank)
        if pads is None or axes is None:
            raise UnsupportedOperatorError([(node.name, "Pad by computed amounts", node.domain, e.graph.opset)])
        count = len(axes)
        begins, ends = (int(p) for p in pads[:count]), (int(p) for p in pads[count:])
        before, after, starts, stops, cut = [0] * rank, [0] * rank, [], [], []
        for axis, begin, end in zip(axes.tolist(), begins, ends, strict=True):
            before[axis % rank], after[axis % rank] = max(-begin, 0), max(-end, 0)
            if begin > 0 or end > 0:
                cut.append(axis % rank)
                starts.append(max(begin, 0))
                stops.append(-end if end > 0 else np.iinfo(np.int64).max)
        kept = e.op("Slice", s, e.ints(*starts), e.constant(stops, np.int64), e.ints(*cut)) if cut else s
        return e.op("Pad", kept, e.ints(*before, *after)) if any(before) or any(after) else kept  # a negative pad had cut x

    def nonnegative(self, node: Node, graph: Graph, known: set[str]) -> bool:
        value = graph.scalar(node.input(2)) if node.input(2) else 0.0
        return node.input(0) in known and (node.attributes.get("mode", "constant") != "constant" or (value is not None and value >= 0))


class DepthToSpaceOperator(RouteOperator):
    """DepthToSpace in both modes, and SpaceToDepth (the inverse of mode DCR)."""

    def gradient(self, e: Emitter, node: Node, upstream: list[str | None]) -> dict[int, str]:
        s, block = first_of(upstream), int(node.attributes["blocksize"])
        if node.op == "SpaceToDepth":
            return {0: e.op("DepthToSpace", s, blocksize=block)}
        if node.attributes.get("mode", "DCR") == "DCR":
            return {0: e.op("SpaceToDepth", s, blocksize=block)}
        # CRD puts the channel before the two block axes, SpaceToDepth after them.
        shape = e.graph.shape(node.outputs[0])
        if shape is None or not isinstance(shape[1], int):
            raise UnsupportedOperatorError([(node.name, "DepthToSpace with unknown channels", node.domain, e.graph.opset)])
        order = np.arange(shape[1] * block * block).reshape(block * block, shape[1]).T.reshape(-1)
        return {0: e.op("Gather", e.op("SpaceToDepth", s, blocksize=block), e.constant(order, np.int64), axis=1)}


class WhereOperator(Operator):
    """Each element comes from one of two tensors."""

    role = Role.ROUTE
    kind = "movement"

    def data_inputs(self, node: Node, graph: Graph) -> list[int]:
        return [index for index in super().data_inputs(node, graph) if index > 0]

    def gradient(self, e: Emitter, node: Node, upstream: list[str | None]) -> dict[int, str]:
        s, zero, y = first_of(upstream), e.constant(0.0), node.outputs[0]
        condition = node.input(0)
        return {
            1: e.unbroadcast(e.op("Where", condition, s, zero), node.input(1), y),
            2: e.unbroadcast(e.op("Where", condition, zero, s), node.input(2), y),
        }

    def nonnegative(self, node: Node, graph: Graph, known: set[str]) -> bool:
        return all(t in known or (t in graph.constants and bool((graph.constants[t] >= 0).all())) for t in node.inputs[1:])


class ExtremeOperator(Operator):
    """Max and Min of several tensors: each element to the first that reached it."""

    role = Role.ROUTE
    kind = "max_pool"

    def gradient(self, e: Emitter, node: Node, upstream: list[str | None]) -> dict[int, str]:
        s, y, zero = first_of(upstream), node.outputs[0], e.constant(0.0)
        result, taken = {}, ""
        for index, tensor in enumerate(node.inputs):
            won = e.op("Equal", tensor, y)
            free = e.op("And", won, e.op("Not", taken)) if taken else won
            result[index] = e.unbroadcast(e.op("Where", free, s, zero), tensor, y)
            taken = e.op("Or", taken, won) if taken else won
        return result

    def nonnegative(self, node: Node, graph: Graph, known: set[str]) -> bool:
        signs = [t in known or (t in graph.constants and bool((graph.constants[t] >= 0).all())) for t in node.inputs]
        return any(signs) if node.op == "Max" else all(signs)
