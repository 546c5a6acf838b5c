"""The account of relevance against sums in float64, and maps that conserve."""

from __future__ import annotations

import itertools
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from helpers import Array, Oracle, make_model, node, normal, with_weights
from test_rules_facts import EVERY_RULE, conv_net
from test_rules_oracle import ALL, LAYERS, WEIGHTS
from test_rules_oracle import CASES as RULES_ON_LAYERS

from onnx_lrp import COMPOSITES, Explainer, InputError, fit_patterns
from onnx_lrp.cli import main
from onnx_lrp.composites import Composite, base_map, by_role, option_names
from onnx_lrp.conservation import Conservation
from onnx_lrp.operators import Role
from onnx_lrp.rules import (
    AlphaBeta,
    ClassicGamma,
    Epsilon,
    Flat,
    Gamma,
    Norm,
    Pass,
    Rule,
    SoftmaxTaylor,
    Stop,
    Taylor,
    Uniform,
    WSquare,
    ZBox,
    ZPlus,
)
from onnx_lrp.rules.ledger import CATEGORIES

DEMO = Path(__file__).parents[1] / "onnx_lrp" / "demo"
REDISTRIBUTING: list[Rule] = [
    *(kind(bias="redistribute") for kind in (Epsilon, ZPlus, Gamma, ClassicGamma, WSquare, Flat)),
    *(Epsilon(epsilon, "redistribute") for epsilon in (0.0, 0.25)),
    *(AlphaBeta(alpha, beta, bias="redistribute", empty="conserve") for alpha, beta in ((1, 0), (2, 1), (3, 2))),
    ZBox(-4.0, 4.0, bias="redistribute"),
]


def account_of(model: onnx.ModelProto | Path, x: Any, composite: Any, **options: Any) -> Conservation:
    seed, target = options.pop("seed", None), options.pop("target", None)
    explainer = Explainer(model, composite, providers="cpu", threads=1, **options)
    return explainer.explain(x, target=target, seed=seed).conservation


def kept_by(account: Conservation, operator: str) -> dict[str, Array]:
    return next(entry for entry in account.entries if entry.operator == operator).kept


# each rule's categories -----------------------------------------------------------------------------------------------


FURTHER = ("conv1d windows of padding", "conv1d strided with zeros", "gemm transB of one sign per output")
ACCOUNTS = [(layer, name) for layer, name in (*RULES_ON_LAYERS, *itertools.product(FURTHER, ALL)) if name != "gradient"]


@pytest.mark.parametrize(("layer", "name"), ACCOUNTS)
def test_categories_equal_the_oracles(layer: str, name: str) -> None:
    """One sample as usual, one with zeros, one of zeros alone."""
    base = next(known for known in LAYERS if layer.startswith(known) and layer[len(known) :].strip() in ("", *WEIGHTS))
    weights = layer[len(base) :].strip()
    made = with_weights(LAYERS[base], WEIGHTS[weights]) if weights else LAYERS[base]
    rule, options, formula = ALL[name]
    x, seed = normal("x" + layer, 3, *made.shape), normal("seed" + layer, 3, *made.affine.out_shape)
    x[1][x[1] > 0.25] = 0
    x[2] = 0
    composite = Composite([(by_role(Role.AFFINE), rule), *base_map()])
    account = account_of(make_model(made.nodes, made.constants, made.shape), x, composite, seed=seed)
    oracle = Oracle(made.affine, x.reshape(3, -1).astype(float), seed.reshape(3, -1).astype(float), **options)
    passed = formula(oracle).sum(1)
    scale = np.abs(seed).sum()
    for category in CATEGORIES:
        want = oracle.kept.get(category, np.zeros(3))
        np.testing.assert_allclose(account.kept[category], want, rtol=1e-4, atol=1e-5 * scale, err_msg=category)
    np.testing.assert_allclose(account.inputs, passed, rtol=1e-4, atol=1e-5 * scale)
    assert (np.abs(account.error) <= 1e-4 * np.maximum(scale, np.abs(passed))).all()


