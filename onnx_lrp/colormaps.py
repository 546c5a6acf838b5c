"""Colour maps for relevance: named ones, a small language for new ones, and those of matplotlib.

A colour map is a palette of 256 colours. In a map for signed relevance, entry 128 is the colour of zero, entry 0 that of
the most negative value and entry 255 that of the most positive one. A colour map is asked for by

* a name in ``CMAPS`` or ``ALIASES``, in any case: ``"bwr"``;
* a definition: colours separated by commas, ``"00f,fff,f00"``. A colour is written in 3 or 6 hexadecimal digits, and may
  have its palette entry before it, in 2 hexadecimal digits and a colon: ``"00f,40:88f,80:fff,f00"``. Unless told otherwise,
  the first colour is at 00 and the last at ff; the others spread evenly between their neighbours with a known entry;
* the name of a matplotlib colour map, ``"viridis"``. Where both know a name the map here is meant, and ``"mpl:hot"`` gets
  matplotlib's.

``_r`` after a name reverses the map. Only a matplotlib name imports matplotlib.
"""

from __future__ import annotations

import difflib
import functools
import math
import string
from typing import TYPE_CHECKING, Any, Final, Literal

import numpy as np

from onnx_lrp.errors import InputError, suggest

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import ArrayLike, NDArray

__all__ = [
    "ALIASES", "CENTRE", "CMAPS", "SIZE", "channel_sum", "colours", "entries", "fractions", "is_diverging", "numbers",
    "palette", "plane", "relative", "robust_bound",
]

SIZE: Final = 256
"""How many colours a palette has."""

CENTRE: Final = 128
"""The palette entry in the middle, the colour of zero in maps for signed relevance."""

CMAPS: Final[Mapping[str, str]] = {
    # One-sided: from nothing to much.
    "gray": "000,fff",
    "wred": "fff,f00",
    "wblue": "fff,00f",
    "hot": "000,f00,ff0,fff",
    "cold": "000,00f,0ff,fff",
    # Two-sided: negative, zero at 80, positive.
    "coldnhot": "fff,0ff,00f,80:000,f00,ff0,fff",
    "bwr": "00f,80:fff,f00",
    "france": "00209f,80:fff,ef4135",
    "seismic": "00004d,00f,80:fff,f00,800000",
    "coolio": "0b2f5c,1f9bb5,80:fff,c65fb2,5a1a6b",
    "coleus": "14532d,6dbb45,80:fff,e0457b,6d0f3a",
    # Two-sided, of lrp_toolbox.
    "gray-red": "00f,80:ccc,f00",
    "gray-red2": "006,5a:6666e6,80:e6e6e6,a6:e66666,600",
    "black-green": "00f,80:000,0f0",
    "black-firered": "fff,40:0ff,60:00f,80:000,a0:f00,c0:ff0,fff",
    "blue-black-yellow": "00f,80:000,ff0",
}
"""The named colour maps: name to definition."""

ALIASES: Final[Mapping[str, str]] = {
    "grey": "gray",
    "white-red": "wred",
    "white-blue": "wblue",
    "cold-hot": "coldnhot",
    "cold-and-hot": "coldnhot",
    "blue-white-red": "bwr",
    "tricolore": "france",
}
"""Other names of the named colour maps."""

_REVERSED = "_r"
_CHANNELS: Final = (1, 3, 4)
_MATPLOTLIB = "mpl:"
_HEX = frozenset(string.hexdigits)


