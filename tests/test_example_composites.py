"""The example that draws composites and rules side by side."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
from PIL import Image

ROOT = Path(__file__).resolve().parents[1]


def test_both_sheets_are_drawn(tmp_path: Path) -> None:
    command = [sys.executable, str(ROOT / "examples" / "composites.py"), "-o", str(tmp_path / "sheets")]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)
    assert (done.returncode, done.stderr) == (0, "")
    for name in ("composites.png", "rules.png"):
        assert str(Path("sheets") / name) in done.stdout
        with Image.open(tmp_path / "sheets" / name) as sheet:
            pixels = np.asarray(sheet.convert("RGB")).astype(int)
        red, blue = (pixels[..., a] - pixels[..., 2 - a] > 100 for a in (0, 2))
        assert sheet.width > sheet.height > 600
        assert red.sum() > blue.sum() > 1000  # more speaks for a digit that is recognised than against it
