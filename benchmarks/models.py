"""The measured networks by name, with random weights, and their export to ONNX.

zennit and captum attach their rules to modules. What computes a residual add is passed in (`add`), because each peer knows only its
own kind of add.
"""

from __future__ import annotations

import hashlib
import inspect
import tempfile
import warnings
from collections.abc import Callable
from pathlib import Path

import torch
from networks import blocks, weights
from networks.blocks import Add, PlainAdd
from networks.densenet import densenet121
from networks.efficientnet import efficientnet_b0
from networks.mlp import WIDTHS, mlp
from networks.mobilenet import mobilenet_v2
from networks.resnet import resnet50, resnet_small
from networks.squeezenet import squeezenet
from networks.unet import unet
from networks.vgg import vgg16
from torch import nn

OPSET = 18
CACHE = Path(tempfile.gettempdir()) / "onnx_lrp_benchmarks"
MODELS: dict[str, Callable[[int, Add], nn.Module]] = {
    make.__name__: make for make in (vgg16, resnet50, densenet121, mobilenet_v2, efficientnet_b0, squeezenet, unet, mlp, resnet_small)
}
MEASURED = tuple(name for name in MODELS if name != "resnet_small")


def sample_shape(name: str, size: int) -> tuple[int, ...]:
    """Shape of one input of the network called `name`; `size` is the height and width of images."""
    return WIDTHS[:1] if name == "mlp" else (3, size, size)


def build(name: str, size: int, seed: int, add: Add = PlainAdd) -> nn.Module:
    """The network called `name` in evaluation mode. The same seed gives the same weights, whatever `add` is."""
    model = MODELS[name](size, add)
    with torch.no_grad():
        weights.fill(model, torch.Generator().manual_seed(seed))
    return model.eval().requires_grad_(requires_grad=False)


def merge_batch_norms(model: nn.Module) -> nn.Module:
    """The same function with every BatchNorm behind a convolution merged into it, in place."""
    for layers in [module for module in model.modules() if isinstance(module, nn.Sequential)]:
        for position in reversed(range(1, len(layers))):
            convolution, norm = layers[position - 1], layers[position]
            if isinstance(convolution, nn.Conv2d) and isinstance(norm, nn.BatchNorm2d):
                layers[position - 1] = torch.nn.utils.fuse_conv_bn_eval(convolution, norm)
                del layers[position]
    return model


def source_of(name: str) -> str:
    """A key of the code that the network called `name` is made by."""
    files = [inspect.getfile(MODELS[name]), blocks.__file__, weights.__file__]
    return hashlib.sha256(b"".join(Path(file).read_bytes() for file in files)).hexdigest()[:12]


def export(name: str, size: int, seed: int, *, fresh: bool = False) -> Path:
    """Path of the network as one ONNX file with a free batch axis, kept in CACHE. BatchNorms stay nodes of their own."""
    path = CACHE / f"{name}-{size}-{seed}-{source_of(name)}-torch{torch.__version__.split('+')[0]}.onnx"
    if path.exists() and not fresh:
        return path
    CACHE.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_suffix(".unfinished")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the TorchScript exporter is deprecated; the newer one merges every BatchNorm unasked
        torch.onnx.export(
            build(name, size, seed), (torch.zeros(2, *sample_shape(name, size)),), unfinished, dynamo=False, opset_version=OPSET,
            training=torch.onnx.TrainingMode.PRESERVE, input_names=["image"], output_names=["scores"],
            dynamic_axes={"image": {0: "batch"}, "scores": {0: "batch"}},
        )  # fmt: skip
    return unfinished.rename(path)
