"""What stands on the command line, read by argparse.

A command declares its arguments as a list, and `Parser` hands them to argparse. Options may stand anywhere between the other arguments, and
one that takes a value takes the next word whatever it looks like, such as -2.2 or -1,3. Wrong usage is an `InputError`.
"""

from __future__ import annotations

from argparse import Action, ArgumentParser, Namespace
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, NoReturn

from onnx_lrp.errors import InputError, near

__all__ = ["Argument", "Namespace", "Parser"]

_HELP = ("-h", "--help")


class Argument:
    """An argument or option, as a command declares it.

    Args:
        names: Of an option its forms, such as -o and --out; of an argument one word.
        under: The heading that it is listed under.
        settings: What `argparse.ArgumentParser.add_argument` takes. What stands for the value in the help follows from its type if that
            says so, and a least value and a default are added to the help.
    """

    __slots__ = ("names", "settings", "under")

    def __init__(self, *names: str, under: str = "Arguments", **settings: Any):
        self.names, self.under, self.settings = names, under, settings
        if hasattr(settings.get("type"), "shown"):
            settings.setdefault("metavar", settings["type"].shown)
        least = getattr(settings.get("type"), "least", None)
        if least is not None:
            settings["help"] += f" At least {least:g}."
        if settings.get("default") is not None:
            settings["help"] += " Default: %(default)s."

    @property
    def usage(self) -> str:
        """How an argument stands in the line of usage; nothing for an option."""
        if self.names[0].startswith("-"):
            return ""
        name: str = self.settings["metavar"]
        return {"+": f" {name}...", "?": f" [{name}]"}.get(self.settings.get("nargs", ""), f" {name}")


class Parser(ArgumentParser):
    """Reads the arguments of one command.

    Args:
        prog: The command as it is called, such as onnx-lrp explain.
        arguments: What it takes.
        description: What it does; paragraphs have an empty line between them.
        usage: What follows its name in the line of usage; none: what the arguments say.
        epilog: What stands at the end of the help.
    """

    def __init__(self, prog: str, arguments: Sequence[Argument], description: str, usage: str = "", epilog: str | None = None):
        usage = usage or "[OPTIONS]" + "".join(argument.usage for argument in arguments)
        super().__init__(prog, f"%(prog)s {usage}", description, epilog, add_help=False, allow_abbrev=False)
        self._line = f"Usage: {prog} {usage}; more with --help"
        self._options: dict[str, Action] = {}
        groups: dict[str, Any] = {}
        for argument in (*arguments, Argument(*_HELP, action="help", under="Options", help="Show this message and exit.")):
            if argument.under not in groups:
                groups[argument.under] = self.add_argument_group(argument.under)
            action: Action = groups[argument.under].add_argument(*argument.names, **argument.settings)
            self._options |= dict.fromkeys(action.option_strings, action)

    def parse(self, words: Iterable[str]) -> Namespace:
        """The values of all arguments. Help is printed, and ends the program, wherever it is asked for.

        Raises:
            InputError: Something is missing, unknown or wrong.
        """
        options: list[str] = []
        others: list[str] = []
        rest = iter(words)
        for word in rest:
            if word == "--":
                others.extend(rest)
            elif word == "-" or not word.startswith("-"):
                others.append(word)
            elif word in _HELP:
                return self.parse_args([word])
            else:
                options.append(self._with_value(word, rest))
        dashed = any(word.startswith("-") for word in others)
        return self.parse_args([*options, *(["--"] if dashed else []), *others])

    def _with_value(self, word: str, rest: Iterator[str]) -> str:
        """An option and its value in one word; the value stands behind it in this one, or is the next."""
        name, _, value = word.partition("=")
        if name not in self._options and not name.startswith("--"):  # -oFILE
            name, value = word[:2], word[2:]
        option = self._options.get(name)
        if option is None:
            raise self.wrong(f"no such option: {name}{near(name, self._options)}")
        if option.nargs == 0:
            if word != name:
                raise self.wrong(f"{name} takes no value")
            return word
        following = next(rest, None) if word == name else value
        if following in (None, "--"):
            raise self.wrong(f"{name} needs a value")
        return f"{option.option_strings[-1]}={following}"

    def wrong(self, message: str) -> InputError:
        """The error for wrong usage, which also says what the usage is."""
        return InputError(f"{message} ({self._line})")

    def error(self, message: str) -> NoReturn:
        """Raise what argparse found wrong.

        Raises:
            InputError: Always.
        """
        raise self.wrong(message.removeprefix("argument "))

    def format_help(self) -> str:
        """The help, as wide as the terminal."""
        from onnx_lrp.cli.help import formatter

        self.formatter_class = formatter
        return super().format_help()

    def print_help(self, file: Any = None) -> None:
        """Print the help; that nobody reads it is an error like any other, which argparse would keep to itself."""
        print(self.format_help(), end="", file=file)
