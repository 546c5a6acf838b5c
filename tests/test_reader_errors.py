"""What is no model, or a broken one, is refused with one line; damage never ends in a traceback or a dead interpreter."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from models import branch, build, op, value_info
from onnx import ModelProto, TensorProto, helper, numpy_helper

from onnx_lrp import Explainer, ModelError, OnnxLrpError
from onnx_lrp.canonical import canonicalise
from onnx_lrp.graph import read_graph

HERE = Path(__file__).resolve().parent
DIGITS = HERE.parent / "onnx_lrp" / "demo" / "digits.onnx"
SHAPE = (2, 3)


def small() -> ModelProto:
    weights = {"w": np.ones((3, 4)), "b": np.zeros(4)}
    return build([op("Gemm", "x w b", "h"), op("Relu", "h", "y")], {"x": ("N", 3)}, constants=weights)


def expect_refused(source: Any, *words: str) -> str:
    """The message of the ModelError that reading and explaining raise."""
    messages = []
    for call in (read_graph, lambda model: Explainer(model, providers="cpu")):
        with pytest.raises(ModelError) as raised:
            call(source)
        messages.append(str(raised.value))
    assert messages[0] == messages[1]
    assert "\n" not in messages[0]
    assert len(messages[0]) < 600
    for word in words:
        assert word in messages[0], messages[0]
    return messages[0]


def _files() -> dict[str, tuple[Callable[[Path], Any], tuple[str, ...]]]:
    """What is done with a path, and what the message says."""
    whole = small().SerializeToString()
    tensor = numpy_helper.from_array(np.ones((3, 4), np.float32)).SerializeToString()
    image = b"\x89PNG\r\n\x1a\n" + bytes(range(256)) * 4
    return {
        "missing": (lambda path: path.exists(), ("no such file", "model.onnx")),
        "folder": (lambda path: path.mkdir(), ("folder", "model.onnx")),
        "empty": (lambda path: path.write_bytes(b""), ("empty", "model.onnx")),
        "cut": (lambda path: path.write_bytes(whole[: len(whole) // 2]), ("not an ONNX model", "model.onnx")),
        "one_byte_short": (lambda path: path.write_bytes(whole[:-1]), ()),
        "random": (lambda path: path.write_bytes(np.random.default_rng(0).bytes(4000)), ("not an ONNX model", "model.onnx")),
        "zeros": (lambda path: path.write_bytes(bytes(1000)), ("not an ONNX model", "model.onnx")),
        "text": (lambda path: path.write_text("this is a letter to a friend\n" * 20), ("not an ONNX model", "model.onnx")),
        "html": (lambda path: path.write_text("<!DOCTYPE html><html><body>404</body></html>"), ("not an ONNX model", "model.onnx")),
        "image": (lambda path: path.write_bytes(image), ("not an ONNX model", "model.onnx")),
        "zip": (lambda path: path.write_bytes(b"PK\x03\x04" + bytes(60)), ("not an ONNX model", "model.onnx")),
        "tensor": (lambda path: path.write_bytes(tensor), ("not an ONNX model", "model.onnx")),
        "graph_alone": (lambda path: path.write_bytes(small().graph.SerializeToString()), ("not an ONNX model", "model.onnx")),
        "node_alone": (lambda path: path.write_bytes(small().graph.node[0].SerializeToString()), ("not an ONNX model", "model.onnx")),
    }


FILES = _files()


@pytest.mark.parametrize("name", FILES)
def test_files_that_are_no_models(name: str, tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    make, words = FILES[name]
    make(path)
    expect_refused(path, *words)
    expect_refused(str(path), *words)
    if path.is_file():
        expect_refused(path.read_bytes())


def test_unreadable_file(tmp_path: Path) -> None:
    path = tmp_path / "model.onnx" / "inside.onnx"
    (tmp_path / "model.onnx").write_bytes(b"a file where a folder should be")
    expect_refused(path, "inside.onnx")


def _broken() -> dict[str, tuple[ModelProto, tuple[str, ...]]]:
    """Models that parse and make no sense, and what the message must name."""
    tanh, x = op("Tanh"), {"x": SHAPE}

    def changed(change: Callable[[ModelProto], Any], model: ModelProto | None = None) -> ModelProto:
        model = small() if model is None else model
        change(model)
        return model

    def opset(version: int) -> Callable[[ModelProto], Any]:
        return lambda model: setattr(model.opset_import[0], "version", version)

    loose = branch([op("Add", "x nowhere", "t")], "t")
    choice = op("If", "c", "y", then_branch=loose, else_branch=branch([op("Identity", "x", "e")], "e"))
    bias = {"w": np.ones((4, 2, 3)), "b": np.ones(3)}
    image = {"x": (1, 2, 5)}
    window = {"kernel_shape": [3], "strides": [2, 2]}
    ring = [op("Add", "x b", "a"), op("Tanh", "a", "b"), op("Sin", "b")]
    return {
        "undefined_tensor": (build([op("Add", "x z")], x), ("z",)),
        "undefined_output": (build([tanh], x, "y z"), ("z",)),
        "undefined_in_branch": (build([choice], x, constants={"c": np.array(True)}), ("nowhere",)),
        "cycle": (build(ring, x), ("cycle",)),
        "reads_itself": (build([op("Add", "x y")], x), ("cycle",)),
        "two_nodes_make_one_tensor": (build([tanh, op("Sin")], x), ("same tensor",)),
        "one_node_makes_it_twice": (build([op("Split", "x", "y y", num_outputs=2)], x), ("same tensor",)),
        "node_makes_an_input": (build([op("Sin", "x", "z"), op("Tanh", "z", "x")], x, "z"), ("same name",)),
        "node_makes_a_weight": (build([op("Sin", "x", "w"), op("Add", "x w")], x, constants={"w": np.ones(3)}), ()),
        "no_output": (changed(lambda model: model.graph.ClearField("output")), ("no output",)),
        "no_graph": (changed(lambda model: model.ClearField("graph")), ("no graph",)),
        "no_nodes": (changed(lambda model: (model.graph.ClearField("node"), model.graph.ClearField("initializer"))), ("no graph",)),
        "no_input": (build([op("Tanh", "w")], {}, constants={"w": np.ones(3)}), ()),
        "output_is_int": (build([op("ArgMax", "x", "y", axis=1)], x, types={"y": np.int64}), ()),
        "no_opset": (changed(lambda model: model.ClearField("opset_import")), ("version",)),
        **{f"opset_{version}": (changed(opset(version)), (f"opset {version}", "7")) for version in (1, 6, -3)},
        "opset_0": (changed(opset(0)), ("version",)),
        "no_such_opset": (changed(opset(10_000)), ()),
        "sparse": (changed(lambda model: model.graph.sparse_initializer.add()), ("sparse",)),
        "short_weights": (changed(lambda model: setattr(model.graph.initializer[0], "raw_data", b"abc")), ()),
        "weights_of_no_type": (changed(lambda model: setattr(model.graph.initializer[0], "data_type", 0)), ()),
        "weights_of_unknown_type": (changed(lambda model: setattr(model.graph.initializer[0], "data_type", 99)), ()),
        "huge_weights": (changed(lambda model: model.graph.initializer[0].dims.__setitem__(0, 2**40)), ()),
        "negative_weights": (changed(lambda model: model.graph.initializer[0].dims.__setitem__(0, -3)), ()),
        "node_without_operator": (changed(lambda model: setattr(model.graph.node[0], "op_type", "")), ()),
        "wrong_bias": (build([op("Conv", "x w b")], image, constants=bias), ("bias",)),
        "wrong_window": (build([op("MaxPool", "x", **window)], image), ("window",)),
        "negative_stride": (build([op("Conv", "x w", strides=[-1])], image, constants=bias), ("window",)),
        "shapes_that_do_not_fit": (build([op("MatMul", "x w")], x, constants={"w": np.ones((7, 2))}), ()),
        "attribute_of_another_type": (build([op("Concat", "x x", axis=1.5)], x), ()),
        "unknown_attribute": (build([op("Tanh", "x", "y", steepness=2)], x), ()),
        "constants_that_cannot_be_computed": (build([op("Reshape", "w s", "v"), op("Add", "x v")], x,
                                                    constants={"w": np.ones(3), "s": np.array([7, 7])}), ()),
    }  # fmt: skip


BROKEN = _broken()


@pytest.mark.parametrize("name", BROKEN)
def test_models_that_make_no_sense(name: str) -> None:
    model, words = BROKEN[name]
    with pytest.raises(ModelError) as raised:
        Explainer(model, providers="cpu")
    message = str(raised.value)
    assert message
    assert "\n" not in message
    for word in words:
        assert word in message, message
    with pytest.raises(ModelError):
        Explainer(model.SerializeToString(), providers="cpu")


def external(folder: Path) -> Path:
    path = folder / "model.onnx"
    onnx.save(small(), path, save_as_external_data=True, location="weights.bin", size_threshold=0)
    return path


def test_external_data_missing(tmp_path: Path) -> None:
    path = external(tmp_path)
    (tmp_path / "weights.bin").unlink()
    expect_refused(path, "weights")


def test_external_data_cut_off(tmp_path: Path) -> None:
    path = external(tmp_path)
    data = (tmp_path / "weights.bin").read_bytes()
    (tmp_path / "weights.bin").write_bytes(data[:10])
    expect_refused(path, "model.onnx")


@pytest.mark.parametrize("location", ["../secret.bin", "/etc/hostname", "sub/../../secret.bin"])
def test_external_data_outside_of_the_folder(tmp_path: Path, location: str) -> None:
    folder = tmp_path / "model"
    (folder / "sub").mkdir(parents=True)
    (tmp_path / "secret.bin").write_bytes(bytes(1000))
    path = external(folder)
    model = onnx.load(path, load_external_data=False)
    for tensor in model.graph.initializer:
        for entry in tensor.external_data:
            if entry.key == "location":
                entry.value = location
    path.write_bytes(model.SerializeToString())
    expect_refused(path, "model.onnx")


@pytest.mark.skipif(sys.platform == "win32", reason="links need rights there")
def test_external_data_behind_a_link(tmp_path: Path) -> None:
    folder = tmp_path / "model"
    folder.mkdir()
    path = external(folder)
    (folder / "weights.bin").rename(tmp_path / "weights.bin")
    (folder / "weights.bin").symlink_to(tmp_path / "weights.bin")
    expect_refused(path, "model.onnx")


def test_external_data_of_bytes(tmp_path: Path) -> None:
    expect_refused(external(tmp_path).read_bytes(), "path")


def test_external_data_of_a_proto(tmp_path: Path) -> None:
    expect_refused(onnx.load(external(tmp_path), load_external_data=False))


def test_names_that_are_no_text() -> None:
    data = small().SerializeToString()
    broken = data.replace(b"\x0a\x01h", b"\x0a\x01\xff").replace(b"\x12\x01h", b"\x12\x01\xff")
    assert broken != data
    with pytest.raises(ModelError, match="names"):
        read_graph(broken)


def test_names_with_line_breaks_make_messages_of_one_line() -> None:
    model = build([op("New\nOperator", "x", "a\nb"), op("Tanh", "a\nb")], {"x": SHAPE})
    model = ModelProto.FromString(model.SerializeToString())
    model.graph.node[0].output[0] = model.graph.node[1].input[0] = "a\nb"
    with pytest.raises(OnnxLrpError) as raised:
        Explainer(model, providers="cpu")
    assert "\n" not in str(raised.value)
    assert "Operator" in str(raised.value)


def test_deep_nesting() -> None:
    inner = branch([op("Identity", "x", "t0")], "t0")
    for depth in range(1, 20):
        node = helper.make_node(
            "If", ["c"], [f"t{depth}"], then_branch=inner, else_branch=branch([op("Neg", "x", f"e{depth}")], f"e{depth}")
        )
        inner = branch([node], f"t{depth}")
    model = build(
        [op("If", "c", "y", then_branch=inner, else_branch=branch([op("Neg", "x", "e")], "e"))],
        {"x": SHAPE},
        constants={"c": np.array(True)},
    )
    assert [node.op for node in canonicalise(read_graph(model))] == ["Identity"]
    assert Explainer(model, "gradient", providers="cpu").explain(np.ones(SHAPE, np.float32)).relevance.shape == SHAPE


def damage(path: Path, count: int, shape: str) -> str:
    """Runs the mutations in an interpreter of their own; the last line of what it prints is the one it died of."""
    command = [sys.executable, str(HERE / "mutations.py"), str(path), str(count), shape]
    try:
        paths = os.pathsep.join(filter(None, [str(HERE.parent), os.environ.get("PYTHONPATH")]))
        environment = os.environ | {"PYTHONPATH": paths, "PYTHONIOENCODING": "utf-8:replace"}
        options: dict[str, Any] = {"capture_output": True, "encoding": "utf-8", "errors": "replace", "env": environment}
        done = subprocess.run(command, timeout=120, check=False, **options)
    except subprocess.TimeoutExpired as error:
        printed = (error.stdout or b"").decode(errors="replace").splitlines()
        pytest.fail(f"mutation hangs: {printed[-1:]}")
    lines = done.stdout.splitlines()
    assert done.returncode == 0, f"mutation {lines[-1:]}: exit code {done.returncode}\n{done.stderr[-2000:]}"
    assert lines[-1] == "end"
    return done.stdout


def test_damaged_copies_of_a_real_model() -> None:
    results = damage(DIGITS, 160, "2,1,16,16").splitlines()[:-1]
    assert len(results) == 160
    assert sum(line.endswith("works") for line in results) > 20
    assert sum("ModelError" in line for line in results) > 20


def test_damaged_copies_of_a_small_model(tmp_path: Path) -> None:
    """Damage to a model of a kilobyte hits its structure rather than its weights."""
    weights = {
        "w": np.ones((2, 1, 3, 3)), "b": np.zeros(2), "gain": np.ones(2), "shift": np.zeros(2), "mean": np.zeros(2), "variance": np.ones(2),
        "i": np.array(0), "zero": np.array([0]), "rest": np.array([-1]), "w2": np.ones((3, 16)), "b2": np.zeros(3),
    }  # fmt: skip
    nodes = [
        op("Conv", "x w b", "a", pads=[1, 1, 1, 1], kernel_shape=[3, 3]),
        op("BatchNormalization", "a gain shift mean variance", "c"),
        op("Relu", "c", "d"),
        op("MaxPool", "d", "e", kernel_shape=[2, 2], strides=[2, 2]),
        op("Add", "e e", "f"),
        op("Concat", "e f", "h", axis=1),
        op("Shape", "h", "s"),
        op("Gather", "s i", "n"),
        op("Unsqueeze", "n zero", "u"),
        op("Concat", "u rest", "t", axis=0),
        op("Reshape", "h t", "j"),
        op("Gemm", "j w2 b2", "k", transB=1),
        op("Dropout", "k", "l"),
        op("Softmax", "l", "y", axis=1),
    ]
    path = tmp_path / "small.onnx"
    model = build(nodes, {"x": ("N", 1, 4, 4)}, [value_info("y", ("N", 3))], weights)
    path.write_bytes(model.SerializeToString())
    assert model.graph.output[0].type.tensor_type.elem_type == TensorProto.FLOAT
    results = damage(path, 600, "2,1,4,4").splitlines()[:-1]
    assert len(results) == 600
    assert sum(line.endswith("works") for line in results) > 100
    assert sum("ModelError" in line for line in results) > 100
