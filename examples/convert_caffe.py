"""Convert a Caffe network and explain it, as lrp_toolbox's Caffe extension would.

    python examples/convert_caffe.py -o converted

writes a small network as ``deploy.prototxt`` and ``net.caffemodel`` with a mean file, turns it into ``net.onnx``, compares both layer by
layer, and draws what the predictions for six digits rest on, by four of the extension's formulas (``caffe.png``).
"""

import argparse
from pathlib import Path
from typing import Any

import numpy as np

from onnx_lrp import Explainer
from onnx_lrp.converters import convert
from onnx_lrp.converters.caffe.schema import BlobProto, NetParameter
from onnx_lrp.converters.forward import convolution, pad, windows
from onnx_lrp.demo import load
from onnx_lrp.image import channel_sum, contact_sheet, imsave

DIGITS = 6
FORMULAS: list[tuple[str, dict[str, Any]]] = [
    ("caffe_0", {"epsilon": 1.0}),
    ("caffe_100", {"epsilon": 1.0, "beta": 1.0}),
    ("caffe_104", {"epsilon": 1.0, "beta": 1.0}),
    ("caffe_166", {}),
]
NETWORK = """
name: "digits"
input: "data"
input_shape { dim: 1 dim: 1 dim: 16 dim: 16 }
layer { name: "conv1" type: "Convolution" bottom: "data" top: "conv1" convolution_param { num_output: 12 kernel_size: 5 pad: 2 } }
layer { name: "relu1" type: "ReLU" bottom: "conv1" top: "conv1" }
layer { name: "pool1" type: "Pooling" bottom: "conv1" top: "pool1" pooling_param { pool: MAX kernel_size: 2 stride: 2 } }
layer { name: "fc" type: "InnerProduct" bottom: "pool1" top: "fc" inner_product_param { num_output: 10 } }
layer { name: "prob" type: "Softmax" bottom: "fc" top: "prob" }
"""


def fill(blob: Any, values: np.ndarray) -> None:
    blob.shape.dim.extend(values.shape)
    blob.data = values.astype("<f4").tobytes()


def weights(pixels: np.ndarray, labels: np.ndarray) -> Any:
    """Random filters, and a dense layer fitted to the digits; pixels of shape (N, 1, 16, 16)."""
    filters = np.random.default_rng(0).normal(0, 0.02, (12, 1, 5, 5))
    seen = np.maximum(convolution(pad(pixels, (2, 2), (2, 2)), filters, None, (1, 1)), 0)
    features = windows(seen, (2, 2), (2, 2)).max((-1, -2)).reshape(len(pixels), -1)
    dense = features.T @ np.linalg.solve(features @ features.T + np.eye(len(pixels)), np.eye(10)[labels] * 10)  # ridge regression
    net = NetParameter(name="digits")
    for name, values in (("conv1", filters), ("fc", dense.T)):
        layer = net.layer.add(name=name)
        fill(layer.blobs.add(), values)
        fill(layer.blobs.add(), np.zeros(len(values)))
    return net


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("-o", "--output", type=Path, default=Path("converted"), help="the folder for the files")
    folder = parser.parse_args().output
    folder.mkdir(parents=True, exist_ok=True)
    _, images, labels = load()
    pixels = images.astype(np.float64) * 255
    mean = pixels.mean(0)
    blob = BlobProto()
    fill(blob, mean)
    (folder / "mean.binaryproto").write_bytes(blob.SerializeToString())
    (folder / "deploy.prototxt").write_text(NETWORK)
    (folder / "net.caffemodel").write_bytes(weights(pixels - mean.mean(), labels).SerializeToString())

    conversion = convert(folder / "deploy.prototxt", weights=folder / "net.caffemodel", mean=folder / "mean.binaryproto")
    conversion.save(folder / "net.onnx")
    for layer in conversion.report.layers:
        print(f"{layer.name:6} {layer.kind:12} {layer.shape!s:18} differs by {layer.difference:.1e}")

    x = (pixels[:DIGITS] - mean.mean()).astype(np.float32)
    columns = [np.rint(pixels[:DIGITS, 0]).astype(np.uint8)]
    for composite, options in FORMULAS:
        explanation = Explainer(folder / "net.onnx", composite, providers="cpu", **options).explain(x)
        columns.append(channel_sum(explanation.relevance, "NCHW"))
    rows = [[column[row] for column in columns] for row in range(DIGITS)]
    titles = ["digit", *(composite for composite, _ in FORMULAS)]
    imsave(folder / "caffe.png", contact_sheet(rows, row_titles=[f"a {label}" for label in labels[:DIGITS]], column_titles=titles, cell=96))
    print(f"recognised as {explanation.target.tolist()}, drawn in {folder / 'caffe.png'}")


if __name__ == "__main__":
    main()
