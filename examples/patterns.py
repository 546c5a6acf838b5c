"""PatternNet and PatternAttribution beside the gradient and LRP, on the handwritten digits that come with the package.

    python examples/patterns.py -o patterns.png

fits patterns to the twelve digits, each moved by up to two pixels in every direction (300 pictures), and draws what the methods make of six
of them. Gradient, epsilon, PatternAttribution: red speaks for the prediction, blue against it. PatternNet: the signal, red bright, blue
dark.
"""

import argparse
from pathlib import Path
from typing import Any

import numpy as np

import onnx_lrp
from onnx_lrp.demo import load
from onnx_lrp.image import channel_sum, contact_sheet, imsave

DIGITS, REACH = 6, 2


def shifted(images: np.ndarray) -> np.ndarray:
    """Every image, moved by up to REACH pixels in all ways."""
    size = images.shape[-1]
    padded = np.pad(images, [(0, 0), (0, 0), (REACH, REACH), (REACH, REACH)])
    steps = range(2 * REACH + 1)
    return np.concatenate([padded[:, :, down : down + size, right : right + size] for down in steps for right in steps])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("-o", "--output", type=Path, default=Path("patterns.png"), help="the picture to write")
    output = parser.parse_args().output

    model, images, labels = load()
    fitted = {name: onnx_lrp.fit_patterns(model, shifted(images), estimator=name) for name in ("all", "positive")}
    methods: dict[str, tuple[str, dict[str, Any]]] = {
        "gradient": ("gradient", {}),
        "epsilon": ("epsilon", {"epsilon": 0.25}),
        "PatternNet, all": ("pattern_net", {"patterns": fitted["all"]}),
        "PatternNet, positive": ("pattern_net", {"patterns": fitted["positive"]}),
        "PatternAttribution, all": ("pattern_attribution", {"patterns": fitted["all"]}),
        "PatternAttribution, positive": ("pattern_attribution", {"patterns": fitted["positive"]}),
    }
    images = images[:DIGITS]
    columns = [np.rint(images[:, 0] * 255).astype(np.uint8)]
    for composite, options in methods.values():
        relevance = onnx_lrp.explain(model, images, composite=composite, providers="cpu", **options).relevance
        columns.append(channel_sum(relevance, "NCHW"))
    sheet = contact_sheet(
        [[column[row] for column in columns] for row in range(DIGITS)],
        row_titles=[f"a {label}" for label in labels[:DIGITS]],
        column_titles=["digit", *methods],
        cell=148,
    )
    imsave(output, sheet)
    print(f"patterns of {len(fitted['all'].arrays)} layers, fitted to {fitted['all'].samples} pictures: {output}")


if __name__ == "__main__":
    main()
