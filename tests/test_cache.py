"""Compiled explainers on disk: when they are found again, when not, and what damage does."""

from __future__ import annotations

import json
import logging
import os
import subprocess
import sys

import numpy as np
import onnx
import pytest
from models import build, op, rename

import onnx_lrp
from onnx_lrp.cache import Cache, default_folder
from onnx_lrp.composites import Composite, base_map
from onnx_lrp.fingerprint import content_of, environment, identity
from onnx_lrp.patterns import Patterns
from onnx_lrp.rules import Epsilon, Gamma
from onnx_lrp.signature import Signature

RNG = np.random.default_rng(0)
X = RNG.normal(size=(2, 3, 12, 12)).astype(np.float32)


def network(seed=0, **options):
    rng = np.random.default_rng(seed)
    nodes = [rename(op("Conv", "x w", "c"), "conv"), op("Relu", "c", "r"), op("MaxPool", "r", "p", kernel_shape=[2, 2], strides=[2, 2])]
    nodes += [op("Flatten", "p", "f"), rename(op("Gemm", "f v b", "z"), "dense"), op("Softmax", "z", "y")]
    sizes = {"w": (8, 3, 3, 3), "v": (8 * 5 * 5, 6), "b": (6,)}
    weights = {name: rng.normal(size=size).astype(np.float32) for name, size in sizes.items()}
    return build(nodes, {"x": ["N", 3, 12, 12]}, constants=weights, **options)


@pytest.fixture
def path(tmp_path):
    file = tmp_path / "model.onnx"
    onnx.save(network(), file)
    return file


@pytest.fixture
def folder(tmp_path):
    return tmp_path / "cache"


def loaded(explainer):
    """Whether it came from the cache, so that the model was not read."""
    return explainer._entry.loaded and "blueprint" not in vars(explainer)


def explainer_of(path, folder, composite="epsilon_plus_flat", **options):
    return onnx_lrp.Explainer(path, composite, cache=folder, providers="cpu", **options)


@pytest.mark.parametrize("composite", ["epsilon", "epsilon_plus_flat", "epsilon_alpha2_beta1", "gradient"])
def test_the_same_bits_with_and_without_cache(path, folder, composite):
    plain = onnx_lrp.Explainer(path, composite, providers="cpu").explain(X)
    first, second = explainer_of(path, folder, composite), explainer_of(path, folder, composite)
    assert not loaded(first)
    assert loaded(second)
    for explainer in (first, second):
        found = explainer.explain(X)
        assert np.array_equal(found.relevance, plain.relevance)
        assert np.array_equal(found.output, plain.output)
        assert found.composite == plain.composite
        assert np.array_equal(found.target, plain.target)


def test_a_warm_start_reads_the_model_only_when_it_must(path, folder):
    cold, warm = explainer_of(path, folder), explainer_of(path, folder)
    assert (warm.inputs, warm.output_name, warm.final_activation, warm.tensors) == (["x"], "z", "Softmax", {"x": "x"})
    explanation = warm.explain(X, seed="contrastive")
    assert loaded(warm)
    assert str(warm.plan) == str(cold.plan)
    assert warm.graph.outputs == cold.graph.outputs
    assert np.array_equal(explanation.conservation.seed, cold.explain(X, seed="contrastive").conservation.seed)
    assert warm.to_onnx().SerializeToString() == cold.to_onnx().SerializeToString()
    several = np.array([[0, 1], [2, 3]])
    assert np.array_equal(explainer_of(path, folder).explain(X, several).relevance, cold.explain(X, several).relevance)


@pytest.mark.parametrize(
    "options",
    [
        {"composite": "epsilon"},
        {"composite": "epsilon_plus_flat", "epsilon": 0.5},
        {"composite": Epsilon(0.5)},
        {"output": "y"},
        {"output": "r"},
        {"inputs": ["r"]},
        {"record": ["r"]},
        {"record": "all"},
        {"keep_final_activation": True},
        {"providers": [("CPUExecutionProvider", {"use_arena": "0"})]},
    ],
    ids=str,
)
def test_another_question_is_another_entry(path, folder, options):
    explainer_of(path, folder)
    arguments = {"cache": folder, "providers": "cpu"} | options
    other = onnx_lrp.Explainer(path, **arguments)
    assert not loaded(other)
    again = onnx_lrp.Explainer(path, **arguments)
    assert loaded(again)
    assert loaded(explainer_of(path, folder))
    if options.get("inputs") is None:
        assert np.array_equal(other.explain(X).relevance, again.explain(X).relevance)


def test_threads_and_labels_are_not_part_of_the_key(path, folder):
    explainer_of(path, folder)
    assert loaded(explainer_of(path, folder, threads=1, labels=list("abcdef")))
    with pytest.raises(onnx_lrp.InputError, match="labels"):
        explainer_of(path, folder, labels=list("ab"))


