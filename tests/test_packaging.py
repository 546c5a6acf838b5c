"""An installed package holds every folder of the source."""

from __future__ import annotations

import tomllib
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]


def test_every_package_is_installed() -> None:
    setuptools = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]
    folders = {file.parent.relative_to(ROOT) for top in ("onnx_lrp", "converters") for file in (ROOT / top).rglob("__init__.py")}
    assert folders, "the source is not where this test looks for it"
    names = {".".join(folder.parts) for folder in folders}
    assert set(setuptools["packages"]) == {name if name.startswith("onnx_lrp") else f"onnx_lrp.{name}" for name in names}
    converters = {f"onnx_lrp.{name}": name.replace(".", "/") for name in names if not name.startswith("onnx_lrp")}
    assert setuptools["package-dir"] == {"onnx_lrp": "onnx_lrp"} | converters
