"""Fixtures that several test files use."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from onnx_lrp.cli import main


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
