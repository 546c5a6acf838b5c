"""What the command line makes of errors."""

import errno
from typing import Any

import typer
from typer.core import TyperGroup

from onnx_lrp.cli_start import take_plain_values
from onnx_lrp.errors import OnnxLrpError

__all__ = ["Group"]


class Group(TyperGroup):
    """Turns what a user can cause into one line and exit code 2; a traceback is a bug of ours."""

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        """A command by its name."""
        command = super().get_command(ctx, cmd_name)
        if command is not None:
            take_plain_values(command.get_params(ctx))
        return command

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Read the options that stand before the command."""
        take_plain_values(self.get_params(ctx))
        return super().parse_args(ctx, args)

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
