"""Caffe networks: deploy.prototxt and .caffemodel to ONNX, with the mean file as preprocessing. Caffe is not needed."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from onnx_lrp.errors import InputError, ModelError
from onnx_lrp.metadata import recorded

from ..conversion import HEAD, Conversion, checked
from .emit import to_onnx
from .forward import forward
from .mean import read_mean
from .network import Network, give_weights, is_description, is_weights, read_network, read_weights

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["convert", "recognise"]


def recognise(path: Path, head: bytes) -> bool:
    """Whether a file is a network's description or its weights."""
    return path.is_file() and (is_description(head) or is_weights(path, head))


def convert(
    path: Path,
    *,
    weights: str | Path | None = None,
    mean: str | Path | None = None,
    input_size: Sequence[int] | None = None,
) -> Conversion:
    """Convert a Caffe network.

    Args:
        path: The description, a deploy.prototxt.
        weights: The .caffemodel.
        mean: The mean picture: .binaryproto, .npy, or the LRP extension's text. Its average for each channel goes into the model's
            metadata.
        input_size: (channels, height, width) of the input, in place of what the description says.

    Raises:
        InputError: The weights are missing, or an option does not fit.
        ModelError: A file is broken, a layer is not supported, or the ONNX model differs from the network.
    """
    with path.open("rb") as file:
        head = file.read(HEAD)
    if not is_description(head):
        if is_weights(path, head):
            raise InputError(f"{path} holds a network's weights: give its deploy.prototxt as the source, and this with --weights")
        raise ModelError(f"{path} is not the description of a Caffe network")
    network = read_network(path)
    if weights is None:
        raise InputError(f"{path} describes a network without its weights: give the .caffemodel with --weights")
    give_weights(network, read_weights(Path(weights)), str(weights))
    if input_size is not None:
        _resize(network, input_size)
    fields, notes = _preprocess(network, None if mean is None else Path(mean))
    model, placed = to_onnx(network, recorded(fields), str(path))
    rng = np.random.default_rng(0)
    # pictures of Caffe's own range: activations then have the size for which the network was made
    feeds = {name: rng.uniform(-120, 130, (1, *shape[1:])).astype(np.float32) for name, shape in network.inputs.items()}
    with np.errstate(over="ignore", invalid="ignore", divide="ignore"):
        return checked(model, path, "Caffe", feeds, forward(placed, feeds), notes)


def _resize(network: Network, size: Sequence[int]) -> None:
    if len(network.inputs) != 1:
        raise InputError(f"the network has {len(network.inputs)} inputs, so that one size says nothing")
    ((name, shape),) = network.inputs.items()
    if len(size) != len(shape) - 1 or min(size) < 1 or np.prod(size, dtype=float) > 2**26:
        raise InputError(f"the input's size is {len(shape) - 1} numbers above 0, channels first, not {list(size)}")
    network.inputs[name] = (shape[0], *(int(length) for length in size))


def _preprocess(network: Network, mean: Path | None) -> tuple[dict[str, Any], list[str]]:
    """What is known of how pictures are prepared: blue, green, red from 0 to 255, less the mean."""
    shape = next(iter(network.inputs.values()))
    if len(network.inputs) != 1 or len(shape) != 4 or shape[1] not in (1, 3):
        if mean is not None:
            raise InputError(f"a mean file needs a network with one input of pictures, not {list(network.inputs.values())}")
        return {}, []
    fields: dict[str, Any] = {"layout": "NCHW", "channels": "GRAY" if shape[1] == 1 else "BGR"}
    if mean is None:
        return fields, ["the mean picture is not known (--mean); explain takes off that of ImageNet unless told otherwise"] * (
            shape[1] == 3
        )
    picture = read_mean(mean)
    if len(picture) != shape[1]:
        raise InputError(f"{mean} has {len(picture)} channels, the network's input {shape[1]}")
    values: NDArray[Any] = picture.reshape(len(picture), -1).mean(1)
    notes = []
    if picture.ndim == 3:
        spread = float(np.abs(picture - values[:, None, None]).max())
        notes.append(f"of the mean picture the average of each channel is used; single pixels differ from it by up to {spread:.3g}")
    rounded = [round(float(value), 4) for value in values]
    return fields | {"scale": 1.0, "mean": rounded if len(rounded) > 1 else rounded[0]}, notes
