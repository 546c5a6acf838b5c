"""What takes the place of a perturbed region."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from onnx_lrp.errors import InputError, suggest

if TYPE_CHECKING:
    from numpy.random import Generator
    from numpy.typing import NDArray

    from onnx_lrp.evaluation.regions import Regions
    from onnx_lrp.graph import Array

    Mask: TypeAlias = NDArray[np.bool_]

Step: TypeAlias = "Callable[[Array, Mask, Mask], Array]"
"""(sample as it is now, where it is perturbed in this step, where it has been perturbed so far) -> sample."""

Perturbation: TypeAlias = "Callable[[Array, Scene, Generator], Step]"
"""(original sample, its scene, random numbers) -> what each step does."""

RADIUS = 3
"""Of the neighbourhood that inpainting looks at, in pixels."""


@dataclass(frozen=True)
class Scene:
    """What a perturbation knows of a sample beside its values."""

    regions: Regions
    low: Array
    """The value of black, shaped like a sample."""
    high: Array
    """The value of white, shaped like a sample."""


def grey(scene: Scene) -> Array:
    """The middle between black and white."""
    return (scene.low + scene.high) / 2


def inpaint(_: Array, scene: Scene, __: Generator) -> Step:
    """Telea's inpainting (2004), in OpenCV, on all that has been perturbed so far. When nothing is left to start from: grey.

    Values are brought to 0 ... 255 by the scene's black and white, and back.
    """
    regions = scene.regions
    if not regions.is_image:
        raise InputError(f'"inpaint" is for images, the samples have the shape {regions.shape}: take "mean" or "random"')
    cv2 = _opencv()
    scale = np.where(scene.high > scene.low, scene.high - scene.low, 1) / 255
    axis = regions.channel_axis

    def step(now: Array, ___: Mask, so_far: Mask) -> Array:
        if so_far.all():
            return grey(scene).astype(now.dtype)
        pixels = np.rint((now - scene.low) / scale).clip(0, 255).astype(np.uint8)
        planes = pixels[None] if axis is None else np.moveaxis(pixels, axis, 0)
        hole = so_far.reshape(regions.grid).astype(np.uint8)
        if len(planes) == 3:
            filled = np.moveaxis(cv2.inpaint(np.ascontiguousarray(np.moveaxis(planes, 0, 2)), hole, RADIUS, cv2.INPAINT_TELEA), 2, 0)
        else:
            filled = np.stack([cv2.inpaint(np.ascontiguousarray(plane), hole, RADIUS, cv2.INPAINT_TELEA) for plane in planes])
        new = filled[0] if axis is None else np.moveaxis(filled, 0, axis)
        return np.where(so_far, (new * scale + scene.low).astype(now.dtype), now)

    return step


def _opencv() -> Any:
    try:
        import cv2
    except ImportError:
        raise InputError('inpainting needs OpenCV: pip install "onnx-lrp[evaluation]", or choose another perturbation') from None
    return cv2


def random_value(_: Array, scene: Scene, rng: Generator) -> Step:
    """One value for all that is perturbed in a step, uniform between the lowest black and the highest white."""
    low, high = float(scene.low.min()), float(scene.high.max())
    return lambda now, new, _: np.where(new, np.float32(rng.uniform(low, high)), now)


def noise(_: Array, scene: Scene, rng: Generator) -> Step:
    """A value for each element, uniform between black and white."""
    return lambda now, new, _: np.where(new, rng.uniform(scene.low, scene.high).astype(now.dtype), now)


def mean(sample: Array, scene: Scene, _: Generator) -> Step:
    """The sample's mean, of each channel where there are channels."""
    axes = tuple(axis for axis in range(sample.ndim) if axis != scene.regions.channel_axis)
    value = sample.mean(axes, keepdims=True)
    return lambda now, new, _: np.where(new, value, now)


def blur(sample: Array, scene: Scene, _: Generator) -> Step:
    """The sample, smoothed by a Gaussian whose deviation is an eighth of the longest axis beside the channels."""
    blurred = sample.astype(np.float64)
    deviation = max(1.0, max(scene.regions.grid) / 8)
    reach = int(3 * deviation)
    kernel = np.exp(-0.5 * (np.arange(-reach, reach + 1) / deviation) ** 2)
    for axis in range(sample.ndim):
        if axis != scene.regions.channel_axis:
            blurred = np.apply_along_axis(_smoothed, axis, blurred, kernel / kernel.sum())
    value = blurred.astype(sample.dtype)
    return lambda now, new, _: np.where(new, value, now)


def _smoothed(values: NDArray[np.float64], kernel: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.convolve(np.pad(values, len(kernel) // 2, "edge"), kernel, "valid")


def constant(value: float | Array) -> Perturbation:
    """A number, or an array that broadcasts against a sample."""
    return lambda *_: lambda now, new, _: np.where(new, np.asarray(value, now.dtype), now)


def custom(function: Callable[[Array, Mask, Generator], Array]) -> Perturbation:
    """A function of the sample, the mask of what is perturbed in this step, and random numbers; only what is masked is taken from it."""

    def start(_: Array, __: Scene, rng: Generator) -> Step:
        return lambda now, new, _: np.where(new, np.asarray(function(now.copy(), new, rng), now.dtype), now)

    return start


PERTURBATIONS: dict[str, Perturbation] = {"inpaint": inpaint, "random": random_value, "mean": mean, "blur": blur, "noise": noise}


def make_perturbation(given: str | float | Array | Callable[..., Array]) -> Perturbation:
    """A perturbation from its name, a constant, or a function as for `custom`.

    Raises:
        InputError: an unknown name.
    """
    if callable(given):
        return custom(given)
    if not isinstance(given, str):
        return constant(given)
    if given not in PERTURBATIONS:
        raise InputError(f"unknown perturbation {given!r}" + suggest(given, PERTURBATIONS))
    return PERTURBATIONS[given]
