"""Each rewrite fires on what it is for, leaves alone what only looks like it, and keeps every output."""

import numpy as np
import pytest
from canonical import TOLERANCE, check, outputs_of
from canonical_cases_constants import CASES as CONSTANTS
from canonical_cases_functions import CASES as FUNCTIONS
from canonical_cases_layers import CASES as LAYERS
from canonical_cases_scales import CASES as SCALES
from models import build, op, relative_error, run

from onnx_lrp.canonical import REWRITES, canonicalise
from onnx_lrp.graph import read_graph

GROUPS = {"constants": CONSTANTS, "layers": LAYERS, "scales": SCALES, "functions": FUNCTIONS}
ALL = [case for cases in GROUPS.values() for case in cases]
CASES = {f"{group}-{case.name}": case for group, cases in GROUPS.items() for case in cases}


@pytest.mark.parametrize("name", CASES)
def test_rewrites(name: str) -> None:
    check(CASES[name])


def test_no_two_cases_share_a_name() -> None:
    assert len(CASES) == len(ALL)


@pytest.mark.parametrize("rewrite", [rewrite.__name__ for rewrite in REWRITES])
def test_every_rewrite_has_cases_and_near_misses(rewrite: str) -> None:
    assert sum(rewrite in case.fires.split() for case in ALL) >= 3
    assert sum(rewrite in case.quiet.split() for case in ALL) >= 3


def test_rewriting_twice_changes_nothing() -> None:
    for case in ALL:
        graph = canonicalise(read_graph(case.model))
        before = [(node.op, node.name, node.inputs, node.outputs) for node in graph]
        again = [(node.op, node.name, node.inputs, node.outputs) for node in canonicalise(graph)]
        assert [row[0] for row in again] == [row[0] for row in before], case.name


def test_names_of_merged_tensors_are_kept_for_messages() -> None:
    model = build(
        [op("Conv", "x w", "h"), op("Mul", "h c", "k"), op("Identity", "k", "i"), op("Relu", "i")],
        {"x": (1, 2, 4, 4)},
        constants={"w": np.ones((3, 2, 2, 2)), "c": np.ones((3, 1, 1)) * 2},
    )
    graph = canonicalise(read_graph(model))
    assert [node.op for node in graph] == ["Conv", "Relu"]
    assert graph.resolve("i") == "k"
    assert set(graph.merged) == {"h"}


def test_weights_shared_by_two_layers_are_changed_for_one_only() -> None:
    rng = np.random.default_rng(0)
    kernel, factor = rng.standard_normal((3, 3, 3, 3)), rng.standard_normal((3, 1, 1))
    nodes = [
        op("Conv", "x w b", "h", pads=[1, 1, 1, 1]),
        op("Mul", "h c", "k"),
        op("Conv", "k w b", "m", pads=[1, 1, 1, 1]),
        op("Add", "m k"),
    ]
    model = build(nodes, {"x": (2, 3, 5, 5)}, constants={"w": kernel, "b": rng.standard_normal(3), "c": factor})
    x = {"x": rng.standard_normal((2, 3, 5, 5)).astype(np.float32)}
    graph = canonicalise(read_graph(model))
    first, second, _ = graph.nodes
    assert [node.op for node in graph] == ["Conv", "Conv", "Add"]
    assert first.input(1) != second.input(1)
    np.testing.assert_array_equal(graph.constants[second.input(1)], kernel.astype(np.float32))
    assert relative_error(outputs_of(graph, x)[0], run(model, x)[0]) < TOLERANCE
