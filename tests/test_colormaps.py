"""Colour maps, and what turns relevance into their entries."""

from __future__ import annotations

import sys

import matplotlib as mpl
import numpy as np
import pytest

from onnx_lrp import colormaps
from onnx_lrp.colormaps import ALIASES, CENTRE, CMAPS, palette
from onnx_lrp.errors import InputError

ENDS = {
    "gray": ((0, 0, 0), None, (255, 255, 255)),
    "wred": ((255, 255, 255), None, (255, 0, 0)),
    "wblue": ((255, 255, 255), None, (0, 0, 255)),
    "hot": ((0, 0, 0), None, (255, 255, 255)),
    "cold": ((0, 0, 0), None, (255, 255, 255)),
    "coldnhot": ((255, 255, 255), (0, 0, 0), (255, 255, 255)),
    "bwr": ((0, 0, 255), (255, 255, 255), (255, 0, 0)),
    "france": ((0, 32, 159), (255, 255, 255), (239, 65, 53)),
    "seismic": ((0, 0, 77), (255, 255, 255), (128, 0, 0)),
    "coolio": (None, (255, 255, 255), None),
    "coleus": (None, (255, 255, 255), None),
    "gray-red": ((0, 0, 255), (204, 204, 204), (255, 0, 0)),
    "gray-red2": ((0, 0, 102), (230, 230, 230), (102, 0, 0)),
    "black-green": ((0, 0, 255), (0, 0, 0), (0, 255, 0)),
    "black-firered": ((255, 255, 255), (0, 0, 0), (255, 255, 255)),
    "blue-black-yellow": ((0, 0, 255), (0, 0, 0), (255, 255, 0)),
}

LRP_TOOLBOX = {
    "gray-red": lambda a: [0.8 + 0.2 * a, 0.8 - 0.8 * a, 0.8 - 0.8 * a],
    "gray-red2": lambda a: [0.9 - 0.5 * ramp(a, 0.3, 1), *[0.9 - 0.5 * ramp(a, 0, 0.3) - 0.4 * ramp(a, 0.3, 1)] * 2],
    "black-green": lambda a: [0 * a, a, 0 * a],
    "black-firered": lambda a: [ramp(a, 0, 0.25), ramp(a, 0.25, 0.5), ramp(a, 0.5, 1)],
    "blue-black-yellow": lambda a: [a, a, 0 * a],
}
"""Red, green and blue of positive relevance a, as a share of the largest, in lrp_toolbox's colour maps."""


def ramp(a, start, stop):
    """0 up to `start`, 1 from `stop` on."""
    return np.clip((a - start) / (stop - start), 0, 1)


def test_all_names_are_tested():
    assert set(ENDS) == set(CMAPS)


@pytest.mark.parametrize("name", sorted(ENDS))
def test_named_maps(name):
    table = palette(name)
    assert table.shape == (256, 3)
    assert table.dtype == np.uint8
    for entry, colour in zip((0, CENTRE, 255), ENDS[name], strict=True):
        assert colour is None or tuple(table[entry]) == colour
    assert colormaps.is_diverging(name) == (ENDS[name][1] is not None)


@pytest.mark.parametrize("name", sorted(LRP_TOOLBOX))
def test_maps_of_lrp_toolbox(name):
    """To half a palette entry: 0.25 of the way up lies between two of them."""
    table = palette(name) / 255
    places = np.arange(CENTRE, 256)
    a = (places - CENTRE) / (255 - CENTRE)
    np.testing.assert_allclose(table[places], np.stack(LRP_TOOLBOX[name](a), 1), atol=0.02)
    if name in ("gray-red", "gray-red2", "black-firered"):  # negative: red and blue change places
        np.testing.assert_allclose(table[CENTRE:0:-1, ::-1], table[places], atol=0.02)


def test_hot_and_cold_halves():
    table = palette("coldnhot").astype(int)
    assert np.all(table[129:, 0] >= table[129:, 2])  # red leads on the positive side
    assert np.all(table[:128, 2] >= table[:128, 0])  # blue on the negative one


@pytest.mark.parametrize(("alias", "name"), sorted(ALIASES.items()))
def test_aliases(alias, name):
    assert np.array_equal(palette(alias), palette(name))


