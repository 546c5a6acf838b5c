"""From a Caffe network to an ONNX model."""

from __future__ import annotations

import json
from collections.abc import Mapping
from math import prod
from typing import Final, NamedTuple

import onnx

from onnx_lrp.errors import ModelError, suggest
from onnx_lrp.metadata import CAFFE

from ..builder import Builder
from .network import Layer, Network
from .pooling import lrn, pooling, softmax
from .simple import concat, eltwise, elu, flatten, plain, power, relu, reshape, same, slices
from .tensors import Emit, Tensor
from .weighted import batch_norm, bias, convolution, inner_product, prelu, scale

__all__ = ["LAYERS", "Placed", "numbered", "to_onnx"]

_MOST: Final = 2**26
"""Elements of a tensor, for one sample."""

LAYERS: Final[dict[str, Emit]] = {
    "AbsVal": plain("Abs"), "BNLL": plain("Softplus"), "BatchNorm": batch_norm, "Bias": bias, "Concat": concat,
    "Convolution": convolution, "Deconvolution": convolution, "Dropout": same, "ELU": elu, "Eltwise": eltwise, "Flatten": flatten,
    "InnerProduct": inner_product, "LRN": lrn, "PReLU": prelu, "Pooling": pooling, "Power": power, "ReLU": relu,
    "Reshape": reshape, "Scale": scale, "Sigmoid": plain("Sigmoid"), "Silence": same, "Slice": slices, "Softmax": softmax,
    "Split": same, "TanH": plain("Tanh"),
}  # fmt: skip
"""The kinds of layers that are supported."""


class Placed(NamedTuple):
    """A layer and its tensors."""

    layer: Layer
    inputs: list[Tensor]
    outputs: list[Tensor]


def numbered(network: Network, placed: list[Placed]) -> list[tuple[str, str, list[str], list[str]]]:
    """Caffe's own list of layers: (name, kind, tensors read, tensors made).

    Caffe puts a layer Split behind each layer whose top has several readers, and behind the inputs. An input that is a layer counts.
    """
    readers: dict[str, int] = {}
    makers: dict[str, int] = dict.fromkeys(network.inputs, -1)
    split: dict[int, list[str]] = {}  # layer -> its tops that have several readers
    for index, layer in enumerate(network.layers):
        for bottom in layer.bottoms:
            readers[bottom] = readers.get(bottom, 0) + 1
            if readers[bottom] == 2:
                split.setdefault(makers[bottom], []).append(bottom)
        for top in layer.tops:
            makers[top], readers[top] = index, 0
    tensors = {-1: {name: name for name in network.inputs}}
    tensors |= {index: dict(zip(layer.tops, (y.name for y in ys), strict=True)) for index, (layer, _, ys) in enumerate(placed)}
    found: list[tuple[str, str, list[str], list[str]]] = [("", "Input", [], list(network.inputs))] * network.input_layers
    for index in range(-1, len(placed)):
        if index >= 0:
            layer, inputs, outputs = placed[index]
            found.append((layer.name, layer.kind, [x.name for x in inputs], [y.name for y in outputs]))
        found.extend(("", "Split", [tensors[index][blob]], [tensors[index][blob]]) for blob in split.get(index, []))
    return found


def to_onnx(network: Network, metadata: Mapping[str, str], where: str) -> tuple[onnx.ModelProto, list[Placed]]:
    """The ONNX model, and what became of each layer. Nodes have the layers' names, tensors those of the tops.

    Raises:
        ModelError: A layer is not supported, or does not fit its inputs.
    """
    b = Builder()
    current = {name: Tensor(b.tensor(name), shape) for name, shape in network.inputs.items()}
    inputs = {tensor.name: tensor.shape[1:] for tensor in current.values()}
    placed, unread = [], dict.fromkeys(current, False)
    for layer in network.layers:
        for bottom in layer.bottoms:
            if bottom not in current:
                raise ModelError(f"{where}: layer {layer.name!r} reads {bottom!r}, which no layer before it makes")
            unread.pop(bottom, None)
        found = [current[bottom] for bottom in layer.bottoms]
        try:
            outputs = _emit(b, layer, found)
        except ModelError as error:
            raise ModelError(f"{where}: {error}") from None
        placed.append(Placed(layer, found, outputs))
        current |= dict(zip(layer.tops, outputs, strict=True))
        unread |= dict.fromkeys(layer.tops, True)
    ends = {current[top].name: current[top].shape[1:] for top, made in unread.items() if made}
    if not ends or ends.keys() & inputs.keys():
        raise ModelError(f"{where}: the network has no output, or one that is its input")
    known = {**metadata, CAFFE: json.dumps(numbered(network, placed))}
    return b.model(network.name or "caffe", inputs, ends, known), placed


def _emit(b: Builder, layer: Layer, inputs: list[Tensor]) -> list[Tensor]:
    label = f"layer {layer.name!r} ({layer.kind})"
    if layer.kind not in LAYERS:
        raise ModelError(f"{label} is not supported{suggest(layer.kind, LAYERS)}")
    if not inputs or (len(layer.tops) != 1 and layer.kind not in ("Slice", "Split", "Silence")):
        raise ModelError(f"{label} has {len(inputs)} bottoms and {len(layer.tops)} tops")
    if len(inputs) > 1 and layer.kind not in ("Concat", "Eltwise", "Scale", "Bias", "Silence"):
        raise ModelError(f"{label} has {len(inputs)} bottoms instead of one")
    # what works in place writes over its bottom; its tensor then has the layer's name
    top = layer.name if layer.tops and layer.tops[0] in layer.bottoms else (layer.tops or [""])[0]
    outputs = LAYERS[layer.kind](b, layer, inputs, top)
    for _, shape in outputs:
        if min(shape) < 1 or prod(shape[1:]) > _MOST:
            raise ModelError(f"{label} would have the shape {list(shape)}")
    return outputs