def test_empty_sign_part_is_dropped() -> None:
    """One input speaks against the output, none for it: of R, ZPlus drops all, AlphaBeta(2, 1) drops 2 R."""
    model = make_model([node("Gemm", "x W")], {"W": np.float32([[-2.0], [0.0]])}, (2,))
    x, seed = np.float32([[1.0, 3.0]]), np.float32([[5.0]])
    for rule, dropped, passed in ((ZPlus(), 5, 0), (AlphaBeta(2, 1), 10, -5), (AlphaBeta(2, 1, empty="conserve"), 0, 5)):
        account = account_of(model, x, rule, seed=seed)
        np.testing.assert_allclose([account.kept["dropped"][0], account.inputs[0]], [dropped, passed], atol=1e-4)
        assert account.kept["stabilizer"][0] == pytest.approx(0, abs=1e-4)
    entry = account_of(model, x, AlphaBeta(2, 1), seed=seed).worst(1)[0]
    assert (entry.main, entry.advice) == ("dropped", "empty='conserve' gives an empty sign part's relevance to the other part")


def test_stops() -> None:
    """A constant summand, padding, an input that is not explained, and the rule Stop."""
    x, other, seed = np.float32([[1, 2, 3]]), np.float32([[4, 4, 4]]), np.float32([[1, 10, 100]])
    two = onnx.helper.make_tensor_value_info("other", 1, [None, 3])
    model = make_model([node("Add", "x other")], {}, (3,))
    model.graph.input.append(two)
    account = account_of(model, {"x": x, "other": other}, "epsilon", inputs=["x"], seed=seed)
    np.testing.assert_allclose(kept_by(account, "Add")["stop"], (seed * other / (x + other)).sum(1), rtol=1e-5)
    assert "inputs=" in account.worst(1)[0].advice
    padded = make_model([node("Pad", "x pads c")], {"pads": np.array([0, 0, 0, 1]), "c": np.float32(7)}, (2,))
    account = account_of(padded, x[:, :2], "epsilon", seed=seed)
    assert kept_by(account, "Pad")["stop"][0] == 100
    assert account.inputs[0] == 11
    account = account_of(make_model([node("Relu", "x")], {}, (3,)), x, "epsilon", seed=seed, name_map=[("*", Stop())])
    assert kept_by(account, "Relu")["stop"][0] == 111
    assert account.worst(1)[0].advice == "another rule than Stop() lets it pass"


def test_normalisation_keeps_what_does_not_depend_on_the_input() -> None:
    """LayerNormalization under Epsilon: mean and shift are its bias."""
    gain, shift, x, seed = normal("gain", 6), normal("shift", 6), normal("x", 2, 6), normal("seed", 2, 6)
    model = make_model([node("LayerNormalization", "x gain shift", epsilon=1e-5)], {"gain": gain, "shift": shift}, (6,))
    slope = gain / np.sqrt(x.astype(float).var(1, keepdims=True) + 1e-5)
    y = slope * (x - x.mean(1, keepdims=True)) + shift
    account = account_of(model, x, "epsilon", seed=seed)
    np.testing.assert_allclose(account.kept["bias"], ((y - slope * x) / y * seed).sum(1), rtol=1e-3)
    np.testing.assert_allclose(account_of(model, x, "epsilon", bias="redistribute", seed=seed).inputs, seed.sum(1), rtol=1e-5)


@pytest.mark.parametrize("rule", [Taylor(), Pass()], ids=str)
def test_local_response_normalisation(rule: Rule) -> None:
    """Over windows of one channel each element depends on itself alone: its Taylor expansion can be written down."""
    x, seed = np.abs(normal("lrn", 2, 3, 4, 2)) + 1, normal("lrn seed", 2, 3, 4, 2)
    model = make_model([node("LRN", "x", size=1, alpha=0.5, beta=0.75, bias=2.0)], {}, (3, 4, 2))
    account = account_of(model, x, "epsilon", seed=seed, layer_map=[("lrn", rule)])
    d = 2 + 0.5 * x.astype(float) ** 2
    passed = (seed * (1 - 0.75 * x**2 / d)).sum((1, 2, 3)) if isinstance(rule, Taylor) else seed.sum((1, 2, 3))
    np.testing.assert_allclose(account.inputs, passed, rtol=1e-4)
    np.testing.assert_allclose(account.kept["rule"], seed.sum((1, 2, 3)) - passed, rtol=1e-4, atol=1e-4)
    assert [entry.operator for entry in account.not_conserving] == (["LRN"] if isinstance(rule, Taylor) else [])
    assert ("not conserving by design: " in str(account)) == isinstance(rule, Taylor)
    if isinstance(rule, Taylor):
        assert "layer_map=[('lrn', Pass())]" in account.worst(1)[0].advice


