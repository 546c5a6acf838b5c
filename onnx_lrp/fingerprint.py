"""What a compiled explainer depends on, as text that is the same if and only if it is the same: model, options, software, processor."""

from __future__ import annotations

import dataclasses
import hashlib
import mmap
import os
import platform
import re
from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from onnx_lrp.errors import InputError, ModelError

if TYPE_CHECKING:
    from onnx_lrp.graph import Graph, ModelSource

__all__ = ["content_of", "environment", "identity"]

_PIECE: Final = 16 * 2**20
"""Files are hashed in pieces of so many bytes, by as many threads as there are processors."""
_LOCATION: Final = re.compile(rb"\x0a\x08location\x12")
"""How a tensor in an ONNX file starts to say in which other file its data is."""


def content_of(model: ModelSource | Graph) -> str:
    """A hash of a model: of its bytes, and of all files beside it that hold weights.

    Raises:
        InputError: it is a graph.
        ModelError: a file cannot be read.
    """
    if isinstance(model, bytes):
        return _digest(memoryview(model))
    if hasattr(model, "SerializeToString"):
        try:
            return _digest(memoryview(model.SerializeToString(deterministic=True)))
        except ValueError as error:
            raise ModelError(f"the model cannot be hashed for the cache, pass its path: {error}") from None
    if not isinstance(model, (str, os.PathLike)):
        raise InputError(f"an explainer is cached by its model's path, bytes or ModelProto, not by a {type(model).__name__}")
    path = Path(model)
    own, others = _file(path, find=True)
    named = {name: _file(path.parent / name)[0] for name in sorted(others) if (path.parent / name).is_file()}
    return " ".join([own, *(f"{name}={digest}" for name, digest in named.items())])


def _file(path: Path, *, find: bool = False) -> tuple[str, set[str]]:
    """The hash of a file, and if asked for the names of the files where its tensors' data is (and perhaps other text)."""
    if path.is_dir():
        raise ModelError(f"{path} is a folder, not an ONNX file")
    try:
        with path.open("rb") as file:
            if not os.fstat(file.fileno()).st_size:
                return _digest(memoryview(b"")), set()
            with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content, memoryview(content) as view:
                return _digest(view), _locations(content) if find else set()
    except FileNotFoundError:
        raise ModelError(f"no such file: {path}") from None
    except OSError as error:
        raise ModelError(f"cannot read {path}: {error.strerror or error}") from None


def _locations(content: mmap.mmap) -> set[str]:
    found = set()
    for match in _LOCATION.finditer(content):
        length, start = 0, match.end()
        for shift in (0, 7, 14):
            byte = content[start] if start < len(content) else 0
            length |= (byte & 127) << shift
            start += 1
            if byte < 128:
                break
        name = content[start : start + min(length, 4096)].decode("utf-8", "replace")
        if name and "\0" not in name:
            found.add(name)
    return found


def _digest(data: memoryview) -> str:
    """A hash of bytes: of the hashes of their pieces."""
    pieces = [data[start : start + _PIECE] for start in range(0, len(data), _PIECE)]
    if len(pieces) < 2:
        digests = [hashlib.sha256(piece).digest() for piece in pieces]
    else:
        from concurrent.futures import ThreadPoolExecutor

        with ThreadPoolExecutor(min(len(pieces), os.cpu_count() or 1)) as pool:
            digests = list(pool.map(lambda piece: hashlib.sha256(piece).digest(), pieces))
    for piece in pieces:
        piece.release()
    return hashlib.sha256(b"".join(digests)).hexdigest()


def identity(value: Any, name: str = "") -> Any:
    """A value as what JSON can hold, so that values are equal if and only if this is.

    A text that is the path of a file stands for the file's content: composites, and patterns, may be such.

    Args:
        value: numbers, texts, arrays, rules and other dataclasses, Patterns, and lists and dicts of them.
        name: what to call it in messages.

    Raises:
        InputError: something else, such as a composite that was made with selectors: nothing tells when two of these are the same.
    """
    if isinstance(value, np.ndarray):
        return ["array", value.dtype.str, value.shape, hashlib.sha256(value.tobytes()).hexdigest()]
    if isinstance(value, np.generic):
        return identity(value.item(), name)
    if value is None or isinstance(value, (bool, int)):
        return value
    if isinstance(value, float):
        return ["float", value.hex()]
    if isinstance(value, (str, os.PathLike)):
        path = Path(value)
        return ["file", _file(path)[0]] if path.suffix and path.is_file() else str(value)
    if isinstance(value, Mapping):
        return {"dict": [[str(key), identity(each, str(key))] for key, each in sorted(value.items(), key=lambda item: str(item[0]))]}
    if isinstance(value, (list, tuple)) or (isinstance(value, Sequence) and not isinstance(value, bytes)):
        return [type(value).__name__, *(identity(each, name) for each in value)]
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        fields = {field.name: getattr(value, field.name) for field in dataclasses.fields(value)}
        return [f"{type(value).__module__}.{type(value).__qualname__}", identity(fields, name)]
    if type(value).__module__ == "onnx_lrp.patterns.store":
        return identity(vars(value), name)
    raise InputError(f"no cache can tell explainers apart by this {name or 'option'}: give a composite by its name or file")


@cache
def environment() -> list[str]:
    """This package, onnxruntime, and the processor: what an optimised graph is made by, and for."""
    import onnxruntime

    own = hashlib.sha256()
    for name, size, changed in sorted(_sources(str(Path(__file__).parent))):
        own.update(f"{name} {size} {changed}\n".encode())
    runtime = [onnxruntime.__version__, str(onnxruntime.get_build_info())]
    return [own.hexdigest(), *runtime, platform.system(), platform.machine(), _processor()]


def _sources(folder: str) -> Iterator[tuple[str, int, int]]:
    """The path, the size and the time of the last change of the package's files."""
    with os.scandir(folder) as entries:
        for entry in entries:
            if entry.is_dir():
                yield from _sources(entry.path)
            elif entry.name.endswith(".py"):
                state = entry.stat()
                yield entry.path, state.st_size, state.st_mtime_ns


def _processor() -> str:
    """What the processor can do. On Linux the features of the first core, elsewhere its name."""
    try:
        with Path("/proc/cpuinfo").open(encoding="ascii", errors="replace") as file:
            lines = [line.strip() for line in file.read(16384).split("\n\n")[0].splitlines()]
        kept = [line for line in lines if line.startswith(("model name", "flags", "Features", "CPU implementer", "CPU part"))]
        return "\n".join(kept)
    except OSError:
        return platform.processor()
