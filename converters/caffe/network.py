"""Reading a network: its description (.prototxt), in both forms that Caffe has had, and its weights (.caffemodel)."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from math import prod
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from google.protobuf import message, text_format
from numpy.typing import NDArray

from onnx_lrp.errors import ModelError, suggest

from ..conversion import LAYERS
from .schema import LayerParameter, NetParameter

if TYPE_CHECKING:
    Array = NDArray[Any]
    Shape = tuple[int, ...]

__all__ = ["Layer", "Network", "blob_values", "give_weights", "is_description", "is_weights", "read_network", "read_weights"]

_LONGEST: Final = 2 * 2**20
"""Bytes of a network's description; that of a ResNet-152 has less than a tenth of it."""
_MOST: Final = 2**26
"""Numbers that an input, and so the tensor of a layer, may have."""
_LAYERS: Final = re.compile(rb"(?:^|[\s}])layers?\s*(?::\s*)?\{")
_V1: Final = {
    "ABSVAL": "AbsVal", "BNLL": "BNLL", "CONCAT": "Concat", "CONVOLUTION": "Convolution", "DECONVOLUTION": "Deconvolution",
    "DROPOUT": "Dropout", "ELTWISE": "Eltwise", "EXP": "Exp", "FLATTEN": "Flatten", "INNER_PRODUCT": "InnerProduct", "LRN": "LRN",
    "POOLING": "Pooling", "POWER": "Power", "RELU": "ReLU", "SIGMOID": "Sigmoid", "SILENCE": "Silence", "SLICE": "Slice",
    "SOFTMAX": "Softmax", "SPLIT": "Split", "TANH": "TanH",
}  # fmt: skip
"""The older form's names of kinds of layers; others keep that name, which is then reported as not supported."""


@dataclass
class Layer:
    """A layer of a network, in the newer form."""

    name: str
    kind: str
    bottoms: list[str]
    tops: list[str]
    parameters: Any
    """The LayerParameter message."""
    blobs: list[Array] = field(default_factory=list)
    """The weights, as they are in the file."""


@dataclass
class Network:
    """A network as its description has it."""

    name: str
    inputs: dict[str, Shape]
    """The shape of each input, with the batch axis."""
    layers: list[Layer]
    input_layers: int = 0
    """How many layers of Caffe's own list only declare the inputs."""


def is_description(head: bytes) -> bool:
    """Whether a file's first bytes are those of a .prototxt with layers."""
    return b"\0" not in head and _LAYERS.search(head) is not None


def is_weights(path: Path, head: bytes) -> bool:
    """Whether a file is a .caffemodel: it starts with the name or with a layer, and is a network as a whole."""
    if head[:1] not in (b"\x0a", b"\x12", b"\xa2"):
        return False
    try:
        return bool(read_weights(path))
    except ModelError:
        return False


def read_network(path: Path) -> Network:
    """Read a description.

    Raises:
        ModelError: It is no such text, has an unknown field, or does not say what goes in.
    """
    try:
        data = path.read_bytes()
    except OSError as error:
        raise ModelError(f"cannot read {path}: {error.strerror or error}") from None
    if len(data) > _LONGEST:
        raise ModelError(f"{path} is too large for the description of a network ({len(data):,} bytes)")
    net = NetParameter()
    try:
        text_format.Parse(data.decode("utf-8-sig"), net)
    except UnicodeDecodeError:
        raise ModelError(f"{path} is not a text file") from None
    except text_format.ParseError as error:
        line = f", line {error.GetLine()}" if error.GetLine() else ""
        reason = re.sub(r"^[\d:\s]+", "", " ".join(str(error).split()))[:200]
        raise ModelError(f"{path}{line}: {reason} (a network for inference is expected, as a deploy.prototxt is)") from None
    except (ValueError, RecursionError) as error:
        raise ModelError(f"{path}: {' '.join(str(error).split())[:200]}") from None
    found = [_layer(entry, str(path)) for entry in _used(net)]
    if len(found) > LAYERS:
        raise ModelError(f"{path} has {len(found)} layers, more than the {LAYERS} that are read")
    inputs = _declared(net, str(path))
    layers = [layer for layer in found if layer.kind != "Input"]
    for layer in found:
        if layer.kind != "Input":
            continue
        shapes = layer.parameters.input_param.shape
        if len(shapes) not in (1, len(layer.tops)):
            raise ModelError(f"{path}: the layer {layer.name!r} gives no shape for its input")
        inputs |= {top: tuple(shapes[min(index, len(shapes) - 1)].dim) for index, top in enumerate(layer.tops)}
    if not inputs:
        raise ModelError(f"{path} has no input: a network for inference is expected, as a deploy.prototxt is, not one for training")
    if not layers:
        raise ModelError(f"{path} has no layers")
    for name, shape in inputs.items():
        if not shape or min(shape) < 1 or prod(shape[1:]) > _MOST:
            raise ModelError(f"{path}: the input {name!r} has the shape {list(shape)[:8]}")
    return Network(net.name, inputs, layers, len(found) - len(layers))


