"""What evaluate, compare and tune share: the data, the relevance of each sample, the settings of pixel flipping."""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from onnx_lrp.commands.data import Data, Problem, listed, read
from onnx_lrp.commands.inputs import expand, is_array, model_inputs, prepare
from onnx_lrp.commands.labels import parse_target
from onnx_lrp.commands.methods import RUNS, Method, choose
from onnx_lrp.commands.options import FALLBACK, USUAL, has_convolutions, with_bounds
from onnx_lrp.commands.printing import say, warn
from onnx_lrp.errors import InputError, OnnxLrpError
from onnx_lrp.evaluation.flipping import ORDERS, PixelFlipping
from onnx_lrp.evaluation.regions import Regions
from onnx_lrp.explainer import Explainer
from onnx_lrp.image import imgify
from onnx_lrp.labels import Labels
from onnx_lrp.predictor import Predictor
from onnx_lrp.progress import progress_bar

if TYPE_CHECKING:
    from onnx_lrp.evaluation.curves import Flipping
    from onnx_lrp.graph import Array, TensorType
    from onnx_lrp.preprocess import Preprocess

__all__ = ["Explained", "Request", "Scorer", "report", "table", "write_json"]


@dataclass
class Request:
    """What the user asked for: the model, the data, and how to flip."""

    model: Path
    data: list[str]
    options: dict[str, Any] = field(default_factory=dict)
    """Of the composite."""
    target: str | None = None
    labels: Path | None = None
    limit: int | None = None
    preprocess: str | None = None
    output: str | None = None
    flipping: dict[str, Any] = field(default_factory=dict)
    """Arguments of PixelFlipping."""
    folder: Path = Path("evaluation")
    checkpoints: Path | None = None
    threads: int | None = None
    providers: str = "auto"


@dataclass(frozen=True)
class Explained:
    """The relevance of all samples under one composite."""

    explainer: Explainer
    relevance: Array
    """Shaped like the data; zero where there is none."""
    bad: dict[int, str]
    """Row -> why there is none."""
    seconds: float
    """Of the runs, compiling not included."""


