"""Exported programs (.pt2): read without letting the file choose what runs.

`torch.export.load` unpickles where it must, evaluates the text of symbolic sizes, and looks operators up by any dotted name. So the file
is looked through first: it may only have the parts, the operators and the expressions that torch.export itself writes.
"""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

from onnx_lrp.errors import ModelError

from ..archives import check_expansion, members, read_json
from ..frameworks import quiet, reason, require

__all__ = ["is_exported", "load"]

_MARK: Final = "archive_format"
_OLD_MARK: Final = "serialized_exported_program.json"
_MEMBER: Final = re.compile(
    r"[^/]+/(data/(weights|constants|sample_inputs)/[^/]+|models/[^/]+\.json|extra/[^/]+|\.data/[^/]+|archive_format|archive_version|"
    r"byteorder|version|\.format_version|\.storage_alignment)"
)
_OPERATOR: Final = re.compile(
    r"torch\.ops\.(aten|prims|higher_order|torchvision|torchaudio|quantized|quantized_decomposed)\."
    r"((?!__)\w+|__i?(and|or|xor|lshift|rshift)__)(\.(?!__)\w+)?|"
    r"_operator\.(getitem|i?(add|sub|mul|truediv|floordiv|mod|pow|and_?|or_?|xor|lshift|rshift)|neg|pos|abs|eq|ne|lt|le|gt|ge|not_|index)|"
    r"math\.(?!_)\w+|torch\._?sym_\w+"
)
_ALLOWED: Final = {
    "target": _OPERATOR,
    "as_operator": _OPERATOR,
    "expr_str": re.compile(r"[\w ()+*/%<>=!&|~,.'-]{0,1000}"),
    "name": re.compile(r"[\w.\[\]<>'/ -]*"),
    "path_name": re.compile(r"(weight|tensor)_\w+"),
}
_CALL: Final = re.compile(r"([A-Za-z_]\w*)\s*\(")
_CALLS: Final = frozenset(
    [
        "Symbol",
        "Integer",
        "Float",
        "Rational",
        "Abs",
        "Max",
        "Min",
        "Mod",
        "Eq",
        "Ne",
        "Lt",
        "Le",
        "Gt",
        "Ge",
        "And",
        "Or",
        "Not",
        "Pow",
        "Add",
        "Mul",
        "floor",
        "ceiling",
        "Piecewise",
        "FloorDiv",
        "ModularIndexing",
        "Where",
        "PythonMod",
        "CleanDiv",
        "CeilToInt",
        "FloorToInt",
        "CeilDiv",
        "LShift",
        "RShift",
        "PowByNatural",
        "FloatPow",
        "FloatTrueDiv",
        "IntTrueDiv",
        "TruncToFloat",
        "TruncToInt",
        "RoundToInt",
        "RoundDecimal",
        "ToFloat",
        "Identity",
        "IsNonOverlappingAndDenseIndicator",
    ]
)
_UNUSUAL: Final = re.compile(r"__|\.\s*[A-Za-z_]|\)\s*\(|\d{20}|\*\*\s*(?!\d\b)|\*\*\s*\d\s*\*\*|(\*\*.*){4}")
"""Attributes, calls of results, and powers that take for ever."""
_DEPTH: Final = 200


def is_exported(names: list[str]) -> bool:
    """Whether a zip file with these members is an exported program."""
    return any(name.rsplit("/", 1)[-1] in (_MARK, _OLD_MARK) for name in names)


def load(path: Path) -> tuple[Any, Any]:
    """Read an exported program.

    Returns:
        The torch.export.ExportedProgram, and the module that computes it.

    Raises:
        ModelError: The file is broken, of an old version, or has what torch.export does not write.
    """
    check_expansion(path)
    _check(path)
    torch = require("pytorch", "torch")
    try:
        with quiet(), _weights_only():
            program = torch.export.load(path)
            return program, program.module()
    except Exception as error:
        raise ModelError(f"{path}: PyTorch {torch.__version__} cannot read this exported program: {reason(error)}") from error


def _check(path: Path) -> None:
    names = members(path)
    if _OLD_MARK in names:
        raise ModelError(f"{path} was saved by a PyTorch before 2.8: save it again with torch.export.save")
    for name in names:
        if not _MEMBER.fullmatch(name):
            raise ModelError(f"{path} is refused: {name!r} is no part of an exported program without compiled code")
    models = [name for name in names if "/models/" in name]
    if len(models) != 1:
        raise ModelError(f"{path} holds {len(models)} exported programs, not one")
    for name in names:
        if name.endswith(".json"):
            _walk(read_json(path, name), path, 0)


def _walk(value: Any, path: Path, depth: int) -> None:
    if depth > _DEPTH:
        raise ModelError(f"{path} is refused: its description is nested too deeply")
    if isinstance(value, list):
        for item in value:
            _walk(item, path, depth + 1)
    elif isinstance(value, dict):
        for key, item in value.items():
            if isinstance(item, str):
                _check_text(key, item, path)
            else:
                _walk(item, path, depth + 1)


def _check_text(key: str, text: str, path: Path) -> None:
    allowed = _ALLOWED.get(key)
    if (allowed is not None and not allowed.fullmatch(text)) or (key == "expr_str" and not _harmless(text)):
        raise ModelError(f"{path} is refused: {key} {text[:80]!r} is nothing that an exported program of tensors needs")


def _harmless(expression: str) -> bool:
    """Whether the text of a symbolic size, which is evaluated, only computes with numbers and symbols."""
    return not _UNUSUAL.search(expression) and all(name in _CALLS for name in _CALL.findall(expression))


@contextlib.contextmanager
def _weights_only() -> Iterator[None]:
    """Makes every torch.load inside refuse all but tensors: torch.export.load itself asks for unrestricted pickles."""
    names = {"TORCH_FORCE_WEIGHTS_ONLY_LOAD": "1", "TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD": None}
    before = {name: os.environ.get(name) for name in names}
    try:
        _set(names)
        yield
    finally:
        _set(before)


def _set(values: dict[str, str] | dict[str, str | None]) -> None:
    for name, value in values.items():
        if value is None:
            os.environ.pop(name, None)
        else:
            os.environ[name] = value
