"""Fixtures that several test files use."""

from __future__ import annotations

import importlib.util
import os
import sys
from pathlib import Path

import pytest

from onnx_lrp.cli import main
from onnx_lrp.interpreter import cuda_is_there

if importlib.util.find_spec("onnx_lrp.converters") is None:  # not installed: take them from the clone
    _folder = Path(__file__).resolve().parents[1] / "converters"
    _spec = importlib.util.spec_from_file_location(
        "onnx_lrp.converters", _folder / "__init__.py", submodule_search_locations=[str(_folder)]
    )
    assert _spec is not None
    assert _spec.loader is not None
    sys.modules["onnx_lrp.converters"] = importlib.util.module_from_spec(_spec)
    _spec.loader.exec_module(sys.modules["onnx_lrp.converters"])


def pytest_runtest_setup(item: pytest.Item) -> None:
    if item.get_closest_marker("gpu") and not cuda_is_there():
        pytest.skip("no GPU that onnxruntime can use")


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The reference data beside the repository; its tests skip without it, except in CI, which has to have it."""
    folder = Path(__file__).resolve().parents[2] / "shared" / "data"
    if not folder.is_dir():
        message = f"no reference data in {folder}"
        if os.environ.get("CI") == "true":
            pytest.fail(f"CI must run this test: {message}")
        pytest.skip(message)
    return folder


@pytest.fixture
def run(capsys, monkeypatch, tmp_path):
    """Runs the command line in an empty folder: arguments -> exit code, standard output, standard error."""
    monkeypatch.chdir(tmp_path)

    def run(*arguments):
        monkeypatch.setattr(sys, "argv", ["onnx-lrp", *map(str, arguments)])
        with pytest.raises(SystemExit) as stop:
            main()
        out, err = capsys.readouterr()
        return stop.value.code or 0, out, err

    return run
