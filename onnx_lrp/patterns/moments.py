"""The statistics that patterns are made of: emitted for one batch, merged over batches in float64."""

from __future__ import annotations

from typing import TYPE_CHECKING, Generic, NamedTuple, TypeVar

import numpy as np

from onnx_lrp.operators.weight_gradient import Patches, from_rows, to_rows

if TYPE_CHECKING:
    from onnx_lrp.emitter import Emitter
    from onnx_lrp.graph import Array, Graph, Node


T = TypeVar("T")


class Statistics(NamedTuple, Generic[T]):
    """One layer's statistics over one batch: the names of tensors, or their values.

    p is the patch, y the output; sums and means go over the positions of the regime where nothing else is said.
    """

    selected: T
    """How many positions are in the regime: (1,) if it is all of them, else (outputs,)."""
    sum_x: T
    """sum of p: (groups or outputs, *patch)."""
    mean_y: T
    """m, the mean of y as float32 has it: (outputs,)."""
    residual: T
    """sum of y - m, what rounding left: (outputs,)."""
    products: T
    """sum of p * (y - m): (outputs, *patch)."""
    squares: T
    """sum of (y - m)^2: (outputs,)."""
    positions: T
    """How many positions there are: (1,)."""
    mean_all: T
    """The mean of y over all of them as float32 has it: (outputs,)."""
    residual_all: T
    """What rounding left of that: (outputs,)."""


def emit_statistics(e: Emitter, node: Node, *, positive: bool) -> Statistics[str]:
    """Emits the statistics of a layer over all positions, or for each output over those where it is positive."""
    patches = Patches(e, node)
    outputs = len(to_rows(node, e.graph.constants[node.input(1)], e.graph))
    y, axes = patches.y, patches.axes
    positions = e.reduce_sum(patches.ones(1), axes)
    mean_all = e.div(e.reduce_sum(y, axes), positions)
    centred_all = e.sub(y, mean_all)
    if positive:
        regime = e.op("Cast", e.op("Greater", y, e.constant(0.0)), to=1)
        selected = e.reduce_sum(regime, axes)
        mean = e.div(e.reduce_sum(e.mul(regime, y), axes), e.op("Max", selected, e.constant(1.0)))
        centred, sum_x = e.mul(regime, e.sub(y, mean)), patches.correlate(regime, outputs)
    else:
        selected, mean, centred = positions, mean_all, centred_all
        sum_x = patches.correlate(patches.ones(patches.group), patches.group)
    sums = (e.reduce_sum(tensor, axes, keepdims=False) for tensor in (centred, e.mul(centred, centred), centred_all))
    residual, squares, residual_all = sums
    vectors = (e.op("Reshape", tensor, e.ints(-1)) for tensor in (selected, mean, positions, mean_all))
    selected, mean, positions, mean_all = vectors
    return Statistics(selected, sum_x, mean, residual, patches.correlate(centred, outputs), squares, positions, mean_all, residual_all)


class Moments:
    """Means, variance of the output and its covariance with the patch over the positions seen so far, for one layer, in float64.

    Batches are merged by the update of Chan, Golub and LeVeque (1979), which subtracts no large numbers from each other.
    """

    def __init__(self, node: Node, graph: Graph):
        self.node, self.weight = node, graph.constants[node.input(1)]
        self.rows = to_rows(node, self.weight, graph)
        outputs = len(self.rows)
        self.count = np.zeros(outputs)
        self.mean_x: Array = np.zeros((1, *self.rows.shape[1:]))
        """One row for all outputs while it is zero, then one for each group or output."""
        self.mean_y = np.zeros(outputs)
        self.products = np.zeros(self.rows.shape)
        """sum of (p - mean_x) * (y - mean_y)."""
        self.squares = np.zeros(outputs)
        """sum of (y - mean_y)^2."""
        self.positions = 0.0
        self.mean_all = np.zeros(outputs)
        """The mean of y over all positions."""

    def update(self, batch: Statistics[Array]) -> None:
        """Takes in one batch."""
        outputs = len(self.rows)
        count = np.broadcast_to(batch.selected, outputs).astype(np.float64)
        share = count / np.maximum(self.count + count, 1.0)
        each = len(batch.sum_x)  # one row for each group or output
        mean_x = batch.sum_x / self._like(np.maximum(count[:: outputs // each], 1.0))
        residual = batch.residual.astype(np.float64)
        mean_y = batch.mean_y + residual / np.maximum(count, 1.0)
        step_x, step_y = mean_x - self.mean_x, mean_y - self.mean_y
        self.products += batch.products - self._per_output(mean_x) * self._like(residual)
        self.products += self._per_output(step_x) * self._like(self.count * share * step_y)
        self.squares += batch.squares - residual**2 / np.maximum(count, 1.0) + self.count * share * step_y**2
        self.mean_x = self.mean_x + step_x * self._like(share[:: outputs // each])
        self.mean_y += step_y * share
        self.count += count
        positions = float(batch.positions[0])
        self.positions += positions
        mean_all = batch.mean_all + batch.residual_all.astype(np.float64) / positions
        self.mean_all += (mean_all - self.mean_all) * (positions / self.positions)

    def _like(self, vector: Array) -> Array:
        """One number for each row, in a shape that broadcasts against rows."""
        return vector.reshape(-1, *[1] * (self.rows.ndim - 1))

    def _per_output(self, rows: Array) -> Array:
        """One row for each group or output -> one for each output."""
        return rows if len(rows) in (1, len(self.rows)) else np.repeat(rows, len(self.rows) // len(rows), 0)

    def pattern(self, bias: str) -> tuple[Array, Array]:
        """The pattern in the shape of the weights, and for each output the sum of weights times pattern; see fit_patterns."""
        count = np.maximum(self.count, 1.0)
        covariance = self.products / self._like(count)
        covariance += self._per_output(self.mean_x) * self._like(self.mean_y - self.mean_all)
        axes = tuple(range(1, covariance.ndim))
        if bias == "neuron":
            signal = self.squares / count + self.mean_y * (self.mean_y - self.mean_all)
            noise = np.zeros(len(signal))
        else:
            terms = self.rows * covariance
            signal, noise = terms.sum(axes), 1e-6 * np.abs(terms).sum(axes)
        # Below these bounds there is nothing but the rounding of float32: the output is the same for all data.
        live = (self.count > 0) & (np.abs(signal) > np.maximum(noise, 1e-12 * self.mean_all**2))
        covariance[~live] = 0.0
        pattern = (covariance / self._like(np.where(live, signal, 1.0))).astype(np.float32)
        return from_rows(self.node, pattern, self.weight.shape), (self.rows * pattern.astype(np.float64)).sum(axes)
