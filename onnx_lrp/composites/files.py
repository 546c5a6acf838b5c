"""Composites in files: JSON, or YAML where PyYAML is installed.

A file holds one of a registered composite with its options, or a list of one's own, tried in this order:

    {"composite": "epsilon_gamma_box", "options": {"gamma": 0.1, "low": -2.1, "high": 2.6}}
    {"maps": [{"select": {"first": true}, "rule": "Flat"}, {"select": "convolution", "rule": "Gamma", "gamma": 0.1}]}

`select` is a type of nodes, several in a list, or a dict with one key: type, role, name, first, last, first_n, lowest, between, stage,
gated, everything; all, any (of several) and not. What is beside `select` and `rule` are the rule's parameters; an epsilon or stabiliser may
be {"epsilon": 0.25, "mode": "scaled"}. Where a list does not say what pools, sums, activations ... get, "base": true adds what all presets
of LRP do with them. A file of either kind may have the maps name_map, first_map and layer_map too, in `options` beside a preset.
"""

from __future__ import annotations

import dataclasses
import json
import math
import os
from collections.abc import Callable, Mapping
from functools import reduce
from operator import and_, or_
from pathlib import Path
from typing import Any

import numpy as np

from onnx_lrp import rules
from onnx_lrp.composites import selectors
from onnx_lrp.composites.base import Composite, Entry, base_map
from onnx_lrp.composites.selectors import Selector
from onnx_lrp.errors import CompositeError, suggest
from onnx_lrp.image import atomic_write

SUFFIXES = (".json", ".yaml", ".yml")
"""What the names of composite files end with."""

_MAPS = ("name_map", "first_map", "layer_map")
RULES: dict[str, type[rules.Rule]] = {
    name: kind
    for name in rules.__all__
    if isinstance(kind := getattr(rules, name), type) and issubclass(kind, rules.Rule) and dataclasses.is_dataclass(kind)
    if kind not in (rules.Rule, rules.AffineRule, rules.Normalized, rules.PatternNet, rules.PatternAttribution)
}
"""The rules that a file can name; those that hold a model's patterns are left to their composites."""


def is_file(name: str) -> bool:
    """Whether a composite's name is that of a file."""
    return name.lower().endswith(SUFFIXES)


def save_composite(composite: Composite, path: str | os.PathLike[str]) -> None:
    """Writes a composite to a .json, .yaml or .yml file, whole or not at all.

    Raises:
        CompositeError: a selector is a function of one's own, the suffix is another one, or the file cannot be written.
    """
    path, data = Path(path), composite_data(composite)
    if not is_file(path.name):
        raise CompositeError(f"a composite is saved to a .json or .yaml file, not to {path}")
    text = json.dumps(data, indent=2)
    if path.suffix.lower() != ".json":
        text = _yaml(path).safe_dump(json.loads(text), sort_keys=False)  # parsed again, no part is shared: YAML would write a reference
    try:
        atomic_write(path, lambda file: file.write((text.rstrip() + "\n").encode()))
    except OSError as error:
        raise CompositeError(f"cannot write {path}: {error.strerror or error}") from None


def read_composite(path: str | os.PathLike[str]) -> tuple[type[Composite], dict[str, Any]]:
    """The class that a file names, or Composite itself, and its options.

    Raises:
        CompositeError: the file is missing or damaged, or something in it is unknown.
    """
    path = Path(path)
    try:
        text = path.read_text(encoding="utf-8-sig")
    except FileNotFoundError:
        raise CompositeError(f"no such file: {path}") from None
    except (OSError, UnicodeDecodeError) as error:
        raise CompositeError(f"cannot read {path}: {getattr(error, 'strerror', None) or 'it is no text'}") from None
    try:
        data = json.loads(text) if path.suffix.lower() == ".json" else _parsed(path, text)
    except (ValueError, RecursionError) as error:
        raise CompositeError(f"{path} is not {'JSON' if path.suffix.lower() == '.json' else 'YAML'}: {error}") from None
    try:
        return _composite(data)
    except CompositeError as error:
        raise CompositeError(f"{path}: {error}") from None


