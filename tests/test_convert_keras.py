"""Keras models, in all forms that they are saved in, become ONNX models that give the same outputs."""

from __future__ import annotations

import json
import zipfile
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from frameworks import keras_nets, need, shake_keras

import onnx_lrp
from onnx_lrp.converters import convert as convert_any
from onnx_lrp.converters.frameworks import quiet
from onnx_lrp.converters.keras import convert, use_keras
from onnx_lrp.converters.keras.sources import output_names
from onnx_lrp.errors import InputError, ModelError
from onnx_lrp.interpreter import Interpreter
from onnx_lrp.metadata import PREPROCESS

need("torch", "onnxscript", "keras", "h5py")
keras = use_keras()
if keras.backend.backend() != "torch":
    pytest.skip("Keras computes with another backend than PyTorch here", allow_module_level=True)
import h5py  # noqa: E402
import torch  # noqa: E402


def check_same(model: Any, converted: Any, scale: float = 1.0) -> list[np.ndarray]:
    """Runs both on inputs of another batch than that of the conversion, and compares all outputs."""
    rng = np.random.default_rng(1)
    inputs = [(scale * rng.standard_normal((4, *tensor.shape[1:]))).astype(np.float32) for tensor in model.inputs]
    with torch.no_grad():
        results = model(inputs if len(inputs) > 1 else inputs[0])
    expected = [value.numpy() for value in (results if isinstance(results, list) else [results])]
    assert [value.name for value in converted.graph.input] == [tensor.name for tensor in model.inputs]
    assert [value.name for value in converted.graph.output] == output_names(model)
    feeds = {value.name: x for value, x in zip(converted.graph.input, inputs, strict=True)}
    got = Interpreter(converted, {}, ["CPUExecutionProvider"]).run(output_names(model), feeds)
    for one, other in zip(got, expected, strict=True):
        assert other.std() > 1e-3
        np.testing.assert_allclose(one, other, atol=1e-4 * max(1, np.abs(other).max()))
    return inputs


@pytest.mark.parametrize(("name", "transposes"), [("plain", 2), ("squeeze", 1), ("dense", 4), ("up", 2), ("two", 1)])
def test_models_keep_their_outputs_and_lose_their_transposes(name: str, transposes: int) -> None:
    model = shake_keras(keras_nets()[name]())
    conversion = convert(model)
    inputs = check_same(model, conversion.model, 100 if name == "plain" else 1)
    assert Counter(node.op_type for node in conversion.model.graph.node)["Transpose"] <= transposes
    for value in conversion.model.graph.input:
        assert value.type.tensor_type.shape.dim[0].dim_param == "N"
    if name != "two":  # Explainer takes one output
        explainer = onnx_lrp.Explainer(conversion.model, threads=1)
        assert explainer.plan.coverage == 1.0
        assert explainer.explain(inputs[0]).relevance.shape == inputs[0].shape


def test_half_a_mobilenet() -> None:
    whole = keras.applications.MobileNetV2((64, 64, 3), alpha=0.35, weights=None)
    x = keras.layers.GlobalAveragePooling2D()(whole.get_layer("block_6_project_BN").output)
    model = shake_keras(keras.Model(whole.input, keras.layers.Dense(7)(x)))
    conversion = convert(model)
    check_same(model, conversion.model)
    kinds = Counter(node.op_type for node in conversion.model.graph.node)
    assert (kinds["Conv"], kinds["Transpose"], kinds["Identity"]) == (21, 1, 0)
    assert onnx_lrp.Explainer(conversion.model, threads=1).plan.coverage == 1.0


@pytest.mark.parametrize(("name", "least"), [("LeNet1", 0.97), ("LeNet5", 0.97)])
def test_lenets_keep_their_accuracy(shared_data: Path, name: str, least: float) -> None:
    folder = shared_data / "keras"
    conversion = convert_any(folder / f"{name}.json", weights=folder / f"{name}.h5")
    assert conversion.report.difference < 1e-4
    with np.load(shared_data / "mnist" / "test_first500.npz") as file:
        x, labels = (file["X"][..., None] / 255).astype(np.float32), file["y"]
    model = conversion.model
    (scores,) = Interpreter(model, {}, ["CPUExecutionProvider"]).run([model.graph.output[0].name], {model.graph.input[0].name: x})
    assert model.graph.node[-1].op_type == "Softmax"
    assert (scores.argmax(1) == labels).mean() >= least
    explainer = onnx_lrp.Explainer(model, threads=1)
    assert explainer.plan.coverage == 1.0
    assert explainer.explain(x[:4]).relevance.shape == (4, 28, 28, 1)


