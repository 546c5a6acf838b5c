"""Fixtures that several test files use."""

from __future__ import annotations

import os
from pathlib import Path

import pytest


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
