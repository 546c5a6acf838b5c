"""The order of an emitted graph's nodes, and the one in which onnxruntime runs them."""

from __future__ import annotations

import itertools
import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from models import branch, build, op, rename
from onnx import helper

import onnx_lrp
from onnx_lrp.ordering import as_run, as_soon_as_possible, needed_for, read_by


def nodes(*texts: str) -> list[onnx.NodeProto]:
    """Nodes with the name of their output, each as 'output: inputs'."""
    pairs = (text.split(":") for text in texts)
    return [rename(op("Sum", inputs.strip(), output), output) for output, inputs in pairs]


def names(found: Sequence[onnx.NodeProto]) -> str:
    return " ".join(node.name for node in found)


@pytest.mark.parametrize(
    ("given", "outputs", "wanted"),
    [
        (["a: x", "b: a", "c: a"], "b", "a b"),
        (["a: x", "b: a", "c: a"], "b c", "a b c"),
        (["a: c", "b: a", "c: x"], "b", "c a b"),  # a reads what is made behind it
        (["a: d", "b: a", "c: x", "d: c"], "b", "c d a b"),
        (["a: d c", "b: a", "c: x", "d: c", "e: b"], "b", "c d a b"),
        (["a: x"], "x", ""),
    ],
)
def test_nodes_that_are_needed(given: list[str], outputs: str, wanted: str) -> None:
    assert names(needed_for(outputs.split(), nodes(*given))) == wanted


def test_what_a_branch_captures_is_read() -> None:
    chosen = op("If", "c", "y", then_branch=branch([op("Sin", "h", "t")], "t"), else_branch=branch([op("Identity", "g", "e")], "e"))
    assert read_by(chosen) == {"c", "h", "g"}


@pytest.mark.parametrize(
    ("given", "wanted"),
    [
        # z: a denominator of layer a, w: a weight, r and s: relevance, from seed
        (["a: x", "b: a", "r: b seed", "z: a", "s: r z"], "a z b r s"),
        (["a: x", "b: a", "r: b seed", "w: v", "z: a w", "s: r z"], "w a z b r s"),
        (["a: x", "b: a", "z: a", "q: z", "r: q seed"], "a z q b r"),
        (["z: x", "a: z", "b: a", "r: b seed"], "z a b r"),
    ],
)
def test_what_needs_no_relevance_stands_behind_what_it_needs(given: list[str], wanted: str) -> None:
    assert names(as_soon_as_possible(nodes(*given), {"a", "b"}, {"seed"})) == wanted


def graph(given: Sequence[onnx.NodeProto], outputs: str) -> onnx.GraphProto:
    return helper.make_graph(list(given), "g", [], [onnx.ValueInfoProto(name=name) for name in outputs.split()])


def test_onnxruntime_goes_first_to_what_stands_last() -> None:
    early, late = nodes("a: x", "z: a", "b: a", "r: b", "s: r z"), nodes("a: x", "b: a", "r: b", "z: a", "s: r z")
    assert names(as_run(graph(early, "s"))) == "a b r z s"
    assert names(as_run(graph(late, "s"))) == "a z b r s"


def executed(model: onnx.ModelProto, feeds: dict[str, np.ndarray], folder: Path, level: onnxruntime.GraphOptimizationLevel) -> list[str]:
    """The names of the nodes as they are run."""
    options = onnxruntime.SessionOptions()
    options.enable_profiling, options.profile_file_prefix, options.graph_optimization_level = True, str(folder / "profile"), level
    options.log_severity_level = 4
    session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    session.run(None, feeds)
    events = json.loads(Path(session.end_profiling()).read_text(encoding="utf-8"))
    return [event["name"].removesuffix("_kernel_time") for event in events if event["name"].endswith("_kernel_time")]


Level = onnxruntime.GraphOptimizationLevel


@pytest.mark.parametrize("level", [Level.ORT_DISABLE_ALL, Level.ORT_ENABLE_ALL])
@pytest.mark.parametrize("composite", ["epsilon_plus", "epsilon_gamma_box"])
def test_denominators_are_computed_when_relevance_has_arrived(composite: str, level: Level, tmp_path: Path) -> None:
    """Or else they would all be held from the forward pass on."""
    rng = np.random.default_rng(0)
    sizes, given, tensor = (3, 16, 16, 16, 16), [], "x"
    for layer in range(len(sizes) - 1):
        given += [op("Conv", f"{tensor} w{layer}", f"z{layer}", pads=[1, 1, 1, 1]), op("Relu", f"z{layer}", f"a{layer}")]
        tensor = f"a{layer}"
    constants = {f"w{layer}": rng.normal(size=(out, into, 3, 3)) for layer, (into, out) in enumerate(itertools.pairwise(sizes))}
    model = build([*given, op("GlobalAveragePool", tensor, "g"), op("Flatten", "g", "y")], {"x": ["N", 3, 8, 8]}, constants=constants)
    options = {"low": -3.0, "high": 3.0} if composite.endswith("box") else {}
    emitted = onnx_lrp.Explainer(model, composite, providers="cpu", **options).to_onnx()
    feeds = {"x": rng.normal(size=(1, 3, 8, 8)).astype(np.float32), "target_relevance": np.ones((1, 16), np.float32)}
    order = executed(emitted, feeds, tmp_path, level)
    convolutions = [name for name in order if "Conv" in name or name.startswith("z") or "_nchwc" in name]
    own = [name for name in convolutions if name.startswith("lrp/")]
    forward = [index for index, name in enumerate(convolutions) if name not in own]
    assert len(forward) >= 4
    assert len(own) >= 6
    assert max(forward) < convolutions.index(own[1])  # at most one before the forward pass is done: that of its last layer
