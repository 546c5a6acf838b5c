"""The variants of lrp_toolbox: the maps that the library made of its own nets, and its behaviour by its formulas."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers import check_close, make_model, node
from lrp_toolbox import read_net

from onnx_lrp import Explainer

LENET = """simple_None epsilon_0.01 epsilon_1.0 epsilon_100.0 alphabeta_2.0 alphabeta_1.0 alphabeta_0.0 flat_None ww_None
simple_slow_None epsilon_slow_1.0 alphabeta_slow_2.0 alphabeta_slow_1.0""".split()
XOR = "simple_None epsilon_0.01 alphabeta_2.0 alphabeta_1.0 flat_None ww_None".split()


@pytest.mark.parametrize(
    ("net", "maps", "key"),
    [*(("LeNet-5", "golden_lenet5", key) for key in LENET), *(("xor_net_small", "golden_xor", key) for key in XOR)],
)
def test_maps_equal_lrp_toolboxs(shared_data: Path, net: str, maps: str, key: str) -> None:
    variant, _, param = key.rpartition("_")
    with np.load(shared_data / "lrp_toolbox" / f"{maps}.npz") as golden:
        assert {name for name in golden if "_" in name} == set(LENET if net == "LeNet-5" else XOR)
        model = read_net(shared_data / "lrp_toolbox" / f"{net}.txt", golden["X"].shape[1:])
        explainer = Explainer(model, "lrp_toolbox", variant=variant, param=None if param == "None" else float(param), threads=1)
        explanation = explainer.explain(golden["X"].astype(np.float32), seed=golden["Rinit"].astype(np.float32))
        check_close(explanation.output, golden["Y"], 1e-5, "output")
        check_close(explanation.relevance, golden[key], 1e-4)


POOLED = [
    ("AveragePool", "alphabeta", 2.0, [1, -2, 3, -1], [1.5, -2, 4.5, -1]),  # by the formula; the library's fast version gives -6 and -3
    ("AveragePool", "alphabeta", 0.0, [1, -2, 3, -1], [0, 2, 0, 1]),
    ("AveragePool", "simple", None, [1, -2, 3, -1], [3, -6, 9, -3]),
    ("AveragePool", "epsilon", 0.5, [1, -2, 3, -1], [2, -4, 6, -2]),
    ("AveragePool", "simple", None, [0, 0, 0, 0], [0, 0, 0, 0]),
    ("AveragePool", "ww", None, [1, -2, 3, -1], [0.75] * 4),
    ("MaxPool", "simple", None, [1, 1, 0, 0], [1.5, 1.5, 0, 0]),
    ("MaxPool", "epsilon", 0.5, [0, 0, 0, 0], [0.75] * 4),
    ("MaxPool", "flat", None, [1, 1, 0, 0], [0.75] * 4),
    ("MaxPool", "ww", None, [1, 1, 0, 0], [0.75] * 4),
]


@pytest.mark.parametrize(("op", "variant", "param", "x", "want"), POOLED)
def test_one_window(op: str, variant: str, param: float | None, x: list[float], want: list[float]) -> None:
    model = make_model([node(op, "x", kernel_shape=[2, 2])], {}, (1, 2, 2))
    explainer = Explainer(model, "lrp_toolbox", variant=variant, param=param, threads=1)
    seed = np.full((1, 1, 1, 1), 3, np.float32)
    relevance = explainer.explain(np.float32(x).reshape(1, 1, 2, 2), seed=seed).relevance
    np.testing.assert_allclose(relevance.reshape(-1), want, rtol=1e-5)


@pytest.mark.parametrize("options", [{"variant": "ww"}, {"variant": "alphabeta", "param": 2.0}, {"variant": "simple"}], ids=str)
def test_weights_of_zero_pass_nothing(options: dict[str, Any]) -> None:
    """Where the library divides zero by zero."""
    model = make_model([node("Gemm", "x W")], {"W": np.float32([[0, 2], [0, 3]])}, (2,))
    relevance = (
        Explainer(model, "lrp_toolbox", threads=1, **options).explain(np.ones((1, 2), np.float32), seed=np.float32([[1, 0]])).relevance
    )
    np.testing.assert_array_equal(relevance, [[0, 0]])
