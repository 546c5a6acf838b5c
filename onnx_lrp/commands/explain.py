"""The command explain: predictions, heat maps and arrays for many files, one after the other."""

from __future__ import annotations

import contextlib
from collections.abc import Generator, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from onnx_lrp.batches import BatchSize
from onnx_lrp.commands.account import print_account
from onnx_lrp.commands.background import Background
from onnx_lrp.commands.files import Folder
from onnx_lrp.commands.inputs import Item, expand, is_array, load, model_inputs, open_picture, prepare
from onnx_lrp.commands.labels import parse_target
from onnx_lrp.commands.methods import choose
from onnx_lrp.commands.options import FALLBACK, USUAL, with_bounds
from onnx_lrp.commands.printing import BOLD, say, styled, warn
from onnx_lrp.commands.reading import Failure, feeds_of, grouped, parts
from onnx_lrp.commands.region import RegionFile
from onnx_lrp.commands.telling import Teller, best, one_axis
from onnx_lrp.errors import InputError, OnnxLrpError, WriteError, suggest
from onnx_lrp.explainer import Explainer
from onnx_lrp.labels import Labels
from onnx_lrp.progress import progress_bar
from onnx_lrp.saving import array_writer, arrays_of
from onnx_lrp.streams import ExplanationFile, ahead
from onnx_lrp.targets import Region, make_targets, sample_shape

if TYPE_CHECKING:
    from onnx_lrp.explanation import Explanation
    from onnx_lrp.graph import Array
    from onnx_lrp.preprocess import Preprocess

__all__ = ["Request", "run"]

_TOGETHER = 16
"""How many samples are explained at once if nothing else is said."""
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
    formats: str | None = None
    """None: png,npz; with `together` nothing for each input."""
    together: Path | None = None
    """The file for the arrays of all inputs."""
    batch_size: int | None = None
    """How many samples are run at once; None: as many as fit the memory, at most 16."""
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

    def fail(path: Path, error: OnnxLrpError) -> None:
        nonlocal failed
        if len(job.paths) == 1:
            raise InputError(_naming(path, error)) from None
        warn(f"error: {_naming(path, error)}")
        failed += 1

    with (
        progress_bar(len(job.paths)) as advance,
        job.one_file(),
        contextlib.closing(job.teller),
        contextlib.closing(job.read()) as groups,
    ):
        for group in groups:
            if isinstance(group, Failure):
                fail(group.path, group.error)
                advance(1)
                continue
            for item, explanations in job.explained(group):
                try:
                    job.explain(item, explanations)
                except WriteError:
                    raise
                except OnnxLrpError as error:
                    fail(item.path, error)
                advance(1)
    if len(job.paths) > 1:
        files = [f"{job.folder.count} files in {job.folder.path}"] if job.formats else []
        whole = [f"all arrays in {request.together}"] if request.together is not None and failed < len(job.paths) else []
        say(f"{len(job.paths) - failed} of {len(job.paths)} inputs explained; {', '.join([*whole, *files])}")
    elif request.together is not None:
        job.teller.wrote(request.together)
    return 2 if failed else 0


