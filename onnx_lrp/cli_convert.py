"""The command onnx-lrp convert, as the command line declares it."""

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

__all__ = ["convert"]

_SOURCE, _FILES = "What the source does not say", "Files"


class FlattenOrder(StrEnum):
    """How an lrp_toolbox model goes through a picture when it flattens it."""

    C = "C"
    F = "F"


def convert(
    source: Annotated[Path, typer.Argument(metavar="SOURCE", help="The model: a file, a folder, or module:function.", show_default=False)],
    to: Annotated[
        Path | None,
        typer.Option(
            "-o",
            "--out",
            metavar="FILE",
            rich_help_panel=_FILES,
            help="The .onnx file to write; with the suffix .txt lrp_toolbox's text. Default: the source's name with .onnx.",
        ),
    ] = None,
    kind: Annotated[
        str | None,
        typer.Option(
            "--from",
            metavar="KIND",
            help="lrp_toolbox, caffe, pytorch or keras. Default: what the content says.",
            rich_help_panel=_SOURCE,
        ),
    ] = None,
    preprocess: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            rich_help_panel=_SOURCE,
            help="How the model wants its pictures, as for explain; kept in the model. Default: what the source says.",
        ),
    ] = None,
    input_size: Annotated[
        str | None,
        typer.Option(metavar="SIZES", help="lrp_toolbox, Caffe: the input's size without batch, such as 32,32,1.", rich_help_panel=_SOURCE),
    ] = None,
    input_shape: Annotated[
        list[str] | None,
        typer.Option(
            metavar="SHAPE",
            help="PyTorch, Keras: an input's shape with the batch, such as 1,3,224,224 or 1,16:int64; again for each further input.",
            rich_help_panel=_SOURCE,
        ),
    ] = None,
    weights: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="Caffe: the .caffemodel. PyTorch: the state dict for module:function. Keras: the .h5 for an architecture in JSON.",
            rich_help_panel=_SOURCE,
        ),
    ] = None,
    mean: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Caffe: the mean picture, .binaryproto or .npy.", rich_help_panel=_SOURCE)
    ] = None,
    flatten_order: Annotated[
        FlattenOrder | None,
        typer.Option(
            help="lrp_toolbox: F for models that MATLAB trained, else C. Default: F for .mat files.",
            rich_help_panel=_SOURCE,
            show_default=False,
            case_sensitive=False,
        ),
    ] = None,
    same_padding: Annotated[
        bool, typer.Option("--same-padding", help="lrp_toolbox: keras_txt files of convolutions that pad.", rich_help_panel=_SOURCE)
    ] = False,
    relu_after_conv: Annotated[
        bool, typer.Option("--relu-after-conv", help="lrp_toolbox: keras_txt files without their ReLUs.", rich_help_panel=_SOURCE)
    ] = False,
) -> None:
    """Turn a model of PyTorch, Keras, lrp_toolbox or Caffe into ONNX, and compare both on the same input.

    Code within a file is never run; module:function is. The order of the channels, the mean and the like go into the ONNX file; explain
    uses them.

    Example: onnx-lrp convert deploy.prototxt --weights net.caffemodel --mean mean.binaryproto -o net.onnx
    """
    from onnx_lrp.commands.convert import run, sizes

    options = {
        "input_size": input_size and sizes(input_size),
        "input_shape": input_shape,
        "weights": weights,
        "mean": mean,
        "flatten_order": flatten_order and flatten_order.value,
        "same_padding": same_padding,
        "relu_after_conv": relu_after_conv,
    }
    run(source, to, kind, preprocess, {name: value for name, value in options.items() if value})
