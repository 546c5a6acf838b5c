"""Computing derived weights (W+, flipped kernels ...) while an explainer is compiled.

onnxruntime folds them too when a session is made, but several times slower: each step there is a copy, here most are views. A saved
explainer keeps the nodes instead, and stays as small as the model.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import onnx
from onnx import helper

from onnx_lrp.graph import Array, captured_by

Attributes = dict[str, Any]


def _slice(_: Attributes, x: Array, starts: Array, ends: Array, axes: Array | None = None, steps: Array | None = None) -> Array:
    parts = [slice(None)] * x.ndim
    for index, (start, end) in enumerate(zip(starts.tolist(), ends.tolist(), strict=True)):
        step = 1 if steps is None else int(steps[index])
        axis = index if axes is None else int(axes[index])
        beyond = step < 0 and end < -x.shape[axis]  # Python reads a negative end as counted from the back
        parts[axis] = slice(start, None if beyond else end, step)
    return x[tuple(parts)]


def _reshape(_: Attributes, x: Array, shape: Array) -> Array:
    return x.reshape([x.shape[i] if length == 0 else int(length) for i, length in enumerate(shape)])


def _cast(attributes: Attributes, x: Array) -> Array:
    with np.errstate(over="ignore"):  # a weight that is too large for float16 is infinite, and makes an output that is found
        return x.astype(helper.tensor_dtype_to_np_dtype(attributes["to"]))


FOLDABLE: dict[str, Callable[..., Array]] = {
    "Relu": lambda _, x: np.maximum(x, 0),
    "Min": lambda _, x, y: np.minimum(x, y),
    "Max": lambda _, x, y: np.maximum(x, y),
    "Mul": lambda _, x, y: x * y,
    "Add": lambda _, x, y: x + y,
    "Sub": lambda _, x, y: x - y,
    "Cast": _cast,
    "Slice": _slice,
    "Transpose": lambda attributes, x: x.transpose(attributes.get("perm")),
    "Reshape": _reshape,
}
"""What derived weights are made of; everything else is left to onnxruntime."""


def fold(model: onnx.ModelProto, constants: Mapping[str, Array]) -> dict[str, Array]:
    """Evaluates what can be, and takes those nodes out of the model.

    Args:
        model: a model without its initialisers.
        constants: those initialisers by name.

    Returns:
        The constants that the nodes left in the model read.
    """
    known, left = dict(constants), []
    outputs = {value.name for value in model.graph.output}
    for node in model.graph.node:
        given = [known.get(name) for name in node.input]
        if node.op_type not in FOLDABLE or node.domain or node.output[0] in outputs or any(value is None for value in given):
            left.append(node)
            continue
        attributes = {attribute.name: helper.get_attribute_value(attribute) for attribute in node.attribute}
        known[node.output[0]] = FOLDABLE[node.op_type](attributes, *given)
    del model.graph.node[:]
    model.graph.node.extend(left)
    read = {name for node in left for name in node.input} | outputs
    read.update(*(captured_by(attribute.g) for node in left for attribute in node.attribute if attribute.HasField("g")))
    return {name: value for name, value in known.items() if name in read}
