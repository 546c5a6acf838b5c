"""Caffe networks for tests: random weights for a description, and small descriptions."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from google.protobuf import text_format

from onnx_lrp.converters.caffe.schema import BlobProto, NetParameter


def fill(blob, values: np.ndarray, *, legacy: bool = False, double: bool = False) -> None:
    """Puts an array into a BlobProto; in the older form its shape has four axes, the first ones of length 1."""
    if double:
        blob.double_data = values.astype("<f8").tobytes()
    else:
        blob.data = values.astype("<f4").tobytes()
    if legacy:
        blob.num, blob.channels, blob.height, blob.width = (1,) * (4 - values.ndim) + values.shape
    else:
        blob.shape.dim.extend(values.shape)


def random_weights(text: str, features: dict[str, int], seed: int = 0) -> NetParameter:
    """Weights for the convolutions and dense layers of a description in the newer form.

    `features` has the number of inputs of dense layers whose input is not flat.
    """
    net = text_format.Parse(text, NetParameter())
    rng = np.random.default_rng(seed)
    channels = {name: shape.dim[1] for name, shape in zip(net.input, net.input_shape, strict=True)}
    weights = NetParameter(name=net.name)
    for layer in net.layer:
        inputs = [channels[bottom] for bottom in layer.bottom]
        outputs = sum(inputs) if layer.type == "Concat" else inputs[0]
        shape: tuple[int, ...] = ()
        if layer.type == "Convolution":
            p = layer.convolution_param
            outputs, shape = p.num_output, (p.num_output, inputs[0] // p.group, p.kernel_size[0], p.kernel_size[0])
        elif layer.type == "InnerProduct":
            outputs = layer.inner_product_param.num_output
            shape = (outputs, features.get(layer.name, inputs[0]))
        channels |= dict.fromkeys(layer.top, outputs)
        if shape:
            entry = weights.layer.add(name=layer.name, type=layer.type)
            fill(entry.blobs.add(), rng.normal(0, np.sqrt(2 / np.prod(shape[1:])), shape))
            fill(entry.blobs.add(), rng.normal(0, 0.1, outputs))
    return weights


def save_mean(path: Path, mean: np.ndarray) -> Path:
    blob = BlobProto()
    fill(blob, mean, legacy=True)
    path.write_bytes(blob.SerializeToString())
    return path


def write(folder: Path, text: str, weights) -> tuple[Path, Path]:
    """Writes a description and its weights."""
    (folder / "net.prototxt").write_text(text)
    (folder / "net.caffemodel").write_bytes(weights.SerializeToString())
    return folder / "net.prototxt", folder / "net.caffemodel"


SMALL = """
name: "small"
input: "data"
input_shape { dim: 2 dim: 3 dim: 14 dim: 13 }
layer { name: "conv1" type: "Convolution" bottom: "data" top: "conv1"
  convolution_param { num_output: 4 kernel_size: 3 stride: 2 pad: 1 weight_filler { type: "xavier" } } }
layer { name: "relu1" type: "ReLU" bottom: "conv1" top: "conv1" }
layer { name: "pool1" type: "Pooling" bottom: "conv1" top: "pool1" pooling_param { pool: MAX kernel_size: 2 stride: 2 } }
layer { name: "left" type: "Convolution" bottom: "pool1" top: "left" convolution_param { num_output: 2 kernel_size: 1 } }
layer { name: "right" type: "Convolution" bottom: "pool1" top: "right" convolution_param { num_output: 4 kernel_size: 3 pad: 1 group: 2 } }
layer { name: "both" type: "Concat" bottom: "left" bottom: "right" top: "both" }
layer { name: "drop" type: "Dropout" bottom: "both" top: "both" dropout_param { dropout_ratio: 0.4 } }
layer { name: "fc" type: "InnerProduct" bottom: "both" top: "fc" inner_product_param { num_output: 5 } }
layer { name: "prob" type: "Softmax" bottom: "fc" top: "prob" }
"""
SMALL_FEATURES = {"fc": 6 * 4 * 4}


def older(text: str) -> str:
    """A description in the older form of layers."""
    kinds = {"InnerProduct": "INNER_PRODUCT"}
    lines = text.replace("layer {", "layers {").split('type: "')
    return lines[0] + "".join(
        f"type: {kinds.get(kind, kind.upper())}{rest}" if kind[0].isupper() else f'type: "{kind}"{rest}'
        for kind, rest in (line.split('"', 1) for line in lines[1:])
    )
