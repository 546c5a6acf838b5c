"""What the converters that need a framework share: importing it, and silencing it."""

from __future__ import annotations

import contextlib
import importlib
import importlib.util
import logging
import os
import re
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

from onnx_lrp.errors import ModelError

__all__ = ["installed", "quiet", "reason", "require"]

_LONGEST: Final = 240
_COLOUR: Final = re.compile(r"\x1b\[[0-9;]*m")


def installed(module: str) -> bool:
    """Whether a top-level package is there; it is not imported."""
    return importlib.util.find_spec(module) is not None


def require(extra: str, *modules: str) -> Any:
    """Import what a converter needs.

    Args:
        extra: The optional extra of this package that brings the modules.
        modules: Their names.

    Returns:
        The first of them.

    Raises:
        ModelError: One is not installed; the message says what to install.
    """
    missing = [module for module in modules if not installed(module)]
    if missing:
        raise ModelError(f"this needs {' and '.join(missing)}, which is not installed: pip install 'onnx-lrp[{extra}]'")
    try:
        return next(importlib.import_module(module) for module in modules)
    except Exception as error:
        raise ModelError(f"{' and '.join(modules)} cannot be imported: {reason(error)}") from error


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Keeps a framework's warnings and its log off the terminal, and what it prints as it goes."""
    before = logging.root.manager.disable
    logging.disable(logging.ERROR)
    try:
        with warnings.catch_warnings(), Path(os.devnull).open("w") as nowhere:
            warnings.simplefilter("ignore")
            with contextlib.redirect_stdout(nowhere), contextlib.redirect_stderr(nowhere):
                yield
    finally:
        logging.disable(before)


def reason(error: BaseException) -> str:
    """A framework's error in one line: that of the first cause, without colours and the advice that follows."""
    while error.__cause__ is not None:
        error = error.__cause__
    text = _COLOUR.sub("", str(error)).strip().split("\n\n")[0]
    line = " ".join(text.split())
    line = line if len(line) <= _LONGEST else line[:_LONGEST].rsplit(" ", 1)[0] + " ..."
    return f"{type(error).__name__}: {line}" if line else type(error).__name__
