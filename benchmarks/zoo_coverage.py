"""How much of each model in a folder is covered: nodes on the path of relevance, those with a rule, and the missing operators by name.

python benchmarks/zoo_coverage.py FOLDER [--markdown FILE]
"""

from __future__ import annotations

import argparse
from collections import Counter
from pathlib import Path

from onnx_lrp import OnnxLrpError
from onnx_lrp.explainer import plan_of


def row_of(path: Path, composite: str) -> tuple[str, str, str, str, str]:
    """(model, opset, nodes on the path, covered, what is missing) of one model."""
    try:
        plan = plan_of(path, composite)
    except OnnxLrpError as error:
        return path.stem, "", "", "", str(error)
    missing = Counter(step.problem for step in plan.unsupported)
    listed = ", ".join(f"{name} ({count})" if count > 1 else name for name, count in missing.most_common())
    return path.stem, str(plan.graph.opset), str(len(plan.steps)), f"{100 * plan.coverage:.1f} %", listed


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--composite", default="epsilon_plus_flat")
    parser.add_argument("--markdown", type=Path, help="also write the table to this file")
    arguments = parser.parse_args()
    head = ("model", "opset", "nodes", "covered", "missing")
    rows = []
    print(f"{head[0]:40} {head[1]:>5} {head[2]:>6} {head[3]:>8}  {head[4]}")
    for path in sorted(arguments.folder.glob("*.onnx")):
        row = row_of(path, arguments.composite)
        rows.append(row)
        print(f"{row[0]:40} {row[1]:>5} {row[2]:>6} {row[3]:>8}  {row[4]}", flush=True)
    full = sum(row[3] == "100.0 %" for row in rows)
    print(f"{full} of {len(rows)} models are covered to 100 %")
    if arguments.markdown:
        lines = [f"| {' | '.join(head)} |", "| --- | --: | --: | --: | --- |", *(f"| {' | '.join(row)} |" for row in rows)]
        arguments.markdown.write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
