"""Resize: nearest copies elements, linear mixes them with fixed non-negative weights."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from onnx_lrp.errors import UnsupportedOperatorError
from onnx_lrp.operators.affine import AffineOperator

if TYPE_CHECKING:
    from onnx_lrp.emitter import Emitter
    from onnx_lrp.graph import Array, Graph, Node


class ResizeOperator(AffineOperator):
    """Separable: along each resized axis a fixed matrix M (new length, old length), y = M x.

    The matrices are found by resizing the unit vectors with the reference implementation of ONNX, so every mode, coordinate
    transformation and rounding is right; the adjoint multiplies by their transposes.
    """

    kind = "resize"

    def matrices(self, e: Emitter, node: Node) -> dict[int, Array]:
        """Axis -> its matrix, for the axes whose length changes."""
        shape, target = e.graph.shape(node.input(0)), e.graph.shape(node.outputs[0])
        if shape is None or target is None:
            raise UnsupportedOperatorError([(node.name, "Resize of unknown rank", node.domain, e.graph.opset)])
        scales = e.graph.constant(node.input(2)) if node.input(2) else None
        axes = [int(a) % len(shape) for a in node.attributes.get("axes", range(len(shape)))]
        found: dict[int, Array] = {}
        for axis, (old, new) in enumerate(zip(shape, target, strict=True)):
            position = axes.index(axis) if axis in axes else -1
            scale = float(scales[position]) if scales is not None and scales.size and position >= 0 else None
            if position < 0 or (isinstance(old, int) and old == new and scale in (None, 1.0)) or (scale == 1.0):
                continue
            if not isinstance(old, int) or not isinstance(new, int):
                if scales is None and not isinstance(old, int) and old == new:
                    continue  # the batch axis
                raise UnsupportedOperatorError([(node.name, "Resize of an axis of unknown length", node.domain, e.graph.opset)])
            found[axis] = _matrix(node, old, new, scale)
        return found

    def apply(self, e: Emitter, node: Node, x: str, weight: str | None, bias: str | None = None) -> str:  # noqa: ARG002
        return e.op("Resize", x, *node.inputs[1:], **node.attributes)

    def adjoint(self, e: Emitter, node: Node, s: str, weight: str | None) -> str:  # noqa: ARG002
        rank = e.graph.rank(node.input(0)) or 0
        for axis, matrix in self.matrices(e, node).items():
            s = _along(e, s, axis, rank, matrix)
        return s

    def apply_ones(self, e: Emitter, node: Node, x: str) -> str:
        rank = e.graph.rank(node.input(0)) or 0
        for axis, matrix in self.matrices(e, node).items():
            x = _along(e, x, axis, rank, (matrix != 0).astype(np.float32).T)
        return x

    def adjoint_ones(self, e: Emitter, node: Node, s: str) -> str:
        rank = e.graph.rank(node.input(0)) or 0
        for axis, matrix in self.matrices(e, node).items():
            s = _along(e, s, axis, rank, (matrix != 0).astype(np.float32))
        return s

    def nonnegative(self, node: Node, graph: Graph, known: set[str]) -> bool:
        return node.attributes.get("mode", "nearest") in ("nearest", "linear") and super().nonnegative(node, graph, known)


def _matrix(node: Node, old: int, new: int, scale: float | None) -> Array:
    from onnx import helper
    from onnx.reference import ReferenceEvaluator

    attributes = {key: value for key, value in node.attributes.items() if key not in ("axes", "keep_aspect_ratio_policy")}
    float_, int_ = 1, 7
    inputs = [
        helper.make_tensor_value_info("x", float_, [old, old]),
        helper.make_tensor_value_info("g", float_ if scale else int_, [2]),
    ]
    resize = helper.make_node("Resize", ["x", "", "g"] if scale else ["x", "", "", "g"], ["y"], **attributes)
    graph = helper.make_graph([resize], "matrix", inputs, [helper.make_tensor_value_info("y", float_, None)])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)])
    given = np.array([1.0, scale], np.float32) if scale else np.array([old, new], np.int64)
    made = np.asarray(ReferenceEvaluator(model).run(None, {"x": np.eye(old, dtype=np.float32), "g": given})[0])  # type: ignore[index]
    if made.shape != (old, new):
        raise UnsupportedOperatorError([(node.name, f"Resize that makes {made.shape[1]} of {new} elements", node.domain, 18)])
    return made.T.astype(np.float32)


def _along(e: Emitter, tensor: str, axis: int, rank: int, matrix: Array) -> str:
    """Multiplies along one axis: contracts it with the matrix's first axis."""
    weights = e.constant(matrix)
    if axis == rank - 1:
        return e.op("MatMul", tensor, weights)
    if axis == rank - 2:
        return e.op("MatMul", e.constant(matrix.T), tensor)
    order = [i for i in range(rank) if i != axis] + [axis]
    moved = e.op("MatMul", e.op("Transpose", tensor, perm=order), weights)
    return e.op("Transpose", moved, perm=[order.index(i) for i in range(rank)])
