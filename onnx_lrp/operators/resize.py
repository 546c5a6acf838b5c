"""Resize: nearest copies elements, linear mixes them with fixed non-negative weights."""

from __future__ import annotations

from collections.abc import Callable
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
    uniform = False

    def mixed_signs(self, node: Node) -> bool:
        return bool(node.attributes.get("mode", "nearest") == "cubic")

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
                if scales is None and not isinstance(old, int) and (old == new or axis == 0):
                    continue  # the batch axis
                raise UnsupportedOperatorError([(node.name, "Resize of an axis of unknown length", node.domain, e.graph.opset)])
            leader, wanted = self._proportions(e, node, axes, position, new)
            found[axis] = _matrix(node, old, new, scale, leader, wanted, self._region(e, node, position, len(axes)))
        return found

    @staticmethod
    def _proportions(e: Emitter, node: Node, axes: list[int], position: int, new: int) -> tuple[tuple[int, int], int]:
        """(length, wanted length) of the axis that decides on the scale of all, and the wanted length of this axis."""
        policy = node.attributes.get("keep_aspect_ratio_policy", "stretch")
        if policy == "stretch" or not node.input(3):
            return (1, 1), new
        sizes, shape = e.graph.constant(node.input(3)), e.graph.shape(node.input(0)) or ()
        pairs = [(shape[axis], int(size)) for axis, size in zip(axes, sizes, strict=True)] if sizes is not None else []
        known = [(length, size) for length, size in pairs if isinstance(length, int)]
        if sizes is None or len(known) != len(pairs):
            raise UnsupportedOperatorError([(node.name, "Resize of unknown proportions", node.domain, e.graph.opset)])
        return (min if policy == "not_larger" else max)(known, key=lambda pair: pair[1] / pair[0]), pairs[position][1]

    @staticmethod
    def _region(e: Emitter, node: Node, position: int, count: int) -> tuple[float, float]:
        """Start and end of the part that is resized (tf_crop_and_resize), as fractions of the axis."""
        if node.attributes.get("coordinate_transformation_mode") != "tf_crop_and_resize":
            return 0.0, 1.0
        region = e.graph.constant(node.input(1))
        if region is None:
            raise UnsupportedOperatorError([(node.name, "Resize of a computed region", node.domain, e.graph.opset)])
        return float(region[position]), float(region[count + position])

    def apply(self, e: Emitter, node: Node, x: str, weight: str | None, bias: str | None = None) -> str:  # noqa: ARG002
        return e.op("Resize", x, *node.inputs[1:], **node.attributes)

    def adjoint(self, e: Emitter, node: Node, s: str, weight: str | None) -> str:  # noqa: ARG002
        return self._product(e, node, s, lambda matrix: matrix)

    def apply_ones(self, e: Emitter, node: Node, x: str) -> str:
        return self._product(e, node, x, lambda matrix: (matrix != 0).T)

    def adjoint_ones(self, e: Emitter, node: Node, s: str) -> str:
        return self._product(e, node, s, lambda matrix: matrix != 0)

    def apply_square(self, e: Emitter, node: Node, x: str) -> str:
        return self._product(e, node, x, lambda matrix: (matrix * matrix).T)

    def adjoint_square(self, e: Emitter, node: Node, s: str) -> str:
        return self._product(e, node, s, lambda matrix: matrix * matrix)

    def _product(self, e: Emitter, node: Node, tensor: str, change: Callable[[Array], Array]) -> str:
        """Contracts each resized axis with the first axis of its changed matrix."""
        rank = e.graph.rank(node.input(0)) or 0
        for axis, matrix in self.matrices(e, node).items():
            tensor = _along(e, tensor, axis, rank, change(matrix).astype(np.float32))
        return tensor

    def nonnegative(self, node: Node, graph: Graph, known: set[str]) -> bool:
        mixes = node.attributes.get("mode", "nearest") in ("nearest", "linear") and node.attributes.get("extrapolation_value", 0.0) >= 0
        return mixes and super().nonnegative(node, graph, known)


def _matrix(
    node: Node, old: int, new: int, scale: float | None, leader: tuple[int, int], wanted: int, region: tuple[float, float]
) -> Array:
    """M along one axis: what becomes of the unit vectors, as pictures (leading axis, this axis) that are the same along the leading one."""
    from onnx import helper
    from onnx.reference import ReferenceEvaluator

    dropped = ("axes", "extrapolation_value")  # what lies outside of the input adds a constant, which is no part of M
    attributes = {key: value for key, value in node.attributes.items() if key not in dropped}
    float_, int_ = 1, 7
    kinds = {"x": float_, "region": float_, "given": float_ if scale else int_}
    inputs = [helper.make_tensor_value_info(name, kind, None) for name, kind in kinds.items()]
    resize = helper.make_node("Resize", ["x", "region", *([] if scale else [""]), "given"], ["y"], axes=[1, 2], **attributes)
    graph = helper.make_graph([resize], "matrix", inputs, [helper.make_tensor_value_info("y", float_, None)])
    evaluator = ReferenceEvaluator(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)]))
    feeds = {
        "x": np.ascontiguousarray(np.broadcast_to(np.eye(old, dtype=np.float32)[:, None], (old, leader[0], old))),
        "region": np.array([0.0, region[0], 1.0, region[1]], np.float32),
        "given": np.array([1.0, scale], np.float32) if scale else np.array([leader[1], wanted], np.int64),
    }
    made = np.asarray(evaluator.run(None, feeds)[0])[:, 0]  # type: ignore[index]
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
