"""Names of classes."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

from onnx_lrp.errors import InputError, suggest

if TYPE_CHECKING:
    import os

__all__ = ["Labels", "parse_target"]

_SYNSET = re.compile(r"n\d{8}[\s,:]+")


class Labels:
    """The names of a model's classes, one a line of a text file.

    Lines such as "n01440764 tench, Tinca tinca" lose what is before the name, and so do lines that start with the class's number.

    Raises:
        InputError: The file is missing or has no names.
    """

    def __init__(self, path: str | os.PathLike[str]):
        try:
            text = Path(path).read_text(encoding="utf-8-sig", errors="replace")
        except FileNotFoundError:
            raise InputError(f"no such file: {path}") from None
        except OSError as error:
            raise InputError(f"cannot read {path}: {error.strerror or error}") from None
        lines = [line.strip() for line in text.rstrip().splitlines()]
        if not lines or "\0" in text:
            raise InputError(f"{path} is no list of labels, one a line")
        numbered = [re.match(rf"{index}[\s,:]+", line) for index, line in enumerate(lines)]
        if all(numbered):
            lines = [line[match.end() :] for line, match in zip(lines, numbered, strict=True) if match]
        self.path = path
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
    found = labels.find(text)
    if found is None:
        known = [part.strip() for line in labels.lines for part in line.split(",")]
        near = suggest(text, [name for name in known if name])
        raise InputError(f"no class is named {text!r}{near if 'did you mean' in near else ''}")
    return found
