"""Compiled explainers on disk: a second start reads neither model nor plan, it loads what onnxruntime made of them the first time.

An entry is a folder with four files: the graph as onnxruntime optimised it for this machine, its weights, which are mapped into memory
when they are needed, the graph as it was emitted, without weights, and the explainer's signature. Its name is a hash of all that the
compiled graph depends on; see `onnx_lrp.fingerprint`. It is written under another name and renamed, so that no
process ever sees a part of one.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from onnx_lrp.errors import InputError, ModelError
from onnx_lrp.fingerprint import content_of, environment, identity
from onnx_lrp.interpreter import Interpreter
from onnx_lrp.signature import Signature

if TYPE_CHECKING:
    import onnx

    from onnx_lrp.graph import Graph, ModelSource
    from onnx_lrp.tensors import Array

__all__ = ["LIMIT", "Cache", "Entry", "default_folder"]

LIMIT: Final = 8 * 2**30
"""The bytes that a cache may hold: when an entry is added, those that were not used for longest are removed."""
_MODEL, _FACTS = "explainer.onnx", "explainer.json"
_UNFINISHED = ".unfinished-"


def default_folder() -> Path:
    """Where this user's cache is: $ONNX_LRP_CACHE, else the folder onnx_lrp where the platform keeps caches."""
    if given := os.environ.get("ONNX_LRP_CACHE"):
        return Path(given)
    if sys.platform == "win32":
        base = os.environ.get("LOCALAPPDATA") or Path.home() / "AppData" / "Local"
    elif sys.platform == "darwin":
        base = Path.home() / "Library" / "Caches"
    else:
        base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base) / "onnx_lrp"


def _note(text: str) -> None:
    import logging

    logging.getLogger("onnx_lrp.cache").warning("%s", text)


class Cache:
    """A folder of compiled explainers.

    Args:
        folder: default: `default_folder()`.
        limit: how many bytes it may hold.
    """

    def __init__(self, folder: str | os.PathLike[str] | None = None, limit: int = LIMIT):
        self.folder = default_folder() if folder is None else Path(folder)
        self.limit = limit

    def entry(self, model: ModelSource | Graph, options: Mapping[str, Any]) -> Entry | None:
        """The entry of a model and the options of an Explainer; whether it is there tells `Entry.load`.

        None for other providers than the CPU, and a logged warning says so: what onnxruntime keeps of their graphs is not sure to load.

        Raises:
            InputError: the model or an option is an object whose content has no fixed form, such as a function.
            ModelError: the model's file cannot be read.
        """
        if any((each if isinstance(each, str) else each[0]) != "CPUExecutionProvider" for each in options.get("providers", ())):
            _note("explainers are cached for the CPU only: this one is compiled")
            return None
        content = content_of(model)
        key = hashlib.sha256(json.dumps([content, identity(dict(options)), environment()]).encode()).hexdigest()[:32]
        return Entry(self, key, content)

    def entries(self) -> list[Path]:
        """The folders of the entries, the one that was used last at the end."""
        try:
            found = [path for path in self.folder.iterdir() if (path / _FACTS).is_file() and not path.name.startswith(_UNFINISHED)]
            return sorted(found, key=lambda path: (path / _FACTS).stat().st_mtime_ns)
        except OSError:  # there is none yet, or another process is clearing it
            return []

    def size(self) -> int:
        """How many bytes the entries take."""
        return sum(map(_size, self.entries()))

    def clear(self) -> int:
        """Removes all entries, and what interrupted processes left.

        Returns:
            How many entries there were.

        Raises:
            InputError: a file cannot be removed.
        """
        entries = self.entries()
        left = list(self.folder.glob(f"{_UNFINISHED}*")) if self.folder.is_dir() else []
        try:
            for path in [*entries, *left]:
                shutil.rmtree(path)
        except OSError as error:
            raise InputError(f"cannot clear the cache {self.folder}: {error.strerror or error}") from None
        return len(entries)

    def trim(self, keep: Path) -> None:
        """Removes the entries that were not used for longest until the rest is within the limit; one of them is kept in any case."""
        sizes = {path: _size(path) for path in self.entries()}
        total = sum(sizes.values())
        for path, size in sizes.items():
            if total <= self.limit:
                return
            if path != keep:
                shutil.rmtree(path, ignore_errors=True)
                total -= size


