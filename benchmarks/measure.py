"""One row of the table: the contenders take turns, each in its own process."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import emitted
import floor
import numpy as np
import shares
from contenders import Forward, Ours, Zennit
from results import Result, Row, today
from worker import Worker, WorkerError

if TYPE_CHECKING:
    from contender import Case
    from numpy.typing import NDArray

FEWEST_ROUNDS = 3
SLOW_ROUND = 3.0
"""Seconds of the first round from which on it counts as one, and there are no more than FEWEST_ROUNDS."""
LONG_ROUND = 10.0
"""And from which on there is only one more."""
LONG_FORWARD = 0.5
"""Seconds of a forward pass from which on the contenders run one after the other, the first run counting."""
LONG_RUNS = 3
"""How often they do: the first run waits for memory from the system."""
LONG_RUN = 8.0
"""Seconds of a peer's first run in such a row from which on there are fewer: SLOW_RUNS."""
SLOW_RUNS = 2
PROFILED = 8
"""The largest batch that is profiled; a larger one has the profile of this one."""
PAUSE = 0.1
"""Seconds before each run, in which the threads of the one before stop spinning."""


@dataclass
class Limits:
    """How much is run."""

    rounds: int
    budget: float
    """Seconds after which a row ends early, with FEWEST_ROUNDS rounds at least."""


class Measurement:
    """The contenders of one network and composite; batches are measured in ascending order, so that peaks of memory are each batch's own.

    Args:
        case: the network and the composite.
        forward: the plain forward pass of the network, kept over its composites.
        names: the other contenders.
        limits: how much is run.
    """

    def __init__(self, case: Case, forward: Worker, names: list[str], limits: Limits) -> None:
        self.case, self.forward, self.limits = case, forward, limits
        self.workers = [Worker(name, case) for name in names]
        self._counted: dict[int, tuple[float | None, float | None, dict[str, float]]] = {}

    def row(self, batch: int, setup: str, *, last: bool) -> Row:
        """Measures one batch size; `last`: no larger one follows."""
        targets, forward = self._start(batch)
        results = {Forward.name: forward} | {worker.name: Result() for worker in self.workers}
        row = Row(self.case.model, self.case.composite, batch, setup, today(), results, *self._counts(min(batch, PROFILED)))
        maps: dict[str, NDArray[Any]] = {}
        if forward.seconds[0] > LONG_FORWARD:
            self._one_after_the_other(row, targets, maps, last=last)
        else:
            self._in_turns(row, targets, maps)
        for name, found in maps.items():
            if name != Zennit.name and Zennit.name in maps:
                results[name].difference = difference(found, maps[Zennit.name])
        return row

    def close(self) -> None:
        """Ends the processes."""
        for worker in self.workers:
            worker.close()

    def _start(self, batch: int) -> tuple[list[int], Result]:
        """Each sample's largest output, and the result of the forward pass with its first run."""
        self.forward.load(batch, [])
        result = Result()
        if not self._run(self.forward, result):
            raise WorkerError(result.reason)
        return [int(target) for target in self.forward.result().argmax(axis=1)], result

    def _one_after_the_other(self, row: Row, targets: list[int], maps: dict[str, NDArray[Any]], *, last: bool) -> None:
        for position, worker in enumerate(self.workers):
            result = row.results[worker.name]
            if position:
                self._run(self.forward, row.results[Forward.name])
            if self._first(worker, row.batch, targets, result, maps):
                slow = worker.name != Ours.name and result.seconds[0] > LONG_RUN
                for _ in range(1, SLOW_RUNS if slow else LONG_RUNS):
                    self._run(self.forward, row.results[Forward.name])
                    self._run(worker, result)
            if last:
                worker.close()

    def _in_turns(self, row: Row, targets: list[int], maps: dict[str, NDArray[Any]]) -> None:
        """A B C D A B C D ..., so that a slow spell of the machine hits all of them."""
        running = [worker for worker in self.workers if self._first(worker, row.batch, targets, row.results[worker.name], maps)]
        first = sum(sum(result.seconds) for result in row.results.values())
        if first < SLOW_ROUND:  # it only warms up
            for result in row.results.values():
                result.seconds.clear()
        rounds = self.limits.rounds if first < SLOW_ROUND else min(self.limits.rounds, FEWEST_ROUNDS) - 1 if first < LONG_ROUND else 1
        started = time.perf_counter()
        for done in range(rounds):
            if done >= FEWEST_ROUNDS and time.perf_counter() - started > self.limits.budget:
                break
            for worker in [self.forward, *running]:
                self._run(worker, row.results[worker.name])

    def _first(self, worker: Worker, batch: int, targets: list[int], result: Result, maps: dict[str, NDArray[Any]]) -> bool:
        """The first run on an input, and its map; False when the contender cannot do it."""
        try:
            worker.load(batch, targets)
        except WorkerError as error:
            result.reason = str(error)
            return False
        result.remark, result.prepared_mib = worker.remark, worker.prepared_mib
        if self._run(worker, result):
            maps[worker.name] = worker.result()
        return not result.reason

    @staticmethod
    def _run(worker: Worker, result: Result) -> bool:
        if result.reason:
            return False
        time.sleep(PAUSE)
        try:
            seconds, result.peak_mib = worker.run()
        except WorkerError as error:
            result.reason = str(error)
            return False
        result.seconds.append(seconds)
        return True

    def _counts(self, batch: int) -> tuple[float | None, float | None, dict[str, float]]:
        """The floor and what the graph does, in forward passes, None for what cannot be counted; and the shares of its time."""
        if batch not in self._counted:
            self._counted[batch] = counts(self.case, batch)
        return self._counted[batch]


def counts(case: Case, batch: int) -> tuple[float | None, float | None, dict[str, float]]:
    """The floor of a case and the multiply-adds of its graph, in forward passes of one sample; the shares of its time on a batch."""
    import onnx_lrp

    explainer = onnx_lrp.Explainer(case.path, case.composite, providers="cpu", threads=case.threads, **case.options())
    plan, model = explainer.plan, explainer.to_onnx()
    del explainer
    found = shares.shares(model, case, batch) if case.device == "cpu" else {}
    try:
        least = floor.floor(plan)
    except floor.UncountableError:
        return None, None, found
    return least, emitted.multiply_adds(model, case.threads) / floor.forward_multiply_adds(plan), found


def difference(a: NDArray[Any], b: NDArray[Any]) -> float | None:
    """|a - b| / |b| in the Euclidean norm, of the sample in which it is largest; None for maps of different shapes."""
    if a.shape != b.shape:
        return None
    a, b = (x.astype(np.float64).reshape(len(x), -1) for x in (a, b))
    return float(np.max(np.linalg.norm(a - b, axis=1) / np.linalg.norm(b, axis=1)))
