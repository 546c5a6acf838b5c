"""Ask DeepLIFT what makes a digit's score differ from that of a reference: a black picture, the mean digit, another digit.

    python examples/deeplift.py -o deeplift.png

Under each map stand its sum and the difference of the scores, which are equal.
"""

import argparse
from pathlib import Path

import numpy as np

from onnx_lrp import Explainer
from onnx_lrp.demo import load
from onnx_lrp.image import channel_sum, contact_sheet, imsave

DIGITS = 5


def main() -> None:
    parser = argparse.ArgumentParser(description="Compare digits with references by DeepLIFT.")
    parser.add_argument("-o", "--out", type=Path, default=Path("deeplift.png"), help="the picture to write")
    path = parser.parse_args().out
    model, images, labels = load()
    references = {"black": np.zeros_like(images[0]), "the mean digit": images.mean(0), f"digit {labels[-1]}": images[-1]}
    images = images[:DIGITS]
    rows: list[list[np.ndarray | None]] = [[None], *([np.rint(image[0] * 255).astype(np.uint8)] for image in images)]
    captions: list[list[str | None]] = [[None] for _ in rows]
    for reference in references.values():
        explainer = Explainer(model, "deeplift", reference=reference, providers="cpu")
        explanation = explainer.explain(images)
        before = explainer.explain(reference[None]).output[0]
        rows[0].append(np.rint(reference[0] * 255).astype(np.uint8))
        captions[0].append("the reference")
        for row, heat in enumerate(channel_sum(explanation.relevance, "NCHW")):
            target = explanation.target[row]
            rise = explanation.output[row, target] - before[target]
            rows[row + 1].append(heat)
            captions[row + 1].append(f"sum {heat.sum():.2f}, rise {rise:.2f}")
    titles = ["digit", *(f"against {name}" for name in references)]
    imsave(path, contact_sheet(rows, ["", *(f"a {label}" for label in labels[:DIGITS])], titles, captions, cell=128))
    print(f"-> {path}")


if __name__ == "__main__":
    main()
