"""Where relevance goes: the account of one digit under several composites, as a table and as waterfalls.

    python examples/conservation.py -o conservation.png

The last composite conserves: all relevance arrives at the pixels.
"""

import argparse
import io
from importlib import resources
from pathlib import Path

import numpy as np

import onnx_lrp
from onnx_lrp.plot import save_figure
from onnx_lrp.waterfall import plot_accounts

WAYS = {
    "epsilon, epsilon=0.25": ("epsilon", {"epsilon": 0.25}),
    "epsilon_plus_flat": ("epsilon_plus_flat", {}),
    "epsilon_alpha2_beta1": ("epsilon_alpha2_beta1", {}),
    "epsilon_alpha2_beta1, bias='redistribute', empty='conserve'": (
        "epsilon_alpha2_beta1",
        {"bias": "redistribute", "empty": "conserve"},
    ),
}
"""Title -> composite and options."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("-o", "--output", type=Path, default=Path("conservation.png"), help="the picture")
    parser.add_argument("--digit", type=int, default=3, choices=range(10), help="the digit to explain")
    options = parser.parse_args()

    demo = resources.files("onnx_lrp.demo")
    model = demo.joinpath("digits.onnx").read_bytes()
    with np.load(io.BytesIO(demo.joinpath("digits.npz").read_bytes())) as data:
        image = data["images"][data["labels"] == options.digit][:1]

    accounts = {}
    for title, (composite, settings) in WAYS.items():
        account = onnx_lrp.explain(model, image, composite=composite, **settings).conservation
        accounts[title] = account
        print(title)
        print("   ", ", ".join(f"{name} {100 * value / account.totals()['seed']:.1f} %" for name, value in account.totals().items()))
        for entry in account.worst(1):
            print(f"    most at {entry.node}: {account.share(entry.lost):.1f} % to {entry.main}; {entry.advice}")
    figure = plot_accounts(accounts, f"Where the relevance of a {options.digit} goes")
    save_figure(figure, options.output, dpi=75)
    print(f"-> {options.output}")


if __name__ == "__main__":
    main()
