"""Names of classes."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable
from math import prod
from pathlib import Path
from typing import Any

import numpy as np

from onnx_lrp.errors import InputError, suggest

__all__ = ["LabelSource", "Labels"]

LabelSource = str | os.PathLike[str] | Iterable[str]

_SYNSET = re.compile(r"n\d{8}[\s,:]+")


class Labels:
    """The names of a model's classes, in their order.

    A class may have several names with commas between them. Entries such as "n01440764 tench, Tinca tinca" lose what is before the name,
    and so do entries that start with the class's number.

    Args:
        source: The names, or the path of a text file with one class a line.

    Raises:
        InputError: The file is missing or has no names, or an entry is no text.
    """

    def __init__(self, source: LabelSource):
        self.source = source if isinstance(source, (str, os.PathLike)) else "the list of labels"
        lines = _lines_of(source) if isinstance(source, (str, os.PathLike)) else _entries_of(source)
        numbered = [re.match(rf"{index}[\s,:]+", line) for index, line in enumerate(lines)]
        if all(numbered):
            lines = [line[match.end() :] for line, match in zip(lines, numbered, strict=True) if match]
        self.lines = [_SYNSET.sub("", line, count=1) if _SYNSET.match(line) else line for line in lines]

    def __len__(self) -> int:
        return len(self.lines)

    def name(self, index: int) -> str:
        """The first name of a class."""
        return self.lines[index].split(",")[0].strip() if index < len(self.lines) else ""

    def find(self, text: str) -> int | None:
        """The class of this name, in any case; None if there is none.

        Raises:
            InputError: Several classes have this name.
        """
        wanted = text.strip().casefold()
        names = [{line.casefold(), *(part.strip() for part in line.casefold().split(","))} for line in self.lines]
        found = [index for index, known in enumerate(names) if wanted in known]
        if len(found) > 1:
            raise InputError(f"{text!r} names the classes {', '.join(map(str, found))}: give the number of one")
        return found[0] if found else None

    def index(self, text: str) -> int:
        """The class of this name, in any case.

        Raises:
            InputError: No class has this name, or several have it.
        """
        found = self.find(text)
        if found is None:
            known = [part.strip() for line in self.lines for part in line.split(",")]
            near = suggest(text, [name for name in known if name])
            raise InputError(f"no class is named {text!r}{near if 'did you mean' in near else ''}")
        return found

    def require_fit(self, shape: tuple[int, ...] | None) -> None:
        """Checks that there is a label for each element of a sample's output, or for each along one of its axes; None is not known yet.

        Raises:
            InputError: There are more or fewer.
        """
        if shape is not None and len(self) not in (prod(shape), *shape):
            raise InputError(f"{self.source} has {len(self)} label{'s' * (len(self) > 1)}, the model's output {prod(shape)} elements")


def without_names(target: Any, labels: Labels | None) -> Any:
    """A target in which numbers stand for the names of classes, whether it is one name, a list, or a list of lists.

    Raises:
        InputError: A name that is unknown, or that several classes have, or names without labels.
    """
    if isinstance(target, np.ndarray) and target.dtype.kind == "U":
        return np.array(without_names(target.tolist(), labels))
    if isinstance(target, (list, tuple)):
        return type(target)([without_names(item, labels) for item in target])
    if not isinstance(target, str):
        return target
    if labels is None:
        raise InputError(f"a target is a number unless the Explainer is given labels=, not {target!r}")
    return labels.index(target)


def _lines_of(path: str | os.PathLike[str]) -> list[str]:
    try:
        text = Path(path).read_text(encoding="utf-8-sig", errors="replace")
    except FileNotFoundError:
        raise InputError(f"no such file: {path}") from None
    except OSError as error:
        raise InputError(f"cannot read {path}: {error.strerror or error}") from None
    lines = [line.strip() for line in text.rstrip().splitlines()]
    if not lines or "\0" in text:
        raise InputError(f"{path} is no list of labels, one a line")
    return lines


def _entries_of(entries: Iterable[str]) -> list[str]:
    lines = list(entries)
    wrong = next((line for line in lines if not isinstance(line, str)), None)
    if wrong is not None or not lines:
        raise InputError(f"labels are the names of the classes as texts, not {wrong!r}" if lines else "the list of labels is empty")
    return [line.strip() for line in lines]
