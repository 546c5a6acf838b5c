"""The command explain: predictions, heat maps and arrays for many files, one after the other."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import typer

from onnx_lrp.commands.account import print_account
from onnx_lrp.commands.drawing import Style, draw, draw_tokens
from onnx_lrp.commands.files import Folder, WriteError
from onnx_lrp.commands.inputs import Item, expand, is_array, load, model_inputs, prepare
from onnx_lrp.commands.labels import parse_target
from onnx_lrp.commands.methods import choose
from onnx_lrp.commands.options import FALLBACK, USUAL, with_bounds
from onnx_lrp.commands.region import RegionFile, describe
from onnx_lrp.errors import InputError, OnnxLrpError, suggest
from onnx_lrp.explainer import Explainer
from onnx_lrp.labels import Labels
from onnx_lrp.progress import progress_bar
from onnx_lrp.saving import array_writer, gather
from onnx_lrp.targets import Region, make_targets, sample_shape

if TYPE_CHECKING:
    from onnx_lrp.explanation import Explanation
    from onnx_lrp.graph import Array
    from onnx_lrp.preprocess import Preprocess
    from onnx_lrp.summary import LayerSummary

__all__ = ["Request", "run"]

_CHUNK = 16
"""How many samples of an array file are explained at once."""
_BEST = 5
_FORMATS = ("png", "npz", "h5")


@dataclass
class Request:
    """What the user asked for."""

    model: Path
    inputs: list[str]
    composite: str | None = None
    options: dict[str, Any] = field(default_factory=dict)
    runs: dict[str, Any] = field(default_factory=dict)
    """Options of the methods of several runs."""
    target: str | None = None
    seed: str | None = None
    two_pass: bool = False
    region: Path | None = None
    top: int | None = None
    labels: Path | None = None
    preprocess: str | None = None
    folder: Path = Path("explanations")
    cmap: str | None = None
    overlay: bool | None = None
    formats: str = "png,npz"
    output: str | None = None
    record: list[str] = field(default_factory=list)
    layers: bool = False
    threads: int | None = None
    providers: str = "auto"
    precision: str = "float32"
    account: bool = False
    cache: bool = False
    classes: dict[Path, int] = field(default_factory=dict)
    """The class of each input where a file list gives them; see `caffe_config.class_target`."""


def run(request: Request) -> int:
    """Explain all inputs.

    Returns:
        The exit code: 0, or 2 if some input could not be explained.

    Raises:
        OnnxLrpError: Nothing can be explained.
    """
    job = _Job(request)
    failed = 0
    with progress_bar(len(job.paths)) as advance:
        for path in job.paths:
            try:
                job.explain(path)
            except WriteError:
                raise
            except OnnxLrpError as error:
                if len(job.paths) == 1:
                    raise InputError(_naming(path, error)) from None
                _warn(f"error: {_naming(path, error)}")
                failed += 1
            advance(1)
    if len(job.paths) > 1:
        explained = len(job.paths) - failed
        _tell(f"{explained} of {len(job.paths)} inputs explained; {job.folder.count} files in {job.folder.path}")
    return 2 if failed else 0


class _Job:
    """Everything that stays the same from input to input."""

    def __init__(self, request: Request):
        self.request = request
        self.notes: list[str] = []
        """What the user should know, but only if there is something to explain."""
        self.formats = _formats(request.formats)
        self.array_formats = [suffix for suffix in self.formats if suffix != "png"]
        for suffix in self.array_formats:
            array_writer(f".{suffix}", {})  # says at once that a library is missing
        if request.top is not None and request.target is not None:
            raise InputError("--top and --target exclude each other")
        if request.cmap is not None:
            from onnx_lrp.colormaps import palette

            palette(request.cmap)
        self.labels = Labels(request.labels) if request.labels else None
        target = None if request.target is None else parse_target(request.target, self.labels)
        if request.region is not None and (request.top is not None or isinstance(target, tuple) or len(target or [0]) != 1):
            raise InputError("--region explains one class: give it with --target, or leave that out for the largest at each place")
        self.region = RegionFile(request.region) if request.region else None
        if request.preprocess is not None:
            from onnx_lrp.preprocess import find

            find(request.preprocess)
        self.paths = expand(request.inputs)
        self.folder = Folder(request.folder, self.paths)
        photos = any(not is_array(path) for path in self.paths)
        self.explainer = self._compiled(photos=photos)
        self.inputs = model_inputs(self.explainer)
        self.preprocess: Preprocess | None = None
        if photos:
            self.preprocess, guess = prepare(request.preprocess, self.inputs, self.explainer.signature.metadata)
            if guess:
                self.notes.append(f"pictures are {guess}; if the model wants something else, say so with --preprocess")
        self.shape = sample_shape(self.explainer.signature.output_shape)
        self.target = self._checked(target)
        if self.labels:
            self.labels.require_fit(self.shape)

    def _compiled(self, *, photos: bool) -> Explainer:
        request = self.request
        named, given, self.method = choose(request.composite, request.options, request.runs)
        if self.method and (request.seed is not None or request.two_pass):
            raise InputError("--seed does not go with methods of several runs, nor does --two-pass: --random-seed is that of the noise")
        composite = named or USUAL
        record = ["all"] if request.layers and not request.record else request.record
        same: dict[str, Any] = {"output": request.output, "record": record}
        same |= {"providers": request.providers, "threads": request.threads, "precision": request.precision, "cache": request.cache}
        options = with_bounds(request.model, composite, given, request.preprocess, pictures=photos)
        explainer = Explainer(request.model, composite, **same, **options)
        if named is None and not explainer.signature.has_convolutions:
            self.notes.append(f"the model has no convolutions, so the composite is {FALLBACK}; choose another with --composite")
            explainer = Explainer(request.model, FALLBACK, **same, **request.options)
        if self.method:
            self.method.check(explainer)
        return explainer

    def _checked(self, target: list[int] | tuple[int, ...] | None) -> Any:
        """A target that suits each sample, as far as can be known before the first."""
        single = target[0] if isinstance(target, list) and len(target) == 1 else target
        if self.shape is not None and single is not None and self.region is None:
            make_targets(np.array([single]) if isinstance(single, list) else single, 1, (None, *self.shape))
        if self.request.top is not None and self.shape is not None and self.request.top > np.prod(self.shape):
            raise InputError(f"--top {self.request.top}: the model's output has {np.prod(self.shape)} elements")
        return single

    # one file -------------------------------------------------------------------------------------------------------

    def explain(self, path: Path) -> None:
        """Explain the samples of a file, and tell and write what was found."""
        item = load(path, self.inputs, self.preprocess)
        kept: list[Explanation] = []
        for start in range(0, max(item.count, 1), _CHUNK):
            feeds = {name: np.asarray(value[start : start + _CHUNK]) for name, value in item.feeds.items()}
            explanation = self._explained(feeds, item)
            summary = explanation.summary() if self.request.layers else None
            if (
                summary is not None and not self.request.record
            ):  # what was recorded for the summary alone needs no pictures and no room in files
                explanation = explanation.with_relevances({name: explanation.relevances[name] for name in self.explainer.inputs})
            while self.notes:
                _warn(f"note: {self.notes.pop(0)}")
            for row in range(len(explanation.output)):
                heading = str(path) if item.count == 1 else f"{path} [{start + row}]"
                _tell(typer.style(heading, bold=True) if sys.stdout.isatty() else heading)
                for line in self._predictions(explanation, row):
                    _tell(line)
                if explanation.gap is not None:
                    gaps = ", ".join(f"{gap:.3g}" for gap in np.atleast_1d(explanation.gap[row]))
                    _tell(f"    relevance adds up to the output less that at the baseline, but for {gaps}")
                number = "" if item.count == 1 else f"_{start + row:0{len(str(item.count - 1))}d}"
                if summary is not None:
                    self._tell_layers(summary, explanation, row, path.stem + number)
                if "png" in self.formats:
                    self._draw(explanation, row, item, feeds, path.stem + number)
            if self.request.account:
                print_account(explanation.conservation)
            if self.array_formats:
                kept.append(explanation)
        arrays = gather(kept) if kept else {}
        for suffix in self.array_formats:
            self._say(self.folder.save(f"{path.stem}_relevance.{suffix}", arrays))

    def _tell_layers(self, summary: LayerSummary, explanation: Explanation, row: int, stem: str) -> None:
        """Print and draw a sample's relevance layer by layer, for each of its targets."""
        several = explanation.targets_per_sample is not None
        for index, target in enumerate(explanation.target[row] if several else explanation.target[row : row + 1]):
            title = self._title(explanation, row, target)
            shown = summary.sample(row, index if several else None)
            for line in [*([title] if several else []), *str(shown).splitlines()]:
                _tell(f"    {line}")
            if "png" in self.formats:
                middle = f"_{target}" if several else ""
                self._say(self.folder.save(f"{stem}{middle}_layers.png", shown.plot(title=title)))

    def _explained(self, feeds: dict[str, Array], item: Item) -> Explanation:
        count = len(next(iter(feeds.values())))
        target, top = self.target, self.request.top
        if self.region is not None:
            shape = self.shape or self.explainer.explain(feeds).output.shape[1:]
            target = Region(self.region.mask(shape, self.preprocess, item.size), target)
        elif item.path in self.request.classes:
            from onnx_lrp.commands.caffe_config import class_target

            target = class_target(self.request.classes[item.path], self.explainer.explain(feeds).output)
        elif isinstance(target, tuple) and self.shape is None:  # the output's shape is known once there is an output
            target = _position(target, self.explainer.explain(feeds).output.shape[1:])
        explanation = self._plain(feeds, np.tile(target, (count, 1)) if isinstance(target, list) else target)
        shape = explanation.output.shape[1:]
        classes_only = self.region is None and (top is not None or isinstance(self.target, (int, list)))
        if classes_only and not _one_axis(explanation.output[0]):
            raise InputError(f"the output has shape {shape}, not one axis of classes: give a --target such as {':'.join('0' * len(shape))}")
        if top is None:
            return explanation if self.method is None else self._run(feeds, explanation.target_as_given)
        scores = explanation.output.reshape(count, -1)
        if top > scores.shape[1]:
            raise InputError(f"--top {top}: the model's output has {scores.shape[1]} elements")
        return self._run(feeds, _best(scores, top))

    def _run(self, feeds: dict[str, Array], target: Any) -> Explanation:
        if self.method is None:
            return self._plain(feeds, target)
        return self.method(self.explainer, feeds, target, bar=len(self.paths) == 1)

    def _plain(self, feeds: dict[str, Array], target: Any) -> Explanation:
        return self.explainer.explain(feeds, target, self.request.seed, two_pass=self.request.two_pass)

    # pictures -------------------------------------------------------------------------------------------------------

    def _draw(self, explanation: Explanation, row: int, item: Item, feeds: dict[str, Array], stem: str) -> None:
        several = explanation.target.ndim > 1 and self._is_list()
        targets = explanation.target[row] if several else explanation.target[row : row + 1]
        for name, relevance in explanation.relevances.items():
            values = feeds[name][row] if name in feeds else None
            layout = "auto" if item.photo is None or self.preprocess is None else self.preprocess.layout or "auto"
            style = Style(self.request.cmap, self.request.overlay, layout if name in feeds else "NCHW")
            for index, target in enumerate(targets):
                scores = relevance[row][index] if several else relevance[row]
                fitting = values if values is not None and values.shape == scores.shape else None
                title = self._title(explanation, row, target)
                tokens = self._tokens(name, scores, feeds, row)
                pictures = draw(scores, fitting, item.photo, title, style) if tokens is None else draw_tokens(tokens, scores, title)
                middle = (f"_{target}" if several else "") + ("" if [name] == self.explainer.inputs else f"_{_file_name(name)}")
                for kind, picture in pictures.items():
                    self._say(self.folder.save(f"{stem}{middle}_{kind}.png", picture))
                if not pictures:
                    _tell(f"    relevance of {name} has shape {scores.shape}, which is not drawn; --format npz writes it")

    def _tokens(self, name: str, scores: Array, feeds: dict[str, Array], row: int) -> Array | None:
        """The tokens whose embeddings are explained, if they are."""
        if name in feeds or name not in self.explainer.inputs or scores.ndim != 2:
            return None
        whole = [value[row] for value in feeds.values() if value.dtype.kind in "iu" and value.shape[1:] == scores.shape[:1]]
        return whole[0] if whole else None

    def _is_list(self) -> bool:
        return isinstance(self.target, list) or self.request.top is not None

    def _title(self, explanation: Explanation, row: int, target: Any) -> str:
        if self.region is not None:
            return ", ".join(describe(target, self.labels))
        if not explanation.explains_positions:
            return "classes " + ", ".join(map(str, np.flatnonzero(target)))
        if np.ndim(target):
            return f"output at {tuple(int(i) for i in target)}"
        scores, kind = self._scores(explanation.output[row])
        name = self.labels.name(int(target)) if self.labels else ""
        return f"{name or 'class'} {target}, {kind} {_number(scores[int(target)], kind)}"

    @staticmethod
    def _say(path: Path) -> None:
        _tell(f"    -> {path}")

    # predictions ----------------------------------------------------------------------------------------------------

    def _scores(self, output: Array) -> tuple[Array, str]:
        """The scores of a sample, flat, as probabilities where the model's end says so."""
        scores = output.reshape(-1).astype(np.float64)
        final = self.explainer.final_activation
        if final in ("Softmax", "LogSoftmax") and _one_axis(output):
            powers = np.exp(scores - scores.max())
            return powers / powers.sum(), "probability"
        if final == "Sigmoid":
            return np.exp(-np.logaddexp(0, -scores)), "probability"
        return scores, "score"

    def _predictions(self, explanation: Explanation, row: int) -> Iterator[str]:
        """The best classes, those that are explained with a mark."""
        output = explanation.output[row]
        scores, kind = self._scores(output)
        used = explanation.target[row]
        if self.region is not None:
            yield from (f"  * {line}" for line in describe(used, self.labels))
            return
        if not _one_axis(output):
            place = tuple(int(i) for i in used)
            yield f"  * output at {':'.join(map(str, place))}  {output[place]:.4g}"
            return
        explained = [int(target) for target in (np.atleast_1d(used) if explanation.explains_positions else np.flatnonzero(used))]
        best = [int(index) for index in _best(scores[None], min(_BEST, len(scores)))[0]]
        shown = best + [target for target in explained if target not in best]
        names = [self.labels.name(index) if self.labels else "" for index in shown]
        digits, width = max(len(str(index)) for index in shown), max(map(len, names))
        for index, name in zip(shown, names, strict=True):
            mark = "*" if index in explained else " "
            label = f"  {name.ljust(width)}" if width else ""
            yield f"  {mark} {index:>{digits}}{label}  {_number(scores[index], kind):>9}"


