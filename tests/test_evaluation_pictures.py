"""Pictures of pixel flipping: what is drawn is what was measured."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from matplotlib.colors import same_color
from PIL import Image
from test_cli_evaluate import IMAGES, LABELS, MODEL

from onnx_lrp import InputError
from onnx_lrp.evaluation import Flipping, PixelFlipping, Randomisation
from onnx_lrp.evaluation.pictures import curves_figure, flipping_figure, flipping_sheet, flips_figure, heatmap_sheet, randomisation_figure

ROOT = Path(__file__).resolve().parents[1]
RNG = np.random.default_rng(2)


def flipping(order: str = "most_relevant_first", samples: int = 5) -> Flipping:
    return Flipping(RNG.standard_normal((samples, 4)), np.array([0, 1, 4, 6]), 6, np.zeros(samples, np.int64), order)


def test_every_curve_and_their_mean_are_drawn(tmp_path: Path) -> None:
    run = flipping()
    (axes,) = flipping_figure(run).axes
    *each, mean = axes.lines
    np.testing.assert_array_equal([line.get_ydata() for line in each], run.scores)
    np.testing.assert_array_equal(mean.get_ydata(), run.mean)
    assert f"area {run.auc:.4g}" in mean.get_label()
    assert len(axes.collections) == 1  # the filled area
    assert axes.get_title("left") == "most relevant first"
    assert len(flipping_figure(flipping(samples=1000)).axes[0].lines) == 201
    run.plot(tmp_path / "run.png", "a title")
    with Image.open(tmp_path / "run.png") as picture:
        assert picture.width > 500


def test_groups_share_a_colour_and_orders_differ_by_dashes() -> None:
    runs = {"a most": flipping(), "a least": flipping("least_relevant_first"), "b most": flipping(), "any": flipping("random")}
    figure = curves_figure(runs, "title", {"a most": "a", "a least": "a", "b most": "b", "any": None})
    lines = figure.axes[0].lines
    for line, run in zip(lines, runs.values(), strict=True):
        np.testing.assert_allclose(line.get_ydata(), run.mean)
    assert [line.get_linestyle() for line in lines] == ["-", "--", "-", ":"]
    assert same_color(lines[0].get_color(), lines[1].get_color())
    assert len({line.get_color() for line in lines}) == 3
    for band, run in zip(figure.axes[0].collections, runs.values(), strict=True):
        error = run.scores.std(0) / np.sqrt(5)
        heights = band.get_paths()[0].vertices[:, 1]
        assert heights.max() == pytest.approx((run.mean + error).max())
        assert heights.min() == pytest.approx((run.mean - error).min())
    with pytest.raises(InputError, match="no curves"):
        curves_figure({})


def test_bars_are_the_regions_of_each_step() -> None:
    bars = flips_figure(flipping()).axes[0].patches
    assert [bar.get_height() for bar in bars] == [1, 3, 2]


def test_likeness_starts_at_one_and_skips_what_is_not_known() -> None:
    ranks = np.array([[0.5, 0.7], [np.nan, 0.1]])
    test = Randomisation(["last", "$first_"], ranks, ranks / 2, np.zeros((2, 2)))
    lines = randomisation_figure(test).axes[0].lines
    np.testing.assert_allclose(lines[0].get_ydata(), [1, 0.6, 0.1])
    np.testing.assert_allclose(lines[1].get_ydata(), [1, 0.3, 0.05])


def test_the_sheet_shows_the_samples_and_what_is_perturbed() -> None:
    x = IMAGES[:2]
    relevance = RNG.standard_normal(x.shape)
    steps = list(PixelFlipping(MODEL, 4, perturbation=0.0, providers="cpu").steps_of(x, relevance, LABELS[:2].astype(int)))
    sheet = flipping_sheet(iter(steps), relevance, (1, 4))
    cells = 140
    pixels = np.asarray(sheet.convert("RGB")).astype(int)
    assert sheet.width > 6 * cells
    assert sheet.height > 2 * cells
    black, red = (pixels == 0).all(2), (pixels[..., 0] - pixels[..., 2]) > 100
    assert red.any()
    last = pixels[:, -cells - 20 : -20]  # everything is perturbed: white
    assert (last > 240).mean() > 0.9
    before = black[:, -2 * cells - 40 : -cells - 40]  # and black
    assert before.mean() > 0.6


def test_signals_are_no_sheet() -> None:
    class Done:
        step, samples, masks, scores = 0, np.zeros((1, 9)), np.zeros((1, 9), bool), np.zeros(1)

    with pytest.raises(InputError, match="images"):
        flipping_sheet([Done()], np.zeros((1, 9)), (), channel_axis=None)


def test_blue_comes_first_where_it_is_said() -> None:
    class Done:
        step, scores = 0, np.zeros(1)
        samples = np.zeros((1, 3, 8, 8), np.float32)
        masks = np.zeros((1, 1, 8, 8), bool)

    Done.samples[:, 0, :, :4] = 1
    colours: list[Any] = []
    for bgr in (False, True):
        pixels = np.asarray(flipping_sheet([Done()], np.zeros((1, 3, 8, 8)), (), bgr=bgr).convert("RGB"))
        colours.append(((pixels == (255, 0, 0)).all(2).sum(), (pixels == (0, 0, 255)).all(2).sum()))
    assert colours[0][0] == colours[1][1] > 1000
    assert colours[0][1] == colours[1][0] == 0


def test_a_column_for_each_method() -> None:
    pictures = [Image.new("L", (16, 16)) for _ in range(3)]
    one, two = (heatmap_sheet(pictures, {name: RNG.standard_normal((3, 16, 16)) for name in names}) for names in ("a", "ab"))
    assert one.width < two.width
    assert one.height == two.height


def test_the_example_runs(tmp_path: Path) -> None:
    command = [sys.executable, str(ROOT / "examples" / "evaluation.py"), "-o", str(tmp_path / "out")]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)
    assert (done.returncode, done.stderr) == (0, "")
    rows = re.findall(r"^(.{20})((?: +-?\d+\.\d+)+)$", done.stdout, re.MULTILINE)
    found = {name.strip(): [float(number) for number in numbers.split()] for name, numbers in rows}
    for name in ("epsilon_plus_flat", "gamma", "epsilon"):
        assert found[name][0] < found["random order"][0]
        assert found[name][2] > found["relevance at random"][2]
    for name in ("curves.png", "flipped.png"):
        with Image.open(tmp_path / "out" / name) as picture:
            assert picture.width > 600
