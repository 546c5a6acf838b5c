"""What the command line makes of errors."""

import errno
from typing import Any

import typer
from typer.core import TyperGroup

from onnx_lrp.errors import OnnxLrpError

__all__ = ["Group"]


class Group(TyperGroup):
    """Turns what a user can cause into one line and exit code 2; a traceback is a bug of ours."""

    def invoke(self, ctx: Any) -> Any:
        """Run a command."""
        try:
            return super().invoke(ctx)
        except OnnxLrpError as error:
            _fail(str(error))
        except MemoryError:
            _fail("not enough memory")
        except OSError as error:
            if error.errno in (None, errno.EPIPE):
                raise
            where = f"{error.filename}: " if error.filename else ""
            _fail(f"{where}{error.strerror}")


def _fail(message: str) -> None:
    typer.echo("error: " + " ".join(message.split()), err=True)
    raise typer.Exit(2)
