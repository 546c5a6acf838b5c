"""Padding: auto_pad made explicit, zero padding before a convolution made the convolution's own."""

from __future__ import annotations

import numpy as np

from onnx_lrp.graph import Array, Graph, Node
from onnx_lrp.graph.reader import WINDOWED


def make_padding_explicit(graph: Graph) -> bool:
    """Replaces auto_pad (and ConvTranspose's output_shape) by pads, where the sizes are known."""
    changed = False
    for node in graph:
        if node.domain or node.op not in WINDOWED:
            continue
        mode = node.attributes.get("auto_pad", "NOTSET")
        if mode == "NOTSET" and "output_shape" not in node.attributes:
            node.attributes.pop("auto_pad", None)
            continue
        if mode == "VALID" and "output_shape" not in node.attributes:
            del node.attributes["auto_pad"]
            node.attributes.pop("pads", None)
            changed = True
            continue
        pads = _pads_of(graph, node, mode)
        if pads is None:
            continue
        node.attributes.pop("auto_pad", None)
        node.attributes.pop("output_shape", None)
        node.attributes["pads"] = pads
        changed = True
    return changed


def _pads_of(graph: Graph, node: Node, mode: str) -> list[int] | None:
    """All begins, then all ends; None when they depend on an unknown size."""
    shape, target = graph.shape(node.input(0)), graph.shape(node.outputs[0])
    weight = graph.static_shape(node.input(1)) if node.op.startswith("Conv") else None
    kernel = list(node.attributes.get("kernel_shape", weight[2:] if weight is not None else []))
    if not kernel:
        return None
    strides = list(node.attributes.get("strides", [1] * len(kernel)))
    dilations = list(node.attributes.get("dilations", [1] * len(kernel)))
    if node.op == "ConvTranspose":
        explicit = node.attributes.get("output_shape")
        if explicit is not None:
            target = (None, None, *explicit[-len(kernel) :])
        elif shape is not None:
            sizes = [size * stride if isinstance(size, int) else None for size, stride in zip(shape[2:], strides, strict=True)]
            target = (None, None, *sizes)
    begins, ends = [], []
    for axis, width in enumerate(kernel):
        extent, stride = dilations[axis] * (width - 1) + 1, strides[axis]
        size = shape[2 + axis] if shape is not None else None
        if node.op == "ConvTranspose":
            made = target[2 + axis] if target is not None else None
            if not isinstance(size, int) or not isinstance(made, int):
                return None
            total = stride * (size - 1) + node.attributes.get("output_padding", [0] * len(kernel))[axis] + extent - made
        elif stride == 1:
            total = extent - 1
        elif isinstance(size, int):
            total = max((-(-size // stride) - 1) * stride + extent - size, 0)
        else:
            return None
        if total < 0:
            return None
        # ONNX puts the odd one at the end for SAME_UPPER, at the beginning otherwise.
        begins.append(total // 2 if mode == "SAME_UPPER" else total - total // 2)
        ends.append(total - begins[-1])
    return begins + ends


def zero_padding(graph: Graph, node: Node, rank: int) -> tuple[Array, Array] | None:
    """How many zeros a Pad adds before and behind along each axis; None when it adds something else or this is not known."""
    pads, value = graph.constant(node.input(1)), graph.scalar(node.input(2)) if node.input(2) else 0.0
    axes = graph.constant(node.input(3)) if node.input(3) else np.arange(rank)
    if node.attributes.get("mode", "constant") != "constant" or pads is None or axes is None or value != 0.0:
        return None
    before, after = np.zeros(rank, np.int64), np.zeros(rank, np.int64)
    before[axes], after[axes] = pads[: axes.size], pads[axes.size :]
    return before, after


def merge_padding(graph: Graph) -> bool:
    """Pad with zeros along the spatial axes, read by one convolution only, becomes that convolution's padding."""
    changed = False
    for node in graph:
        if node.op != "Pad" or node.domain:
            continue
        reader = graph.only_consumer(node.outputs[0])
        if reader is None or reader.op != "Conv" or reader.domain or "auto_pad" in reader.attributes:
            continue
        if reader.input(0) != node.outputs[0] or node.outputs[0] in reader.inputs[1:]:
            continue
        rank = graph.rank(reader.input(1))
        added = zero_padding(graph, node, rank) if rank is not None else None
        if rank is None or added is None:
            continue
        before, after = added
        if before[:2].any() or after[:2].any() or (before < 0).any() or (after < 0).any():
            continue
        own = reader.attributes.get("pads", [0] * 2 * (rank - 2))
        extra = np.concatenate([before[2:], after[2:]])
        reader.attributes["pads"] = [int(mine + more) for mine, more in zip(own, extra, strict=True)]
        reader.inputs[0] = node.input(0)
        graph.replace([node], [])
        graph.merged[node.outputs[0]] = reader.name
        changed = True
    return changed
