"""Figures of relevance."""

from __future__ import annotations

import sys

import numpy as np
import pytest
from matplotlib.collections import LineCollection
from matplotlib.colors import to_rgba
from matplotlib.figure import Figure
from PIL import Image

from onnx_lrp.errors import InputError
from onnx_lrp.plot import SIGNAL_CMAP, plot_image, plot_signal, plot_tabular, save_figure

RNG = np.random.default_rng(0)


def lines(figure):
    found = [[one for one in axes.collections if isinstance(one, LineCollection)] for axes in figure.axes[:-1]]
    assert all(len(one) == 1 for one in found)
    return [one[0] for one in found]


def texts(figure):
    figure.draw_without_rendering()
    return [label.get_text() for label in figure.axes[0].get_yticklabels()]


def test_signal_has_a_piece_of_line_between_samples():
    signal, relevance = RNG.normal(size=(2, 3, 50))
    figure = plot_signal(signal, relevance, ["a", "b", "c $x$"], "title")
    assert isinstance(figure, Figure)
    assert len(figure.axes) == 4  # three channels and the colour bar
    for line, height, score in zip(lines(figure), signal, relevance, strict=True):
        segments = np.array(line.get_segments())
        assert segments.shape == (49, 2, 2)
        assert np.allclose(segments[:, 0, 1], height[:-1])
        assert np.allclose(segments[:, 1, 1], height[1:])
        assert segments[:, 0, 0].tolist() == list(range(49))
        assert np.allclose(line.get_array(), (score[:-1] + score[1:]) / 2)
    assert [axes.get_ylabel() for axes in figure.axes[:3]] == ["a", "b", r"c \$x\$"]
    figure.draw_without_rendering()


def test_signal_colours_are_symmetric_and_shared():
    relevance = np.array([[0.0, 0, 0, 0], [1, 1, 1, 1], [-4, -4, -4, -4]])
    figure = plot_signal(np.ones((3, 4)), relevance, percentile=100)
    figure.draw_without_rendering()
    for line, colour in zip(lines(figure), ("c9ccd1", None, "0a4bd6"), strict=True):
        assert (line.norm.vmin, line.norm.vmax) == (-4, 4)
        if colour is not None:
            assert np.allclose(line.get_edgecolor(), to_rgba(f"#{colour}"))
    assert f",80:{'c9ccd1'}," in SIGNAL_CMAP


def test_signal_shapes():
    for shape in ((9,), (1, 9), (1, 1, 9)):
        figure = plot_signal(np.zeros(shape), np.zeros(shape))
        assert len(lines(figure)) == 1
        figure.draw_without_rendering()
    figure = plot_signal(np.zeros(3), np.zeros(3), times=[0, 0.5, 1])
    assert np.array(lines(figure)[0].get_segments())[:, 1, 0].tolist() == [0.5, 1]
    assert figure.axes[0].get_xlabel() == "time"


def test_many_channels():
    signal = RNG.normal(size=(40, 20))
    figure = plot_signal(signal, signal, [f"channel {index}" for index in range(40)])
    assert len(lines(figure)) == 40
    assert len(figure.axes[0].get_yticks()) == 0
    figure.draw_without_rendering()


def test_signal_with_a_one_sided_map_starts_at_zero():
    figure = plot_signal(np.arange(3), np.array([-1, 0, 2]), cmap="viridis", percentile=100)
    assert (lines(figure)[0].norm.vmin, lines(figure)[0].norm.vmax) == (0, 2)


@pytest.mark.parametrize(
    ("signal", "relevance", "options", "message"),
    [
        (np.zeros((2, 5)), np.zeros((5, 2)), {}, "shape"),
        (np.zeros(1), np.zeros(1), {}, "at least 2 samples"),
        (np.zeros((2, 2, 5)), np.zeros((2, 2, 5)), {}, "at least 2 samples"),
        (np.zeros(5), np.zeros(5), {"names": ["a", "b"]}, "2 names for 1 channels"),
        (np.zeros(5), np.zeros(5), {"times": [1, 2]}, "times"),
        (np.zeros(5), np.array([0, 0, np.nan, 0, 0]), {}, "1 of 5 values of the relevance"),
        (np.array([0, np.inf]), np.zeros(2), {}, "1 of 2 values of the signal"),
        (np.zeros(5), np.zeros(5), {"cmap": "bwrx"}, "unknown colour map"),
    ],
)
def test_signal_errors(signal, relevance, options, message):
    with pytest.raises(InputError, match=message):
        plot_signal(signal, relevance, **options)


