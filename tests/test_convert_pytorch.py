"""PyTorch models become ONNX models that give the same outputs for other inputs than those of the conversion."""

from __future__ import annotations

import json
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from frameworks import lstm, need, resnet, shake, small, vit
from onnx import numpy_helper

import onnx_lrp
from onnx_lrp.converters import convert as convert_any
from onnx_lrp.converters import frameworks, pytorch
from onnx_lrp.converters.pytorch import convert
from onnx_lrp.errors import InputError, ModelError
from onnx_lrp.interpreter import Interpreter

need("torch", "onnxscript")
import torch  # noqa: E402

PICTURE = "1,3,8,8"
FACTORY = """from torch import nn
def make():
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Linear(144, 5))
"""


def run(model: onnx.ModelProto, *inputs: np.ndarray) -> list[np.ndarray]:
    names = [output.name for output in model.graph.output]
    feeds = dict(zip([value.name for value in model.graph.input], inputs, strict=True))
    return Interpreter(model, {}, ["CPUExecutionProvider"]).run(names, feeds)


def check_same(model: onnx.ModelProto, module: Any, *inputs: np.ndarray) -> None:
    """The outputs differ from each other, so that they can tell something, and equal the module's."""
    with torch.no_grad():
        expected = module.eval()(*map(torch.from_numpy, inputs)).numpy()
    (got,) = run(model, *inputs)
    assert expected.std() > 1e-2
    np.testing.assert_allclose(got, expected, rtol=1e-4, atol=1e-4 * np.abs(expected).max())


@pytest.mark.parametrize(("make", "shape"), [(resnet, (3, 64, 64)), (vit, (3, 16, 16)), (small, (3, 8, 8))])
def test_networks_of_pictures_keep_their_outputs_and_are_explained(make: Any, shape: tuple[int, ...]) -> None:
    module = shake(make())
    conversion = convert(module, input_shape=[(1, *shape)])
    assert conversion.report.difference < 1e-4
    assert module.training
    x = np.random.default_rng(1).standard_normal((2, *shape)).astype(np.float32)
    check_same(conversion.model, module, x)
    assert [entry.version >= 18 for entry in conversion.model.opset_import if not entry.domain] == [True]
    explainer = onnx_lrp.Explainer(conversion.model, threads=1)
    assert explainer.plan.coverage == 1.0
    assert np.abs(explainer.explain(x).relevance).sum() > 0


def test_recurrent_networks_of_words_keep_their_outputs() -> None:
    module = lstm()
    ids = np.random.default_rng(1).integers(0, 7, (4, 5))
    check_same(convert(module, input_shape="1,5:int64").model, module, ids)
    check_same(convert(module, example=torch.from_numpy(ids[:1])).model, module, ids)


def test_nodes_are_named_after_modules_and_nothing_tells_of_the_files() -> None:
    class Net(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.stage = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3), torch.nn.ReLU())
            self.head = torch.nn.Conv2d(4, 2, 1)

        def forward(self, pixels: Any) -> Any:
            return self.head(self.stage(pixels))

    model = convert(Net(), input_shape=PICTURE).model
    assert [node.name for node in model.graph.node] == ["/stage/stage.0/Conv", "/stage/stage.1/Relu", "/head/Conv"]
    assert [value.name for value in (*model.graph.input, *model.graph.output)] == ["pixels", "output"]
    assert {value.type.tensor_type.shape.dim[0].dim_param for value in (*model.graph.input, *model.graph.output)} == {"N"}
    assert b".py" not in model.SerializeToString()


def test_the_mode_of_every_part_stays() -> None:
    module = small()
    module[1].eval()
    convert(module, input_shape=PICTURE)
    assert [part.training for part in module.modules()] == [True, True, False, True, True, True]


def test_several_inputs_and_outputs_by_name() -> None:
    class Two(torch.nn.Module):
        def forward(self, left: Any, right: Any, scale: float = 2.0) -> Any:
            return {"total": left + right * scale, "product": left * right}

    rng = np.random.default_rng(0)
    x, y = (rng.standard_normal((3, 4)).astype(np.float32) for _ in range(2))
    for options in ({"input_shape": ["1,4", "1,4"]}, {"example": (x, y)}, {"example": {"left": x, "right": torch.from_numpy(y)}}):
        model = convert(Two(), **options).model
        assert [value.name for value in (*model.graph.input, *model.graph.output)] == ["left", "right", "total", "product"]
        total, product = run(model, x, y)
        np.testing.assert_allclose(total, x + 2 * y, rtol=1e-5, atol=1e-6)
        np.testing.assert_allclose(product, x * y, rtol=1e-5, atol=1e-6)


def test_a_batch_that_the_code_fixes_stays_and_is_told() -> None:
    class Fixed(torch.nn.Module):
        def forward(self, x: Any) -> Any:
            return x.reshape(1, -1) @ torch.ones(12, 2)

    conversion = convert(Fixed(), input_shape="1,3,4")
    assert conversion.model.graph.input[0].type.tensor_type.shape.dim[0].dim_value == 1
    assert any("the batch is always 1" in note for note in conversion.report.notes)


