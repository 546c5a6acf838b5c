"""Models with their weights in another file, saved explainers of over 2 GB, and how large a saved explainer is."""

from __future__ import annotations

import os

import numpy as np
import onnx
import onnxruntime
import pytest
from models import build, op
from onnx import TensorProto, helper

import onnx_lrp
from onnx_lrp.canonical import canonicalise
from onnx_lrp.graph import read_graph
from onnx_lrp.graph.external import place_of

RNG = np.random.default_rng(0)


def weights(*shape):
    return (RNG.normal(size=shape) / np.sqrt(np.prod(shape[1:]))).astype(np.float32)


def residual_network(width=48):
    """A stem, two residual blocks with batch normalisation as exporters write it, and a dense layer."""
    constants = {"w0": weights(width, 3, 3, 3)}
    nodes = [op("Conv", "x w0", "c0", strides=[2, 2], pads=[1, 1, 1, 1]), op("Relu", "c0", "r0")]
    for block in (1, 2):
        last = f"r{block - 1}"
        for layer in "ab":
            name = f"{block}{layer}"
            constants[f"w{name}"] = weights(width, width, 3, 3)
            constants |= {f"{part}{name}": RNG.uniform(0.5, 1.5, width) for part in ("scale", "shift", "mean", "var")}
            nodes.append(op("Conv", f"{last} w{name}", f"c{name}", pads=[1, 1, 1, 1]))
            nodes.append(op("BatchNormalization", f"c{name} scale{name} shift{name} mean{name} var{name}", f"n{name}"))
            if layer == "a":
                last = f"r{name}"
                nodes.append(op("Relu", f"n{name}", last))
        nodes += [op("Add", f"n{block}b r{block - 1}", f"s{block}"), op("Relu", f"s{block}", f"r{block}")]
    constants |= {"v": weights(200, width), "b": weights(200, 1)[:, 0]}
    nodes += [op("GlobalAveragePool", "r2", "g"), op("Flatten", "g", "f"), op("Gemm", "f v b", "y", transB=1)]
    return build(nodes, {"x": ["N", 3, 16, 16]}, constants=constants)


def run_saved(path, x):
    """The relevance of the best class by onnxruntime alone."""
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    output = next(value.name for value in session.get_outputs() if not value.name.startswith("relevance"))
    y = session.run([output], {"x": x, "target_relevance": np.zeros((len(x), session.get_outputs()[0].shape[1]), np.float32)})[0]
    start = y * (np.arange(y.shape[1]) == y.argmax(1)[:, None])
    return session.run(["relevance"], {"x": x, "target_relevance": start.astype(np.float32)})[0]


PRESETS = {
    "epsilon": {},
    "epsilon_plus_flat": {},
    "epsilon_alpha2_beta1": {},
    "epsilon_gamma_box": {"low": -3.0, "high": 3.0},
    "gradient": {},
}


@pytest.mark.parametrize("composite", PRESETS)
def test_a_saved_explainer_is_hardly_larger_than_the_model(composite, tmp_path):
    model, x = residual_network(), RNG.normal(size=(2, 3, 16, 16)).astype(np.float32)
    explainer = onnx_lrp.Explainer(model, composite, providers="cpu", **PRESETS[composite])
    explainer.save(tmp_path / "explainer.onnx")
    assert (tmp_path / "explainer.onnx").stat().st_size < 1.05 * model.ByteSize()
    relevance = explainer.explain(x, seed="output").relevance
    found = run_saved(tmp_path / "explainer.onnx", x)
    assert np.abs(found - relevance).max() < 1e-3 * np.abs(relevance).max()


