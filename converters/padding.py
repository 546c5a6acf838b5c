"""Keep zeros around a picture that a maximum is taken over.

onnxruntime moves a constant Pad of 0 into the MaxPool behind it, whose own padding counts as minus infinity: where all values of a window
are negative, as in networks that pool before an activation, the maximum is then another one. Padding with the smallest normal number,
1.2e-38, stops that, and is 0 for every purpose.
"""

from __future__ import annotations

import numpy as np
import onnx
from onnx import numpy_helper

__all__ = ["keep_zeros"]


def keep_zeros(model: onnx.ModelProto) -> None:
    """Changes, in place, the constant of every Pad of 0 before a MaxPool to the smallest normal number of float32."""
    graph = model.graph
    constants = {tensor.name: numpy_helper.to_array(tensor) for tensor in graph.initializer}
    pooled = {node.input[0] for node in graph.node if node.op_type == "MaxPool"}
    for node in graph.node:
        if node.op_type != "Pad" or node.output[0] not in pooled:
            continue
        mode = next((attribute.s for attribute in node.attribute if attribute.name == "mode"), b"constant")
        given = node.input[2] if len(node.input) > 2 else ""
        value = constants.get(given, np.float32(0) if not given else None)
        if mode != b"constant" or value is None or np.any(value) or np.asarray(value).dtype != np.float32:
            continue
        name = f"{node.output[0]}_zero"
        graph.initializer.append(numpy_helper.from_array(np.asarray(np.finfo(np.float32).tiny), name))
        inputs = [*node.input[:2], name, *node.input[3:]]
        del node.input[:]
        node.input.extend(inputs)
