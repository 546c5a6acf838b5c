"""Split an explanation into what single channels of a layer contribute: conditional relevance, one heat map for each channel.

    python examples/concepts.py -o concepts.png

explains digits of the demonstration network with 49 relevance passes over one forward pass: one without conditions, and one for each of
the 48 channels before the last convolution, through which alone relevance may go. For each digit it draws the channels that speak for the
prediction most, and what they see: red speaks for the prediction, blue against it.
"""

import argparse
from pathlib import Path

import numpy as np

from onnx_lrp import Explainer
from onnx_lrp.concepts import strongest
from onnx_lrp.demo import load
from onnx_lrp.image import channel_sum, contact_sheet, imsave

LAYER, CHANNELS = "/Concat_output_0", 48
DIGITS, SHOWN = 5, 5


def main() -> None:
    parser = argparse.ArgumentParser(description="Draw what the most relevant channels of a layer contribute to predictions.")
    parser.add_argument("-o", "--out", type=Path, default=Path("concepts.png"), help="the picture to write")
    path = parser.parse_args().out
    model, images, labels = load()
    images, labels = images[:DIGITS], labels[:DIGITS]
    explainer = Explainer(model, "epsilon_plus_flat", record=[LAYER], providers="cpu")
    conditions: list[dict[str, list[int]]] = [{}, *({LAYER: [channel]} for channel in range(CHANNELS))]
    explanation = explainer.explain(images, conditions=conditions)
    whole, parts = np.split(channel_sum(explanation.relevance.reshape(-1, *images.shape[1:]), "NCHW").reshape(DIGITS, -1, 16, 16), [1], 1)
    share = explanation.channels(LAYER)[:, 0]  # of the pass without conditions
    total = share.sum(1)
    rows: list[list[np.ndarray]] = []
    captions: list[list[str | None]] = []
    for digit, channels in enumerate(strongest(share, SHOWN)):
        rows.append([np.rint(images[digit, 0] * 255).astype(np.uint8), whole[digit, 0], *parts[digit, channels]])
        percent = [f"channel {channel}: {100 * share[digit, channel] / total[digit]:.0f} %" for channel in channels]
        captions.append([f"read as {explanation.target[digit, 0]}", f"relevance {total[digit]:.1f}", *percent])
    titles = ["digit", "all channels", *(f"channel no. {rank + 1}" for rank in range(SHOWN))]
    sheet = contact_sheet(rows, [f"a {label}" for label in labels], titles, captions, cell=120)
    imsave(path, sheet)
    print(f"{len(conditions)} relevance passes over one forward pass: {path}")


if __name__ == "__main__":
    main()
