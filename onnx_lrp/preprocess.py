"""From a picture file to a model's input: size, layout, order of the channels, and numbers.

A model sees pictures as it was trained to; `PRESETS` has the usual ways, and a JSON file with the fields of `Preprocess` any
other one. What is left open is taken from the model's input shape:

    preprocess = onnx_lrp.preprocess.find("imagenet").fit((1, 3, 224, 224))
    x = preprocess(preprocess.load("cat.jpg"))

Only loading and preparing pictures imports Pillow.
"""

from __future__ import annotations

import dataclasses
import json
import math
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Literal

import numpy as np

from onnx_lrp.errors import InputError, suggest

if TYPE_CHECKING:
    import os

    from numpy.typing import NDArray
    from PIL.Image import Image

    Shape = Sequence[int | str | None]

__all__ = ["PRESETS", "Preprocess", "find"]

_MARGIN: Final = 256 / 224
"""How much larger than the crop a picture is made first, as is usual for ImageNet."""
_CHANNELS: Final = (1, 3, 4)


def _is_length(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 < value < 2**16


def _is_number(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)


@dataclass(frozen=True)
class Preprocess:
    """How a picture becomes a model's input: value = (pixel * scale - mean) / std, in float32.

    Args:
        resize: The length that the shorter side gets, or (height, width). None: 256/224 of the crop, but a picture that has the
            crop's size already stays as it is.
        crop: The height and width that are cut from the centre. None: the model's size; the whole picture where that is open too.
        layout: "NCHW" or "NHWC". None: as the model's shape says.
        channels: "RGB", "BGR" or "GRAY". None: grey for models of one channel, else RGB.
        scale: What pixels, 0 to 255, are multiplied by.
        mean: What is then taken off: one number, or one for each channel in the model's order.
        std: What is then divided by: one number, or one for each channel.

    Raises:
        InputError: A value of the wrong type, or one that makes no sense.
    """

    resize: int | tuple[int, int] | None = None
    crop: tuple[int, int] | None = None
    layout: Literal["NCHW", "NHWC"] | None = None
    channels: Literal["RGB", "BGR", "GRAY"] | None = None
    scale: float = 1.0
    mean: float | tuple[float, ...] = 0.0
    std: float | tuple[float, ...] = 1.0
    count: int | None = None
    """How many channels the model takes; set by `fit`."""

    def __post_init__(self) -> None:
        for name in ("resize", "crop"):
            value = getattr(self, name)
            if isinstance(value, (list, tuple)) and len(value) == 2 and all(map(_is_length, value)):
                object.__setattr__(self, name, tuple(value))
            elif not (value is None or (name == "resize" and _is_length(value))):
                what = "a length or a pair (height, width)" if name == "resize" else "a pair (height, width)"
                raise InputError(f"preprocess: {name} must be {what} of whole numbers above 0, not {value!r}")
        for name, known in (("layout", ("NCHW", "NHWC")), ("channels", ("RGB", "BGR", "GRAY"))):
            value = getattr(self, name)
            if value is not None and value not in known:
                raise InputError(f"preprocess: {name} must be one of {', '.join(known)}, not {value!r}")
        if not _is_number(self.scale) or not self.scale:
            raise InputError(f"preprocess: scale must be a number other than 0, not {self.scale!r}")
        for name in ("mean", "std"):
            value = getattr(self, name)
            each = value if isinstance(value, (list, tuple)) else (value,)
            if len(each) not in (1, 3, 4) or not all(map(_is_number, each)) or (name == "std" and min(each) <= 0):
                what = "a number above 0" if name == "std" else "a number"
                raise InputError(f"preprocess: {name} must be {what}, or a list of 1, 3 or 4 of them, not {value!r}")
            if isinstance(value, list):
                object.__setattr__(self, name, tuple(value))

    @classmethod
    def from_file(cls, path: str | os.PathLike[str]) -> Preprocess:
        """Read a JSON file whose fields are those of this class.

        Raises:
            InputError: The file is missing or no JSON object, or a field is unknown or of the wrong type.
        """
        try:
            data = json.loads(Path(path).read_text(encoding="utf-8-sig"))
        except FileNotFoundError:
            raise InputError(f"no such file: {path}") from None
        except OSError as error:
            raise InputError(f"cannot read {path}: {error.strerror or error}") from None
        except (ValueError, RecursionError) as error:
            raise InputError(f"{path} is not JSON: {error}") from None
        return cls.from_fields(data, str(path))

    @classmethod
    def from_fields(cls, data: Any, where: str) -> Preprocess:
        """Make one from a JSON object.

        Args:
            data: The object, with fields of this class.
            where: Where it comes from, for messages.

        Raises:
            InputError: It is no object, or a field is unknown or of the wrong type.
        """
        if not isinstance(data, dict):
            raise InputError(f"{where}: a JSON object with the fields of a preprocessing is expected, not {type(data).__name__}")
        known = [field.name for field in dataclasses.fields(cls) if field.name != "count"]
        for name in data:
            if name not in known:
                raise InputError(f"{where}: unknown field {name!r}{suggest(name, known)}")
        try:
            return cls(**data)
        except InputError as error:
            raise InputError(f"{where}: {error}") from None

    def fit(self, shape: Shape | None) -> Preprocess:
        """Fill in what is open from the shape of a model's input, and adapt the size where the model's differs.

        Args:
            shape: The input's shape with the batch axis: fixed lengths as ints, others as names or None; None if not even the
                rank is known.

        Raises:
            InputError: The shape is not that of pictures, or not that of the given layout.
        """
        lengths = [length if isinstance(length, int) else None for length in (shape if shape is not None else (None,) * 4)]
        if len(lengths) != 4:
            raise InputError(f"the model does not take pictures: its input has shape {_written(shape)}, which has not four axes")
        layout = self.layout or _layout_of(lengths, shape)
        count = lengths[1] if layout == "NCHW" else lengths[3]
        if count is not None and count not in _CHANNELS:
            raise InputError(f"in layout {layout} the model's input of shape {_written(shape)} has {count} channels, not 1, 3 or 4")
        count = count or (1 if self.channels == "GRAY" else 3)
        for name, values in (("mean", self.mean), ("std", self.std)):
            if isinstance(values, tuple) and count == 3 and len(values) == 4:
                raise InputError(f"preprocess: {name} has 4 values, the model 3 channels")
        height, width = lengths[2:] if layout == "NCHW" else lengths[1:3]
        wanted_height, wanted_width = self.crop or (self.resize if isinstance(self.resize, tuple) else (width, height))
        height, width = height or wanted_height, width or wanted_width
        crop = None if height is None or width is None else (height, width)
        resize = self.resize if self.crop in (None, crop) else None
        if isinstance(resize, tuple) and crop is not None and (resize[0] < crop[0] or resize[1] < crop[1]):
            resize = None
        channels = "GRAY" if count == 1 else self.channels or "RGB"
        return dataclasses.replace(self, resize=resize, crop=crop, layout=layout, channels=channels, count=count)

    # pictures -------------------------------------------------------------------------------------------------------

    def load(self, path: str | os.PathLike[str]) -> Image:
        """Read a picture file: upright as its EXIF data says, the first one of an animation, on white where it is transparent.

        Returns:
            An image of mode "L" or "RGB".

        Raises:
            InputError: The file is missing, no picture, damaged, cut off, or too large.
        """
        from PIL import Image as Pillow
        from PIL import UnidentifiedImageError

        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # of odd metadata; and very large pictures are an error all the same
                with Pillow.open(path) as file:
                    file.load()
                    return _plain(_upright(file))
        except FileNotFoundError:
            raise InputError(f"no such file: {path}") from None
        except IsADirectoryError:
            raise InputError(f"{path} is a folder, not a picture") from None
        except UnidentifiedImageError:
            raise InputError(f"{path} is not a picture in a format that can be read") from None
        except Pillow.DecompressionBombError:
            raise InputError(f"{path} has too many pixels (more than {2 * (Pillow.MAX_IMAGE_PIXELS or 0):,})") from None
        except MemoryError:
            raise InputError(f"{path}: not enough memory for this picture") from None
        except Exception as error:  # noqa: BLE001 - a damaged file fails in many ways inside Pillow; to the user they are one
            reason = getattr(error, "strerror", None) or " ".join(str(error).split()) or type(error).__name__
            raise InputError(f"cannot read the picture {path}: {reason}") from None

    def displayed(self, image: Image) -> Image:
        """Resize and crop a picture to what the model sees of it.

        Returns:
            An image of mode "RGB", or "L" for grey.
        """
        from PIL.Image import Resampling

        picture = image.convert("L" if self._grey() else "RGB")
        width, height = picture.size
        size = self._enlarged(height, width)
        if size != (height, width):
            picture = picture.resize((size[1], size[0]), Resampling.BILINEAR)
        if self.crop is None or self.crop == size:
            return picture
        top, left = (round((have - want) / 2) for have, want in zip(size, self.crop, strict=True))
        return picture.crop((left, top, left + self.crop[1], top + self.crop[0]))

    def __call__(self, image: Image) -> NDArray[np.float32]:
        """Turn a picture into the model's input, of shape (1, channels, height, width) or (1, height, width, channels)."""
        return self.values(self.displayed(image))

    def values(self, displayed: Image) -> NDArray[np.float32]:
        """Turn what the model sees of a picture into its input; see `displayed`."""
        pixels = np.atleast_3d(np.asarray(displayed))
        table = self._table()
        if self.channels == "BGR":
            pixels = pixels[..., ::-1]
        if pixels.shape[-1] == 1:
            pixels = np.repeat(pixels, min(len(table), 3), axis=-1)
        if len(table) == 4:
            pixels = np.concatenate([pixels, np.full_like(pixels[..., :1], 255)], axis=-1)  # opaque
        values = np.stack([column[pixels[..., index]] for index, column in enumerate(table)], 0 if self._first() else -1)
        return np.ascontiguousarray(values[None])

    def low(self) -> NDArray[np.float32]:
        """The smallest value of each channel, of shape (channels, 1, 1) or (1, 1, channels): what the ZBox rule needs."""
        return self._bound(np.minimum)

    def high(self) -> NDArray[np.float32]:
        """The largest value of each channel, of shape (channels, 1, 1) or (1, 1, channels): what the ZBox rule needs."""
        return self._bound(np.maximum)

    def _bound(self, choose: Any) -> NDArray[np.float32]:
        table = self._table()
        bound: NDArray[np.float32] = choose(table[:, 0], table[:, -1])
        return bound.reshape((-1, 1, 1) if self._first() else (1, 1, -1))

    def _first(self) -> bool:
        return self.layout != "NHWC"

    def _grey(self) -> bool:
        return self.channels == "GRAY" or self.count == 1

    def _table(self) -> NDArray[np.float32]:
        """What each pixel value becomes in each channel: shape (channels, 256)."""
        count = self.count or (1 if self._grey() else 3)
        mean, std = _per_channel(self.mean, count, 0.0), _per_channel(self.std, count, 1.0)
        values = (np.arange(256.0) * self.scale - mean[:, None]) / std[:, None]
        return values.astype(np.float32)

    def _enlarged(self, height: int, width: int) -> tuple[int, int]:
        """The height and width that a picture gets before the crop, never less than the crop."""
        if isinstance(self.resize, tuple):
            return self.resize
        if self.resize is None and (self.crop is None or self.crop == (height, width)):
            return height, width
        crop = self.crop or (1, 1)
        cover = max(crop[0] / height, crop[1] / width)
        factor = cover * _MARGIN if self.resize is None else max(self.resize / min(height, width), cover)
        # rounding off what floating point added, then down, as torchvision does
        return max(crop[0], int(height * factor + 1e-6)), max(crop[1], int(width * factor + 1e-6))


PRESETS: Final[Mapping[str, Preprocess]] = {
    "imagenet": Preprocess(256, (224, 224), None, "RGB", 1 / 255, (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
    "caffe": Preprocess(256, (224, 224), None, "BGR", 1.0, (104.0, 117.0, 123.0)),
    "tf": Preprocess(channels="RGB", scale=1 / 127.5, mean=1.0),
    "unit": Preprocess(scale=1 / 255),
    "none": Preprocess(),
}
"""imagenet: RGB, less the mean and by the deviation of ImageNet, as in torchvision and timm. caffe: BGR, 0 to 255 less the mean.
tf: RGB, -1 to 1. unit: 0 to 1. none: 0 to 255."""


def find(name: str) -> Preprocess:
    """Look up a preset, or read a JSON file.

    Args:
        name: A key of `PRESETS`, or the path of a file, as for `Preprocess.from_file`.

    Raises:
        InputError: There is no such preset and no such file, or the file is wrong.
    """
    if name in PRESETS:
        return PRESETS[name]
    if name.lower().endswith(".json") or Path(name).is_file():
        return Preprocess.from_file(name)
    raise InputError(f"unknown preprocessing {name!r}{suggest(name, PRESETS)} (or a .json file)")


def _written(shape: Shape | None) -> str:
    return "(" + ", ".join("?" if length is None else str(length) for length in shape or ()) + ")"


def _layout_of(lengths: Sequence[int | None], shape: Shape | None) -> Literal["NCHW", "NHWC"]:
    """Where the channels are; the first of the two layouts where nothing is known."""
    if lengths[1] in _CHANNELS:
        return "NCHW"
    if lengths[3] in _CHANNELS:
        return "NHWC"
    if lengths[1] is None:
        return "NCHW"
    raise InputError(f"the model does not take pictures: no axis of its input of shape {_written(shape)} has 1, 3 or 4 channels")


def _per_channel(value: float | tuple[float, ...], count: int, alpha: float) -> NDArray[np.float64]:
    """One value for each channel: of the colours' the average for grey; a fourth channel is left as it is."""
    values = np.atleast_1d(np.asarray(value, np.float64))
    if count == 1:
        return np.asarray([values[:3].mean()])
    if len(values) == 1:
        return np.repeat(values, count)
    return np.append(values, alpha) if len(values) < count else values


def _upright(image: Image) -> Image:
    """Turn a picture as its EXIF data says; data that cannot be read says nothing."""
    from PIL import ImageOps

    try:
        return ImageOps.exif_transpose(image) or image
    except Exception:  # noqa: BLE001 - it is metadata
        return image


def _plain(image: Image) -> Image:
    """Bring a picture of any mode to "L" or "RGB" in 8 bits."""
    from PIL import Image as Pillow

    if image.mode[0] in "IF":
        return Pillow.fromarray(_eight_bits(np.asarray(image), image.mode))
    if image.mode in ("LA", "La", "PA", "RGBA", "RGBa") or "transparency" in image.info:
        see_through = image.convert("RGBA")
        white = Pillow.new("RGBA", see_through.size, "white")
        return Pillow.alpha_composite(white, see_through).convert("L" if image.mode in ("L", "LA", "La") else "RGB")
    if image.mode in ("L", "RGB"):
        return image.copy()
    return image.convert("L" if image.mode == "1" else "RGB")


def _eight_bits(values: NDArray[Any], mode: str) -> NDArray[np.uint8]:
    """Scale grey values of 16 or 32 bits, or floats, to 0 to 255."""
    grey = np.nan_to_num(values.astype(np.float64), posinf=0.0, neginf=0.0)
    low, high = float(grey.min()), float(grey.max())
    if mode == "F" and low >= 0 and high <= 1:
        grey *= 255
    elif mode != "F" and low >= 0 and high <= 65535:
        grey /= 257
    elif low < 0 or high > 255:
        grey = (grey - low) * (255 / (high - low or 1.0))
    return np.rint(grey).astype(np.uint8)
