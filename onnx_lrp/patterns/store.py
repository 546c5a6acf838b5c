"""Patterns as data: arrays by the names of nodes, and their file."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from onnx_lrp.errors import InputError
from onnx_lrp.image import atomic_write
from onnx_lrp.tensors import Array

_PATTERN, _TOTAL = "pattern:", "total:"
"""Before the names of nodes in a file, so that no name can clash with the other entries."""


class Patterns:
    """The patterns of a model's convolutions and dense layers.

    Args:
        arrays: node name -> pattern, shaped like the node's weights; zero for an output that is the same for all data.
        totals: node name -> for each output the sum of its weights times its pattern, by which a model is recognised; nodes without are
            not checked.
        estimator: how they were found, see fit_patterns.
        bias: likewise.
        samples: on how many samples.
    """

    def __init__(
        self,
        arrays: Mapping[str, Array],
        totals: Mapping[str, Array] | None = None,
        *,
        estimator: str = "given",
        bias: str = "ignore",
        samples: int = 0,
    ):
        self.arrays = {name: np.asarray(value, np.float32) for name, value in arrays.items()}
        self.totals = {name: np.asarray(value, np.float64) for name, value in (totals or {}).items()}
        self.estimator = estimator
        self.bias = bias
        self.samples = samples

    def save(self, path: str | os.PathLike[str]) -> None:
        """Writes an .npz file, whole or not at all: "pattern:<node>" and "total:<node>" -> array, "estimator", "bias" and "samples".

        Raises:
            InputError: the file cannot be written.
        """
        entries: dict[str, Array] = {_PATTERN + name: value for name, value in self.arrays.items()}
        entries |= {_TOTAL + name: value for name, value in self.totals.items()}
        entries |= {"estimator": np.array(self.estimator), "bias": np.array(self.bias), "samples": np.array(self.samples)}
        try:
            atomic_write(path, lambda file: np.savez(file, **entries))  # type: ignore[arg-type]
        except OSError as error:
            raise InputError(f"cannot write {path}: {error.strerror or error}") from None

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Patterns:
        """Reads what `save` wrote.

        Raises:
            InputError: the file is missing or damaged, or holds no patterns.
        """
        try:
            with Path(path).open("rb") as handle, np.load(handle, allow_pickle=False) as file:
                entries = {key: file[key] for key in file}
        except OSError as error:
            raise InputError(f"cannot read {path}: {error.strerror or error}") from None
        except Exception:  # noqa: BLE001 - a damaged file fails in many ways inside NumPy; to the user they are one
            raise InputError(f"cannot read {path}: it is no .npz file, or it is damaged") from None
        arrays, totals = (
            {key.removeprefix(prefix): value for key, value in entries.items() if key.startswith(prefix)} for prefix in (_PATTERN, _TOTAL)
        )
        if not arrays or not {"estimator", "bias", "samples"} <= entries.keys():
            raise InputError(f"{path} holds no patterns")
        for name, value in arrays.items():
            if value.dtype != np.float32 or not np.isfinite(value).all():
                raise InputError(f"{path}: the pattern of node {name!r} is no array of finite float32 numbers")
        how = {key: str(entries[key]) for key in ("estimator", "bias")}
        return cls(arrays, totals, **how, samples=int(entries["samples"]))

    def to_dict(self) -> dict[str, Any]:
        """Where they come from, as plain data."""
        return {"estimator": self.estimator, "bias": self.bias, "samples": self.samples, "layers": len(self.arrays)}

    def __str__(self) -> str:
        return self.estimator
