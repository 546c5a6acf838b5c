"""Composites: which rule each node gets. The presets, and what one's own are made of."""

from onnx_lrp.composites import caffe, deeplift, depth, gradients, innvestigate, lrp_toolbox, pattern, standard, uniform
from onnx_lrp.composites.base import Composite, Entry, Layered, base_map
from onnx_lrp.composites.registry import ALIASES, COMPOSITES, Alias, alias, find_composite, make_composite, option_names, register
from onnx_lrp.composites.selectors import (
    LAYER,
    Predicate,
    Selector,
    between,
    by_name,
    by_role,
    by_type,
    everything,
    first,
    first_n,
    gated,
    last,
    lowest,
    stage,
    where,
)

FAMILIES = tuple(module.FAMILY for module in (standard, uniform, depth, gradients, deeplift, pattern, innvestigate, lrp_toolbox, caffe))
"""The headings that the composites are listed under, in this order."""

__all__ = [
    "ALIASES",
    "COMPOSITES",
    "FAMILIES",
    "LAYER",
    "Alias",
    "Composite",
    "Entry",
    "Layered",
    "Predicate",
    "Selector",
    "alias",
    "base_map",
    "between",
    "by_name",
    "by_role",
    "by_type",
    "everything",
    "find_composite",
    "first",
    "first_n",
    "gated",
    "last",
    "lowest",
    "make_composite",
    "option_names",
    "register",
    "stage",
    "where",
]