def _yaml(path: Path) -> Any:
    try:
        import yaml
    except ImportError:
        raise CompositeError(f'{path}: YAML needs PyYAML: pip install "onnx-lrp[yaml]", or use a .json file') from None
    return yaml


def _parsed(path: Path, text: str) -> Any:
    yaml = _yaml(path)
    try:
        return yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise ValueError(error) from None


# writing --------------------------------------------------------------------------------------------------------------


def composite_data(composite: Composite) -> dict[str, Any]:
    """A composite as JSON can hold it: its name and options, or its list of selectors and rules.

    Raises:
        CompositeError: a selector is a function of one's own.
    """
    if composite.key:
        options = {
            name: [_entry(name, *entry) for entry in value] if name in _MAPS else _plain(value) for name, value in composite.options.items()
        }
        return {"composite": composite.key, "options": options}
    if type(composite) is not Composite:
        raise CompositeError(f"{type(composite).__name__} is not registered under a name, so a file could not say what it is")
    return {"maps": [_entry("maps", selector, rule) for selector, rule in composite.entries]}


def _entry(what: str, selector: Any, rule: rules.Rule) -> dict[str, Any]:
    if isinstance(selector, Selector):
        if selector.data is None:
            raise CompositeError(f"{what}: {selector} is chosen by a function, which a file cannot hold")
        selector = selector.data
    elif callable(selector):
        raise CompositeError(f"{what}: {getattr(selector, '__name__', 'predicate')} is a function, which a file cannot hold")
    elif not isinstance(selector, str):
        selector = list(selector)
    if type(rule).__name__ not in RULES:
        raise CompositeError(f"{what}: a file cannot hold the rule {type(rule).__name__}")
    return {"select": selector} | {name: _plain(value) for name, value in rule.to_dict().items()}


def _plain(value: Any) -> Any:
    """A parameter as JSON can hold it."""
    if isinstance(value, (rules.Rule, rules.Stabilizer)):
        return {name: _plain(one) for name, one in value.to_dict().items()}
    if isinstance(value, Mapping):
        return {str(name): _plain(one) for name, one in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(one) for one in value]
    if isinstance(value, (np.ndarray, np.generic)):
        return value.tolist()
    if isinstance(value, os.PathLike):
        return os.fspath(value)
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    raise CompositeError(f"a file cannot hold {type(value).__name__}: where the composite takes the path of a file, give that")


# reading --------------------------------------------------------------------------------------------------------------


def _composite(data: Any) -> tuple[type[Composite], dict[str, Any]]:
    from onnx_lrp.composites.registry import find_composite, option_names

    if not isinstance(data, dict) or ("composite" in data) == ("maps" in data):
        raise CompositeError('a composite file holds "composite" (a name, with "options") or "maps" (a list of selectors and rules)')
    known = ("composite", "options") if "composite" in data else ("maps", "base", *_MAPS)
    for name in data:
        if name not in known:
            raise CompositeError(f"unknown field {name!r}" + suggest(str(name), known))
    if "maps" in data:
        base = base_map() if data.get("base") else []
        found = {name: _entries(name, data[name]) for name in _MAPS if name in data}
        return Composite, found | {"maps": [*_entries("maps", data["maps"]), *base]}
    name, options = data["composite"], data.get("options") or {}
    if not isinstance(name, str) or is_file(name):
        raise CompositeError(f"composite is the name of a composite, not {name!r}")
    if not isinstance(options, dict):
        raise CompositeError(f"options are names with values, not {options!r}")
    kind, preset = find_composite(name)
    takes = option_names(kind)
    for option in options:
        if option not in takes:
            raise CompositeError(f"composite {name!r} has no option {option!r}" + suggest(str(option), takes))
    return kind, preset | {key: _entries(key, value) if key in _MAPS else _value(value) for key, value in options.items()}


