"""ResNet: K. He et al., *Deep residual learning for image recognition*, CVPR 2016."""

from __future__ import annotations

import torch
from torch import nn

from networks.blocks import Add, Flat, convolution


class Bottleneck(nn.Module):
    """Residual block of ResNet v1.5: 1x1, 3x3 (which carries the stride), 1x1."""

    def __init__(self, channels: int, width: int, stride: int, add: Add) -> None:
        super().__init__()
        out = 4 * width
        self.branch = nn.Sequential(
            *convolution(channels, width, 1), nn.ReLU(),
            *convolution(width, width, 3, stride), nn.ReLU(),
            *convolution(width, out, 1),
        )  # fmt: skip
        self.shortcut: nn.Module | None = None
        if stride != 1 or channels != out:
            self.shortcut = nn.Sequential(*convolution(channels, out, 1, stride))
        self.add = add()
        self.relu = nn.ReLU()

    def forward(self, x: torch.Tensor) -> torch.Tensor:  # noqa: D102
        identity = x if self.shortcut is None else self.shortcut(x)
        return self.relu(self.add(self.branch(x), identity))


def resnet(blocks: tuple[int, ...], width: int, classes: int, add: Add) -> nn.Sequential:
    """As many blocks per stage as given; the stages' widths double."""
    layers: list[nn.Module] = [*convolution(3, width, 7, 2), nn.ReLU(), nn.MaxPool2d(3, 2, padding=1)]
    channels = width
    for stage, count in enumerate(blocks):
        for block in range(count):
            stage_width = width * 2**stage
            layers.append(Bottleneck(channels, stage_width, 2 if stage and not block else 1, add))
            channels = 4 * stage_width
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d((1, 1)), Flat(nn.Sequential(nn.Linear(channels, classes))))


def resnet50(size: int, add: Add) -> nn.Sequential:  # noqa: ARG001
    """53 convolutions in 16 bottleneck blocks."""
    return resnet((3, 4, 6, 3), 64, 1000, add)


def resnet_small(size: int, add: Add) -> nn.Sequential:  # noqa: ARG001
    """Four narrow blocks, for trying the benchmark out."""
    return resnet((1, 1, 1, 1), 8, 10, add)
