"""What can be typed: where options may stand, what they take, what is said of wrong ones, and the help."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

import onnx_lrp
from onnx_lrp.cli import COMMANDS, parser
from onnx_lrp.commands.printing import BOLD, CYAN, say, styled, warn
from onnx_lrp.errors import InputError


def given(command, *words):
    return parser(command).parse(words)


# what is understood ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "words",
    [
        ["model.onnx", "a.jpg", "b.jpg", "-c", "epsilon"],
        ["-c", "epsilon", "model.onnx", "a.jpg", "b.jpg"],
        ["model.onnx", "-c", "epsilon", "a.jpg", "b.jpg"],
        ["model.onnx", "a.jpg", "-c", "epsilon", "b.jpg"],
        ["model.onnx", "a.jpg", "-cepsilon", "b.jpg"],
        ["model.onnx", "a.jpg", "--composite=epsilon", "b.jpg"],
        ["model.onnx", "a.jpg", "--composite", "epsilon", "--", "b.jpg"],
        ["-c", "gradient", "model.onnx", "a.jpg", "b.jpg", "--composite", "epsilon"],
    ],
)
def test_options_stand_anywhere(words):
    found = given("explain", *words)
    assert (found.model, found.inputs, found.composite) == (Path("model.onnx"), ["a.jpg", "b.jpg"], "epsilon")


@pytest.mark.parametrize("low", ["-2.2", "-1e-3", "-.5", "-3", "-inf", "0", "1_000", "+4"])
def test_negative_numbers_are_values(low):
    for words in (["--low", low], [f"--low={low}"]):
        assert given("explain", *words, "model.onnx", "x.npy").low == float(low)


@pytest.mark.parametrize(
    ("words", "name", "value"),
    [
        (["-t", "-1"], "target", "-1"),
        (["-t", "-1,3"], "target", "-1,3"),
        (["--target=3:10:12"], "target", "3:10:12"),
        (["-o", "-dashed"], "out", Path("-dashed")),
        (["-o-dashed"], "out", Path("-dashed")),
        (["-o", "--top"], "out", Path("--top")),
        (["--labels", "two words.txt"], "labels", Path("two words.txt")),
        (["--cmap="], "cmap", ""),
        (["--cmap", "00f,80:fff,f00"], "cmap", "00f,80:fff,f00"),
        (["--option", "a=b", "--option=c=-d"], "option", ["a=b", "c=-d"]),
        (["--record", "/layer4/*", "--record", "r"], "record", ["/layer4/*", "r"]),
        (["--overlay"], "overlay", True),
        (["--no-overlay"], "overlay", False),
        (["--overlay", "--no-overlay"], "overlay", False),
        ([], "overlay", None),
        (["--layers"], "layers", True),
        (["--top", "2"], "top", 2),
        (["--batch-size", "auto"], "batch_size", None),
        (["--batch-size", "4"], "batch_size", 4),
        (["--seed", "one"], "seed", "one"),
        ([], "batch_size", None),
        ([], "out", Path("explanations")),
        ([], "providers", "auto"),
        ([], "precision", "float32"),
        ([], "record", None),
        (["--noise", "0"], "noise", 0.0),
    ],
)
def test_values(words, name, value):
    found = given("explain", "model.onnx", *words, "x.npy")
    assert getattr(found, name) == value
    assert found.inputs == ["x.npy"]


def test_behind_two_dashes_nothing_is_an_option():
    assert given("explain", "model.onnx", "--top", "1", "--", "-a.jpg", "--low", "-").inputs == ["-a.jpg", "--low", "-"]
    assert given("explain", "model.onnx", "-").inputs == ["-"]
    assert given("composites", "--", "-x").name == "-x"
    assert given("composites").name is None


def test_two_dashes_may_stand_before_the_command(run):
    assert run("--", "composites", "epsilon") == run("composites", "epsilon")
    assert run("--") == run()


@pytest.mark.parametrize("word", ["F", "f"])
def test_orders_are_understood_in_any_case(word):
    assert given("convert", "model.mat", "--flatten-order", word).flatten_order == "F"


@pytest.mark.parametrize("command", ["evaluate", "compare", "tune"])
def test_the_commands_for_data(command):
    found = given(command, "model.onnx", "a", "--limit", "3", "b", "--perturbation", "-0.5", "--low", "-1")
    assert (found.data, found.limit, found.perturbation, found.low) == (["a", "b"], 3, "-0.5", -1)
    assert (found.batch_size, found.random_seed, found.schedule) == (64, 0, "quadratic")


# what is not ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("explain", "the following arguments are required: MODEL, INPUT"),
        ("explain model.onnx", "the following arguments are required: INPUT"),
        ("explain m x --labls l", "no such option: --labls; did you mean '--labels'"),
        ("explain m x --labls=l", "no such option: --labls; did you mean '--labels'"),
        ("explain m x --lab l", "no such option: --lab"),
        ("explain m x --x", "no such option: --x ("),
        ("explain m x --colour red", "no such option: --colour ("),
        ("explain m x -z", "no such option: -z ("),
        ("explain m -5", "no such option: -5 ("),
        ("explain m x --version", "no such option: --version"),
        ("explain m x --threads x", "--threads: 'x' is not a whole number"),
        ("explain m x --threads 1.5", "--threads: '1.5' is not a whole number"),
        ("explain m x --threads 0", "--threads: 0 is below 1"),
        ("explain m x --random-seed -1", "--random-seed: -1 is below 0"),
        ("explain m x --noise -0.5", "--noise: -0.5 is below 0"),
        ("explain m x --noise nan", "--noise: 'nan' is not a number"),
        ("explain m x --low --high 1", "--low: '--high' is not a number"),
        ("explain m x --low", "--low needs a value"),
        ("explain --low m x -o", "-o needs a value"),
        ("explain m x --out -- y", "--out needs a value"),
        ("explain m x --layers=1", "--layers takes no value"),
        ("explain m x --no-overlay=1", "--no-overlay takes no value"),
        ("explain m x --seed contrst", "--seed: unknown choice 'contrst'; did you mean 'contrastive'?"),
        ("explain m x --seed ONE", "--seed: unknown choice 'ONE'; known: contrastive, one, output, softmax_gradient"),
        ("check m --providers tpu", "--providers: unknown choice 'tpu'; did you mean 'cpu'?"),
        ("patterns m", "the following arguments are required: DATA"),
        ("tune m x --compat rlrp", "no such option: --compat"),
        ("demo more", "unrecognized arguments: more"),
        ("explian m x", "no such command: explian; did you mean 'explain'?"),
        ("nonsense", "no such command: nonsense ("),
        ("--versoin", "no such option: --versoin; did you mean '--version'?"),
        ("-x explain", "no such option: -x"),
    ],
)
def test_wrong_usage_is_one_line(run, words, message):
    code, out, err = run(*words.split())
    assert (code, out) == (2, "")
    assert err.startswith(f"error: {message}")
    assert re.search(r" \(Usage: onnx-lrp .*; more with --help\)\n$", err)
    assert err.count("\n") == 1


def test_the_usage_is_that_of_the_command():
    for words, usage in {
        ("explain", "m"): "onnx-lrp explain [OPTIONS] MODEL INPUT...",
        ("composites", "--x"): "onnx-lrp composites [OPTIONS] [NAME]",
        ("demo", "--x"): "onnx-lrp demo [OPTIONS]",
    }.items():
        with pytest.raises(InputError, match=rf"\(Usage: {re.escape(usage)}; more with --help\)$"):
            given(*words)


# help -----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("width", [80, 120])
@pytest.mark.parametrize("command", COMMANDS)
def test_help_lists_everything(run, monkeypatch, command, width):
    monkeypatch.setenv("COLUMNS", str(width))
    code, out, err = run(command, "--help")
    assert (code, err) == (0, "")
    assert out.startswith(f"Usage: onnx-lrp {command} [OPTIONS]")
    assert max(map(len, out.splitlines())) <= width
    assert "\x1b" not in out
    flat = " ".join(out.split())
    for argument in sys.modules[f"onnx_lrp.cli.{command}"].ARGUMENTS:
        assert f"\n{argument.under}:\n" in out
        assert all(re.search(rf"^  (-\w, |--\w+, )?{re.escape(name)}\b", out, re.MULTILINE) for name in argument.names if name[0] == "-")
        assert " ".join(argument.settings["help"].partition(" Default: %")[0].split()) in flat.replace("- ", "-") or width == 80
        if argument.settings.get("default") is not None:
            assert f"Default: {argument.settings['default']}."[:50].replace(" ", "") in out.replace(" ", "").replace("\n", "")


def test_help_is_asked_for_in_several_ways(run):
    whole = run("--help")
    assert run("-h") == whole
    assert run("--help", "explain") == whole
    assert run() == (2, *whole[1:])
    assert all(re.search(rf"^  {command}  +\w", whole[1], re.MULTILINE) for command in COMMANDS)
    assert "Start with: onnx-lrp demo." in whole[1]
    help_ = run("explain", "--help")
    assert run("explain", "-h") == help_
    assert run("explain", "model.onnx", "--threads", "x", "-h") == help_
    assert help_[1].index("What is explained:") < help_[1].index("How it is explained:") < help_[1].index("Files:")


def test_help_says_how_small_a_number_may_be(run):
    flat = {command: " ".join(run(command, "--help")[1].split()) for command in ("explain", "evaluate")}
    assert "--threads N How many processor threads to use. At least 1." in flat["explain"]
    assert "--batch-size N How many samples run together. At least 1. Default: 64." in flat["evaluate"]
    assert "--low NUMBER The smallest value that the input can have (composites with a box). --high" in flat["explain"]


def test_help_has_its_paragraphs(run):
    _, out, _ = run("explain", "--help")
    assert "\n\nRed speaks for the explained class, blue against it.\n\nExample: onnx-lrp explain" in out


def test_help_without_rich_argparse(run, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setitem(sys.modules, "rich_argparse.contrib", None)
    code, out, err = run("explain", "--help")
    assert (code, err) == (0, "")
    assert "\nHow it is explained:\n" in out
    assert "--composite NAME" in out
    assert max(map(len, out.splitlines())) <= 80


def test_version_comes_before_all_else(run):
    version = (0, f"onnx-lrp {onnx_lrp.__version__}\n", "")
    assert run("--version") == version
    assert run("--version", "nonsense") == version


@pytest.mark.parametrize("words", [["--version"], ["check", "--help"]])
def test_the_module_can_be_run(words):
    environment = os.environ | {"PYTHONPATH": str(Path(onnx_lrp.__file__).parents[1])}
    done = subprocess.run([sys.executable, "-m", "onnx_lrp.cli", *words], capture_output=True, text=True, env=environment, check=True)
    assert "onnx-lrp" in done.stdout
    assert done.stderr == ""


# printing -------------------------------------------------------------------------------------------------------------


def test_styles_are_for_terminals_only(monkeypatch, capsys):
    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.setattr(os, "name", "posix")
    assert styled("x", BOLD) == "x"
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    assert styled("x", BOLD) == "\x1b[1mx\x1b[0m"
    assert styled("x", CYAN) == "\x1b[36mx\x1b[0m"
    monkeypatch.setenv("NO_COLOR", "1")
    assert styled("x", BOLD) == "x"


def test_lines_go_where_they_belong(capsys):
    say("result")
    warn("note")
    assert capsys.readouterr() == ("result\n", "note\n")