def test_other_weights_under_the_same_path(path, folder):
    before = explainer_of(path, folder).explain(X)
    state = path.stat()
    onnx.save(network(seed=1), path)
    assert path.stat().st_size == state.st_size
    found = explainer_of(path, folder)
    assert not loaded(found)
    assert not np.array_equal(found.explain(X).relevance, before.relevance)
    assert np.array_equal(found.explain(X).relevance, onnx_lrp.explain(path, X, providers="cpu").relevance)


def test_other_weights_in_a_file_beside_it(tmp_path, folder):
    path = tmp_path / "split.onnx"

    def save(seed):
        (tmp_path / "weights.bin").unlink(missing_ok=True)
        onnx.save(network(seed), path, save_as_external_data=True, location="weights.bin", size_threshold=0)

    save(0)
    explainer_of(path, folder)
    assert loaded(explainer_of(path, folder))
    graph = path.read_bytes()
    save(1)
    assert path.read_bytes() == graph  # only the other file has changed
    found = explainer_of(path, folder)
    assert not loaded(found)
    assert np.array_equal(found.explain(X).relevance, onnx_lrp.explain(network(1), X, providers="cpu").relevance)


def test_a_model_that_changes_after_a_warm_start_is_not_mixed_with_the_old_one(path, folder):
    explainer_of(path, folder)
    warm = explainer_of(path, folder)
    onnx.save(network(seed=1), path)
    with pytest.raises(onnx_lrp.ModelError, match="has changed"):
        str(warm.plan)


def test_bytes_and_protos_are_models_too(path, folder):
    explainer_of(path, folder)
    assert loaded(explainer_of(path.read_bytes(), folder))
    explainer_of(network(), folder)
    assert loaded(explainer_of(network(), folder))
    with pytest.raises(onnx_lrp.InputError, match="path, bytes or ModelProto"):
        explainer_of(explainer_of(path, folder).graph, folder)


def test_other_providers_are_not_cached(path, folder, caplog):
    assert Cache(folder).entry(path, {"providers": [("CUDAExecutionProvider", {}), "CPUExecutionProvider"]}) is None
    assert "CPU only" in caplog.text


def test_a_composite_with_selectors_cannot_be_told_apart(path, folder):
    composite = Composite([("Conv", Gamma(0.1)), *base_map()])
    with pytest.raises(onnx_lrp.InputError, match="by its name or file"):
        explainer_of(path, folder, composite)


def test_a_composite_file_is_known_by_its_content(path, folder, tmp_path):
    file = tmp_path / "own.json"
    data = {"base": "epsilon", "options": {"epsilon": 0.1}}
    first, second = [*map(json.dumps, (data, data | {"options": {"epsilon": 0.2}}))]
    keys = []
    for text in (first, second, first):
        file.write_text(text)
        keys.append(Cache(folder).entry(path, {"composite": str(file)}).folder)
    assert keys[0] == keys[2] != keys[1]


def test_identity():
    patterns = [Patterns({"conv": np.full((2, 2), value, np.float32)}) for value in (1, 1, 2)]
    assert identity(patterns[0]) == identity(patterns[1]) != identity(patterns[2])
    arrays = [np.zeros((2, 3)), np.zeros((3, 2)), np.zeros((2, 3), np.float32), np.ones((2, 3))]
    different = [*arrays, 1, 1.0, True, "1", None, [1], (1,), {"a": 1}, {"a": 2}, Epsilon(0.1), Epsilon(0.2), Gamma(0.1)]
    assert len({json.dumps(identity(value)) for value in different}) == len(different)
    assert identity({"a": 1, "b": 2}) == identity({"b": 2, "a": 1})


def test_pieces_of_a_large_model_are_all_hashed(monkeypatch):
    monkeypatch.setattr("onnx_lrp.fingerprint._PIECE", 100)
    data = bytes(950)
    assert len({content_of(data), *(content_of(data[:i] + b"x" + data[i + 1 :]) for i in range(0, 950, 50))}) == 20
    assert content_of(data) == content_of(bytes(950))


def test_the_key_has_package_runtime_and_processor(path, folder, monkeypatch):
    key = Cache(folder).entry(path, {}).folder
    for index in range(len(environment())):
        changed = [text + "'" if position == index else text for position, text in enumerate(environment())]
        monkeypatch.setattr("onnx_lrp.cache.environment", lambda changed=changed: changed)
        assert Cache(folder).entry(path, {}).folder != key
    monkeypatch.setattr("onnx_lrp.cache.environment", environment)
    assert Cache(folder).entry(path, {}).folder == key


def cut(file):
    file.write_bytes(file.read_bytes()[:-10])


