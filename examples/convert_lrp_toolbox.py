"""Convert a model of lrp_toolbox and explain it.

    python examples/convert_lrp_toolbox.py -o converted

writes a small network in lrp_toolbox's text format, turns it into ``model.onnx``, compares both, and draws what the predictions for six
digits rest on, by four of lrp_toolbox's variants (``lrp_toolbox.png``); then it writes the ONNX model as text again.
"""

import argparse
from pathlib import Path

import numpy as np

from onnx_lrp import Explainer
from onnx_lrp.converters import convert
from onnx_lrp.converters.forward import convolution, windows
from onnx_lrp.converters.lrp_toolbox import write
from onnx_lrp.demo import load
from onnx_lrp.image import channel_sum, contact_sheet, imsave

DIGITS = 6
VARIANTS = [("simple", None), ("epsilon", 1.0), ("alphabeta", 2.0), ("ww", None)]


def network(images: np.ndarray, labels: np.ndarray) -> str:
    """Random filters, a SumPool, and a dense layer fitted to the digits; images of shape (N, 1, 16, 16)."""
    filters = np.random.default_rng(0).normal(0, 0.3, (5, 5, 1, 12))  # height, width, channels, filters
    seen = np.maximum(convolution(images, filters.transpose(3, 2, 0, 1), None, (1, 1)), 0)
    pooled = windows(seen, (2, 2), (2, 2)).sum((-1, -2)) / 2
    features = pooled.transpose(0, 2, 3, 1).reshape(len(images), -1)
    wanted = np.eye(10)[labels] * 10
    weights = features.T @ np.linalg.solve(features @ features.T + np.eye(len(images)), wanted)  # ridge regression
    lines = [
        "Convolution 5 5 1 12 1 1",
        " ".join(map(str, filters.ravel().tolist())),
        " ".join(["0.0"] * 12),
        "Rect",
        "SumPool 2 2 2 2",
        "Flatten",
        f"Linear {features.shape[1]} 10",
        " ".join(map(str, weights.ravel().tolist())),
        " ".join(["0.0"] * 10),
        "SoftMax",
    ]
    return "\n".join(lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("-o", "--output", type=Path, default=Path("converted"), help="the folder for the files")
    folder = parser.parse_args().output
    folder.mkdir(parents=True, exist_ok=True)
    _, images, labels = load()
    (folder / "model.txt").write_text(network(images.astype(np.float64), labels))

    conversion = convert(folder / "model.txt", input_size=(16, 16, 1))
    conversion.save(folder / "model.onnx")
    print(f"{conversion.report.kind}: {len(conversion.report.layers)} layers, largest difference {conversion.report.difference:.1e}")

    x = images[:DIGITS].transpose(0, 2, 3, 1)  # lrp_toolbox has the channels last
    columns = [np.rint(images[:DIGITS, 0] * 255).astype(np.uint8)]
    for variant, param in VARIANTS:
        explanation = Explainer(folder / "model.onnx", "lrp_toolbox", variant=variant, param=param, providers="cpu").explain(x)
        columns.append(channel_sum(explanation.relevance, "NHWC"))
    titles = ["digit", *(variant if param is None else f"{variant} {param:g}" for variant, param in VARIANTS)]
    rows = [[column[row] for column in columns] for row in range(DIGITS)]
    imsave(
        folder / "lrp_toolbox.png",
        contact_sheet(rows, row_titles=[f"a {label}" for label in labels[:DIGITS]], column_titles=titles, cell=96),
    )
    print(f"recognised as {explanation.target.tolist()}, drawn in {folder / 'lrp_toolbox.png'}")

    report = write(folder / "model.onnx", folder / "again.txt")
    print(f"written as {folder / 'again.txt'}, largest difference {report.difference:.1e}")


if __name__ == "__main__":
    main()
