"""EfficientNet-B0: M. Tan and Q. V. Le, *EfficientNet: rethinking model scaling for convolutional neural networks*, ICML 2019."""

from __future__ import annotations

import torch
from torch import nn

from networks.blocks import Add, Flat, Multiply, convolution

STAGES = (
    (1, 3, 16, 1, 1), (6, 3, 24, 2, 2), (6, 5, 40, 2, 2), (6, 3, 80, 3, 2), (6, 5, 112, 3, 1), (6, 5, 192, 4, 2), (6, 3, 320, 1, 1),
)  # fmt: skip
"""(expansion, kernel, channels, blocks, stride of the first block)"""
EPS = 1e-3


class SqueezeExcite(nn.Module):
    """Each channel times a gate that is made from the mean of all channels."""

    def __init__(self, channels: int, squeezed: int) -> None:
        super().__init__()
        self.gate = nn.Sequential(
            nn.AdaptiveAvgPool2d((1, 1)), nn.Conv2d(channels, squeezed, 1), nn.SiLU(), nn.Conv2d(squeezed, channels, 1), nn.Sigmoid()
        )
        self.multiply = Multiply()

    def forward(self, x: torch.Tensor) -> torch.Tensor:  # noqa: D102
        return self.multiply(x, self.gate(x))


class Block(nn.Module):
    """Inverted residual with squeeze and excitation between the depthwise and the last convolution."""

    def __init__(self, channels: int, width: int, kernel: int, stride: int, expansion: int, add: Add) -> None:
        super().__init__()
        hidden = channels * expansion
        widen = [*convolution(channels, hidden, 1, eps=EPS), nn.SiLU()] if expansion > 1 else []
        self.branch = nn.Sequential(
            *widen, *convolution(hidden, hidden, kernel, stride, hidden, EPS), nn.SiLU(),
            SqueezeExcite(hidden, channels // 4), *convolution(hidden, width, 1, eps=EPS),
        )  # fmt: skip
        self.add = add() if stride == 1 and channels == width else None

    def forward(self, x: torch.Tensor) -> torch.Tensor:  # noqa: D102
        return self.branch(x) if self.add is None else self.add(self.branch(x), x)


def efficientnet_b0(size: int, add: Add) -> nn.Sequential:  # noqa: ARG001
    """The network of the paper's table 1."""
    channels = 32
    layers: list[nn.Module] = [*convolution(3, channels, 3, 2, eps=EPS), nn.SiLU()]
    for expansion, kernel, width, count, stride in STAGES:
        for block in range(count):
            layers.append(Block(channels, width, kernel, 1 if block else stride, expansion, add))
            channels = width
    layers += [*convolution(channels, 1280, 1, eps=EPS), nn.SiLU(), nn.AdaptiveAvgPool2d((1, 1))]
    return nn.Sequential(*layers, Flat(nn.Sequential(nn.Dropout(), nn.Linear(1280, 1000))))
