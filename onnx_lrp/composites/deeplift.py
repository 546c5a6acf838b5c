"""DeepLIFT: contributions to the difference from a reference."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from onnx_lrp.composites.base import Composite, Maps
from onnx_lrp.composites.registry import register
from onnx_lrp.composites.selectors import everything
from onnx_lrp.errors import CompositeError
from onnx_lrp.rules import Rescale

if TYPE_CHECKING:
    from onnx_lrp.emitter import Emitter
    from onnx_lrp.graph import Array

FAMILY = "DeepLIFT"


@register("deeplift", FAMILY)
class DeepLift(Composite):
    """DeepLIFT with the rescale rule: the parts that the input's differences from a reference have in the output's difference.

    reference: the input to compare with: a number, an array shaped like one sample, or a dict name -> either for several inputs.
    """

    seed = "one"

    def __init__(self, *, reference: float | Array | Mapping[str, Any] = 0.0, **maps: Maps):
        self.rescale = Rescale(_references(reference))
        super().__init__([(everything(), self.rescale)], **maps)

    def finish(self, e: Emitter, relevance: str, tensor: str, sources: Sequence[str]) -> str:
        """The multipliers times the differences."""
        return e.mul(relevance, self.rescale.difference(e, sources, tensor))


def _references(given: Any) -> Any:
    """References as numbers and float32 arrays."""
    if isinstance(given, Mapping):
        return {name: _references(value) for name, value in given.items()}
    try:
        array = np.asarray(given, np.float32)
    except (TypeError, ValueError):
        raise CompositeError(f"deeplift: a reference is a number, an array or a dict of them, not {given!r}") from None
    if not np.isfinite(array).all():
        raise CompositeError("deeplift: the reference has values that are NaN or infinite")
    return array if array.ndim else float(array)
