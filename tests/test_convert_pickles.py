"""Pickled models of lrp_toolbox: read in every protocol, and never run."""

from __future__ import annotations

import io
import pickle
import sys
import types
from pathlib import Path

import numpy as np
import pytest
from toolbox_models import same_layers, sample_layers

import onnx_lrp
from onnx_lrp.converters import convert
from onnx_lrp.converters.lrp_toolbox import read
from onnx_lrp.converters.lrp_toolbox.layers import Linear


def as_pickle(protocol: int) -> tuple[bytes, list]:
    """A model as lrp_toolbox writes it, with classes of the same names in modules of the same names."""
    layers = sample_layers()
    kinds = {
        name: type(name, (), {})
        for name in ("Sequential", "Convolution", "Rect", "MaxPool", "SumPool", "Flatten", "Linear", "Tanh", "SoftMax")
    }
    made = {}
    try:
        for name, kind in kinds.items():
            module = types.ModuleType(f"modules.{name.lower()}")
            setattr(module, name, kind)
            kind.__module__, kind.__qualname__ = module.__name__, name
            sys.modules[module.__name__] = made[name] = module
        sys.modules["modules"] = types.ModuleType("modules")
        root = kinds["Sequential"]()
        root.lrp_var, root.lrp_param, root.modules = None, 1.0, []
        for layer in layers:
            module = kinds[type(layer).__name__]()
            names = {"weight": "W", "bias": "B"}
            vars(module).update(
                {names.get(name, name): value for name, value in vars(layer).items() if name != "same"}, Y=None, lrp_aware=False
            )
            if isinstance(layer, Linear):
                module.m, module.n = np.int64(layer.weight.shape[0]), layer.weight.shape[1]
            root.modules.append(module)
        return pickle.dumps(root, protocol), layers
    finally:
        for name in ("modules", *(f"modules.{kind.lower()}" for kind in kinds)):
            sys.modules.pop(name, None)


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
def test_pickles_of_python_3(tmp_path, protocol) -> None:
    data, layers = as_pickle(protocol)
    path = tmp_path / "model.pickled"
    path.write_bytes(data)
    kind, found = read(path)
    assert kind == "pickle"
    assert same_layers(found, layers)
    assert convert(path, input_size=(7, 8, 2)).report.kind == "lrp_toolbox (pickle)"


class Runs:
    """Pickles to a call that leaves a trace."""

    def __init__(self, function, *arguments):
        self.call = function, arguments

    def __reduce__(self):
        return self.call


@pytest.mark.parametrize(
    ("value", "named"),
    [
        (lambda trace: Runs(Path.touch, trace), "refers to"),
        (lambda trace: Runs(exec, f"open({str(trace)!r}, 'w')"), ".exec, which no lrp_toolbox model needs"),
        (lambda trace: Runs(eval, f"open({str(trace)!r}, 'w')"), ".eval, which no lrp_toolbox model needs"),
        (lambda _: io.BytesIO(b"x"), "_io.BytesIO, which no lrp_toolbox model needs"),
        (lambda _: np.array([{"a": 1}], object), "an array that is not of numbers"),
    ],
)
@pytest.mark.parametrize("protocol", [2, 4, 5])
def test_pickles_that_would_run_code_are_refused(tmp_path, value, named, protocol) -> None:
    trace, path = tmp_path / "trace", tmp_path / "x.nn"
    path.write_bytes(pickle.dumps({"modules": "Sequential", "x": value(trace)}, protocol))
    with pytest.raises(onnx_lrp.errors.ModelError, match="nothing of the file was run") as caught:
        read(path)
    assert named in str(caught.value)
    assert not trace.exists()


HOSTILE = {
    "memo": b"\x80\x02Nr\xff\xff\xff\x7f.",  # a place in the memo that would need 16 GB as a list
    "long": b"\x80\x04\x8e" + (2**40).to_bytes(8, "little") + b"x.",
    "bytearray": b"\x80\x05\x96" + (2**40).to_bytes(8, "little") + b"x.",
    "deep": b"\x80\x02" + b"]" * 200_000 + b"a" * 199_999 + b".",
    "deep key": b"\x80\x02}" + b"N" + b"\x85" * 200_000 + b"Ns.",
    "twice": b"\x80\x02]q\x00" + b"(h\x00h\x00e" * 1000 + b".",
    "no end": b"\x80\x02N",
    "shape": b"\x80\x02cnumpy._core.numeric\n_frombuffer\n(C\x00cnumpy\ndtype\nU\x02f8\x85R\x8a\x06\x00\x00\x00\x00\x00\x01\x85U\x01CtR.",
    "empty": b"\x80\x02",
}


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_pickles(tmp_path, name) -> None:
    (tmp_path / "x.nn").write_bytes(HOSTILE[name])
    with pytest.raises(onnx_lrp.errors.ModelError, match=r"x\.nn"):
        read(tmp_path / "x.nn")