def scribble(file):
    data = bytearray(file.read_bytes())
    data[len(data) // 2] ^= 255
    file.write_bytes(data)


@pytest.mark.parametrize(
    ("name", "damage"),
    [
        *((name, damage) for name in ("explainer.onnx", "explainer.onnx.data", "explainer.json") for damage in (cut, lambda f: f.unlink())),
        ("explainer.onnx", scribble),
        ("explainer.json", lambda file: file.write_text("{}")),
        ("explainer.json", lambda file: file.write_text("[1]")),
        ("explainer.json", lambda file: file.write_bytes(b"\xff\xfe")),
    ],
)
def test_a_damaged_entry_is_noted_and_made_anew(path, folder, caplog, name, damage):
    expected = explainer_of(path, folder).explain(X).relevance
    (entry,) = Cache(folder).entries()
    damage(entry / name)
    with caplog.at_level(logging.WARNING):
        found = explainer_of(path, folder)
    assert not loaded(found)
    assert [record.name for record in caplog.records] == ["onnx_lrp.cache"]
    assert "damaged" in caplog.text
    assert np.array_equal(found.explain(X).relevance, expected)
    assert loaded(explainer_of(path, folder))


def test_a_folder_that_cannot_be_written_to_is_noted(path, tmp_path, caplog):
    (tmp_path / "file").write_text("")
    explanation = explainer_of(path, tmp_path / "file" / "cache").explain(X)
    assert "not cached" in caplog.text
    assert np.array_equal(explanation.relevance, onnx_lrp.explain(path, X, providers="cpu").relevance)


def test_nothing_half_written_stays(path, folder, caplog, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Signature, "dumps", full)
    assert explainer_of(path, folder).explain(X).relevance.shape == X.shape
    assert "No space left" in caplog.text
    assert list(folder.iterdir()) == []


def test_another_process_that_was_faster(path, folder, monkeypatch):
    rivals = []

    def slow(self):
        if not rivals:
            rivals.append(None)
            explainer_of(path, folder)
        return dumps(self)

    dumps = Signature.dumps
    monkeypatch.setattr(Signature, "dumps", slow)
    explainer_of(path, folder)
    assert len(list(folder.iterdir())) == 1
    assert loaded(explainer_of(path, folder))


def test_what_was_not_used_for_longest_goes_first(path, folder):
    first, second = (explainer_of(path, folder, "epsilon", epsilon=value)._entry.folder for value in (0.1, 0.2))
    for age, entry in enumerate((second, first)):
        os.utime(entry / "explainer.json", (1e9 - age, 1e9 - age))
    assert Cache(folder).entries() == [first, second]
    assert loaded(explainer_of(path, folder, "epsilon", epsilon=0.1))  # used again
    cache = Cache(folder)
    assert cache.entries() == [second, first]
    Cache(folder, limit=cache.size() - 1).trim(second)
    assert cache.entries() == [second]
    Cache(folder, limit=0).trim(second)
    assert cache.entries() == [second]


def test_where_the_cache_is(monkeypatch, tmp_path):
    monkeypatch.setenv("ONNX_LRP_CACHE", str(tmp_path / "own"))
    assert default_folder() == tmp_path / "own"
    monkeypatch.delenv("ONNX_LRP_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    if sys.platform == "linux":
        assert default_folder() == tmp_path / "onnx_lrp"


def test_the_command(path, folder, tmp_path, monkeypatch, run):
    monkeypatch.setenv("ONNX_LRP_CACHE", str(folder))
    np.save(tmp_path / "x.npy", X)
    for name, more in {"a": [], "b": ["--cache"], "c": ["--cache"]}.items():
        assert run("explain", path, tmp_path / "x.npy", "-o", tmp_path / name, "--format", "npz", *more)[0] == 0
    assert "1 explainer" in run("cache")[1]
    with np.load(tmp_path / "a" / "x_relevance.npz") as a, np.load(tmp_path / "c" / "x_relevance.npz") as c:
        assert a.keys() == c.keys()
        assert all(np.array_equal(a[key], c[key]) for key in a)
    assert "1 explainer removed" in run("cache", "--clear")[1]
    assert "0 explainers" in run("cache")[1]


def test_a_graph_of_its_own_process(path, folder, tmp_path):
    """What one process keeps, the next one finds."""
    code = f"import onnx_lrp, numpy as np; e = onnx_lrp.Explainer({str(path)!r}, cache={str(folder)!r}, providers='cpu'); "
    code += f"print(e._entry.loaded); np.save({str(tmp_path / 'r.npy')!r}, e.explain(np.load({str(tmp_path / 'x.npy')!r})).relevance)"
    np.save(tmp_path / "x.npy", X)
    told = []
    for _ in range(2):
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
        told.append(done.stdout.strip())
    assert told == ["False", "True"]
    assert np.array_equal(np.load(tmp_path / "r.npy"), onnx_lrp.explain(path, X, providers="cpu").relevance)
