"""What a Keras file describes, looked through before Keras makes anything of it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

from onnx_lrp.errors import ModelError

__all__ = ["check_config", "check_weights", "parse_config"]

_CODE: Final = frozenset({"Lambda", "__lambda__", "TorchModuleWrapper", "TFSMLayer", "JaxLayer", "FlaxLayer"})
_SIZES: Final = ("units", "filters", "input_dim", "output_dim", "kernel_size", "num_heads", "key_dim")
_DEPTH: Final = 100
_LONGEST: Final = 2**28
_FREE: Final = 2**28
_EXPANSION: Final = 20
_SMALL: Final = 2**16
_OUT: Final = "load the model in Python, where you trust it, and call onnx_lrp.converters.keras.convert(model)"


def parse_config(text: str | bytes, where: str) -> dict[str, Any]:
    """Read an architecture.

    Raises:
        ModelError: The text is far too long, not JSON, or no architecture.
    """
    if len(text) > _LONGEST:
        raise ModelError(f"{where}: an architecture of {len(text):,} bytes is refused")
    try:
        value = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise ModelError(f"{where} is not JSON: {str(error)[:100]}") from None
    if not isinstance(value, dict) or not isinstance(value.get("class_name"), str) or "config" not in value:
        raise ModelError(f"{where} is not the architecture of a Keras model: it has no class_name or no config")
    return dict(value)


def check_config(config: Any, where: str, elements: int) -> None:
    """Refuse what holds Python code, or cannot belong to these weights.

    Args:
        config: The architecture.
        where: What to call it in messages.
        elements: How many numbers the weights have.

    Raises:
        ModelError: There is such a thing; the message names the layer.
    """
    for part, layer in _parts(config, "", 0, where):
        kind = part.get("class_name")
        if isinstance(kind, str) and kind in _CODE:
            raise ModelError(f"{where}: layer {layer!r} is a {kind}, which holds code that a file may not run here: {_OUT}")
        module = part.get("module") if isinstance(kind, str) else None
        if isinstance(module, str) and module.split(".")[0] not in ("keras", "builtins"):
            raise ModelError(f"{where}: layer {layer!r} is a {module}.{kind}, a class of one's own: {_OUT}")
        for name in _SIZES:
            value = part.get(name)
            for length in value if isinstance(value, list) else [value]:
                if isinstance(length, int) and length > max(elements, _SMALL):
                    raise ModelError(f"{where}: layer {layer!r} has {name} = {length:,}, more than the file has weights")


def _parts(value: Any, layer: str, depth: int, where: str) -> Iterator[tuple[dict[str, Any], str]]:
    """All objects in an architecture, each with the layer that it belongs to."""
    if depth > _DEPTH:
        raise ModelError(f"{where} is nested too deeply")
    if isinstance(value, dict):
        name = value.get("name")
        layer = name if isinstance(name, str) else layer
        config = value.get("config")
        if isinstance(config, dict) and isinstance(config.get("name"), str):
            layer = config["name"]
        yield value, layer
        for item in value.values():
            yield from _parts(item, layer, depth + 1, where)
    elif isinstance(value, list):
        for item in value:
            yield from _parts(item, layer, depth + 1, where)


def check_weights(path: Path, where: str) -> int:
    """Refuse an HDF5 file that reads other files or that would fill the memory.

    Returns:
        How many numbers it holds.

    Raises:
        ModelError: It does, or it is broken.
    """
    import h5py

    total = elements = 0
    try:
        with h5py.File(path, "r") as file:
            for dataset in _datasets(file, "", 0, set(), where):
                total += int(dataset.size or 0) * dataset.dtype.itemsize
                elements += int(dataset.size or 0)
    except ModelError:
        raise
    except Exception as error:  # noqa: BLE001 - h5py lets errors of every kind through
        raise ModelError(f"{where} is a broken HDF5 file: {str(error)[:150]}") from None
    size = path.stat().st_size
    if total > max(_FREE, _EXPANSION * size):
        raise ModelError(f"{where} is refused: its weights are {total:,} bytes in a file of {size:,}")
    return elements


def _datasets(group: Any, path: str, depth: int, seen: set[Any], where: str) -> Iterator[Any]:
    import h5py

    if depth > _DEPTH:
        raise ModelError(f"{where} is nested too deeply")
    for name in group:
        link = group.get(name, getlink=True)
        if isinstance(link, h5py.ExternalLink):
            raise ModelError(f"{where} is refused: its {path + name!r} lies in another file")
        if isinstance(link, h5py.SoftLink):
            continue
        item = group[name]
        if item.id in seen:
            continue
        seen.add(item.id)
        if isinstance(item, h5py.Group):
            yield from _datasets(item, f"{path}{name}/", depth + 1, seen, where)
        elif isinstance(item, h5py.Dataset):
            if item.external or item.is_virtual:
                raise ModelError(f"{where} is refused: its {path + name!r} lies in another file")
            yield item
