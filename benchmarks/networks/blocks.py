"""What several networks are made of. Every activation, pool, sum, product and concatenation is a module of its own."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import nn

Add = Callable[[], nn.Module]
"""Makes the module that adds two tensors: each peer has a rule for its own kind of sum only."""


class PlainAdd(nn.Module):
    """a + b."""

    def forward(self, a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:  # noqa: D102
        return a + b


class Multiply(nn.Module):
    """signal * gate."""

    def forward(self, signal: torch.Tensor, gate: torch.Tensor) -> torch.Tensor:  # noqa: D102
        return signal * gate


class Concat(nn.Module):
    """Tensors one behind the other along the channels."""

    def forward(self, *tensors: torch.Tensor) -> torch.Tensor:  # noqa: D102
        return torch.cat(tensors, 1)


class Flat(nn.Module):
    """The classifier on flat features. nn.Flatten itself is a module for which captum has no rule."""

    def __init__(self, classifier: nn.Module) -> None:
        super().__init__()
        self.classifier = classifier

    def forward(self, x: torch.Tensor) -> torch.Tensor:  # noqa: D102
        return self.classifier(torch.flatten(x, 1))


class Flattened(nn.Module):
    """The scores of a map of one place, without its spatial axes."""

    def __init__(self, scores: nn.Module) -> None:
        super().__init__()
        self.scores = scores

    def forward(self, x: torch.Tensor) -> torch.Tensor:  # noqa: D102
        return torch.flatten(self.scores(x), 1)


def convolution(channels: int, width: int, kernel: int, stride: int = 1, groups: int = 1, eps: float = 1e-5) -> list[nn.Module]:
    """A convolution that keeps the size (but for its stride), and its BatchNorm."""
    return [
        nn.Conv2d(channels, width, kernel, stride, padding=kernel // 2, groups=groups, bias=False),
        nn.BatchNorm2d(width, eps=eps),
    ]