def test_nodes_are_named_after_layers_and_the_model_is_left_as_it_is() -> None:
    model = keras_nets()["plain"]()
    before = [dict(layer.__dict__) for layer in model.layers]
    names = [node.name for node in convert(model).model.graph.node]
    assert "/conv/Conv" in names
    assert "/scores/Softmax" in names
    assert [layer.__dict__.keys() for layer in model.layers] == [state.keys() for state in before]
    inner = [node.name for node in convert(keras_nets()["two"]()).model.graph.node]
    assert any(name.startswith("/inner/row/") for name in inner)


def test_the_layout_and_layers_that_scale_travel() -> None:
    nets = keras_nets()
    fields = {name: {entry.key: entry.value for entry in convert(nets[name]()).model.metadata_props} for name in ("plain", "up", "two")}
    assert json.loads(fields["plain"][PREPROCESS]) == {"layout": "NHWC", "scale": 1.0}
    assert json.loads(fields["up"][PREPROCESS]) == {"layout": "NHWC"}
    assert fields["two"] == {}


def test_zeros_before_a_maximum_count() -> None:
    """As in ResNet V2, whose first pooling comes before any activation."""
    given = keras.Input((8, 8, 2))
    x = keras.layers.ZeroPadding2D(1)(keras.layers.Conv2D(3, 3)(given))
    model = shake_keras(keras.Model(given, keras.layers.MaxPooling2D(3, 2)(x)))
    model.layers[1].bias.assign(np.full(3, -4.0))
    check_same(model, convert(model).model)


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Any]:
    """A folder with one model in every form, under names that say nothing."""
    folder = tmp_path_factory.mktemp("keras")
    model = shake_keras(keras_nets()["plain"]())
    with quiet():
        model.save(folder / "model.keras")
        model.save(folder / "model.h5")
        model.save_weights(folder / "model.weights.h5")
    (folder / "model.json").write_text(model.to_json())
    with zipfile.ZipFile(folder / "model.keras") as archive:
        archive.extractall(folder / "unpacked")
    (folder / "model.keras").rename(folder / "archive")
    (folder / "model.h5").rename(folder / "whole")
    (folder / "model.weights.h5").rename(folder / "weights")
    return folder, model


@pytest.mark.parametrize(("source", "weights"), [("archive", None), ("whole", None), ("model.json", "weights"), ("unpacked", None)])
def test_files_are_recognised_by_their_content(saved: tuple[Path, Any], source: str, weights: str | None) -> None:
    folder, model = saved
    options = {} if weights is None else {"weights": folder / weights}
    conversion = convert_any(folder / source, **options)
    assert conversion.report.difference < 1e-4
    expected = model(np.full((1, 12, 12, 3), 99, np.float32)).detach().numpy()
    got = Interpreter(conversion.model, {}, ["CPUExecutionProvider"]).run(["scores"], {"picture": np.full((1, 12, 12, 3), 99, np.float32)})
    np.testing.assert_allclose(got[0], expected, atol=1e-5)


def test_open_lengths_have_to_be_given() -> None:
    given = keras.Input((None, None, 3))
    model = keras.Model(given, keras.layers.GlobalAveragePooling2D()(keras.layers.Conv2D(4, 3)(given)))
    with pytest.raises(InputError, match="give --input-shape"):
        convert(model)
    with pytest.raises(InputError, match="does not fit"):
        convert(model, input_shape="1,8,8,4")
    shape = convert(model, input_shape="1,8,9,3").model.graph.input[0].type.tensor_type.shape
    assert [length.dim_param or length.dim_value for length in shape.dim] == ["N", 8, 9, 3]


def changed_config(path: Path, target: Path, change: Any) -> Path:
    """A copy of a .keras file with another architecture."""
    with zipfile.ZipFile(path) as archive, zipfile.ZipFile(target, "w") as copy:
        for name in archive.namelist():
            data = archive.read(name)
            copy.writestr(name, json.dumps(change(json.loads(data))) if name == "config.json" else data)
    return target


def layer_of(config: dict[str, Any], name: str) -> dict[str, Any]:
    (found,) = [layer for layer in config["config"]["layers"] if layer["config"].get("name") == name]
    return found


