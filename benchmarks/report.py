"""The results of a run as data, as JSON, as a table in the terminal and as Markdown."""

from __future__ import annotations

import datetime as dt
import importlib.metadata
import json
import os
import platform
import statistics
import sys
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from contenders import CONTENDERS, Case, Forward, Ours
from rich import box
from rich.table import Table

if TYPE_CHECKING:
    from rich.console import Console

NOTHING = "-"


@dataclass
class Result:
    """What one contender did in one row."""

    seconds: list[float] = field(default_factory=list)
    peak_mib: float | None = None
    difference: float | None = None
    difference_to_exact: float | None = None
    reason: str = ""
    notes: list[str] = field(default_factory=list)

    @property
    def median(self) -> float | None:
        """Median of the timed runs in seconds."""
        return statistics.median(self.seconds) if self.seconds else None

    @property
    def minimum(self) -> float | None:
        """Fastest of the timed runs in seconds."""
        return min(self.seconds) if self.seconds else None

    def remarks(self) -> str:
        """Why there are no figures, or what to know about them."""
        return "; ".join([self.reason] * bool(self.reason) + self.notes)


@dataclass
class Row:
    """One network, composite and batch size."""

    case: Case
    results: dict[str, Result]

    def title(self) -> str:
        """What was measured."""
        return f"{self.case.model}, {self.case.composite}, batch {self.case.batch}"


@dataclass
class Start:
    """How long it takes until a model is ready, and until its first result is there."""

    case: Case
    ready: dict[str, Result]
    first: dict[str, Result]

    def title(self) -> str:
        """What was started."""
        return f"{self.case.model}, {self.case.composite}"


@dataclass
class Report:
    """Everything that a run found out."""

    environment: dict[str, str]
    rows: list[Row] = field(default_factory=list)
    starts: list[Start] = field(default_factory=list)

    def show(self, console: Console) -> None:
        """Print a small table per row; times and ratios as median / minimum."""
        console.print("\n".join(f"{key}: {value}" for key, value in self.environment.items()), highlight=False, markup=False)
        for row in self.rows:
            ours = row.results[Ours.name]
            lines = [
                [name, both(result), both(result, row.results[Forward.name]), both(result, ours), mebibytes(result.peak_mib),
                 distance(result.difference), distance(result.difference_to_exact)]
                for name, result in row.results.items()
            ]  # fmt: skip
            headers = ["", "ms", "x forward", "x onnx_lrp", "peak MiB", "to zennit", "to float64"]
            print_table(console, row.title(), headers, lines, row.results)
        for start in self.starts:
            lines = [
                [name, both(ready), both(ready, start.ready[Forward.name]), both(first), both(first, start.first[Forward.name])]
                for (name, ready), first in zip(start.ready.items(), start.first.values(), strict=True)
            ]
            headers = ["", "ready ms", "x forward", "first result ms", "x forward"]
            print_table(console, start.title(), headers, lines, start.ready)

    def markdown(self) -> str:
        """The tables and what they were measured on."""
        parts = ["\n".join(f"- {key}: {value}" for key, value in self.environment.items())]
        tables = [("Speed", SPEED_HEADERS, speed_lines(self.rows)), ("Start", START_HEADERS, start_lines(self.starts))]
        for title, headers, lines in tables:
            marks = ["---" if header in {headers[0], "contender", "remark"} else "--:" for header in headers]
            grid = [headers, marks, *([cell.replace("|", "\\|") for cell in line] for line in lines)]
            if lines:
                parts.append(f"## {title}\n\n" + "\n".join(f"| {' | '.join(line)} |" for line in grid))
        return "\n\n".join(parts) + "\n"

    def json(self) -> str:
        """Everything, each timed run included."""
        return json.dumps(asdict(self), indent=1) + "\n"

    def write(self, json_path: Path | None, markdown_path: Path | None) -> None:
        """Write the files that were asked for."""
        if json_path:
            json_path.write_text(self.json(), encoding="utf-8")
        if markdown_path:
            markdown_path.write_text(self.markdown(), encoding="utf-8")


SPEED_HEADERS = [
    "network, composite, batch", "contender", "median ms", "min ms", "x forward, median", "min", "x onnx_lrp, median", "min",
    "peak MiB", "to zennit", "to float64", "remark",
]  # fmt: skip
START_HEADERS = [
    "network, composite", "contender", "ready ms, median", "min", "x forward, median", "min",
    "first result ms, median", "min", "x forward, median", "min", "remark",
]  # fmt: skip


