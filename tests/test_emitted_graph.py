"""The emitted graph: no work twice, nothing superfluous, nothing that a GPU provider would push back to the CPU."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import onnx
import pytest

import onnx_lrp

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
        ("epsilon_alpha2_beta1_flat", {}, 6 + 2 * 5 + 1, 2 * 5 + 1),
        ("epsilon_gamma_box", BOX, 6 + 5 + 2, 4 + 2 + 2),  # ZBox: two constants and two adjoints; both signs only where no ReLU follows
    ],
)
def test_convolutions_are_counted(composite: str, options: dict[str, float], forward: int, backward: int) -> None:
    ops = Counter(node.op_type for node in emitted(composite, options).graph.node)
    assert ops["Conv"] + ops["ConvTranspose"] == forward + backward


def test_saved_explainer_holds_no_derived_weights() -> None:
    model = onnx_lrp.Explainer(DEMO, "epsilon_gamma_box", **BOX).to_onnx()
    assert model.ByteSize() < 1.2 * DEMO.stat().st_size  # the nodes; the network is so small that they count
    stored = sum(len(tensor.raw_data) for tensor in model.graph.initializer)
    assert stored < 1.05 * sum(len(tensor.raw_data) for tensor in onnx.load(DEMO).graph.initializer)


def test_opset_and_ir_version() -> None:
    model = emitted("epsilon", {})
    assert [(entry.domain, entry.version) for entry in model.opset_import] == [("", 18)]
    assert 8 <= model.ir_version <= 10