def test_softmax_and_gradients_book_what_they_do_not_conserve() -> None:
    x, seed = normal("softmax", 2, 5), normal("softmax seed", 2, 5)
    model = make_model([node("Softmax", "x", "p"), node("Relu", "p")], {}, (5,))
    p = np.exp(x.astype(float)) / np.exp(x.astype(float)).sum(1, keepdims=True)
    passed = (x * (seed - p * seed.sum(1, keepdims=True))).sum(1)
    account = account_of(model, x, "epsilon", seed=seed)
    assert str(SoftmaxTaylor()) in [entry.rule for entry in account.entries]
    np.testing.assert_allclose(account.kept["rule"], seed.sum(1) - passed, rtol=1e-4)
    for key in ("gradient", "guided_backprop", "deconvnet", "excitation_backprop"):
        account = account_of(conv_net(), normal("x", 2, 2, 8, 8), key)
        assert account.closes(1e-4), key
        assert key == "excitation_backprop" or np.abs(account.kept["rule"]).min() > 0, key
    assert "gradients do not conserve" in account_of(conv_net(), normal("x", 2, 2, 8, 8), "gradient").worst(1)[0].advice


def test_halves_of_a_product() -> None:
    model = make_model([node("Relu", "x", "a"), node("Abs", "x", "b"), node("Mul", "a b")], {}, (4,))
    x, seed = normal("product", 2, 4), normal("product seed", 2, 4)
    account = account_of(model, x, "epsilon", seed=seed)
    assert [entry.rule for entry in account.entries if entry.operator == "Mul"] == [str(Uniform())]
    np.testing.assert_allclose(account.inputs, seed.sum(1), rtol=1e-5)


# maps that conserve ---------------------------------------------------------------------------------------------------


def options_of(key: str, low: float, high: float) -> dict[str, float]:
    """The options that a composite cannot do without."""
    return {"low": low, "high": high} if {"low", "high"} <= set(option_names(COMPOSITES[key])) else {}


def conserving_composites() -> dict[str, dict[str, Any]]:
    """Every composite that can redistribute, with the options that make it conserve.

    excitation_backprop has the gradient at activations, and Caffe's formulas drop empty sign parts.
    """
    found: dict[str, dict[str, Any]] = {}
    for key, kind in COMPOSITES.items():
        known = option_names(kind)
        if "bias" in known and key != "excitation_backprop" and not key.startswith("caffe"):
            found[key] = options_of(key, -5.0, 5.0) | {"bias": "redistribute"} | ({"empty": "conserve"} if "empty" in known else {})
    return found


def check_conserves(account: Conservation) -> None:
    """All of the seed arrives, but what nodes keep that do not conserve by design."""
    by_design = sum((entry.lost for entry in account.not_conserving), np.zeros_like(account.seed))
    assert (np.abs(account.seed - account.inputs - by_design) <= 1e-4 * np.abs(account.seed)).all(), str(account)
    assert account.closes(1e-4), str(account)


@pytest.mark.parametrize("key", conserving_composites())
def test_redistributed_relevance_arrives(shared_data: Path, key: str) -> None:
    options = conserving_composites()[key]
    with np.load(DEMO / "digits.npz") as data:
        check_conserves(account_of(DEMO / "digits.onnx", data["images"], key, **options))
    for name in ("rescat", "seq1d", "mlp"):
        with np.load(shared_data / "zennit" / f"{name}.npz") as reference:
            account = account_of(shared_data / "zennit" / f"{name}.onnx", reference["x"].astype(np.float32), key, **options)
        assert account.not_conserving == []
        check_conserves(account)
    with np.load(shared_data / "zennit" / "squeezenet.npz") as reference:
        x = reference["x"].astype(np.float32)
    bounds = options_of(key, -123.0, 151.0)
    check_conserves(account_of(shared_data / "squeezenet" / "squeezenet_fp16.onnx", x, key, **(options | bounds)))


@pytest.mark.parametrize("rule", REDISTRIBUTING, ids=str)
@pytest.mark.parametrize("zeros", [False, True])
@pytest.mark.parametrize("bias", [False, True])
def test_redistributed_relevance_arrives_past_zeros(rule: Rule, zeros: bool, bias: bool) -> None:
    """Dead channels, a sample with zeros and one of zeros alone, where every denominator is zero."""
    x = normal("conserves", 3, 2, 8, 8)
    x[1, 0], x[1, 1, ::2], x[2] = 0, 0, 0
    check_conserves(account_of(conv_net(zeros=zeros, bias=bias), x, rule, seed="one", target=0))