def palette(name: str, level: float = 1.0) -> NDArray[np.uint8]:
    """Look up a colour map.

    Args:
        name: A name, a definition such as ``"00f,80:fff,f00"``, or the name of a matplotlib colour map.
        level: Contrast about the centre. Above 1 the outermost colours are reached earlier, below 1 they are not
            reached; 0 leaves only the centre's colour.

    Returns:
        The colours, red, green and blue: uint8 of shape (256, 3), the caller's own copy.

    Raises:
        InputError: The name is unknown (the message has the nearest names), the definition is wrong, or the level is
            negative or not finite.
    """
    if not (math.isfinite(level) and level >= 0):
        raise InputError(f"the level of a colour map must be a finite number of at least 0, not {level}")
    table = _table(name)
    places = np.arange(SIZE)
    where = np.clip(CENTRE + (places - CENTRE) * float(level), 0, SIZE - 1)
    stretched = np.stack([np.interp(where, places, channel) for channel in table.T], axis=1)
    rounded: NDArray[np.uint8] = np.rint(stretched).astype(np.uint8)
    return rounded


def is_diverging(name: str) -> bool:
    """Tell whether a colour map has two sides, for negative and positive values, or one.

    A map is taken to have two sides when its centre is lighter than both ends, or darker than both ends.

    Args:
        name: A colour map, as for ``palette``.

    Returns:
        True for maps such as ``"bwr"``, False for maps such as ``"hot"``.

    Raises:
        InputError: As for ``palette``.
    """
    low, centre, high = _table(name)[[0, CENTRE, SIZE - 1]] @ np.array([0.299, 0.587, 0.114])
    margin = 8.0
    return bool(centre > max(low, high) + margin or centre < min(low, high) - margin)


def numbers(values: ArrayLike, what: str = "relevance") -> NDArray[np.float64]:
    """Turn values into float64, of the same shape.

    Args:
        values: Real numbers or truth values, any shape.
        what: What to call the values in an error.

    Returns:
        The values as float64.

    Raises:
        InputError: There are no values, they are not real numbers, or some are NaN or infinite (the message has how many).
    """
    array = np.asarray(values)
    if array.dtype.kind not in "biuf":
        raise InputError(f"the {what} must be real numbers, not {array.dtype}")
    if array.size == 0:
        raise InputError(f"the {what} of shape {array.shape} has no values")
    bad = array.size - int(np.count_nonzero(np.isfinite(array)))
    if bad:
        raise InputError(f"{bad} of {array.size} values of the {what} are not finite (NaN or infinite)")
    return array.astype(np.float64)


def plane(relevance: ArrayLike) -> NDArray[np.float64]:
    """Turn a map of relevance into shape (H, W).

    Args:
        relevance: Shape (H, W), (1, H, W), (H, W, 1) or (1, 1, H, W).

    Returns:
        The map, float64 of shape (H, W).

    Raises:
        InputError: Another shape, no values, or values that are not finite real numbers.
    """
    values = numbers(relevance)
    kept = values
    if values.ndim == 4 and len(values) == 1:
        kept = kept[0]
    if kept.ndim == 3:
        kept = kept[0] if len(kept) == 1 else kept[..., 0] if kept.shape[-1] == 1 else kept
    if kept.ndim != 2:
        raise InputError(f"a map of shape (H, W) is expected, not {values.shape}; channel_sum adds up the channels")
    return kept


def channel_sum(relevance: ArrayLike, layout: Literal["auto", "NCHW", "NHWC"] = "auto") -> NDArray[np.float64]:
    """Add up the relevance of a picture's channels.

    Args:
        relevance: Shape (..., C, H, W) or (..., H, W, C).
        layout: Where the channels are. ``"auto"`` takes the third axis from the end if it has size 1, 3 or 4, else the last
            axis if that has, else the third from the end.

    Returns:
        float64 of shape (..., H, W).

    Raises:
        InputError: Fewer than three axes, an unknown layout, or values that are not finite real numbers.
    """
    array = numbers(relevance)
    if array.ndim < 3:
        raise InputError(f"relevance with a channel axis, (..., C, H, W) or (..., H, W, C), is expected, not shape {array.shape}")
    if layout not in {"auto", "NCHW", "NHWC"}:
        raise InputError(f"unknown layout {layout!r}; known: auto, NCHW, NHWC")
    last = layout == "NHWC" or (layout == "auto" and array.shape[-3] not in _CHANNELS and array.shape[-1] in _CHANNELS)
    summed: NDArray[np.float64] = array.sum(axis=-1 if last else -3)
    return summed


