"""Draw what different composites, and different rules, make of the same predictions.

    python examples/composites.py -o sheets

explains six digits of the demonstration network and writes ``composites.png`` (several composites side by side) and ``rules.png`` (one
rule on all layers, and rules for the first layer) into the folder: red speaks for the prediction, blue against it.
"""

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL.Image import Image

from onnx_lrp import Explainer, rules
from onnx_lrp.demo import load
from onnx_lrp.image import channel_sum, contact_sheet, imsave

DIGITS = 6
BOX = {"low": 0.0, "high": 1.0}
COMPOSITES: list[tuple[str, str, dict[str, Any]]] = [
    ("epsilon plus flat", "epsilon_plus_flat", {}),
    ("gamma box", "epsilon_gamma_box", BOX),
    ("LRP tutorial", "lrp_tutorial", BOX),
    ("preset B flat", "sequential_preset_b_flat", {}),
    ("deep Taylor", "deep_taylor_bounded", BOX),
    ("Caffe 104", "caffe_104", {"beta": 1.0}),
    ("toolbox, epsilon 1", "lrp_toolbox", {"variant": "epsilon", "param": 1.0}),
    ("guided backprop", "guided_backprop", {}),
]
RULES: list[tuple[str, str, dict[str, Any]]] = [
    ("Zero", "zero", {}),
    ("Epsilon 0.25", "epsilon", {"epsilon": 0.25}),
    ("Gamma 0.25", "gamma", {"gamma": 0.25}),
    ("alpha 2 beta 1", "alpha_beta", {"alpha": 2.0}),
    ("ZPlus", "z_plus", {}),
    ("ZBox first", "z_plus", {"first_map": [("Conv", rules.ZBox(0.0, 1.0))]}),
    ("WSquare first", "z_plus", {"first_map": [("Conv", rules.WSquare())]}),
    ("Flat first", "z_plus", {"first_map": [("Conv", rules.Flat())]}),
]


def sheet(methods: Sequence[tuple[str, str, dict[str, Any]]]) -> Image:
    model, images, labels = load()
    images = images[:DIGITS]
    columns = [np.rint(images[:, 0] * 255).astype(np.uint8)]
    for _, composite, options in methods:
        relevance = Explainer(model, composite, providers="cpu", **options).explain(images).relevance
        columns.append(channel_sum(relevance, "NCHW"))
    return contact_sheet(
        [[column[row] for column in columns] for row in range(DIGITS)],
        row_titles=[f"a {label}" for label in labels[:DIGITS]],
        column_titles=["digit", *(title for title, _, _ in methods)],
        cell=96,
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("-o", "--output", type=Path, default=Path("sheets"), help="the folder for the pictures")
    folder = parser.parse_args().output
    folder.mkdir(parents=True, exist_ok=True)
    for name, methods in (("composites.png", COMPOSITES), ("rules.png", RULES)):
        imsave(folder / name, sheet(methods))
        print(folder / name)


if __name__ == "__main__":
    main()
