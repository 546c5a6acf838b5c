"""Pictures from relevance: palette images, heat maps, overlays on a photo, contact sheets. NumPy and Pillow only.

Heat maps, overlays and symmetric palette images give zero relevance palette entry 128, the centre of a two-sided colour map
such as ``"bwr"``: white there means no relevance. How colour maps are named is described in ``onnx_lrp.colormaps``.
"""

from __future__ import annotations

import math
import os
import unicodedata
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, Final, Literal

import numpy as np

from onnx_lrp.colormaps import CENTRE, channel_sum, colours, entries, fractions, is_diverging, numbers, palette, plane, relative
from onnx_lrp.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import ArrayLike, NDArray
    from PIL import ImageFont
    from PIL.Image import Image

    Font = ImageFont.FreeTypeFont | ImageFont.ImageFont
    Grid = bool | tuple[int, int]
    Fill = int | tuple[int, int, int] | None

__all__ = ["atomic_write", "channel_sum", "contact_sheet", "heatmap", "imgify", "imsave", "overlay"]

_KEEP_PALETTE: Final = frozenset({"PNG", "GIF", "BMP", "TIFF"})
_PAPER, _INK, _SOFT_INK, _EDGE = (250, 250, 251), (28, 30, 34), (92, 96, 104), (206, 208, 213)
_DARKEST, _LIGHTEST = 105, 248  # what an overlay makes of black and white
# Pillow's own font has the letters of English only.
_GREEK: Final = "alpha beta gamma delta epsilon zeta eta theta iota kappa lambda mu nu xi pi rho sigma tau phi chi psi omega"
_SPELLED: Final = str.maketrans(
    dict(zip("αβγδεζηθικλμνξπρστφχψω", _GREEK.split(), strict=True))
    | {"−": "-", "–": "-", "—": "-", "×": "x", "·": ".", "→": "->", "≥": ">=", "≤": "<=", "ß": "ss", "’": "'", "“": '"', "”": '"'}
)


def imgify(
    obj: ArrayLike,
    vmin: float | None = None,
    vmax: float | None = None,
    cmap: str = "bwr",
    *,
    level: float = 1.0,
    symmetric: bool = False,
    grid: Grid = False,
    gridfill: Fill = None,
) -> Image:
    """Turn an array into a picture, one pixel a value.

    Args:
        obj: One channel, (H, W), (1, H, W) or (H, W, 1), or red, green and blue, (3, H, W) or (H, W, 3); one more axis in
            front for a batch, which needs ``grid`` if it holds more than one.
        vmin: The value that gets the first colour; values below get it too. Default: the smallest; 0 for uint8.
        vmax: The value that gets the last colour; values above get it too. Default: the largest; 255 for uint8. Without
            either bound, an array of one value gets the centre's colour.
        cmap: The colour map for one channel.
        level: The colour map's contrast.
        symmetric: Put zero in the centre: the bounds are plus and minus the largest absolute value (or the larger of
            ``abs(vmin)`` and ``abs(vmax)`` where given). An array of zeros gets the centre's colour.
        grid: Tile a batch, row by row: True for a grid near a square, or (rows, columns). Each picture gets its own bounds,
            except for those given.
        gridfill: What empty tiles hold: for one channel a palette entry (default 128), for three a grey or a colour of
            three (default white).

    Returns:
        For one channel a palette image (mode ``"P"``) with the colour map as palette; for three an RGB image.

    Raises:
        InputError: The shape does not fit, the grid is too small, ``vmin`` is not below ``vmax``, the colour map is
            unknown, or values are not finite real numbers.
    """
    from PIL import Image as Pillow

    array = numbers(obj, "picture")
    if np.asarray(obj).dtype == np.uint8 and not symmetric:
        vmin, vmax = 0 if vmin is None else vmin, 255 if vmax is None else vmax
    if grid is False:
        tiles = [_item(array)]
    else:
        if array.ndim < 3:
            raise InputError(f"a grid needs a batch, (N, H, W) or (N, C, H, W), not shape {array.shape}")
        tiles = [_item(one) for one in array]
    scaled = [fractions(tile, vmin, vmax, symmetric=symmetric) for tile in tiles]
    pixels = [entries(tile) if tile.ndim == 2 else np.rint(tile * 255).astype(np.uint8) for tile in scaled]
    sheet = pixels[0] if grid is False else _tile(pixels, grid, gridfill)
    picture = Pillow.fromarray(sheet)
    if sheet.ndim == 2:
        picture.putpalette(palette(cmap, level).tobytes())
    return picture


