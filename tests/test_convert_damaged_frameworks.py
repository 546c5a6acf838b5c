"""Damaged copies of PyTorch's and Keras's files: each is read, or refused with one line, without a crash and soon."""

from __future__ import annotations

import re
import time
import zipfile
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from frameworks import need, small
from mutations import cut, flip, insert, overwrite, repeat

from onnx_lrp.converters import find
from onnx_lrp.converters.frameworks import quiet
from onnx_lrp.converters.keras import sources as keras_sources
from onnx_lrp.converters.keras import use_keras
from onnx_lrp.converters.pytorch import sources as torch_sources
from onnx_lrp.errors import OnnxLrpError

need("torch", "onnxscript", "keras", "h5py")
import torch  # noqa: E402

COUNT = 500
SECONDS = 60
PLAIN = (flip, overwrite, cut, insert, repeat)
WORDS = [b"0", b"1", b"-1", b"77", b"1000000000", b"99999999999999999999", b"1e999", b"null", b"true", b'"x"', b"[]", b"{}", b"\\u0000"]


def change_value(data: bytes, rng: np.random.Generator) -> bytes:
    """Another value in place of a number, a text or a word in JSON."""
    places = list(re.finditer(rb'"[^"]*"|-?\d+(\.\d+)?|true|false|null', data))
    chosen = places[int(rng.integers(len(places)))]
    return data[: chosen.start()] + WORDS[int(rng.integers(len(WORDS)))] + data[chosen.end() :]


def within(end: str, mutations: tuple[Callable[..., bytes], ...]) -> Callable[[bytes, np.random.Generator], bytes]:
    """Damages one member of a zip file, which else stays whole: its checksum fits."""

    def damage(data: bytes, rng: np.random.Generator) -> bytes:
        path = Path("part.zip")
        path.write_bytes(data)
        with zipfile.ZipFile(path) as archive:
            parts = {name: archive.read(name) for name in archive.namelist()}
        mutation = mutations[int(rng.integers(len(mutations)))]
        with zipfile.ZipFile(path, "w") as archive:
            for name, value in parts.items():
                archive.writestr(name, mutation(value, rng) if name.endswith(end) else value)
        return path.read_bytes()

    return damage


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("whole")
    keras = use_keras()
    layers = [keras.Input((6, 6, 1)), keras.layers.Conv2D(2, 3, name="conv"), keras.layers.Flatten(), keras.layers.Dense(3, name="fc")]
    model = keras.Sequential(layers)
    with quiet():
        model.save(folder / "model.keras")
        model.save(folder / "model.h5")
        program = torch.export.export(small().eval(), (torch.zeros(2, 3, 8, 8),), dynamic_shapes=({0: torch.export.Dim.DYNAMIC},))
        torch.export.save(program, folder / "model.pt2")
    (folder / "model.json").write_text(model.to_json())
    return folder


def read_keras(path: Path) -> Any:
    weights = path.with_name("weights.h5")
    return keras_sources.load(path, weights if path.suffix == ".json" else None)


CASES: dict[str, tuple[str, Callable[[Path], Any], tuple[Callable[..., bytes], ...]]] = {
    "architecture": ("model.json", read_keras, (change_value, *PLAIN)),
    "HDF5": ("model.h5", read_keras, (change_value, *PLAIN)),
    "archive": ("model.keras", read_keras, PLAIN),
    "architecture in an archive": ("model.keras", read_keras, (within("config.json", (change_value,)),)),
    "weights in an archive": ("model.keras", read_keras, (within("weights.h5", PLAIN),)),
    "exported program": ("model.pt2", lambda path: torch_sources.load(path, None), PLAIN),
    "description of an exported program": (
        "model.pt2",
        lambda path: torch_sources.load(path, None),
        (within("models/model.json", (change_value, change_value, change_value, *PLAIN)),),
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_damaged_files(whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.chdir(tmp_path)
    file, read, mutations = CASES[name]
    data = (whole / file).read_bytes()
    (tmp_path / "weights.h5").write_bytes((whole / "model.h5").read_bytes())
    path = tmp_path / file
    path.write_bytes(data)
    read(path)
    outcomes: Counter[str] = Counter()
    for number in range(COUNT):
        rng = np.random.default_rng(number)
        mutation = mutations[number % len(mutations)]
        path.write_bytes(mutation(data, rng) or b"\0")
        start = time.monotonic()
        try:
            find(path)
            read(path)
            refusal = None
        except OnnxLrpError as error:
            refusal = str(error)
        except Exception as error:  # noqa: BLE001
            pytest.fail(f"copy {number} ({name}): {type(error).__name__}: {error}")
        outcomes["works" if refusal is None else "refused"] += 1
        assert refusal is None or (refusal and "\n" not in refusal)
        assert time.monotonic() - start < SECONDS, f"copy {number} ({name}) takes too long"
    assert outcomes["refused"] > 20
