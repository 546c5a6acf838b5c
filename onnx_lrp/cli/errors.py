"""What the command line makes of errors."""

from __future__ import annotations

import errno
import os
import sys
from collections.abc import Callable

from onnx_lrp.commands.printing import warn
from onnx_lrp.errors import OnnxLrpError

__all__ = ["exit_code"]


def exit_code(run: Callable[[], int]) -> int:
    """Run a command. What a user can cause becomes one line and exit code 2; a traceback is a bug of ours.

    Returns:
        The command's exit code; 2 after an error, 1 if nobody reads the output any more, 130 after an interruption.
    """
    try:
        try:
            return run()
        finally:
            if sys.stdout is not None:
                sys.stdout.flush()  # that a pipe is closed is to show here, not when Python ends
    except KeyboardInterrupt:
        return 130
    except OnnxLrpError as error:
        return _failed(str(error))
    except MemoryError:
        return _failed("not enough memory")
    except OSError as error:
        if error.errno == errno.EPIPE:
            _write_nowhere()
            return 1
        if error.errno is None:
            raise
        where = f"{error.filename}: " if error.filename else ""
        return _failed(f"{where}{error.strerror}")


def _failed(message: str) -> int:
    warn("error: " + " ".join(message.split()))
    return 2


def _write_nowhere() -> None:
    """Let what is still to be written go nowhere, so that Python can end without a word."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    for stream in (sys.stdout, sys.stderr):
        if stream is not None:
            os.dup2(nowhere, stream.fileno())
