"""Keras models to ONNX: .keras, HDF5, architecture and weights apart, and TensorFlow's SavedModel. Keras 3 with any backend."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, Final

from onnx_lrp.errors import InputError, ModelError
from onnx_lrp.metadata import PREPROCESS, recorded

from ..conversion import Conversion
from ..frameworks import quiet, reason, require
from ..inputs import Shape, parse, random, tensors
from .sources import kind_of, load, output_names, use_keras

__all__ = ["convert", "recognise"]

_SAMPLES: Final = 3


def recognise(path: Path, head: bytes) -> bool:
    """Whether a source is a Keras model, the weights of one, or a SavedModel."""
    return kind_of(path, head) is not None


def convert(
    source: Any,
    *,
    input_shape: Iterable[str | Sequence[int]] | str | None = None,
    weights: str | os.PathLike[str] | None = None,
) -> Conversion:
    """Convert a Keras model.

    Args:
        source: A keras.Model, or a path: .keras, .h5 with the architecture inside, an architecture in JSON, or a SavedModel's folder.
        input_shape: Shapes with the batch first, one for each input, such as "1,224,224,3", where the model leaves lengths open.
        weights: The weights for an architecture in JSON.

    Returns:
        The model, with the inputs laid out as in Keras and an open batch, compared with Keras.

    Raises:
        InputError: A length of the input is not known, or an option does not fit.
        ModelError: Keras or its backend is missing; the source is broken, far larger than it should be or holds code; it cannot be
            exported, or differs from its ONNX form.
    """
    path = Path(source) if isinstance(source, (str, os.PathLike)) else None
    if path is not None and kind_of(path, b"") == "saved_model":
        from .with_tensorflow import convert_saved_model

        if weights is not None:
            raise InputError(f"{path} has its weights: --weights is for an architecture in JSON")
        return convert_saved_model(path, input_shape)
    keras = use_keras()
    model = source if path is None else load(path, None if weights is None else Path(weights))
    if not isinstance(model, keras.Model):
        raise InputError(f"a keras.Model or a path is expected, not {type(model).__name__}")
    where = path or Path(str(model.name))
    shapes = _shapes(model, input_shape, str(where))
    metadata = _preprocess(model, shapes)
    raw = '"scale"' in metadata.get(PREPROCESS, "")
    values = dict(zip(shapes, random(shapes.values(), pictures=raw), strict=True))
    backend = keras.backend.backend()
    if backend == "torch":
        return _with_torch(model, values, where, metadata)
    if backend == "tensorflow":
        from .with_tensorflow import convert_model

        return convert_model(model, values, where, metadata)
    raise ModelError(f"Keras computes with {backend} here: set the environment variable KERAS_BACKEND to torch or tensorflow")


def _shapes(model: Any, given: Iterable[str | Sequence[int]] | str | None, where: str) -> dict[str, Shape]:
    """The inputs by name: lengths with a batch of a few samples, and the type of the elements.

    Raises:
        InputError: A length is open and not given, or does not fit.
    """
    inputs = getattr(model, "inputs", None)
    if not inputs:
        raise InputError(f"{where} has not been built: call it once, or give it an Input layer")
    wanted = None if given is None else parse(given)
    if wanted is not None and len(wanted) != len(inputs):
        raise InputError(f"{where} has {len(inputs)} inputs, but {len(wanted)} shapes are given")
    shapes = {}
    for index, tensor in enumerate(inputs):
        lengths = (_SAMPLES, *tensor.shape[1:])
        if wanted is not None:
            new = wanted[index][0]
            if len(new) != len(lengths) or any(old not in (None, length) for old, length in zip(lengths[1:], new[1:], strict=True)):
                raise InputError(f"input {tensor.name!r} has shape {tuple(tensor.shape)}, which {new} does not fit")
            lengths = (_SAMPLES, *new[1:])
        if None in lengths:
            raise InputError(f"input {tensor.name!r} has shape {tuple(tensor.shape)}: give --input-shape, such as 1,224,224,3")
        kind = str(tensor.dtype)
        shapes[tensor.name] = (lengths, kind if kind in ("int32", "int64", "bool") else "float32")
    return shapes


def _preprocess(model: Any, shapes: dict[str, Shape]) -> dict[str, str]:
    """The layout, and that pictures are raw where the model begins with a layer that scales them."""
    (lengths, kind), *others = shapes.values()
    if others or len(lengths) != 4 or kind != "float32":
        return {}
    if lengths[3] not in (1, 3, 4):
        return recorded({"layout": "NCHW"}) if lengths[1] in (1, 3, 4) else {}
    fields: dict[str, Any] = {"layout": "NHWC"}
    first = next((layer for layer in model.layers if type(layer).__name__ != "InputLayer"), None)
    scale = getattr(first, "scale", None)
    if type(first).__name__ == "Rescaling" and isinstance(scale, (int, float)) and 0 < scale < 0.02:  # as 1/255 and 1/127.5
        fields["scale"] = 1.0
    return recorded(fields)


def _with_torch(model: Any, feeds: dict[str, Any], where: Path, metadata: dict[str, str]) -> Conversion:
    torch = require("pytorch", "torch", "onnxscript")
    from ..pytorch import compared
    from ..pytorch.export import export, outputs
    from ..transposes import fold_transposes
    from .with_torch import Flat, named_layers

    flat = Flat(model, output_names(model))
    values = tensors(feeds.values())
    with torch.no_grad():
        try:
            with quiet():
                names = list(outputs(flat(*values)))
        except Exception as error:
            raise ModelError(f"{where} fails on an input of shape {tuple(values[0].shape)}: {reason(error)}") from error
        with named_layers(flat, model):
            made = export(flat, values, list(feeds), names, str(where), fixed=False)
        made = made.replace(fold_transposes(made.model))
        return compared(flat, made, values, list(feeds), where, "Keras (with PyTorch)", metadata, [])
