"""The measured networks in plain torch.nn, with random weights, and their export to ONNX.

Every activation, pool and residual add is a module of its own, created in the order in which it runs: zennit and captum attach
their rules to modules. What computes a residual add is passed in (`add`), because each peer knows only its own kind of add.
"""

from __future__ import annotations

import hashlib
import itertools
import tempfile
import warnings
from collections.abc import Callable
from pathlib import Path

import torch
from torch import nn

Add = Callable[[], nn.Module]

OPSET = 18
CACHE = Path(tempfile.gettempdir()) / "onnx_lrp_benchmarks"
VGG16_STAGES = ((64, 64), (128, 128), (256, 256, 256), (512, 512, 512), (512, 512, 512))


class PlainAdd(nn.Module):
    """a + b."""

    def forward(self, a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:  # noqa: D102
        return a + b


class Flat(nn.Module):
    """The classifier on flat features. nn.Flatten itself is a module for which captum has no rule."""

    def __init__(self, classifier: nn.Module) -> None:
        super().__init__()
        self.classifier = classifier

    def forward(self, x: torch.Tensor) -> torch.Tensor:  # noqa: D102
        return self.classifier(torch.flatten(x, 1))


def vgg16(size: int) -> nn.Sequential:
    """VGG16 (configuration D): 13 convolutions, 3 dense layers."""
    layers: list[nn.Module] = []
    channels = 3
    for stage in VGG16_STAGES:
        for width in stage:
            layers += [nn.Conv2d(channels, width, 3, padding=1), nn.ReLU()]
            channels = width
        layers.append(nn.MaxPool2d(2))
    side = size // 2 ** len(VGG16_STAGES)
    classifier = nn.Sequential(
        nn.Linear(channels * side * side, 4096), nn.ReLU(), nn.Dropout(),
        nn.Linear(4096, 4096), nn.ReLU(), nn.Dropout(),
        nn.Linear(4096, 1000),
    )  # fmt: skip
    return nn.Sequential(*layers, Flat(classifier))


class Bottleneck(nn.Module):
    """Residual block of ResNet v1.5: 1x1, 3x3 (which carries the stride), 1x1."""

    def __init__(self, channels: int, width: int, stride: int, add: Add) -> None:
        super().__init__()
        out = 4 * width
        self.branch = nn.Sequential(
            nn.Conv2d(channels, width, 1, bias=False), nn.BatchNorm2d(width), nn.ReLU(),
            nn.Conv2d(width, width, 3, stride, padding=1, bias=False), nn.BatchNorm2d(width), nn.ReLU(),
            nn.Conv2d(width, out, 1, bias=False), nn.BatchNorm2d(out),
        )  # fmt: skip
        self.shortcut: nn.Module | None = None
        if stride != 1 or channels != out:
            self.shortcut = nn.Sequential(nn.Conv2d(channels, out, 1, stride, bias=False), nn.BatchNorm2d(out))
        self.add = add()
        self.relu = nn.ReLU()

    def forward(self, x: torch.Tensor) -> torch.Tensor:  # noqa: D102
        identity = x if self.shortcut is None else self.shortcut(x)
        return self.relu(self.add(self.branch(x), identity))


def resnet(blocks: tuple[int, ...], width: int, classes: int, add: Add) -> nn.Sequential:
    layers: list[nn.Module] = [nn.Conv2d(3, width, 7, 2, padding=3, bias=False), nn.BatchNorm2d(width), nn.ReLU()]
    layers.append(nn.MaxPool2d(3, 2, padding=1))
    channels = width
    for stage, count in enumerate(blocks):
        for block in range(count):
            stage_width = width * 2**stage
            layers.append(Bottleneck(channels, stage_width, 2 if stage and not block else 1, add))
            channels = 4 * stage_width
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d((1, 1)), Flat(nn.Sequential(nn.Linear(channels, classes))))


MODELS: dict[str, Callable[[int, Add], nn.Module]] = {
    "vgg16": lambda size, _add: vgg16(size),
    "resnet50": lambda _size, add: resnet((3, 4, 6, 3), 64, 1000, add),
    "resnet_small": lambda _size, add: resnet((1, 1, 1, 1), 8, 10, add),  # for trying the benchmark out
}


def fill(model: nn.Module, generator: torch.Generator) -> None:
    """Random weights, activations in a sane range, and BatchNorms with statistics, so that merging them matters."""

    def uniform(tensor: torch.Tensor, low: float, high: float) -> None:
        nn.init.uniform_(tensor, low, high, generator=generator)

    for module in model.modules():
        if isinstance(module, nn.Conv2d | nn.Linear):
            nn.init.kaiming_normal_(module.weight, nonlinearity="relu", generator=generator)
            if module.bias is not None:
                nn.init.normal_(module.bias, 0, 0.05, generator=generator)
        elif isinstance(module, nn.BatchNorm2d):
            uniform(module.weight, 0.5, 1.2)
            uniform(module.bias, -0.2, 0.2)
            uniform(module.running_mean, -0.3, 0.3)
            uniform(module.running_var, 0.5, 2.0)


def build(name: str, size: int, seed: int, add: Add = PlainAdd) -> nn.Module:
    """The network called `name` in evaluation mode. The same seed gives the same weights, whatever `add` is."""
    model = MODELS[name](size, add)
    with torch.no_grad():
        fill(model, torch.Generator().manual_seed(seed))
    return model.eval().requires_grad_(requires_grad=False)


def merge_batch_norms(model: nn.Module) -> nn.Module:
    """The same function with every BatchNorm merged into the convolution before it, in place."""
    for parent in list(model.modules()):
        children = list(parent.named_children())
        for (before, convolution), (after, norm) in itertools.pairwise(children):
            if isinstance(convolution, nn.Conv2d) and isinstance(norm, nn.BatchNorm2d):
                setattr(parent, before, torch.nn.utils.fuse_conv_bn_eval(convolution, norm))
                setattr(parent, after, nn.Dropout().eval())  # the identity, and a module that every peer knows
    return model


def export(name: str, size: int, seed: int, *, fresh: bool = False) -> Path:
    """Path of the network as one ONNX file with a free batch axis, kept in CACHE. BatchNorms stay nodes of their own."""
    source = hashlib.sha256(Path(__file__).read_bytes()).hexdigest()[:12]
    path = CACHE / f"{name}-{size}-{seed}-{source}-torch{torch.__version__.split('+')[0]}.onnx"
    if path.exists() and not fresh:
        return path
    CACHE.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_suffix(".unfinished")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the TorchScript exporter is deprecated; the newer one merges every BatchNorm unasked
        torch.onnx.export(
            build(name, size, seed), (torch.zeros(2, 3, size, size),), unfinished, dynamo=False, opset_version=OPSET,
            training=torch.onnx.TrainingMode.PRESERVE, input_names=["image"], output_names=["scores"],
            dynamic_axes={"image": {0: "batch"}, "scores": {0: "batch"}},
        )  # fmt: skip
    return unfinished.rename(path)
