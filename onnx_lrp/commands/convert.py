"""The command convert: models of other frameworks and old formats to ONNX, and sequential ONNX models to lrp_toolbox's text."""

from __future__ import annotations

import contextlib
import dataclasses
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from onnx_lrp.commands.printing import BOLD, say, styled
from onnx_lrp.errors import InputError, ModelError

if TYPE_CHECKING:
    from onnx_lrp.converters import Conversion, Report

__all__ = ["run", "sizes"]

_TEXT = ".txt"


def run(source: Path, to: Path | None, kind: str | None, preprocess: str | None, options: dict[str, Any]) -> None:
    """Convert a model, compare it with its source, write it, and say what was done.

    Args:
        source: A file or a folder.
        to: The file to write; lrp_toolbox's text if it ends in .txt, else ONNX. None: the source's name with .onnx.
        kind: The converter's name; None: the one that recognises the source.
        preprocess: A preset or a JSON file that goes into the model's metadata, in place of what the converter found.
        options: The converter's options.

    Raises:
        OnnxLrpError: The source cannot be converted, or nothing can be written.
    """
    target = to or Path(source.stem + ".onnx")
    if target.is_dir():
        raise InputError(f"cannot write {target}: it is a folder")
    with _working():
        if target.suffix.lower() == _TEXT:
            report = _to_text(source, target, kind, options)
        else:
            conversion = _converted(source, kind, options)
            if preprocess is not None:
                _record(conversion, preprocess)
            conversion.save(target)
            report = conversion.report
    _tell(report, target)


def _converted(source: Path, kind: str | None, options: dict[str, Any]) -> Conversion:
    from onnx_lrp.converters import convert

    return convert(source, kind, **options)


def _to_text(source: Path, target: Path, kind: str | None, options: dict[str, Any]) -> Report:
    """Writes lrp_toolbox's text from an ONNX model, or from whatever a converter recognises."""
    from onnx_lrp.converters import find
    from onnx_lrp.converters.lrp_toolbox import write

    if target.exists() and source.exists() and target.samefile(source):
        raise InputError(f"{target} is the source itself: choose another name")
    try:
        find(source, kind)
    except ModelError:
        if options:
            raise InputError(f"an ONNX model as a source takes no option {next(iter(options))!r}") from None
        return write(source, target)
    conversion = _converted(source, kind, options)
    return dataclasses.replace(write(conversion.model, target), source=source, kind=conversion.report.kind, notes=conversion.report.notes)


def _record(conversion: Conversion, name: str) -> None:
    """Puts a preprocessing into a model's metadata."""
    from onnx_lrp.metadata import PREPROCESS, recorded, stated
    from onnx_lrp.preprocess import find

    given = {name: value for name, value in dataclasses.asdict(find(name)).items() if value is not None}
    entries = {entry.key: entry.value for entry in conversion.model.metadata_props}
    (value,) = recorded(stated(entries) | given).values()
    kept = [entry for entry in conversion.model.metadata_props if entry.key != PREPROCESS]
    del conversion.model.metadata_props[:]
    conversion.model.metadata_props.extend(kept)
    conversion.model.metadata_props.add(key=PREPROCESS, value=value)


def _tell(report: Report, target: Path) -> None:
    say(styled(f"{report.source}: {report.kind}", BOLD))
    for note in report.notes:
        say(f"  {note}")
    say(f"  largest difference on the same input, {len(report.layers)} tensors compared: {report.difference:.1e}")
    say(f"    -> {target}")


def sizes(text: str) -> list[int]:
    """The lengths in a text such as "32,32,1" or "32x32x1".

    Raises:
        InputError: They are no whole numbers above 0.
    """
    words = text.replace("x", ",").split(",")
    if not all(word.strip().isdecimal() and int(word[:12]) > 0 for word in words):
        raise InputError(f"a size is whole numbers with commas between, such as 32,32,1, not {text!r}")
    return [int(word) for word in words]


@contextlib.contextmanager
def _working() -> Iterator[None]:
    """Shows on a terminal that something is being done: large models take a while."""
    if not sys.stderr.isatty():
        yield
        return
    from rich.console import Console

    with Console(stderr=True).status("converting and comparing"):
        yield
