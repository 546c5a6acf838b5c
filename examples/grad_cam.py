"""Draw where a network looks, by Grad-CAM at three depths and by Guided Grad-CAM.

    python examples/grad_cam.py -o grad_cam.png

explains six digits of the demonstration network. Grad-CAM has no sign and the layer's resolution: 16 x 16 places at the first layers, 8 x 8
behind. In Guided Grad-CAM red speaks for the prediction, blue against it.
"""

import argparse
from pathlib import Path

import numpy as np

from onnx_lrp import Explainer, grad_cam
from onnx_lrp.demo import load
from onnx_lrp.image import channel_sum, contact_sheet, imsave

DIGITS = 6
LAYERS = {"Grad-CAM behind the first sum": "/Relu_1", "Grad-CAM behind the max pool": "/MaxPool", "Grad-CAM at the last map": None}


def main() -> None:
    parser = argparse.ArgumentParser(description="Draw where a network looks, by Grad-CAM and Guided Grad-CAM.")
    parser.add_argument("-o", "--out", type=Path, default=Path("grad_cam.png"), help="the picture to write")
    path = parser.parse_args().out
    model, images, labels = load()
    images = images[:DIGITS]
    gradient = Explainer(model, "gradient", providers="cpu")  # compiled once for all layers
    guided = Explainer(model, "guided_backprop", providers="cpu")
    found = {title: grad_cam(gradient, images, layer=layer) for title, layer in LAYERS.items()}
    found["guided backprop"] = guided.explain(images)
    found["Guided Grad-CAM"] = grad_cam(guided, images, guided=True)
    columns = [np.rint(images[:, 0] * 255).astype(np.uint8), *(channel_sum(one.relevance, "NCHW") for one in found.values())]
    sheet = contact_sheet(
        [[column[row] for column in columns] for row in range(DIGITS)],
        row_titles=[f"a {label}" for label in labels[:DIGITS]],
        column_titles=["digit", *found],
        cell=112,
    )
    imsave(path, sheet)
    for name, explanation in found.items():
        positive = np.maximum(explanation.relevance, 0)
        on_the_digit = (positive * (images > 0.5)).sum() / positive.sum()
        print(f"{name}: {on_the_digit:.0%} of what speaks for the prediction lies on the strokes")
    print(f"-> {path}")


if __name__ == "__main__":
    main()
