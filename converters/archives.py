"""Zip files: what is in them, without unpacking anything."""

from __future__ import annotations

import json
import zipfile
from pathlib import Path
from typing import Any, Final

from onnx_lrp.errors import ModelError

__all__ = ["ZIP", "check_expansion", "members", "read", "read_json"]

ZIP: Final = b"PK\x03\x04"
"""How a zip file starts."""
_FREE: Final = 2**28
"""Members up to this size may be compressed as they like."""
_EXPANSION: Final = 20
_JSON: Final = 2**28


def members(path: Path) -> list[str]:
    """The names of a zip file's members; none if it is broken."""
    try:
        with zipfile.ZipFile(path) as archive:
            return archive.namelist()
    except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError):
        return []


def check_expansion(path: Path) -> None:
    """Refuse a file that would fill the memory or the disk when it is unpacked.

    Raises:
        ModelError: The file is broken, or its members are far larger than itself.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            total = sum(member.file_size for member in archive.infolist())
    except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError) as error:
        raise ModelError(f"{path} is a broken zip file: {error}") from None
    size = path.stat().st_size
    if total > max(_FREE, _EXPANSION * size):
        raise ModelError(f"{path} is refused: it holds {total:,} bytes in a file of {size:,}, which no model does")


def read_json(path: Path, member: str) -> Any:
    """A member of a zip file that is JSON.

    Raises:
        ModelError: It is missing, damaged, far too large, or not JSON.
    """
    try:
        return json.loads(read(path, member))
    except (ValueError, RecursionError) as error:
        raise ModelError(f"{path}: {member} is not JSON: {str(error)[:100]}") from None


def read(path: Path, member: str, limit: int = _JSON) -> bytes:
    """A member of a zip file.

    Raises:
        ModelError: It is missing, damaged, or larger than the limit.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            size = archive.getinfo(member).file_size
            data = archive.read(member) if size <= limit else b""
    except KeyError:
        raise ModelError(f"{path} has no {member}") from None
    except Exception as error:  # noqa: BLE001 - zipfile lets errors of zlib, lzma and struct through
        raise ModelError(f"{path}: {member} is damaged: {error}") from None
    if size > limit:
        raise ModelError(f"{path}: {member} is refused: it is larger than {limit:,} bytes")
    return data
