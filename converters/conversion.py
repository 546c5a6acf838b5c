"""What every conversion ends with: the model is checked and compared with its source before it is written."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import numpy as np
import onnx
from numpy.typing import NDArray

from onnx_lrp.errors import InputError, ModelError
from onnx_lrp.image import atomic_write

if TYPE_CHECKING:
    Array = NDArray[Any]

__all__ = ["HEAD", "LAYERS", "TOLERANCE", "Activation", "Conversion", "Layer", "Report", "checked", "deviation"]

HEAD: Final = 65536
"""How many bytes of a file a converter sees to recognise it."""
LAYERS: Final = 4096
"""How many layers a legacy model may have; the deepest of real ones have fewer. It bounds the time for hostile files."""
TOLERANCE: Final = 1e-4
"""The largest difference, as `Layer.difference` counts it, with which a conversion passes."""


class Activation(NamedTuple):
    """What a layer of the source gives, laid out as the ONNX model's tensor is."""

    layer: str
    kind: str
    """The source's word for this kind of layer."""
    tensor: str
    """The ONNX model's tensor."""
    value: Array


class Layer(NamedTuple):
    """A layer of the source and what became of it."""

    name: str
    kind: str
    tensor: str
    shape: tuple[int, ...]
    difference: float
    """The largest absolute difference between source and ONNX model, divided by the largest absolute value of the source's tensor where
    that is above 1."""


@dataclass(frozen=True)
class Report:
    """What a conversion did."""

    source: Path
    kind: str
    layers: list[Layer]
    notes: list[str] = field(default_factory=list)
    """What the user should know: assumptions, and what was left out."""

    @property
    def difference(self) -> float:
        """The largest difference of any layer; see `Layer.difference`."""
        return max((layer.difference for layer in self.layers), default=0.0)


@dataclass(frozen=True)
class Conversion:
    """An ONNX model made from another one."""

    model: onnx.ModelProto
    report: Report

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the model: to a temporary file, which is then renamed.

        Raises:
            InputError: The file cannot be written, or is the source itself.
        """
        target = Path(path)
        if target.is_dir():
            raise InputError(f"cannot write {target}: it is a folder")
        if target.exists() and self.report.source.exists() and target.samefile(self.report.source):
            raise InputError(f"{target} is the source itself: choose another name")
        try:
            atomic_write(target, lambda file: file.write(self.model.SerializeToString()))
        except OSError as error:
            raise InputError(f"cannot write {target}: {error.strerror or error}") from None


def checked(
    model: onnx.ModelProto,
    source: Path,
    kind: str,
    feeds: Mapping[str, Array],
    activations: Iterable[Activation],
    notes: Iterable[str] = (),
) -> Conversion:
    """Check a model and compare it with its source.

    Args:
        model: The ONNX model.
        source: Where it came from.
        kind: The source's kind, for the report.
        feeds: What both are run on.
        activations: The source's tensors on this input, in the order of its layers; at least the outputs.
        notes: What else the report shall say.

    Returns:
        The model with a report.

    Raises:
        ModelError: The ONNX checker or onnxruntime refuses the model, or a tensor differs; the message names the first layer that does.
    """
    from onnx_lrp.interpreter import Interpreter

    try:
        onnx.checker.check_model(model, full_check=True)
    except Exception as error:
        text = " ".join(str(error).split())
        raise ModelError(f"{source}: the converted model is not valid ONNX: {text[:300]}") from error
    expected = list(activations)
    tensors = list(dict.fromkeys(activation.tensor for activation in expected if activation.tensor not in feeds))
    probe = onnx.ModelProto()
    probe.CopyFrom(model)
    given = {value.name for value in probe.graph.output}
    probe.graph.output.extend(onnx.ValueInfoProto(name=tensor) for tensor in tensors if tensor not in given)
    results = dict(zip(tensors, Interpreter(probe, {}, ["CPUExecutionProvider"]).run(tensors, feeds), strict=True)) | dict(feeds)
    layers = []
    for layer, word, tensor, value in expected:
        result = results[tensor]
        if result.shape != value.shape:
            raise ModelError(f"{source}: layer {layer!r} ({word}) has shape {value.shape}, its ONNX form {result.shape}")
        difference = deviation(result, value)
        if not difference <= TOLERANCE:
            raise ModelError(f"{source}: layer {layer!r} ({word}) is the first that differs from its ONNX form, by {difference:.3g}")
        layers.append(Layer(layer, word, tensor, tuple(value.shape), difference))
    return Conversion(model, Report(source, kind, layers, list(notes)))


def deviation(result: Array, value: Array) -> float:
    """The largest difference from the exact value; see `Layer.difference`."""
    if not value.size:
        return 0.0
    exact = value.astype(np.float64)
    with np.errstate(invalid="ignore"):
        return float(np.abs(result.astype(np.float64) - exact).max() / max(1.0, np.abs(exact).max()))
