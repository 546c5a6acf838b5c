"""Convert a Keras network and explain it.

    python examples/convert_keras.py -o converted

makes a small network for digits, saves it as ``model.keras``, turns that into ``keras.onnx``, compares both, and draws what the
predictions for six digits rest on, by four composites (``keras.png``). As in Keras, pictures have the channels last. It needs Keras:
pip install 'onnx-lrp[keras]'.
"""

import argparse
from pathlib import Path
from typing import Any

import numpy as np

from onnx_lrp import Explainer
from onnx_lrp.converters import convert
from onnx_lrp.converters.keras import use_keras
from onnx_lrp.demo import load
from onnx_lrp.errors import ModelError
from onnx_lrp.image import channel_sum, contact_sheet, imsave

DIGITS = 6
COMPOSITES: list[tuple[str, dict[str, Any]]] = [
    ("epsilon_plus_flat", {}),
    ("epsilon_gamma_box", {"low": 0.0, "high": 255.0}),
    ("epsilon", {}),
    ("gradient", {}),
]


def network(keras: Any, pixels: np.ndarray, labels: np.ndarray) -> Any:
    """Random filters, and a dense layer fitted to the digits; pixels of shape (N, 16, 16, 1) from 0 to 255."""
    layers = keras.layers
    keras.utils.set_random_seed(0)
    start = [keras.Input((16, 16, 1), name="digit"), layers.Rescaling(1 / 255, name="scale")]
    start += [layers.Conv2D(12, 5, padding="same", activation="relu", name="conv"), layers.MaxPooling2D(name="pool"), layers.Flatten()]
    features = keras.Sequential(start)
    seen = np.asarray(keras.ops.convert_to_numpy(features(pixels)), np.float64)
    weights = seen.T @ np.linalg.solve(seen @ seen.T + 0.1 * np.eye(len(seen)), np.eye(10)[labels] * 10)  # ridge regression
    model = keras.Sequential([*features.layers, layers.Dense(10, activation="softmax", name="dense")], name="digits")
    model.build((None, 16, 16, 1))
    model.layers[-1].set_weights([weights.astype(np.float32), np.zeros(10, np.float32)])
    return model


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("-o", "--output", type=Path, default=Path("converted"), help="the folder for the files")
    folder = parser.parse_args().output
    try:
        keras = use_keras()
    except ModelError as error:
        raise SystemExit(str(error)) from None
    folder.mkdir(parents=True, exist_ok=True)
    _, images, labels = load()
    pixels = np.rint(images * 255).transpose(0, 2, 3, 1)
    network(keras, pixels, labels).save(folder / "model.keras")

    conversion = convert(folder / "model.keras")
    conversion.save(folder / "keras.onnx")
    print(f"{conversion.report.source} -> keras.onnx, largest difference {conversion.report.difference:.1e}")

    x = pixels[:DIGITS]
    columns = [x[..., 0].astype(np.uint8)]
    for composite, options in COMPOSITES:
        explanation = Explainer(folder / "keras.onnx", composite, providers="cpu", **options).explain(x)
        columns.append(channel_sum(explanation.relevance, "NHWC"))
    print(f"recognised as {explanation.output.argmax(1).tolist()}")
    rows = [[column[row] for column in columns] for row in range(DIGITS)]
    titles = ["digit", *(composite.replace("_", " ") for composite, _ in COMPOSITES)]
    imsave(folder / "keras.png", contact_sheet(rows, row_titles=[f"a {label}" for label in labels[:DIGITS]], column_titles=titles, cell=96))
    print(f"pictures in {folder / 'keras.png'}")


if __name__ == "__main__":
    main()
