"""Long runs: reading ahead, and files that take one explanation after the other."""

from __future__ import annotations

import gc
import threading
import tracemalloc
import weakref

import numpy as np
import pytest
from models import build, op, value_info

import onnx_lrp
from onnx_lrp import ExplanationFile, InputError
from onnx_lrp.errors import WriteError
from onnx_lrp.explanation import Explanation
from onnx_lrp.streams import ahead


def weights(*shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def small_model():
    nodes = [op("Gemm", "x w", "h"), op("Relu", "h", "r"), op("Gemm", "r v", "y")]
    return build(nodes, {"x": ["N", 4]}, [value_info("y", ["N", 3])], {"w": weights(4, 6), "v": weights(6, 3, seed=1)})


SMALL = onnx_lrp.Explainer(small_model(), "epsilon", record=["r"], threads=1)


# reading ahead ----------------------------------------------------------------------------------------------------------


def test_the_next_item_is_read_while_one_is_used():
    """Exactly one ahead, in another thread."""
    read, started = [], threading.Semaphore(0)

    def source():
        for number in range(4):
            read.append((number, threading.current_thread() is threading.main_thread()))
            started.release()
            yield number

    items = ahead(source())
    assert next(items) == 0
    assert started.acquire(timeout=10)
    assert started.acquire(timeout=10)  # the second is read although nobody asked
    assert list(items) == [1, 2, 3]
    assert read == [(number, False) for number in range(4)]


def test_no_more_than_one_item_is_read_ahead():
    read = []
    items = ahead(read.append(number) or number for number in range(10))
    assert [next(items), next(items)] == [0, 1]
    items.close()  # waits for the one that is being read
    assert read == [0, 1, 2]


def test_an_error_comes_where_its_item_would():
    def source():
        yield 1
        yield 2
        raise OSError("the disk is gone")

    items = ahead(source())
    assert [next(items), next(items)] == [1, 2]
    with pytest.raises(OSError, match="the disk is gone"):
        next(items)
    assert list(items) == []


def test_no_thread_is_left():
    before = threading.active_count()
    for items in (ahead(iter(range(3))), SMALL.explain_many([weights(2, 4)] * 5)):
        next(items)
        assert threading.active_count() == before + 1
        items.close()
        assert threading.active_count() == before


def test_many_batches():
    """Arrays, dicts, and pairs with a target of their own."""
    batches = [weights(2, 4), {"x": weights(3, 4, seed=1)}, (weights(1, 4, seed=2), [2])]
    found = list(SMALL.explain_many(iter(batches), 1, "one", batch_size=2))
    assert [explanation.target.tolist() for explanation in found] == [[1, 1], [1, 1, 1], [2]]
    np.testing.assert_allclose(found[1].relevance, SMALL.explain(weights(3, 4, seed=1), 1, "one").relevance, rtol=1e-5)


def test_bad_batches_fail_in_their_turn():
    found = SMALL.explain_many([weights(2, 4), weights(2, 5)])
    next(found)
    with pytest.raises(InputError, match="has shape"):
        next(found)


def test_a_long_run_holds_no_explanations(monkeypatch, tmp_path):
    """Neither the run nor the file keeps what is done.

    One explanation is far larger than what Python itself keeps for a while (caches, a new thread): some twenty kilobytes.
    """
    rows = 2**14
    alive = weakref.WeakSet()
    init = Explanation.__init__

    def count(self, *arguments, **options):
        init(self, *arguments, **options)
        alive.add(self)

    monkeypatch.setattr(Explanation, "__init__", count)
    most = 0
    for suffix in (".h5", ".npz"):
        sizes = []
        with ExplanationFile(tmp_path / f"all{suffix}") as file:
            tracemalloc.start()
            for number, explanation in enumerate(SMALL.explain_many(weights(rows, 4, seed=number) for number in range(60))):
                file.write(explanation)
                most = max(most, len(alive))
                if number in (19, 59):
                    gc.collect()
                    sizes.append(tracemalloc.get_traced_memory()[0])
            tracemalloc.stop()
        assert sizes[1] - sizes[0] < 2 * explanation.relevance.nbytes, sizes  # 40 of them came between
        assert file.count == 60 * rows
    assert most <= 3


# files ------------------------------------------------------------------------------------------------------------------


def load(path):
    if path.suffix == ".npz":
        with np.load(path, allow_pickle=False) as file:
            return dict(file)
    h5py = pytest.importorskip("h5py")
    with h5py.File(path) as file:
        found = {}
        for name, data in file.items():
            value = data.asstr()[()] if h5py.check_string_dtype(data.dtype) else data[()]
            found[name] = np.asarray(value)
        return found


@pytest.fixture(params=[".npz", ".h5", ".HDF5"])
def path(request, tmp_path):
    if request.param != ".npz":
        pytest.importorskip("h5py")
    return tmp_path / f"all{request.param}"


@pytest.mark.parametrize("target", [None, 1, "several"])
def test_a_file_of_parts_is_that_of_the_whole(path, target, tmp_path):
    x = weights(7, 4)
    chosen = np.arange(14).reshape(7, 2) % 3 if target == "several" else target
    whole = SMALL.explain(x, chosen)
    whole.save(tmp_path / f"whole{path.suffix}")
    with ExplanationFile(path) as file:
        for start in (0, 3, 6):
            file.write(whole.part(slice(start, start + 3)), source=[f"{row}.png" for row in range(start, min(start + 3, 7))])
        assert not path.exists()
    found, want = load(path), load(tmp_path / f"whole{path.suffix}")
    assert found.pop("source").tolist() == [f"{row}.png" for row in range(7)]
    assert list(found) == list(want)
    for name, value in want.items():
        assert found[name].dtype == value.dtype, name
        np.testing.assert_array_equal(found[name], value, err_msg=name)
    assert sorted(file.name for file in tmp_path.iterdir()) == sorted([path.name, f"whole{path.suffix}"])


def test_true_classes_and_hdf5_data_once(tmp_path):
    h5py = pytest.importorskip("h5py")
    with ExplanationFile(tmp_path / "all.h5") as file:
        for labels in ([0, 2], [1, 1]):
            file.write(SMALL.explain(weights(2, 4)), labels)
    with h5py.File(tmp_path / "all.h5") as file:
        assert file["label"][()].tolist() == [0, 2, 1, 1]
        assert file["attribution"] == file["relevance"]  # one data set of two names
        assert "relevance:r" in file or "relevance:r".replace("/", "%2F") in file


def test_nothing_stays_after_an_error(path, tmp_path):
    path.write_text("what was there before")
    before = {file.name for file in tmp_path.iterdir()}

    def write():
        with ExplanationFile(path) as file:
            file.write(SMALL.explain(weights(2, 4)))
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        write()
    assert {file.name for file in tmp_path.iterdir()} == before
    assert path.read_text() == "what was there before"


def test_no_explanation_no_file(path):
    with ExplanationFile(path):
        pass
    assert not path.exists()


def test_a_wrong_explanation_is_left_out(path):
    """The file goes on without it."""
    other = onnx_lrp.Explainer(small_model(), "gradient", record=["r"], threads=1)
    with ExplanationFile(path) as file:
        file.write(SMALL.explain(weights(2, 4)))
        with pytest.raises(InputError, match="holds explanations of another explainer"):
            file.write(other.explain(weights(2, 4)))
        with pytest.raises(InputError, match=r"the array 'relevance' is \(2, 4\) for each sample, in .* it is \(4,\) for each sample"):
            file.write(SMALL.explain(weights(2, 4), [[0, 1], [1, 2]]))
        with pytest.raises(InputError, match="2 sources for 2 samples: give one for each sample of all explanations"):
            file.write(SMALL.explain(weights(2, 4)), source=["a", "b"])
        file.write(SMALL.explain(weights(1, 4)))
    assert load(path)["relevance"].shape == (3, 4)


def test_samples_behind_the_first_axis(tmp_path):
    nodes = [op("Transpose", "x", "t", perm=[1, 0, 2]), op("Transpose", "t", "b", perm=[1, 0, 2])]
    nodes += [op("ReduceMean", "b i", "p", keepdims=0), op("Gemm", "p w", "y")]
    made = onnx_lrp.Explainer(
        build(nodes, {"x": ["N", 4, 6]}, constants={"w": weights(6, 3), "i": np.array([1])}), "epsilon", record=["t"], threads=1
    )
    explanation = made.explain(weights(3, 4, 6))
    with pytest.raises(InputError, match="the samples of 't' cannot be parted"):
        explanation.part(slice(0, 1))
    with ExplanationFile(tmp_path / "all.npz") as file:
        file.write(explanation)
        with pytest.raises(InputError, match="the samples are not in the first axis of 't'"):
            file.write(explanation)


def test_where_nothing_can_be_written(tmp_path):
    with pytest.raises(WriteError, match="there is no folder"):
        ExplanationFile(tmp_path / "nowhere" / "all.npz")
    with pytest.raises(InputError, match=r"cannot write an explanation to a file with suffix '\.txt'"):
        ExplanationFile(tmp_path / "all.txt")


def test_a_full_disk_is_one_line(tmp_path, monkeypatch):
    def full(*arguments):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("onnx_lrp.streams.shutil.copyfileobj", full)
    with pytest.raises(WriteError, match="No space left on device"), ExplanationFile(tmp_path / "all.npz") as file:
        file.write(SMALL.explain(weights(2, 4)))
    assert list(tmp_path.iterdir()) == []


def test_parts_of_an_explanation():
    """They are what a run of these samples alone gives, the account with it."""
    x = weights(5, 4)
    for target, seed in (
        (None, "output"),
        ([[0, 1]] * 5, "contrastive"),
        (np.eye(3, dtype=bool)[[0, 1, 2, 0, 1]], "one"),
        (None, weights(5, 3)),
    ):
        part = SMALL.explain(x, target, seed).part(slice(1, 3))
        chosen = None if target is None else target[1:3]
        alone = SMALL.explain(x[1:3], chosen, seed if isinstance(seed, str) else seed[1:3])
        for name, value in alone.relevances.items():
            np.testing.assert_allclose(part.relevances[name], value, rtol=1e-4, atol=1e-6)
        np.testing.assert_array_equal(part.target, alone.target)
        np.testing.assert_array_equal(part.inputs["x"], x[1:3])
        np.testing.assert_allclose(part.conservation.inputs, alone.conservation.inputs, rtol=1e-4, atol=1e-6)
