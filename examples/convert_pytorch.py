"""Convert a PyTorch network and explain it.

    python examples/convert_pytorch.py -o converted

makes a small network for digits, saves it as the exported program ``model.pt2``, turns that into ``pytorch.onnx``, compares both, and draws
what the predictions for six digits rest on, by four composites (``pytorch.png``). It needs PyTorch: pip install 'onnx-lrp[pytorch]'.
"""

import argparse
from pathlib import Path
from typing import Any

import numpy as np

from onnx_lrp import Explainer
from onnx_lrp.converters import convert
from onnx_lrp.converters.frameworks import require
from onnx_lrp.demo import load
from onnx_lrp.errors import ModelError
from onnx_lrp.image import channel_sum, contact_sheet, imsave

DIGITS = 6
COMPOSITES: list[tuple[str, dict[str, Any]]] = [
    ("epsilon_plus_flat", {}),
    ("epsilon_gamma_box", {"low": 0.0, "high": 1.0}),
    ("epsilon", {}),
    ("gradient", {}),
]


def network(images: np.ndarray, labels: np.ndarray) -> Any:
    """Random filters, and a dense layer fitted to the digits; images of shape (N, 1, 16, 16)."""
    import torch
    from torch import nn

    torch.manual_seed(0)
    features = nn.Sequential(nn.Conv2d(1, 12, 5, padding=2), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten())
    dense = nn.Linear(12 * 8 * 8, 10)
    with torch.no_grad():
        seen = features(torch.from_numpy(images)).double()
        wanted = torch.nn.functional.one_hot(torch.from_numpy(labels.astype(np.int64)), 10).double() * 10
        dense.weight.copy_((seen.T @ torch.linalg.solve(seen @ seen.T + 0.1 * torch.eye(len(seen)), wanted)).T)  # ridge regression
        dense.bias.zero_()
    return nn.Sequential(features, dense).eval()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("-o", "--output", type=Path, default=Path("converted"), help="the folder for the files")
    folder = parser.parse_args().output
    try:
        torch = require("pytorch", "torch", "onnxscript")
    except ModelError as error:
        raise SystemExit(str(error)) from None
    folder.mkdir(parents=True, exist_ok=True)
    _, images, labels = load()
    program = torch.export.export(network(images, labels), (torch.from_numpy(images),), dynamic_shapes=({0: torch.export.Dim.DYNAMIC},))
    torch.export.save(program, folder / "model.pt2")

    conversion = convert(folder / "model.pt2")
    conversion.save(folder / "pytorch.onnx")
    print(f"{conversion.report.source} -> pytorch.onnx, largest difference {conversion.report.difference:.1e}")

    x = images[:DIGITS]
    columns = [np.rint(x[:, 0] * 255).astype(np.uint8)]
    for composite, options in COMPOSITES:
        explanation = Explainer(folder / "pytorch.onnx", composite, providers="cpu", **options).explain(x)
        columns.append(channel_sum(explanation.relevance, "NCHW"))
    print(f"recognised as {explanation.output.argmax(1).tolist()}")
    rows = [[column[row] for column in columns] for row in range(DIGITS)]
    titles = ["digit", *(composite.replace("_", " ") for composite, _ in COMPOSITES)]
    imsave(
        folder / "pytorch.png", contact_sheet(rows, row_titles=[f"a {label}" for label in labels[:DIGITS]], column_titles=titles, cell=96)
    )
    print(f"pictures in {folder / 'pytorch.png'}")


if __name__ == "__main__":
    main()
