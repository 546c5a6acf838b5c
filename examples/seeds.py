"""What sets one class apart from the others? Class-contrastive heat maps of handwritten digits.

    python examples/seeds.py -o seeds.png

Each picture holds two digits, both narrowed to half its width, and the network gives a positive score to either class. Plain relevance says
where a class was seen. Seeds that look at the other classes too also say what speaks for another class instead: contrastive (CLRP) and
softmax_gradient (SGLRP), in one signed pass or in two passes. The text that is printed says how much of each seed's relevance is right: red
on the digit's own half, blue on the other.
"""

import argparse
from pathlib import Path

import numpy as np

import onnx_lrp
from onnx_lrp.demo import load
from onnx_lrp.image import channel_sum, contact_sheet, imsave

PAIRS = ((3, 7), (0, 8))
"""The digit on the left and the one on the right."""
COLUMNS = (
    ("output", "output", False),
    ("contrastive", "contrastive", False),
    ("contrastive, two passes", "contrastive", True),
    ("softmax gradient", "softmax_gradient", False),
    ("softmax gradient, two passes", "softmax_gradient", True),
)


def right_share(relevance: np.ndarray) -> float:
    """The share of relevance (pictures, 2, 1, H, W) that is positive on its class's half or negative on the other, a mean over all maps."""
    left, right = np.split(relevance, 2, axis=-1)
    own, other = np.stack([left[:, 0], right[:, 1]]), np.stack([right[:, 0], left[:, 1]])
    space = (-3, -2, -1)
    return float(((own.clip(0) - other.clip(max=0)).sum(space) / (np.abs(own) + np.abs(other)).sum(space)).mean())


def main() -> None:
    parser = argparse.ArgumentParser(description="Draw class-contrastive heat maps of digits.")
    parser.add_argument("-o", "--output", type=Path, default=Path("seeds.png"), help="the picture to write (default: %(default)s)")
    parser.add_argument("-c", "--composite", default="epsilon_plus", help="the rules (default: %(default)s)")
    options = parser.parse_args()

    model, images, labels = load()
    narrow = [[images[int(np.argmax(labels == digit))][..., ::2] for digit in pair] for pair in PAIRS]
    pictures = np.stack([np.concatenate(pair, axis=-1) for pair in narrow])
    explainer = onnx_lrp.Explainer(model, options.composite)

    # Two targets for each picture in one run: relevance is (pictures, 2, 1, 16, 16).
    maps = [np.asarray(explainer.explain(pictures, np.array(PAIRS), seed, two_pass=two).relevance) for _, seed, two in COLUMNS]
    scores = explainer.explain(pictures).output
    rows, titles, captions = [], [], []
    for sample, classes in enumerate(PAIRS):
        for k, target in enumerate(classes):
            rows.append([np.rint(pictures[sample, 0] * 255).astype(np.uint8), *(channel_sum(found[sample, k], "NCHW") for found in maps)])
            titles.append(f"the {target}")
            captions.append([f"score {scores[sample, target]:.1f}", *[None] * len(COLUMNS)])
    for (title, _, _), found in zip(COLUMNS, maps, strict=True):
        print(f"{title}: {right_share(found):.0%} of the relevance is red on the digit's own half or blue on the other")
    sheet = contact_sheet(
        rows,
        row_titles=titles,
        column_titles=["picture", *(title for title, _, _ in COLUMNS)],
        captions=captions,
        title="Two digits in one picture, each explained: red speaks for its class, blue against",
        cell=128,
    )
    imsave(options.output, sheet)
    print(options.output)


if __name__ == "__main__":
    main()
