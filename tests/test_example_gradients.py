"""The examples of the gradient family."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

ROOT = Path(__file__).resolve().parents[1]


@pytest.mark.parametrize("name", ["gradients", "deeplift", "grad_cam"])
def test_an_example_draws_its_sheet(name: str, tmp_path: Path) -> None:
    path = tmp_path / f"{name}.png"
    command = [sys.executable, "-W", "error", str(ROOT / "examples" / f"{name}.py"), "-o", str(path)]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=120, env=environment)
    assert (done.returncode, done.stderr) == (0, "")
    with Image.open(path) as sheet:
        colours = sheet.convert("RGB").getcolors(1 << 20)
    strong = [(red, blue) for _, (red, _, blue) in colours if abs(red - blue) > 100]
    assert any(red > blue for red, blue in strong)
    assert any(blue > red for red, blue in strong)
