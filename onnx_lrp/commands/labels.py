"""What --target says."""

from __future__ import annotations

import re

from onnx_lrp.errors import InputError
from onnx_lrp.labels import Labels

__all__ = ["parse_target"]


def parse_target(text: str, labels: Labels | None) -> list[int] | tuple[int, ...]:
    """Read what --target says.

    Args:
        text: A class's number or name, or several with commas between them; "3:10:12" for a place in an output of several axes.
        labels: The classes' names.

    Returns:
        The classes as a list, or the place as a tuple.

    Raises:
        InputError: Neither numbers nor names.
    """
    whole = labels.find(text) if labels else None
    if whole is not None:
        return [whole]
    if re.fullmatch(r"\s*\d+(\s*:\s*\d+)+\s*", text):
        return tuple(int(part) for part in text.split(":"))
    return [_class_of(part.strip(), labels) for part in text.split(",")]


def _class_of(text: str, labels: Labels | None) -> int:
    try:
        return int(text)
    except ValueError:
        pass
    if labels is None:
        raise InputError(f"target {text!r} is no number; names of classes need --labels")
    return labels.index(text)
