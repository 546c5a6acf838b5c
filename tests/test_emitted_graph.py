"""The emitted graph: no work twice, nothing superfluous, nothing that a GPU provider would push back to the CPU."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from models import build, op, run

import onnx_lrp
from onnx_lrp.composites import Composite, base_map
from onnx_lrp.rules import AlphaBeta, AlphaPlusBeta
from onnx_lrp.rules.affine import AffineRule

DEMO = Path(onnx_lrp.__file__).parent / "demo" / "digits.onnx"
BOX = {"low": 0.0, "high": 1.0}
COMPOSITES = [
    ("epsilon", {}),
    ("epsilon_plus", {}),
    ("epsilon_plus_flat", {}),
    ("epsilon_alpha2_beta1", {}),
    ("epsilon_alpha2_beta1_flat", {}),
    ("epsilon_gamma_box", BOX),
    ("excitation_backprop", {}),
    ("gradient", {}),
    ("guided_backprop", {}),
    ("deconvnet", {}),
]

# Operators of opset 18 with kernels in onnxruntime's CUDA provider (its documentation, OperatorKernels.md).
ON_CUDA = frozenset(
    (
        "Abs Add And ArgMax AveragePool Cast Concat ConstantOfShape Conv ConvTranspose Div Equal Erf Exp Expand Flatten Gather "
        "Gemm GlobalAveragePool Greater GreaterOrEqual HardSigmoid Identity Less LessOrEqual MatMul Max MaxPool Min Mul Neg "
        "Not Or Pad Pow Range Reciprocal ReduceMean ReduceProd ReduceSum Relu Reshape Resize ScatterElements Shape Sigmoid "
        "Sign Slice Softmax Softsign Split Sqrt Squeeze Sub Tanh Tile Transpose Unsqueeze Where"
    ).split()
)


def emitted(composite: str, options: dict[str, float]) -> onnx.ModelProto:
    return onnx_lrp.Explainer(DEMO, composite, **options).to_onnx()


@pytest.mark.parametrize(("composite", "options"), COMPOSITES)
def test_nothing_is_computed_twice(composite: str, options: dict[str, float]) -> None:
    nodes = emitted(composite, options).graph.node
    keys = Counter((n.op_type, tuple(n.input), tuple(sorted(a.SerializeToString() for a in n.attribute))) for n in nodes)
    assert [key for key, count in keys.items() if count > 1] == []
    read = {name for node in nodes for name in node.input} | {"logits", "relevance"}
    assert [node.name for node in nodes if not any(name in read for name in node.output)] == []


@pytest.mark.parametrize(("composite", "options"), COMPOSITES)
def test_every_operator_has_a_cuda_kernel(composite: str, options: dict[str, float]) -> None:
    assert {node.op_type for node in emitted(composite, options).graph.node} - ON_CUDA == set()


@pytest.mark.parametrize(
    ("composite", "options", "forward", "backward"),
    [
        # The net has 6 convolutions, the first of them on the picture; one of the six is not followed directly by a ReLU.
        ("epsilon", {}, 6, 6),
        ("gradient", {}, 6, 6),
        ("epsilon_plus", {}, 6 + 5 + 2, 5 + 2),  # behind ReLUs one more convolution and one adjoint; the picture may be negative: two
        ("epsilon_plus_flat", {}, 6 + 5 + 1, 5 + 1),  # the one more of Flat counts inputs and is a constant of one channel
        # behind ReLUs two convolutions and two adjoints, and the forward value is the sum of the two; the picture: four and four
        ("epsilon_alpha2_beta1", {}, 2 * 5 + 4, 2 * 5 + 4),
        ("epsilon_alpha2_beta1_flat", {}, 2 * 5 + 1 + 1, 2 * 5 + 1),
        ("epsilon_gamma_box", BOX, 6 + 5 + 2, 4 + 2 + 2),  # ZBox: two constants and two adjoints; both signs only where no ReLU follows
    ],
)
def test_convolutions_are_counted(composite: str, options: dict[str, float], forward: int, backward: int) -> None:
    ops = Counter(node.op_type for node in emitted(composite, options).graph.node)
    assert ops["Conv"] + ops["ConvTranspose"] == forward + backward


SIGNED = {"x": ["N", 4, 9, 9]}


PARTING = [AlphaBeta(), AlphaBeta(3, 2, bias="ignore"), AlphaBeta(bias="redistribute"), AlphaPlusBeta(-1.0)]


@pytest.mark.parametrize("rule", PARTING, ids=str)
@pytest.mark.parametrize("bias", [True, False])
def test_a_forward_value_is_the_sum_of_its_parts(rule: AffineRule, bias: bool) -> None:
    """Nothing computes J(W) x beside its parts, and the output is the model's."""
    rng = np.random.default_rng(0)
    constants = {"w": rng.normal(size=(8, 4, 3, 3)), "v": rng.normal(size=(8, 5)), "b": rng.normal(size=8), "c": rng.normal(size=5)}
    nodes = [
        op("Conv", "x w b" if bias else "x w", "z", strides=[2, 2]),
        op("GlobalAveragePool", "z", "p"),
        op("Flatten", "p", "f"),
        op("Gemm", "f v c" if bias else "f v", "h"),
        op("Tanh", "h", "y"),
    ]
    model = build(nodes, SIGNED, constants=constants)
    explainer = onnx_lrp.Explainer(model, Composite([(("convolution", "dense"), rule), *base_map()]))
    ops = Counter(node.op_type for node in explainer.to_onnx().graph.node)
    counting = rule.bias_mode == "redistribute"  # one channel more each way, to know how many inputs share what is left
    assert (ops["Conv"], ops["ConvTranspose"], ops["Gemm"]) == (4 + counting, 4 + counting, 8)
    x = rng.normal(size=(3, 4, 9, 9)).astype(np.float32)
    np.testing.assert_allclose(explainer.explain(x, target=1).output, run(model, {"x": x})[0], rtol=1e-5, atol=1e-6)