def robust_bound(relevance: ArrayLike, percentile: float = 99.5) -> float:
    """Find the absolute relevance that gets a colour map's outermost colour.

    Args:
        relevance: Any shape.
        percentile: Which percentile of the absolute relevance, of the values other than zero; 100 is the maximum. With
            less, a few outliers do not make all the rest pale.

    Returns:
        The bound, above zero; 0.0 if all relevance is zero.

    Raises:
        InputError: The percentile is not above 0 and at most 100, or the values are not finite real numbers.
    """
    if not 0 < percentile <= 100:
        raise InputError(f"the percentile must be above 0 and at most 100, not {percentile}")
    size = np.abs(numbers(relevance))
    size = size[size > 0]
    return _percentile(size, percentile) if size.size else 0.0


def _percentile(values: NDArray[np.float64], percentile: float) -> float:
    """What np.percentile gives for a flat array; that one imports a good part of NumPy first."""
    place = percentile / 100 * (values.size - 1)
    below = min(math.floor(place), values.size - 1)
    above = min(below + 1, values.size - 1)
    ordered = np.partition(values, [below, above])
    low, high, part = ordered[below], ordered[above], place - below
    return float(low + (high - low) * part if part < 0.5 else high - (high - low) * (1 - part))


def relative(relevance: ArrayLike, percentile: float = 99.5) -> NDArray[np.float64]:
    """Scale relevance to -1 to 1, with zero at zero.

    Args:
        relevance: Any shape.
        percentile: The absolute relevance that becomes 1, as for ``robust_bound``; larger ones become 1 too.

    Returns:
        The scaled relevance, float64 of the same shape; all zero if the relevance is.

    Raises:
        InputError: As for ``robust_bound``.
    """
    bound = robust_bound(relevance, percentile)
    values = numbers(relevance)
    return np.clip(values, -bound, bound) / bound if bound else np.zeros_like(values)


def colours(scaled: NDArray[np.float64], cmap: str, level: float = 1.0) -> NDArray[np.uint8]:
    """Give scaled relevance its colours.

    Args:
        scaled: Relevance from -1 to 1, any shape.
        cmap: A colour map. A two-sided one has zero in its centre; a one-sided one starts at zero, and negative relevance
            looks like zero.
        level: The colour map's contrast.

    Returns:
        uint8 of shape (..., 3).

    Raises:
        InputError: As for ``palette``.
    """
    found = entries((scaled + 1) / 2 if is_diverging(cmap) else np.maximum(scaled, 0))
    return np.take(palette(cmap, level), found, axis=0)  # several times as fast as indexing


def fractions(
    values: NDArray[np.float64], vmin: float | None = None, vmax: float | None = None, *, symmetric: bool = False
) -> NDArray[np.float64]:
    """Scale values to a colour map's range.

    Args:
        values: Finite values, any shape.
        vmin: What becomes 0, like all below; default: the smallest value.
        vmax: What becomes 1, like all above; default: the largest value.
        symmetric: Put zero at 0.5: the bounds are plus and minus the largest absolute value, or the larger of the absolute
            values of ``vmin`` and ``vmax`` where given.

    Returns:
        float64 of the same shape, 0 to 1. Without bounds given, values that are all equal become 0.5.

    Raises:
        InputError: A bound is not finite, or ``vmin`` is not below ``vmax``.
    """
    given = [float(bound) for bound in (vmin, vmax) if bound is not None]
    if not all(map(math.isfinite, given)) or (len(given) == 2 and not symmetric and given[0] >= given[1]):
        raise InputError(f"vmin must be below vmax, and both finite, not {vmin} and {vmax}")
    if symmetric:
        high = max(map(abs, given)) if given else float(np.abs(values).max())
        low = -high
    else:
        low, high = float(values.min() if vmin is None else vmin), float(values.max() if vmax is None else vmax)
    if low >= high:  # one value only, or all on the far side of the one bound that is given
        return np.full_like(values, 0.5 if not given or symmetric else 0.0 if vmax is None else 1.0)
    if not math.isfinite(high - low):
        values, low, high = values / 2, low / 2, high / 2
    return (np.clip(values, low, high) - low) / (high - low)


