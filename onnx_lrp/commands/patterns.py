"""The command patterns: fit patterns to a model and data, and write them to a file."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from onnx_lrp.commands.inputs import Item, expand, is_array, load, prepare
from onnx_lrp.commands.printing import say, warn
from onnx_lrp.errors import InputError
from onnx_lrp.patterns import PatternFit
from onnx_lrp.progress import progress_bar

if TYPE_CHECKING:
    from onnx_lrp.graph import Array

__all__ = ["run"]


def run(
    model: Path,
    data: list[str],
    to: Path,
    *,
    estimator: str,
    bias: str,
    batch_size: int,
    preprocess: str | None,
    output: str | None,
    threads: int | None,
    providers: str,
) -> None:
    """Fit patterns to all samples of all files, and say what was fitted.

    Raises:
        OnnxLrpError: The model or a file cannot be read, or they do not fit; nothing is written then.
    """
    paths = expand(data)
    if to.is_dir():
        raise InputError(f"cannot write {to}: it is a folder")
    if any(to.resolve() == path.resolve() for path in [*paths, model]):
        raise InputError(f"{to} would be written over, and it is an input: choose another name")
    fit = PatternFit(model, estimator, bias, output=output, batch_size=batch_size, threads=threads, providers=providers)
    inputs = {name: fit.graph.inputs[name] for name in fit.input_names}
    photos = any(not is_array(path) for path in paths)
    how, guess = prepare(preprocess, inputs, fit.graph.metadata) if photos else (None, "")
    if guess:
        warn(f"note: pictures are {guess}; if the model wants something else, say so with --preprocess")
    with progress_bar(len(paths) if len(paths) > 1 else None) as advance:

        def feeds() -> Iterator[dict[str, Array]]:
            for path in paths:
                item: Item = load(path, inputs, how)
                yield item.feeds
                if len(paths) > 1:
                    advance(1)

        for batch in fit.batches(feeds()):
            fit.update(batch)
            if len(paths) == 1:
                advance(len(next(iter(batch.values()))))
    patterns = fit.patterns()
    patterns.save(to)
    say(f"patterns ({patterns.estimator}) of {len(patterns.arrays)} layers, fitted to {patterns.samples} samples: {to}")