class _Job:
    """Everything that stays the same from input to input."""

    def __init__(self, request: Request):
        self.request = request
        self.notes: list[str] = []
        """What the user should know, but only if there is something to explain."""
        self.formats = _formats(request.formats, request.together)
        self.array_formats = [suffix for suffix in self.formats if suffix != "png"]
        for suffix in self.array_formats:
            array_writer(f".{suffix}", {})  # says at once that a library is missing
        self.together: ExplanationFile | None = None
        if request.together is not None:
            array_writer(request.together.suffix, {})
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
        if request.together is not None:
            self.folder.require_free(request.together)
        first = next((path for path in self.paths if not is_array(path)), None)
        photos = first is not None
        self._opened = {} if first is None else {first: Background(lambda: open_picture(first))}  # while the explainer is made
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
        self.teller = Teller(
            self.explainer.final_activation,
            self.labels,
            self.preprocess,
            self.folder,
            request.cmap,
            request.overlay,
            pictures="png" in self.formats,
            of_region=self.region is not None,
            listed=isinstance(self.target, list) or request.top is not None,
        )

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

    # many files -----------------------------------------------------------------------------------------------------

    @contextlib.contextmanager
    def one_file(self) -> Iterator[None]:
        """Keeps the file for all inputs open, if one is wanted; without an explanation it is not written."""
        if self.request.together is None:
            yield
            return
        with ExplanationFile(self.request.together) as self.together:
            yield

    def read(self) -> Generator[list[Item] | Failure]:
        """The inputs, those that can be run together in one list; of several files the next ones are read while some are explained."""
        alone = self.explainer.signature.mixes or not all(map(self.explainer.leads_with_batch, self.explainer.tensors))
        size = 1 if alone else self._size
        found = grouped(self.paths, self._load, self._kind, size)
        return ahead(found) if len(self.paths) > 1 else found

    def _load(self, path: Path) -> Item:
        opened = self._opened.pop(path, None)
        return load(path, self.inputs, self.preprocess, None if opened is None else opened.result())

    @property
    def _size(self) -> int:
        return self.request.batch_size or _TOGETHER

    def _kind(self, item: Item) -> tuple[object, ...]:
        """What the target depends on."""
        return (item.size if self.region is not None else None, self.request.classes.get(item.path))

    def explained(self, items: list[Item]) -> Iterator[tuple[Item, Iterable[Explanation]]]:
        """The explanations of each file of a group; where one of them makes the whole group fail, each is run alone."""
        if len(items) > 1:
            try:
                whole = self._explained(feeds_of(items), items[0])
            except OnnxLrpError:
                pass
            else:
                yield from ((item, [whole.part(slice(row, row + 1))]) for row, item in enumerate(items))
                return
        for item in items:
            yield item, self._one_by_one(item)

    def _one_by_one(self, item: Item) -> Iterator[Explanation]:
        several = item.count > self._size
        with contextlib.closing(ahead(parts(item, self._size)) if several else parts(item, self._size)) as chunks:
            for feeds in chunks:
                yield self._explained(feeds, item)

    # one file -------------------------------------------------------------------------------------------------------

    def explain(self, item: Item, explanations: Iterable[Explanation]) -> None:
        """Tell and write what was found for the samples of a file."""
        path, start = item.path, 0
        with contextlib.ExitStack() as stack:
            streams: list[ExplanationFile] = []
            if item.count > self._size:
                streams = [stack.enter_context(self.folder.stream(f"{path.stem}_relevance.{suffix}")) for suffix in self.array_formats]
            for found in explanations:
                summary = found.summary() if self.request.layers else None
                # what was recorded for the summary alone needs no pictures and no room in files
                alone = summary is not None and not self.request.record
                explanation = found.with_relevances({name: found.relevances[name] for name in self.explainer.inputs}) if alone else found
                while self.notes:
                    warn(f"note: {self.notes.pop(0)}")
                names = [str(path)] if item.count == 1 else [f"{path} [{start + row}]" for row in range(len(explanation.output))]
                for row, heading in enumerate(names):
                    self.teller.sample(explanation, row, styled(heading, BOLD))
                    number = "" if item.count == 1 else f"_{start + row:0{len(str(item.count - 1))}d}"
                    if summary is not None:
                        self.teller.layers(summary, explanation, row, path.stem + number)
                    if "png" in self.formats:
                        self.teller.draw(explanation, row, item, explanation.inputs, path.stem + number)
                if self.request.account:
                    self.teller.finish()
                    print_account(explanation.conservation)
                for stream in streams:
                    stream.write(explanation)
                if self.together is not None:
                    self.together.write(explanation, source=names)
                start += len(names)
            self.teller.finish()
            if item.count <= self._size:
                for suffix in self.array_formats:
                    self.teller.wrote(self.folder.save(f"{path.stem}_relevance.{suffix}", arrays_of(explanation)))
        for stream in streams:
            self.teller.wrote(stream.path)

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
        if classes_only and not one_axis(explanation.output[0]):
            raise InputError(f"the output has shape {shape}, not one axis of classes: give a --target such as {':'.join('0' * len(shape))}")
        if top is None:
            return explanation if self.method is None else self._run(feeds, explanation.target_as_given)
        scores = explanation.output.reshape(count, -1)
        if top > scores.shape[1]:
            raise InputError(f"--top {top}: the model's output has {scores.shape[1]} elements")
        return self._run(feeds, best(scores, top))

    def _run(self, feeds: dict[str, Array], target: Any) -> Explanation:
        if self.method is None:
            return self._plain(feeds, target)
        return self.method(self.explainer, feeds, target, bar=len(self.paths) == 1)

    def _plain(self, feeds: dict[str, Array], target: Any) -> Explanation:
        size: BatchSize = self.request.batch_size or "auto"
        return self.explainer.explain(feeds, target, self.request.seed, two_pass=self.request.two_pass, batch_size=size)


def _position(target: tuple[int, ...], shape: tuple[int, ...]) -> int:
    """The position of a place in the flat output."""
    try:
        return int(np.ravel_multi_index(target, shape))
    except ValueError:
        raise InputError(f"target {':'.join(map(str, target))} does not fit an output of shape {shape}") from None


def _naming(path: Path, error: Exception) -> str:
    return str(error) if str(path) in str(error) else f"{path}: {error}"


def _formats(text: str | None, together: Path | None) -> Sequence[str]:
    if text is None:
        return [] if together is not None else ["png", "npz"]
    found = [part.strip().lower() for part in text.split(",") if part.strip()]
    for name in found:
        if name not in _FORMATS:
            raise InputError(f"unknown format {name!r}{suggest(name, _FORMATS)}")
    if not found:
        raise InputError("--format needs png, npz or h5, or several of them such as png,npz")
    return list(dict.fromkeys(found))
