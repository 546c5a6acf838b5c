"""Models that compute something of several samples together: seen, and never run in parts without a word."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from models import build, op
from onnx import NodeProto

import onnx_lrp
from onnx_lrp.graph import read_graph
from onnx_lrp.mixing import mixing_node

CONSTANTS: dict[str, Any] = {
    "first": np.array([0]), "last": np.array([-1]), "one": np.array([1]), "axis": np.int64(0), "features": np.int64(1),
    "w": np.ones((4, 3)), "flat": np.array([-1, 2]), "count": np.array([2]), "heads": np.array([0, 2, 2]),
}  # fmt: skip


def model(*nodes: NodeProto, shape: Any = ("N", 4)) -> onnx.ModelProto:
    for index, node in enumerate(nodes):
        node.name = f"node{index}"
    return build(nodes, {"x": shape}, constants=CONSTANTS, opset=18)


MIXING = {
    "normalised over the batch": ([op("ReduceMean", "x first", "m"), op("Sub", "x m")], "node0"),
    "similarities": ([op("Transpose", "x", "t", perm=[1, 0]), op("MatMul", "x t")], "node1"),
    "correlations": ([op("Transpose", "x", "t", perm=[1, 0]), op("MatMul", "t x", "c"), op("MatMul", "x c")], "node1"),
    "softmax over the batch": ([op("Softmax", "x", axis=0)], "node0"),
    "softmax from the back": ([op("LogSoftmax", "x", axis=-2)], "node0"),
    "cumulated": ([op("CumSum", "x axis")], "node0"),
    "largest": ([op("ReduceMax", "x first", "m"), op("Div", "x m")], "node0"),
    "the first sample": ([op("Gather", "x axis", "f", axis=0), op("Add", "x f")], "node0"),
    "the best samples": ([op("TopK", "x one", "y i", axis=0)], "node0"),
    "a slice of the batch": ([op("Slice", "x first one first", "f"), op("Mul", "x f")], "node0"),
    "pairs": ([op("Concat", "x x", "d", axis=0), op("ReduceSum", "d last")], "node0"),
}
APART = {
    "dense": [op("MatMul", "x w")],
    "softmax": [op("Softmax", "x", axis=1)],
    "softmax by default": [op("Softmax", "x")],
    "normalised over the features": [op("ReduceMean", "x last", "m"), op("Sub", "x m")],
    "cumulated features": [op("CumSum", "x features")],
    "a slice of the features": [op("Slice", "x first one one")],
    "doubled features": [op("Concat", "x x", axis=1)],
    "split features": [op("Split", "x", "y z", axis=1, num_outputs=2)],
    "summed": [op("ReduceSum", "x last", keepdims=0)],
    "turned": [op("Transpose", "x", "t", perm=[1, 0]), op("Relu", "t", "r"), op("Transpose", "r", perm=[1, 0])],
    "heads": [op("Reshape", "x heads", "h"), op("Transpose", "h", "t", perm=[0, 2, 1]), op("MatMul", "h t", "s"), op("MatMul", "s h")],
    "folded": [op("Reshape", "x flat", "f"), op("Relu", "f", "r"), op("Reshape", "r flat")],
    "best features": [op("TopK", "x one", "y i", axis=1)],
    "its length": [op("Shape", "x", "s"), op("Cast", "s", "f", to=1), op("ReduceSum", "f", "n", keepdims=0), op("Mul", "x n")],
}


@pytest.mark.parametrize("name", MIXING)
def test_what_mixes_samples_is_named(name: str) -> None:
    nodes, wanted = MIXING[name]
    assert mixing_node(read_graph(model(*nodes)), "y") == wanted


@pytest.mark.parametrize("name", APART)
def test_what_takes_each_sample_alone_is_left_alone(name: str) -> None:
    assert mixing_node(read_graph(model(*APART[name])), "y") == ""


@pytest.mark.parametrize("shape", [(3, 4), None, (None, 4)])
def test_without_the_batchs_name_nothing_is_seen(shape: Any) -> None:
    assert mixing_node(read_graph(model(op("ReduceMean", "x first", "m"), op("Sub", "x m"), shape=shape)), "y") == ""


@pytest.fixture
def centred() -> onnx.ModelProto:
    """Normalises over the batch."""
    return model(op("ReduceMean", "x first", "m"), op("Sub", "x m", "c"), op("MatMul", "c w"))


def test_such_a_model_is_run_whole(centred: onnx.ModelProto) -> None:
    x = np.random.default_rng(0).normal(size=(6, 4)).astype(np.float32)
    tight = onnx_lrp.Explainer(centred, "epsilon", providers="cpu", memory_limit=1)
    whole = tight.explain(x, batch_size=None)
    np.testing.assert_array_equal(tight.explain(x).relevance, whole.relevance)
    np.testing.assert_allclose(whole.output, (x - x.mean(0)) @ CONSTANTS["w"], rtol=1e-5, atol=1e-6)
    np.testing.assert_array_equal(tight.explain(x, batch_size=6).relevance, whole.relevance)
    with pytest.raises(onnx_lrp.InputError, match="the batch cannot be split: node 'node0' takes samples together; give batch_size=None"):
        tight.explain(x, batch_size=2)


def test_its_account_is_that_of_one_sample(centred: onnx.ModelProto) -> None:
    explainer = onnx_lrp.Explainer(centred, "epsilon", providers="cpu")
    assert explainer.explain(np.ones((1, 4), np.float32), target=0).conservation.seed.shape == (1,)
    with pytest.raises(onnx_lrp.InputError, match="no account of several samples: it runs them one by one, and node 'node0'"):
        _ = explainer.explain(np.ones((2, 4), np.float32), target=0).conservation


def test_the_command_explains_files_one_by_one(centred: onnx.ModelProto, run: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    onnx.save(centred, "model.onnx")
    x = np.random.default_rng(0).normal(size=(2, 4)).astype(np.float32)
    for name, sample in zip("ab", x, strict=True):
        np.save(f"{name}.npy", sample)
    assert run("explain", "model.onnx", "a.npy", "b.npy", "-c", "epsilon", "-t", "0", "--format", "npz")[0] == 0
    for name, sample in zip("ab", x, strict=True):
        wanted = onnx_lrp.explain(centred, sample[None], composite="epsilon", target=0).relevance
        np.testing.assert_array_equal(np.load(f"explanations/{name}_relevance.npz")["relevance"], wanted)
