"""The variants of lrp_toolbox: the maps that the library made of its own nets, and its behaviour by its formulas."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from helpers import check_close
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