def test_tabular_sorts_by_absolute_relevance():
    figure = plot_tabular([1.0, 2.5, "red", 40000.0], [0.1, -3, 2, 0], ["a", "b", "c", "$d$ $"])
    axes = figure.axes[0]
    assert [bar.get_width() for bar in axes.patches] == [-3, 2, 0.1, 0]
    assert texts(figure) == ["b = 2.5", "c = red", "a = 1", r"\$d\$ \$ = 40000"]
    colours = [bar.get_facecolor() for bar in axes.patches]
    assert colours[0][2] > colours[0][0]  # blue
    for red in (1, 2):
        assert colours[red][0] > colours[red][2]
    bottom, top = axes.get_ylim()
    assert bottom > top  # the first bar is at the top
    low, high = axes.get_xlim()
    assert low < -3
    assert high > 2
    assert [label.get_text() for label in axes.texts] == ["−3", "+2", "+0.1", "0"]


def test_tabular_top():
    relevance = RNG.normal(size=(1, 30))
    figure = plot_tabular(relevance * 2, relevance, top=7, title="title")
    order = np.argsort(-np.abs(relevance[0]))
    assert [bar.get_width() for bar in figure.axes[0].patches] == relevance[0][order[:7]].tolist()
    assert texts(figure)[0].startswith(f"feature {order[0]} = ")
    rest = f"{relevance[0][order[7:]].sum():+.3g}".replace("-", "−")
    assert f"23 more features with {rest} in sum" in figure.axes[0].get_xlabel()
    assert figure.get_suptitle() == "title"


def test_tabular_without_values_and_with_ties():
    figure = plot_tabular(None, np.ones(3))
    assert texts(figure) == ["feature 0", "feature 1", "feature 2"]
    figure = plot_tabular(None, np.zeros(2), ["x" * 99, "y"])
    assert texts(figure)[0] == "x" * 47 + "…"


@pytest.mark.parametrize(
    ("values", "relevance", "options", "message"),
    [
        ([1], [1, 2], {}, "1 values for the relevance of 2"),
        ([1, 2], [1, 2], {"names": ["a"]}, "1 names for the relevance of 2"),
        ([1, 2], [1, 2], {"top": 0}, "top"),
        ([1, 2], [[1, 2], [3, 4]], {}, "shape"),
        ([1, 2], [1, np.nan], {}, "1 of 2 values"),
    ],
)
def test_tabular_errors(values, relevance, options, message):
    with pytest.raises(InputError, match=message):
        plot_tabular(values, relevance, **options)


def test_image():
    relevance = RNG.normal(size=(8, 12))
    figure = plot_image(None, relevance, "title")
    (axes,) = figure.axes
    assert np.array_equal(axes.images[0].get_array(), relevance)
    assert axes.images[0].norm.vmin == -axes.images[0].norm.vmax
    assert len(axes.child_axes) == 1  # the colour bar
    photo = RNG.integers(0, 256, (16, 24, 3), dtype=np.uint8)
    for given in (photo, Image.fromarray(photo)):
        figure = plot_image(given, relevance)
        assert [axes.get_title() for axes in figure.axes] == ["photo", "overlay", "relevance"]
        assert np.array_equal(figure.axes[0].images[0].get_array(), photo)
        assert figure.axes[1].images[0].get_array().shape == (16, 24, 3)
        figure.draw_without_rendering()


def test_image_of_zeros():
    figure = plot_image(None, np.zeros((4, 4)))
    figure.draw_without_rendering()
    pixels = figure.axes[0].images[0]
    assert np.allclose(pixels.cmap(pixels.norm(0.0)), 1)


@pytest.mark.parametrize("suffix", [".png", ".svg", ".pdf", ".PNG"])
def test_save_figure(tmp_path, suffix):
    path = tmp_path / f"figure{suffix}"
    save_figure(plot_tabular([1, 2], [1, -2]), path)
    assert [file.name for file in tmp_path.iterdir()] == [path.name]
    start = {".png": b"\x89PNG", ".svg": b"<?xml", ".pdf": b"%PDF"}[suffix.lower()]
    assert path.read_bytes().startswith(start)


def test_failed_figures_leave_the_old_file(tmp_path, monkeypatch):
    path = tmp_path / "figure.png"
    path.write_bytes(b"old")
    figure = plot_tabular([1, 2], [1, -2])
    with pytest.raises(InputError, match="suffix"):
        save_figure(figure, tmp_path / "figure.xyz")

    def fail(file, **options):
        file.write(b"half")
        raise OSError("disk full")

    monkeypatch.setattr(figure, "savefig", fail)
    with pytest.raises(OSError, match="disk full"):
        save_figure(figure, path)
    assert [file.name for file in tmp_path.iterdir()] == ["figure.png"]
    assert path.read_bytes() == b"old"


def test_no_pyplot():
    before = "matplotlib.pyplot" in sys.modules
    plot_tabular([1], [1])
    assert ("matplotlib.pyplot" in sys.modules) == before
