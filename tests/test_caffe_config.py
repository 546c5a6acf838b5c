"""Configurations and file lists of lrp_toolbox's Caffe extension."""

from __future__ import annotations

import inspect
import json
import re
from pathlib import Path

import numpy as np
import pytest
from caffe_nets import SMALL, SMALL_FEATURES, random_weights, write

import onnx_lrp
from onnx_lrp import COMPOSITES
from onnx_lrp.commands.caffe_config import CaffeConfig, class_target, parse_config, parse_file_list
from onnx_lrp.converters import convert
from onnx_lrp.errors import InputError
from onnx_lrp.metadata import CAFFE

RNG = np.random.default_rng(0)


def test_the_extensions_own_configuration(shared_data) -> None:
    config = parse_config(shared_data / "caffe" / "lrp_config.txt")
    assert config == CaffeConfig(formula=100, epsilon=1, beta=1, first=0, last=-2, low=0)
    layers = [["conv", "Convolution", ["data"], ["conv"]], ["fc", "InnerProduct", ["conv"], ["fc"]], ["prob", "Softmax", ["fc"], ["prob"]]]
    assert config.composite(layers) == ("caffe_100", {"epsilon": 1, "beta": 1})
    assert config.output(layers) == "fc"
    assert config.explained(layers) == []


def config_text(**values) -> str:
    given = {
        "relpropformulatype": 102, "epsstab": 0.5, "alphabeta_beta": 2, "firstlayerindex": 0, "lastlayerindex": -2,
        "auxiliaryvariable_maxlayerindexforflatdistinconv": 0,
    } | values  # fmt: skip
    return "".join(
        f"{key} # of the extension\n  {value} more words\n\nwords between\n" for key, value in given.items() if value is not None
    )


NUMBERED = [
    ["", "Split", ["data"], ["data"]], ["c1", "Convolution", ["data"], ["c1"]], ["r1", "ReLU", ["c1"], ["r1"]],
    ["c2", "Convolution", ["r1"], ["c2"]], ["f1", "InnerProduct", ["c2"], ["f1"]], ["f2", "InnerProduct", ["f1"], ["f2"]],
    ["p", "Softmax", ["f2"], ["p"]],
]  # fmt: skip


@pytest.mark.parametrize(
    ("values", "composite", "output", "record"),
    [
        ({}, ("caffe_102", {"epsilon": 0.5, "beta": 2, "low_layers": 0}), "f2", []),
        ({"auxiliaryvariable_maxlayerindexforflatdistinconv": 3}, ("caffe_102", {"epsilon": 0.5, "beta": 2, "low_layers": 2}), "f2", []),
        ({"relpropformulatype": 0}, ("caffe_0", {"epsilon": 0.5}), "f2", []),
        ({"relpropformulatype": 2, "lastlayerindex": -1}, ("caffe_2", {"beta": 2}), "f2", []),
        ({"relpropformulatype": 6}, ("caffe_6", {"beta": 2, "lower_layers": 4}), "f2", []),
        ({"relpropformulatype": 22}, ("caffe_22", {"lower_layers": 4}), "f2", []),
        ({"relpropformulatype": 11, "lastlayerindex": 4}, ("caffe_11", {}), "f1", []),
        ({"relpropformulatype": 56, "firstlayerindex": 3}, ("caffe_56", {"epsilon": 0.5, "low_layers": 0}), "f2", ["r1"]),
    ],
)
def test_configurations(tmp_path, values, composite, output, record) -> None:
    (tmp_path / "c.txt").write_text(config_text(**values))
    config = parse_config(tmp_path / "c.txt")
    assert config.composite(NUMBERED) == composite
    assert config.output(NUMBERED) == output
    assert config.explained(NUMBERED) == record


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"epsstab": None}, "epsstab: there is no value"),
        ({"epsstab": "much"}, "epsstab: 'much' is not a number"),
        ({"epsstab": -1}, "epsstab must be a number from 0 on"),
        ({"alphabeta_beta": "nan"}, "alphabeta_beta must be a number from 0 on"),
        ({"relpropformulatype": 1.5}, "relpropformulatype: '1.5' is not a whole number"),
        ({"relpropformulatype": 23}, "relpropformulatype 23 is not supported"),
        ({"lastlayerindex": 7}, "lastlayerindex 7: the network has no such layer"),
        ({"lastlayerindex": -3}, "lastlayerindex -3: the network has no such layer"),
        ({"firstlayerindex": -1}, "firstlayerindex -1: the network has no such layer"),
    ],
)
def test_wrong_configurations(tmp_path, values, message) -> None:
    (tmp_path / "c.txt").write_text(config_text(**values))

    def use() -> None:
        config = parse_config(tmp_path / "c.txt")
        for part in (config.composite, config.output, config.explained):
            part(NUMBERED)

    with pytest.raises(InputError, match=re.escape(message)):
        use()


def test_layer_15_of_alexnet_is_the_default(shared_data, tmp_path) -> None:
    """Formulas that change at layer 15 do so where the composites do without being told: fc6 is the last of the lower layers."""
    text = (shared_data / "caffe" / "alexnet_deploy.prototxt").read_text().replace("4096", "16")
    source, weights = write(tmp_path, text, random_weights(text, {"fc6": 9216}))
    metadata = {entry.key: entry.value for entry in convert(source, weights=weights).model.metadata_props}
    layers = json.loads(metadata[CAFFE])
    assert layers[15][0] == "fc6"
    for formula in (6, 8, 18, 22):
        (tmp_path / "c.txt").write_text(config_text(relpropformulatype=formula))
        name, options = parse_config(tmp_path / "c.txt").composite(layers)
        assert options["lower_layers"] == inspect.signature(COMPOSITES[name]).parameters["lower_layers"].default == 6


def test_five_classes_together_are_the_sum_of_five(tmp_path) -> None:
    """Of six outputs, where the seed's values add up as the rules are linear in the relevance."""
    text = SMALL.replace("num_output: 5", "num_output: 6")
    source, weights = write(tmp_path, text, random_weights(text, SMALL_FEATURES))
    explainer = onnx_lrp.Explainer(convert(source, weights=weights).model, "caffe_0", epsilon=0.1, providers="cpu", threads=1)
    x = RNG.normal(size=(2, 3, 14, 13)).astype(np.float32)
    output = explainer.explain(x).output
    together = explainer.explain(x, class_target(-2, output)).relevance
    best = np.argsort(-output, 1)[:, :5]
    assert np.abs(together - explainer.explain(x, best).relevance.sum(1)).max() < 1e-5 * np.abs(together).max()
    for index, classes in ((-1, output.argmax(1)), (3, [3, 3])):
        assert explainer.explain(x, class_target(index, output)).target.tolist() == list(classes)


def test_file_lists(tmp_path) -> None:
    path = tmp_path / "list.txt"
    path.write_text("a.jpg 3\n\nmy pictures/b.png -1\nc.jpg -2\n")
    assert parse_file_list(path) == [(Path("a.jpg"), 3), (Path("my pictures/b.png"), -1), (Path("c.jpg"), -2)]
    for text in ("a.jpg\n", "a.jpg -3\n", "a.jpg x\n"):
        path.write_text("ok.jpg 1\n" + text)
        with pytest.raises(InputError, match="line 2: a path and a class"):
            parse_file_list(path)
