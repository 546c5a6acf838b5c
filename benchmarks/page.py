"""The generated parts of a Markdown page: what stands between two markers, and the plot beside the page."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import chart
import summary
import tables

if TYPE_CHECKING:
    from pathlib import Path

    from results import Results

PARTS = ("environment", "plot", "summary", "speed", "facts")
END = "<!-- end of generated -->"
PICTURE = "images/speed.png"


def rewrite(path: Path, results: Results) -> None:
    """Puts the results into a page, and draws the plot.

    Raises:
        ValueError: the page has not all markers.
    """
    parts = {
        "environment": tables.environment(results),
        "plot": f"![Cost of an explanation in forward passes, per network and composite]({PICTURE})",
        "summary": summary.text(results),
        "speed": tables.speed(results),
        "facts": tables.facts(results),
    }
    text = filled(path.read_text(encoding="utf-8"), parts)
    picture = path.parent / PICTURE
    picture.parent.mkdir(exist_ok=True)
    chart.draw(results.rows, picture)
    path.write_text(text, encoding="utf-8")


def check(path: Path) -> None:
    """Raises OSError for a page that cannot be read, and ValueError for one that has not all markers."""
    filled(path.read_text(encoding="utf-8"), dict.fromkeys(PARTS, ""))


def filled(text: str, parts: dict[str, str]) -> str:
    """A page with new generated parts; all else stays as it is."""
    for name, part in parts.items():
        pattern = re.compile(rf"(<!-- generated: {name} -->\n).*?({re.escape(END)})", re.DOTALL)
        if not pattern.search(text):
            raise ValueError(f"the page has no marker <!-- generated: {name} --> with {END} behind it")
        text = pattern.sub(lambda found, part=part: f"{found[1]}\n{part}\n\n{found[2]}", text)
    return text
