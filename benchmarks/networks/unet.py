"""U-Net: O. Ronneberger et al., *U-Net: convolutional networks for biomedical image segmentation*, MICCAI 2015."""

from __future__ import annotations

import torch
from torch import nn

from networks.blocks import Add, Concat, Flattened, convolution

WIDTHS = (32, 64, 128, 256, 512)
CLASSES = 21


def double_convolution(channels: int, width: int) -> nn.Sequential:
    """3x3 and 3x3, each with BatchNorm and ReLU."""
    return nn.Sequential(*convolution(channels, width, 3), nn.ReLU(), *convolution(width, width, 3), nn.ReLU())


class Level(nn.Module):
    """Two convolutions, the levels below at half the size, and two convolutions over both."""

    def __init__(self, channels: int, width: int, below: nn.Module, width_below: int) -> None:
        super().__init__()
        self.down = double_convolution(channels, width)
        self.pool = nn.MaxPool2d(2)
        self.below = below
        self.enlarge = nn.ConvTranspose2d(width_below, width, 2, stride=2)
        self.concat = Concat()
        self.up = double_convolution(2 * width, width)

    def forward(self, x: torch.Tensor) -> torch.Tensor:  # noqa: D102
        skipped = self.down(x)
        return self.up(self.concat(skipped, self.enlarge(self.below(self.pool(skipped)))))


def unet(size: int, add: Add) -> nn.Module:  # noqa: ARG001
    """Five levels with padded convolutions; the explained score of a class is the mean of its score map over all places."""
    net: nn.Module = double_convolution(WIDTHS[-2], WIDTHS[-1])
    for depth in range(len(WIDTHS) - 2, -1, -1):
        net = Level(WIDTHS[depth - 1] if depth else 3, WIDTHS[depth], net, WIDTHS[depth + 1])
    return Flattened(nn.Sequential(net, nn.Conv2d(WIDTHS[0], CLASSES, 1), nn.AdaptiveAvgPool2d((1, 1))))
