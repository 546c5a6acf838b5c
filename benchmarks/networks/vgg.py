"""VGG16: K. Simonyan and A. Zisserman, *Very deep convolutional networks for large-scale image recognition*, ICLR 2015."""

from __future__ import annotations

from torch import nn

from networks.blocks import Add, Flat

STAGES = ((64, 64), (128, 128), (256, 256, 256), (512, 512, 512), (512, 512, 512))


def vgg16(size: int, add: Add) -> nn.Sequential:  # noqa: ARG001
    """Configuration D: 13 convolutions, 3 dense layers."""
    layers: list[nn.Module] = []
    channels = 3
    for stage in STAGES:
        for width in stage:
            layers += [nn.Conv2d(channels, width, 3, padding=1), nn.ReLU()]
            channels = width
        layers.append(nn.MaxPool2d(2))
    side = size // 2 ** len(STAGES)
    classifier = nn.Sequential(
        nn.Linear(channels * side * side, 4096), nn.ReLU(), nn.Dropout(),
        nn.Linear(4096, 4096), nn.ReLU(), nn.Dropout(),
        nn.Linear(4096, 1000),
    )  # fmt: skip
    return nn.Sequential(*layers, Flat(classifier))
