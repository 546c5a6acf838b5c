"""What onnxruntime's CUDA provider has no kernel for, in a form that it has one for; else it would compute it on the CPU, silently."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from onnx_lrp.emitter import Emitter

_END = 2**31 - 1


def needs_cropping(op: str, attributes: Mapping[str, Any]) -> bool:
    """Whether it is a ConvTranspose that is padded differently at the two ends of an axis."""
    pads = list(attributes.get("pads") or [])
    return op == "ConvTranspose" and pads[: len(pads) // 2] != pads[len(pads) // 2 :]


def cropped(e: Emitter, *inputs: str, output: str = "", **attributes: Any) -> str:
    """Emits a ConvTranspose without padding, and cuts off what the padding would have."""
    pads = list(attributes["pads"])
    dims = len(pads) // 2
    whole = e.op("ConvTranspose", *inputs, **{**attributes, "pads": [0] * len(pads)})
    ends = [-pad if pad else _END for pad in pads[dims:]]
    return e.op("Slice", whole, e.ints(*pads[:dims]), e.ints(*ends), e.ints(*range(2, 2 + dims)), output=output)
