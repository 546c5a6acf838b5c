"""Random weights that keep activations in a sane range."""

from __future__ import annotations

import torch
from torch import nn


def fill(model: nn.Module, generator: torch.Generator) -> None:
    """Random weights, and BatchNorms with random statistics, so that merging them matters."""

    def uniform(tensor: torch.Tensor, low: float, high: float) -> None:
        nn.init.uniform_(tensor, low, high, generator=generator)

    for module in model.modules():
        if isinstance(module, nn.Conv2d | nn.ConvTranspose2d | nn.Linear):
            nn.init.kaiming_normal_(module.weight, nonlinearity="relu", generator=generator)
            if module.bias is not None:
                nn.init.normal_(module.bias, 0, 0.05, generator=generator)
        elif isinstance(module, nn.BatchNorm2d):
            uniform(module.weight, 0.5, 1.2)
            uniform(module.bias, -0.2, 0.2)
            uniform(module.running_mean, -0.3, 0.3)
            uniform(module.running_var, 0.5, 2.0)