def _entries(what: str, data: Any) -> list[Entry]:
    if not isinstance(data, list):
        raise CompositeError(f"{what} is a list, not {data!r}")
    entries: list[Entry] = []
    for entry in data:
        if not isinstance(entry, dict) or not {"select", "rule"} <= entry.keys():
            raise CompositeError(f'{what}: each entry has "select" and "rule", not {entry!r}')
        entries.append((_selector(entry["select"]), _rule({key: value for key, value in entry.items() if key != "select"})))
    return entries


def _rule(data: dict[str, Any]) -> rules.Rule:
    name = data["rule"]
    if name not in RULES:
        raise CompositeError(f"unknown rule {name!r}" + suggest(str(name), RULES))
    known = [field.name for field in dataclasses.fields(RULES[name])]
    parameters = {key: _value(value) for key, value in data.items() if key != "rule"}
    for key in parameters:
        if key not in known:
            raise CompositeError(f"rule {name} has no parameter {key!r}" + suggest(key, known))
    return RULES[name](**parameters)


def _value(data: Any) -> Any:
    """A parameter: {"epsilon": ..., "mode": ...} is a stabiliser, a list an array, and 1e-6, which YAML takes for a word, a number."""
    if isinstance(data, dict):
        return rules.Stabilizer(**data) if data.keys() == {"epsilon", "mode"} else {key: _value(value) for key, value in data.items()}
    if isinstance(data, list):
        try:
            return np.asarray(data, np.float32)
        except (TypeError, ValueError):
            raise CompositeError(f"a list of numbers is expected, not {data!r}") from None
    if isinstance(data, str):
        try:
            number = float(data)
        except ValueError:
            return data
        return number if math.isfinite(number) else data
    return data


def _selector(data: Any) -> str | list[str] | Selector:
    if isinstance(data, str) or (isinstance(data, list) and all(isinstance(name, str) for name in data)):
        return data
    if not isinstance(data, dict) or len(data) != 1:
        raise CompositeError(f"select is a type of nodes, a list of them, or a dict with one key, not {data!r}")
    ((word, value),) = data.items()
    if word not in _SELECTORS:
        raise CompositeError(f"unknown selector {word!r}" + suggest(str(word), _SELECTORS))
    try:
        return _SELECTORS[word](value)
    except (TypeError, ValueError, IndexError):
        raise CompositeError(f"selector {word!r} cannot be made of {value!r}") from None


def _names(make: Callable[..., Selector]) -> Callable[[Any], Selector]:
    return lambda value: make(*([value] if isinstance(value, str) else value))


def _alone(make: Callable[[], Selector]) -> Callable[[Any], Selector]:
    return lambda value: make() if value is True else ~make()


def _one(data: Any) -> Selector:
    found = _selector(data)
    return found if isinstance(found, Selector) else selectors.by_type(*([found] if isinstance(found, str) else found))


def _range(make: Callable[[float, float], Selector]) -> Callable[[Any], Selector]:
    return lambda value: make(float(value[0]), float(value[1]))


_SELECTORS: dict[str, Callable[[Any], Selector]] = {
    "type": _names(selectors.by_type),
    "role": _names(selectors.by_role),
    "name": _names(selectors.by_name),
    "first": _alone(selectors.first),
    "last": _alone(selectors.last),
    "gated": _alone(selectors.gated),
    "everything": _alone(selectors.everything),
    "first_n": lambda value: selectors.first_n(int(value)),
    "lowest": selectors.lowest,
    "between": _range(selectors.between),
    "stage": _range(selectors.stage),
    "all": lambda value: reduce(and_, map(_one, value)),
    "any": lambda value: reduce(or_, map(_one, value)),
    "not": lambda value: ~_one(value),
}