def test_elementwise_operators_stay_in_onnxruntimes_blocked_layout(tmp_path: Path) -> None:
    """Nothing is laid out anew between the layers: onnxruntime is told the name of the batch's length all along."""
    rng = np.random.default_rng(0)
    constants = {f"w{i}": rng.normal(size=(16, 16, 3, 3)) for i in range(4)} | {"low": np.float32(0), "high": np.float32(6)}
    nodes, tensor = [], "x"
    for i in range(4):
        nodes += [op("Conv", f"{tensor} w{i}", f"z{i}", pads=[1, 1, 1, 1]), op("Clip", f"z{i} low high", f"a{i}")]
        tensor = f"a{i}"
    model = build([*nodes, op("GlobalAveragePool", tensor, "y")], {"x": ["N", 16, 8, 8]}, constants=constants)
    onnx_lrp.Explainer(model, "gradient").save(tmp_path / "explainer.onnx")
    options = onnxruntime.SessionOptions()
    options.optimized_model_filepath, options.log_severity_level = str(tmp_path / "optimised.onnx"), 4
    onnxruntime.InferenceSession(tmp_path / "explainer.onnx", options, providers=["CPUExecutionProvider"])
    optimised = onnx.load(tmp_path / "optimised.onnx").graph.node
    if not any(node.domain == "com.microsoft.nchwc" for node in optimised):
        pytest.skip("onnxruntime has no blocked layout on this processor")
    ops = Counter(node.op_type for node in optimised)
    assert ops["ReorderInput"] <= 2  # the input, and the relevance that comes from the pool
    assert ops["ReorderOutput"] <= 3  # the two results, and the mask behind the pool


def test_saved_explainer_holds_no_derived_weights() -> None:
    model = onnx_lrp.Explainer(DEMO, "epsilon_gamma_box", **BOX).to_onnx()
    assert model.ByteSize() < 1.2 * DEMO.stat().st_size  # the nodes; the network is so small that they count
    stored = sum(len(tensor.raw_data) for tensor in model.graph.initializer)
    assert stored < 1.05 * sum(len(tensor.raw_data) for tensor in onnx.load(DEMO).graph.initializer)


def test_opset_and_ir_version() -> None:
    model = emitted("epsilon", {})
    assert [(entry.domain, entry.version) for entry in model.opset_import] == [("", 18)]
    assert 8 <= model.ir_version <= 10
