"""Large batches: they are run in parts that fit the memory, with the same results."""

from __future__ import annotations

import re
import subprocess
import sys
import textwrap
from pathlib import Path

import numpy as np
import pytest
from models import build, op, value_info

import onnx_lrp
from onnx_lrp import InputError, Region, estimate, memory
from onnx_lrp.interpreter import Interpreter
from onnx_lrp.predictor import Predictor


def weights(*shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def picture_model(batch="N"):
    nodes = [op("Conv", "x w", "c", pads=[1, 1, 1, 1]), op("Relu", "c", "r"), op("MaxPool", "r", "m", kernel_shape=[2, 2], strides=[2, 2])]
    nodes += [op("Flatten", "m", "f"), op("Gemm", "f v", "y")]
    outputs = [value_info("y", [batch, 5])]
    return build(nodes, {"x": [batch, 3, 8, 8]}, outputs, {"w": weights(4, 3, 3, 3), "v": weights(64, 5, seed=1)})


def dense_model():
    """A segmentation of three classes."""
    nodes = [op("Conv", "x w", "c", pads=[1, 1, 1, 1]), op("Relu", "c", "r"), op("Conv", "r v", "y")]
    outputs = [value_info("y", ["N", 3, 6, 6])]
    return build(nodes, {"x": ["N", 2, 6, 6]}, outputs, {"w": weights(4, 2, 3, 3), "v": weights(3, 4, 1, 1, seed=1)})


def two_inputs(batch="N"):
    nodes = [op("Gemm", "a w", "h"), op("Gemm", "b v", "k"), op("Add", "h k", "s"), op("Relu", "s", "r"), op("Gemm", "r u", "y")]
    constants = {"w": weights(3, 6), "v": weights(4, 6, seed=1), "u": weights(6, 5, seed=2)}
    return build(nodes, {"a": [batch, 3], "b": [batch, 4]}, constants=constants)


def turned_model(tokens: int | str = 4, batch: int | str = "N"):
    """Tokens before the batch inside."""
    nodes = [op("Transpose", "x", "t", perm=[1, 0, 2]), op("MatMul", "t a", "m"), op("Transpose", "m", "b", perm=[1, 0, 2])]
    nodes += [op("ReduceMean", "b i", "p", keepdims=0), op("Gemm", "p w", "y")]
    constants = {"a": weights(6, 5), "w": weights(5, 3), "i": np.array([1])}
    return build(nodes, {"x": [batch, tokens, 6]}, constants=constants)


def same(got, want):
    assert got.relevances.keys() == want.relevances.keys()
    for name, value in want.relevances.items():
        np.testing.assert_allclose(got.relevances[name], value, rtol=1e-5, atol=1e-6, err_msg=name)
    np.testing.assert_allclose(got.output, want.output, rtol=1e-5)
    np.testing.assert_array_equal(got.target, want.target)
    for name, value in want.inputs.items():
        np.testing.assert_array_equal(got.inputs[name], value)


@pytest.fixture
def sizes(monkeypatch):
    """How many rows of the first input each run of a session has."""
    found = []
    run = Interpreter.run

    def count(self, outputs, feeds):
        found.append(next(len(value) for name, value in feeds.items() if not name.startswith("lrp/")))
        return run(self, outputs, feeds)

    monkeypatch.setattr(Interpreter, "run", count)
    return found


X = weights(7, 3, 8, 8, seed=5)
PICTURES = onnx_lrp.Explainer(picture_model(), record="all", threads=1)
DENSE = onnx_lrp.Explainer(dense_model(), threads=1)
MASK = np.random.default_rng(1).random((7, 6, 6)) < 0.5


@pytest.mark.parametrize("size", [1, 3, 4])
@pytest.mark.parametrize(
    "arguments",
    [
        {},
        {"target": 2},
        {"target": [0, 1, 2, 3, 4, 0, 1]},
        {"target": np.arange(14).reshape(7, 2) % 5},
        {"target": np.arange(35).reshape(7, 5) % 3 == 0},
        {"target": np.array([True, False, True, False, False])},
        {"seed": weights(7, 5)},
        {"seed": weights(7, 2, 5)},
        {"seed": weights(5)},
        {"seed": "contrastive", "target": 1},
        {"seed": "contrastive", "two_pass": True},
        {"seed": "softmax_gradient", "two_pass": True, "target": np.arange(14).reshape(7, 2) % 5},
        {"conditions": [{"r": [0, 1]}, {"r": [2], "y": 3}]},
        {"conditions": [{"r": [0, 1]}]},
    ],
    ids=lambda arguments: "-".join(arguments) if isinstance(arguments, dict) else str(arguments),
)
def test_splitting_changes_nothing(arguments, size, sizes):
    want = PICTURES.explain(X, batch_size=None, **arguments)
    assert set(sizes) == {7}
    sizes.clear()
    same(PICTURES.explain(X, batch_size=size, **arguments), want)
    assert set(sizes) == {size, 7 % size or size}


@pytest.mark.parametrize("target", [Region(MASK, 1), Region(MASK[0]), np.where(MASK, 2, -1), (1, 2, 3), [(0, 1, i % 6) for i in range(7)]])
def test_regions_and_places(target, sizes):
    x = weights(7, 2, 6, 6)
    want = DENSE.explain(x, target, batch_size=None)
    sizes.clear()
    same(DENSE.explain(x, target, batch_size=3), want)
    assert set(sizes) == {3, 1}


def test_several_inputs():
    x = {"a": weights(5, 3), "b": weights(5, 4, seed=1)}
    made = onnx_lrp.Explainer(two_inputs(), "epsilon", record=["r"], threads=1)
    whole, parts = made.explain(x, batch_size=None), made.explain(x, batch_size=2)
    same(parts, whole)
    np.testing.assert_allclose(parts.conservation.seed, whole.conservation.seed)


@pytest.mark.parametrize("samples", [2, 5, 6])
def test_a_fixed_batch_rules(samples, sizes):
    """It is run as the model wants, whatever is said, the last run filled up."""
    x = {"a": weights(samples, 3), "b": weights(samples, 4, seed=1)}
    made = onnx_lrp.Explainer(two_inputs(3), "epsilon", record="all", threads=1)
    for arguments in ({}, {"target": np.arange(2 * samples).reshape(samples, 2) % 5}, {"seed": weights(samples, 5)}):
        want = onnx_lrp.Explainer(two_inputs(), "epsilon", record="all", threads=1).explain(x, **arguments)
        sizes.clear()
        same(made.explain(x, batch_size=1, **arguments), want)
        assert set(sizes) == {3}
    np.testing.assert_allclose(Predictor(two_inputs(3))(x), want.output, rtol=1e-5)


@pytest.mark.parametrize("targets", [None, np.tile([0, 1], (4, 1))])
def test_samples_that_are_not_in_the_first_axis(targets, sizes):
    """Recorded tensors are put together along the axis that the batch's name marks; where there is none, the batch stays whole."""
    x = weights(4, 4, 6)
    made = onnx_lrp.Explainer(turned_model(), "epsilon", record="all", threads=1)
    want = made.explain(x, targets, batch_size=None)
    assert want.relevances["t"].shape == ((4, 4, 6) if targets is None else (2, 4, 4, 6))
    same(made.explain(x, targets, batch_size=2), want)
    assert set(sizes) == {4, 2}


def test_a_batch_that_cannot_be_split(sizes):
    """Of a (4, ?) tensor the graph does not tell where the samples are."""
    nodes = [op("Transpose", "x", "t", perm=[1, 0]), op("Reshape", "t s", "r"), op("Transpose", "r", "b", perm=[1, 0]), op("Gemm", "b w")]
    model = build(nodes, {"x": ["N", 4]}, constants={"s": np.array([4, -1]), "w": weights(4, 3)})
    made = onnx_lrp.Explainer(model, "epsilon", record=["r"], threads=1, memory_limit=1)
    assert made.explain(weights(6, 4)).relevances["r"].shape == (4, 6)
    assert sizes == [6]
    with pytest.raises(InputError, match="cannot be split: of a result the graph does not tell which axis holds the samples"):
        made.explain(weights(6, 4), batch_size=2)


# how many ---------------------------------------------------------------------------------------------------------------


def test_auto_keeps_below_the_limit(sizes):
    """Parts of about one size, as large as the estimate allows; at least one sample."""
    one = estimate.peak_bytes(PICTURES._runner.interpreter.graph, fed(1))
    for limit, want in ((1, [1] * 7), (3 * one, [3, 3, 1]), (6 * one, [4, 3]), (7 * one, [7]), (10**15, [7])):
        sizes.clear()
        made = onnx_lrp.Explainer(PICTURES.graph, record="all", threads=1, memory_limit=limit)
        same(made.explain(X), PICTURES.explain(X, batch_size=None))
        assert sizes[: len(want)] == want, limit


def test_auto_counts_targets(sizes):
    """Ten targets of a sample take about ten times the memory of the relevance pass."""
    one = estimate.peak_bytes(PICTURES._runner.interpreter.graph, fed(1))
    made = onnx_lrp.Explainer(PICTURES.graph, threads=1, memory_limit=7 * one)
    made.explain(X, np.tile(np.arange(10) % 5, (7, 1)))
    assert max(sizes[1:]) <= 2


def fed(count):
    found = {}
    run = Interpreter.run

    def keep(self, outputs, feeds):
        found.update(feeds)
        return run(self, outputs, feeds)

    Interpreter.run = keep
    try:
        PICTURES.explain(X[:count], batch_size=None)
    finally:
        Interpreter.run = run
    return found


def test_the_estimate_grows_with_the_samples():
    one, four = (estimate.peak_bytes(PICTURES._runner.interpreter.graph, fed(count)) for count in (1, 4))
    assert one > 2 * 4 * (4 * 8 * 8 + 4 * 8 * 8)  # the convolution's output, and its relevance, alive together
    assert four == pytest.approx(4 * one, rel=0.05)


def test_half_of_what_is_free_is_used(monkeypatch):
    """What earlier runs took counts as free, for the session uses it again."""
    budget = memory.Budget(None, ["CPUExecutionProvider"])
    monkeypatch.setattr(memory, "free_bytes", lambda: 1000)
    assert budget.samples(100, "a", lambda: 10) == 50
    monkeypatch.setattr(memory, "free_bytes", lambda: 500)
    assert budget.samples(100, "a", lambda: pytest.fail("it is known")) == 50
    monkeypatch.setattr(memory, "free_bytes", lambda: None)
    assert budget.samples(100, "a", lambda: 10) == memory.PART // 10


@pytest.mark.parametrize("limit", [None, 10**15])
def test_a_cpu_runs_no_more_at_once_than_is_faster(limit, sizes, monkeypatch):
    monkeypatch.setattr(memory, "free_bytes", lambda: 10**15)
    budget = memory.Budget(limit, ["CPUExecutionProvider"])
    assert budget.samples(10**9, "a", lambda: 10) == memory.PART // 10
    assert budget.samples(10, "b", lambda: 2 * memory.PART) == 1
    explainer = onnx_lrp.Explainer(picture_model(), threads=1, memory_limit=limit)
    want = explainer.explain(X)
    assert sizes == [7]
    monkeypatch.setattr(memory, "PART", 5 * explainer._runner.interpreter.peak_bytes(fed(1)))
    sizes.clear()
    same(explainer.explain(X), want)
    assert sizes == [4, 3]


def test_no_limit_on_a_gpu_unless_it_has_one():
    cuda = "CUDAExecutionProvider"
    assert memory.Budget(None, [(cuda, {}), "CPUExecutionProvider"]).samples(100, "a", lambda: 10) is None
    assert memory.Budget(None, [(cuda, {"gpu_mem_limit": "1000"})]).samples(100, "a", lambda: 10) == 50
    assert memory.Budget(200, [(cuda, {})]).samples(100, "a", lambda: 10) == 20


def test_free_memory_of_a_container(tmp_path, monkeypatch):
    for name, text in (("memory.max", "1000\n"), ("memory.current", "700\n"), ("memory.stat", "anon 1\ninactive_file 100\n")):
        (tmp_path / name).write_text(text)
    assert memory._left_in_group(tmp_path) == 400
    (tmp_path / "memory.max").write_text("max\n")
    assert memory._left_in_group(tmp_path) is None
    monkeypatch.setattr(memory, "_available", lambda: 10**9)
    monkeypatch.setattr(memory, "_left_in_group", lambda: 400)
    assert memory.free_bytes() == 400


@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="needs Linux's account of a process's memory")
def test_the_estimate_is_near_what_a_process_takes():
    """The process's highest memory in a run, less what it had before, within a factor of two."""
    code = """
        import re, sys
        import numpy as np
        from pathlib import Path
        sys.path.insert(0, sys.argv[1])
        from models import build, op, value_info
        import onnx_lrp
        from onnx_lrp import memory

        def status(key):
            return int(re.search(key + r":\\s+(\\d+)", Path("/proc/self/status").read_text())[1]) * 1024

        rng = np.random.default_rng(0)
        nodes, width = [], 3
        constants = {}
        for layer in range(6):
            constants[f"w{layer}"] = rng.normal(size=(16, width, 3, 3)).astype(np.float32) / 10
            nodes += [op("Conv", f"h{layer} w{layer}", f"c{layer}", pads=[1, 1, 1, 1]), op("Relu", f"c{layer}", f"h{layer + 1}")]
            width = 16
        nodes[0].input[0] = "x"
        nodes += [op("GlobalAveragePool", "h6", "g"), op("Flatten", "g", "y")]
        made = onnx_lrp.Explainer(build(nodes, {"x": ["N", 3, 64, 64]}, constants=constants), threads=1, memory_limit=10**15)
        x = rng.normal(size=(24, 3, 64, 64)).astype(np.float32)
        each = []
        samples = memory.Budget.samples
        memory.Budget.samples = lambda self, batch, kind, cost: each.append(cost()) or samples(self, batch, kind, cost)
        Path("/proc/self/clear_refs").write_text("5")
        before = status("VmRSS")
        made.explain(x)
        print(each[0] * len(x), status("VmHWM") - before)
    """
    command = [sys.executable, "-c", textwrap.dedent(code), str(Path(__file__).parent)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    estimate, measured = map(int, done.stdout.split())
    assert measured / 2 <= estimate <= 2 * measured, (estimate, measured)


@pytest.mark.parametrize("size", [0, -1, True, 1.5, "all"])
def test_bad_batch_sizes(size):
    with pytest.raises(InputError, match=re.escape(f'batch_size is "auto", None or an int >= 1, not {size!r}')):
        PICTURES.explain(X, batch_size=size)


@pytest.mark.parametrize("limit", [0, True, "1G"])
def test_bad_limits(limit):
    with pytest.raises(InputError, match="memory_limit is a number of bytes"):
        onnx_lrp.Explainer(PICTURES.graph, memory_limit=limit)
