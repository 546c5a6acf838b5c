"""Writing an ONNX model node by node."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from onnx_lrp.emitter import IR_VERSION
from onnx_lrp.graph.opset import OPSET

if TYPE_CHECKING:
    Array = NDArray[Any]

__all__ = ["Builder"]


class Builder:
    """A growing ONNX graph whose tensors have names of their own."""

    def __init__(self) -> None:
        self._nodes: list[onnx.NodeProto] = []
        self._constants: list[onnx.TensorProto] = []
        self._tensors: set[str] = set()
        self._names: set[str] = set()

    def tensor(self, name: str) -> str:
        """Reserve a tensor's name; one that is taken gets a number."""
        return _unused(name, self._tensors)

    def constant(self, name: str, value: Any, dtype: Any = np.float32) -> str:
        """Add an initialiser and return its name."""
        tensor = self.tensor(name)
        self._constants.append(numpy_helper.from_array(np.ascontiguousarray(value, dtype).reshape(np.shape(value)), tensor))
        return tensor

    def node(self, op: str, inputs: Iterable[str], output: str, name: str = "", **attributes: Any) -> str:
        """Add a node with one output; the node is named like the output where nothing else is said. Returns the output's name."""
        tensor = self.tensor(output)
        self._nodes.append(helper.make_node(op, list(inputs), [tensor], _unused(name or tensor, self._names), **attributes))
        return tensor

    def model(
        self,
        name: str,
        inputs: Mapping[str, Iterable[int]],
        outputs: Mapping[str, Iterable[int]],
        metadata: Mapping[str, str],
    ) -> onnx.ModelProto:
        """The model.

        Args:
            name: The graph's name.
            inputs: The shapes of the inputs without the batch axis, which is left open.
            outputs: Those of the outputs.
            metadata: Goes into the model's metadata as it is.
        """
        read, made = (
            [helper.make_tensor_value_info(tensor, TensorProto.FLOAT, ["N", *shape]) for tensor, shape in part.items()]
            for part in (inputs, outputs)
        )
        graph = helper.make_graph(self._nodes, name or "model", read, made, self._constants)
        opsets = [helper.make_opsetid("", OPSET)]
        model = helper.make_model(graph, opset_imports=opsets, ir_version=IR_VERSION, producer_name="onnx_lrp.converters")
        helper.set_model_props(model, dict(metadata))
        return model


def _unused(name: str, used: set[str]) -> str:
    unused, number = name, 1
    while unused in used:
        number += 1
        unused = f"{name}_{number}"
    used.add(unused)
    return unused
