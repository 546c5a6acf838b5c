"""Explainers on a GPU: what can be said without one, and, marked gpu, what one shows."""

from __future__ import annotations

from functools import cached_property
from pathlib import Path

import numpy as np
import onnx
import pytest
from cuda_kernels import KERNELS
from models import build, op
from models import run as run_model

import onnx_lrp
from onnx_lrp import COMPOSITES, Explainer
from onnx_lrp.assignment import Assignment, Placed, assign
from onnx_lrp.blueprint import Blueprint
from onnx_lrp.emitter import embed
from onnx_lrp.errors import CompositeError

DEMO = Path(onnx_lrp.__file__).parent / "demo" / "digits.onnx"
IMAGES = np.load(DEMO.with_suffix(".npz"))["images"][:3].astype(np.float32)
RNG = np.random.default_rng(0)


def weights(*shape: int) -> np.ndarray:
    return RNG.standard_normal(shape).astype(np.float32)


LAYERS = build(
    [
        op("Conv", "x w1", "a", pads=[0, 0, 1, 1], strides=[2, 2]),  # as TensorFlow pads
        op("LeakyRelu", "a", "b", alpha=0.1),
        op("AveragePool", "b", "c", kernel_shape=[3, 3], pads=[1, 0, 1, 1], strides=[2, 2], count_include_pad=1),
        op("ConvTranspose", "c w2", "d", pads=[1, 1, 0, 0], strides=[2, 2]),
        op("MaxPool", "d", "e", kernel_shape=[3, 3], pads=[1, 1, 1, 1], strides=[2, 2], ceil_mode=1),
        op("Conv", "e w3", "f", pads=[1, 1, 1, 1], group=2),
        op("Sigmoid", "f", "g"),
        op("Mul", "f g", "h"),
        op("Add", "h e", "i"),
        op("Resize", "i - scales", "j", mode="nearest"),
        op("GlobalAveragePool", "j", "k"),
        op("Flatten", "k", "l"),
        op("LayerNormalization", "l scale", "m", axis=-1),
        op("Gemm", "m w4", "n"),
        op("Softmax", "n", "y", axis=-1),
    ],
    {"x": ["N", 3, 16, 16]},
    "y",
    {
        "w1": weights(4, 3, 3, 3),
        "w2": weights(4, 6, 3, 3),
        "w3": weights(6, 3, 3, 3),
        "w4": weights(6, 5),
        "scale": weights(6),
        "scales": np.float32([1, 1, 2, 2]),
    },
)
ATTENTION = build(
    [
        op("MatMul", "x wq", "q"),
        op("MatMul", "x wk", "k"),
        op("Transpose", "k", "t", perm=[0, 2, 1]),
        op("MatMul", "q t", "s"),
        op("Softmax", "s", "p", axis=-1),
        op("MatMul", "p x", "o"),
        op("ReduceMean", "o axes", "y", keepdims=0),
    ],
    {"x": ["N", 4, 6]},
    "y",
    {"wq": weights(6, 6), "wk": weights(6, 6), "axes": [1]},
)
MODELS = {"demo": (DEMO, IMAGES), "layers": (LAYERS, weights(2, 3, 16, 16)), "attention": (ATTENTION, weights(2, 4, 6))}


class OnCuda(Explainer):
    """An explainer that emits what it would for CUDA, and runs it on the CPU."""

    @cached_property
    def blueprint(self) -> Blueprint:
        found = Explainer.blueprint.func(self)
        found.device, found.emulated = "cuda", self.precision == "tf32"
        return found


USUAL = ("epsilon", "epsilon_plus_flat", "epsilon_gamma_box", "gradient")


def compiled(kind: type[Explainer], model, composite: str, providers: str = "cpu", **options) -> Explainer:
    try:
        return kind(model, composite, providers=providers, threads=1, **options)
    except CompositeError:  # it needs the input's bounds
        return kind(model, composite, providers=providers, threads=1, low=-4.0, high=4.0, **options)


# encodings --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("composite", USUAL)
def test_what_is_emitted_for_cuda_gives_the_same(name: str, composite: str) -> None:
    model, x = MODELS[name]
    plain, other = (compiled(kind, model, composite) for kind in (Explainer, OnCuda))
    for way in ({}, {"target": [[0, 1]] * len(x)}, {"seed": "contrastive"}, {"seed": "softmax_gradient", "two_pass": True}):
        expected, found = plain.explain(x, **way).relevance, other.explain(x, **way).relevance
        np.testing.assert_allclose(found, expected, rtol=0, atol=1e-4 * np.abs(expected).max())


