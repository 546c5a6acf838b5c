"""The command line: onnx-lrp.

A module here with the name of a command declares it: its docstring is the help, `ARGUMENTS` is what can be typed, and `run` does it with
what is in `onnx_lrp.commands`. Of these modules only that of the command that is called is imported.
"""

from __future__ import annotations

import os
import sys
from importlib import import_module
from types import ModuleType
from typing import NoReturn

from onnx_lrp import __version__
from onnx_lrp.cli.errors import exit_code
from onnx_lrp.cli.parser import Argument, Parser
from onnx_lrp.commands.printing import say
from onnx_lrp.errors import near

__all__ = ["COMMANDS", "main", "parser", "process"]

COMMANDS = ("explain", "check", "compile", "patterns", "convert", "composites", "evaluate", "compare", "tune", "cache", "demo")


def process() -> NoReturn:
    """Run the command line as a process of its own, and end that at once.

    Python would first take down piece by piece what it holds, onnxruntime's session and threads among it, which takes a tenth of the time
    that explaining a picture takes. Nothing is left to be done there: files are closed, and `exit_code` has written all lines.
    """
    try:
        main()
    except SystemExit as end:
        os._exit(end.code if isinstance(end.code, int) else 1)
    os._exit(0)


def main() -> None:
    """Run the command line, and raise SystemExit."""
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")  # file names may have what a terminal has not
    sys.exit(exit_code(lambda: _run(sys.argv[1:])))


def _run(words: list[str]) -> int:
    """Run a command line without the program's name, and return the exit code.

    Raises:
        OnnxLrpError: It cannot be done.
    """
    if words[:1] == ["--"]:
        words = words[1:]
    word, *rest = words or [""]
    if word in COMMANDS:
        code: int = _module(word).run(parser(word).parse(rest))
        return code
    if word == "--version":
        say(f"onnx-lrp {__version__}")
        return 0
    program = _program()
    if word in ("", "-h", "--help"):
        program.print_help()
        return 0 if word else 2
    kind, known = ("option", ("--help", "--version")) if word.startswith("-") else ("command", COMMANDS)
    raise program.wrong(f"no such {kind}: {word}{near(word, known)}")


def _module(command: str) -> ModuleType:
    return import_module(f"onnx_lrp.cli.{command}")


def parser(command: str) -> Parser:
    """What reads the arguments of a command."""
    module = _module(command)
    return Parser(f"onnx-lrp {command}", module.ARGUMENTS, module.__doc__ or "")


def _program() -> Parser:
    """What prints the help of onnx-lrp itself, with the first sentences of all commands."""
    commands = [Argument(name, under="Commands", help=(_module(name).__doc__ or "").partition("\n\n")[0]) for name in COMMANDS]
    version = Argument("--version", action="store_true", under="Options", help="Print the version and exit.")
    return Parser(
        "onnx-lrp",
        [*commands, version],
        "See which parts of an input a prediction rests on: layer-wise relevance propagation for any ONNX model.",
        "[OPTIONS] COMMAND ...",
        "Start with: onnx-lrp demo. Then: onnx-lrp explain MODEL.onnx PHOTO.jpg. The options of a command: onnx-lrp COMMAND --help",
    )
