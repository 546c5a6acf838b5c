"""Models of lrp_toolbox (Python and MATLAB): text, pickles and MAT files to ONNX, and sequential ONNX models to text.

The format: S. Lapuschkin et al., *The LRP toolbox for artificial neural networks*, JMLR 17 (2016).
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Final, Literal

import numpy as np

from onnx_lrp.errors import InputError, ModelError
from onnx_lrp.metadata import recorded

from ..conversion import LAYERS, Conversion, checked
from . import matfile, matlab, pickled, text
from .layers import Convolution, Flatten, Layer
from .network import INPUT, forward, to_onnx
from .shapes import input_shape, repaired, shapes
from .writer import write

__all__ = ["convert", "read", "recognise", "write"]

_PICKLE: Final = b"\x80"
_SAMPLES: Final = 2
_FORMATS: Final = {"text": text.read, "pickle": pickled.read, "MATLAB": matlab.read}


def recognise(path: Path, head: bytes) -> bool:
    """Whether a file is a text model, a pickle that refers to lrp_toolbox's modules, or a MAT file of version 5."""
    return path.is_file() and _format(head) is not None


def _format(head: bytes) -> str | None:
    if head.startswith(matfile.HEADER):
        return "MATLAB"
    if head.startswith(_PICKLE):
        return "pickle" if b"modules" in head and b"Sequential" in head else None
    return "text" if text.HEADER.match(head.split(b"\n", 1)[0].rstrip()) else None


def read(path: Path) -> tuple[str, list[Layer]]:
    """Read a model file.

    Returns:
        What the file is ("text", "pickle" or "MATLAB"), and the layers.

    Raises:
        ModelError: The file is missing or not in one of the formats.
    """
    try:
        data = path.read_bytes()
    except OSError as error:
        raise ModelError(f"cannot read {path}: {error.strerror or error}") from None
    kind = _format(data[:4096]) or ("pickle" if data.startswith(_PICKLE) else "text")
    layers = _FORMATS[kind](data, str(path))
    if len(layers) > LAYERS:
        raise ModelError(f"{path} has {len(layers)} layers, more than the {LAYERS} that are read")
    return kind, layers


def convert(
    path: Path,
    *,
    input_size: Sequence[int] | None = None,
    flatten_order: Literal["C", "F"] | None = None,
    same_padding: bool = False,
    relu_after_conv: bool = False,
) -> Conversion:
    """Convert a model file of lrp_toolbox.

    Args:
        path: The file: text, pickle or MAT.
        input_size: The input's shape without the batch axis: (height, width, channels), or (features,). None: what fits the layers.
        flatten_order: How Flatten goes through a picture: "C", the channels fastest, as lrp_toolbox for Python; "F", the rows fastest,
            as that for MATLAB. It matters where a picture of more than one pixel is flattened. None: "F" for MAT files, else "C".
        same_padding: Whether all convolutions have Keras's "same" padding, which a keras_txt export does not say.
        relu_after_conv: Whether a ReLU follows each convolution, which a keras_txt export leaves out.

    Raises:
        InputError: An impossible option.
        ModelError: The file is broken, its layers do not fit each other, or the ONNX model differs from it.
    """
    if flatten_order not in ("C", "F", None):
        raise InputError(f"the order of Flatten is C or F, not {flatten_order!r}")
    kind, layers = read(path)
    order = flatten_order or ("F" if kind == "MATLAB" else "C")
    layers = repaired(layers, same_padding=same_padding, relu_after_conv=relu_after_conv)
    shape = input_shape(layers, str(path)) if input_size is None else tuple(int(length) for length in input_size)
    if len(shape) not in (1, 3) or min(shape) < 1 or np.prod(shape, dtype=float) > 2**26:
        raise InputError(f"the input's size is (height, width, channels) or (features,), not {shape}")
    around = [shape, *shapes(layers, shape, str(path))]
    notes = _notes(layers, around, order, given=input_size is not None, chosen=flatten_order is not None)
    metadata = recorded({"layout": "NHWC"} if len(shape) == 3 else {})
    model = to_onnx(layers, around, order, metadata)
    x = np.random.default_rng(0).uniform(-1, 1, (_SAMPLES, *shape)).astype(np.float32)
    return checked(model, path, f"lrp_toolbox ({kind})", {INPUT: x}, forward(layers, around, order, x), notes)


def _notes(layers: Sequence[Layer], around: Sequence[tuple[int, ...]], order: str, *, given: bool, chosen: bool) -> list[str]:
    notes = []
    if len(around[0]) == 3:
        size = " x ".join(map(str, around[0]))
        found = "" if given else ", the smallest square picture that fits (--input-size gives another)"
        notes.append(f"the input is (N, height, width, channels) with {size}{found}")
    spread = [before for layer, before in zip(layers, around, strict=False) if isinstance(layer, Flatten) and len(before) == 3]
    if not chosen and any(before[0] * before[1] > 1 for before in spread):
        systems = {"C": ("channels", "Python", "MATLAB", "F"), "F": ("rows", "MATLAB", "Python", "C")}
        fastest, own, other, option = systems[order]
        notes.append(
            f"Flatten goes through pictures with the {fastest} fastest, as in {own}; a model from {other} needs --flatten-order {option}"
        )
    if any(isinstance(layer, Convolution) and layer.same for layer in layers):
        notes.append("all convolutions have the padding of Keras's 'same'")
    return notes
