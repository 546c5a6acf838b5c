"""The methods that need several runs: integrated gradients, SmoothGrad and Grad-CAM."""

from __future__ import annotations

import contextlib
import functools
import inspect
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from onnx_lrp.errors import CompositeError

if TYPE_CHECKING:
    from onnx_lrp.explainer import Explainer
    from onnx_lrp.explanation import Explanation
    from onnx_lrp.graph import Array

__all__ = ["METHODS", "RUNS", "Method", "choose"]

_SMOOTH = {"samples": "n", "noise": "noise", "random_seed": "seed"}
_INTEGRATED = {"steps": "steps", "baseline": "baseline"}
"""Option of the command line -> argument of the function."""
_CAM = {"grad_cam": "gradient", "guided_grad_cam": "guided_backprop"}
"""Name on the command line -> the composite that it needs."""
METHODS = ("integrated_gradients", "smoothgrad", *_CAM)
"""The names that stand for a method instead of a composite."""
RUNS = tuple(dict.fromkeys([*_SMOOTH, *_INTEGRATED]))
"""All options of the methods."""


@dataclass(frozen=True)
class Method:
    """A function of several runs, with its arguments."""

    function: Callable[..., Explanation]
    arguments: dict[str, Any]
    progresses: bool = True
    """Whether it tells how far it is."""
    check: Callable[[Explainer], object] = lambda _: None
    """Says, before anything is explained, what does not fit the model."""

    def __call__(self, explainer: Explainer, feeds: dict[str, Array], target: Any, *, bar: bool) -> Explanation:
        """Explain samples, with a progress bar on a terminal if wanted."""
        if not self.progresses:
            return self.function(explainer, feeds, target, **self.arguments)
        with _progress() if bar and sys.stderr.isatty() else contextlib.nullcontext() as progress:
            return self.function(explainer, feeds, target, progress=progress, **self.arguments)


def choose(composite: str | None, options: dict[str, Any], given: dict[str, Any]) -> tuple[str | None, dict[str, Any], Method | None]:
    """What to compile, and what to do with it.

    Args:
        composite: The name on the command line: a composite's, a method's, or None.
        options: The options of the composite.
        given: steps, baseline, samples, noise and random_seed, as far as they were given.

    Returns:
        The composite, its options, and the method if one was asked for.

    Raises:
        CompositeError: An option does not go with the rest.
    """
    rest, method = dict(given), None
    if composite == "integrated_gradients":
        from onnx_lrp.gradients import integrated_gradients

        method, composite = Method(integrated_gradients, _taken(rest, _INTEGRATED)), "gradient"
    elif composite in _CAM:
        from onnx_lrp.gradcam import grad_cam, inner_explainer

        layer, options = options.get("layer"), {name: value for name, value in options.items() if name != "layer"}
        name = None if layer is None else str(layer)  # tensors may have numbers for names
        guided = composite == "guided_grad_cam"
        check = functools.partial(inner_explainer, layer=name, guided=guided)
        method = Method(grad_cam, {"layer": name, "guided": guided}, progresses=False, check=check)
        composite = _CAM[composite]
    elif composite == "smoothgrad" or rest.keys() & _SMOOTH.keys():
        from onnx_lrp.gradients import smoothgrad

        method = Method(smoothgrad, _taken(rest, _SMOOTH))
        composite = "gradient" if composite == "smoothgrad" else composite
    if "baseline" in rest and _takes_reference(composite):
        options = options | {"reference": rest.pop("baseline")}
    if rest:
        name = next(iter(rest))
        users = "integrated_gradients" + (" or deeplift" if name == "baseline" else "")
        where = f"-c {users}" if name in _INTEGRATED else "SmoothGrad, not with integrated_gradients or grad_cam"
        raise CompositeError(f"--{name.replace('_', '-')} goes with {where}")
    return composite, options, method


def _takes_reference(composite: str | None) -> bool:
    from onnx_lrp.composites import COMPOSITES

    return composite in COMPOSITES and "reference" in inspect.signature(COMPOSITES[composite]).parameters


def _taken(given: dict[str, Any], names: dict[str, str]) -> dict[str, Any]:
    return {argument: given.pop(name) for name, argument in names.items() if name in given}


@contextlib.contextmanager
def _progress() -> Iterator[Callable[[int, int], None]]:
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TimeRemainingColumn

    with Progress(BarColumn(), MofNCompleteColumn(), TimeRemainingColumn(), console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("", total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total)
