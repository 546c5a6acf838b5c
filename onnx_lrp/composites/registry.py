"""The composites by name, with the names that other libraries have for them."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from onnx_lrp.composites.base import Composite, base_map
from onnx_lrp.composites.files import is_file, read_composite
from onnx_lrp.composites.selectors import LAYER
from onnx_lrp.errors import CompositeError, suggest
from onnx_lrp.rules import Rule

COMPOSITES: dict[str, type[Composite]] = {}
"""Key -> composite class; make one with its options and pass it to an Explainer, or pass the key and the options."""


@dataclass(frozen=True)
class Alias:
    """Another name for a composite, with options of its own that the caller's override."""

    key: str
    options: dict[str, Any]


ALIASES: dict[str, Alias] = {}
"""The names that other libraries have for the composites."""


def register(key: str, family: str) -> Callable[[type[Composite]], type[Composite]]:
    """Registers a composite class under a key; `family` is the heading that it is listed under."""

    def enter(composite: type[Composite]) -> type[Composite]:
        composite.key, composite.family = key, family
        COMPOSITES[key] = composite
        return composite

    return enter


def alias(name: str, key: str, **options: Any) -> None:
    """Enters another name for a composite, and the options that go with it."""
    ALIASES[name] = Alias(key, options)


def find_composite(name: str) -> tuple[type[Composite], dict[str, Any]]:
    """The class of a key, an alias or a file, and the options that the alias stands for or the file has.

    Raises:
        CompositeError: there is no such name, and the error has the nearest ones; or the file is wrong.
    """
    if is_file(name):
        return read_composite(name)
    found = ALIASES.get(name, Alias(name, {}))
    if found.key not in COMPOSITES:
        raise CompositeError(f"unknown composite {name!r}" + suggest(name, [*COMPOSITES, *ALIASES]))
    return COMPOSITES[found.key], dict(found.options)


def make_composite(composite: str | Composite | Rule | type[Composite], options: dict[str, Any]) -> Composite:
    """A composite from its name or file and options; from a rule, which all convolutions and dense layers get; or the given one itself.

    Raises:
        CompositeError: unknown name, unknown or missing option, or options for a composite that is already made.
    """
    if isinstance(composite, (Composite, Rule)):
        if options:
            raise CompositeError(f"options ({', '.join(options)}) go with a composite's name, not with a composite or rule already made")
        if isinstance(composite, Composite):
            return composite
        return Composite([(LAYER, composite), *base_map(bias=getattr(composite, "bias", "absorb"))])
    preset: dict[str, Any] = {}
    if isinstance(composite, str):
        kind, preset = find_composite(composite)
    elif isinstance(composite, type) and issubclass(composite, Composite):
        kind = composite
    else:
        raise CompositeError(f"a composite is a name, a Composite or a Rule, not {type(composite).__name__}")
    known = option_names(kind)
    for name in options:
        if name not in known:
            raise CompositeError(f"composite {composite!r} has no option {name!r}" + suggest(name, known))
    return kind(**preset | options)


def option_names(kind: type[Composite]) -> list[str]:
    """The keyword options of a composite class, those of the maps included."""
    own = [p.name for p in inspect.signature(kind).parameters.values() if p.kind is inspect.Parameter.KEYWORD_ONLY]
    return [*dict.fromkeys([*own, "name_map", "first_map", "layer_map"])]
