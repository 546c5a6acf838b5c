"""Conditional relevance: what an explanation looks like when it may only go through some channels of a layer (CRP).

With a mask theta_l that is 1 at the chosen channels of a layer and 0 at the others, each layer passes on R_l * theta_l in place of R_l; the
relevance of the input is then that of the chosen channels (Achtibat et al. 2023, "From attribution maps to human-understandable
explanations through Concept Relevance Propagation").
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from onnx_lrp.errors import InputError
from onnx_lrp.operators import Role, find_operator
from onnx_lrp.recording import exact_tensor

if TYPE_CHECKING:
    from onnx_lrp.graph import Array, Graph
    from onnx_lrp.plan import Plan

Condition = Mapping[str, Any]
"""Tensor name -> the channels that relevance may go through there: ints, or a pair (axis, ints). "y" or the output's name -> the target."""

TARGET = "y"


@dataclass(frozen=True)
class Mask:
    """An input of the explaining graph that multiplies the relevance of a tensor: one number per channel."""

    tensor: str
    axis: int
    """The axis of the channels."""
    rank: int
    channels: int

    @property
    def input(self) -> str:
        """The name of the input."""
        return f"lrp/mask/{self.axis}/{self.tensor}"

    @property
    def shape(self) -> tuple[int | None, ...]:
        """Broadcasts against the tensor."""
        return (None, *self.sample_shape)

    @property
    def sample_shape(self) -> tuple[int, ...]:
        """The shape without the batch axis."""
        return tuple(self.channels if axis == self.axis else 1 for axis in range(1, self.rank))


def channel_axis(graph: Graph, tensor: str) -> int:
    """Where a tensor has its channels: last behind a dense layer or a normalisation of the last axis, as in transformers; else 1."""
    rank, seen, waiting = graph.rank(tensor), {tensor}, [tensor]
    while waiting:
        maker = graph.producers.get(waiting.pop())
        operator = find_operator(maker) if maker is not None else None
        if maker is None or operator is None:
            continue
        if operator.kind == "dense" or maker.op in ("LayerNormalization", "RMSNormalization"):
            return (rank or 2) - 1
        if operator.kind == "matmul":
            behind = [maker.inputs[1]]  # it gives the columns
        elif operator.role in (Role.POINTWISE, Role.SUM, Role.PRODUCT) or operator.kind == "scale":
            behind = [maker.inputs[index] for index in operator.data_inputs(maker, graph)]
        else:
            continue
        waiting += [other for other in behind if other not in seen and graph.rank(other) == rank]
        seen.update(behind)
    return 1


def read_conditions(conditions: Sequence[Condition], target: Any, plan: Plan) -> tuple[list[Any], dict[Mask, Array]]:
    """What the conditions ask for.

    Args:
        conditions: one per lane.
        target: the target of conditions that name none.
        plan: what lies on the path of relevance.

    Returns:
        Each lane's target, and for each masked tensor an array of zeros and ones (lanes, channels).

    Raises:
        InputError: a condition of the wrong form, an unknown tensor or channel.
    """
    if isinstance(conditions, Mapping) or not isinstance(conditions, Sequence) or not conditions:
        raise InputError("conditions are a list of dicts, one for each relevance pass: tensor name -> channels")
    targets: list[Any] = []
    masks: dict[Mask, Array] = {}
    for lane, condition in enumerate(conditions):
        if not isinstance(condition, Mapping):
            raise InputError(f"a condition is a dict tensor name -> channels, not {condition!r}")
        chosen = target
        for name, value in condition.items():
            if name == plan.output or (name == TARGET and name not in plan.graph.producers):
                chosen = _target(value)
                continue
            mask, channels = _mask(plan.graph, name, exact_tensor(plan, name, "mask"), value)
            row = masks.setdefault(mask, np.ones((len(conditions), mask.channels), np.float32))[lane]
            row[:] = 0
            row[channels] = 1
        targets.append(chosen)
    return targets, masks


def _target(value: Any) -> Any:
    """The target of a condition; a list of one, as other libraries want it, is that one."""
    if isinstance(value, list) and len(value) == 1:
        return value[0]
    if isinstance(value, (int, np.integer, tuple)) and not isinstance(value, bool):
        return value
    raise InputError(f"a condition has one target, an int, or a tuple for an output of several axes, not {value!r}")


def _mask(graph: Graph, name: str, tensor: str, value: Any) -> tuple[Mask, list[int]]:
    shape = graph.shape(tensor)
    if shape is None or len(shape) < 2:
        raise InputError(f"tensor {name!r} cannot be masked: it has no known channel axis")
    is_pair = isinstance(value, tuple) and len(value) == 2 and isinstance(value[0], int) and np.ndim(value[1]) == 1
    axis, chosen = value if is_pair else (channel_axis(graph, tensor), value)
    if not -len(shape) < axis < len(shape) or axis % len(shape) == 0:
        raise InputError(f"tensor {name!r} of {len(shape)} axes has no channel axis {axis}")
    length = shape[axis]
    if not isinstance(length, int):
        raise InputError(f"tensor {name!r} cannot be masked along axis {axis}, whose length is not known")
    channels = np.atleast_1d(np.asarray(chosen if np.ndim(chosen) < 2 else None))
    if channels.dtype.kind not in "iu" and channels.size:
        raise InputError(f"the channels of {name!r} are ints, or a pair (axis, ints), not {value!r}")
    wrong = [int(channel) for channel in channels if not 0 <= channel < length]
    if wrong:
        raise InputError(f"channel {wrong[0]} of {name!r} is out of range: it has {length} along axis {axis} (0 to {length - 1})")
    return Mask(tensor, axis % len(shape), len(shape), length), [int(channel) for channel in channels]


def channel_relevance(graph: Graph, tensor: str, relevance: Array, axis: int | None = None) -> Array:
    """The relevance of each channel of a tensor: the sum over all axes but those of the samples, the lanes and the channels.

    Args:
        graph: the canonical graph.
        tensor: one of its tensors.
        relevance: its relevance, (N, ...), or (N, K, ...) for K lanes.
        axis: where the channels are, counted in the tensor itself; default: see channel_axis.

    Returns:
        (N, C) or (N, K, C).

    Raises:
        InputError: the tensor has no such axis.
    """
    rank = graph.rank(tensor)
    if rank is None or rank < 2:
        raise InputError(f"tensor {tensor!r} has no known channel axis")
    own = channel_axis(graph, tensor) if axis is None else axis
    if not -rank < own < rank or own % rank == 0:
        raise InputError(f"tensor {tensor!r} of {rank} axes has no channel axis {own}")
    lanes = relevance.ndim - rank
    summed = tuple(lanes + other for other in range(1, rank) if other != own % rank)
    return np.asarray(relevance.sum(summed, dtype=np.float64).astype(np.float32))


def strongest(channels: Array, count: int) -> Array:
    """The channels of most relevance, the most relevant one first.

    Args:
        channels: (..., C), such as Explanation.channels gives.
        count: how many of them.

    Returns:
        ints (..., count).
    """
    return np.argsort(-channels, axis=-1, kind="stable")[..., :count]