def speed_lines(rows: list[Row]) -> list[list[str]]:
    lines = []
    for row in rows:
        forward, ours = row.results[Forward.name], row.results[Ours.name]
        for position, (name, result) in enumerate(row.results.items()):
            figures = [
                milliseconds(result.median), milliseconds(result.minimum),
                ratio(result.median, forward.median), ratio(result.minimum, forward.minimum),
                ratio(result.median, ours.median), ratio(result.minimum, ours.minimum),
                mebibytes(result.peak_mib), distance(result.difference), distance(result.difference_to_exact),
            ]  # fmt: skip
            lines.append([row.title() if position == 0 else "", name, *figures, result.remarks()])
    return lines


def start_lines(starts: list[Start]) -> list[list[str]]:
    lines = []
    for start in starts:
        for position, (name, ready) in enumerate(start.ready.items()):
            figures = []
            for result, base in ((ready, start.ready[Forward.name]), (start.first[name], start.first[Forward.name])):
                figures += [milliseconds(result.median), milliseconds(result.minimum)]
                figures += [ratio(result.median, base.median), ratio(result.minimum, base.minimum)]
            lines.append([start.title() if position == 0 else "", name, *figures, ready.remarks()])
    return lines


def print_table(console: Console, title: str, headers: list[str], lines: list[list[str]], results: dict[str, Result]) -> None:
    """A table without the columns in which nothing stands, and the remarks below it."""
    table = Table(title=title, title_justify="left", box=box.SIMPLE)
    kept = [column for column, _ in enumerate(headers) if any(line[column] != NOTHING for line in lines)]
    for column in kept:
        table.add_column(headers[column], justify="right" if column else "left", no_wrap=True)
    for line in lines:
        table.add_row(*(line[column] for column in kept))
    console.print(table, highlight=False)
    for name, result in results.items():
        if result.remarks():
            console.print(f"  {name}: {result.remarks()}", highlight=False, markup=False)


def both(result: Result, base: Result | None = None) -> str:
    """Median and minimum: milliseconds, or multiples of `base`."""
    if base is None:
        cells = [milliseconds(result.median), milliseconds(result.minimum)]
    else:
        cells = [ratio(result.median, base.median), ratio(result.minimum, base.minimum)]
    return NOTHING if NOTHING in cells else " / ".join(cells)


def milliseconds(seconds: float | None) -> str:
    return NOTHING if seconds is None else f"{1000 * seconds:.1f}"


def ratio(value: float | None, base: float | None) -> str:
    return NOTHING if not value or not base else f"{value / base:.2f}"


def mebibytes(value: float | None) -> str:
    return NOTHING if value is None else f"{value:.0f}"


def distance(value: float | None) -> str:
    return NOTHING if value is None else f"{value:.1e}"


def environment(threads: int, device: str) -> dict[str, str]:
    """Date, machine and versions."""
    found = {"python": platform.python_version()}
    wanted = [package for kind in CONTENDERS.values() for package in kind.packages]
    for package in dict.fromkeys(["numpy", "onnx", *wanted]):
        try:
            found[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue
    if "onnx-lrp" not in found and "onnx_lrp" in sys.modules:  # imported from a clone
        found["onnx-lrp"] = sys.modules["onnx_lrp"].__version__
    facts = {
        "date": dt.datetime.now(dt.UTC).strftime("%Y-%m-%d"),
        "processor": f"{processor()}, {os.cpu_count()} logical cores",
        "system": f"{platform.system()} {platform.machine()}",
        "device": device,
        "threads": str(threads),
        "versions": ", ".join(f"{name} {version}" for name, version in found.items()),
    }
    if hasattr(os, "getloadavg"):
        facts["load at the start"] = f"{os.getloadavg()[0]:.2f}"
    return facts


def processor() -> str:
    """The processor's name as the system gives it."""
    info = Path("/proc/cpuinfo")
    if info.exists():
        for line in info.read_text(encoding="utf-8").splitlines():
            key, _, value = line.partition(":")
            if key.strip() == "model name":
                return value.strip()
    return platform.processor() or platform.machine()