def _declared(net: Any, where: str) -> dict[str, Shape]:
    """The inputs that are fields of the network, not layers."""
    if not net.input:
        return {}
    if len(net.input_shape) == len(net.input):
        return {name: tuple(shape.dim) for name, shape in zip(net.input, net.input_shape, strict=True)}
    if len(net.input_dim) == 4 * len(net.input):
        return {name: tuple(net.input_dim[4 * index : 4 * index + 4]) for index, name in enumerate(net.input)}
    raise ModelError(f"{where} does not give each of its {len(net.input)} inputs a shape")


def _used(net: Any) -> Iterable[Any]:
    """The layers of the phase TEST."""
    for entry in net.layer or net.layers:
        rules = entry.include or entry.exclude
        if not rules or any(map(_holds, rules)) == bool(entry.include):
            yield entry


def _holds(rule: Any) -> bool:
    test = not rule.HasField("phase") or rule.phase == 1
    levels = (not rule.HasField("min_level") or rule.min_level <= 0) and (not rule.HasField("max_level") or rule.max_level >= 0)
    return test and levels and not rule.stage


def _layer(entry: Any, where: str) -> Layer:
    """A layer in the newer form; the older one's parameters have the same names."""
    kind = entry.type
    if not isinstance(kind, str):
        kind = entry.DESCRIPTOR.fields_by_name["type"].enum_type.values_by_number[kind].name
        kind = _V1.get(kind, kind)
    if not kind or not entry.name:
        raise ModelError(f"{where}: a layer without {'a type' if entry.name else 'a name'}: {entry.name or kind!r}")
    parameters = LayerParameter(name=entry.name, type=kind)
    for descriptor, value in entry.ListFields():
        if descriptor.name.endswith("_param"):
            getattr(parameters, descriptor.name).CopyFrom(value)
    return Layer(entry.name, kind, list(entry.bottom), list(entry.top), parameters)


def read_weights(path: Path) -> dict[str, list[Array]]:
    """Read a .caffemodel.

    Returns:
        The arrays of each layer that has some.

    Raises:
        ModelError: The file is no such file, or cut off, or an array does not have the numbers that its shape promises.
    """
    net = NetParameter()
    try:
        net.ParseFromString(path.read_bytes())
    except OSError as error:
        raise ModelError(f"cannot read {path}: {error.strerror or error}") from None
    except (message.DecodeError, ValueError):
        raise ModelError(f"{path} holds no weights of Caffe, or is cut off") from None
    found = {}
    for entry in (*net.layer, *net.layers):
        if entry.blobs:
            name = str(entry.name)
            found[name] = [blob_values(blob, f"{path}: layer {name!r}") for blob in entry.blobs]
    if not found:
        raise ModelError(f"{path} holds no weights of Caffe")
    return found


def blob_values(blob: Any, where: str) -> Array:
    """The array in a BlobProto: its numbers are counted before the shape is believed.

    Raises:
        ModelError: They are not as many as the shape says, or some are not finite.
    """
    raw, dtype = (blob.double_data, "<f8") if blob.double_data else (blob.data, "<f4")
    shape = tuple(blob.shape.dim) if blob.HasField("shape") else (blob.num, blob.channels, blob.height, blob.width)
    if any(length < 0 for length in shape) or len(raw) != prod(shape) * np.dtype(dtype).itemsize:
        raise ModelError(f"{where}: an array of shape {list(shape)[:8]} has {len(raw) // np.dtype(dtype).itemsize:,} numbers")
    with np.errstate(over="ignore"):
        values = np.frombuffer(raw, dtype).astype(np.float32)
    if not np.isfinite(values).all():
        raise ModelError(f"{where} has weights that are not finite")
    return values.reshape(shape)


def give_weights(network: Network, weights: Mapping[str, list[Array]], where: str) -> None:
    """Put the weights into the layers, by name.

    Raises:
        ModelError: A layer that needs weights has none.
    """
    for layer in network.layers:
        layer.blobs = weights.get(layer.name, [])
        if not layer.blobs and layer.kind in _WEIGHTED and not (layer.kind in ("Scale", "Bias") and len(layer.bottoms) > 1):
            raise ModelError(f"{where} has no weights for the layer {layer.name!r}{suggest(layer.name, weights)}")


_WEIGHTED: Final = ("Convolution", "Deconvolution", "InnerProduct", "BatchNorm", "Scale", "Bias", "PReLU")
