"""Model parameter randomisation: an explanation that stays the same when the model forgets what it learned explains nothing of it."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx
from onnx import numpy_helper

from onnx_lrp.errors import InputError, suggest
from onnx_lrp.evaluation.localisation import pooled
from onnx_lrp.evaluation.similarity import rank_correlation, scaled, ssim
from onnx_lrp.explainer import Explainer
from onnx_lrp.graph import read_graph
from onnx_lrp.progress import progress_bar

if TYPE_CHECKING:
    from numpy.random import Generator
    from numpy.typing import NDArray

    from onnx_lrp.graph import Array, ModelSource

LAYERS = ("Conv", "ConvTranspose", "Gemm", "MatMul", "LSTM", "GRU", "RNN")
"""The operators whose parameters are randomised."""
DRAWN_FROM = ("normal", "shuffle")
MODES = ("top_down", "bottom_up", "independent")

_THROUGH = ("Identity", "Cast", "Transpose", "Reshape", "DequantizeLinear")
"""What may stand between a parameter and its layer."""


@dataclass(frozen=True)
class Randomisation:
    """What `randomisation_test` returns: for each stage, how much the maps are still like the original ones."""

    layers: list[str]
    """The layer that is randomised last in each stage."""
    rank_correlation: NDArray[np.float64]
    """Spearman's, (stages, N); NaN where a map is constant."""
    ssim: NDArray[np.float64]
    """The structural similarity, (stages, N)."""
    output: NDArray[np.float64]
    """The explained output, (stages, N)."""


def randomisation_test(
    model: ModelSource,
    x: Array,
    target: Any = None,
    composite: Any = "epsilon_plus_flat",
    *,
    mode: str = "top_down",
    stages: int | None = None,
    drawn_from: str = "normal",
    seed: int = 0,
    absolute: bool = False,
    channel_axis: int | str | None = None,
    **options: Any,
) -> Randomisation:
    """Compares maps of a model with those of the same model with randomised parameters (Adebayo et al. 2018).

    A map that shows what the model learned changes: rank correlation and structural similarity fall towards zero. Relevance starts with
    one at the target, so that the sign of a randomised output does not turn the map over. For SSIM the maps are summed over channels and
    divided by their largest absolute value.

    Args:
        model: path, bytes or onnx.ModelProto, with one explained input.
        x: (N, ...).
        target: as in Explainer.explain, one per sample; None is each sample's largest output in the original model, kept for the others.
        composite: as in Explainer.
        mode: "top_down" (cascading, from the output on), "bottom_up" (cascading, from the input on), "independent" (one layer at a time).
        stages: how many stages are measured, evenly spread and with the last; default: all.
        drawn_from: "normal" (of each parameter's own mean and deviation) or "shuffle" (its own values in another order).
        seed: of the random numbers.
        absolute: compare absolute relevance.
        channel_axis: of a sample, "none", or None to guess.
        **options: of Explainer, those of the composite included.

    Raises:
        InputError: an unknown name, a number out of range, or a model without parameters to randomise.
        OnnxLrpError: what Explainer raises.
    """
    if stages is not None and (not isinstance(stages, int) or stages < 1):
        raise InputError(f"stages is a positive int, not {stages!r}")
    explainer = Explainer(model, composite, **options)
    if len(explainer.inputs) != 1:
        raise InputError(f"randomisation compares the maps of one explained input, not of {len(explainer.inputs)}")
    plain = explainer.explain(x, target, "one")
    fixed = plain.target_as_given

    def comparable(relevance: Any) -> Array:
        array = np.asarray(relevance, np.float64)
        return np.abs(array) if absolute else array

    original = comparable(plain.relevance)
    names = parameter_layers(model)
    chosen = _spread(len(names), stages)
    found: list[tuple[str, Array, Array, Array]] = []
    with progress_bar(len(chosen)) as advance:
        for stage, (name, changed) in enumerate(randomised(model, mode=mode, drawn_from=drawn_from, seed=seed)):
            if stage not in chosen:
                continue
            other = Explainer(changed, composite, **options).explain(x, fixed, "one")
            maps = comparable(other.relevance)
            alike = ssim(scaled(pooled(original, channel_axis)), scaled(pooled(maps, channel_axis)))
            found.append((name, rank_correlation(original, maps), alike, other.explained))
            advance(1)
    columns = [np.stack([stage[column] for stage in found]).astype(np.float64) for column in (1, 2, 3)]
    return Randomisation([stage[0] for stage in found], *columns)


