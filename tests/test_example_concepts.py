"""The example of conditional relevance."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from PIL import Image

ROOT = Path(__file__).resolve().parents[1]


def test_the_example_draws_its_sheet(tmp_path: Path) -> None:
    path = tmp_path / "concepts.png"
    command = [sys.executable, "-W", "error", str(ROOT / "examples" / "concepts.py"), "-o", str(path)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=120, env=os.environ | {"PYTHONPATH": str(ROOT)})
    assert (done.returncode, done.stderr) == (0, "")
    assert "49 relevance passes over one forward pass" in done.stdout
    with Image.open(path) as sheet:
        colours = sheet.convert("RGB").getcolors(1 << 20)
    assert sum(count for count, (red, _, blue) in colours if red - blue > 100) > 1000
