"""What running a compiled explainer takes to know of its model. A cached explainer keeps it, so that the model need not be read."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from onnx_lrp.tensors import TensorType

__all__ = ["Signature"]


@dataclass(frozen=True)
class Signature:
    """Names, types and shapes of what goes into a compiled explainer and comes out of it."""

    model_inputs: dict[str, TensorType]
    """All inputs of the model."""
    needed: list[str]
    """Those of them that the explained output depends on."""
    fixed_batch: int | None
    """The only number of samples that the model takes; None when it takes any."""
    metadata: dict[str, str]
    """What the model's file says about itself."""
    output: str
    """The explained output."""
    output_shape: tuple[int | str | None, ...] | None
    output_operator: str
    """The operator that makes it; '' if none does."""
    final_activation: str | None
    """The activation behind it that was left off, if one was."""
    inputs: list[str]
    """The names of the explained inputs."""
    tensors: dict[str, str]
    """Every explained input and recorded tensor, by the name it was asked for -> the tensor of the graph."""
    results: dict[str, str]
    """The same names -> the tensors of the compiled graph that hold their relevance."""
    batch_leads: dict[str, bool]
    """The same names -> whether the first axis holds the samples."""
    axis_of_samples: dict[str, int | None]
    """The explained output and the tensors -> the axis that holds the samples, alone or folded with another; None where unknown."""
    mixes: str
    """The node that computes something of several samples together, '' if none is seen; see `onnx_lrp.mixing`."""
    has_convolutions: bool
    """Whether relevance flows through a convolution."""
    seed: str
    """Where relevance starts unless something else is asked for."""
    composite: str
    """The composite as text."""

    def dumps(self) -> str:
        """The signature as JSON."""
        return json.dumps(asdict(self) | {"model_inputs": {name: _plain(kind) for name, kind in self.model_inputs.items()}})

    @classmethod
    def loads(cls, text: str) -> Signature:
        """The signature that `dumps` wrote.

        Raises:
            ValueError, TypeError, KeyError: the text is something else.
        """
        data = json.loads(text)
        shape = data["output_shape"]
        data["output_shape"] = None if shape is None else tuple(shape)
        data["model_inputs"] = {name: _tensor_type(*kind) for name, kind in data["model_inputs"].items()}
        return cls(**data)


def _plain(kind: TensorType) -> list[Any]:
    return [None if kind.dtype is None else kind.dtype.str, kind.shape]


def _tensor_type(dtype: str | None, shape: list[int | str | None] | None) -> TensorType:
    return TensorType(None if dtype is None else np.dtype(dtype), None if shape is None else tuple(shape))
