"""A Keras model that computes with PyTorch, as a module whose parts carry the names of the layers."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import torch

__all__ = ["Flat", "named_layers"]


class _Named(torch.nn.Module):  # type: ignore[misc]
    """What a layer does. PyTorch's exporter writes the names of modules into the nodes, and Keras's layers do not show up as modules."""

    def __init__(self, call: Any) -> None:
        super().__init__()
        self._call = call

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        return self._call(*args, **kwargs)


class Flat(torch.nn.Module):  # type: ignore[misc]
    """A model that takes its inputs one by one and returns its outputs by name."""

    def __init__(self, model: Any, output_names: Sequence[str]) -> None:
        super().__init__()
        self._model = [model]  # in a list: no part of this module, else every weight would be there twice
        self._output_names = list(output_names)

    def forward(self, *inputs: Any) -> dict[str, Any]:
        """The outputs by name."""
        result = self._model[0](inputs[0] if len(inputs) == 1 else list(inputs))
        values = list(_leaves(result))
        names = self._output_names if len(self._output_names) == len(values) else [f"output_{index}" for index in range(len(values))]
        return dict(zip(names, values, strict=True))


def _leaves(value: Any) -> Iterator[Any]:
    if isinstance(value, (tuple, list)):
        for item in value:
            yield from _leaves(item)
    elif isinstance(value, Mapping):
        for key in sorted(value):
            yield from _leaves(value[key])
    else:
        yield value


@contextlib.contextmanager
def named_layers(flat: Flat, model: Any) -> Iterator[None]:
    """Has every layer of a model called through a module of its name, which `flat` holds."""
    patched: list[Any] = []
    try:
        _name(flat, model, patched)
        yield
    finally:
        for layer in patched:
            del layer.__dict__["call"]


def _name(parent: torch.nn.Module, model: Any, patched: list[Any]) -> None:
    for layer in model.layers:
        if any(layer is known for known in patched):
            continue
        name = layer.name.replace(".", "_")
        if hasattr(parent, name):
            name += "_layer"
        part = _Named(layer.call)
        parent.add_module(name, part)
        object.__setattr__(layer, "call", _through(part))  # past Keras, which would take the module for a part of the layer
        patched.append(layer)
        if hasattr(layer, "layers"):
            _name(part, layer, patched)


def _through(part: torch.nn.Module) -> Any:
    return part
