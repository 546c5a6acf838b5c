"""Running a compiled explainer: one target per sample or several lanes, in as many parts as the memory asks for."""

from __future__ import annotations

import weakref
from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np

from onnx_lrp.batches import BatchSize, part_size, rows, run_in_parts
from onnx_lrp.device_arrays import to_numpy
from onnx_lrp.errors import InputError
from onnx_lrp.feeds import value_info
from onnx_lrp.seeds import INDEX, combine

if TYPE_CHECKING:
    from onnx_lrp.concepts import Mask
    from onnx_lrp.explainer import Explainer
    from onnx_lrp.interpreter import Interpreter
    from onnx_lrp.lanes.session import LaneSession
    from onnx_lrp.memory import Budget
    from onnx_lrp.targets import Targets
    from onnx_lrp.tensors import Array


class Runner:
    """Runs one explainer.

    Args:
        explainer: whose sessions run.
        interpreter: the session for one target per sample.
        budget: how much memory a run may take.
    """

    def __init__(self, explainer: Explainer, interpreter: Interpreter, budget: Budget):
        self._explainer: Explainer = weakref.proxy(explainer)  # it holds this: no cycle may keep its weights
        self.interpreter, self._budget = interpreter, budget
        self.lane_sessions: dict[tuple[Mask, ...], LaneSession] = {}
        """The graphs for several targets or conditions, compiled when first asked for."""

    def run(
        self, feeds: dict[str, Array], batch: int, lanes: int, given: dict[str, Array], masks: tuple[Mask, ...], batch_size: BatchSize
    ) -> tuple[Array, dict[str, Array]]:
        """The output, and the relevances with a row for each lane of each sample, of as many samples at once as is wanted."""
        signature = self._explainer.signature
        names = list(signature.results)
        run, cost = self._plainly(feeds, batch) if lanes == 1 and not masks else self._in_lanes(feeds, batch, lanes, given, masks)
        fixed = signature.fixed_batch
        axes = [signature.axis_of_samples[signature.output]]
        for name in names:
            laned = not signature.batch_leads[name] and (lanes > 1 or bool(masks))  # the lanes come first there
            axis = 0 if fixed else signature.axis_of_samples[signature.tensors[name]]
            axes.append(axis if axis is None else axis + laned)
        kind = (lanes, masks, *(value.shape[1:] for value in feeds.values()))
        size = fixed or part_size(batch_size, batch, axes, lambda: self._budget.samples(batch, kind, cost), signature.mixes)
        output, *values = run_in_parts(run, feeds, batch, size, axes, fixed=fixed is not None)
        return output, dict(zip(names, values, strict=True))

    def _plainly(self, feeds: dict[str, Array], batch: int) -> tuple[Callable[[dict[str, Array]], list[Array]], Callable[[], int]]:
        signature = self._explainer.signature
        outputs = [signature.output, *signature.results.values()]

        return lambda part: self.interpreter.run(outputs, part), lambda: self.interpreter.peak_bytes(_first(feeds, batch))

    def _in_lanes(
        self, feeds: dict[str, Array], batch: int, lanes: int, given: dict[str, Array], masks: tuple[Mask, ...]
    ) -> tuple[Callable[[dict[str, Array]], list[Array]], Callable[[], int]]:
        from onnx_lrp.lanes.session import by_sample

        session, leads = self._lanes(masks), self._explainer.signature.batch_leads

        def run(part: dict[str, Array]) -> list[Array]:
            output, found = session.run(part, given, lanes)
            samples = len(part[INDEX]) // lanes
            return [output, *(by_sample(value, samples) if leads[name] else value for name, value in found.items())]

        return run, lambda: session.peak_bytes(_first(feeds, batch), given, lanes)

    def _lanes(self, masks: tuple[Mask, ...]) -> LaneSession:
        from onnx_lrp.lanes.session import LaneSession

        if masks not in self.lane_sessions:
            blueprint = self._explainer.blueprint
            self.lane_sessions[masks] = LaneSession(
                blueprint.emitter,
                blueprint.output_name,
                lambda e, seed: blueprint.relevances(e, seed, masks),
                (blueprint.model_inputs(), blueprint.seed_inputs(), [value_info(mask.input, np.float32, mask.shape) for mask in masks]),
                self._explainer.interpreter,
            )
        return self.lane_sessions[masks]

    def parted(self, values: dict[str, Array], batch: int, lanes: int, passes: int, targets: Targets) -> dict[str, Array]:
        """Gives each relevance an axis for the targets of a sample, (N, K) ones that is, and makes one of two passes."""
        leads = self._explainer.signature.batch_leads
        own = [name for name, value in values.items() if value.shape[:1] == (batch * lanes,) and leads[name]]
        if passes > 1:
            odd = [name for name in values if name not in own]
            if odd:
                raise InputError(f"two passes need the samples in the first axis, which {odd[0]!r} has not: do not record it")
            values = combine({name: value.reshape(-1, passes, *value.shape[1:]) for name, value in values.items()}, self._explainer.inputs)
        if targets.per_sample is None:
            return values
        return {name: value.reshape(batch, -1, *value.shape[1:]) if name in own else value for name, value in values.items()}


def _first(feeds: dict[str, Array], batch: int) -> dict[str, Array]:
    """The inputs of one sample."""
    return {name: to_numpy(value) for name, value in rows(feeds, batch, slice(0, 1)).items()}
