"""What --region says: a part of a dense output, as a picture or an array."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from onnx_lrp.commands.inputs import is_array
from onnx_lrp.errors import InputError
from onnx_lrp.preprocess import PRESETS

if TYPE_CHECKING:
    from onnx_lrp.graph import Array
    from onnx_lrp.labels import Labels
    from onnx_lrp.preprocess import Preprocess

__all__ = ["RegionFile", "describe"]


class RegionFile:
    """A mask from a file: what is not zero in a .npy file, or what is brighter than half in a picture.

    Raises:
        InputError: The file is missing, damaged, or holds no array of numbers.
    """

    def __init__(self, path: Path):
        self.path = path
        if is_array(path):
            self._mask = _array(path)
        else:
            self._picture = PRESETS["none"].load(path).convert("L")

    def mask(self, shape: tuple[int, ...], preprocess: Preprocess | None, size: tuple[int, int] | None) -> Array:
        """The mask in the output's size. A picture as large as the photo is resized and cropped as the photo is.

        Args:
            shape: A sample's output.
            preprocess: What makes of a photo an input; None if the inputs are arrays.
            size: The photo's width and height.

        Raises:
            InputError: The mask is as large neither as the output nor as the photo, or the output is no map of classes.
        """
        if is_array(self.path):
            if self._mask.ndim != len(shape) - 1:
                raise InputError(f"{self.path} has shape {self._mask.shape}, which fits no region of an output of shape {shape}")
            return self._mask
        if len(shape) != 3:
            raise InputError(f"--region needs an output of classes in two dimensions, the model's has shape {shape} for each sample")
        height, width = shape[:2] if preprocess is not None and preprocess.layout == "NHWC" else shape[1:]
        picture = self._picture
        if picture.size != (width, height):
            if preprocess is None or picture.size != size:
                photo = "" if size is None else f", the photo {size[0]} x {size[1]}"
                raise InputError(f"{self.path} is {picture.width} x {picture.height}, the model's output {width} x {height}{photo}")
            from PIL.Image import Resampling

            grey = dataclasses.replace(preprocess, channels="GRAY", count=1)
            picture = grey.displayed(picture).resize((width, height), Resampling.BOX)
        return np.asarray(picture) > 127


def _array(path: Path) -> Array:
    if path.suffix.lower() != ".npy":
        raise InputError(f"{path}: a region is a picture or a .npy file")
    try:
        mask = np.load(path, allow_pickle=False)
    except FileNotFoundError:
        raise InputError(f"no such file: {path}") from None
    except (OSError, ValueError, EOFError) as error:
        raise InputError(f"cannot read {path}: {getattr(error, 'strerror', None) or 'it is no array, or it is damaged'}") from None
    if mask.dtype.kind not in "biuf":
        raise InputError(f"{path} holds values of type {mask.dtype}, not numbers")
    return np.asarray(mask != 0)


def describe(classes: Array, labels: Labels | None) -> Iterator[str]:
    """The classes that are explained in a region of one sample, and how many places each of them has.

    Args:
        classes: The class at each place, negative for none.
        labels: Their names.
    """
    found, counts = np.unique(classes[classes >= 0], return_counts=True)
    for index, count in zip(found.tolist(), counts.tolist(), strict=True):
        name = labels.name(index) if labels else ""
        yield f"{name or 'class'} {index} at {count} of {classes.size} places"
