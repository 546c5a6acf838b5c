"""Turn a model of PyTorch, Keras, lrp_toolbox or Caffe into ONNX, and compare both on the same input.

Code within a file is never run; module:function is. The order of the channels, the mean and the like go into the ONNX file; explain
uses them.

Example: onnx-lrp convert deploy.prototxt --weights net.caffemodel --mean mean.binaryproto -o net.onnx
"""

from __future__ import annotations

from pathlib import Path

from onnx_lrp.cli.arguments import FILES
from onnx_lrp.cli.parser import Argument, Namespace
from onnx_lrp.cli.values import Choice

__all__ = ["ARGUMENTS", "run"]

_SOURCE = "What the source does not say"

ARGUMENTS = (
    Argument("source", metavar="SOURCE", type=Path, help="The model: a file, a folder, or module:function."),
    Argument(
        "--from",
        metavar="KIND",
        dest="kind",
        under=_SOURCE,
        help="lrp_toolbox, caffe, pytorch or keras. Default: what the content says.",
    ),
    Argument(
        "--preprocess",
        metavar="NAME",
        under=_SOURCE,
        help="How the model wants its pictures, as for explain; kept in the model. Default: what the source says.",
    ),
    Argument("--input-size", metavar="SIZES", under=_SOURCE, help="lrp_toolbox, Caffe: the input's size without batch, such as 32,32,1."),
    Argument(
        "--input-shape",
        metavar="SHAPE",
        action="append",
        under=_SOURCE,
        help="PyTorch, Keras: an input's shape with the batch, such as 1,3,224,224 or 1,16:int64; again for each further input.",
    ),
    Argument(
        "--weights",
        metavar="FILE",
        type=Path,
        under=_SOURCE,
        help="Caffe: the .caffemodel. PyTorch: the state dict for module:function. Keras: the .h5 for an architecture in JSON.",
    ),
    Argument("--mean", metavar="FILE", type=Path, under=_SOURCE, help="Caffe: the mean picture, .binaryproto or .npy."),
    Argument(
        "--flatten-order",
        type=Choice("C", "F", any_case=True),
        under=_SOURCE,
        help="lrp_toolbox: F for models that MATLAB trained, else C. Default: F for .mat files.",
    ),
    Argument("--same-padding", action="store_true", under=_SOURCE, help="lrp_toolbox: keras_txt files of convolutions that pad."),
    Argument("--relu-after-conv", action="store_true", under=_SOURCE, help="lrp_toolbox: keras_txt files without their ReLUs."),
    Argument(
        "-o",
        "--out",
        metavar="FILE",
        type=Path,
        under=FILES,
        help="The .onnx file to write; with the suffix .txt lrp_toolbox's text. Default: the source's name with .onnx.",
    ),
)


def run(given: Namespace) -> int:
    """Convert a model, and write it."""
    from onnx_lrp.commands.convert import run, sizes

    options = {
        "input_size": given.input_size and sizes(given.input_size),
        "input_shape": given.input_shape,
        "weights": given.weights,
        "mean": given.mean,
        "flatten_order": given.flatten_order,
        "same_padding": given.same_padding,
        "relu_after_conv": given.relu_after_conv,
    }
    run(given.source, given.out, given.kind, given.preprocess, {name: value for name, value in options.items() if value})
    return 0
