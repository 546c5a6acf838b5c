"""Weights read beside protobuf are those that protobuf reads, and damage is seen."""

from __future__ import annotations

import io

import numpy as np
import onnx
import pytest
from models import build, op
from onnx import ModelProto, numpy_helper

from onnx_lrp import ModelError
from onnx_lrp.graph import read_graph
from onnx_lrp.graph.weights import LARGE, parse_model

RNG = np.random.default_rng(5)
WEIGHTS = {"large": RNG.standard_normal((40, 50)), "small": RNG.standard_normal(50), "edge": RNG.standard_normal((1, LARGE // 4))}


def model() -> ModelProto:
    nodes = [op("Gemm", "x large small", "h"), op("Slice", "edge zero end axis", "part"), op("Mul", "h part", "y")]
    return build(nodes, {"x": ("N", 40)}, constants=WEIGHTS | {"zero": np.array([0]), "end": np.array([50]), "axis": np.array([1])})


def parsed(data: bytes) -> ModelProto:
    """What parse_model gives, its weights put back."""
    light, raw = parse_model(io.BytesIO(data), len(data))
    for index, array in raw.items():
        assert not light.graph.initializer[index].HasField("raw_data")
        light.graph.initializer[index].raw_data = array.tobytes()
    return light


def test_same_as_protobuf() -> None:
    data = model().SerializeToString()
    assert parsed(data) == onnx.load_from_string(data)
    light, raw = parse_model(io.BytesIO(data), len(data))
    names = [tensor.name for tensor in light.graph.initializer]
    assert {names[index] for index in raw} == {"large", "edge"}
    assert all(array.ctypes.data % 16 == 0 for array in raw.values())


def test_a_message_in_two_parts() -> None:
    first, second = model(), ModelProto()
    second.graph.initializer.append(numpy_helper.from_array(np.arange(3000, dtype=np.float32), "more"))
    data = first.SerializeToString() + second.SerializeToString()
    assert parsed(data) == onnx.load_from_string(data)


def test_of_two_raw_data_the_last_counts() -> None:
    large = numpy_helper.from_array(np.ones(2000, np.float32), "w")
    again = onnx.TensorProto(raw_data=b"\0" * 8000)
    tensor = large.SerializeToString() + again.SerializeToString()
    graph = b"\x2a" + _varint(len(tensor)) + tensor
    data = b"\x3a" + _varint(len(graph)) + graph
    assert parsed(data) == onnx.load_from_string(data)


def _varint(value: int) -> bytes:
    return bytes([value & 127 | 128]) + _varint(value >> 7) if value > 127 else bytes([value])


@pytest.mark.parametrize("dtype", [np.float16, np.float64, np.int64])
def test_large_weights_of_other_types(dtype: type) -> None:
    values = RNG.integers(-5, 5, (30, 70)).astype(dtype)
    cast = [op("Cast", "w", "v", to=1), op("MatMul", "x v", "y")]
    source = build(cast, {"x": ("N", 30)}, constants={"w": values})
    for tensor in source.graph.initializer:
        tensor.CopyFrom(numpy_helper.from_array(values, "w"))
    graph = read_graph(source.SerializeToString())
    np.testing.assert_array_equal(graph.constants["w"], values)


def test_weights_shorter_than_their_shape() -> None:
    source = model()
    source.graph.initializer[0].dims[0] += 1
    with pytest.raises(ModelError, match="broken"):
        read_graph(source.SerializeToString())


def test_every_cut_is_seen() -> None:
    """A cut file is refused, except where it ends between two fields: then protobuf takes it too."""
    data = model().SerializeToString()
    refused = 0
    for end in range(1, len(data), 37):
        try:
            whole = onnx.load_from_string(data[:end])
        except Exception:  # noqa: BLE001 - protobuf's class differs between its back ends
            refused += 1
            with pytest.raises(Exception):  # noqa: B017, PT011
                parsed(data[:end])
        else:
            assert parsed(data[:end]) == whole
    assert refused > 100