def imsave(
    path: str | os.PathLike[str],
    obj: ArrayLike | Image,
    *,
    vmin: float | None = None,
    vmax: float | None = None,
    cmap: str = "bwr",
    level: float = 1.0,
    symmetric: bool = False,
    grid: Grid = False,
    gridfill: Fill = None,
) -> None:
    """Write an array as a picture, or a picture as it is.

    The file appears whole or not at all: a file already there stays until the new one is complete.

    Args:
        path: Where to; the suffix decides the format.
        obj: An array, as for ``imgify``, or a Pillow image, which no other argument changes.
        vmin: As for ``imgify``, like the rest.
        vmax: As for ``imgify``.
        cmap: As for ``imgify``.
        level: As for ``imgify``.
        symmetric: As for ``imgify``.
        grid: As for ``imgify``.
        gridfill: As for ``imgify``.

    Raises:
        InputError: As for ``imgify``, or Pillow writes no pictures with this suffix.
        OSError: The file cannot be written.
    """
    from PIL import Image as Pillow

    suffix = Path(path).suffix.lower()
    kind = Pillow.registered_extensions().get(suffix)
    if kind not in Pillow.SAVE:
        raise InputError(f"cannot write a picture to {str(path)!r}: unknown suffix {suffix!r}; try .png, .jpg, .webp or .gif")
    options: dict[str, Any] = {"level": level, "symmetric": symmetric, "grid": grid, "gridfill": gridfill}
    picture = obj if isinstance(obj, Pillow.Image) else imgify(obj, vmin, vmax, cmap, **options)
    if picture.mode == "P" and kind not in _KEEP_PALETTE:
        picture = picture.convert("RGB")
    atomic_write(path, lambda file: picture.save(file, format=kind))


def atomic_write(path: str | os.PathLike[str], write: Callable[[IO[bytes]], object]) -> None:
    """Write a file whole or not at all.

    Args:
        path: Where to. The folder must be there. A link stays, and the file that it points to is replaced.
        write: Writes the content to the open file it is given: a new one in the same folder, which then takes the place of
            the old, or is removed after an error.

    Raises:
        OSError: The file cannot be written. Errors of ``write`` pass through.
    """
    target = Path(path).resolve()
    temporary = target.with_name(f".{os.urandom(8).hex()}.tmp")
    try:
        with temporary.open("x+b") as file:
            write(file)
        temporary.replace(target)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def heatmap(
    relevance: ArrayLike, cmap: str = "bwr", size: tuple[int, int] | None = None, level: float = 1.0, percentile: float = 99.5
) -> Image:
    """Draw a map of relevance.

    With a two-sided colour map, zero has the centre's colour. A one-sided map such as ``"hot"`` shows positive relevance
    from zero on, and negative relevance like zero.

    Args:
        relevance: Shape (H, W); axes of size one around it are fine.
        cmap: The colour map.
        size: Width and height of the picture, default (W, H). Enlarged pixels stay sharp.
        level: The colour map's contrast.
        percentile: The relevance with the outermost colour, as for ``robust_bound``; 100 for the maximum.

    Returns:
        An RGB image.

    Raises:
        InputError: The shape does not fit, the colour map is unknown, or values are not finite real numbers.
    """
    from PIL.Image import fromarray

    picture = fromarray(colours(relative(plane(relevance), percentile), cmap, level))
    return picture if size is None else _resize(picture, size, sharp=True)


def overlay(
    photo: Image | ArrayLike,
    relevance: ArrayLike,
    cmap: str = "bwr",
    alpha: float = 0.85,
    *,
    level: float = 1.0,
    percentile: float = 99.5,
) -> Image:
    """Draw relevance on top of a photo.

    The photo is shown in light grey. The more relevance a pixel has, in absolute terms, the more the colour covers the photo;
    without relevance a pixel stays grey.

    Args:
        photo: A Pillow image, or an array as for ``imgify``; uint8 is taken as it is, other numbers from their smallest
            (black) to their largest (white).
        relevance: Shape (h, w); stretched to the photo where the sizes differ.
        cmap: The colour map, used as in ``heatmap``.
        alpha: How much the outermost colour covers the photo, 0 to 1.
        level: The colour map's contrast.
        percentile: The relevance with the outermost colour, as for ``robust_bound``; 100 for the maximum.

    Returns:
        An RGB image of the photo's size.

    Raises:
        InputError: A shape does not fit, alpha is not from 0 to 1, the colour map is unknown, or values are not finite real
            numbers.
    """
    from PIL import Image as Pillow

    if not 0 <= alpha <= 1:
        raise InputError(f"alpha must be from 0 to 1, not {alpha}")
    grey = (photo if isinstance(photo, Pillow.Image) else imgify(photo, cmap="gray")).convert("RGB").convert("L")
    scaled = relative(plane(relevance), percentile)
    if (grey.height, grey.width) != scaled.shape:
        stretched = Pillow.fromarray(scaled.astype(np.float32)).resize(grey.size, Pillow.Resampling.BILINEAR)
        scaled = np.clip(np.asarray(stretched, dtype=np.float64), -1, 1)
    strength = np.sqrt(np.abs(scaled) if is_diverging(cmap) else np.maximum(scaled, 0))
    cover = (alpha * strength).astype(np.float32)[..., None]
    below = np.take(np.linspace(_DARKEST, _LIGHTEST, 256, dtype=np.float32), np.asarray(grey))[..., None]
    mixed = colours(np.copysign(strength, scaled), cmap, level).astype(np.float32)  # and from here on in place, for speed
    mixed -= below
    mixed *= cover
    mixed += below
    return Pillow.fromarray(np.rint(mixed, out=mixed).astype(np.uint8))


