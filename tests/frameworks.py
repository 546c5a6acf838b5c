"""Networks of PyTorch and Keras for the tests of their converters."""

from __future__ import annotations

import importlib.util
import os
from typing import Any

import numpy as np
import pytest


def need(*modules: str) -> None:
    """Skips a test without these modules, except in CI, which has to have them."""
    missing = [module for module in modules if importlib.util.find_spec(module) is None]
    if missing and os.environ.get("CI") == "true":
        pytest.fail(f"CI must run this test: {' and '.join(missing)} not installed")
    if missing:
        pytest.skip(f"{' and '.join(missing)} not installed")


def resnet(blocks: tuple[int, ...] = (3, 4, 6, 3), width: int = 64, classes: int = 10) -> Any:
    """A residual network of bottlenecks; by default the layers of ResNet-50."""
    from torch import nn

    class Bottleneck(nn.Module):
        def __init__(self, inner: int, outer: int, stride: int) -> None:
            super().__init__()
            middle = outer // 4
            self.conv1, self.bn1 = nn.Conv2d(inner, middle, 1, bias=False), nn.BatchNorm2d(middle)
            self.conv2, self.bn2 = nn.Conv2d(middle, middle, 3, stride, 1, bias=False), nn.BatchNorm2d(middle)
            self.conv3, self.bn3 = nn.Conv2d(middle, outer, 1, bias=False), nn.BatchNorm2d(outer)
            self.relu = nn.ReLU(inplace=True)
            self.short = None
            if stride != 1 or inner != outer:
                self.short = nn.Sequential(nn.Conv2d(inner, outer, 1, stride, bias=False), nn.BatchNorm2d(outer))

        def forward(self, x: Any) -> Any:
            y = self.relu(self.bn1(self.conv1(x)))
            y = self.bn3(self.conv3(self.relu(self.bn2(self.conv2(y)))))
            return self.relu(y + (x if self.short is None else self.short(x)))

    layers: list[nn.Module] = [nn.Conv2d(3, width, 7, 2, 3, bias=False), nn.BatchNorm2d(width), nn.ReLU(), nn.MaxPool2d(3, 2, 1)]
    inner = width
    for stage, count in enumerate(blocks):
        outer = width * 4 * 2**stage
        parts = [Bottleneck(inner if place == 0 else outer, outer, 2 if stage and place == 0 else 1) for place in range(count)]
        layers.append(nn.Sequential(*parts))
        inner = outer
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(inner, classes))