def _size(folder: Path) -> int:
    try:
        return sum(file.stat().st_size for file in folder.iterdir())
    except OSError:
        return 0


class Entry:
    """The place of one compiled explainer in a cache."""

    def __init__(self, cache: Cache, key: str, content: str):
        self.cache = cache
        self.folder = cache.folder / key
        self._content = content
        self.loaded = False
        """Whether the explainer came from here."""

    def require_same(self, model: ModelSource | Graph) -> None:
        """Raises ModelError if the model's content is no longer what it was when the explainer was loaded."""
        if self.loaded and content_of(model) != self._content:
            raise ModelError("the model has changed since the explainer was made")

    def load(self, providers: Sequence[Any], threads: int | None) -> tuple[Interpreter, Signature] | None:
        """The session and its signature; None if they are not there. A damaged entry is removed, and a logged warning says so."""
        try:
            text = (self.folder / _FACTS).read_text(encoding="utf-8")
            found = self._opened(json.loads(text), providers, threads)
        except FileNotFoundError:
            if self.folder.is_dir():
                self._discard("a file is missing")
            return None
        except (OSError, ValueError, KeyError, TypeError, AttributeError, ModelError) as error:
            self._discard(error)
            return None
        with contextlib.suppress(OSError):  # a cache that is only read is one, too
            os.utime(self.folder / _FACTS)
        self.loaded = True
        return found

    def _opened(self, facts: Any, providers: Sequence[Any], threads: int | None) -> tuple[Interpreter, Signature]:
        sizes = {path.name: path.stat().st_size for path in self.folder.iterdir() if path.name != _FACTS}
        if sizes != facts["sizes"] or _hash(self.folder / _MODEL) != facts["graph"]:
            raise ModelError("a file is cut off or was changed")
        signature = Signature.loads(facts["signature"])
        return Interpreter.kept(self.folder / _MODEL, providers, threads, prepack=facts["prepacks"]), signature

    def _discard(self, reason: object) -> None:
        _note(f"the cached explainer in {self.folder} is damaged and made anew: {reason}")
        shutil.rmtree(self.folder, ignore_errors=True)

    def store(
        self,
        emitted: Callable[[], tuple[onnx.ModelProto, dict[str, Array], Signature]],
        providers: Sequence[Any],
        threads: int | None,
    ) -> tuple[Interpreter, Signature]:
        """Compiles an explainer and keeps it. If that cannot be written, a logged warning says why.

        Args:
            emitted: emits the explaining graph: the model, its constants and the signature.
            providers: for onnxruntime.
            threads: as of Interpreter.
        """
        model, constants, signature = emitted()
        unfinished = self.cache.folder / f"{_UNFINISHED}{os.urandom(8).hex()}"
        try:
            unfinished.mkdir(parents=True)
        except OSError as error:
            _note(f"the compiled explainer is not cached: cannot write {unfinished.parent}: {error.strerror or error}")
            return Interpreter(model, constants, providers, threads), signature
        try:
            found = Interpreter(model, constants, providers, threads, keep_at=unfinished / _MODEL)
            self._finish(unfinished, found, signature)
        except (OSError, ModelError) as error:
            _note(f"the compiled explainer is not cached: {error}")
            model, constants, _ = emitted()
            found = Interpreter(model, constants, providers, threads)
        finally:
            shutil.rmtree(unfinished, ignore_errors=True)
        return found, signature

    def _finish(self, unfinished: Path, interpreter: Interpreter, signature: Signature) -> None:
        facts = {
            "signature": signature.dumps(),
            "prepacks": interpreter.prepacks,
            "sizes": {path.name: path.stat().st_size for path in unfinished.iterdir()},
            "graph": _hash(unfinished / _MODEL),
        }
        (unfinished / _FACTS).write_text(json.dumps(facts), encoding="utf-8")
        try:
            unfinished.rename(self.folder)
        except OSError:
            if not self.folder.is_dir():  # else another process was faster
                raise
        self.cache.trim(self.folder)


def _hash(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()
