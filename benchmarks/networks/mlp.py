"""A large multilayer perceptron on the pixels of a 32x32 colour image."""

from __future__ import annotations

import itertools

from torch import nn

from networks.blocks import Add

WIDTHS = (3072, 4096, 4096, 4096, 1000)


def mlp(size: int, add: Add) -> nn.Sequential:  # noqa: ARG001
    """Four dense layers, ReLU between them."""
    layers: list[nn.Module] = []
    for width, following in itertools.pairwise(WIDTHS):
        layers += [nn.Linear(width, following), nn.ReLU()]
    return nn.Sequential(*layers[:-1])
