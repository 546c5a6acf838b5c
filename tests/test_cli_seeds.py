"""The command line: seeds that look at other classes, and regions of dense outputs."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import onnx
import pytest
from models import build, op
from PIL import Image

import onnx_lrp

RNG = np.random.default_rng(0)
NODES = [op("Conv", "x w", "c"), op("Relu", "c", "r"), op("GlobalAveragePool", "r", "g"), op("Flatten", "g", "f"), op("Gemm", "f v", "y")]


def weights(*shape):
    return RNG.normal(size=shape).astype(np.float32)


@pytest.fixture
def photo(tmp_path):
    path = tmp_path / "photo.png"
    Image.fromarray(RNG.integers(0, 256, (20, 30, 3)).astype(np.uint8)).save(path)
    return path


@pytest.mark.parametrize("arguments", [("--seed", "contrastive"), ("--seed", "softmax_gradient", "--two-pass")])
def test_contrastive_seeds(run, photo, arguments):
    onnx.save(build(NODES, {"x": ["N", 3, 16, 16]}, constants={"w": weights(4, 3, 3, 3), "v": weights(4, 6)}), "model.onnx")
    code, _, err = run("explain", "model.onnx", photo, "-t", "1,4", *arguments, "--preprocess", "unit", "--format", "npz")
    assert (code, err) == (0, "")
    with np.load("explanations/photo_relevance.npz") as file:
        explainer = onnx_lrp.Explainer("model.onnx")
        want = explainer.explain(file["input"], [[1, 4]], arguments[1], two_pass="--two-pass" in arguments)
        np.testing.assert_allclose(file["relevance"], want.relevance, rtol=1e-4, atol=1e-6 * np.abs(want.relevance).max())


@pytest.mark.parametrize("size", [16, "side"])
def test_region_of_a_photo(run, photo, size, tmp_path):
    """A mask as large as the output or as the photo, 30 x 20, of which the model sees 16 x 16 from the middle of 24 x 16."""
    onnx.save(build([op("Conv", "x w", pads=[1] * 4)], {"x": ["N", 3, size, size]}, constants={"w": weights(4, 3, 3, 3)}), "map.onnx")
    Path("own.json").write_text(json.dumps({"resize": 16, "crop": [16, 16]}))
    Path("labels.txt").write_text("sky\nroad\ncar\ntree\n")
    left = np.zeros((16, 16), bool)
    left[:, :8] = True
    Image.fromarray(left.astype(np.uint8) * 255).save("output.png")
    Image.fromarray((np.arange(30) < 15).astype(np.uint8)[None].repeat(20, 0) * 255).save("photo_mask.png")
    np.save("output.npy", left * 3.0)
    common = ("explain", "map.onnx", photo, "--preprocess", "own.json", "-c", "epsilon", "--labels", "labels.txt")
    for file in ("output.png", "photo_mask.png", "output.npy"):
        code, out, _ = run(*common, "--region", file, "-t", "car", "--format", "npz")
        assert code == 0
        assert out.splitlines()[1] == "  * car 2 at 128 of 256 places"
        with np.load("explanations/photo_relevance.npz") as found:
            want = onnx_lrp.explain("map.onnx", found["input"], onnx_lrp.Region(left, 2), composite="epsilon")
            np.testing.assert_array_equal(found["relevance"], want.relevance)
            np.testing.assert_array_equal(found["target"][0], np.where(left, 2, -1))
    code, out, _ = run(*common, "--region", "output.png")
    assert code == 0
    assert sum(int(count) for count in re.findall(r"at (\d+) of 256", out)) == 128
    assert Path("explanations/photo_relevance.png").exists()


def test_region_with_a_method_of_several_runs(run, tmp_path):
    onnx.save(build([op("Conv", "x w", pads=[1] * 4)], {"x": ["N", 3, 6, 7]}, constants={"w": weights(4, 3, 3, 3)}), "map.onnx")
    x, mask = weights(2, 3, 6, 7), np.eye(6, 7)
    np.save("x.npy", x)
    np.save("mask.npy", mask)
    code, out, _ = run("explain", "map.onnx", "x.npy", "-c", "integrated_gradients", "--steps", 2, "--region", "mask.npy", "-t", 1)
    assert code == 0
    assert out.count("class 1 at 6 of 42 places") == 2
    with np.load("explanations/x_relevance.npz") as found:
        want = onnx_lrp.integrated_gradients("map.onnx", x, onnx_lrp.Region(mask > 0, 1), steps=2)
        np.testing.assert_allclose(found["relevance"], want.relevance, rtol=1e-5, atol=1e-7)
