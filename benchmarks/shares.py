"""Where the time of an explainer's graph goes, by kinds of operators: onnxruntime's own profile."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import onnxruntime

if TYPE_CHECKING:
    import onnx
    from contender import Case

RUNS = 3
PRODUCTS, POOLS, ELEMENTWISE, LAYOUT = "convolutions and products", "pools", "elementwise", "layout"
OPERATORS = {
    PRODUCTS: "Conv ConvTranspose FusedConv FusedGemm FusedMatMul Gemm MatMul",
    POOLS: "AveragePool ConstantOfShape GlobalAveragePool MaxPool ReduceMean ScatterElements",
    LAYOUT: "Concat Expand Flatten Gather Pad ReorderInput ReorderOutput Reshape Resize Slice Split Squeeze Tile Transpose Unsqueeze"
    " Upsample",
}
KINDS = {operator: kind for kind, operators in OPERATORS.items() for operator in operators.split()}
"""Operator -> kind; everything else is elementwise."""


def shares(model: onnx.ModelProto, case: Case, batch: int) -> dict[str, float]:
    """Kind -> its share of the time in nodes, 0 to 1, the largest first: of each node its fastest run."""
    image = case.image(batch)
    with tempfile.TemporaryDirectory() as folder:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = case.threads
        options.enable_mem_pattern = options.enable_mem_reuse = False
        options.log_severity_level = 4
        options.enable_profiling, options.profile_file_prefix = True, str(Path(folder) / "profile")
        session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
        name, seed = (value.name for value in session.get_inputs())
        classes = session.get_inputs()[1].shape[1]
        for _ in range(1 + RUNS):
            session.run(None, {name: image, seed: np.ones((batch, classes), np.float32)})
        events = json.loads(Path(session.end_profiling()).read_text(encoding="utf-8"))
    fastest: dict[str, tuple[float, str]] = {}
    for event in events:
        if event.get("cat") == "Node" and event["name"].endswith("_kernel_time"):
            found = (float(event["dur"]), event["args"]["op_name"])
            fastest[event["name"]] = min(found, fastest.get(event["name"], found))
    spent: dict[str, float] = {}
    for time, operator in fastest.values():
        kind = KINDS.get(operator, ELEMENTWISE)
        spent[kind] = spent.get(kind, 0.0) + time
    whole = sum(spent.values())
    return {kind: time / whole for kind, time in sorted(spent.items(), key=lambda pair: -pair[1])}