def test_a_batch_that_gets_stuck_inside_is_found() -> None:
    class Stuck(torch.nn.Module):
        def forward(self, x: Any) -> Any:
            return torch.cat([x, torch.ones(len(x), 2)], 1)

    conversion = convert(Stuck(), input_shape="1,4")
    x = np.ones((1, 4), np.float32)
    assert run(conversion.model, x)[0].shape == (1, 6)
    assert any("the batch is always 1" in note for note in conversion.report.notes)


def test_code_that_depends_on_values_goes_through_the_older_exporter_and_is_told() -> None:
    class Choice(torch.nn.Module):
        def forward(self, x: Any) -> Any:
            return x * 2 if x.sum() > 1000 else x.sin()

    conversion = convert(Choice(), input_shape="1,3,4")
    assert any("depends on values" in note for note in conversion.report.notes)
    assert any("the older one was used" in note for note in conversion.report.notes)


def test_half_precision_becomes_float32() -> None:
    module = shake(small()).half()
    conversion = convert(module, input_shape=PICTURE)
    assert any("float16" in note for note in conversion.report.notes)
    assert next(module.parameters()).dtype == torch.float16
    assert {tensor.data_type for tensor in conversion.model.graph.initializer} <= {onnx.TensorProto.FLOAT, onnx.TensorProto.INT64}


def test_a_difference_names_the_first_layer(monkeypatch: pytest.MonkeyPatch) -> None:
    module = torch.nn.Sequential(
        torch.nn.Conv2d(3, 4, 3), torch.nn.Tanh(), torch.nn.Conv2d(4, 5, 3), torch.nn.Sigmoid(), torch.nn.Conv2d(5, 6, 1)
    )
    real = pytorch.export

    def wrong(*arguments: Any, **options: Any) -> Any:
        made = real(*arguments, **options)
        (bias,) = [tensor for tensor in made.model.graph.initializer if tensor.name == "2.bias"]
        bias.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(bias) + np.float32(0.5), bias.name))
        return made

    monkeypatch.setattr(pytorch, "export", wrong)
    with pytest.raises(ModelError, match=r"layer '2' .* is the first that differs"):
        convert(module, input_shape=PICTURE)


def test_what_timm_says_of_pictures_travels() -> None:
    module = small()
    module.pretrained_cfg = {"input_size": (3, 8, 8), "mean": (0.5, 0.4, 0.3), "std": (0.2, 0.3, 0.4), "crop_pct": 0.8}
    conversion = convert(module)
    (entry,) = conversion.model.metadata_props
    fields = json.loads(entry.value)
    assert (fields["mean"], fields["std"], fields["resize"], fields["crop"]) == ([0.5, 0.4, 0.3], [0.2, 0.3, 0.4], 10, [8, 8])
    assert fields["scale"] == pytest.approx(1 / 255)


