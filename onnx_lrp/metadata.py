"""What an ONNX model's metadata says of how its pictures are prepared: converters write it, `onnx-lrp explain` goes by it."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final

from onnx_lrp.errors import InputError
from onnx_lrp.preprocess import PRESETS, Preprocess

if TYPE_CHECKING:
    from onnx_lrp.preprocess import Shape

__all__ = ["CAFFE", "PREPROCESS", "for_model", "recorded", "stated"]

PREPROCESS: Final = "onnx_lrp.preprocess"
"""The key: its value is a JSON object with the fields of `Preprocess` that are known."""
CAFFE: Final = "onnx_lrp.caffe_layers"
"""The key of Caffe's list of layers: a JSON list with [name, kind, tensors read, tensors made] of each, in Caffe's own numbering."""
_NUMBERS: Final = ("scale", "mean", "std")


def recorded(fields: Mapping[str, Any]) -> dict[str, str]:
    """The entry for an ONNX model's metadata that says how its pictures are prepared; only what is known, so it may be empty.

    Raises:
        InputError: A field is unknown or of the wrong type.
    """
    Preprocess.from_fields(dict(fields), PREPROCESS)
    return {PREPROCESS: json.dumps(dict(fields))} if fields else {}


def stated(metadata: Mapping[str, str]) -> dict[str, Any]:
    """The fields of a preprocessing that an ONNX model's metadata states.

    Raises:
        InputError: The entry is no JSON object, or a field is unknown or of the wrong type.
    """
    if PREPROCESS not in metadata:
        return {}
    where = f"the model's metadata {PREPROCESS!r}"
    try:
        fields = json.loads(metadata[PREPROCESS])
    except (ValueError, RecursionError) as error:
        raise InputError(f"{where} is not JSON: {error}") from None
    Preprocess.from_fields(fields, where)
    return dict(fields)


def for_model(metadata: Mapping[str, str], shape: Shape | None) -> tuple[Preprocess, str]:
    """How a model's pictures are prepared if nobody says: as its metadata states, and where that is silent as is usual.

    Args:
        metadata: The ONNX model's metadata.
        shape: The shape of the model's input.

    Returns:
        The preprocessing, fitted to the shape, and what of it is a guess: "" if the metadata states the numbers.

    Raises:
        InputError: The model takes no pictures, or its metadata is wrong.
    """
    fields = stated(metadata)
    if any(name in fields for name in _NUMBERS):
        return Preprocess(**fields).fit(shape), ""
    if fields.get("channels") == "BGR":
        return dataclasses.replace(PRESETS["caffe"], **fields).fit(shape), "prepared as for Caffe's ImageNet models"
    fitted = dataclasses.replace(PRESETS["imagenet"], **fields).fit(shape)
    if fitted.count == 1:
        return dataclasses.replace(PRESETS["unit"], **fields).fit(shape), "scaled to 0 to 1"
    return fitted, "prepared as for ImageNet models"
