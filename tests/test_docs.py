"""What the documentation lists is what there is."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from onnx_lrp import COMPOSITES, Composite, rules
from onnx_lrp.composites import ALIASES
from onnx_lrp.demo import load
from onnx_lrp.operators import OPERATORS

ROOT = Path(__file__).resolve().parents[1]
PAGES = [
    "docs/composites.md",
    "docs/concepts.md",
    "docs/rules.md",
    "docs/gradients.md",
    "docs/patterns.md",
    "docs/seeds.md",
    "docs/evaluation.md",
    "docs/large_runs.md",
]
"""The pages whose examples are run."""


def test_every_operator_is_listed() -> None:
    text = (ROOT / "docs" / "coverage.md").read_text()
    listed = {name.strip() for line in text.splitlines() if line.count("|") == 4 for name in line.split("|")[2].split(",")}
    missing = [op for domain, op in OPERATORS if (op if domain in ("", "onnx_lrp") else f"{domain}.{op}") not in listed]
    assert missing == []


def test_every_composite_is_listed() -> None:
    text = (ROOT / "docs" / "composites.md").read_text()
    assert [key for key in (*COMPOSITES, *ALIASES) if f"`{key}`" not in text] == []


def test_every_rule_is_described() -> None:
    text = (ROOT / "docs" / "rules.md").read_text()
    kinds = [name for name in rules.__all__ if issubclass(getattr(rules, name), rules.Rule) and name not in ("Rule", "AffineRule")]
    assert [name for name in kinds if f"`{name}`" not in text] == []


@pytest.mark.parametrize("page", ["README.md", "docs/gpu.md", *PAGES])
def test_what_a_page_links_to_exists(page: str) -> None:
    linked = re.findall(r"\]\(((?!http)[^)#]+)[^)]*\)", (ROOT / page).read_text())
    assert linked
    assert [link for link in linked if not ((ROOT / page).parent / link).exists()] == []


@pytest.mark.parametrize("page", PAGES)
def test_python_in_a_page_runs(page: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """One block after the other, on the demonstration model."""
    model, images, _ = load()
    (tmp_path / "model.onnx").write_bytes(model)
    monkeypatch.chdir(tmp_path)
    blocks = re.findall(r"```python\n(.*?)```", (ROOT / page).read_text(), re.DOTALL)
    assert len(blocks) >= 2
    known = {*COMPOSITES}
    variables = {"x": images[:2], "images": images}
    try:
        for block in blocks:
            exec(block, variables)  # noqa: S102
    finally:  # what a page registers goes away again
        for key in {*COMPOSITES} - known:
            del COMPOSITES[key]
    assert capsys.readouterr().err == ""


def test_composite_files_in_a_page_can_be_read(tmp_path: Path) -> None:
    blocks = re.findall(r"```json\n(.*?)```", (ROOT / "docs" / "evaluation.md").read_text(), re.DOTALL)
    assert len(blocks) == 2
    for block in blocks:
        (tmp_path / "composite.json").write_text(block)
        assert Composite.load(tmp_path / "composite.json").entries
