"""Measure which explanation of a small network for digits is best, by pixel flipping.

    python examples/evaluation.py -o evaluation

paints 2 x 2 patches of the demonstration digits black in the order of their relevance under several composites, prints the areas under
the curves, and writes ``curves.png`` (the score from step to step: of the solid lines, lower is better, of the dashed ones, higher) and
``flipped.png`` (digits at some of the steps). Relevance that is drawn at random must do no better than a random order.
"""

import argparse
from pathlib import Path

import numpy as np

from onnx_lrp import Explainer
from onnx_lrp.demo import load
from onnx_lrp.evaluation import Flipping, PixelFlipping, abpc
from onnx_lrp.evaluation.pictures import curves_figure, flipping_sheet
from onnx_lrp.image import imsave
from onnx_lrp.plot import save_figure

COMPOSITES = ("epsilon_plus_flat", "gamma", "epsilon")
SETTINGS = {"patch": 2, "perturbation": 0.0, "steps": 8, "providers": "cpu"}
SHOWN = 4


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("-o", "--output", type=Path, default=Path("evaluation"), help="the folder for the pictures")
    folder = parser.parse_args().output
    folder.mkdir(parents=True, exist_ok=True)

    model, images, labels = load()
    target = labels.astype(int)
    relevance = {name: Explainer(model, name, providers="cpu").explain(images, target).relevance for name in COMPOSITES}
    relevance["relevance at random"] = np.random.default_rng(0).standard_normal(images.shape)
    most, least, random = (
        PixelFlipping(model, order=order, **SETTINGS) for order in ("most_relevant_first", "least_relevant_first", "random")
    )
    runs: dict[str, Flipping] = {}
    groups: dict[str, str] = {}
    print(f"{'':20}  most first  least first  between")
    for name, maps in relevance.items():
        runs[f"{name}, most"], runs[f"{name}, least"] = most.run(images, maps, target), least.run(images, maps, target)
        groups |= {f"{name}, most": name, f"{name}, least": name}
        areas = runs[f"{name}, most"].auc, runs[f"{name}, least"].auc, abpc(runs[f"{name}, least"], runs[f"{name}, most"])
        print(f"{name:20}  {areas[0]:10.1f}  {areas[1]:11.1f}  {areas[2]:7.2f}")
    runs["random order"] = random.run(images, relevance[COMPOSITES[0]], target)
    print(f"{'random order':20}  {runs['random order'].auc:10.1f}")

    figure = curves_figure(runs, f"{len(images)} digits; dashed: least relevant first", groups | {"random order": "random order"})
    save_figure(figure, folder / "curves.png")
    maps = relevance["gamma"][:SHOWN]
    imsave(folder / "flipped.png", flipping_sheet(most.steps_of(images[:SHOWN], maps, target[:SHOWN]), maps, (1, 2, 4, 8)))
    print(folder / "curves.png")
    print(folder / "flipped.png")


if __name__ == "__main__":
    main()
