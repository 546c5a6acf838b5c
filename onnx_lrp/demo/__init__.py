"""The demonstration's files: a small trained digit classifier and a few test digits."""

from __future__ import annotations

import io
from importlib import resources
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from onnx_lrp.graph import Array

__all__ = ["load"]


def load() -> tuple[bytes, Array, Array]:
    """The classifier as an ONNX file's bytes, twelve digits (12, 1, 16, 16) from 0 to 1 in float32, and their labels (12,)."""
    files = resources.files("onnx_lrp.demo")
    with np.load(io.BytesIO(files.joinpath("digits.npz").read_bytes())) as data:
        return files.joinpath("digits.onnx").read_bytes(), data["images"], data["labels"]
