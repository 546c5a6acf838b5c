"""By how much relevance changes when products are computed in TF32 or float16.

    python benchmarks/precision.py model.onnx=inputs.npy other.onnx ...

prints a table: for each model, composite and precision the relative L2 difference of a sample's relevance from that in float32, median and
largest over the samples, and that of the output. Without inputs a model gets random ones. On the CPU both precisions are emulated (see
`onnx_lrp.precision`).
"""

import argparse
from pathlib import Path

import numpy as np

from onnx_lrp import Explainer
from onnx_lrp.errors import ModelError
from onnx_lrp.graph import read_graph

COMPOSITES = ("epsilon", "epsilon_plus_flat", "epsilon_gamma_box", "gradient")
PRECISIONS = ("tf32", "float16")


def main() -> None:
    parser = argparse.ArgumentParser(description="Measure what TF32 and float16 change.")
    parser.add_argument("models", nargs="+", metavar="MODEL[=INPUTS.npy]")
    parser.add_argument("--samples", type=int, default=4, help="how many random inputs, where none are given")
    parser.add_argument("--providers", default="cpu")
    options = parser.parse_args()
    print("| model | composite | precision | relevance, median | largest | output, largest |")
    print("| --- | --- | --- | ---: | ---: | ---: |")
    for given in options.models:
        model, _, inputs = given.partition("=")
        x = np.load(inputs).astype(np.float32) if inputs else random_inputs(model, options.samples)
        for composite in COMPOSITES:
            bounds = {"low": x.min(), "high": x.max()} if composite.endswith("box") else {}
            exact = Explainer(model, composite, providers=options.providers, **bounds).explain(x)
            for precision in PRECISIONS:
                explainer = Explainer(model, composite, providers=options.providers, precision=precision, **bounds)
                try:
                    found = explainer.explain(x, exact.target)
                except ModelError as error:  # a sum is too large for float16
                    row = [str(error).rpartition(", ")[0].rpartition(", ")[2], "", ""]
                else:
                    errors = relative(found.relevance, exact.relevance)
                    row = [f"{np.median(errors):.1e}", f"{errors.max():.1e}", f"{relative(found.output, exact.output).max():.1e}"]
                print("| " + " | ".join([Path(model).stem, composite, precision, *row]) + " |", flush=True)


def random_inputs(model: str, samples: int) -> np.ndarray:
    (kind,) = read_graph(model).inputs.values()
    first, *shape = (length if isinstance(length, int) else 1 for length in kind.shape)
    fixed = isinstance(kind.shape[0], int)
    return np.random.default_rng(0).standard_normal((first if fixed else samples, *shape)).astype(np.float32)


def relative(found: np.ndarray, exact: np.ndarray) -> np.ndarray:
    """The relative L2 difference of each sample."""
    difference, size = (value.reshape(len(value), -1).astype(np.float64) for value in (found - exact, exact))
    return np.linalg.norm(difference, axis=1) / np.linalg.norm(size, axis=1)


if __name__ == "__main__":
    main()