@pytest.fixture
def files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with one network in every form."""
    monkeypatch.chdir(tmp_path)
    module = shake(small()).eval()
    x = torch.randn(2, 3, 8, 8)
    program = torch.export.export(module, (x,), dynamic_shapes=({0: torch.export.Dim.DYNAMIC},))
    torch.export.save(program, "open.pt2")
    torch.export.save(torch.export.export(module, (x[:1],)), "fixed.pt2")
    torch.save(module, "whole.pt")
    torch.save(module, "old.pt", _use_new_zipfile_serialization=False)
    torch.save(module.state_dict(), "state.pt")
    torch.save({"state_dict": module.state_dict(), "epoch": 3}, "checkpoint.pt")
    Path("nets.py").write_text(FACTORY)
    return tmp_path


def test_files_are_recognised_by_their_content(files: Path) -> None:
    module = torch.load("whole.pt", weights_only=False)
    x = np.random.default_rng(1).standard_normal((4, 3, 8, 8)).astype(np.float32)
    Path("open.pt2").rename("open.bin")
    check_same(convert_any("open.bin").model, module, x)
    fixed = convert_any("fixed.pt2")
    check_same(fixed.model, module, x[:1])
    assert any("always 1" in note for note in fixed.report.notes)
    for source in ("nets.py:make", "nets:make"):
        for weights in ("state.pt", "checkpoint.pt"):
            check_same(convert_any(source, weights=weights, input_shape=[PICTURE]).model, module, x)


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_torchscript(tmp_path: Path) -> None:
    module = shake(small()).eval()
    torch.jit.script(module).save(tmp_path / "script.pt")
    x = np.random.default_rng(1).standard_normal((4, 3, 8, 8)).astype(np.float32)
    conversion = convert_any(tmp_path / "script.pt", input_shape=PICTURE)
    check_same(conversion.model, module, x)
    with pytest.raises(InputError, match="give --input-shape"):
        convert_any(tmp_path / "script.pt")


@pytest.mark.parametrize(
    ("source", "options", "error", "message"),
    [
        ("whole.pt", {}, ModelError, "could run anything when it is loaded"),
        ("old.pt", {}, ModelError, "could run anything when it is loaded"),
        ("state.pt", {}, ModelError, "this file's state dict with --weights"),
        ("nets.py:make", {}, InputError, "give --input-shape"),
        ("nets.py:make", {"input_shape": "1,3,9,8"}, ModelError, "fails on an input of shape"),
        ("nets.py:make", {"input_shape": "1,3,x"}, InputError, "a shape is whole numbers"),
        ("nets.py:make", {"input_shape": "1,3:complex"}, InputError, "the elements of an input"),
        ("nets.py:make", {"input_shape": "1,99999,99999"}, InputError, "too large"),
        ("nets.py:make", {"input_shape": PICTURE, "weights": "whole.pt"}, ModelError, "no state dict of tensors alone"),
        ("nets.py:make", {"input_shape": PICTURE, "weights": "nets.py"}, ModelError, "no state dict of tensors alone"),
        ("nets.py:make", {"input_shape": PICTURE, "weights": "missing.pt"}, InputError, "no such file"),
        ("nets.py:other", {}, ModelError, "has no attribute 'other'"),
        ("nets.py:FACTORY", {}, ModelError, "has no attribute"),
        ("nets.py:nn", {}, ModelError, r"is no torch\.nn\.Module but module"),
        ("missing.py:make", {}, InputError, "no such file: missing.py"),
        ("missing_module:make", {}, ModelError, "No module named"),
        ("missing.pt2", {}, ModelError, "no such file"),
        ("open.pt2", {"weights": "state.pt"}, InputError, "has its weights"),
    ],
)
def test_what_cannot_be_converted_is_refused(files: Path, source: str, options: dict[str, Any], error: type, message: str) -> None:
    with pytest.raises(error, match=message) as caught:
        convert_any(source, **options)
    assert "\n" not in str(caught.value)


def edited(path: str, member: str, old: bytes, new: bytes) -> None:
    """Changes a text in a member of a zip file, which is stored as it is."""
    with zipfile.ZipFile(path) as archive:
        parts = {name: archive.read(name) for name in archive.namelist()}
    assert sum(old in data for name, data in parts.items() if name.endswith(member)) == 1
    with zipfile.ZipFile(path, "w") as archive:
        for name, data in parts.items():
            archive.writestr(name, data.replace(old, new) if name.endswith(member) else data)


@pytest.mark.parametrize(
    ("member", "old", "new"),
    [
        ("models/model.json", b"torch.ops.aten.relu.default", b"torch.os.system"),
        ("models/model.json", b"torch.ops.aten.relu.default", b"torch.ops.load_library.__call__"),
        ("models/model.json", b"torch.ops.aten.relu.default", b"_operator.methodcaller"),
        ("models/model.json", b"Symbol('", b"open('"),
        ("models/model.json", b"positive=True", b"positive=().__class__"),
        ("models/model.json", b"positive=True", b"positive=9**9**9**9"),
        ("models/model.json", b'"name": "relu"', b'"name": "x(): import os #"'),
        ("weights_config.json", b'"weight_0"', b'"../../weight_0"'),
    ],
)
def test_exported_programs_that_could_run_something_are_refused(files: Path, member: str, old: bytes, new: bytes) -> None:
    edited("open.pt2", member, old, new)
    with pytest.raises(ModelError, match="is refused"):
        convert_any("open.pt2")


def test_an_exported_program_with_compiled_code_is_refused(files: Path) -> None:
    with zipfile.ZipFile("open.pt2", "a") as archive:
        archive.writestr("open/data/aotinductor/model/model.so", b"")
    with pytest.raises(ModelError, match="compiled code"):
        convert_any("open.pt2")


def test_pickles_in_an_exported_program_are_restricted(files: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """torch.export.load itself would load this one without restriction."""
    import io
    import pickle

    class Attack:
        def __reduce__(self) -> Any:
            return Path.touch, (Path("run"),)

    data = io.BytesIO()
    torch.save(Attack(), data, pickle_module=pickle)
    with zipfile.ZipFile("open.pt2") as archive:
        parts = {name: archive.read(name) for name in archive.namelist()}
    with zipfile.ZipFile("open.pt2", "w") as archive:
        for name, value in parts.items():
            archive.writestr(name, data.getvalue() if "sample_inputs" in name else value)
    with pytest.raises(ModelError, match="cannot read this exported program"):
        convert_any("open.pt2")
    assert not Path("run").exists()


@pytest.mark.parametrize("source", ["model.keras", "open.pt2"])
def test_a_missing_framework_is_one_line(files: Path, monkeypatch: pytest.MonkeyPatch, source: str) -> None:
    with zipfile.ZipFile("model.keras", "w") as archive:
        archive.writestr("config.json", "{}")
        archive.writestr("model.weights.h5", "")
    monkeypatch.setattr(frameworks, "installed", lambda _: False)
    extra = "keras" if source == "model.keras" else "pytorch"
    with pytest.raises(ModelError, match=rf"is not installed: pip install 'onnx-lrp\[{extra}\]'"):
        convert_any(source)
