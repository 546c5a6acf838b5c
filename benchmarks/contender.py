"""What a contender is: it prepares once, is given an input, and runs. Each imports only what it needs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

LOW, HIGH = -2.2, 2.7


class NotOfferedError(Exception):
    """A contender has no such composite, or not on such a device; the message is the reason that the table prints."""


@dataclass(frozen=True)
class Case:
    """A network and a composite: everything that a contender prepares for, as text."""

    model: str
    path: str
    composite: str
    threads: int
    shape: tuple[int, ...]
    """Of one sample."""
    size: int = 224
    seed: int = 0
    device: str = "cpu"

    def image(self, batch: int) -> NDArray[np.float32]:
        """Normally distributed pixels within the bounds that the box rule is told."""
        shape = (batch, *self.shape)
        return np.random.default_rng(self.seed).standard_normal(shape, dtype=np.float32).clip(LOW, HIGH)

    def providers(self) -> list[Any]:
        """Execution providers of onnxruntime; on CUDA products are in full float32 for every contender."""
        return [("CUDAExecutionProvider", {"use_tf32": "0"})] * (self.device == "cuda") + ["CPUExecutionProvider"]

    def options(self) -> dict[str, float]:
        """Options that the composite asks for."""
        return {"low": LOW, "high": HIGH} if self.composite.endswith("box") else {}


class Contender:
    """Base of the contenders."""

    name: ClassVar[str]
    packages: ClassVar[tuple[str, ...]]

    def __init__(self, case: Case) -> None:
        self.case = case
        self.remark = ""
        """What a reader has to know about the figures."""

    def prepare(self) -> None:
        """Build everything that a user builds once."""
        raise NotImplementedError

    def load(self, image: NDArray[np.float32], targets: NDArray[np.int64]) -> None:
        """Take an input, and the output to explain for each sample, to where the work is done. Not timed."""
        raise NotImplementedError

    def run(self) -> None:
        """The timed work; when it returns, the result is there."""
        raise NotImplementedError

    def result(self) -> NDArray[Any]:
        """The map of the last run (the forward pass: the scores)."""
        raise NotImplementedError
