"""Damaged copies of real files: each is read, or refused with one line, in little time and memory, and nothing is ever run."""

from __future__ import annotations

import re
import tracemalloc
import zlib
from collections import Counter
from collections.abc import Callable

import numpy as np
import pytest
from caffe_nets import SMALL, SMALL_FEATURES, random_weights, save_mean
from mutations import change_field, cut, flip, insert, overwrite, repeat

from onnx_lrp.converters import convert
from onnx_lrp.converters.caffe.emit import to_onnx
from onnx_lrp.converters.caffe.mean import read_mean
from onnx_lrp.converters.caffe.network import give_weights, read_network, read_weights
from onnx_lrp.converters.lrp_toolbox import read
from onnx_lrp.errors import ModelError, OnnxLrpError

COUNT = 500
PLAIN = (flip, overwrite, cut, insert, repeat)


def change_number(data: bytes, rng: np.random.Generator) -> bytes:
    """Another number in place of one in a text."""
    places = list(re.finditer(rb"\d+", data))
    chosen = places[int(rng.integers(len(places)))]
    number = rng.choice([b"0", b"1", b"-1", b"3", b"77", b"1000000", b"4294967296", b"1e999", b"nan", b"x", b"99999999999999999999"])
    return data[: chosen.start()] + bytes(number) + data[chosen.end() :]


def change_line(data: bytes, rng: np.random.Generator) -> bytes:
    """A line that is left out, or twice there, or somewhere else."""
    lines = data.split(b"\n")
    first, second = (int(index) for index in rng.integers(len(lines), size=2))
    taken = lines[first] if rng.random() < 0.5 else lines.pop(first)
    lines.insert(second, taken)
    return b"\n".join(lines)


def damage(path, data: bytes, use: Callable[[], object], mutations, limit: int) -> Counter[str]:
    """Uses damaged copies; every error must be one of ours, on one line, and no copy may take more memory than the limit."""
    outcomes: Counter[str] = Counter()
    tracemalloc.start()
    try:
        for number in range(COUNT):
            rng = np.random.default_rng(number)
            mutation = mutations[number % len(mutations)]
            path.write_bytes(mutation(data, rng))
            tracemalloc.reset_peak()
            refusal: str | None = None
            try:
                use()
            except OnnxLrpError as error:
                refusal = str(error)
            except Exception as error:  # noqa: BLE001 - says which copy it was
                pytest.fail(f"copy {number} ({mutation.__name__}): {type(error).__name__}: {error}")
            outcomes["works" if refusal is None else "refused"] += 1
            assert refusal is None or (refusal and "\n" not in refusal)
            assert tracemalloc.get_traced_memory()[1] < limit, f"copy {number} ({mutation.__name__}) takes too much memory"
    finally:
        tracemalloc.stop()
    return outcomes


def uncompressed(data: bytes) -> bytes:
    """A MAT file whose elements are not compressed, so that damage hits what is in them."""
    parts, start = [data[:128]], 128
    while start < len(data):
        kind, length = (int.from_bytes(data[start + at : start + at + 4], "little") for at in (0, 4))
        content = data[start + 8 : start + 8 + length]
        parts.append(zlib.decompress(content) if kind == 15 else data[start : start + 8 + length])
        start += 8 + length
    return b"".join(parts)


FILES: dict[str, tuple[str, Callable[[bytes], bytes], tuple[Callable[..., bytes], ...]]] = {
    "text": ("xor_net_small.txt", lambda data: data, (change_number, change_line, *PLAIN)),
    "old text": ("xor_net_small_legacy.txt", lambda data: data, (change_number, change_line, *PLAIN)),
    "pickle": ("LeNet-5.nn", lambda data: data, PLAIN),
    "MAT": ("LeNet-5.mat", lambda data: data, PLAIN),
    "MAT, not compressed": ("LeNet-5.mat", uncompressed, PLAIN),
}


@pytest.mark.parametrize("name", FILES)
def test_damaged_models_of_lrp_toolbox(shared_data, tmp_path, name) -> None:
    file, change, mutations = FILES[name]
    data = change((shared_data / "lrp_toolbox" / file).read_bytes())
    path = tmp_path / file
    path.write_bytes(data)
    assert len(read(path)[1]) in (6, 11)
    outcomes = damage(path, data, lambda: read(path), mutations, 32 * 2**20)
    assert outcomes["refused"] > 50
    assert outcomes["works"] > 5 or name == "MAT"


def test_pickles_damaged_in_their_structure(shared_data, tmp_path) -> None:
    """Most of a pickle is weights, so that the bytes before the first of them are damaged alone too."""
    data = (shared_data / "lrp_toolbox" / "LeNet-5.nn").read_bytes()
    head, rest = data[:400], data[400:]
    path = tmp_path / "x.nn"
    mutations = [lambda _, rng, change=change: change(head, rng) + rest for change in PLAIN]
    for mutation in mutations:
        mutation.__name__ = "head"
    assert damage(path, data, lambda: read(path), mutations, 32 * 2**20)["refused"] > 200


def test_damaged_caffe_weights(tmp_path) -> None:
    source, path = tmp_path / "net.prototxt", tmp_path / "net.caffemodel"
    source.write_text(SMALL)
    data = random_weights(SMALL, SMALL_FEATURES).SerializeToString()

    def use() -> None:
        network = read_network(source)
        give_weights(network, read_weights(path), str(path))
        to_onnx(network, {}, "net")

    outcomes = damage(path, data, use, (change_field, flip, change_field, overwrite, cut, insert, repeat), 32 * 2**20)
    assert min(outcomes["refused"], outcomes["works"]) > 50


def test_damaged_caffe_networks(tmp_path) -> None:
    path, weights = tmp_path / "net.prototxt", tmp_path / "net.caffemodel"
    weights.write_bytes(random_weights(SMALL, SMALL_FEATURES).SerializeToString())
    known = read_weights(weights)

    def use() -> None:
        network = read_network(path)
        give_weights(network, known, str(weights))
        to_onnx(network, {}, "net")

    outcomes = damage(path, SMALL.encode(), use, (change_number, change_line, *PLAIN), 32 * 2**20)
    assert min(outcomes["refused"], outcomes["works"]) > 25


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("x.txt", b"Rect\n" * 5000),
        ("x.prototxt", b'input: "x" input_dim: 1 input_dim: 1 input_dim: 1 input_dim: 1\n' + b'layer { name: "a" type: "ReLU" }\n' * 5000),
    ],
)
def test_models_of_too_many_layers_are_refused(tmp_path, name, content) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(ModelError, match="has 5000 layers, more than the 4096 that are read"):
        convert(tmp_path / name, **({"weights": tmp_path / name} if name == "x.prototxt" else {}))


def test_damaged_mean_files(tmp_path) -> None:
    path = tmp_path / "mean"
    data = save_mean(path, np.ones((3, 4, 4))).read_bytes()
    outcomes = damage(path, data, lambda: read_mean(path), (change_field, *PLAIN), 32 * 2**20)
    assert min(outcomes["refused"], outcomes["works"]) > 50