def entries(fraction: NDArray[np.float64]) -> NDArray[np.uint8]:
    """Find palette entries.

    Args:
        fraction: Where in the colour map, 0 to 1, any shape.

    Returns:
        The entries, uint8 of the same shape: 0 for 0, 128 for 0.5, 255 for 1.
    """
    return np.minimum(np.floor(fraction * SIZE), SIZE - 1).astype(np.uint8)


@functools.lru_cache(maxsize=64)
def _table(name: str) -> NDArray[np.float64]:
    """Return the colours of a map, 0 to 255, float64 of shape (256, 3), not to be written to."""
    key = name.strip()
    defined = "," in key or (":" in key and not key.startswith(_MATPLOTLIB))
    table = _parse(key) if defined else _named(key)
    table.flags.writeable = False
    return table


def _named(key: str) -> NDArray[np.float64]:
    """Return the colours of a named map, ours or matplotlib's, shape (256, 3)."""
    lower = key.lower()
    for candidate, step in ((lower, 1), (lower.removesuffix(_REVERSED), -1)):
        own = ALIASES.get(candidate, candidate)
        if own in CMAPS:
            return _parse(CMAPS[own])[::step].copy()
    maps = _matplotlib_maps()
    wanted = key.removeprefix(_MATPLOTLIB)
    if wanted in maps:
        rgba = maps[wanted](np.arange(SIZE) / (SIZE - 1))
        return np.asarray(rgba, dtype=np.float64)[:, :3] * 255
    known = {*CMAPS, *ALIASES, *maps}
    near = difflib.get_close_matches(wanted, known, n=1)
    raise InputError(f"unknown colour map {key!r}{suggest(wanted, known if near else CMAPS)}")


def _matplotlib_maps() -> Mapping[str, Any]:
    """Return matplotlib's colour maps by name; none where it is not installed."""
    try:
        import matplotlib as mpl
    except ImportError:
        return {}
    return dict(mpl.colormaps)


def _parse(definition: str) -> NDArray[np.float64]:
    """Return the colours of a definition, shape (256, 3)."""
    parts = [part.strip() for part in definition.split(",")]
    if len(parts) < 2:
        raise InputError(f"the colour map {definition!r} needs at least two colours")
    stops: list[float | None] = []
    shades: list[tuple[int, int, int]] = []
    for part in parts:
        before, colon, after = part.rpartition(":")
        if colon and not (len(before) == 2 and _HEX.issuperset(before)):
            raise InputError(f"colour map {definition!r}: the position {before!r} in {part!r} is not 2 hexadecimal digits")
        if len(after) not in {3, 6} or not _HEX.issuperset(after):
            raise InputError(f"colour map {definition!r}: the colour {after!r} in {part!r} is not 3 or 6 hexadecimal digits")
        digits = after if len(after) == 6 else "".join(digit * 2 for digit in after)
        stops.append(int(before, 16) if colon else None)
        shades.append((int(digits[:2], 16), int(digits[2:4], 16), int(digits[4:], 16)))
    stops[0] = 0 if stops[0] is None else stops[0]
    stops[-1] = SIZE - 1 if stops[-1] is None else stops[-1]
    known = [(index, stop) for index, stop in enumerate(stops) if stop is not None]
    indices, places = zip(*known, strict=True)
    # Each colour sits on a whole entry, so that the palette has exactly this colour.
    where = np.floor(np.interp(np.arange(len(stops)), indices, places) + 0.5)
    if np.any(np.diff(where) <= 0):
        raise InputError(f"colour map {definition!r}: the positions must increase from colour to colour")
    table = np.array(shades, dtype=np.float64)
    return np.stack([np.interp(np.arange(SIZE), where, channel) for channel in table.T], axis=1)