def test_cropping_is_padding() -> None:
    x, w = weights(2, 3, 5, 6), weights(3, 4, 3, 3)
    for pads in ([1, 0, 0, 2], [0, 0, 1, 1], [2, 1, 0, 1]):
        node = op("ConvTranspose", "x w", "y", pads=pads, strides=[2, 2], output_padding=[1, 0])
        model = build([node], {"x": ["N", 3, 5, 6]}, "y", {"w": w})
        explainer = compiled(OnCuda, model, "gradient")
        (expected,) = run_model(model, {"x": x})
        np.testing.assert_allclose(explainer.explain(x, target=(0, 0, 0)).output, expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    ("name", "composite", "precision"),
    [
        *(("demo", composite, "float32") for composite in sorted(COMPOSITES) if not composite.startswith("pattern_")),
        *((name, composite, precision) for name in MODELS for composite in USUAL for precision in ("float32", "float16")),
    ],
)
def test_every_node_has_a_cuda_kernel(name: str, composite: str, precision: str) -> None:
    """But for those that compute shapes: onnxruntime keeps them on the CPU."""
    explainer = compiled(OnCuda, MODELS[name][0], composite, precision=precision)
    model, constants, _ = explainer.blueprint.emitted()
    placed = assign(model, constants, ["CPUExecutionProvider"])  # after constants are folded
    shapes = {node.name for node in placed.nodes if node.on_shapes}
    computed = {node.name for node in placed.nodes}
    model, constants, _ = explainer.blueprint.emitted()
    graph = onnx.shape_inference.infer_shapes(embed(model, constants)).graph
    kinds = {value.name: value.type.tensor_type.elem_type for value in (*graph.value_info, *graph.input, *graph.output)}
    kinds |= {tensor.name: tensor.data_type for tensor in graph.initializer}
    missing = []
    for node in graph.node:
        if node.name in shapes or node.name not in computed:
            continue
        version, known = KERNELS.get(node.op_type, (0, ""))
        letter = {1: "f", 10: "h", 7: "i", 9: "b"}.get(kinds.get(node.input[-1 if node.op_type == "Where" else 0], 0), "?")
        if onnx.defs.get_schema(node.op_type, 18).since_version != version or letter not in known:
            missing.append((node.op_type, letter))
        pads = next((list(attribute.ints) for attribute in node.attribute if attribute.name == "pads"), [])
        if node.op_type == "ConvTranspose" and pads[: len(pads) // 2] != pads[len(pads) // 2 :]:
            missing.append((node.op_type, "pads"))
    assert missing == []


# assignment -------------------------------------------------------------------------------------------------------------


def test_every_node_is_reported() -> None:
    explainer = compiled(Explainer, DEMO, "epsilon_plus_flat")
    placed = explainer.assignment()
    assert set(placed.counts) == {"CPUExecutionProvider"}
    operators = [node.operator for node in placed.nodes]
    # those that test_emitted_graph.py counts, but for two of constants
    assert operators.count("Conv") + operators.count("ConvTranspose") == 13 + 6 - 2
    assert {node.name for node in placed.nodes} >= {step.view.node.name for step in explainer.plan.steps if step.view.op == "Conv"}
    assert placed.fallen_back == []


def test_what_fell_back() -> None:
    cuda, cpu = "CUDAExecutionProvider", "CPUExecutionProvider"
    placed = Assignment((Placed("a", "Conv", cuda, False), Placed("b", "Slice", cpu, True), Placed("c", "Pad", cpu, False)))
    assert [node.name for node in placed.fallen_back] == ["c"]
    assert str(placed).splitlines() == [
        "CUDAExecutionProvider: 1 nodes",
        "CPUExecutionProvider: 2 nodes",
        "on the CPU on purpose, as they compute shapes: 1",
        "fell back to the CPU: c (Pad)",
    ]
    assert placed.to_dict() == {"nodes": {cuda: 1, cpu: 2}, "fallen_back": [{"name": "c", "operator": "Pad"}]}


def test_on_the_command_line(run) -> None:
    code, out, err = run("check", DEMO, "--providers", "cpu")
    assert (code, err) == (0, "")
    assert "CPUExecutionProvider: " in out
    code, out, _ = run("check", DEMO, "--providers", "cpu", "--json")
    assert code == 0
    assert '"fallen_back": []' in out
    assert "ExecutionProvider" not in run("check", DEMO)[1]


# on a GPU ---------------------------------------------------------------------------------------------------------------


@pytest.mark.gpu
@pytest.mark.parametrize("precision", ["float32", "tf32", "float16"])
def test_nothing_falls_back(precision: str) -> None:
    for name in MODELS:
        for composite in USUAL:
            explainer = compiled(Explainer, MODELS[name][0], composite, "cuda", precision=precision)
            assert explainer.assignment().fallen_back == [], f"{name}, {composite}"


@pytest.mark.gpu
@pytest.mark.parametrize(("precision", "tolerance"), [("float32", 1e-4), ("tf32", 0.1), ("float16", 0.1)])
def test_relevance_is_that_of_the_cpu(precision: str, tolerance: float) -> None:
    for name, (model, x) in MODELS.items():
        expected = compiled(Explainer, model, "epsilon_plus_flat").explain(x).relevance
        found = compiled(Explainer, model, "epsilon_plus_flat", "cuda", precision=precision).explain(x).relevance
        assert np.linalg.norm(found - expected) < tolerance * np.linalg.norm(expected), name


@pytest.mark.gpu
def test_tensors_on_the_gpu_stay_there() -> None:
    torch = pytest.importorskip("torch")
    if not torch.cuda.is_available():
        pytest.skip("PyTorch cannot use the GPU")
    explainer = Explainer(DEMO, providers="cuda")
    x = torch.from_numpy(IMAGES).cuda() * 1.0  # work that may still be under way
    for way in ({}, {"target": [[0, 1]] * 3}, {"seed": "softmax_gradient", "two_pass": True}):
        expected, found = explainer.explain(IMAGES, **way), explainer.explain(x, **way)
        assert found.relevance.device == found.output.device == x.device
        np.testing.assert_allclose(found.relevance.cpu().numpy(), expected.relevance, rtol=0, atol=1e-4)
        np.testing.assert_array_equal(found.target, expected.target)
    assert isinstance(found.numpy().relevance, np.ndarray)
    wrong = x.clone()
    wrong[0, 0, 0, 0] = float("nan")
    with pytest.raises(onnx_lrp.InputError, match="1 values"):
        explainer.explain(wrong)
