"""The results of a run as data, kept in a JSON file that a later run goes on from."""

from __future__ import annotations

import datetime as dt
import hashlib
import importlib.metadata
import json
import os
import platform
from dataclasses import asdict, dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

from contenders import CONTENDERS, Forward, Ours


@dataclass
class Result:
    """What one contender did in one row."""

    seconds: list[float] = field(default_factory=list)
    peak_mib: float | None = None
    prepared_mib: float | None = None
    """The peak memory before the first run."""
    difference: float | None = None
    """Relative L2 distance of its map to zennit's, of the sample in which it is largest."""
    reason: str = ""
    """Why there are no figures."""
    remark: str = ""

    @property
    def least(self) -> float | None:
        """The fastest of the timed runs, in seconds: what the work takes when nothing else disturbs it."""
        return min(self.seconds) if self.seconds else None


@dataclass
class Row:
    """One network, composite and batch size."""

    model: str
    composite: str
    batch: int
    setup: str
    """A key of everything that the figures depend on."""
    date: str
    results: dict[str, Result]
    floor: float | None = None
    """Multiply-adds that the rules need, in forward passes."""
    emitted: float | None = None
    """Multiply-adds of the explainer's graph, in forward passes."""
    shares: dict[str, float] = field(default_factory=dict)
    """Of the time in the explainer's nodes, by kinds of operators; see `shares.py`."""

    def title(self) -> str:
        """What was measured."""
        return f"{self.model}, {self.composite}, batch {self.batch}"

    def cost(self, name: str = Ours.name) -> float | None:
        """A contender's time in forward passes."""
        return over(self.least(name), self.least(Forward.name))

    def least(self, name: str) -> float | None:
        """A contender's time in seconds."""
        return self.results[name].least if name in self.results else None

    def peak(self, name: str) -> float | None:
        """A contender's peak memory in MiB."""
        return self.results[name].peak_mib if name in self.results else None

    def lead(self, name: str) -> float | None:
        """How many times a contender's time is ours."""
        return over(self.least(name), self.least(Ours.name))

    def over_floor(self) -> float | None:
        """Our time in floors."""
        return over(self.cost(), self.floor)


@dataclass
class Fact:
    """A measurement of its own: lists of seconds by name."""

    setup: str
    seconds: dict[str, list[float]]


@dataclass
class Results:
    """Everything that was measured, and on what."""

    environment: dict[str, str] = field(default_factory=dict)
    rows: list[Row] = field(default_factory=list)
    facts: dict[str, Fact] = field(default_factory=dict)

    @classmethod
    def read(cls, path: Path) -> Results:
        """What a file holds; nothing when there is none."""
        if not path.exists():
            return cls()
        data = json.loads(path.read_text(encoding="utf-8"))
        rows = [Row(**{**row, "results": {name: Result(**values) for name, values in row["results"].items()}}) for row in data["rows"]]
        return cls(data["environment"], rows, {name: Fact(**fact) for name, fact in data["facts"].items()})

    def write(self, path: Path) -> None:
        """Writes the file, whole or not at all."""
        path.parent.mkdir(parents=True, exist_ok=True)
        unfinished = path.with_name(path.name + ".unfinished")
        unfinished.write_text(json.dumps(asdict(self), indent=1) + "\n", encoding="utf-8")
        unfinished.replace(path)

    def put(self, row: Row) -> None:
        """Takes a row in, in place of an older one of the same network, composite and batch."""
        same = (row.model, row.composite, row.batch)
        self.rows = [other for other in self.rows if (other.model, other.composite, other.batch) != same] + [row]

    def find(self, model: str, composite: str, batch: int, setup: str) -> Row | None:
        """A row that was measured under the same conditions."""
        wanted = (model, composite, batch, setup)
        return next((row for row in self.rows if (row.model, row.composite, row.batch, row.setup) == wanted), None)


def over(value: float | None, base: float | None) -> float | None:
    """value / base where both are known."""
    return value / base if value is not None and base else None


def today() -> str:
    """The date, in UTC."""
    return dt.datetime.now(dt.UTC).strftime("%Y-%m-%d")


def environment(threads: int, device: str) -> dict[str, str]:
    """Machine and versions."""
    facts = {
        "processor": f"{processor()}, {os.cpu_count()} logical cores",
        "system": f"{platform.system()} {platform.machine()}",
        "device": device,
        "threads": str(threads),
        "versions": ", ".join(f"{name} {version}" for name, version in versions().items()),
    }
    if hasattr(os, "getloadavg"):
        facts["load at the start"] = f"{os.getloadavg()[0]:.2f}"
    return facts


def setup_of(environment: dict[str, str], **further: Any) -> str:
    """A key of machine, versions, our own source, and what else figures depend on."""
    told = {key: value for key, value in environment.items() if key != "load at the start"}
    return hashlib.sha256(json.dumps([told, own_source(), further], sort_keys=True).encode()).hexdigest()[:12]


@cache
def own_source() -> str:
    """A key of our package's source: a version number stays the same over many changes."""
    import onnx_lrp

    digest = hashlib.sha256()
    for file in sorted(Path(onnx_lrp.__file__).parent.rglob("*.py")):
        digest.update(file.read_bytes())
    return digest.hexdigest()[:12]


def versions() -> dict[str, str]:
    """The versions of what is measured and measured with."""
    import onnx_lrp

    found = {"python": platform.python_version()}
    wanted = [package for kind in CONTENDERS.values() for package in kind.packages]
    for package in dict.fromkeys(["numpy", "onnx", *wanted]):
        try:
            found[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found | {"onnx-lrp": onnx_lrp.__version__}


def processor() -> str:
    """The processor's name as the system gives it."""
    info = Path("/proc/cpuinfo")
    if info.exists():
        for line in info.read_text(encoding="utf-8").splitlines():
            key, _, value = line.partition(":")
            if key.strip() == "model name":
                return value.strip()
    return platform.processor() or platform.machine()
