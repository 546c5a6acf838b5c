"""Keeping denominators away from zero."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Literal

from onnx_lrp.errors import CompositeError

if TYPE_CHECKING:
    from onnx_lrp.emitter import Emitter

TINY = 1e-30
"""With epsilon = 0, denominators below this count as zero, and x / 0 as 0."""

SMALLEST_RATIO = 1e-12
"""From this epsilon on z / epsilon stays finite for every z below 1e26."""


@dataclass(frozen=True)
class Stabilizer:
    """stab(z), the denominator of a rule; s(z) = +1 for z >= 0, else -1.

    mode "plain": z + epsilon * s(z).
    mode "clip": s(z) * max(|z|, epsilon).
    mode "scaled": z + epsilon * rms(z) * s(z), the root mean square taken over each sample.

    With epsilon = 0 a division by zero gives 0.
    """

    epsilon: float = 1e-6
    mode: Literal["plain", "clip", "scaled"] = "plain"

    def __post_init__(self) -> None:
        if not isinstance(self.epsilon, (int, float)) or not 0 <= self.epsilon < float("inf"):
            raise CompositeError(f"a stabiliser's epsilon is a finite number >= 0, not {self.epsilon!r}")
        if self.mode not in ("plain", "clip", "scaled"):
            raise CompositeError(f"a stabiliser's mode is plain, clip or scaled, not {self.mode!r}")

    @classmethod
    def of(cls, value: Stabilizer | float) -> Stabilizer:
        """A number means the plain stabiliser with that epsilon."""
        return value if isinstance(value, Stabilizer) else cls(value)

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)

    def emit(self, e: Emitter, z: str, sign: int = 0, whole: str | None = None) -> str:
        """Emits stab(z).

        Args:
            e: where to emit.
            z: the denominator; samples along the first axis.
            sign: +1 when z cannot be negative, -1 when it cannot be positive, 0 when unknown: knowing saves two passes over memory.
            whole: for the scaled mode, the tensor that the root mean square is taken of (default z).
        """
        if self.epsilon == 0:
            small = e.op("Less", e.op("Abs", z), e.constant(TINY))
            return e.op("Where", small, e.constant(float("inf")), z)
        if self.mode == "clip":
            if sign:
                return e.op("Max" if sign > 0 else "Min", z, e.constant(sign * self.epsilon))
            positive = e.op("GreaterOrEqual", z, e.constant(0.0))
            return e.op("Where", positive, e.op("Max", z, e.constant(self.epsilon)), e.op("Min", z, e.constant(-self.epsilon)))
        amount = e.constant(self.epsilon)
        if self.mode == "scaled":
            wide = e.op("Expand", whole or z, e.ints(1))  # a lone number gets an axis
            flat = e.op("Flatten", wide, axis=1)
            mean = e.op("ReduceMean", e.mul(flat, flat), e.ints(1), keepdims=1)
            rank = e.op("Sub", e.op("Shape", e.op("Shape", wide)), e.ints(1))
            target = e.op("Concat", e.ints(-1), e.op("Expand", e.ints(1), rank), axis=0)
            rms = e.op("Reshape", e.scale(e.op("Sqrt", mean), self.epsilon), target)
            # A sample of zeros alone has nothing to scale by.
            amount = e.op("Max", rms, e.constant(TINY))
        if sign:
            return e.add(z, amount) if sign > 0 else e.sub(z, amount)
        # Twice the amount where z >= 0, less the amount everywhere: onnxruntime's Where takes three times as long as all of this.
        twice = e.scale(amount, 2.0) if self.mode == "scaled" else e.constant(2 * self.epsilon)
        return e.add(e.sub(z, amount), e.mul(e.step(z, at_zero=1.0), twice))

    def ratio(self, e: Emitter, z: str, sign: int = 0) -> str | None:
        """Emits z / stab(z) = |z| / (|z| + epsilon), which is 0 where z is 0.

        None where that is not to be had: with epsilon = 0 or so small that z / epsilon may overflow, and in the scaled mode.
        """
        if self.mode == "scaled" or self.epsilon < SMALLEST_RATIO:
            return None
        scaled = e.scale(z if sign > 0 else e.op("Abs", z), 1.0 / self.epsilon)
        return e.op("Softsign", scaled) if self.mode == "plain" else e.op("Min", scaled, e.constant(1.0))
