"""Arrays of other frameworks: into a session and out of it without a copy, with the results of numpy arrays."""

from __future__ import annotations

import gc
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from device_array import DeviceArray
from models import build, op
from PIL import Image

import onnx_lrp
from onnx_lrp import Explainer, interpreter
from onnx_lrp.errors import InputError

torch = pytest.importorskip("torch")

ROOT = Path(__file__).resolve().parents[1]
DEMO = Path(onnx_lrp.__file__).parent / "demo" / "digits.onnx"
IMAGES = np.load(DEMO.with_suffix(".npz"))["images"][:3].astype(np.float32)
MASK = np.zeros((3, 10), bool)
MASK[:, [1, 4]] = True
WAYS = [
    {},
    {"target": 3},
    {"target": [1, 2, 3]},
    {"target": np.arange(6).reshape(3, 2)},
    {"target": MASK},
    {"seed": "contrastive"},
    {"seed": "softmax_gradient", "two_pass": True},
    {"seed": np.eye(10, dtype=np.float32)[:3]},
    {"conditions": [{"/Relu_4": [0, 1]}, {"y": 2}]},
]


@pytest.fixture(scope="module")
def explainer() -> Explainer:
    return Explainer(DEMO, record="/Relu_4", providers="cpu", threads=1)


def values_of(array) -> np.ndarray:
    return array._values if isinstance(array, DeviceArray) else array.numpy()


@pytest.mark.parametrize("way", WAYS, ids=lambda way: " ".join(way) or "largest")
@pytest.mark.parametrize("kind", [torch.from_numpy, DeviceArray], ids=["torch", "device"])
def test_results_are_those_of_numpy_in_arrays_of_the_framework(explainer: Explainer, kind, way) -> None:
    plain, found = explainer.explain(IMAGES, **way), explainer.explain(kind(IMAGES), **way)
    for got, expected in [(found.output, plain.output), *((found.relevances[name], plain.relevances[name]) for name in plain.relevances)]:
        assert type(got) is type(kind(IMAGES))
        np.testing.assert_array_equal(values_of(got), expected)
    np.testing.assert_array_equal(found.target, plain.target)
    np.testing.assert_array_equal(found.explained, plain.explained)


def test_nothing_is_copied(explainer: Explainer, monkeypatch: pytest.MonkeyPatch) -> None:
    read, given = [], []
    to_ort, from_ort = interpreter.to_ort, interpreter.from_ort

    def spied_in(value):
        read.append(to_ort(value))
        return read[-1]

    def spied_out(value, like):
        given.append((value.data_ptr(), from_ort(value, like)))
        return given[-1][1]

    monkeypatch.setattr(interpreter, "to_ort", spied_in)
    monkeypatch.setattr(interpreter, "from_ort", spied_out)
    x = torch.from_numpy(IMAGES.copy())
    found = explainer.explain(x)
    assert [value.data_ptr() for value in read] == [x.data_ptr()]
    assert [address for address, _ in given] == [array.data_ptr() for _, array in given]
    assert found.relevance.data_ptr() in [address for address, _ in given]


def test_results_outlive_the_explainer() -> None:
    explainer = Explainer(DEMO, providers="cpu", threads=1)
    expected = explainer.explain(IMAGES).relevance
    relevance = explainer.explain(torch.from_numpy(IMAGES)).relevance
    del explainer
    gc.collect()
    Explainer(DEMO, "gradient", providers="cpu", threads=1).explain(IMAGES)  # would take memory that was given back
    np.testing.assert_array_equal(relevance.numpy(), expected)


@pytest.mark.parametrize(
    "change",
    [
        lambda x: x.double(),
        lambda x: x.transpose(2, 3).contiguous().transpose(2, 3),
        lambda x: torch.cat([x, x])[::2],
        lambda x: x.contiguous(memory_format=torch.channels_last),
    ],
    ids=["type", "order", "steps", "layout"],
)
def test_what_a_session_cannot_read_is_converted(explainer: Explainer, change) -> None:
    x = change(torch.from_numpy(np.repeat(IMAGES, 2, 0)))
    np.testing.assert_array_equal(explainer.explain(x).relevance.numpy(), explainer.explain(x.numpy()).relevance)


@pytest.mark.parametrize("dtype", [torch.bool, torch.uint8, torch.float16, torch.bfloat16])
def test_other_types(explainer: Explainer, dtype) -> None:
    x = torch.from_numpy(np.rint(IMAGES)).to(dtype)
    found = explainer.explain(x)
    assert found.relevance.dtype == torch.float32
    np.testing.assert_array_equal(found.relevance.numpy(), explainer.explain(np.rint(IMAGES)).relevance)


def test_bad_input_is_named(explainer: Explainer) -> None:
    wrong = torch.from_numpy(IMAGES.copy())
    wrong[0, 0, 0, :2] = float("nan")
    with pytest.raises(InputError, match="'image' has 2 values that are NaN or infinite"):
        explainer.explain(wrong)
    with pytest.raises(InputError, match=r"tracks gradients.*detach"):
        explainer.explain(torch.from_numpy(IMAGES).requires_grad_())
    with pytest.raises(InputError, match=r"shape \(3, 16, 16\), the model wants \(N, 1, 16, 16\)"):
        explainer.explain(torch.from_numpy(IMAGES[:, 0]))
    with pytest.raises(InputError, match="has type complex64, which is not numeric"):
        explainer.explain(torch.zeros(3, 1, 16, 16, dtype=torch.complex64))