def dense_network(path, width=96, layers=4, *, offset=0, seed=0):
    """A model with all weights in weights.bin, written piece by piece; each layer's start `offset` bytes behind a page's."""
    rng = np.random.default_rng(seed)
    nodes, tensors, last = [], [], "x"
    with (path.parent / "weights.bin").open("wb") as file:
        for layer in range(layers):
            file.seek(-file.tell() % 65536 + offset, os.SEEK_CUR)
            tensor = TensorProto(name=f"w{layer}", data_type=TensorProto.FLOAT, dims=(width, width), data_location=TensorProto.EXTERNAL)
            place = {"location": "weights.bin", "offset": file.tell(), "length": 4 * width * width}
            for key, value in place.items():
                tensor.external_data.add(key=key, value=str(value))
            tensors.append(tensor)
            (rng.standard_normal((width, width), np.float32) / np.float32(np.sqrt(width))).tofile(file)
            nodes.append(op("Gemm", f"{last} w{layer}", f"z{layer}", transB=layer % 2))
            last = f"z{layer}"
            if layer < layers - 1:
                nodes.append(op("Relu", last, f"r{layer}"))
                last = f"r{layer}"
    inputs, outputs = ([helper.make_tensor_value_info(name, 1, ["N", width])] for name in ("x", last))
    graph = helper.make_graph(nodes, "dense", inputs, outputs, tensors)
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8), path)
    return path


def embedded(path):
    return onnx.load(path).SerializeToString()


@pytest.mark.parametrize("offset", [0, 4, 3])
@pytest.mark.parametrize("composite", ["epsilon", "epsilon_plus"])
def test_weights_in_another_file(tmp_path, composite, offset):
    path, x = dense_network(tmp_path / "model.onnx", offset=offset), RNG.normal(size=(2, 96)).astype(np.float32)
    expected = onnx_lrp.explain(embedded(path), x, composite=composite, providers="cpu")
    found = onnx_lrp.explain(path, x, composite=composite, providers="cpu")
    assert np.array_equal(found.output, expected.output)
    assert np.array_equal(found.relevance, expected.relevance)


def test_weights_are_mapped_not_copied(tmp_path, monkeypatch):
    path = dense_network(tmp_path / "model.onnx")
    graph = canonicalise(read_graph(path))
    places = {name: place_of(graph.constants[name]) for name in ("w0", "w1", "w2", "w3")}
    assert places == {f"w{layer}": (tmp_path / "weights.bin", layer * 65536) for layer in range(4)}
    given: list[str] = []
    monkeypatch.setattr(onnxruntime.SessionOptions, "add_external_initializers", lambda _, names, __: given.extend(names))
    onnx_lrp.Explainer(path, "epsilon", providers="cpu")
    assert not given  # the session maps them as well


def test_where_an_array_stands(tmp_path):
    np.arange(100, dtype=np.float32).tofile(tmp_path / "a")
    whole = np.memmap(tmp_path / "a", np.uint8, "r", 40, (320,))
    values = whole.view(np.float32).reshape(8, 10)
    assert place_of(values) == (tmp_path / "a", 40)
    assert place_of(np.asarray(values)[2:]) == (tmp_path / "a", 40 + 80)
    assert place_of(values.T) is place_of(values[:, 1:]) is place_of(values + 1) is place_of(values.astype(np.float16)) is None
    assert place_of(np.zeros(3)) is None


def test_the_explainer_does_not_depend_on_how_its_file_is_written(tmp_path, monkeypatch):
    path, x = dense_network(tmp_path / "model.onnx"), RNG.normal(size=(2, 96)).astype(np.float32)
    explainer = onnx_lrp.Explainer(path, "epsilon", providers="cpu")
    explainer.save(tmp_path / "small.onnx")
    monkeypatch.setattr("onnx_lrp.saving.LIMIT", 0)
    explainer.save(tmp_path / "large.onnx")
    assert (tmp_path / "large.onnx").stat().st_size < 4000 < (tmp_path / "large.onnx.data").stat().st_size
    assert {path.name for path in tmp_path.iterdir()} == {"model.onnx", "weights.bin", "small.onnx", "large.onnx", "large.onnx.data"}
    assert (tmp_path / "large.onnx.data").stat().st_mode == (tmp_path / "large.onnx").stat().st_mode
    onnx.checker.check_model(tmp_path / "large.onnx")
    assert np.array_equal(run_saved(tmp_path / "small.onnx", x), run_saved(tmp_path / "large.onnx", x))


