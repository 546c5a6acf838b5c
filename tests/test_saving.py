"""Explanations as files: .npz and HDF5."""

from __future__ import annotations

import sys

import numpy as np
import pytest
from models import build, op

import onnx_lrp


def weights(*shape, seed=0):
    return np.random.default_rng([seed, *shape]).normal(size=shape).astype(np.float32)


def picture_model():
    nodes = [op("Conv", "x u", "/conv/out"), op("Relu", "/conv/out", "r%/"), op("Flatten", "r%/", "f"), op("Gemm", "f w", "y")]
    return build(nodes, {"x": ["N", 3, 5, 6]}, constants={"u": weights(2, 3, 2, 2), "w": weights(40, 4)})


def explain(targets=None, **options):
    explainer = onnx_lrp.Explainer(picture_model(), "epsilon", providers="cpu", threads=1, **options)
    return explainer.explain(weights(3, 3, 5, 6), targets)


def load(path):
    """All arrays of a file by name, in its order."""
    if path.suffix == ".npz":
        with np.load(path) as file:  # without pickles
            return dict(file)
    h5py = pytest.importorskip("h5py")
    with h5py.File(path) as file:
        arrays = {name: data.asstr()[()] if data.dtype.kind == "O" else data[()] for name, data in file.items()}
    return {name.replace("%2F", "/").replace("%25", "%"): array for name, array in arrays.items()}


@pytest.fixture(params=[".npz", ".h5", ".hdf5", ".H5"])
def path(request, tmp_path):
    if request.param != ".npz":
        pytest.importorskip("h5py")
    return tmp_path / f"explanation{request.param}"


def test_what_a_file_holds(path):
    explanation = explain(record=["/conv/*", "r%/"])
    explanation.save(path)
    arrays = load(path)
    assert list(arrays) == [
        "relevance", "relevance:/conv/out", "relevance:r%/", "output", "target", "input",
        "attribution", "prediction", "label", "composite", "explained_output",
    ]  # fmt: skip
    expected = {"relevance": explanation.relevance, "attribution": explanation.relevance, "input": weights(3, 3, 5, 6)}
    expected |= {f"relevance:{name}": explanation.relevances[name] for name in ("/conv/out", "r%/")}
    expected |= {"output": explanation.output, "prediction": explanation.output, "target": explanation.target}
    expected["label"] = explanation.output.argmax(1)
    for name, array in expected.items():
        np.testing.assert_array_equal(arrays[name], array, strict=True)
    assert arrays["explained_output"] == "y"
    assert str(arrays["composite"]).startswith("EpsilonComposite\n")
    assert "Epsilon(epsilon=1e-06)" in str(arrays["composite"])
    assert [file.name for file in path.parent.iterdir()] == [path.name]


def test_several_targets_are_rows(path):
    targets = np.array([[0, 1], [2, 3], [3, 3]])
    explanation = explain(targets)
    explanation.save(path)
    arrays = load(path)
    assert arrays["relevance"].shape == (3, 2, 3, 5, 6)
    assert arrays["input"].shape == (3, 3, 5, 6)
    np.testing.assert_array_equal(arrays["attribution"][3], explanation.relevance[1, 1])
    np.testing.assert_array_equal(arrays["prediction"], explanation.output[[0, 0, 1, 1, 2, 2]])
    np.testing.assert_array_equal(arrays["label"], [0, 1, 2, 3, 3, 3])
    np.testing.assert_array_equal(arrays["index"], np.array([0, 0, 1, 1, 2, 2], np.uint32), strict=True)


def test_true_classes(path):
    explain().save(path, label=[3, 0, 1])
    arrays = load(path)
    np.testing.assert_array_equal(arrays["label"], np.array([3, 0, 1]), strict=True)
    explain([[0, 1], [2, 3], [3, 3]]).save(path, label=np.array([3, 0, 1], np.uint8))
    np.testing.assert_array_equal(load(path)["label"], [3, 3, 0, 0, 1, 1])


@pytest.mark.parametrize("target", [(1, 2, 3), None])
def test_outputs_of_several_axes(tmp_path, target):
    """The label is the place in the output's flat row, which is the prediction."""
    model = build([op("Conv", "x u", "y")], {"x": ["N", 2, 5, 6]}, constants={"u": weights(3, 2, 2, 2)})
    explanation = onnx_lrp.explain(model, weights(2, 2, 5, 6), target, providers="cpu", threads=1)
    explanation.save(tmp_path / "map.npz")
    arrays = load(tmp_path / "map.npz")
    assert arrays["prediction"].shape == (2, 3 * 4 * 5)
    chosen = arrays["prediction"][np.arange(2), arrays["label"]]
    np.testing.assert_array_equal(chosen, explanation.output.max((1, 2, 3)) if target is None else explanation.output[:, 1, 2, 3])


def test_several_inputs(path):
    nodes = [op("Gemm", "a u", "p"), op("Gemm", "b v", "q"), op("Add", "p q", "y")]
    model = build(nodes, {"a": ["N", 5], "b": ["N", 3]}, constants={"u": weights(5, 2), "v": weights(3, 2)})
    explanation = onnx_lrp.explain(model, {"a": weights(2, 5), "b": weights(2, 3)}, composite="epsilon", providers="cpu", threads=1)
    explanation.save(path)
    assert list(load(path)) == ["relevance:a", "relevance:b", "output", "target", "input:a", "input:b", "composite", "explained_output"]
    with pytest.raises(onnx_lrp.InputError, match="labels go with the relevance of a single explained input"):
        explanation.save(path, label=[0, 1])


def test_hdf5_has_the_same_data_once(tmp_path):
    h5py = pytest.importorskip("h5py")
    explain().save(tmp_path / "one.h5")
    with h5py.File(tmp_path / "one.h5") as file:
        assert file["attribution"] == file["relevance"]
        assert file["prediction"] == file["output"]
        assert file["attribution"][1].shape == (3, 5, 6)  # one sample, as ViRelAy takes it


@pytest.mark.parametrize(
    ("name", "label", "message"),
    [
        ("x.npy", None, "suffix '.npy'; known: .npz, .h5, .hdf5"),
        ("x", None, "suffix ''"),
        ("missing/x.npz", None, r"cannot write .*missing/x\.npz: No such file or directory"),
        ("x.npz", [1, 2], r"labels are 3 ints, one per sample, not int64 of shape \(2,\)"),
        ("x.npz", [0.5, 1, 2], "labels are 3 ints, one per sample, not float64"),
    ],
)
def test_errors(tmp_path, name, label, message):
    with pytest.raises(onnx_lrp.InputError, match=message):
        explain().save(tmp_path / name, label)
    assert list(tmp_path.iterdir()) == []


def test_h5py_is_missing(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "h5py", None)
    with pytest.raises(onnx_lrp.InputError, match=r"HDF5 files need h5py: pip install 'onnx-lrp\[hdf5\]'"):
        explain().save(tmp_path / "x.h5")


def test_a_failed_save_keeps_the_old_file(tmp_path, monkeypatch):
    explanation = explain()
    explanation.save(tmp_path / "x.npz")
    before = (tmp_path / "x.npz").read_bytes()

    def fail(*arguments, **arrays):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(np.lib.format, "write_array", fail)
    with pytest.raises(onnx_lrp.InputError, match="No space left"):
        explanation.save(tmp_path / "x.npz")
    assert [file.read_bytes() for file in tmp_path.iterdir()] == [before]