def _spread(count: int, stages: int | None) -> set[int]:
    if stages is None or stages >= count:
        return set(range(count))
    return {round(float(index)) - 1 for index in np.linspace(count / stages, count, stages)}


def parameter_layers(model: ModelSource) -> list[str]:
    """The layers that have parameters to randomise, from the input to the output.

    Raises:
        InputError: there are none.
    """
    layers = _layers(plain_proto(model))
    return [name for name, _ in layers]


def randomised(
    model: ModelSource, *, mode: str = "top_down", drawn_from: str = "normal", seed: int = 0
) -> Iterator[tuple[str, onnx.ModelProto]]:
    """The model after each stage of randomisation, with the name of the layer that was randomised last.

    Args:
        model: path, bytes or onnx.ModelProto; it is not changed.
        mode: as in `randomisation_test`.
        drawn_from: as in `randomisation_test`.
        seed: a layer's numbers depend on the seed and on its place in the model, not on the mode.

    Raises:
        InputError: an unknown name, or no layer has parameters.
    """
    for what, name, known in (("mode", mode, MODES), ("drawn_from", drawn_from, DRAWN_FROM)):
        if name not in known:
            raise InputError(f"unknown {what} {name!r}" + suggest(name, known))
    proto = plain_proto(model)
    layers = list(enumerate(_layers(proto)))
    changed = onnx.ModelProto()
    changed.CopyFrom(proto)
    for place, (name, parameters) in reversed(layers) if mode == "top_down" else layers:
        if mode == "independent":
            changed.CopyFrom(proto)
        rng = np.random.default_rng([seed, place])
        values = {tensor.name: tensor for tensor in changed.graph.initializer}
        for parameter in parameters:
            if parameter in values:
                values[parameter].CopyFrom(_random(values[parameter], drawn_from, rng))
        copy = onnx.ModelProto()
        copy.CopyFrom(changed)
        yield name, copy


def plain_proto(model: ModelSource) -> onnx.ModelProto:
    """The model with its parameters as initialisers, constants in nodes included."""
    read_graph(model)  # raises for what cannot be read
    if isinstance(model, onnx.ModelProto):
        proto = onnx.ModelProto()
        proto.CopyFrom(model)
    else:
        proto = onnx.load_model_from_string(model) if isinstance(model, bytes) else onnx.load(os.fspath(model))
    constants = [node for node in proto.graph.node if node.op_type == "Constant" and node.attribute and node.attribute[0].name == "value"]
    for node in constants:
        tensor = proto.graph.initializer.add()
        tensor.CopyFrom(node.attribute[0].t)
        tensor.name = node.output[0]
        proto.graph.node.remove(node)
    return proto


def _layers(proto: onnx.ModelProto) -> list[tuple[str, list[str]]]:
    """Name and parameters of each layer, in the order of the graph."""
    floats = {
        tensor.name
        for tensor in proto.graph.initializer
        if tensor.data_type in (onnx.TensorProto.FLOAT, onnx.TensorProto.FLOAT16, onnx.TensorProto.DOUBLE, onnx.TensorProto.BFLOAT16)
    }
    origins = {
        node.output[0]: node.input[0] for node in proto.graph.node if node.op_type in _THROUGH and len(node.output) == 1 and node.input
    }
    found, taken = [], set()
    for index, node in enumerate(proto.graph.node):
        if node.op_type not in LAYERS:
            continue
        parameters = [name for name in (_origin(tensor, origins) for tensor in node.input) if name in floats and name not in taken]
        if parameters:
            taken.update(parameters)
            found.append((node.name or f"{node.op_type} {index}", parameters))
    if not found:
        raise InputError("the model has no convolutions or dense layers with parameters to randomise")
    return found


def _origin(tensor: str, origins: dict[str, str]) -> str:
    while tensor in origins:
        tensor = origins[tensor]
    return tensor


def _random(tensor: onnx.TensorProto, drawn_from: str, rng: Generator) -> onnx.TensorProto:
    values = numpy_helper.to_array(tensor)
    wide = values.astype(np.float64)
    new = (
        rng.normal(wide.mean(), wide.std(), wide.shape) if drawn_from == "normal" else rng.permutation(wide.reshape(-1)).reshape(wide.shape)
    )
    return numpy_helper.from_array(new.astype(values.dtype), tensor.name)
