"""Which composite and which options, where the command line does not say."""

from __future__ import annotations

import inspect
from typing import TYPE_CHECKING, Any

from onnx_lrp.errors import CompositeError

if TYPE_CHECKING:
    from pathlib import Path

    from onnx_lrp.plan import Plan

__all__ = ["FALLBACK", "USUAL", "has_convolutions", "parse_options", "with_bounds"]

_OPTIONS = ("low", "high", "epsilon", "gamma", "patterns")
USUAL = "epsilon_plus_flat"
"""The composite when none is named ..."""
FALLBACK = "epsilon"
"""... and that for models without convolutions, where a flat first layer would give all features the same relevance."""


def parse_options(texts: list[str]) -> dict[str, Any]:
    """The composite's options that are written NAME=VALUE: numbers where they look like numbers, else words.

    Raises:
        CompositeError: One of them has no name or no value.
    """
    options: dict[str, Any] = {}
    for text in texts:
        name, _, value = text.partition("=")
        if not name or not value:
            raise CompositeError(f"--option takes NAME=VALUE, not {text!r}")
        options[name.replace("-", "_")] = _parsed(value)
    return options


def _parsed(text: str) -> int | float | str:
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    return text


def has_convolutions(plan: Plan) -> bool:
    """Whether relevance flows through a convolution."""
    return any(step.view.kind == "convolution" for step in plan.steps)


def with_bounds(model: Path, composite: str, options: dict[str, Any], preprocess: str | None, *, pictures: bool = False) -> dict[str, Any]:
    """Add the smallest and largest input, low and high, if the composite needs them and they follow from the preprocessing.

    Args:
        model: The model.
        composite: The composite's key.
        options: The options given for it, those that are None left out.
        preprocess: A preset's name or a JSON file; None if not given.
        pictures: Whether the inputs are pictures, which are then prepared in the usual way if nothing else is said.

    Returns:
        The options for the composite.

    Raises:
        CompositeError: The composite is unknown, or options are missing or unknown.
        OnnxLrpError: The model cannot be read, or takes no pictures, or the preprocessing is wrong.
    """
    given = {name: value for name, value in options.items() if value is not None}
    if composite in (USUAL, FALLBACK) and not given:  # nothing to look up
        return given
    from onnx_lrp.commands.inputs import prepare
    from onnx_lrp.composites import find_composite, make_composite
    from onnx_lrp.graph import read_graph
    from onnx_lrp.patterns import Patterns

    kind, _ = find_composite(composite)
    known = inspect.signature(kind).parameters
    bounded = {"low", "high"} <= known.keys()
    if bounded and not {"low", "high"} <= given.keys() and (pictures or preprocess is not None):
        graph = read_graph(model)
        pictures_only = {name: type_ for name, type_ in graph.inputs.items() if type_.shape is None or len(type_.shape) == 4}
        fitted, _ = prepare(preprocess, pictures_only or graph.inputs, graph.metadata)
        given = {"low": fitted.low(), "high": fitted.high()} | given
    for name in given:
        if name not in known:
            takes = ", ".join(f"--{option}" for option in known if option in _OPTIONS)
            others = ", ".join(option for option, p in known.items() if p.kind is p.KEYWORD_ONLY and option not in _OPTIONS)
            listed = " and ".join(part for part in (takes, f"--option {others}" if others else "") if part) or "none of these options"
            shown = f"--{name}" if name in _OPTIONS else f"option {name!r}"
            raise CompositeError(f"composite {composite!r} has no {shown}; it takes {listed}")
    if "patterns" in given:
        given["patterns"] = Patterns.load(given["patterns"])
    try:
        make_composite(composite, given)
    except CompositeError as error:
        text = str(error).replace("low= and high=", "--low and --high")
        hint = "; with --preprocess they follow from it" if text != str(error) else ""
        if "patterns=" in text:
            text = f"{composite} needs --patterns, the file that onnx-lrp patterns writes"
        raise CompositeError(text + hint) from None
    return given
