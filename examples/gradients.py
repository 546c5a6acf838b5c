"""Draw what the gradient methods make of the same predictions.

    python examples/gradients.py -o gradients.png

explains six digits of the demonstration network with the gradient, its variants, integrated gradients and SmoothGrad: red speaks for the
prediction, blue against it; sensitivity, SmoothGrad-squared and VarGrad have no sign.
"""

import argparse
from pathlib import Path

import numpy as np

from onnx_lrp import Explainer, explain, integrated_gradients, smoothgrad
from onnx_lrp.demo import load
from onnx_lrp.image import channel_sum, contact_sheet, imsave

DIGITS = 6
COMPOSITES = ("gradient", "input_x_gradient", "sensitivity", "guided_backprop", "deconvnet")


def main() -> None:
    parser = argparse.ArgumentParser(description="Draw what the gradient methods make of the same predictions.")
    parser.add_argument("-o", "--out", type=Path, default=Path("gradients.png"), help="the picture to write")
    path = parser.parse_args().out
    model, images, labels = load()
    images = images[:DIGITS]
    found = {name.replace("_", " "): explain(model, images, composite=name, providers="cpu") for name in COMPOSITES}
    gradient = Explainer(model, "gradient", providers="cpu")  # compiled once for all that follows
    found["integrated gradients"] = integrated_gradients(gradient, images, steps=20, quadrature="midpoint")
    found["SmoothGrad"] = smoothgrad(gradient, images, n=20, noise=0.2)
    found["SmoothGrad squared"] = smoothgrad(gradient, images, n=20, noise=0.2, statistic="square")
    found["VarGrad"] = smoothgrad(gradient, images, n=20, noise=0.2, statistic="variance")
    columns = [np.rint(images[:, 0] * 255).astype(np.uint8), *(channel_sum(one.relevance, "NCHW") for one in found.values())]
    sheet = contact_sheet(
        [[column[row] for column in columns] for row in range(DIGITS)],
        row_titles=[f"a {label}" for label in labels[:DIGITS]],
        column_titles=["digit", *found],
        cell=96,
    )
    imsave(path, sheet)
    gap = np.abs(found["integrated gradients"].gap).max()
    print(f"integrated gradients add up to the score's rise from a black picture, but for {gap:.3f} at most")
    print(f"-> {path}")


if __name__ == "__main__":
    main()
