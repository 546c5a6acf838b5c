"""The example that draws the pattern methods beside others."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
from PIL import Image

ROOT = Path(__file__).resolve().parents[1]


def test_the_sheet_is_drawn(tmp_path: Path) -> None:
    file = tmp_path / "sheet.png"
    command = [sys.executable, str(ROOT / "examples" / "patterns.py"), "-o", str(file)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)
    assert (done.returncode, done.stderr) == (0, "")
    assert "7 layers, fitted to 300 pictures" in done.stdout
    with Image.open(file) as sheet:
        pixels = np.asarray(sheet.convert("RGB")).astype(int)
    red, blue = (pixels[..., a] - pixels[..., 2 - a] > 100 for a in (0, 2))
    assert red.sum() > blue.sum() > 1000
