"""Keras with TensorFlow, and SavedModels; in an interpreter of their own, where Keras has this backend."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
SCRIPT = """
import sys
sys.path[:0] = sys.argv[1:3]
import conftest
import numpy as np
import keras, tensorflow as tf
from frameworks import keras_nets, shake_keras
from onnx_lrp import Explainer
from onnx_lrp.converters import convert
from onnx_lrp.converters.keras import convert as convert_model
from onnx_lrp.errors import ModelError

for name in ("plain", "squeeze", "up"):
    model = shake_keras(keras_nets()[name]())
    conversion = convert_model(model)
    print(name, conversion.report.kind, conversion.report.difference < 1e-4, Explainer(conversion.model).plan.coverage)
model = shake_keras(keras_nets()["plain"]())
model.export("saved", verbose=False)
conversion = convert("saved")
print(conversion.report.kind, conversion.report.difference < 1e-4, Explainer(conversion.model).plan.coverage)

class Writer(tf.Module):
    @tf.function(input_signature=[tf.TensorSpec([None, 3], tf.float32, "x")])
    def serve(self, x):
        tf.io.write_file("run", "x")
        return {"y": x * 2}

writer = Writer()
tf.saved_model.save(writer, "writer", signatures={"serving_default": writer.serve})
try:
    convert("writer")
except ModelError as error:
    print(error)
"""


def test_tensorflow(tmp_path: Path) -> None:
    missing = [name for name in ("tensorflow", "tf2onnx", "keras") if importlib.util.find_spec(name) is None]
    if missing:
        pytest.skip(f"{' and '.join(missing)} not installed; TensorFlow is no part of the tests' environment")
    command = [sys.executable, "-c", SCRIPT, str(ROOT), str(ROOT / "tests")]
    environment = os.environ | {"KERAS_BACKEND": "tensorflow", "TF_CPP_MIN_LOG_LEVEL": "3"}
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False, cwd=tmp_path, env=environment)
    assert done.returncode == 0, done.stderr[-2000:]
    lines = done.stdout.splitlines()
    assert lines[:3] == [f"{name} Keras (with TensorFlow) True 1.0" for name in ("plain", "squeeze", "up")]
    assert lines[3] == "a SavedModel of TensorFlow True 1.0"
    assert "is a WriteFile, which does more than compute" in lines[4]
    assert not (tmp_path / "run").exists()
