"""What the tests of the rewrites share: a case, and running a canonical graph."""

from __future__ import annotations

import zlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnx
from models import relative_error, run, value_info

from onnx_lrp.canonical import REWRITES, canonicalise
from onnx_lrp.emitter import Emitter, embed
from onnx_lrp.graph import Graph, read_graph

TOLERANCE = 1e-5


@dataclass
class Case:
    """A model, and what the rewrites have to make of it."""

    name: str
    model: onnx.ModelProto
    ops: str
    """The operators of the canonical graph, in order."""
    fires: str = ""
    """The rewrites that must change the model."""
    quiet: str = ""
    """The rewrites that must not."""
    feeds: dict[str, Any] = field(default_factory=dict)
    """Input -> shape (filled with normal random numbers) or array; by default lengths that have a name are 2."""
    runs: bool = True
    """Whether onnxruntime can run the model."""

    def arrays(self) -> dict[str, np.ndarray]:
        rng = np.random.default_rng(zlib.crc32(self.name.encode()))
        return {value.name: _filled(self.feeds.get(value.name), value, rng) for value in self.model.graph.input}


def _filled(given: Any, value: onnx.ValueInfoProto, rng: np.random.Generator) -> np.ndarray:
    kind = value.type.tensor_type
    dtype = onnx.helper.tensor_dtype_to_np_dtype(kind.elem_type)
    if given is None:
        given = tuple(dim.dim_value or 2 for dim in kind.shape.dim)
    return (rng.standard_normal(given) if isinstance(given, tuple) else np.asarray(given)).astype(dtype)


def outputs_of(graph: Graph, feeds: Mapping[str, np.ndarray]) -> list[np.ndarray]:
    """The outputs of a graph of ours, by onnxruntime."""
    e = Emitter(graph)
    names = [f"output/{index}" for index in range(len(graph.outputs))]
    for name, tensor in zip(names, graph.outputs, strict=True):
        e.op("Identity", tensor, output=name)
    inputs = [value_info(name, kind.shape, kind.dtype) for name, kind in graph.inputs.items()]
    model, constants = e.model(inputs, [onnx.ValueInfoProto(name=name) for name in names])
    typed = {name: value.astype(graph.inputs[name].dtype) for name, value in feeds.items() if name in graph.inputs}
    return run(embed(model, constants), typed, names)


def check(case: Case) -> None:
    """Applies the rewrites one by one; the outputs must stay after each."""
    before = case.model.SerializeToString()
    feeds = case.arrays()
    expected = run(case.model, feeds) if case.runs else []
    graph = read_graph(case.model)
    fired = []
    for rewrite in REWRITES:
        if not rewrite(graph):
            continue
        graph.prune()
        fired.append(rewrite.__name__)
        if case.runs:
            for got, wanted in zip(outputs_of(graph, feeds), expected, strict=True):
                assert relative_error(got, wanted) < TOLERANCE, f"{rewrite.__name__} changed an output"
    if case.runs:
        for got, wanted in zip(outputs_of(graph, feeds), expected, strict=True):
            assert relative_error(got, wanted) < TOLERANCE
    ops = " ".join(node.op for node in graph)
    assert ops == case.ops, ops
    assert set(case.fires.split()) <= set(fired), fired
    assert not set(case.quiet.split()) & set(fired), fired
    assert " ".join(node.op for node in canonicalise(read_graph(case.model))) == ops
    assert case.model.SerializeToString() == before
