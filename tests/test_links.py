"""What the pages link to exists: files, headings, pictures."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]


def text_of(page: Path) -> str:
    """A page without its code, where brackets mean something else."""
    return re.sub(r"```.*?```|`[^`\n]*`", "", page.read_text(), flags=re.DOTALL)


def anchors(page: Path) -> set[str]:
    """The names under which a page's headings can be linked to."""
    headings = re.findall(r"^#+ (.*)$", re.sub(r"```.*?```", "", page.read_text(), flags=re.DOTALL), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def links(page: Path) -> list[tuple[Path, str]]:
    """The files and headings that a page links to within the project."""
    found = re.findall(r"\]\((?!https?:|mailto:)([^)#\s]*)(?:#([^)\s]*))?\)", text_of(page))
    return [(page.parent / file if file else page, anchor) for file, anchor in found]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_links_lead_somewhere(page: Path) -> None:
    assert [str(file) for file, _ in links(page) if not file.exists()] == []
    assert [(file.name, anchor) for file, anchor in links(page) if anchor and anchor not in anchors(file)] == []


def test_every_page_is_in_the_index() -> None:
    index = ROOT / "docs" / "index.md"
    linked = {file.resolve() for file, _ in links(index)}
    assert [page.name for page in PAGES if page != index and page not in linked] == []


def test_every_picture_is_shown() -> None:
    shown = {file.resolve() for page in PAGES for file, _ in links(page)}
    assert [picture.name for picture in (ROOT / "docs" / "images").iterdir() if picture not in shown] == []


def test_a_broken_link_would_be_found(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text(
        "# A heading, and more\n[a](gone.md) [b](#a-heading-and-more) [c](page.md#none) ![d](e.png) `[f](g.md)` [h](https://i.j)\n"
    )
    assert [file.name for file, _ in links(page) if not file.exists()] == ["gone.md", "e.png"]
    assert [anchor for _, anchor in links(page) if anchor and anchor not in anchors(page)] == ["none"]
