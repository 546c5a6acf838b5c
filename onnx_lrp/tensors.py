"""What is said of arrays: their Python type, and what is known of a tensor before it is computed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

__all__ = ["Array", "TensorType"]

Array: TypeAlias = NDArray[Any]


@dataclass(frozen=True)
class TensorType:
    """What is known of a tensor without running the model."""

    dtype: np.dtype[Any] | None = None
    shape: tuple[int | str | None, ...] | None = None
    """An int is a fixed length, a str a symbolic one, None an unknown one; the whole is None when even the rank is unknown."""

    @property
    def is_float(self) -> bool:
        """Whether it may hold relevance; True when the type is not known."""
        return self.dtype is None or self.dtype.kind == "f"
