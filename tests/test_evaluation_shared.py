"""Pixel flipping on trained networks: the curves come in the order in which they must."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from lrp_toolbox import read_net

from onnx_lrp import Explainer
from onnx_lrp.evaluation import PixelFlipping, abpc
from onnx_lrp.preprocess import find

ORDERS = ("most_relevant_first", "random", "least_relevant_first")


def curves(model: Any, x: Any, relevance: Any, target: Any, **options: Any) -> list[Any]:
    return [PixelFlipping(model, order=order, providers="cpu", threads=1, **options).run(x, relevance, target) for order in ORDERS]


@pytest.fixture(scope="module")
def digits(shared_data: Path) -> tuple[Any, Any, Any]:
    model = read_net(shared_data / "lrp_toolbox" / "LeNet-5.txt", (32, 32, 1))
    with np.load(shared_data / "mnist" / "test_first500.npz") as file:
        x, y = file["X"][:100].astype(np.float32) / np.float32(127.5) - 1, file["y"][:100].astype(int)
    return model, np.pad(x, ((0, 0), (2, 2), (2, 2)), constant_values=-1)[..., None], y


@pytest.mark.parametrize("perturbation", ["random", "mean", -1.0])
def test_order_on_digits(digits: Any, perturbation: Any) -> None:
    model, x, y = digits
    relevance = Explainer(model, "epsilon_plus_flat", providers="cpu", threads=1).explain(x, y).relevance
    options = {"patch": 2, "perturbation": perturbation}
    most, random, least = curves(model, x, relevance, y, **options)
    assert most.auc < 0.8 * random.auc
    assert random.auc < 0.8 * least.auc
    again = curves(model, x, relevance, y, **options)
    for run, other in zip((most, random, least), again, strict=True):
        np.testing.assert_array_equal(run.scores, other.scores)


def test_random_relevance_is_a_random_order(digits: Any) -> None:
    model, x, y = digits
    relevance = Explainer(model, "epsilon_plus_flat", providers="cpu", threads=1).explain(x, y).relevance
    noise = np.random.default_rng(0).standard_normal(x.shape)
    options = {"patch": 2, "perturbation": "random"}
    most, random, least = curves(model, x, relevance, y, **options)
    by_noise = curves(model, x, noise, y, **options)
    margin = least.auc - most.auc
    for run in by_noise:
        assert abs(run.auc - random.auc) < 0.05 * margin
    assert abs(abpc(by_noise[2], by_noise[0])) < 0.05 * abpc(least, most)


def test_order_on_photos(shared_data: Path) -> None:
    pytest.importorskip("cv2", reason="inpainting needs OpenCV")
    folder = shared_data / "squeezenet"
    preprocess = find("caffe").fit((1, 3, 224, 224))
    x = np.concatenate([preprocess(preprocess.load(folder / name)) for name in ("cat.jpg", "dog.jpg", "pelican.jpeg", "castle.jpg")])
    model = folder / "squeezenet_fp16.onnx"
    relevance = Explainer(model, "epsilon_plus_flat", providers="cpu", threads=1).explain(x).relevance
    most, random, least = curves(model, x, relevance, None, patch=32)
    assert most.target.tolist()[:3] == [285, 207, 144]
    assert most.auc < 0.85 * random.auc
    assert random.auc < 0.95 * least.auc
