"""The demonstration network: the script that trains it, and the two files of it in the package."""

import importlib.util
import os
import subprocess
import sys
from collections import Counter
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest

ROOT = Path(__file__).resolve().parents[1]
DEMO = ROOT / "onnx_lrp" / "demo"
LIMIT = 300_000  # bytes of the network's file


def run_script(output: Path, *options: str) -> subprocess.CompletedProcess[str]:
    """The script in its own interpreter; the test skips without its two libraries, except in CI, which has to have them."""
    missing = [name for name in ("torch", "sklearn") if importlib.util.find_spec(name) is None]
    if missing and os.environ.get("CI") == "true":
        pytest.fail(f"CI must run this test: {' and '.join(missing)} not installed")
    if missing:
        pytest.skip(f"{' and '.join(missing)} not installed")
    command = [sys.executable, str(ROOT / "examples" / "train_digits.py"), "--output", str(output), *options]
    return subprocess.run(command, capture_output=True, text=True, timeout=600, check=False)


def check_network(path: Path) -> None:
    """The nodes, interface and size promised for digits.onnx."""
    assert path.stat().st_size < LIMIT
    model = onnx.load(path)
    onnx.checker.check_model(model, full_check=True)
    kinds = Counter(node.op_type for node in model.graph.node)
    expected = {"Add": 1, "Concat": 1, "BatchNormalization": 6, "Conv": 6, "MaxPool": 1, "GlobalAveragePool": 1, "Gemm": 1}
    assert {kind: kinds[kind] for kind in expected} == expected
    assert kinds["Relu"] >= 5
    assert "Softmax" not in kinds
    (image,), (logits,) = model.graph.input, model.graph.output
    shapes = [[dim.dim_param or dim.dim_value for dim in value.type.tensor_type.shape.dim] for value in (image, logits)]
    assert (image.name, logits.name) == ("image", "logits")
    assert shapes == [["N", 1, 16, 16], ["N", 10]]


def check_digits(path: Path) -> tuple[np.ndarray, np.ndarray]:
    """The images and labels of digits.npz, once they are as promised."""
    with np.load(path) as file:
        images, labels, names = file["images"], file["labels"], file["names"]
        assert "CC BY 4.0" in str(file["source"])
    assert (images.dtype, images.shape) == (np.float32, (12, 1, 16, 16))
    assert (labels.dtype, labels.shape) == (np.int64, (12,))
    assert set(labels.tolist()) == set(range(10))
    assert names.tolist() == [str(digit) for digit in range(10)]
    assert images.min() == 0
    assert 0.9 < images.max() <= 1
    assert len(np.unique(images.reshape(12, -1), axis=0)) == 12
    return images, labels


def predict(path: Path, images: np.ndarray) -> np.ndarray:
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    return session.run(["logits"], {"image": images})[0]


def test_script_writes_network_and_digits(tmp_path):
    output = tmp_path / "made" / "by the script"
    done = run_script(output, "--epochs", "2", "--min-accuracy", "0")
    assert done.returncode == 0, done.stderr
    assert sorted(path.name for path in output.iterdir()) == ["digits.npz", "digits.onnx"]
    assert "parameters" in done.stdout
    assert "accuracy on 360 test digits" in done.stdout
    assert "accuracy of the ONNX file" in done.stdout
    check_network(output / "digits.onnx")
    images, _ = check_digits(output / "digits.npz")
    assert predict(output / "digits.onnx", images).shape == (12, 10)


def test_script_writes_nothing_when_accuracy_is_too_low(tmp_path):
    done = run_script(tmp_path, "--epochs", "1", "--min-accuracy", "0.999")
    assert done.returncode == 1
    assert "nothing written" in done.stderr
    assert list(tmp_path.iterdir()) == []


def test_packaged_network_recognizes_packaged_digits():
    check_network(DEMO / "digits.onnx")
    images, labels = check_digits(DEMO / "digits.npz")
    logits = predict(DEMO / "digits.onnx", images)
    assert logits.argmax(axis=1).tolist() == labels.tolist()
    one_by_one = np.concatenate([predict(DEMO / "digits.onnx", image[None]) for image in images])
    np.testing.assert_allclose(one_by_one, logits, atol=1e-4)
    assert np.abs(logits.sum(axis=1) - 1).min() > 1e-3, "the outputs are logits, not probabilities"
