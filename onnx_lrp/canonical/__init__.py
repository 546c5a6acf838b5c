"""Rewrites that bring a graph to few operator forms and keep every output equal.

Recognise before you propagate: rules look at one node at a time, so what a framework meant as one layer must be one node.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np

from onnx_lrp.canonical.activation import recognise_activations
from onnx_lrp.canonical.cleanup import remove_identities
from onnx_lrp.canonical.constants import fold_constants
from onnx_lrp.canonical.dense import normalise_gemm, recognise_linear
from onnx_lrp.canonical.normalization import recognise_lrn
from onnx_lrp.canonical.padding import make_padding_explicit, merge_padding
from onnx_lrp.canonical.scale import merge_scales, recognise_scales

if TYPE_CHECKING:
    from onnx_lrp.graph import Graph

__all__ = ["REWRITES", "canonicalise"]

Rewrite = Callable[["Graph"], bool]

REWRITES: tuple[Rewrite, ...] = (
    fold_constants,
    remove_identities,
    make_padding_explicit,
    merge_padding,
    recognise_activations,
    normalise_gemm,
    recognise_linear,
    recognise_scales,
    merge_scales,
    recognise_lrn,
)
"""In order. Each changes the graph in place and says whether it did."""


def canonicalise(graph: Graph) -> Graph:
    """Applies all rewrites to a graph, in place, and drops what is not used any more."""
    with np.errstate(all="ignore"):  # weights that overflow show in the result
        for rewrite in REWRITES:
            if rewrite(graph):
                graph.prune()
    return graph
