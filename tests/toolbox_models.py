"""Models of lrp_toolbox for tests, and a plain computation of what they give."""

from __future__ import annotations

import numpy as np

from onnx_lrp.converters.lrp_toolbox.layers import Convolution, Flatten, Linear, MaxPool, Rect, SoftMax, SumPool, Tanh

RNG = np.random.default_rng(0)


def same_layers(first, second) -> bool:
    """Whether two models have the same layers, with the same bits in their weights."""
    arrays = ("weight", "bias")
    return len(first) == len(second) and all(
        type(a) is type(b)
        and all(
            np.array_equal(getattr(a, name), getattr(b, name)) if name in arrays else getattr(a, name) == getattr(b, name)
            for name in vars(a)
        )
        for a, b in zip(first, second, strict=True)
    )


def sample_layers(depth: int = 2):
    return [
        Convolution(RNG.normal(size=(2, 3, depth, 4)), RNG.normal(size=4), (2, 1)),
        Rect(),
        MaxPool((2, 2), (1, 1)),
        SumPool((1, 3), (1, 2)),
        Flatten(),
        Linear(RNG.normal(size=(16, 5)), RNG.normal(size=5)),
        Tanh(),
        Linear(RNG.normal(size=(5, 3)), RNG.normal(size=3)),
        SoftMax(),
    ]


def in_float32(layers):
    return [
        type(layer)(
            **{
                name: value.astype(np.float32).astype(np.float64) if isinstance(value, np.ndarray) else value
                for name, value in vars(layer).items()
            }
        )
        for layer in layers
    ]


def by_hand(layers, x, order):
    """A model's output, element by element, from the layers' definitions."""
    for layer in layers:
        if isinstance(layer, Convolution | SumPool | MaxPool):
            h, w = layer.weight.shape[:2] if isinstance(layer, Convolution) else layer.pool
            rows, columns = ((x.shape[a] - k) // s + 1 for a, k, s in ((1, h, layer.stride[0]), (2, w, layer.stride[1])))
            channels = layer.weight.shape[3] if isinstance(layer, Convolution) else x.shape[3]
            y = np.zeros((len(x), rows, columns, channels))
            for r, c in np.ndindex(rows, columns):
                seen = x[:, r * layer.stride[0] :, c * layer.stride[1] :][:, :h, :w]
                if isinstance(layer, Convolution):
                    y[:, r, c] = np.einsum("nhwd,hwdk->nk", seen, layer.weight) + layer.bias
                else:
                    y[:, r, c] = seen.max((1, 2)) if isinstance(layer, MaxPool) else seen.sum((1, 2)) / np.sqrt(h * w)
            x = y
        elif isinstance(layer, Flatten):
            x = np.stack([sample.reshape(-1, order=order) for sample in x])
        elif isinstance(layer, Linear):
            x = x @ layer.weight + layer.bias
        elif isinstance(layer, SoftMax):
            x = np.exp(x) / np.exp(x).sum(1, keepdims=True)
        else:
            x = np.tanh(x) if isinstance(layer, Tanh) else np.maximum(x, 0)
    return x