def test_an_array_elsewhere_is_refused(explainer: Explainer) -> None:
    class OnGpu(DeviceArray):
        def __dlpack_device__(self):
            return 2, 1

    class OnMetal(DeviceArray):
        def __dlpack_device__(self):
            return 8, 0

    with pytest.raises(InputError, match=r"on cuda:1, the explainer runs on the CPU"):
        explainer._runner.interpreter.run([explainer.output_name], {"image": OnGpu(IMAGES)})
    with pytest.raises(InputError, match="device 8 of DLPack's list, neither the CPU nor CUDA"):
        explainer.explain(OnMetal(IMAGES))


def test_several_inputs() -> None:
    nodes = [op("Add", "a b", "s"), op("Gemm", "s w", "y")]
    model = build(nodes, {"a": ["N", 4], "b": ["N", 4]}, "y", {"w": np.eye(4)[:, :3]})
    explainer = Explainer(model, "epsilon", providers="cpu", threads=1)
    rng = np.random.default_rng(0)
    a, b = rng.standard_normal((2, 5, 4)).astype(np.float32)
    plain = explainer.explain({"a": a, "b": b}).relevance
    for given in ({"a": torch.from_numpy(a), "b": torch.from_numpy(b)}, {"a": a, "b": torch.from_numpy(b)}):
        found = explainer.explain(given).relevance
        assert {name: type(value) for name, value in found.items()} == {"a": torch.Tensor, "b": torch.Tensor}
        np.testing.assert_array_equal(found["b"].numpy(), plain["b"])
    with pytest.raises(InputError, match="arrays of torch and of framework"):
        explainer.explain({"a": torch.from_numpy(a), "b": DeviceArray(b)})


def test_fixed_batch() -> None:
    model = build([op("Gemm", "x w", "y")], {"x": [2, 4]}, "y", {"w": np.eye(4)[:, :3]})
    explainer = Explainer(model, "epsilon", providers="cpu", threads=1)
    x = np.random.default_rng(0).standard_normal((5, 4)).astype(np.float32)
    found = explainer.explain(torch.from_numpy(x)).relevance
    assert isinstance(found, torch.Tensor)
    np.testing.assert_array_equal(found.numpy(), explainer.explain(x).relevance)


@pytest.mark.parametrize("kind", [torch.from_numpy, DeviceArray], ids=["torch", "device"])
def test_an_explanation_speaks_of_itself_in_numpy(explainer: Explainer, kind, tmp_path: Path) -> None:
    way = {"target": np.array([[1, 2], [3, 4], [5, 6]])}
    plain, found = explainer.explain(IMAGES, **way), explainer.explain(kind(IMAGES), **way)
    assert str(found.conservation) == str(plain.conservation)
    assert str(found.summary()) == str(plain.summary())
    np.testing.assert_array_equal(found.channels("/Relu_4"), plain.channels("/Relu_4"))
    for explanation, name in ((found, "found.npz"), (plain, "plain.npz")):
        explanation.save(tmp_path / name)
    with np.load(tmp_path / "found.npz") as got, np.load(tmp_path / "plain.npz") as expected:
        assert sorted(got) == sorted(expected)
        for name in expected:
            np.testing.assert_array_equal(got[name], expected[name])
    assert isinstance(found.numpy().relevance, np.ndarray)
    np.testing.assert_array_equal(found.numpy().relevance, plain.relevance)
    assert plain.numpy() is plain


@pytest.mark.parametrize("kind", [torch.from_numpy, DeviceArray], ids=["torch", "device"])
def test_methods_of_several_runs_compute_in_numpy(kind) -> None:
    explainer = Explainer(DEMO, "gradient", providers="cpu", threads=1)
    for method in (onnx_lrp.smoothgrad, onnx_lrp.integrated_gradients, onnx_lrp.grad_cam):
        np.testing.assert_array_equal(method(explainer, kind(IMAGES)).relevance, method(explainer, IMAGES).relevance)


def test_bound_runs_give_what_plain_runs_give(explainer: Explainer) -> None:
    """What CUDA sessions do with numpy arrays."""
    feeds, _ = explainer._feeds(IMAGES)
    names = [explainer.output_name, explainer.output_name]
    seeds = {name: value for name, value in explainer.explain(IMAGES)._feeds.items() if name not in feeds}
    expected = explainer._runner.interpreter.run(names, feeds | seeds)
    got = explainer._runner.interpreter._run_bound(names, feeds | seeds, None)
    assert len(got) == 2
    np.testing.assert_array_equal(got, expected)


def test_the_page_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """The blocks of docs/gpu.md, one after the other, on the demonstration model."""
    (tmp_path / "model.onnx").write_bytes(DEMO.read_bytes())
    monkeypatch.chdir(tmp_path)
    blocks = re.findall(r"```python\n(.*?)```", (ROOT / "docs" / "gpu.md").read_text(), re.DOTALL)
    assert len(blocks) == 2
    variables = {"images": IMAGES}
    for block in blocks:
        exec(block, variables)  # noqa: S102
    assert isinstance(variables["explanation"].relevance, torch.Tensor)
    assert "ExecutionProvider: " in capsys.readouterr().out


def test_the_example_draws_its_picture(tmp_path: Path) -> None:
    path = tmp_path / "gpu.png"
    command = [sys.executable, "-W", "error", str(ROOT / "examples" / "gpu.py"), "-o", str(path)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=120, env=os.environ | {"PYTHONPATH": str(ROOT)})
    assert (done.returncode, done.stderr) == (0, "")
    assert "relevance is on c" in done.stdout
    with Image.open(path) as sheet:
        assert any(red - blue > 100 for _, (red, _, blue) in sheet.convert("RGB").getcolors(1 << 20))
