"""The command demo: a small model that comes with the package, explained in several ways."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from onnx_lrp.commands.files import Folder
from onnx_lrp.commands.printing import say
from onnx_lrp.demo import load
from onnx_lrp.explainer import Explainer
from onnx_lrp.image import channel_sum, contact_sheet

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from onnx_lrp.graph import Array

__all__ = ["METHODS", "run"]

METHODS: Sequence[tuple[str, str, dict[str, Any]]] = (
    ("epsilon", "epsilon", {"epsilon": 0.25}),
    ("epsilon plus flat", "epsilon_plus_flat", {}),
    ("alpha 2 beta 1 flat", "epsilon_alpha2_beta1_flat", {}),
    ("gamma box", "epsilon_gamma_box", {"low": 0.0, "high": 1.0}),
    ("excitation backprop", "excitation_backprop", {}),
    ("input x gradient", "input_x_gradient", {}),
    ("guided backprop", "guided_backprop", {}),
)
"""Column title, composite, options."""


def run(folder: Path) -> None:
    """Explain the digits that come with the package, and write one sheet of heat maps.

    Args:
        folder: Where digits.png goes.

    Raises:
        WriteError: The sheet cannot be written.
    """
    out = Folder(folder)
    model, images, labels = load()
    columns: list[Array] = [np.rint(images[:, 0] * 255).astype(np.uint8)]
    for _, composite, options in METHODS:
        explanation = Explainer(model, composite, providers="cpu", **options).explain(images)
        columns.append(channel_sum(np.asarray(explanation.relevance), "NCHW"))
    best = explanation.target
    powers = np.exp(explanation.output - explanation.output.max(1, keepdims=True))
    sure = powers.max(1) / powers.sum(1)
    captions = [[f"{digit}: {100 * score:.0f} %", *[None] * len(METHODS)] for digit, score in zip(best, sure, strict=True)]
    sheet = contact_sheet(
        [[column[row] for column in columns] for row in range(len(images))],
        row_titles=[f"a {label}" for label in labels],
        column_titles=["digit, prediction", *(title for title, _, _ in METHODS)],
        captions=captions,
        title="What a small network looks at: red speaks for its prediction, blue against",
        cell=128,
    )
    path = out.save("digits.png", sheet)
    say(f"{int((best == labels).sum())} of {len(labels)} digits are recognised")
    say(f"{len(METHODS)} ways to explain each of them: {path}")
