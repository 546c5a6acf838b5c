"""What each ONNX operator is to relevance: one table, and the maps that rules are written in."""

from __future__ import annotations

from typing import TYPE_CHECKING

from onnx_lrp.graph import CANONICAL
from onnx_lrp.operators.activation import ACTIVATIONS
from onnx_lrp.operators.affine import AffineOperator
from onnx_lrp.operators.base import Operator, Role, StopOperator
from onnx_lrp.operators.combine import MatMulOperator, ProductOperator, SumOperator
from onnx_lrp.operators.convolution import ConvOperator, ConvTransposeOperator
from onnx_lrp.operators.dense import GemmOperator, LinearOperator
from onnx_lrp.operators.movement import (
    ConcatOperator,
    DepthToSpaceOperator,
    ExpandOperator,
    ExtremeOperator,
    IdentityOperator,
    PadOperator,
    ReshapeOperator,
    SelectOperator,
    SplitOperator,
    TileOperator,
    TransposeOperator,
    WhereOperator,
)
from onnx_lrp.operators.normalization import (
    InstanceNormalizationOperator,
    LayerNormalizationOperator,
    LogSoftmaxOperator,
    LRNOperator,
    RMSNormalizationOperator,
    SoftmaxOperator,
)
from onnx_lrp.operators.pool import (
    AveragePoolOperator,
    GlobalAveragePoolOperator,
    GlobalLpPoolOperator,
    MaxPoolOperator,
    ReduceMaxOperator,
    ReduceOperator,
)
from onnx_lrp.operators.resize import ResizeOperator
from onnx_lrp.operators.scale import ScaleOperator

if TYPE_CHECKING:
    from onnx_lrp.graph import Node

__all__ = ["OPERATORS", "AffineOperator", "Operator", "Role", "StopOperator", "find_operator", "operator_of"]

_STOPS = (
    "ArgMax ArgMin Shape Size NonZero Equal Greater GreaterOrEqual Less LessOrEqual And Or Not Xor IsNaN IsInf Range ConstantOfShape "
    "EyeLike OneHot RandomNormal RandomNormalLike RandomUniform RandomUniformLike Bernoulli Multinomial StringNormalizer"
)

OPERATORS: dict[tuple[str, str], Operator] = {
    ("", "Conv"): ConvOperator(),
    ("", "ConvTranspose"): ConvTransposeOperator(),
    ("", "Gemm"): GemmOperator(),
    (CANONICAL, "Linear"): LinearOperator(),
    (CANONICAL, "Scale"): ScaleOperator(),
    ("", "AveragePool"): AveragePoolOperator(),
    ("", "GlobalAveragePool"): GlobalAveragePoolOperator(),
    ("", "ReduceMean"): ReduceOperator(),
    ("", "ReduceSum"): ReduceOperator(),
    ("", "MaxPool"): MaxPoolOperator(),
    ("", "GlobalMaxPool"): ReduceMaxOperator(),
    ("", "ReduceMax"): ReduceMaxOperator(),
    ("", "ReduceMin"): ReduceMaxOperator(),
    ("", "LpPool"): GlobalLpPoolOperator(),
    ("", "GlobalLpPool"): GlobalLpPoolOperator(),
    ("", "Resize"): ResizeOperator(),
    **{("", op): ReshapeOperator() for op in ("Reshape", "Flatten", "Squeeze", "Unsqueeze")},
    **{("", op): IdentityOperator() for op in ("Identity", "Dropout", "Cast", "CastLike")},
    **{("", op): SelectOperator() for op in ("Slice", "Gather", "GatherElements", "GatherND")},
    ("", "Transpose"): TransposeOperator(),
    ("", "Expand"): ExpandOperator(),
    ("", "Tile"): TileOperator(),
    ("", "Concat"): ConcatOperator(),
    ("", "Split"): SplitOperator(),
    ("", "Pad"): PadOperator(),
    ("", "DepthToSpace"): DepthToSpaceOperator(),
    ("", "SpaceToDepth"): DepthToSpaceOperator(),
    ("", "Where"): WhereOperator(),
    ("", "Max"): ExtremeOperator(),
    ("", "Min"): ExtremeOperator(),
    **{("", op): SumOperator() for op in ("Add", "Sub", "Sum", "Mean")},
    **{("", op): ProductOperator() for op in ("Mul", "Div")},
    ("", "MatMul"): MatMulOperator(),
    ("", "InstanceNormalization"): InstanceNormalizationOperator(),
    ("", "LayerNormalization"): LayerNormalizationOperator(),
    (CANONICAL, "RMSNormalization"): RMSNormalizationOperator(),
    ("", "LRN"): LRNOperator(),
    (CANONICAL, "LRN"): LRNOperator(),
    ("", "Softmax"): SoftmaxOperator(),
    ("", "LogSoftmax"): LogSoftmaxOperator(),
    **{(CANONICAL if op in ("Gelu", "Swish") else "", op): activation for op, activation in ACTIVATIONS.items()},
    **{("", op): StopOperator() for op in _STOPS.split()},
    ("ai.onnx.ml", "ArrayFeatureExtractor"): StopOperator(),
}
"""(domain, operator) -> what it is. The operators of our own domain occur in canonical graphs only."""


def find_operator(node: Node) -> Operator | None:
    """The table's entry for a node, or None when the operator is unknown."""
    return OPERATORS.get((node.domain, node.op))


def operator_of(node: Node) -> Operator:
    """The table's entry for a node that is known to have one."""
    return OPERATORS[(node.domain, node.op)]
