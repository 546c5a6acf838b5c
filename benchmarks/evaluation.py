"""The table of eight composites in docs/evaluation.md, for a model and data of one's own.

    python benchmarks/evaluation.py model.onnx photos/ --preprocess caffe --patch 16
    python benchmarks/evaluation.py lenet5.onnx mnist.npz --low -1 --high 1 --patch 1 --schedule linear --steps 28 --perturbation random

It runs ``onnx-lrp compare`` with the options given and eight composites, and prints the table in Markdown, the best first.
"""

import json
import subprocess
import sys
import tempfile
from pathlib import Path

COMPOSITES = (
    "epsilon_plus_flat",
    "epsilon_plus",
    "epsilon_alpha2_beta1_flat",
    "epsilon_gamma_box",
    "lrp_tutorial",
    "gamma:gamma=0.1",
    "epsilon:epsilon=0.25",
    "input_x_gradient",
)


def main() -> None:
    if len(sys.argv) < 3 or sys.argv[1].startswith("-"):
        print(__doc__)
        raise SystemExit(2)
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "onnx_lrp.cli", "compare", *sys.argv[1:], "-c", ",".join(COMPOSITES), "-o", folder]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
        found = json.loads(Path(folder, "compare.json").read_text())
    print(f"{found['samples']} samples; in random order the area is {found['random_order_auc']:.4g}.\n")
    print("| composite | most relevant first | least relevant first | between | relevance / score |")
    print("| --- | --- | --- | --- | --- |")
    for row in sorted(found["composites"], key=lambda row: -row["abpc"]):
        share = row["relevance_over_score"]
        numbers = [f"{row[name]:.4g}" for name in ("auc_most_relevant_first", "auc_least_relevant_first", "abpc")]
        print(f"| `{row['composite']}` | {' | '.join(numbers)} | {'' if share is None else f'{share:.3f}'} |")


if __name__ == "__main__":
    main()
