"""Composites in files: what is written is read again, and gives the same maps."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from onnx_lrp import COMPOSITES, Composite, CompositeError, Explainer, fit_patterns, rules
from onnx_lrp.cli import main
from onnx_lrp.composites import (
    base_map,
    between,
    by_name,
    by_role,
    by_type,
    everything,
    first,
    first_n,
    gated,
    last,
    lowest,
    make_composite,
    stage,
)
from onnx_lrp.composites.files import RULES
from onnx_lrp.demo import load

BOX = {"low": np.zeros(1, np.float32), "high": np.ones((1, 1, 1), np.float32)}
NEEDED = {"lrp_toolbox": {"variant": "epsilon", "param": 0.1}}


def maps_of(composite: Any) -> np.ndarray:
    model, images, _ = load()
    return Explainer(model, composite, providers="cpu", threads=1).explain(images[:2], 3).relevance


def entries(composite: Composite) -> list[str]:
    return [f"{selector} {rule!r}" for selector, rule in composite.entries]


def options_of(key: str) -> dict[str, Any]:
    from onnx_lrp.composites import option_names

    names = option_names(COMPOSITES[key])
    return {name: value for name, value in BOX.items() if name in names} | NEEDED.get(key, {})


PATTERNS = ("pattern_net", "pattern_attribution")


@pytest.mark.parametrize("key", PATTERNS)
def test_patterns_stay_in_their_own_file(key: str, tmp_path: Path) -> None:
    model, images, _ = load()
    patterns = fit_patterns(model, images, providers="cpu")
    patterns.save(tmp_path / "patterns.npz")
    composite = make_composite(key, {"patterns": tmp_path / "patterns.npz"})
    composite.save(tmp_path / "c.json")
    np.testing.assert_array_equal(maps_of(str(tmp_path / "c.json")), maps_of(composite))
    with pytest.raises(CompositeError, match="the path of a file"):
        make_composite(key, {"patterns": patterns}).save(tmp_path / "c.json")


@pytest.mark.parametrize("key", [key for key in COMPOSITES if key not in PATTERNS])
def test_every_preset_comes_back(key: str, tmp_path: Path) -> None:
    composite = make_composite(key, options_of(key))
    composite.save(tmp_path / "c.json")
    again = Composite.load(tmp_path / "c.json")
    assert type(again) is type(composite)
    assert entries(again) == entries(composite)


@pytest.mark.parametrize("suffix", ["json", "yaml"])
def test_a_list_of_ones_own_gives_the_same_maps(suffix: str, tmp_path: Path) -> None:
    if suffix == "yaml":
        pytest.importorskip("yaml", reason="YAML needs PyYAML")
    own = Composite(
        [
            (by_type("convolution") & first(), rules.ZBox(np.zeros(1, np.float32), 1.0)),
            (stage(0.0, 0.5) | last(), rules.Gamma(0.3)),
            (~by_name("fc*") & lowest(3), rules.AlphaBeta(3.0, 2.0, rules.Stabilizer(0.1, "scaled"), empty="conserve")),
            ("dense", rules.Epsilon(rules.Stabilizer(0.25, "clip"), "redistribute")),
            (first_n(2) & between(0.1, 0.2) & by_role("affine"), rules.Zero()),
            *base_map(),
            (everything() & ~gated(), rules.Gradient()),
        ],
        layer_map=[(["Conv", "Gemm"], rules.ZPlus())],
    )
    path = tmp_path / f"own.{suffix}"
    own.save(path)
    again = Composite.load(path)
    assert [str(selector) for selector, _ in again.entries] == [str(selector) for selector, _ in own.entries]
    assert [rule.to_dict() for _, rule in again.entries] == [rule.to_dict() for _, rule in own.entries]
    np.testing.assert_array_equal(maps_of(str(path)), maps_of(own))


def test_maps_go_with_presets(tmp_path: Path) -> None:
    composite = make_composite("epsilon", {"layer_map": [("Conv", rules.Flat()), (first(), rules.WSquare())], "epsilon": 0.5})
    composite.save(tmp_path / "c.json")
    np.testing.assert_array_equal(maps_of(str(tmp_path / "c.json")), maps_of(composite))


def test_options_go_before_those_of_the_file(tmp_path: Path) -> None:
    path = tmp_path / "c.json"
    path.write_text('{"composite": "lrp.epsilon", "options": {"bias": "ignore"}}')
    composite = make_composite(str(path), {"epsilon": 0.5})
    assert entries(composite)[0] == entries(make_composite("epsilon", {"epsilon": 0.5, "bias": "ignore"}))[0]


def test_a_file_written_by_hand(tmp_path: Path) -> None:
    pytest.importorskip("yaml", reason="YAML needs PyYAML")
    path = tmp_path / "c.yaml"
    path.write_text("base: true\nmaps:\n- {select: [Conv, Gemm], rule: Epsilon, epsilon: 1e-3}\n")
    expected = Composite([(("Conv", "Gemm"), rules.Epsilon(1e-3)), *base_map()])
    assert entries(Composite.load(path)) == entries(expected)


@pytest.mark.parametrize("name", RULES)
def test_every_rule_has_a_dict_that_makes_it_again(name: str, tmp_path: Path) -> None:
    rule = RULES[name](0.0, 1.0) if name == "ZBox" else RULES[name]()
    Composite([("Conv", rule)]).save(tmp_path / "c.json")
    assert Composite.load(tmp_path / "c.json").entries[0][1] == rule


def test_functions_cannot_be_saved(tmp_path: Path) -> None:
    with pytest.raises(CompositeError, match="cannot hold"):
        Composite([(lambda view: view.index > 3, rules.Zero())]).save(tmp_path / "c.json")
    with pytest.raises(CompositeError, match="cannot hold"):
        make_composite("epsilon", {"layer_map": [(lambda view: view.is_first, rules.Zero())]}).save(tmp_path / "c.json")
    with pytest.raises(CompositeError, match=r"json or \.yaml"):
        make_composite("epsilon", {}).save(tmp_path / "c.txt")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("data", "says"),
    [
        ("{", "is not JSON"),
        ("[]", "a composite file holds"),
        ('{"composite": "epsilonn"}', "epsilon"),
        ('{"composite": "epsilon", "maps": []}', "a composite file holds"),
        ('{"composite": "epsilon", "option": {}}', "did you mean 'options'"),
        ('{"composite": "epsilon", "options": {"gama": 1}}', "no option 'gama'"),
        ('{"composite": "epsilon", "options": [1]}', "names with values"),
        ('{"composite": "other.json"}', "name of a composite"),
        ('{"maps": [{"select": "Conv"}]}', '"select" and "rule"'),
        ('{"maps": [{"select": "Conv", "rule": "Gama"}]}', "Gamma"),
        ('{"maps": [{"select": "Conv", "rule": "Gamma", "gamm": 1}]}', "gamma"),
        ('{"maps": [{"select": "Conv", "rule": "Gamma", "gamma": -1}]}', ">= 0"),
        ('{"maps": [{"select": {"furst": true}, "rule": "Zero"}]}', "first"),
        ('{"maps": [{"select": {"between": [1]}, "rule": "Zero"}]}', "between"),
        ('{"maps": [{"select": {"role": "affin"}, "rule": "Zero"}]}', "affine"),
        ('{"maps": [{"select": 3, "rule": "Zero"}]}', "select is"),
        ('{"maps": {}}', "is a list"),
    ],
)
def test_what_is_wrong_is_named(data: str, says: str, tmp_path: Path) -> None:
    path = tmp_path / "wrong.json"
    path.write_text(data)
    with pytest.raises(CompositeError, match=says):
        Composite.load(path)


def test_missing_files(tmp_path: Path) -> None:
    with pytest.raises(CompositeError, match="no such file"):
        Composite.load(tmp_path / "none.json")
    (tmp_path / "folder.json").mkdir()
    with pytest.raises(CompositeError, match="cannot read"):
        Composite.load(tmp_path / "folder.json")


def test_the_command_line_takes_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    model, images, _ = load()
    monkeypatch.chdir(tmp_path)
    Path("digits.onnx").write_bytes(model)
    np.save("one.npy", images[:1])
    Path("c.json").write_text(json.dumps({"composite": "gamma", "options": {"gamma": 0.7}}))

    def call(*arguments: str) -> str:
        monkeypatch.setattr(sys, "argv", ["onnx-lrp", *arguments])
        with pytest.raises(SystemExit) as stop:
            main()
        assert stop.value.code == 0
        return capsys.readouterr().out

    call("explain", "digits.onnx", "one.npy", "-c", "c.json", "--format", "npz", "-o", "out")
    expected = Explainer(model, "gamma", gamma=0.7, providers="cpu").explain(images[:1]).relevance
    with np.load("out/one_relevance.npz") as file:
        np.testing.assert_allclose(file["relevance"], expected, rtol=1e-4, atol=1e-6)
    assert "Gamma(gamma=0.7" in call("composites", "c.json")
    assert "Gamma(gamma=0.2" in call("check", "digits.onnx", "-c", "c.json", "--gamma", "0.2")
