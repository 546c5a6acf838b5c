"""Follow relevance through a network, layer by layer.

The demonstration network reads a handwritten digit. Every tensor that relevance flows through is recorded; a table says how much
relevance each has and how it is spread, one picture draws that over depth, and one shows the heat maps of the layers.

    python examples/layers.py -o layers

writes ``layers.png`` (the figures) and ``maps.png`` (the heat maps).
"""

import argparse
from pathlib import Path

import numpy as np

import onnx_lrp
from onnx_lrp.image import channel_sum, contact_sheet

DEMO = Path(onnx_lrp.__file__).parent / "demo"
SHOWN = {
    "image": "image",
    "/Relu": "first layer",
    "/residual/residual.1/Relu": "inside the residual block",
    "/Relu_1": "behind the residual block",
    "/MaxPool": "max pool",
    "/Relu_2": "3x3 branch",
    "/Relu_3": "5x5 branch",
    "/Concat": "both branches",
    "/Relu_4": "last convolution",
}
"""The nodes whose heat maps are drawn, from the input on, and how they are called."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("-o", "--output", type=Path, default=Path("layers"), help="the folder for the pictures")
    parser.add_argument("-n", "--number", type=int, default=3, help="which of the twelve digits (0 to 11)")
    options = parser.parse_args()

    digit = np.load(DEMO / "digits.npz")["images"][[options.number]]
    explainer = onnx_lrp.Explainer(DEMO / "digits.onnx", "epsilon_plus_flat", record=["all", *SHOWN], providers="cpu")
    explanation = explainer.explain(digit)
    summary = explanation.summary()
    print(summary)

    options.output.mkdir(parents=True, exist_ok=True)
    title = f"Relevance for class {explanation.target[0]}, layer by layer"
    summary.plot(options.output / "layers.png", title)

    pictures = [np.rint(digit[0, 0] * 255).astype(np.uint8), *(channel_sum(explanation.relevances[name][0], "NCHW") for name in SHOWN)]
    captions = ["the digit", *SHOWN.values()]
    sheet = contact_sheet([pictures[:5], pictures[5:]], captions=[captions[:5], captions[5:]], title=title, cell=128)
    sheet.save(options.output / "maps.png")
    print(f"pictures in {options.output}")


if __name__ == "__main__":
    main()
