"""A contender in a process of its own: what it takes there is its alone, and when it dies the others live on."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from contender import Case, NotOfferedError
from contenders import CONTENDERS

SPARE = 1536 * 2**20
"""Bytes of memory that must stay free on the machine: a contender that goes beyond ends itself before the system ends others."""
GUILTY = 0.25
"""The share of the machine's memory that it must hold itself for that."""
LOOKS_PER_SECOND = 20


class WorkerError(Exception):
    """The contender cannot do what was asked; the message is one line."""


class Worker:
    """The parent's end. The process starts, and prepares the contender, when it is first needed."""

    def __init__(self, name: str, case: Case) -> None:
        self.name, self.case = name, case
        self.remark = ""
        self.prepared_mib: float | None = None
        self._process: subprocess.Popen[str] | None = None
        self._loaded = 0

    def load(self, batch: int, targets: list[int]) -> None:
        """Give it an input of so many samples, unless it has that already."""
        if self._process is None:
            self._start()
        if self._loaded != batch:
            self._ask(do="load", batch=batch, targets=targets)
            self._loaded = batch

    def run(self) -> tuple[float, float]:
        """Run once: seconds, and the process's peak memory so far in MiB."""
        done = self._ask(do="run")
        return done["seconds"], done["peak_mib"]

    def result(self) -> np.ndarray:
        """The map of the last run."""
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "map.npy"
            self._ask(do="result", path=str(path))
            return np.load(path)

    def close(self) -> None:
        """End the process."""
        if self._process is not None:
            for pipe in (self._process.stdin, self._process.stdout):
                with contextlib.suppress(OSError):
                    pipe.close()  # type: ignore[union-attr]
            self._process.wait()
            self._process, self._loaded = None, 0

    def _start(self) -> None:
        environment = os.environ | {"OMP_NUM_THREADS": str(self.case.threads)}
        self._process = subprocess.Popen(
            [sys.executable, __file__], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
            env=environment,
        )  # fmt: skip
        answer = self._ask(do="prepare", contender=self.name, case=asdict(self.case))
        self.remark, self.prepared_mib = answer["remark"], answer["peak_mib"]

    def _ask(self, **order: Any) -> dict[str, Any]:
        process = self._process
        if process is None or process.stdin is None or process.stdout is None:
            raise AssertionError("load comes before run")
        line = ""
        with contextlib.suppress(BrokenPipeError):
            process.stdin.write(json.dumps(order) + "\n")
            process.stdin.flush()
            line = process.stdout.readline()
        answer = json.loads(line) if line else {}
        if "error" in answer or not line:
            self.close()
            killed = process.returncode == -signal.SIGKILL
            ended = "killed, as happens when memory runs out" if killed else f"the process ended with code {process.returncode}"
            raise WorkerError(answer.get("error") or ended)
        return answer


def serve() -> None:
    """The child's end: obey one line of JSON after the other, and answer each with one."""
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what libraries print is no answer
    with contextlib.suppress(OSError):
        Path("/proc/self/oom_score_adj").write_text("1000", encoding="ascii")

    def answer(**values: Any) -> None:
        answers.write(json.dumps(values) + "\n")
        answers.flush()

    def guard() -> None:
        while True:
            time.sleep(1 / LOOKS_PER_SECOND)
            if takes_all():
                answer(error=f"ended: it took {peak_mib():.0f} MiB, all that the machine had")
                os._exit(1)

    threading.Thread(target=guard, daemon=True).start()
    contender: Any = None
    for line in sys.stdin:
        order = json.loads(line)
        try:
            match order.pop("do"):
                case "prepare":
                    contender = CONTENDERS[order["contender"]](Case(**order["case"]))
                    contender.prepare()
                    answer(remark=contender.remark, peak_mib=peak_mib())
                case "load":
                    contender.load(contender.case.image(order["batch"]), np.array(order["targets"], np.int64))
                    answer()
                case "run":
                    started = time.perf_counter()
                    contender.run()
                    answer(seconds=time.perf_counter() - started, peak_mib=peak_mib())
                case "result":
                    np.save(order["path"], contender.result())
                    answer()
        except NotOfferedError as error:
            answer(error=str(error))
        except Exception as error:  # noqa: BLE001 - whatever goes wrong in one contender, the others are still measured
            first = (str(error).strip().splitlines() or [""])[0]
            answer(error=f"{type(error).__name__}: {first}"[:200])


def takes_all() -> bool:
    """Whether the machine's memory runs out, and this process is why; False where the system does not tell."""
    free, whole = (_bytes("/proc/meminfo", key) for key in ("MemAvailable:", "MemTotal:"))
    own = _bytes("/proc/self/status", "VmRSS:")
    return None not in (free, whole, own) and free < SPARE and own > GUILTY * whole


def peak_mib() -> float:
    """Peak resident memory of this process. Not ru_maxrss where it can be helped: on Linux it starts at the parent's peak."""
    peak = _bytes("/proc/self/status", "VmHWM:")
    if peak is not None:
        return peak / 2**20
    import resource

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (2**20 if sys.platform == "darwin" else 2**10)


def _bytes(file: str, key: str) -> int | None:
    with contextlib.suppress(OSError):
        for line in Path(file).read_text(encoding="ascii").splitlines():
            if line.startswith(key):
                return int(line.split()[1]) * 1024
    return None


if __name__ == "__main__":
    serve()
