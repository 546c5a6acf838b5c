"""Time explanations against the plain forward pass and against other libraries, side by side in one run.

    python benchmarks/speed.py --page docs/benchmarks.md      # everything: the tables, the summary and the plot
    python benchmarks/speed.py --models squeezenet --batches 1 --repeats 2 --json try.json

Rows that the JSON file holds already, from the same versions on the same machine, are not measured again.
benchmarks/README.md says what the columns mean.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import facts
import models
import page
import summary
from contender import Case
from contenders import CONTENDERS, MEASURED, PEERS, Forward, Ours
from measure import Limits, Measurement
from results import Fact, Results, Row, environment, setup_of
from worker import Worker, WorkerError

from onnx_lrp import COMPOSITES


def arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    def names(text: str) -> list[str]:
        return [part.strip() for part in text.split(",") if part.strip() not in {"", "none"}]

    def numbers(text: str) -> list[int]:
        return sorted(int(part) for part in text.split(","))

    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--models", type=names, default=list(models.MEASURED), help="names in models.py, comma between")
    parser.add_argument("--composites", type=names, default=list(MEASURED), help="keys of composites")
    parser.add_argument("--batches", type=numbers, default=[1, 8, 32], help="batch sizes")
    parser.add_argument("--peers", type=names, default=list(PEERS), help=f"of {', '.join(PEERS)}; or none")
    parser.add_argument("--threads", type=int, default=2, help="threads of every contender")
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu")
    parser.add_argument("--repeats", type=int, default=7, help="timed rounds per row of short runs, after one that warms up")
    parser.add_argument("--budget", type=float, default=8, help="seconds after which such a row ends early, with 3 rounds at least")
    parser.add_argument("--no-facts", dest="facts", action="store_false", help="leave out start-up, compiling and several targets")
    parser.add_argument("--size", type=int, default=224, help="height and width of the images")
    parser.add_argument("--seed", type=int, default=0, help="seed of weights and images")
    parser.add_argument("--fresh", action="store_true", help="measure every row again")
    parser.add_argument("--json", type=Path, default=models.CACHE / "speed.json", help="where every figure is kept")
    parser.add_argument("--page", type=Path, help="rewrite the generated parts of this Markdown page, and images/speed.png beside it")
    options = parser.parse_args(argv)
    named = [("peer", options.peers, PEERS), ("network", options.models, models.MODELS), ("composite", options.composites, COMPOSITES)]
    for kind, given, known in named:
        if unknown := [name for name in given if name not in known]:
            parser.error(f"unknown {kind} {unknown[0]}: choose from {', '.join(known)}")
    if options.page:
        try:
            page.check(options.page)
        except (OSError, ValueError) as error:
            parser.error(f"--page {options.page}: {error}")
    return options


def main(argv: Sequence[str] | None = None) -> int:
    options = arguments(argv)
    results = Results.read(options.json)
    results.environment = environment(options.threads, options.device)
    results.write(options.json)
    for model in options.models:
        measure_model(model, options, results)
    if options.facts:
        measure_facts(options, results)
    if options.page:
        page.rewrite(options.page, results)
    print(summary.text(results))
    return 0


def measure_model(model: str, options: argparse.Namespace, results: Results) -> None:
    """Measures the rows of one network that are not there yet."""
    conditions = {"source": models.source_of(model), "size": options.size, "seed": options.seed, "peers": options.peers}
    setup = setup_of(results.environment, **conditions)
    case = case_of(model, "", options)
    forward = Worker(Forward.name, case)
    names = [Ours.name, *(name for name in CONTENDERS if name in options.peers)]
    for composite in options.composites:
        left = [batch for batch in options.batches if options.fresh or not results.find(model, composite, batch, setup)]
        measurement = Measurement(replace(case, composite=composite), forward, names, Limits(options.repeats, options.budget))
        try:
            for batch in left:
                started = time.perf_counter()
                row = measurement.row(batch, setup, last=batch == left[-1])
                results.put(row)
                results.write(options.json)
                print(line(row), f"({time.perf_counter() - started:.0f} s)", flush=True)
        except WorkerError as error:
            print(f"{model}, {composite}: the plain forward pass failed: {error}", file=sys.stderr)
        finally:
            measurement.close()
    forward.close()


def measure_facts(options: argparse.Namespace, results: Results) -> None:
    """Measures what stands beside the table, for the networks that are asked for."""
    for name, (measure, model, composite) in facts.FACTS.items():
        setup = setup_of(results.environment, source=models.source_of(model), size=options.size, seed=options.seed)
        known = results.facts.get(name)
        if model in options.models and (options.fresh or known is None or known.setup != setup):
            results.facts[name] = Fact(setup, measure(case_of(model, composite, options)))
            results.write(options.json)
            print(name, flush=True)


def case_of(model: str, composite: str, options: argparse.Namespace) -> Case:
    path, shape = str(models.export(model, options.size, options.seed)), models.sample_shape(model, options.size)
    return Case(model, path, composite, options.threads, shape, options.size, options.seed, options.device)


def line(row: Row) -> str:
    """A row in words, for the terminal."""
    costs = [f"{name} {row.cost(name):.2f}" for name in row.results if name != Forward.name and row.cost(name)]
    return f"{row.title()}: in forward passes {', '.join(costs)}; floor {row.floor or float('nan'):.2f}"


if __name__ == "__main__":
    sys.exit(main())