def test_case_blanks_and_reversal():
    assert np.array_equal(palette(" BWR "), palette("bwr"))
    assert np.array_equal(palette("hot_r"), palette("hot")[::-1])


def test_own_maps_need_no_matplotlib(monkeypatch):
    colormaps._table.cache_clear()
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    for name in (*CMAPS, *ALIASES, "seismic_r", "f00,0f0"):
        palette(name)
    with pytest.raises(InputError, match="unknown colour map 'viridis'"):
        palette("viridis")


def test_matplotlib_maps():
    expected = np.rint(np.asarray(mpl.colormaps["viridis"](np.arange(256)))[:, :3] * 255)
    assert np.array_equal(palette("viridis"), expected)
    assert palette("mpl:hot").shape == (256, 3)
    assert not np.array_equal(palette("mpl:hot"), palette("hot"))
    assert [colormaps.is_diverging(name) for name in ("RdBu_r", "viridis", "Reds_r")] == [True, False, False]


def test_mini_language():
    table = palette("00f,80:fff,f00")
    assert np.array_equal(table, palette("bwr"))
    assert np.array_equal(table, palette("0000FF, ffffff, FF0000"))  # evenly spaced: the middle one at entry 128
    table = palette("000,40:ff0000,fff")
    assert tuple(table[0x40]) == (255, 0, 0)
    assert tuple(table[0x20]) == (128, 0, 0)
    spread = palette("20:000,111,222,e0:333")  # 32, 96, 160, 224
    assert [tuple(spread[entry]) for entry in (0, 32, 96, 160, 224, 255)] == [(17 * n,) * 3 for n in (0, 0, 1, 2, 3, 3)]


@pytest.mark.parametrize(
    ("definition", "message"),
    [
        ("00f,ggg", "'ggg'"),
        ("00f,ffff", "'ffff'"),
        ("00f,,f00", "''"),
        ("00f,8:fff,f00", "position '8'"),
        ("00f,xx:fff,f00", "position 'xx'"),
        ("80:fff", "at least two"),
        ("00f,80:fff,70:000,f00", "must increase"),
        ("00f,80:fff,80:000,f00", "must increase"),
    ],
)
def test_wrong_definitions(definition, message):
    with pytest.raises(InputError, match=message):
        palette(definition)


def test_unknown_names_get_suggestions():
    with pytest.raises(InputError, match=r"unknown colour map 'seismik'; did you mean .*'seismic'"):
        palette("seismik")
    with pytest.raises(InputError, match=r"known: .*bwr, cold, coldnhot"):
        palette("?")


def test_level():
    plain, strong, weak = palette("bwr"), palette("bwr", 2), palette("bwr", 0.5)
    assert tuple(strong[64]) == (0, 0, 255)
    assert tuple(strong[192]) == (255, 0, 0)
    assert np.array_equal(weak[0], plain[64])
    for table in (strong, weak):
        assert tuple(table[CENTRE]) == (255, 255, 255)
    assert np.all(palette("bwr", 0) == 255)
    for level in (-1, float("nan"), float("inf")):
        with pytest.raises(InputError, match="level"):
            palette("bwr", level)


def test_palettes_are_copies():
    palette("bwr")[:] = 7
    assert tuple(palette("bwr")[0]) == (0, 0, 255)


def test_entries():
    assert colormaps.entries(np.array([0, 0.5, 1, 0.25])).tolist() == [0, 128, 255, 64]
    whole = np.arange(256)
    assert np.array_equal(colormaps.entries(whole / 255), whole)


def test_fractions():
    values = np.array([-1.0, 0.0, 3.0])
    assert colormaps.fractions(values).tolist() == [0, 0.25, 1]
    assert colormaps.fractions(values, symmetric=True).tolist() == [1 / 3, 0.5, 1]
    assert colormaps.fractions(values, vmin=-0.5, vmax=0.5).tolist() == [0, 0.5, 1]
    assert colormaps.fractions(values, vmax=6, symmetric=True).tolist() == [5 / 12, 0.5, 0.75]
    assert colormaps.fractions(np.full(2, 3.0)).tolist() == [0.5, 0.5]
    assert colormaps.fractions(np.zeros(2), symmetric=True).tolist() == [0.5, 0.5]
    assert colormaps.fractions(np.zeros(2), vmin=0).tolist() == [0, 0]
    assert colormaps.fractions(np.zeros(2), vmax=-1).tolist() == [1, 1]


