"""Normalisations that exporters wrote as several nodes, put back together."""

from __future__ import annotations

from onnx_lrp.canonical.padding import zero_padding
from onnx_lrp.graph import CANONICAL, Graph, Node

_SHAPING = ("Reshape", "Unsqueeze", "Squeeze")


def recognise_lrn(graph: Graph) -> bool:
    """Local response normalisation as PyTorch exports it: x / (k + alpha * pool(x^2))^beta with an average pool over channels.

    Only odd sizes: for even ones PyTorch's window lies one channel before ONNX's. An LRN of even size becomes one of our domain, which is
    emitted in other operators: onnxruntime refuses it.
    """
    changed = False
    for node in graph:
        if node.op == "LRN" and not node.domain and node.attributes["size"] % 2 == 0:
            graph.replace([node], [Node("LRN", node.name, node.inputs, node.outputs, node.attributes, CANONICAL)])
            changed = True
            continue
        found = _lrn(graph, node) if node.op == "Div" and not node.domain else None
        if found is not None:
            graph.replace([node], [found])
            changed = True
    return changed


def _lrn(graph: Graph, node: Node) -> Node | None:
    x, power = node.input(0), graph.producers.get(node.input(1))
    scale = graph.producers.get(power.input(0)) if power is not None and power.op == "Pow" else None
    if power is None or scale is None or scale.op != "Scale" or scale.domain != CANONICAL or graph.rank(x) != 4:
        return None
    beta, alpha, bias = graph.scalar(power.input(1)), graph.scalar(scale.input(1)), graph.scalar(scale.input(2))
    if beta is None or alpha is None or bias is None:
        return None
    pools: list[Node] = []
    paddings: list[Node] = []
    inner = graph.producers.get(scale.input(0))
    while inner is not None and inner.op in (*_SHAPING, "Pad", "AveragePool"):
        (pools if inner.op == "AveragePool" else paddings if inner.op == "Pad" else []).append(inner)
        inner = graph.producers.get(inner.input(0))
    if inner is None or inner.op != "Mul" or inner.inputs != [x, x] or len(pools) != 1 or len(paddings) != 1:
        return None
    kernel = list(pools[0].attributes["kernel_shape"])
    size = kernel[0]
    shape, squeezed = graph.shape(x), graph.shape(pools[0].outputs[0])
    same = shape is not None and squeezed is not None and squeezed[-3:] == shape[-3:]
    if (
        size % 2 == 0
        or any(width != 1 for width in kernel[1:])
        or len(kernel) != 3
        or not same
        or any(pools[0].attributes.get("pads", [0]))
    ):
        return None
    padding = zero_padding(graph, paddings[0], 5)
    around = [0, 0, size // 2, 0, 0]  # before as behind, along the channels of (N, 1, C, H, W)
    if padding is None or any(side.tolist() != around for side in padding):
        return None
    return Node("LRN", node.name, [x], node.outputs, {"size": size, "alpha": alpha, "beta": beta, "bias": bias})