def as_lambda(config: dict[str, Any]) -> dict[str, Any]:
    code = {"class_name": "__lambda__", "config": {"code": "4wE=", "defaults": None, "closure": None}}
    layer_of(config, "relu").update({"class_name": "Lambda", "config": {"name": "relu", "function": code}})
    return config


def as_own_class(config: dict[str, Any]) -> dict[str, Any]:
    layer_of(config, "relu").update({"module": "os", "class_name": "system"})
    return config


def as_giant(config: dict[str, Any]) -> dict[str, Any]:
    layer_of(config, "scores")["config"]["units"] = 10**12
    return config


def as_nested(config: dict[str, Any]) -> dict[str, Any]:
    deep: Any = {}
    for _ in range(150):
        deep = {"config": deep}
    config["config"]["deep"] = deep
    return config


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (as_lambda, "layer 'relu' is a Lambda, which holds code"),
        (as_own_class, "layer 'relu' is a os.system, a class of one's own"),
        (as_giant, "layer 'scores' has units = 1,000,000,000,000, more than the file has weights"),
        (as_nested, "nested too deeply"),
        (lambda config: [config], "is not the architecture of a Keras model"),
    ],
)
def test_architectures_that_hold_code_or_do_not_fit_are_refused(saved: tuple[Path, Any], tmp_path: Path, change: Any, message: str) -> None:
    path = changed_config(saved[0] / "archive", tmp_path / "bad.keras", change)
    with pytest.raises(ModelError, match=message) as caught:
        convert_any(path)
    assert "\n" not in str(caught.value)


def test_files_that_would_fill_the_memory_are_refused(saved: tuple[Path, Any], tmp_path: Path) -> None:
    bomb = tmp_path / "bomb.keras"
    with zipfile.ZipFile(saved[0] / "archive") as archive, zipfile.ZipFile(bomb, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as copy:
        copy.writestr("config.json", archive.read("config.json"))
        with copy.open("model.weights.h5", "w") as member:
            for _ in range(300):
                member.write(bytes(2**20))
    with pytest.raises(ModelError, match="is refused: it holds"):
        convert_any(bomb)
    with h5py.File(tmp_path / "wide.h5", "w") as file, h5py.File(saved[0] / "whole") as whole:
        file.attrs["model_config"] = whole.attrs["model_config"]
        file.create_dataset("model_weights/x", (2**30,), "f4", chunks=(2**20,), compression="gzip")
    with pytest.raises(ModelError, match=r"is refused: its weights are 4,294,967,296 bytes"):
        convert_any(tmp_path / "wide.h5")


def test_weights_in_other_files_are_refused(saved: tuple[Path, Any], tmp_path: Path) -> None:
    path = tmp_path / "linked.h5"
    with h5py.File(path, "w") as file, h5py.File(saved[0] / "whole") as whole:
        file.attrs["model_config"] = whole.attrs["model_config"]
        file["model_weights"] = h5py.ExternalLink(saved[0] / "whole", "/model_weights")
    with pytest.raises(ModelError, match="lies in another file"):
        convert_any(path)
    with h5py.File(path, "w") as file:
        file.create_dataset("x", (4,), "f4", external=[(saved[0] / "whole", 0, 16)])
    with pytest.raises(ModelError, match="lies in another file"):
        convert_any(path)


@pytest.mark.parametrize(
    ("source", "options", "error", "message"),
    [
        ("weights", {}, InputError, "has weights alone"),
        ("model.json", {}, InputError, "an architecture without its weights"),
        ("model.json", {"weights": "missing.h5"}, InputError, "no such file"),
        ("model.json", {"weights": "model.json"}, ModelError, "is a broken HDF5 file"),
        ("archive", {"weights": "weights"}, InputError, "has its weights"),
        ("archive", {"input_shape": "1,13,12,3"}, InputError, "does not fit"),
        ("archive", {"input_shape": ["1,12,12,3", "1,2"]}, InputError, "has 1 inputs, but 2 shapes"),
    ],
)
def test_what_cannot_be_converted_is_refused(
    saved: tuple[Path, Any], monkeypatch: pytest.MonkeyPatch, source: str, options: dict[str, Any], error: type, message: str
) -> None:
    monkeypatch.chdir(saved[0])
    with pytest.raises(error, match=message):
        convert_any(source, **options)


def test_a_model_that_is_not_built_is_refused() -> None:
    with pytest.raises(InputError, match="has not been built"):
        convert(keras.Sequential([keras.layers.Dense(3)]))
    with pytest.raises(InputError, match=r"a keras\.Model or a path is expected"):
        convert(3)
