"""Explanations in TensorBoard: what is logged to a writer."""

from __future__ import annotations

import numpy as np
import pytest
from models import build, op

import onnx_lrp
from onnx_lrp.colormaps import channel_sum
from onnx_lrp.image import heatmap


class Recorder:
    """A writer that keeps what it is given, by method."""

    def __init__(self):
        self.images, self.histograms, self.scalars = {}, {}, {}

    def add_image(self, tag, image, step, dataformats="CHW"):
        self.images[tag] = (image, step, dataformats)

    def add_histogram(self, tag, values, step):
        self.histograms[tag] = (values, step)

    def add_scalar(self, tag, value, step):
        self.scalars[tag] = (value, step)


def weights(*shape, seed=0):
    return np.random.default_rng([seed, *shape]).normal(size=shape).astype(np.float32)


def explain(samples=3, targets=None):
    nodes = [op("Conv", "x u", "/block/conv"), op("Relu", "/block/conv", "r"), op("GlobalAveragePool", "r", "g"), op("Flatten", "g", "f")]
    constants = {"u": weights(5, 3, 3, 3), "w": weights(5, 4)}
    model = build([*nodes, op("Gemm", "f w", "y")], {"x": ["N", 3, 16, 20]}, constants=constants)
    explainer = onnx_lrp.Explainer(model, "epsilon", record=["/block/*", "f"], providers="cpu", threads=1)
    return explainer.explain(weights(samples, 3, 16, 20), targets)


def test_what_is_logged():
    explanation, writer = explain(), Recorder()
    explanation.to_tensorboard(writer, step=7)
    assert list(writer.histograms) == ["relevance/x", "relevance/block/conv", "relevance/f"]
    for (values, step), relevance in zip(writer.histograms.values(), explanation.relevances.values(), strict=True):
        np.testing.assert_array_equal(values, relevance.reshape(-1))
        assert step == 7
    assert list(writer.images) == ["relevance/x", "relevance/block/conv"]  # f has no height and width
    image, step, layout = writer.images["relevance/block/conv"]
    assert (step, layout, image.dtype) == (7, "HWC", np.uint8)
    height, width = 14 * 7, 18 * 7  # enlarged to about 128 pixels
    assert image.shape == (height, 3 * (width + 2), 3)
    second = np.asarray(heatmap(channel_sum(explanation.relevances["/block/conv"][1], "NCHW"), size=(width, height)))
    np.testing.assert_array_equal(image[:, width + 2 : 2 * width + 2], second)
    rows = {row["name"]: row for row in explanation.summary().rows()}
    assert writer.scalars["relevance/f/sum"] == (rows["f"]["sum"], 7)
    assert len(writer.scalars) == 4 * 3


def test_targets_beside_each_other_and_at_most_sixteen_maps():
    writer = Recorder()
    explain(2, [[0, 1, 2], [1, 2, 3]]).to_tensorboard(writer, tag="several")
    assert writer.images["several/x"][0].shape[1] == 6 * (6 * 20 + 2)
    explain(20).to_tensorboard(writer, tag="many")
    assert writer.images["many/x"][0].shape[1] == 16 * (6 * 20 + 2)
    assert len(writer.histograms["many/x"][0]) == 20 * 3 * 16 * 20


def test_figures_that_are_not_there_are_not_logged():
    explanation, writer = explain(), Recorder()
    explanation.with_relevances({"x": np.zeros((3, 3, 16, 20), np.float32)}).to_tensorboard(writer)
    assert writer.scalars == {"relevance/x/sum": (0.0, 0), "relevance/x/largest": (0.0, 0)}


def test_no_writer():
    with pytest.raises(onnx_lrp.InputError, match="a dict is no SummaryWriter: it has no add_image"):
        explain().to_tensorboard({})


def test_a_real_writer(tmp_path):
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    tensorboard = pytest.importorskip("torch.utils.tensorboard")
    with tensorboard.SummaryWriter(str(tmp_path)) as writer:
        explain().to_tensorboard(writer, step=2)
    events = EventAccumulator(str(tmp_path)).Reload()
    assert sorted(events.Tags()["images"]) == ["relevance/block/conv", "relevance/x"]
    assert sorted(events.Tags()["histograms"]) == ["relevance/block/conv", "relevance/f", "relevance/x"]
    assert [event.step for event in events.Scalars("relevance/x/sum")] == [2]
