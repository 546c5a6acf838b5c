"""What explain says of a sample, and draws: its best classes, its relevance."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from onnx_lrp.commands.drawing import Style, draw, draw_tokens
from onnx_lrp.commands.printing import say
from onnx_lrp.commands.region import describe

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from PIL.Image import Image

    from onnx_lrp.commands.background import Background
    from onnx_lrp.commands.files import Folder
    from onnx_lrp.commands.inputs import Item
    from onnx_lrp.explanation import Explanation
    from onnx_lrp.graph import Array
    from onnx_lrp.labels import Labels
    from onnx_lrp.preprocess import Preprocess
    from onnx_lrp.summary import LayerSummary

__all__ = ["Teller", "best", "one_axis"]

_BEST = 5


@dataclass
class Teller:
    """What stays the same from sample to sample."""

    final: str | None
    """The final activation that was left off the explained output, if one was."""
    labels: Labels | None
    preprocess: Preprocess | None
    folder: Folder
    cmap: str | None
    overlay: bool | None
    pictures: bool
    """Whether to draw."""
    of_region: bool
    """Whether a region is explained."""
    listed: bool
    """Whether the targets are a list, of which each gets a picture of its own."""
    _writing: list[Background[Path]] = field(default_factory=list)

    def sample(self, explanation: Explanation, row: int, heading: str) -> None:
        """Print the heading and the best classes of a sample."""
        self.finish()
        say(heading)
        for line in self._predictions(explanation, row):
            say(line)
        if explanation.gap is not None:
            gaps = ", ".join(f"{gap:.3g}" for gap in np.atleast_1d(explanation.gap[row]))
            say(f"    relevance adds up to the output less that at the baseline, but for {gaps}")

    def write(self, name: str, content: Image | Figure | dict[str, Array]) -> None:
        """Write a file of a sample; `finish` prints where."""
        self._writing.append(self.folder.start_saving(name, content))

    def finish(self) -> None:
        """Wait for what is being written, and print where it is.

        Raises:
            WriteError: A file cannot be written.
        """
        writing = list(self._writing)
        self.close()
        for file in writing:
            self.wrote(file.result())

    def close(self) -> None:
        """Wait until nothing is being written any more, well or not: a process that ended before would leave files half written."""
        while self._writing:
            self._writing[0].wait()
            del self._writing[0]

    def wrote(self, path: Path) -> None:
        """Print where something was written."""
        say(f"    -> {path}")

    def layers(self, summary: LayerSummary, explanation: Explanation, row: int, stem: str) -> None:
        """Print and draw a sample's relevance layer by layer, for each of its targets."""
        several = explanation.targets_per_sample is not None
        for index, target in enumerate(explanation.target[row] if several else explanation.target[row : row + 1]):
            title = self._title(explanation, row, target)
            shown = summary.sample(row, index if several else None)
            for line in [*([title] if several else []), *str(shown).splitlines()]:
                say(f"    {line}")
            if self.pictures:
                middle = f"_{target}" if several else ""
                self.write(f"{stem}{middle}_layers.png", shown.plot(title=title))
                self.finish()

    # pictures -------------------------------------------------------------------------------------------------------

    def draw(self, explanation: Explanation, row: int, item: Item, feeds: dict[str, Array], stem: str) -> None:
        """Draw a sample's relevance, for each target of a list."""
        several = explanation.target.ndim > 1 and self.listed
        targets = explanation.target[row] if several else explanation.target[row : row + 1]
        for name, relevance in explanation.relevances.items():
            values = feeds[name][row] if name in feeds else None
            layout = "auto" if item.photo is None or self.preprocess is None else self.preprocess.layout or "auto"
            style = Style(self.cmap, self.overlay, layout if name in feeds else "NCHW")
            for index, target in enumerate(targets):
                scores = relevance[row][index] if several else relevance[row]
                fitting = values if values is not None and values.shape == scores.shape else None
                title = self._title(explanation, row, target)
                tokens = _tokens(explanation, name, scores, feeds, row)
                pictures = draw(scores, fitting, item.photo, title, style) if tokens is None else draw_tokens(tokens, scores, title)
                alone = [name] == explanation.explained_inputs
                middle = (f"_{target}" if several else "") + ("" if alone else f"_{_file_name(name)}")
                for kind, picture in pictures.items():
                    self.write(f"{stem}{middle}_{kind}.png", picture)
                if not pictures:
                    say(f"    relevance of {name} has shape {scores.shape}, which is not drawn; --format npz writes it")

    def _title(self, explanation: Explanation, row: int, target: Any) -> str:
        if self.of_region:
            return ", ".join(describe(target, self.labels))
        if not explanation.explains_positions:
            return "classes " + ", ".join(map(str, np.flatnonzero(target)))
        if np.ndim(target):
            return f"output at {tuple(int(i) for i in target)}"
        scores, kind = self._scores(explanation.output[row])
        name = self.labels.name(int(target)) if self.labels else ""
        return f"{name or 'class'} {target}, {kind} {_number(scores[int(target)], kind)}"

    # predictions ----------------------------------------------------------------------------------------------------

    def _scores(self, output: Array) -> tuple[Array, str]:
        """The scores of a sample, flat, as probabilities where the model's end says so."""
        scores = output.reshape(-1).astype(np.float64)
        if self.final in ("Softmax", "LogSoftmax") and one_axis(output):
            powers = np.exp(scores - scores.max())
            return powers / powers.sum(), "probability"
        if self.final == "Sigmoid":
            return np.exp(-np.logaddexp(0, -scores)), "probability"
        return scores, "score"

    def _predictions(self, explanation: Explanation, row: int) -> Iterator[str]:
        """The best classes, those that are explained with a mark."""
        output = explanation.output[row]
        scores, kind = self._scores(output)
        used = explanation.target[row]
        if self.of_region:
            yield from (f"  * {line}" for line in describe(used, self.labels))
            return
        if not one_axis(output):
            place = tuple(int(i) for i in used)
            yield f"  * output at {':'.join(map(str, place))}  {output[place]:.4g}"
            return
        explained = [int(target) for target in (np.atleast_1d(used) if explanation.explains_positions else np.flatnonzero(used))]
        first = [int(index) for index in best(scores[None], min(_BEST, len(scores)))[0]]
        shown = first + [target for target in explained if target not in first]
        names = [self.labels.name(index) if self.labels else "" for index in shown]
        digits, width = max(len(str(index)) for index in shown), max(map(len, names))
        for index, name in zip(shown, names, strict=True):
            mark = "*" if index in explained else " "
            label = f"  {name.ljust(width)}" if width else ""
            yield f"  {mark} {index:>{digits}}{label}  {_number(scores[index], kind):>9}"


def one_axis(output: Array) -> bool:
    """Whether a sample's output is one row of classes."""
    return bool(sum(length != 1 for length in output.shape) <= 1)


def best(scores: Array, count: int) -> Array:
    """The positions of the largest values of each row, largest first."""
    return np.argsort(-scores, axis=1, kind="stable")[:, :count]


def _tokens(explanation: Explanation, name: str, scores: Array, feeds: dict[str, Array], row: int) -> Array | None:
    """The tokens whose embeddings are explained, if they are."""
    if name in feeds or name not in explanation.explained_inputs or scores.ndim != 2:
        return None
    whole = [value[row] for value in feeds.values() if value.dtype.kind in "iu" and value.shape[1:] == scores.shape[:1]]
    return whole[0] if whole else None


def _number(value: float, kind: str) -> str:
    return f"{100 * value:.2f} %" if kind == "probability" else f"{value:.4g}"


def _file_name(name: str) -> str:
    """The name of a tensor without what file names cannot hold."""
    return re.sub(r"[^\w.-]+", "_", name).strip("_.") or "tensor"
