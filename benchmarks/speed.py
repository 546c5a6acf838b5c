"""Time an explanation against the plain forward pass and against other libraries, side by side in one run.

    python benchmarks/speed.py --models vgg16,resnet50 --batches 1,8 --threads 2 --markdown speed.md

benchmarks/README.md says what the columns mean.
"""

from __future__ import annotations

import argparse
import gc
import importlib
import json
import subprocess
import sys
import time
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from contenders import CONTENDERS, PEERS, Case, Contender, Forward, NotOfferedError, Ours, Zennit
from report import Report, Result, Row, Start, environment
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray

FEWEST_ROUNDS = 3
MEMORY_RUNS = 3


def arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    def names(text: str) -> list[str]:
        return [part.strip() for part in text.split(",") if part.strip() not in {"", "none"}]

    def numbers(text: str) -> list[int]:
        return [int(part) for part in text.split(",")]

    composites = ["epsilon", "epsilon_plus_flat", "epsilon_gamma_box"]
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--models", type=names, default=["vgg16", "resnet50"], help="names in models.py, comma between")
    parser.add_argument("--composites", type=names, default=composites, help="keys of composites")
    parser.add_argument("--batches", type=numbers, default=[1, 8], help="batch sizes")
    parser.add_argument("--peers", type=names, default=list(PEERS), help=f"of {', '.join(PEERS)}; or none")
    parser.add_argument("--threads", type=int, default=2, help="threads of every contender")
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu")
    parser.add_argument("--repeats", type=int, default=7, help="timed rounds per row, after one that warms up")
    parser.add_argument("--budget", type=float, default=300, help="seconds after which a row ends early, with 3 rounds at least")
    parser.add_argument("--pause", type=float, default=0.1, help="seconds between two runs, in which idle threads go to sleep")
    parser.add_argument("--starts", type=int, default=3, help="timed starts per network and composite; 0 leaves them out")
    parser.add_argument("--no-memory", dest="memory", action="store_false", help="leave the peak memory out")
    parser.add_argument("--exact", action="store_true", help="also compare every map to zennit's in float64")
    parser.add_argument("--size", type=int, default=224, help="height and width of the images")
    parser.add_argument("--seed", type=int, default=0, help="seed of weights and images")
    parser.add_argument("--fresh", action="store_true", help="export the networks again")
    parser.add_argument("--json", type=Path, help="write every figure to this file")
    parser.add_argument("--markdown", type=Path, help="write the tables to this file")
    parser.add_argument("--child", help=argparse.SUPPRESS)
    options = parser.parse_args(argv)
    if unknown := [peer for peer in options.peers if peer not in PEERS]:
        parser.error(f"unknown peer {unknown[0]}: choose from {', '.join(PEERS)}")
    return options


def reason(error: BaseException) -> str:
    """One line that says why a contender has no figures."""
    first = (str(error).strip().splitlines() or [""])[0]
    return first if isinstance(error, NotOfferedError) else f"{type(error).__name__}: {first}"[:200]


def attempt(result: Result, work: Callable[[], Any]) -> Any:
    """What `work` gives, or None and the reason kept in `result`."""
    try:
        return work()
    except Exception as error:  # noqa: BLE001 - whatever goes wrong in one contender, the others are still measured
        result.reason = reason(error)
        return None


def timed(work: Callable[[], Any]) -> tuple[float, Any]:
    start = time.perf_counter()
    value = work()
    return time.perf_counter() - start, value


def difference(result: Result, a: NDArray[Any], b: NDArray[Any]) -> float | None:
    """|a - b| / |b| in the Euclidean norm, of the sample in which it is largest; a map of another shape is noted in `result`."""
    if np.shape(a) != b.shape:
        result.notes.append(f"the map's shape is {np.shape(a)}, not {b.shape}")
        return None
    a, b = (x.astype(np.float64).reshape(len(x), -1) for x in (a, b))
    return float(np.max(np.linalg.norm(a - b, axis=1) / np.linalg.norm(b, axis=1)))


def measure_row(case: Case, kinds: Sequence[type[Contender]], options: argparse.Namespace, advance: Callable[[str], None]) -> Row:
    """Time the contenders one after the other, round after round (A B C D A B C D ...), so that a slow spell hits all of them."""
    row = Row(case, {kind.name: Result() for kind in kinds})
    image = case.image()
    maps: dict[str, NDArray[Any]] = {}
    contenders = [kind(case) for kind in kinds]
    for contender in contenders:
        advance(f"{row.title()}: {contender.name}")
        result = row.results[contender.name]
        attempt(result, contender.prepare)
        result.notes = contender.notes
        if not result.reason:
            maps[contender.name] = attempt(result, lambda contender=contender: contender.run(image))
    started = time.perf_counter()
    for done in range(options.repeats):
        if done >= FEWEST_ROUNDS and time.perf_counter() - started > options.budget:
            break
        advance(f"{row.title()}: round {done + 1} of {options.repeats}")
        gc.collect()
        for contender in contenders:
            result = row.results[contender.name]
            if not result.reason:
                time.sleep(options.pause)
                measured = attempt(result, lambda contender=contender: timed(lambda: contender.run(image)))
                result.seconds += [measured[0]] if measured else []
    for contender in contenders:
        contender.close()
    compare(row, maps, image, exact=options.exact)
    return row