@pytest.mark.parametrize("size", [5e-324, 1e-300, 1.0, 1.7e308])
def test_fractions_of_extreme_sizes(size):
    assert colormaps.fractions(np.array([-size, 0, size])).tolist() == [0, 0.5, 1]
    assert colormaps.fractions(np.array([-size, 0, size]), symmetric=True).tolist() == [0, 0.5, 1]


@pytest.mark.parametrize("bounds", [(1, 1), (2, 1), (float("nan"), None), (None, float("inf"))])
def test_wrong_bounds(bounds):
    with pytest.raises(InputError, match="vmin must be below vmax"):
        colormaps.fractions(np.zeros(2), *bounds)


def test_numbers():
    assert colormaps.numbers([[True, False]]).tolist() == [[1, 0]]
    with pytest.raises(InputError, match=r"^3 of 4 values of the relevance are not finite"):
        colormaps.numbers([np.nan, np.inf, 1, -np.inf])
    for wrong, message in ((["a"], "real numbers"), ([1j], "real numbers"), ([], "no values")):
        with pytest.raises(InputError, match=message):
            colormaps.numbers(wrong)


def test_plane():
    values = np.arange(6.0).reshape(2, 3)
    for shape in ((2, 3), (1, 2, 3), (2, 3, 1), (1, 1, 2, 3), (1, 2, 3, 1)):
        assert np.array_equal(colormaps.plane(values.reshape(shape)), values)
    for shape in ((6,), (3, 2, 3), (2, 1, 2, 3)):
        with pytest.raises(InputError, match="map of shape"):
            colormaps.plane(np.zeros(shape))


@pytest.mark.parametrize(
    ("shape", "layout", "axis"),
    [
        ((2, 3, 5, 6), "auto", 1),
        ((2, 5, 6, 3), "auto", 3),
        ((2, 5, 6, 4), "auto", 3),
        ((3, 5, 3), "auto", 0),
        ((2, 7, 5, 6), "auto", 1),
        ((2, 3, 5, 6), "NHWC", 3),
        ((2, 5, 6, 3), "NCHW", 1),
    ],
)
def test_channel_sum(shape, layout, axis):
    relevance = np.random.default_rng(0).normal(size=shape).astype(np.float32)
    summed = colormaps.channel_sum(relevance, layout)
    assert summed.dtype == np.float64
    assert np.array_equal(summed, relevance.astype(np.float64).sum(axis))


def test_channel_sum_errors():
    with pytest.raises(InputError, match="channel axis"):
        colormaps.channel_sum(np.zeros((4, 4)))
    with pytest.raises(InputError, match="layout 'CHWN'"):
        colormaps.channel_sum(np.zeros((3, 4, 4)), "CHWN")


def test_robust_bound():
    relevance = np.concatenate([np.zeros(100000), -np.ones(9999), [1e6]])
    assert colormaps.robust_bound(relevance, 99.9) == 1  # one outlier among the ten thousand that carry relevance
    assert colormaps.robust_bound(relevance, 100) == 1e6
    assert colormaps.robust_bound(np.zeros(3)) == 0
    for percentile in (0, 101, float("nan")):
        with pytest.raises(InputError, match="percentile"):
            colormaps.robust_bound(relevance, percentile)


def test_relative():
    assert colormaps.relative(np.array([-4, 0, 2]), 100).tolist() == [-1, 0, 0.5]
    assert colormaps.relative(np.zeros((2, 2))).tolist() == [[0, 0], [0, 0]]
    assert np.abs(colormaps.relative(np.array([1.0] * 999 + [-1e9]), 99)).tolist() == [1] * 1000


def test_colours():
    scaled = np.array([-1, 0, 1.0])
    assert colormaps.colours(scaled, "bwr").tolist() == [[0, 0, 255], [255, 255, 255], [255, 0, 0]]
    assert colormaps.colours(scaled, "hot").tolist() == [[0, 0, 0], [0, 0, 0], [255, 255, 255]]