def contact_sheet(
    rows: Sequence[Sequence[Image | ArrayLike | None]],
    row_titles: Sequence[str] | None = None,
    column_titles: Sequence[str] | None = None,
    captions: Sequence[Sequence[str | None]] | None = None,
    *,
    title: str | None = None,
    cell: int = 200,
    cmap: str = "bwr",
    font_size: int = 16,
) -> Image:
    """Put pictures side by side on a sheet with titles.

    All cells have one size: each picture is scaled, in its own proportions, to fit a square of ``cell`` pixels. Pictures of
    less than half this size keep sharp pixels. Letters that Pillow's font lacks are spelled out: ``"ε"`` as ``"epsilon"``.

    Args:
        rows: The pictures, row by row; rows may differ in length, and None leaves a cell empty. An array of shape (H, W)
            that is not uint8 is relevance, and drawn as by ``heatmap``; other arrays are drawn as by ``imgify``.
        row_titles: One for each row, on the left.
        column_titles: One for each column, on top.
        captions: Small text under the pictures, of the same form as ``rows``; None for no text.
        title: The sheet's title.
        cell: The longest side of a picture, in pixels.
        cmap: The colour map of relevance.
        font_size: The size of the titles, in pixels.

    Returns:
        An RGB image.

    Raises:
        InputError: There are no pictures, the numbers of titles or captions do not fit, or an array makes no picture.
    """
    from PIL import Image as Pillow
    from PIL import ImageDraw, ImageFont

    columns = max((len(row) for row in rows), default=0)
    if columns == 0:
        raise InputError("a contact sheet needs at least one picture")
    for what, titles, count in (("row", row_titles, len(rows)), ("column", column_titles, columns)):
        if titles is not None and len(titles) != count:
            raise InputError(f"{len(titles)} {what} titles for {count} {what}s")
    if captions is not None and [len(line) for line in captions] != [len(row) for row in rows]:
        raise InputError("the captions must have as many rows, and in each as many texts, as there are pictures")
    if cell < 1 or font_size < 1:
        raise InputError("the cell and the font size must be at least 1")

    pictures = [[None if one is None else _cell(one, cmap, cell) for one in row] for row in rows]
    sizes = [picture.size for row in pictures for picture in row if picture is not None]
    width, height = (max((size[axis] for size in sizes), default=cell) for axis in (0, 1))
    gap = max(6, font_size * 3 // 4)
    big, font, small = (ImageFont.load_default(size) for size in (font_size * 5 / 4, font_size, font_size * 7 / 8))
    left_texts = [_wrap(text, font, 9 * font_size) for text in row_titles or ()]
    top_texts = [_wrap(text, font, width) for text in column_titles or ()]
    under = [[_wrap(text or "", small, width) for text in line] for line in captions or [[]] * len(rows)]
    left = gap * 2 + _extent(left_texts, font, gap * 3 // 2)[0]
    right = left + columns * (width + gap) + gap
    head = _wrap(title or "", big, right - gap * 4)
    titles_at = gap * 2 + _extent([head], big, gap)[1]
    top = titles_at + _extent(top_texts, font, gap * 2 // 3)[1]
    starts = [top]
    for line in under:
        starts.append(starts[-1] + height + _extent(line, small, gap // 2)[1] + gap)

    sheet = Pillow.new("RGB", (right, starts[-1] + gap), _PAPER)
    draw = ImageDraw.Draw(sheet)
    middles = [left + column * (width + gap) + width // 2 for column in range(columns)]
    draw.multiline_text((gap * 2, gap * 2), head, _INK, big)
    for text, x in zip(top_texts, middles, strict=False):
        draw.multiline_text((x, top - gap * 2 // 3), text, _INK, font, anchor="md", align="center")
    for text, y in zip(left_texts, starts, strict=False):
        draw.multiline_text((gap * 2, y + height // 2), text, _INK, font, anchor="lm")
    for row, line, y in zip(pictures, under, starts, strict=False):
        for picture, x in zip(row, middles, strict=False):
            if picture is not None:
                x0, y0 = x - picture.width // 2, y + (height - picture.height) // 2
                draw.rectangle((x0 - 1, y0 - 1, x0 + picture.width, y0 + picture.height), outline=_EDGE)
                sheet.paste(picture, (x0, y0))
        for text, x in zip(line, middles, strict=False):
            draw.multiline_text((x, y + height + gap // 2), text, _SOFT_INK, small, anchor="ma", align="center")
    return sheet


def _item(array: NDArray[np.float64]) -> NDArray[np.float64]:
    """Bring one picture of ``imgify`` to shape (H, W) or (H, W, 3)."""
    item = array[0] if array.ndim == 4 and len(array) == 1 else array
    if item.ndim == 2 or (item.ndim == 3 and 1 in {len(item), item.shape[-1]}):
        return plane(item)
    if item.ndim == 3 and 3 in {len(item), item.shape[-1]}:
        return np.moveaxis(item, 0, -1) if len(item) == 3 else item
    raise InputError(f"a picture has 1 or 3 channels, not shape {array.shape}; channel_sum adds up channels, grid tiles a batch")


def _tile(tiles: list[NDArray[np.uint8]], grid: Literal[True] | tuple[int, int], fill: Fill) -> NDArray[np.uint8]:
    """Put the tiles of a batch, all of shape (H, W) or (H, W, 3), next to each other."""
    count = len(tiles)
    across = math.ceil(math.sqrt(count))
    down, across = (math.ceil(count / across), across) if grid is True else grid
    if min(down, across) < 1 or down * across < count:
        raise InputError(f"a grid of {down} rows and {across} columns has no room for {count} pictures")
    shape = tiles[0].shape
    blank = np.asarray((CENTRE if len(shape) == 2 else 255) if fill is None else fill)
    if blank.dtype.kind not in "iu" or blank.shape not in {(), shape[2:]} or blank.min() < 0 or blank.max() > 255:
        raise InputError(f"gridfill must be a number from 0 to 255, or three of them for pictures of three channels, not {fill}")
    sheet = np.empty((down * across, *shape), dtype=np.uint8)
    sheet[:count], sheet[count:] = tiles, blank
    return sheet.reshape(down, across, *shape).swapaxes(1, 2).reshape(down * shape[0], across * shape[1], *shape[2:])


def _resize(picture: Image, size: tuple[int, int], *, sharp: bool) -> Image:
    """Scale an RGB picture: smoothly to a smaller size; to a larger one with sharp pixels if so wanted."""
    from PIL.Image import Resampling

    if min(size) < 1:
        raise InputError(f"a picture must be at least one pixel wide and high, not {size[0]} by {size[1]}")
    grows = size[0] >= picture.width and size[1] >= picture.height
    return picture.resize(size, (Resampling.NEAREST if sharp else Resampling.BICUBIC) if grows else Resampling.HAMMING)


def _cell(one: Image | ArrayLike, cmap: str, cell: int) -> Image:
    """Make an RGB picture of one entry of a contact sheet, with a longest side of ``cell`` pixels."""
    from PIL.Image import Image as Picture

    if isinstance(one, Picture):
        picture = one.convert("RGB")
    else:
        array = np.asarray(one)
        relevance = array.ndim == 2 and array.dtype != np.uint8
        picture = heatmap(array, cmap) if relevance else imgify(array, cmap="gray").convert("RGB")
    longest = max(picture.size)
    width, height = (max(1, round(side * cell / longest)) for side in picture.size)
    return _resize(picture, (width, height), sharp=longest * 2 <= cell)


def _extent(texts: Sequence[str], font: Font, extra: int) -> tuple[int, int]:
    """Return the largest width and height of some texts, plus an extra; zero for no text at all."""
    from PIL import Image as Pillow
    from PIL import ImageDraw

    boxes = [ImageDraw.Draw(Pillow.new("L", (1, 1))).multiline_textbbox((0, 0), text, font) for text in texts if text]
    width, height = (max((math.ceil(box[side]) + extra for box in boxes), default=0) for side in (2, 3))
    return width, height


def _wrap(text: str, font: Font, width: int) -> str:
    """Break a text into lines no wider than ``width`` pixels, in letters that Pillow's font has."""
    plain = unicodedata.normalize("NFKD", text.translate(_SPELLED))
    plain = "".join(letter for letter in plain if not unicodedata.combining(letter))
    lines: list[str] = []
    for word in plain.encode("ascii", "replace").decode().split():
        if lines and font.getlength(f"{lines[-1]} {word}") <= width:
            lines[-1] += f" {word}"
            continue
        lines.append("")
        for letter in word:
            if lines[-1] and font.getlength(lines[-1] + letter) > width:
                lines.append("")
            lines[-1] += letter
    return "\n".join(lines)
