"""MobileNetV2: M. Sandler et al., *MobileNetV2: inverted residuals and linear bottlenecks*, CVPR 2018."""

from __future__ import annotations

import torch
from torch import nn

from networks.blocks import Add, Flat, convolution

STAGES = ((1, 16, 1, 1), (6, 24, 2, 2), (6, 32, 3, 2), (6, 64, 4, 2), (6, 96, 3, 1), (6, 160, 3, 2), (6, 320, 1, 1))
"""(expansion, channels, blocks, stride of the first block)"""


class InvertedResidual(nn.Module):
    """1x1 that widens, depthwise 3x3, 1x1 that narrows without activation; added to the input where the shapes agree."""

    def __init__(self, channels: int, width: int, stride: int, expansion: int, add: Add) -> None:
        super().__init__()
        hidden = channels * expansion
        widen = [*convolution(channels, hidden, 1), nn.ReLU6()] if expansion > 1 else []
        self.branch = nn.Sequential(
            *widen, *convolution(hidden, hidden, 3, stride, groups=hidden), nn.ReLU6(), *convolution(hidden, width, 1)
        )
        self.add = add() if stride == 1 and channels == width else None

    def forward(self, x: torch.Tensor) -> torch.Tensor:  # noqa: D102
        return self.branch(x) if self.add is None else self.add(self.branch(x), x)


def mobilenet_v2(size: int, add: Add) -> nn.Sequential:  # noqa: ARG001
    """Width 1.0."""
    channels = 32
    layers: list[nn.Module] = [*convolution(3, channels, 3, 2), nn.ReLU6()]
    for expansion, width, count, stride in STAGES:
        for block in range(count):
            layers.append(InvertedResidual(channels, width, 1 if block else stride, expansion, add))
            channels = width
    layers += [*convolution(channels, 1280, 1), nn.ReLU6(), nn.AdaptiveAvgPool2d((1, 1))]
    return nn.Sequential(*layers, Flat(nn.Sequential(nn.Dropout(), nn.Linear(1280, 1000))))