class Scorer:
    """Everything that stays the same from composite to composite.

    Raises:
        OnnxLrpError: The model or the data cannot be used at all.
    """

    def __init__(self, request: Request):
        self.request = request
        same: dict[str, Any] = {"output": request.output, "providers": request.providers, "threads": request.threads}
        self.same = same
        self.predict = Predictor(request.model, **same)
        self.inputs: dict[str, TensorType] = {name: self.predict.graph.inputs[name] for name in self.predict.inputs}
        if len(self.inputs) != 1:
            raise InputError(f"the model has {len(self.inputs)} inputs ({', '.join(self.inputs)}); flipping is for models of one")
        labels = Labels(request.labels) if request.labels else None
        self.flipping = {order: PixelFlipping(self.predict, order=order, **request.flipping) for order in ORDERS}
        self.photos = any(_holds_pictures(Path(text)) for text in request.data)
        notes: list[str] = []
        self.preprocess: Preprocess | None = None
        if self.photos:
            self.preprocess, guess = prepare(request.preprocess, self.inputs, self.predict.graph.metadata)
            if guess:
                notes.append(f"pictures are {guess}; if the model wants something else, say so with --preprocess")
        paths = [path for text in request.data for path in ([Path(text)] if Path(text).is_dir() else expand([text]))]
        self.listing = listed(paths, self.inputs, self.preprocess, labels)
        if self.listing.classes:
            first = self.listing.classes[0]
            notes.append(f"the class folders are numbered in their order, {first} is 0; --labels says it otherwise")
        self.data = self._targeted(read(self.listing.few(request.limit), self.inputs), request.target, labels)
        for note in notes:
            warn(f"note: {note}")

    def _targeted(self, data: Data, text: str | None, labels: Labels | None) -> Data:
        """The data with the outputs to follow: those asked for, else the data's own, else each sample's largest."""
        scores = self._scores(data.x)
        target = data.target
        if text is not None:
            parsed = parse_target(text, labels)
            if isinstance(parsed, tuple) or len(parsed) != 1:
                raise InputError("--target is one class: a curve follows one output")
            target = np.full(len(data.x), parsed[0], np.int64)
        elif target is None:
            target = scores.argmax(1)
        size = scores.shape[1]
        bad = {int(row): f"class {target[row]} is out of range: the output has {size} elements" for row in np.flatnonzero(target >= size)}
        bad |= {int(row): f"class {target[row]} is below zero" for row in np.flatnonzero(target < 0)}
        bad |= {int(row): "the model's output is NaN or infinite" for row in np.flatnonzero(~np.isfinite(scores).all(1))}
        return Data(data.x, target, data.names, data.problems).without(bad)

    def _scores(self, x: Array) -> Array:
        size = self.flipping[ORDERS[0]].batch_size
        return np.concatenate([self.predict(x[row : row + size]).reshape(len(x[row : row + size]), -1) for row in range(0, len(x), size)])

    # relevance --------------------------------------------------------------------------------------------------------

    def compiled(self, composite: str | None, options: dict[str, Any]) -> tuple[Explainer, Method | None]:
        """A compiled composite, and the method of several runs if it is one; None: the usual composite.

        Options of the method, such as steps, stand among those of the composite.
        """
        request = self.request
        runs = {name: value for name, value in options.items() if name in RUNS}
        chosen, given, method = choose(composite, {name: value for name, value in options.items() if name not in RUNS}, runs)
        named = chosen or USUAL
        fitting = with_bounds(request.model, named, given, request.preprocess, pictures=self.photos)
        explainer = Explainer(request.model, named, **self.same, **fitting)
        if composite is None and not has_convolutions(explainer.plan):
            explainer = Explainer(request.model, FALLBACK, **self.same, **given)
        if method is not None:
            method.check(explainer)
        return explainer, method

    def explain(self, explainer: Explainer, rows: Sequence[int] | None = None, method: Method | None = None) -> Explained:
        """The relevance of the samples, or of some; a sample that fails is told apart from the others of its batch."""
        chosen = list(range(len(self.data.x))) if rows is None else list(rows)
        x, target = self.data.x[chosen], self.target[chosen]
        if set(explainer.inputs) != set(model_inputs(explainer)):
            raise InputError("the relevance of inputs other than the model's own cannot be evaluated")
        (name,) = self.inputs

        def relevance_of(batch: slice) -> Any:
            if method is None:
                return explainer.explain(x[batch], target[batch]).relevance
            return method(explainer, {name: x[batch]}, target[batch], bar=False).relevance

        size = self.flipping[ORDERS[0]].batch_size
        relevance, bad = np.zeros_like(x), {}
        with contextlib.suppress(OnnxLrpError):  # the first run allocates; an error comes again below
            relevance_of(slice(1))
        start = time.perf_counter()
        with progress_bar(len(x)) as advance:
            for first in range(0, len(x), size):
                batch = slice(first, min(first + size, len(x)))
                try:
                    relevance[batch] = relevance_of(batch)
                except OnnxLrpError:
                    for row in range(batch.start, batch.stop):
                        try:
                            relevance[row] = relevance_of(slice(row, row + 1))[0]
                        except OnnxLrpError as error:
                            bad[row] = str(error)
                advance(batch.stop - batch.start)
        return Explained(explainer, relevance, bad, time.perf_counter() - start)

    @cached_property
    def regions(self) -> Regions:
        """What is perturbed together."""
        flipping = self.flipping[ORDERS[0]]
        return Regions(self.data.x.shape[1:], flipping.patch, flipping.channel_axis)

    @property
    def is_image(self) -> bool:
        """Whether a sample can be drawn."""
        axis = self.regions.channel_axis
        return self.regions.is_image and (axis is None or self.data.x.shape[1 + axis] in (1, 3))

    def displayed(self, rows: Sequence[int] | Array) -> list[Any]:
        """Samples as pictures: of colour images red, green and blue, of others the mean over the channels."""
        axis = self.regions.channel_axis
        pictures = []
        for sample in self.data.x[rows]:
            plain = sample if axis is None else np.moveaxis(sample, axis, 0)
            if plain.ndim == 3 and len(plain) == 3:
                bgr = self.preprocess is not None and self.preprocess.channels == "BGR"
                pictures.append(imgify(plain[::-1] if bgr else plain))
            else:
                pictures.append(imgify(plain if axis is None else plain.mean(0), cmap="gray"))
        return pictures

    @property
    def target(self) -> Array:
        """The outputs that are followed, (N,)."""
        if self.data.target is None:
            raise AssertionError("targets are filled in when the data is read")
        return self.data.target

    # flipping ---------------------------------------------------------------------------------------------------------

    def flip(self, order: str, relevance: Array, name: str) -> Flipping:
        """The curves of one order; `name` is that of the checkpoint."""
        checkpoint = None
        if self.request.checkpoints is not None:
            self.request.checkpoints.mkdir(parents=True, exist_ok=True)
            checkpoint = self.request.checkpoints / f"{name}_{order}.npz"
        return self.flipping[order].run(self.data.x, relevance, self.target, checkpoint=checkpoint)

    @cached_property
    def forward_seconds(self) -> float:
        """How long the model alone takes for all samples."""
        self._scores(self.data.x[:1])
        start = time.perf_counter()
        self._scores(self.data.x)
        return time.perf_counter() - start


def _holds_pictures(path: Path) -> bool:
    """Whether a data set may hold pictures: a folder or list with any, or a picture."""
    from onnx_lrp.commands.data import HDF5
    from onnx_lrp.commands.inputs import PICTURES

    if path.is_dir():
        return any(file.suffix.lower() in PICTURES for file in path.rglob("*"))
    if path.suffix.lower() == ".csv":
        with contextlib.suppress(OSError):
            text = path.read_text(encoding="utf-8", errors="replace").lower()
            return any(suffix in text for suffix in PICTURES)
    return not is_array(path) and path.suffix.lower() not in HDF5


# telling --------------------------------------------------------------------------------------------------------------


def report(problems: Iterable[Problem]) -> int:
    """Prints what was left out, and returns how much that is."""
    count = 0
    for problem in problems:
        warn(f"left out: {problem}")
        count += 1
    return count


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Prints a table, the first column to the left and the others to the right."""
    widths = [max(len(row[column]) for row in [head, *rows]) for column in range(len(head))]
    for row in [head, *rows]:
        cells = [row[0].ljust(widths[0]), *(cell.rjust(width) for cell, width in zip(row[1:], widths[1:], strict=True))]
        say("  ".join(cells).rstrip())


def write_json(data: Any) -> bytes:
    """JSON text, in which what is no number is null."""

    def finite(value: Any) -> Any:
        if isinstance(value, dict):
            return {key: finite(one) for key, one in value.items()}
        if isinstance(value, (list, tuple)):
            return [finite(one) for one in value]
        if isinstance(value, np.ndarray):
            return finite(value.tolist())
        if isinstance(value, np.generic):
            return finite(value.item())
        return None if isinstance(value, float) and not np.isfinite(value) else value

    return (json.dumps(finite(data), indent=2) + "\n").encode()