def vit(size: int = 16, patch: int = 4, dim: int = 24, depth: int = 2) -> Any:
    """A vision transformer with a class token."""
    import torch
    from torch import nn

    class Vit(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.patches = nn.Conv2d(3, dim, patch, patch)
            self.token = nn.Parameter(torch.randn(1, 1, dim))
            self.places = nn.Parameter(torch.randn(1, (size // patch) ** 2 + 1, dim))
            layer = nn.TransformerEncoderLayer(dim, 4, 2 * dim, activation="gelu", batch_first=True, norm_first=True)
            self.blocks = nn.TransformerEncoder(layer, depth, enable_nested_tensor=False)
            self.head = nn.Linear(dim, 5)

        def forward(self, pixels: Any) -> Any:
            x = self.patches(pixels).flatten(2).transpose(1, 2)
            x = torch.cat([self.token.expand(x.shape[0], -1, -1), x], 1) + self.places
            return self.head(self.blocks(x)[:, 0])

    return Vit()


def lstm() -> Any:
    """Embedding, a bidirectional LSTM, and a dense layer on its last state."""
    from torch import nn

    class Reader(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.embed, self.lstm, self.head = nn.Embedding(7, 8), nn.LSTM(8, 6, batch_first=True, bidirectional=True), nn.Linear(12, 3)

        def forward(self, ids: Any) -> Any:
            return self.head(self.lstm(self.embed(ids))[0][:, -1])

    return Reader()


def small() -> Any:
    """A convolution, a batch normalisation, and a dense layer; for pictures of 3 x 8 x 8."""
    from torch import nn

    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Linear(144, 5))


def shake(module: Any) -> Any:
    """Gives every normalisation statistics of its own, which in a new network are 0 and 1. Returns the module in training mode."""
    import torch

    torch.manual_seed(0)
    for name, value in [*module.named_parameters(), *module.named_buffers()]:
        if value.ndim == 1 and value.is_floating_point():
            with torch.no_grad():
                value.uniform_(0.6, 1.4) if "var" in name else value.add_(0.2 * torch.randn_like(value))
    return module


def keras_nets() -> dict[str, Any]:
    """Names -> functions that make Keras models."""
    from onnx_lrp.converters.keras import use_keras

    keras = use_keras()
    layers = keras.layers

    def plain() -> Any:
        return keras.Sequential(
            [
                keras.Input((12, 12, 3), name="picture"),
                layers.Rescaling(1 / 255, name="scale"),
                layers.Conv2D(4, 3, padding="same", strides=2, name="conv"),
                layers.BatchNormalization(name="norm"),
                layers.ReLU(name="relu"),
                layers.MaxPooling2D(padding="same", name="pool"),
                layers.Flatten(name="flat"),
                layers.Dense(5, activation="softmax", name="scores"),
            ],
            name="plain",
        )

    def squeeze() -> Any:
        x = given = keras.Input((10, 10, 3))
        x = layers.Conv2D(8, 3, activation="swish", use_bias=False)(layers.ZeroPadding2D(((0, 1), (1, 0)))(x))
        x = layers.DepthwiseConv2D(3, padding="same", activation="relu6")(x)
        gate = layers.Reshape((1, 1, 8))(layers.GlobalAveragePooling2D()(x))
        gate = layers.Conv2D(8, 1, activation="sigmoid")(layers.Conv2D(2, 1, activation="relu")(gate))
        x = layers.multiply([x, gate])
        return keras.Model(given, layers.Dense(4)(layers.GlobalMaxPooling2D()(x)), name="squeeze")

    def dense() -> Any:
        x = given = keras.Input((9, 11, 2))
        x = layers.Conv2D(4, 3, padding="same")(x)
        for _ in range(2):
            y = layers.Conv2D(4, 3, padding="same", dilation_rate=2)(layers.Activation("relu")(layers.BatchNormalization()(x)))
            x = layers.Concatenate()([x, layers.LeakyReLU()(y)])
        x = layers.AveragePooling2D(2)(layers.Cropping2D(1)(x))
        x = layers.UpSampling2D(2)(layers.PReLU(shared_axes=[1, 2])(x))
        x = layers.add([layers.Conv2D(6, 1)(x), layers.SeparableConv2D(6, 3, padding="same")(x)])
        return keras.Model(given, layers.Dense(3, activation="tanh")(layers.Flatten()(x)), name="dense")

    def up() -> Any:
        x = given = keras.Input((6, 6, 1))
        x = layers.Conv2DTranspose(3, 3, strides=2, padding="same", activation="elu")(x)
        return keras.Model(given, layers.Softmax(axis=-1)(layers.Conv2D(4, 1)(x)), name="up")

    def two() -> Any:
        first, second = keras.Input((5,), name="first"), keras.Input((7, 3), name="second")
        inner = keras.Sequential([keras.Input((7, 3)), layers.Conv1D(4, 3, name="row"), layers.GlobalAveragePooling1D()], name="inner")
        x = layers.concatenate([layers.Dense(4, name="left")(first), inner(second)])
        return keras.Model([first, second], [layers.Dense(2, name="one")(x), layers.Dense(3, name="other")(x)], name="two")

    return {"plain": plain, "squeeze": squeeze, "dense": dense, "up": up, "two": two}


def shake_keras(model: Any) -> Any:
    """Random weights for every layer, biases and statistics included."""
    rng = np.random.default_rng(0)
    for weight in model.weights:
        shape = tuple(weight.shape)
        if len(shape) > 1:
            count = shape[:2] if "depthwise" in weight.path else shape[:-1]
            weight.assign(rng.standard_normal(shape) * np.sqrt(2 / np.prod(count)))
        elif "variance" in weight.path:
            weight.assign(rng.uniform(0.6, 1.2, shape))
        else:
            weight.assign(rng.uniform(-0.3, 0.3, shape) + (1 if "gamma" in weight.path else 0))
    return model