def test_relevance_of_a_sum_that_cancels() -> None:
    """Where a sum is zero, or lost in rounding, its terms share its relevance evenly."""
    model = make_model([node("Relu", "x", "a"), node("Neg", "x", "b"), node("Add", "a b")], {}, (3,))
    explainer = Explainer(model, "epsilon", bias="redistribute", providers="cpu", threads=1, record=["a", "b"])
    found = explainer.explain(np.float32([[3, -1, 0]]), seed=np.float32([[6, 6, 6]])).relevances
    np.testing.assert_allclose(found["a"], [[3, 0, 3]], atol=1e-4)
    np.testing.assert_allclose(found["b"], [[3, 6, 3]], atol=1e-4)


# zeros ----------------------------------------------------------------------------------------------------------------


def normalised_net(case: str) -> onnx.ModelProto:
    """Convolution, normalisations and pools of every kind, a dense layer; zeros where the case says."""
    constants = {"W": normal("zW", 4, 2, 3, 3), "b": normal("zb", 4), "gain": normal("gain", 4), "shift": normal("shift", 4)}
    constants |= {"V": normal("zV", 16, 3), "c": normal("zc", 3), "g": normal("zg", 16), "h": normal("zh", 16)}
    match case:
        case "weights":
            constants |= {name: constants[name] * 0 for name in ("W", "V", "gain", "g")}
        case "everything":
            constants = {name: value * 0 for name, value in constants.items()}
        case "channels":
            for name in ("W", "b", "gain", "shift"):
                constants[name][1:3] = 0
        case "biases":
            constants |= {name: constants[name] * 0 for name in ("b", "shift", "c", "h")}
    nodes = [
        node("Conv", "x W b", "z", pads=[1, 1, 1, 1]),
        node("InstanceNormalization", "z gain shift", "i"),
        node("Relu", "i", "r"),
        node("LRN", "r", "l", size=3),
        node("AveragePool", "l", "p", kernel_shape=[2, 2], strides=[2, 2]),
        node("MaxPool", "p", "m", kernel_shape=[2, 2], strides=[2, 2]),
        node("Add", "m m", "d"),
        node("Flatten", "d", "f"),
        node("LayerNormalization", "f g h", "n"),
        node("Gemm", "n V c"),
    ]
    return make_model(nodes, constants, (2, 8, 8))


CASES = ("input", "weights", "everything", "channels", "biases")


@pytest.mark.parametrize("rule", [*EVERY_RULE, *REDISTRIBUTING, Norm(0.0)], ids=str)
@pytest.mark.parametrize("case", CASES)
def test_zeros_in_a_net_with_normalisations(case: str, rule: Rule) -> None:
    """explain() refuses NaN and infinity."""
    x = normal("zeros", 2, 2, 8, 8) * (case not in ("input", "everything"))
    account = account_of(normalised_net(case), x, rule, seed="one", target=1)
    assert np.isfinite(account.inputs).all()
    assert account.closes(1e-3)
    if rule in REDISTRIBUTING:
        check_conserves(account)


@pytest.mark.parametrize("key", COMPOSITES)
@pytest.mark.parametrize("case", CASES)
def test_zeros_under_every_composite(case: str, key: str) -> None:
    options = options_of(key, -4.0, 4.0)
    x = normal("zeros", 2, 2, 8, 8) * (case not in ("input", "everything"))
    if "patterns" in option_names(COMPOSITES[key]):
        options["patterns"] = fit_patterns(normalised_net(case), x, providers="cpu", threads=1)
    account = account_of(normalised_net(case), x, key, seed="one", target=1, **options)
    assert np.isfinite(account.inputs).all()
    assert account.closes(1e-3)


# what people see ------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def account() -> Conservation:
    with np.load(DEMO / "digits.npz") as data:
        return account_of(DEMO / "digits.onnx", data["images"][:2], "epsilon", epsilon=0.25)


