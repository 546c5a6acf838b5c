"""Grad-CAM and Guided Grad-CAM: which places of a convolutional net's last feature map speak for the prediction.

Selvaraju et al. 2017, "Grad-CAM: Visual Explanations from Deep Networks via Gradient-based Localization".
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any
from weakref import WeakKeyDictionary

import numpy as np

from onnx_lrp.composites import COMPOSITES
from onnx_lrp.composites.gradients import GradientComposite
from onnx_lrp.concepts import channel_axis
from onnx_lrp.emitter import Emitter
from onnx_lrp.errors import InputError
from onnx_lrp.explainer import Explainer
from onnx_lrp.explanation import Explanation
from onnx_lrp.feeds import Input, on_host
from onnx_lrp.gradients import compiled
from onnx_lrp.graph import Array, Graph, ModelSource
from onnx_lrp.operators import Role, find_operator
from onnx_lrp.plan import Plan, carrying_inputs
from onnx_lrp.recording import exact_tensor

_MAKES_MAPS = ("convolution", "pool", "max_pool")
_KEEPS_MAPS = ("scale", "lrn", "resize")

_inner: WeakKeyDictionary[Explainer, dict[str, Explainer]] = WeakKeyDictionary()
"""What was compiled for each layer of an explainer, so that the next call does not compile it again."""


def grad_cam(
    model: ModelSource | Explainer,
    x: Input,
    target: Any = None,
    *,
    layer: str | None = None,
    guided: bool = False,
    **options: Any,
) -> Explanation:
    """ReLU(sum over channels c of a_c A_c), with a_c the mean over all places of the gradient of the output with respect to A_c.

    The map has the layer's resolution, is enlarged linearly to the input's, and divided equally among the input's channels, so that their
    sum is the map. It is never negative.

    Args:
        model: path, bytes, ModelProto, or an Explainer with composite="gradient" (guided: "guided_backprop").
        x: (N, C, ...) with one to three further axes, the places; or channels last, if the model moves them to the front. Or a dict.
        target: as in Explainer.explain.
        layer: the feature map A, by the name of the tensor or of its node; default: see `last_feature_map`.
        guided: Guided Grad-CAM: the result of guided backprop times the map, which is then not divided among the channels.
        **options: of Explainer (inputs=, output=, providers= ...).

    Returns:
        An explanation with relevance shaped like the explained input, (N, K, ...) for K targets per sample.

    Raises:
        InputError: the layer is not there or is no feature map, the model has none, several inputs are explained, tensors are to be
            recorded, or the Explainer has another composite.
    """
    explainer = compiled(model, options, "guided_backprop" if guided else "gradient")
    inner = inner_explainer(explainer, layer, guided=guided)
    source, (chosen,) = explainer.plan.sources[0], inner.plan.sources
    rank = explainer.graph.rank(source) or 0
    x = on_host(x)
    plain = explainer.explain(x, target)
    value = plain.relevances[explainer.inputs[0]]
    small = inner.explain(x, plain.target_as_given).relevances[chosen]
    first = value.ndim - rank + 1  # behind the axes of the samples and of the targets
    axes = axes_of_places(explainer.graph, source)
    channels, *places = (first + axis - 1 for axis in axes)
    cam = small.squeeze(first + channel_axis(explainer.graph, chosen) - 1)
    cam = enlarge(cam, [value.shape[axis] for axis in places])
    # Now the places come in the order of the layer; put them, and an axis for the channels, where the input has them.
    cam = np.expand_dims(cam, first).transpose(*range(first), *(first + axes.index(axis) for axis in sorted(axes)))
    found = value * cam if guided else np.broadcast_to(cam / value.shape[channels], value.shape)
    return plain.with_relevances({explainer.inputs[0]: np.asarray(found, np.float32, order="C")})


def inner_explainer(explainer: Explainer, layer: str | None, *, guided: bool) -> Explainer:
    """What makes the map at the resolution of the layer; compiled at the first call for this layer.

    Args:
        explainer: of the input; see `grad_cam`.
        layer: see `grad_cam`.
        guided: whether the explainer is meant for Guided Grad-CAM.

    Raises:
        InputError: as `grad_cam` says.
    """
    name = "guided_backprop" if guided else "gradient"
    if type(explainer.composite) is not COMPOSITES[name]:
        raise InputError(f'{"Guided " * guided}Grad-CAM needs the composite "{name}", not another one')
    if len(explainer.tensors) != 1:
        raise InputError(f"Grad-CAM explains one input and records nothing, not {', '.join(map(repr, explainer.tensors))}")
    graph, source = explainer.graph, explainer.plan.sources[0]
    rank = graph.rank(source)
    if rank is None or rank < 3:
        raise InputError(f"Grad-CAM needs an input with places, (N, channels, ...): {source!r} has {rank or 'an unknown number of'} axes")
    chosen = last_feature_map(explainer.plan) if layer is None else exact_tensor(explainer.plan, layer, "take as the layer")
    if graph.rank(chosen) != rank:
        raise InputError(f"Grad-CAM needs a layer with as many axes as the input, {rank}, and {chosen!r} has {graph.rank(chosen)}")
    compiled_for = _inner.setdefault(explainer, {})
    if chosen not in compiled_for:
        compiled_for[chosen] = explainer.inner(chosen, ClassActivationMap())
    return compiled_for[chosen]


class ClassActivationMap(GradientComposite):
    """Back to a feature map, and what Grad-CAM makes of it and of its gradient: shaped like it, but with one channel."""

    def finish(self, e: Emitter, relevance: str, tensor: str, sources: Sequence[str]) -> str:  # noqa: ARG002
        """ReLU(sum over channels of (mean gradient) times the tensor)."""
        rank, channels = e.graph.rank(tensor) or 0, channel_axis(e.graph, tensor)
        places = [axis for axis in range(1, rank) if axis != channels]
        weights = e.op("ReduceMean", relevance, e.ints(*places), keepdims=1)
        return e.op("Relu", e.op("ReduceSum", e.mul(weights, tensor), e.ints(channels), keepdims=1))


def last_feature_map(plan: Plan) -> str:
    """The last tensor before the head: the last one on the path, in topological order, that is a feature map.

    Feature maps are what convolutions and pools make, and activations, sums, normalisations or concatenations of them, as long as there are
    as many axes as the explained input has, and more than one place. The explained output itself does not count.

    Raises:
        InputError: there is none.
    """
    graph, found = plan.graph, ""
    rank, maps = graph.rank(plan.sources[0]), set[str]()
    for view in (step.view for step in plan.steps):
        tensor = view.node.outputs[0]
        keeps = view.role in (Role.POINTWISE, Role.SUM, Role.PRODUCT) or view.kind in _KEEPS_MAPS or view.op == "Concat"
        made = view.kind in _MAKES_MAPS or (keeps and not maps.isdisjoint(view.node.inputs))
        shape = graph.shape(tensor)
        if made and tensor != plan.output and graph.rank(tensor) == rank and shape is not None and any(size != 1 for size in shape[2:]):
            maps.add(tensor)
            found = tensor
    if not found:
        raise InputError("Grad-CAM needs a feature map, and the model makes none with as many axes as its input: name one with layer=")
    return found


def axes_of_places(graph: Graph, source: str) -> list[int]:
    """The axes of an input in the order in which the first convolution or pool reads them: the channels, then those of the places.

    Where the input is transposed on the way there, as in models that take channels last, the order is another than that of the input.
    """
    rank = graph.rank(source) or 0
    orders = {source: list(range(1, rank))}
    for node in graph.nodes:
        operator = find_operator(node)
        if operator is None:
            continue
        read = next((node.inputs[index] for index in carrying_inputs(node, graph) if node.inputs[index] in orders), None)
        if read is None:
            continue
        if operator.kind in _MAKES_MAPS:
            return orders[read]
        if node.op == "Transpose":
            order = list(node.attributes.get("perm", range(rank)[::-1]))
            if order[0] == 0:
                orders[node.outputs[0]] = [orders[read][axis - 1] for axis in order[1:]]
        elif graph.rank(node.outputs[0]) == rank and operator.role is not Role.ROUTE:
            orders[node.outputs[0]] = orders[read]
    return orders[source]


def enlarge(values: Array, sizes: Sequence[int]) -> Array:
    """Enlarges the last axes linearly, one after the other.

    Pixels are areas: the centre of pixel i of n lies at (i + 1/2) / n of the axis, and beyond the outermost centres values stay the same,
    as in Pillow and OpenCV. By a whole factor the mean stays the same, too.

    Args:
        values: (..., n_1, ..., n_d).
        sizes: the new lengths of the last d axes.
    """
    for axis, size in enumerate(sizes, values.ndim - len(sizes)):
        length = values.shape[axis]
        place = np.clip((np.arange(size) + 0.5) * length / size - 0.5, 0, length - 1)
        low = np.minimum(place.astype(int), max(length - 2, 0))
        share = (place - low).reshape(-1, *(1,) * (values.ndim - 1 - axis))
        values = values.take(low, axis) * (1 - share) + values.take(np.minimum(low + 1, length - 1), axis) * share
    return values
