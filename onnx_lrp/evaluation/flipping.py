"""Pixel flipping: what happens to the score when what matters most, or least, is taken away."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from onnx_lrp.errors import InputError, suggest
from onnx_lrp.evaluation.curves import Flipping
from onnx_lrp.evaluation.perturbations import Scene, grey, make_perturbation
from onnx_lrp.evaluation.regions import Regions
from onnx_lrp.image import atomic_write
from onnx_lrp.predictor import Predictor
from onnx_lrp.progress import progress_bar
from onnx_lrp.targets import LARGEST, make_targets

if TYPE_CHECKING:
    from numpy.random import Generator
    from numpy.typing import NDArray

    from onnx_lrp.graph import Array, ModelSource
    from onnx_lrp.interpreter import Providers

ORDERS = ("most_relevant_first", "least_relevant_first", "random")
SCHEDULES = ("quadratic", "linear")

GREY_WEIGHTS = (0.2989, 0.587, 0.114)
"""How rodrigobdz/lrp weighs red, green and blue where it scores patches (ITU-R BT.601)."""

LINEAR_STEPS = 28
"""How many steps a linear schedule takes at most, where no number is asked for."""


@dataclass(frozen=True)
class Perturbed:
    """A batch after one step."""

    step: int
    samples: Array
    """(N, ...)"""
    masks: NDArray[np.bool_]
    """What has been perturbed so far, (N, ...), with an axis of one in place of the channels."""
    scores: NDArray[np.float64]
    """The explained output, (N,)."""


class PixelFlipping:
    """Perturbs regions of the input in the order of their relevance, and follows the explained output (Samek et al. 2017).

    A region's relevance is the sum over its positions and channels. Step 0 is the sample itself; in the last step everything is
    perturbed. A good explanation makes the score drop fast under "most_relevant_first", and slowly under "least_relevant_first".

    Args:
        model: path, bytes, onnx.ModelProto, or a Predictor.
        patch: the side of a region: of square patches of an image, or of stretches of a signal; default 8, and 1 for tables.
        order: "most_relevant_first", "least_relevant_first" or "random".
        perturbation: "inpaint" (images; needs OpenCV), "random" (one value per sample and step), "mean", "blur", "noise", a number or an
            array (the constant to put), or a function (sample, mask, rng) -> sample. The last step of "inpaint" is grey.
        schedule: "quadratic" perturbs 1, 3, 5, ... regions, so m^2 after m steps; "linear" equally many in each step.
        steps: how many; the last perturbs whatever is left. Default: as many as the schedule needs ("linear": at most 28).
        low, high: the values of black and white, numbers or arrays that broadcast against a sample; default: each sample's range.
        channel_axis: of a sample (without the batch axis), or "none"; default: guessed from the shape.
        seed: of the random numbers. A sample's result depends on the seed and on its place in x, not on the batches.
        compat: "rlrp" for the schedule, patch scores and last step of rodrigobdz/lrp: square images, patches that fit, steps of 1, 3, 5 ...
            patches, then one that makes everything grey, (min + max) / 2 of the whole input; patches scored by weighted channels; one
            stream of random numbers for the whole input (its random order comes from torch, and differs).
        batch_size: how many samples are perturbed together.
        output, keep_final_activation, providers, threads: as in Explainer.

    Raises:
        InputError: an unknown name, or a number out of range.
    """

    def __init__(
        self,
        model: ModelSource | Predictor,
        patch: int | None = None,
        order: str = "most_relevant_first",
        perturbation: str | float | Array | Callable[..., Array] = "inpaint",
        *,
        schedule: str = "quadratic",
        steps: int | None = None,
        low: Any = None,
        high: Any = None,
        channel_axis: int | str | None = None,
        seed: int = 0,
        compat: str | None = None,
        batch_size: int = 64,
        output: str | None = None,
        keep_final_activation: bool = False,
        providers: Providers = "auto",
        threads: int | None = None,
    ):
        for what, name, known in (("order", order, ORDERS), ("schedule", schedule, SCHEDULES), ("compat", compat or "rlrp", ("rlrp",))):
            if name not in known:
                raise InputError(f"unknown {what} {name!r}" + suggest(name, known))
        for what, number in (("steps", steps), ("batch_size", batch_size)):
            if number is not None and (not isinstance(number, int) or number < 1):
                raise InputError(f"{what} is a positive int, not {number!r}")
        if (low is None) != (high is None):
            raise InputError("low and high are given together")
        if compat and schedule != "quadratic":
            raise InputError(f'compat="rlrp" has the schedule "quadratic", not {schedule!r}')
        self.patch, self.order, self.perturbation, self.schedule, self.steps = patch, order, perturbation, schedule, steps
        self.low, self.high, self.channel_axis, self.seed, self.compat, self.batch_size = low, high, channel_axis, seed, compat, batch_size
        self._start = make_perturbation(perturbation)
        options: dict[str, Any] = {
            "output": output,
            "keep_final_activation": keep_final_activation,
            "providers": providers,
            "threads": threads,
        }
        self.predict: Predictor = model if isinstance(model, Predictor) else Predictor(model, **options)

    def run(self, x: Array, relevance: Array, target: Any = None, *, checkpoint: str | os.PathLike[str] | None = None) -> Flipping:
        """Flips every sample.

        Args:
            x: (N, ...), the input of a model with one input.
            relevance: shaped like x.
            target: the outputs to follow, as in Explainer.explain (one per sample); None: each sample's largest.
            checkpoint: an .npz file that keeps what is done after every batch. When it is there from the same run, cut short, only the
                rest is computed.

        Raises:
            InputError: relevance is not shaped like x, holds NaN or infinity, or the target does not fit.
        """
        x, relevance, index = self._checked(x, relevance, target)
        regions = self._regions(x)
        flips = self.flips(regions)
        kept = _Checkpoint(checkpoint, self._fingerprint(x, relevance, index), (len(x), len(flips))) if checkpoint else None
        scores = np.full((len(x), len(flips)), np.nan) if kept is None else kept.scores
        size = len(x) if self.compat else self.batch_size
        left = [start for start in range(0, len(x), size) if np.isnan(scores[start : start + size]).any()]
        with progress_bar(len(left) * len(flips)) as advance:
            for start in left:
                rows = slice(start, start + size)
                for done in self._batch(x[rows], relevance[rows], index[rows], regions, start, flips):
                    scores[rows, done.step] = done.scores
                    advance(1)
                if kept is not None:
                    kept.save()
        return Flipping(scores, flips, regions.count, index, self.order)

    def steps_of(self, x: Array, relevance: Array, target: Any = None) -> Iterator[Perturbed]:
        """All samples in one batch after each step, from step 0 on: what `run` shows to the model. Arguments and errors as in `run`."""
        x, relevance, index = self._checked(x, relevance, target)
        regions = self._regions(x)
        return self._batch(x, relevance, index, regions, 0, self.flips(regions))

    def flips(self, regions: Regions) -> NDArray[np.int64]:
        """How many regions are perturbed after each step, step 0 included: (steps + 1,)."""
        count = regions.count
        if self.compat:
            side = int(np.sqrt(count))
            steps = side + 1 if self.steps is None else self.steps
            if steps > side + 1:
                raise InputError(f'compat="rlrp" takes at most {side + 1} steps for {count} patches, not {steps}')
            return np.minimum(np.arange(steps + 1) ** 2, count)
        natural = int(np.ceil(np.sqrt(count))) if self.schedule == "quadratic" else min(count, LINEAR_STEPS)
        steps = natural if self.steps is None else self.steps
        k = np.arange(steps + 1)
        flips = np.minimum(k**2, count) if self.schedule == "quadratic" else np.rint(k * count / steps).astype(np.int64)
        flips[-1] = count
        return flips

    # one batch ------------------------------------------------------------------------------------------------------

    def _batch(
        self, x: Array, relevance: Array, index: NDArray[np.int64], regions: Regions, first: int, flips: NDArray[np.int64]
    ) -> Iterator[Perturbed]:
        shared = np.random.default_rng(self.seed) if self.compat else None
        order = [self._ordered(self._scores(regions, one), regions, first + row, shared) for row, one in enumerate(relevance)]
        scenes = [self._scene(regions, x if self.compat else sample) for sample in x]
        # Streams of their own for order and values: the same values are drawn under every order.
        streams = [shared or np.random.default_rng([self.seed, first + row, 1]) for row in range(len(x))]
        steps = [self._start(sample, scene, rng) for sample, scene, rng in zip(x, scenes, streams, strict=True)]
        now = x
        masks = np.zeros((len(x), *regions.mask(np.zeros(0, np.int64)).shape), bool)
        yield Perturbed(0, now, masks, self._score(now, index))
        for step in range(1, len(flips)):
            chosen = [regions.mask(ranks[flips[step - 1] : flips[step]]) for ranks in order]
            masks = masks | np.stack(chosen)
            if self.compat and flips[step - 1] == regions.count:
                now = np.stack([grey(scene) for scene in scenes])
            else:
                now = np.stack([do(sample, new, mask) for do, sample, new, mask in zip(steps, now, chosen, masks, strict=True)])
            yield Perturbed(step, now, masks, self._score(now, index))

    def _score(self, samples: Array, index: NDArray[np.int64]) -> NDArray[np.float64]:
        output = self.predict(samples).reshape(len(samples), -1)
        scores: NDArray[np.float64] = np.take_along_axis(output, index[:, None], 1)[:, 0].astype(np.float64)
        return scores

    def _scores(self, regions: Regions, relevance: Array) -> NDArray[np.float64]:
        axis = regions.channel_axis
        if self.compat and axis is not None and relevance.shape[axis] == len(GREY_WEIGHTS):
            shape = [-1 if i == axis else 1 for i in range(relevance.ndim)]
            relevance = relevance * np.reshape(GREY_WEIGHTS, shape)
        return regions.scores(relevance)

    def _ordered(self, scores: NDArray[np.float64], regions: Regions, row: int, shared: Generator | None) -> NDArray[np.int64]:
        if self.order == "random":
            rng = np.random.default_rng(self.seed if shared is not None else [self.seed, row, 0])
            return rng.permutation(regions.count)
        return np.argsort(-scores if self.order == "most_relevant_first" else scores, kind="stable")

    def _scene(self, regions: Regions, of: Array) -> Scene:
        low, high = (of.min(), of.max()) if self.low is None else (self.low, self.high)
        try:
            shape = regions.shape
            return Scene(regions, np.broadcast_to(np.float32(low), shape), np.broadcast_to(np.float32(high), shape))
        except ValueError:
            raise InputError(f"low and high do not broadcast against a sample of shape {regions.shape}") from None

    # checks ---------------------------------------------------------------------------------------------------------

    def _regions(self, x: Array) -> Regions:
        regions = Regions(x.shape[1:], self.patch, self.channel_axis)
        if self.compat:
            side = regions.grid[0] if regions.is_image else 0
            if not side or regions.grid != (side, side) or regions.count != (side // (self.patch or 8)) ** 2 or side % (self.patch or 8):
                raise InputError(f'compat="rlrp" takes square images whose side the patch divides, not {regions.grid}')
        return regions

    def _checked(self, x: Array, relevance: Array, target: Any) -> tuple[Array, Array, NDArray[np.int64]]:
        x, relevance = np.asarray(x, np.float32), np.asarray(relevance)
        if x.ndim < 2 or not len(x):
            raise InputError(f"x holds samples, (N, ...), not shape {x.shape}")
        if relevance.shape != x.shape:
            raise InputError(f"the relevance has shape {relevance.shape}, the input {x.shape}")
        if not np.isfinite(relevance).all():
            row = int(np.argmax(~np.isfinite(relevance).reshape(len(x), -1).all(1)))
            raise InputError(f"the relevance of sample {row} holds NaN or infinity")
        shape = self.predict(x[:1]).shape
        targets = make_targets(target, len(x), shape)
        targets.check(shape[1:])
        if targets.form != "position" or targets.per_sample is not None:
            raise InputError("one target per sample, please: a curve follows one output")
        index = targets.index.reshape(-1)
        if (index == LARGEST).any():
            best = [self.predict(x[row : row + self.batch_size]) for row in range(0, len(x), self.batch_size)]
            index = np.where(index == LARGEST, np.concatenate(best).reshape(len(x), -1).argmax(1), index)
        return x, relevance, index.astype(np.int64)

    def _fingerprint(self, *arrays: Array) -> str:
        settings = (self.patch, self.order, self.schedule, self.steps, self.channel_axis, self.seed, self.compat, self.low, self.high)
        perturbation = getattr(self.perturbation, "__qualname__", self.perturbation)
        found = hashlib.sha256(repr((settings, perturbation)).encode())
        for array in arrays:
            found.update(repr((array.shape, array.dtype)).encode())
            found.update(np.ascontiguousarray(array).tobytes())
        return found.hexdigest()


class _Checkpoint:
    """The scores so far, in a file."""

    def __init__(self, path: str | os.PathLike[str], fingerprint: str, shape: tuple[int, int]):
        self.path, self.fingerprint = Path(path), fingerprint
        self.scores: NDArray[np.float64] = np.full(shape, np.nan)
        if not self.path.exists():
            return
        try:
            with np.load(self.path, allow_pickle=False) as file:
                same = str(file["run"]) == fingerprint and file["scores"].shape == shape
                self.scores = file["scores"] if same else self.scores
        except (OSError, ValueError, KeyError) as error:
            raise InputError(f"cannot read the checkpoint {self.path}: {error}") from None
        if not same:
            raise InputError(f"the checkpoint {self.path} is of another run: remove it, or name another file")

    def save(self) -> None:
        try:
            atomic_write(self.path, lambda file: np.savez(file, run=self.fingerprint, scores=self.scores))
        except OSError as error:
            raise InputError(f"cannot write {self.path}: {error.strerror or error}") from None