def test_worst_nodes_come_with_what_would_change_them(account: Conservation) -> None:
    worst = account.worst(3)
    losses = [np.abs(entry.lost).mean() for entry in worst]
    assert losses == sorted((np.abs(entry.lost).mean() for entry in account.entries), reverse=True)[:3]
    assert worst[0].main == max(worst[0].kept, key=lambda name: np.abs(worst[0].kept[name]).sum())
    text = str(account)
    assert all(f"{entry.node}: {account.share(entry.lost):.3g} %, {entry.main}: {entry.advice}" in text for entry in worst)
    advice = {entry.main: entry.advice for entry in account.worst(10)}
    assert advice["bias"] == "bias='redistribute' returns it to the inputs"
    assert advice["stabilizer"] == "a smaller epsilon keeps less; bias='redistribute' returns it to the inputs"


def test_advice_that_is_followed_works() -> None:
    """Each setting that is named takes away the loss that it is named for."""
    x = normal("advice", 2, 2, 8, 8)
    for rule, better in (
        (ZPlus(), ZPlus(bias="redistribute")),
        (Epsilon(0.5), Epsilon(0.5, "redistribute")),
        (AlphaBeta(2, 1, bias="ignore"), AlphaBeta(2, 1, bias="ignore", empty="conserve")),
    ):
        before, after = (account_of(conv_net(zeros=True), x, given) for given in (rule, better))
        worst = before.worst(1)[0]
        assert worst.main in ("bias", "stabilizer", "dropped")
        kept = next(entry.kept for entry in after.entries if entry.node == worst.node)
        assert np.abs(kept.get(worst.main, np.zeros(1))).max() < 1e-4 * np.abs(worst.kept[worst.main]).max()
        lost, then = (np.abs(found.seed - found.inputs).max() for found in (before, after))
        assert then < 1e-3 * lost


def test_picture_of_an_account(tmp_path: Path, account: Conservation) -> None:
    from onnx_lrp.waterfall import plot_accounts

    figure = plot_accounts({"one": account, "other": account}, "title")
    bars = [(bar.get_y(), bar.get_height()) for bar in figure.axes[1].patches]
    totals = account.totals()
    scale = 100 / totals["seed"]
    assert len(bars) == len(totals)
    level = 100.0
    for (start, height), name in zip(bars[1:-1], [*CATEGORIES, "error"], strict=True):
        assert start == pytest.approx(level)
        assert height == pytest.approx(-totals[name] * scale)
        level += height
    assert bars[0] == pytest.approx((0, 100))
    assert bars[-1] == pytest.approx((0, level), abs=1e-6)
    account.plot(tmp_path / "account.png", "digits")
    assert (tmp_path / "account.png").read_bytes().startswith(b"\x89PNG")
    with pytest.raises(InputError, match="suffix"):
        account.plot(tmp_path / "account.nonsense")


def test_account_on_the_command_line(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    with np.load(DEMO / "digits.npz") as data:
        np.save(tmp_path / "digits.npy", data["images"][:2])
    words = ["onnx-lrp", "explain", str(DEMO / "digits.onnx"), str(tmp_path / "digits.npy"), "--format", "npz", "-o", str(tmp_path / "out")]
    printed = []
    for more in (
        ["--account"],
        [
            "--account",
            "-c",
            "epsilon_alpha2_beta1",
            "--option",
            "bias=redistribute",
            "--option",
            "empty=conserve",
        ],
        [],
    ):
        monkeypatch.setattr("sys.argv", [*words, *more])
        with pytest.raises(SystemExit) as ended:
            main()
        assert ended.value.code == 0
        printed.append(capsys.readouterr().out)
    assert "bias='redistribute' returns it to the inputs" in printed[0]
    assert "/last/last.0/Conv (Conv)" in printed[0]
    inputs = [next(line for line in text.splitlines() if line.split()[:1] == ["inputs"]) for text in printed[:2]]
    assert float(inputs[0].split()[-1]) < 90
    assert inputs[1].split()[-1] == "100.000"
    assert "largest losses" not in printed[1]
    assert "% of the seed" not in printed[2]


def test_the_example_draws_its_picture(tmp_path: Path) -> None:
    script = Path(__file__).parents[1] / "examples" / "conservation.py"
    done = subprocess.run([sys.executable, script, "-o", tmp_path / "account.png"], capture_output=True, text=True, timeout=300, check=True)
    assert (tmp_path / "account.png").read_bytes().startswith(b"\x89PNG")
    assert "inputs 100.0 %, bias 0.0 %" in done.stdout


def test_the_picture_in_the_documentation_exists() -> None:
    docs = Path(__file__).parents[1] / "docs"
    assert "images/conservation.png" in (docs / "conservation.md").read_text()
    assert (docs / "images" / "conservation.png").stat().st_size < 200_000