def _tell(text: str) -> None:
    """Print a line. (Not typer's echo, which writes past the progress bar.)"""
    print(text)


def _warn(text: str) -> None:
    print(text, file=sys.stderr)


def _one_axis(output: Array) -> bool:
    """Whether a sample's output is one row of classes."""
    return bool(sum(length != 1 for length in output.shape) <= 1)


def _position(target: tuple[int, ...], shape: tuple[int, ...]) -> int:
    """The position of a place in the flat output."""
    try:
        return int(np.ravel_multi_index(target, shape))
    except ValueError:
        raise InputError(f"target {':'.join(map(str, target))} does not fit an output of shape {shape}") from None


def _best(scores: Array, count: int) -> Array:
    """The positions of the largest values of each row, largest first."""
    return np.argsort(-scores, axis=1, kind="stable")[:, :count]


def _number(value: float, kind: str) -> str:
    return f"{100 * value:.2f} %" if kind == "probability" else f"{value:.4g}"


def _file_name(name: str) -> str:
    """The name of a tensor without what file names cannot hold."""
    return re.sub(r"[^\w.-]+", "_", name).strip("_.") or "tensor"


def _naming(path: Path, error: Exception) -> str:
    return str(error) if str(path) in str(error) else f"{path}: {error}"


def _formats(text: str) -> Sequence[str]:
    found = [part.strip().lower() for part in text.split(",") if part.strip()]
    for name in found:
        if name not in _FORMATS:
            raise InputError(f"unknown format {name!r}{suggest(name, _FORMATS)}")
    if not found:
        raise InputError("--format needs png, npz or h5, or several of them such as png,npz")
    return list(dict.fromkeys(found))
