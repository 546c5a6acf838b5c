"""The command line: relevance layer by layer, and HDF5 files."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import onnx_lrp

DEMO = Path(onnx_lrp.__file__).parent / "demo"
COMMON = ("explain", DEMO / "digits.onnx", "digit.npy", "--threads", 1)


@pytest.fixture
def digit(run):
    """One digit in the folder of the command line."""
    np.save("digit.npy", np.load(DEMO / "digits.npz")["images"][:1])


def files(folder):
    return sorted(file.name for file in Path(folder).iterdir())


def table(out):
    """The first table that was printed, line by line."""
    return re.search(r"^    tensor .*\n(?:    [^-].*\n)*", out, re.MULTILINE)[0].splitlines()


def test_layers(run, digit):
    code, out, _ = run(*COMMON, "--layers", "-o", "one")
    assert code == 0
    recorded = onnx_lrp.Explainer(DEMO / "digits.onnx", record="all", providers="cpu", threads=1).explain(np.load("digit.npy"))
    assert [line[4:] for line in table(out)] == str(recorded.summary()).splitlines()
    assert files("one") == ["digit_layers.png", "digit_relevance.npz", "digit_relevance.png"]
    with np.load("one/digit_relevance.npz") as file:
        assert [name for name in file if name.startswith("relevance")] == ["relevance"]
    with Image.open("one/digit_layers.png") as picture:
        assert picture.width > 900


def test_layers_of_several_targets_and_recorded_ones(run, digit):
    code, out, _ = run(*COMMON, "--layers", "--record", "/Relu_[23]", "-t", "3,1", "-o", "two")
    assert code == 0
    assert [line.split()[0] for line in table(out)] == ["tensor", "image", "/Relu_2_output_0", "/Relu_3_output_0"]
    assert re.findall(r"^    class (\d), score .*\n    tensor ", out, re.MULTILINE) == ["3", "1"]
    kinds = ["layers", "relevance", "Relu_2_output_0_relevance", "Relu_3_output_0_relevance"]
    assert files("two") == sorted(["digit_relevance.npz", *(f"digit_{target}_{kind}.png" for target in (1, 3) for kind in kinds)])


def test_layers_without_pictures(run, digit):
    assert run(*COMMON, "--layers", "--format", "npz", "-o", "bare")[0] == 0
    assert files("bare") == ["digit_relevance.npz"]


def test_hdf5(run):
    h5py = pytest.importorskip("h5py")
    np.save("many.npy", np.tile(np.load(DEMO / "digits.npz")["images"], (2, 1, 1, 1))[:18])  # more than are explained at once
    code, out, _ = run("explain", DEMO / "digits.onnx", "many.npy", "--format", "h5,npz", "--record", "/Add", "-o", "many")
    assert code == 0
    assert out.count("many_relevance.h5") == 1
    assert files("many") == ["many_relevance.h5", "many_relevance.npz"]
    with np.load("many/many_relevance.npz") as arrays, h5py.File("many/many_relevance.h5") as file:
        assert list(file) == [name.replace("/", "%2F") for name in arrays]
        assert file["attribution"].shape == (18, 1, 16, 16)
        for name in ("attribution", "relevance:/Add", "prediction", "label"):
            np.testing.assert_array_equal(file[name.replace("/", "%2F")][()], arrays[name])