def compare(row: Row, maps: dict[str, NDArray[Any]], image: NDArray[np.float32], *, exact: bool) -> None:
    """Enter how far each map is from zennit's, so that a fast wrong one shows."""
    maps = {name: found for name, found in maps.items() if found is not None and name != Forward.name}
    reference = maps.get(Zennit.name)
    for name, found in maps.items():
        if reference is not None and name != Zennit.name:
            row.results[name].difference = difference(row.results[name], found, reference)
    if exact and reference is not None:
        peer = Zennit(replace(row.case, precision="float64"))
        attempt(Result(), peer.prepare)
        in_float64 = attempt(Result(), lambda: peer.run(image))
        peer.close()
        for name, found in maps.items():
            if in_float64 is not None:
                row.results[name].difference_to_exact = difference(row.results[name], found, in_float64)


def measure_memory(row: Row, advance: Callable[[str], None]) -> None:
    """Peak memory of a process of its own per contender, in which only that one is loaded and runs three times."""
    for name, result in row.results.items():
        advance(f"{row.title()}: memory of {name}")
        if result.reason:
            continue
        message = json.dumps({"contender": name, "case": asdict(row.case)})
        done = subprocess.run([sys.executable, __file__, "--child", message], capture_output=True, text=True, check=False)
        if done.returncode:
            result.notes.append(f"memory not measured: {(done.stderr.strip().splitlines() or ['no message'])[-1][:150]}")
        else:
            result.peak_mib = json.loads(done.stdout.splitlines()[-1])["peak_mib"]


def child(message: str) -> None:
    """Run one contender and print the peak memory of this process."""
    order = json.loads(message)
    case = Case(**{**order["case"], "targets": tuple(order["case"]["targets"])})
    contender = CONTENDERS[order["contender"]](case)
    contender.prepare()
    image = case.image()
    for _ in range(MEMORY_RUNS):
        contender.run(image)
    print(json.dumps({"peak_mib": peak_mib()}))


def peak_mib() -> float:
    """Peak resident memory of this process. Not ru_maxrss where it can be helped: on Linux it starts at the parent's peak."""
    status = Path("/proc/self/status")
    if status.exists():
        for line in status.read_text(encoding="utf-8").splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) / 1024
    import resource

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (2**20 if sys.platform == "darwin" else 2**10)


def measure_start(case: Case, options: argparse.Namespace, advance: Callable[[str], None]) -> Start:
    """Time the way from the file to a ready session or explainer, and to the first result; one unmeasured round warms up."""
    kinds = (Forward, Ours)
    start = Start(case, {kind.name: Result() for kind in kinds}, {kind.name: Result() for kind in kinds})
    image = case.image()
    for done in range(options.starts + 1):
        advance(f"{case.model}, {case.composite}: start")
        for kind in kinds:
            ready, first = start.ready[kind.name], start.first[kind.name]
            if ready.reason:
                continue
            contender = kind(case)
            gc.collect()
            time.sleep(options.pause)
            prepared = attempt(ready, lambda contender=contender: timed(contender.prepare))
            ran = attempt(ready, lambda contender=contender: timed(lambda: contender.run(image))) if prepared else None
            contender.close()
            if done and ran:
                ready.seconds.append(prepared[0])
                first.seconds.append(prepared[0] + ran[0])
    return start


def warm_import(kinds: Sequence[type[Contender]]) -> None:
    """Import what the contenders need, so that no start counts it; what is missing is reported where it is used."""
    for module in [kind.name for kind in kinds if kind is not Forward] + ["onnxruntime"]:
        try:
            importlib.import_module(module)
        except (ImportError, RuntimeError):
            continue


def targets_of(case: Case) -> tuple[int, ...]:
    """Each sample's largest output."""
    forward = Forward(case)
    forward.prepare()
    scores = forward.run(case.image())
    forward.close()
    return tuple(int(target) for target in scores.argmax(axis=1))


def main(argv: Sequence[str] | None = None) -> int:
    options = arguments(argv)
    if options.child:
        child(options.child)
        return 0
    import models

    kinds = [CONTENDERS[name] for name in (Forward.name, Ours.name, *options.peers)]
    console = Console()
    if not console.is_terminal:
        console.width = 130
    warm_import(kinds)
    report = Report(environment(options.threads, options.device))
    steps = len(options.batches) * (len(kinds) * (1 + options.memory) + options.repeats)
    steps += options.starts + 1 if options.starts else 0
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as progress:
        task = progress.add_task("", total=len(options.models) * len(options.composites) * steps)

        def advance(what: str) -> None:
            progress.update(task, description=what, advance=1)

        for model in options.models:
            path = str(models.export(model, options.size, options.seed, fresh=options.fresh))
            for composite in options.composites:
                for batch in options.batches:
                    case = Case(model, path, composite, batch, options.threads, options.size, options.seed, options.device)
                    case = replace(case, targets=targets_of(case))
                    row = measure_row(case, kinds, options, advance)
                    if options.memory:
                        measure_memory(row, advance)
                    report.rows.append(row)
                    report.write(options.json, options.markdown)
                if options.starts:
                    case = replace(case, batch=1, targets=case.targets[:1])
                    report.starts.append(measure_start(case, options, advance))
                    report.write(options.json, options.markdown)
    report.show(console)
    return 0


if __name__ == "__main__":
    sys.exit(main())
