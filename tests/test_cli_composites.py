"""The list of composites on the command line, and the composites' further options there."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from onnx_lrp.cli import main
from onnx_lrp.composites import ALIASES, COMPOSITES, FAMILIES
from onnx_lrp.demo import load

Run = Callable[..., tuple[int, str]]


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Run:
    """Calls the command line in a folder with digits.onnx, and gives the exit code and what it printed."""
    (tmp_path / "digits.onnx").write_bytes(load()[0])
    monkeypatch.chdir(tmp_path)

    def call(*arguments: str) -> tuple[int, str]:
        monkeypatch.setattr(sys, "argv", ["onnx-lrp", *arguments])
        with pytest.raises(SystemExit) as stop:
            main()
        printed = capsys.readouterr()
        return int(str(stop.value.code)), printed.out + printed.err

    return call


def test_composites_are_listed_by_family_with_their_other_names(run: Run) -> None:
    code, out = run("composites")
    assert code == 0
    headings = [out.index(f"{family}\n{'-' * len(family)}\n") for family in FAMILIES]
    assert headings == sorted(headings)
    entries = {key: re.search(rf"^{re.escape(key)}\n((  .*\n)+)", out, re.MULTILINE) for key in COMPOSITES}
    assert [key for key, entry in entries.items() if entry is None] == []
    also = {key: re.search(r"also known as: (.*)", entry[1]) for key, entry in entries.items() if entry}
    names = {key: re.sub(r" \(.*?\)", "", line[1]).split(", ") for key, line in also.items() if line}
    for name, alias in ALIASES.items():
        assert name in names[alias.key]


def test_one_composite_is_shown_with_its_rules(run: Run) -> None:
    code, out = run("composites", "epsilon_gamma_box")
    assert code == 0
    assert "options: low, high, epsilon=1e-06, gamma=0.25" in out
    assert "convolution and first layer  ZBox(" in out
    _, out = run("composites", "lrp.epsilon")
    assert "options: epsilon=1e-07" in out
    assert "dense              Epsilon(epsilon=1e-07)" in out


@pytest.mark.parametrize("name", [*COMPOSITES, *ALIASES])
def test_every_composite_can_be_shown(run: Run, name: str) -> None:
    code, out = run("composites", name)
    assert code == 0
    assert "gives its rule:" in out


def test_further_options(run: Run) -> None:
    code, out = run("check", "digits.onnx", "-c", "lrp_toolbox", "--option", "variant=epsilon", "--option", "param=0.25")
    assert code == 0
    assert "Epsilon(epsilon=0.25)" in out
    code, out = run("check", "digits.onnx", "-c", "sequential_preset_b_flat", "--option", "flat-layers=2", "--epsilon", "0.5")
    assert code == 0
    assert out.count("Flat()") == 2
    assert "Epsilon(epsilon=0.5)" in out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("composites epsilo", "unknown composite 'epsilo'; did you mean 'epsilon'"),
        ("check digits.onnx -c lrp_toolbox --option variant", "--option takes NAME=VALUE, not 'variant'"),
        ("check digits.onnx -c lrp_toolbox --option variant=", "--option takes NAME=VALUE"),
        ("check digits.onnx -c lrp_toolbox --option variant=epsilon", "needs param=, its epsilon"),
        (
            "check digits.onnx -c caffe_102 --option low=1",
            "has no --low; it takes --epsilon and --option beta, stabilizer, bias, low_layers",
        ),
        ("check digits.onnx -c caffe_102 --option lowest=1", "has no option 'lowest'; it takes"),
        ("check digits.onnx -c gradient --epsilon 1", "has no --epsilon; it takes none of these options"),
        ("check digits.onnx -c deep_taylor.bounded", "deep_taylor_bounded needs --low and --high"),
        ("check digits.onnx -c deep_taylor.bounded", "; with --preprocess they follow from it"),
    ],
)
def test_what_is_refused(run: Run, arguments: str, message: str) -> None:
    code, out = run(*arguments.split())
    assert code == 2
    assert len(out.splitlines()) == 1
    assert message in out
