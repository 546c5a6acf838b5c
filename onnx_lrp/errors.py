"""The errors that a user can cause; the command line prints each as one line and exits with 2."""

from __future__ import annotations

from collections.abc import Iterable


class OnnxLrpError(Exception):
    """Base of all errors of this package. The message is one line, whatever names a model has."""

    def __str__(self) -> str:
        return " ".join(super().__str__().split())


class ModelError(OnnxLrpError):
    """The model cannot be read or run: file missing, not ONNX, broken graph."""


class UnsupportedOperatorError(OnnxLrpError):
    """A node on the path from the explained inputs to the explained output has no way to propagate relevance."""

    def __init__(self, nodes: Iterable[tuple[str, str, str, int]]):
        """Takes (node name, operator, domain, opset) for each unsupported node."""
        self.nodes = list(nodes)
        listed = "; ".join(
            f"node {name!r}: {domain + '.' if domain else ''}{operator} (opset {opset})" for name, operator, domain, opset in self.nodes[:5]
        )
        more = f"; and {len(self.nodes) - 5} more" if len(self.nodes) > 5 else ""
        super().__init__(f"no rule for {listed}{more}")


class InputError(OnnxLrpError):
    """An input, a target, a seed or an option does not fit: wrong name, shape, type or value."""


class WriteError(InputError):
    """Nothing can be written where the user wants it."""


class CompositeError(OnnxLrpError):
    """A composite or a rule is unknown, misconfigured, or does not fit a node."""


def suggest(name: str, known: Iterable[str]) -> str:
    """Returns '; did you mean ...?' with the nearest known names, or all of them when none is near."""
    known = sorted(known)
    return near(name, known) or "; known: " + ", ".join(known[:30]) + (", ..." if len(known) > 30 else "")


def near(name: str, known: Iterable[str]) -> str:
    """Returns '; did you mean ...?' with the nearest known names, or nothing when none is near. Dashes before options say nothing."""
    import difflib

    bare = {one.lstrip("-"): one for one in sorted(known)}
    found = difflib.get_close_matches(name.lstrip("-"), bare, n=3, cutoff=0.6)
    return "; did you mean " + " or ".join(repr(bare[one]) for one in found) + "?" if found else ""
