"""What the values of options are read as: numbers within bounds, and words of a list."""

from __future__ import annotations

from argparse import ArgumentTypeError

from onnx_lrp.errors import InputError, suggest

__all__ = ["BatchSize", "Choice", "Number", "Whole"]


class Whole:
    """A whole number that is not below a bound."""

    shown = "N"

    def __init__(self, least: int):
        self.least = least

    def __call__(self, text: str) -> int:
        """The number that is written.

        Raises:
            ArgumentTypeError: It is none, or too small.
        """
        try:
            number = int(text)
        except ValueError:
            raise ArgumentTypeError(f"{text!r} is not a whole number") from None
        if number < self.least:
            raise ArgumentTypeError(f"{text} is below {self.least}")
        return number


class Number:
    """A number, which is not below a bound if there is one."""

    shown = "NUMBER"

    def __init__(self, least: float | None = None):
        self.least = least

    def __call__(self, text: str) -> float:
        """The number that is written.

        Raises:
            ArgumentTypeError: It is none, or too small.
        """
        try:
            number = float(text)
        except ValueError:
            raise ArgumentTypeError(f"{text!r} is not a number") from None
        if self.least is not None and not number >= self.least:
            raise ArgumentTypeError(f"{text} is below {self.least:g}" if number < self.least else f"{text!r} is not a number")
        return number


class Choice:
    """One of several words; with `any_case`, however they are capitalised."""

    def __init__(self, *words: str, any_case: bool = False):
        self.words = {word.lower() if any_case else word: word for word in words}
        self.any_case = any_case
        self.shown = "{" + ",".join(words) + "}"

    def __call__(self, text: str) -> str:
        """The word.

        Raises:
            ArgumentTypeError: It is none of them.
        """
        word = self.words.get(text.lower() if self.any_case else text)
        if word is None:
            raise ArgumentTypeError(f"unknown choice {text!r}{suggest(text, self.words.values())}")
        return word


class BatchSize:
    """A number of samples, or auto, which is None."""

    shown = "N"

    def __call__(self, text: str) -> int | None:
        """The number that is written.

        Raises:
            InputError: It is neither auto nor a whole number above 0.
        """
        if text == "auto":
            return None
        if not text.isdecimal() or not int(text):
            raise InputError(f"--batch-size is auto or a whole number above 0, not {text!r}")
        return int(text)
