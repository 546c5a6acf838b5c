"""Running K relevance passes on N samples: one forward pass where the graph can be lifted, else every sample K times."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
import onnx

from onnx_lrp.device_arrays import joined, spread
from onnx_lrp.feeds import value_info
from onnx_lrp.lanes.lifter import lift
from onnx_lrp.lanes.shapes import NotLiftable
from onnx_lrp.seeds import FEEDS, INDEX, WHOLE, emit_seed

if TYPE_CHECKING:
    from onnx_lrp.emitter import Emitter
    from onnx_lrp.graph import Array
    from onnx_lrp.interpreter import Interpreter

LANES, SEED = "lrp/lanes", "lrp/seed"
"""The input that says how many lanes there are, int64 (1,), and the tensor with the initial relevance of all, (K, N, ...)."""

Values = Sequence[onnx.ValueInfoProto]
Inputs = tuple[Values, Values, Values]
Relevances = Callable[["Emitter", str], dict[str, str]]


class LaneSession:
    """The graph that runs K lanes, compiled.

    Args:
        emitter: makes an emitter that holds the forward pass.
        output: the explained output.
        relevances: emits the relevance pass from a seed, and returns name asked for -> tensor.
        inputs: the model's inputs, which the lanes share, those that the seed is made of, and the masks, one of its own for each lane.
        interpreter: makes a session of a graph and its constants.
    """

    def __init__(
        self,
        emitter: Callable[[], Emitter],
        output: str,
        relevances: Relevances,
        inputs: Inputs,
        interpreter: Callable[[onnx.ModelProto, dict[str, Array]], Interpreter],
    ):
        self.output = output
        self.lifted = True
        """Whether the lanes share one forward pass."""
        e = emitter()
        try:
            model, constants, outputs = _lifted(e, output, relevances, inputs)
        except NotLiftable as reason:
            logging.getLogger(__name__).info("every lane has a forward pass of its own: %s", reason)
            self.lifted = False
            e = emitter()
            names = relevances(e, emit_seed(e, output))
            outputs = {name: (tensor, False) for name, tensor in names.items()}
            model, constants = e.model([value for values in inputs for value in values], _named([output, *names.values()]))
        self._names = outputs
        self._interpreter = interpreter(model, constants)

    def run(self, feeds: Mapping[str, Array], masks: Mapping[str, Array], lanes: int) -> tuple[Array, dict[str, Array]]:
        """Runs all lanes.

        Args:
            feeds: the model's inputs, (N, ...), and the seed's, sample by sample and lane by lane: (N * K, ...), or the same for all.
            masks: (K, 1, ...).
            lanes: K.

        Returns:
            The explained output, (N, ...), and the relevance by the names asked for, each with the lanes as its first axis.
        """
        given, by_lane = self._parted(feeds, lanes)
        output, *values = (self._together if self.lifted else self._one_by_one)(given, by_lane, masks, lanes)
        return output[0], dict(zip(self._names, values, strict=True))

    def peak_bytes(self, feeds: Mapping[str, Array], masks: Mapping[str, Array], lanes: int) -> int:
        """The memory that such a run takes; see `onnx_lrp.estimate.peak_bytes`."""
        given, by_lane = self._parted(feeds, lanes)
        used = {name: value if self.lifted else value[:1] for name, value in by_lane.items()}
        masks = {name: value if self.lifted else value[0] for name, value in masks.items()}
        return self._interpreter.peak_bytes({**given, **_rows(used), **masks})

    def _parted(self, feeds: Mapping[str, Array], lanes: int) -> tuple[dict[str, Array], dict[str, Array]]:
        """What the lanes share, and what each has of its own, (K, N, ...)."""
        rows = len(feeds[INDEX])
        by_lane = {
            name: value.reshape(rows // lanes, lanes, *value.shape[1:]).swapaxes(0, 1)
            for name, value in feeds.items()
            if name in FEEDS and name not in WHOLE and len(value) == rows
        }
        shared = {name: value for name, value in feeds.items() if name not in by_lane}
        return shared | {LANES: np.array([lanes])}, by_lane

    def _together(self, feeds: Mapping[str, Array], seeds: Mapping[str, Array], masks: Mapping[str, Array], lanes: int) -> list[Array]:
        """The output as (1, N, ...), and the relevance as (K, ...)."""
        names = list(dict.fromkeys([self.output, *(tensor for tensor, _ in self._names.values())]))
        found = dict(zip(names, self._interpreter.run(names, {**feeds, **_rows(seeds), **masks}), strict=True))
        values = [found[tensor] if wide else spread(found[tensor], (lanes, *found[tensor].shape)) for tensor, wide in self._names.values()]
        return [found[self.output][None], *values]

    def _one_by_one(self, feeds: Mapping[str, Array], seeds: Mapping[str, Array], masks: Mapping[str, Array], lanes: int) -> list[Array]:
        """The same by a graph for one lane."""
        runs = []
        for lane in range(lanes):
            one = slice(lane, lane + 1)
            own = {name: value[lane] for name, value in masks.items()}
            runs.append(self._together(feeds, {name: value[one] for name, value in seeds.items()}, own, 1))
        output, *values = (joined(parts) for parts in zip(*runs, strict=True))
        return [output[:1], *values]


def _rows(by_lane: Mapping[str, Array]) -> dict[str, Array]:
    return {name: value.reshape(-1, *value.shape[2:]) for name, value in by_lane.items()}


def by_sample(value: Array, batch: int) -> Array:
    """(K, N * h, ...), h being 1 unless an axis holds heads or the like too, as (N * K * h, ...): what N * K rows would give."""
    if value.shape[1] % batch:
        return value
    parted = value.reshape(len(value), batch, value.shape[1] // batch, *value.shape[2:]).swapaxes(0, 1)
    return parted.reshape(-1, *value.shape[2:])


def _lifted(
    e: Emitter, output: str, relevances: Relevances, inputs: Inputs
) -> tuple[onnx.ModelProto, dict[str, Array], dict[str, tuple[str, bool]]]:
    """The relevance pass, lifted, behind a seed that is emitted for the rows of all lanes, and so needs no lifting."""
    of_model, of_seed, masks = inputs
    names = relevances(e, SEED)
    seed = value_info(SEED, np.float32, e.graph.shape(output))
    model, constants = e.model([*of_model, seed, *masks], _named([output, *names.values()]))
    model, constants, outputs = lift(model, constants, [SEED, *(mask.name for mask in masks)], e.graph.types)

    size = e.op("Concat", LANES, e.op("Shape", output), axis=0)
    rows = e.op("Reshape", e.op("Expand", output, size), e.op("Concat", e.ints(-1), e.op("Shape", output, start=1), axis=0))
    e.op("Reshape", emit_seed(e, rows), size, output=SEED)
    head, further = e.model([*of_model, *of_seed, value_info(LANES, np.int64, (1,))], _named([SEED]))

    made = {tensor for node in head.graph.node for tensor in node.output}
    head.graph.node.extend(node for node in model.graph.node if not made.intersection(node.output))
    head.graph.input.extend(value for value in model.graph.input if value.name in {mask.name for mask in masks})
    del head.graph.output[:]
    head.graph.output.extend(model.graph.output)
    return head, constants | further, {name: outputs[tensor] for name, tensor in names.items()}


def _named(tensors: Sequence[str]) -> Values:
    return [onnx.ValueInfoProto(name=tensor) for tensor in dict.fromkeys(tensors)]
