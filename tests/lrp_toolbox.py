"""A small reader of lrp_toolbox's text format, for the maps that the library itself made of such nets."""

from __future__ import annotations

from collections.abc import Sequence
from math import sqrt
from pathlib import Path

import numpy as np
import onnx
from helpers import make_model, node


def read_net(path: Path, shape: Sequence[int]) -> onnx.ModelProto:
    """The net as ONNX, with its own layout of the input (N, H, W, C); without a final SoftMax."""
    lines = iter(path.read_text().splitlines())
    nodes, constants, tensor = [], {}, "x"
    if len(shape) == 3:
        nodes.append(node("Transpose", "x", "nchw", perm=[0, 3, 1, 2]))
        tensor = "nchw"

    def add(kind: str, inputs: str = "", **attributes: object) -> None:
        nonlocal tensor
        nodes.append(node(kind, f"{tensor} {inputs}", f"t{len(nodes)}", **attributes))
        nodes[-1].name += str(len(nodes))
        tensor = nodes[-1].output[0]

    def numbers() -> np.ndarray:
        return np.array(next(lines).split(), np.float32)

    for line in lines:
        kind, *sizes = line.split()
        n, at = [int(size) for size in sizes], f"{len(nodes)}"
        if kind in ("Linear", "Convolution"):
            weights, constants["b" + at] = numbers().reshape(n[:2] if kind == "Linear" else n[:4]), numbers()
            constants["W" + at] = weights if kind == "Linear" else weights.transpose(3, 2, 0, 1)
            add("Gemm" if kind == "Linear" else "Conv", f"W{at} b{at}", **({} if kind == "Linear" else {"strides": n[4:]}))
        elif kind in ("SumPool", "MaxPool"):
            add("AveragePool" if kind == "SumPool" else "MaxPool", kernel_shape=n[:2], strides=n[2:])
            if kind == "SumPool":  # the sum over the window, divided by the root of its size
                constants["c" + at] = np.float32(sqrt(n[0] * n[1]))
                add("Mul", "c" + at)
        elif kind == "Flatten":
            add("Transpose", perm=[0, 2, 3, 1])
            add("Flatten")
        elif kind in ("Rect", "Tanh"):
            add("Relu" if kind == "Rect" else "Tanh")
        else:
            assert kind == "SoftMax", kind
    return make_model(nodes, constants, shape, output=tensor)
