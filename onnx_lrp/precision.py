"""How exactly the products of a model and of its relevance pass are computed: its convolutions and matrix products, and their adjoints.

"float32" is exact. "tf32" lets CUDA round the factors of float32 products to 10 bits behind the binary point. "float16" computes the
products on float16 tensors, which Cast nodes make of float32 ones and back. All else (denominators, stabilisers, divisions, sums of
relevance) is computed in float32 in any case: a stabiliser of 1e-6 is no float16 number to divide by.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Literal, get_args

from onnx_lrp.errors import InputError

if TYPE_CHECKING:
    from onnx_lrp.emitter import Emitter
    from onnx_lrp.graph import Node

Precision = Literal["float32", "tf32", "float16"]

PRODUCTS = ("Conv", "ConvTranspose", "Gemm", "MatMul")
"""The operators that it is about."""

LARGEST = 256.0
"""What the largest element of a sample is brought to before an adjoint in float16: relevance may be of any size, float16 holds normal
numbers from 6e-5 to 65504. That leaves a factor of 256 for sums, and 4e6 between the largest and the smallest that is held exactly."""

TINY = 1e-30
"""In place of a largest element that is zero."""

SPLIT = 2.0**13 + 1
"""x * SPLIT - (x * SPLIT - x), each step rounded to float32, is x rounded to 10 bits behind the point (Dekker's splitting)."""

FLOAT, FLOAT16 = 1, 10


def check_precision(precision: str) -> Precision:
    """Raises InputError for an unknown precision."""
    if precision not in get_args(Precision):
        raise InputError(f"precision is {', '.join(map(repr, get_args(Precision)))}, not {precision!r}")
    return precision  # type: ignore[return-value]


def with_precision(providers: Sequence[Any], precision: Precision) -> list[Any]:
    """A provider list with CUDA's mode for float32 products set; a mode that is given there already stays."""

    def set_in(provider: Any) -> Any:
        name, options = (provider, {}) if isinstance(provider, str) else provider
        return (name, {"use_tf32": str(int(precision == "tf32")), **options}) if name == "CUDAExecutionProvider" else provider

    return [set_in(provider) for provider in providers]


def product(e: Emitter, op: str, *inputs: str, output: str = "", **attributes: Any) -> str:
    """Emits one of PRODUCTS in the emitter's precision.

    If it is emulated, as where onnxruntime's CPU provider runs it, the product is computed in float32: on float16's numbers with a result
    rounded to float16, for "tf32" on rounded factors. The provider would take Cast nodes away and compute in float32 without a word.
    """
    if e.precision == "float16" and e.emulated:
        made = _through_half(e, e.op(op, *(_through_half(e, tensor) if tensor else "" for tensor in inputs), **attributes), output)
    elif e.precision == "float16":
        halves = [e.op("Cast", tensor, to=FLOAT16) if tensor else "" for tensor in inputs]
        made = e.op("Cast", e.op(op, *halves, **attributes), to=FLOAT, output=output)
    elif e.precision == "tf32" and e.emulated:
        return e.op(op, *(_to_ten_bits(e, tensor) for tensor in inputs[:2]), *inputs[2:], output=output, **attributes)
    else:
        return e.op(op, *inputs, output=output, **attributes)
    e.halved.setdefault(made, e.at)
    return made


def _through_half(e: Emitter, tensor: str, output: str = "") -> str:
    """Rounds to float16's numbers."""
    return e.op("Cast", e.op("Cast", tensor, to=FLOAT16), to=FLOAT, output=output)


def _to_ten_bits(e: Emitter, tensor: str) -> str:
    """Rounds to 10 bits behind the binary point."""
    large = e.op("Mul", tensor, e.constant(SPLIT))
    return e.op("Sub", large, e.op("Sub", large, tensor))


def scaled(e: Emitter, node: Node, s: str, adjoint: Callable[[str], str]) -> str:
    """Emits the adjoint of a node's linear map in the emitter's precision; float16 at a scale that it can hold.

    Args:
        e: the emitter.
        node: the node.
        s: what the map is applied to, shaped like the node's output.
        adjoint: emits the map.
    """
    if e.precision != "float16":
        return adjoint(s)
    rank = e.graph.rank(node.outputs[0])
    # A product of two matrices may mix its first axis, and of unknown axes none can be left out: then one scale is for all samples.
    mixes = rank is None or rank < 2 or (rank == 2 and (node.op == "MatMul" or bool(node.attributes.get("left", 0))))
    axes = [] if mixes or rank is None else [e.ints(*range(1, rank))]
    largest = e.op("Max", e.op("ReduceMax", e.op("Abs", s), *axes, keepdims=1), e.constant(TINY))
    scale = e.scale(largest, 1 / LARGEST)
    watched = dict(e.halved)
    made = adjoint(e.div(s, scale))
    e.halved = watched  # infinity in an adjoint shows in the relevance
    return e.mul(made, scale)


def poisoned(e: Emitter, tensor: str) -> str:
    """Emits a tensor that is NaN everywhere if a product in float16 overflowed, else the tensor.

    Overflow need not show otherwise: relevance divided by an infinite denominator is zero.
    """
    if not e.halved:
        return tensor
    return e.add(tensor, e.scale(e.op("Sum", *overflow_sums(e)), 0.0))


def overflow_sums(e: Emitter) -> dict[str, str]:
    """Emits for each product in float16 a number that is not finite if the product has an element that is not; with the node's name."""
    return {e.op("ReduceSum", made, keepdims=0): node for made, node in e.halved.items()}