def test_a_cached_explainer_of_such_a_model(tmp_path):
    path, x = dense_network(tmp_path / "model.onnx"), RNG.normal(size=(2, 96)).astype(np.float32)
    cold, warm = (onnx_lrp.Explainer(path, "epsilon", providers="cpu", cache=tmp_path / "cache") for _ in range(2))
    expected = cold.explain(x).relevance
    (tmp_path / "weights.bin").unlink()  # the cache has its own
    assert np.array_equal(warm.explain(x).relevance, expected)


@pytest.mark.parametrize(
    ("entry", "value", "message"),
    [
        (0, "../weights.bin", "weights beside"),
        (0, "nowhere.bin", "weights beside"),
        (1, "-4", "weights beside"),
        (1, "x", "weights beside"),
        (1, "10000000", "cut off"),
        (2, "40000", "its shape and type need"),
    ],
)
def test_wrong_places_are_one_clear_error(tmp_path, entry, value, message):
    path = dense_network(tmp_path / "model.onnx")
    model = onnx.load(path, load_external_data=False)
    model.graph.initializer[0].external_data[entry].value = value
    path.write_bytes(model.SerializeToString())
    with pytest.raises(onnx_lrp.ModelError, match=message):
        read_graph(path)


@pytest.mark.skipif(not os.environ.get("ONNX_LRP_LARGE"), reason="writes 5 GB: set ONNX_LRP_LARGE=1")
def test_over_two_gigabytes(tmp_path):
    path, x = dense_network(tmp_path / "model.onnx", width=12288), RNG.normal(size=(1, 12288)).astype(np.float32)
    assert (tmp_path / "weights.bin").stat().st_size > 2**31
    explainer = onnx_lrp.Explainer(path, "epsilon", providers="cpu")
    relevance = explainer.explain(x).relevance
    explainer.save(tmp_path / "explainer.onnx")
    found = run_saved(tmp_path / "explainer.onnx", x)
    assert np.abs(found - relevance).max() < 1e-3 * np.abs(relevance).max()


def test_dense_weights_are_inputs_of_the_session_where_they_are_not_repacked(monkeypatch):
    """onnxruntime would copy initialisers."""
    rng = np.random.default_rng(0)
    constants = {name: rng.normal(size=(80, 80)).astype(np.float32) / 9 for name in ("w1", "w2", "w3")}
    nodes = [op("Gemm", "x w1", "a"), op("Relu", "a", "b"), op("MatMul", "b w2", "c"), op("Relu", "c", "d"), op("MatMul", "d w3", "y")]
    model = build(nodes, {"x": ["N", 80]}, constants=constants)
    x = rng.normal(size=(5, 80)).astype(np.float32)
    targets = np.array([[1, 2]] * 5)
    plain = onnx_lrp.Explainer(model, "epsilon", providers="cpu")
    assert not plain._runner.interpreter._fed
    expected = plain.explain(x), plain.explain(x, targets)
    monkeypatch.setattr("onnx_lrp.interpreter.PREPACK_LIMIT", 0)
    explainer = onnx_lrp.Explainer(model, "epsilon", providers="cpu")
    assert set(explainer._runner.interpreter._fed) == {"w1", "w2", "w3"}
    for found, wanted in zip((explainer.explain(x), explainer.explain(x, targets)), expected, strict=True):
        np.testing.assert_allclose(found.relevance, wanted.relevance, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(explainer.explain(x).conservation.inputs, expected[0].conservation.inputs, rtol=1e-4)
    assert [value.name for value in explainer.to_onnx().graph.input] == ["x", "target_relevance"]
