"""What is measured beside the table: start-up, compiling, several targets."""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

import models
import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable

    from contender import Case

STARTS = 5
ROUNDS = 3
TARGETS = 10

EXPLAIN = "from onnx_lrp.cli import process; process()"
"""What the installed command onnx-lrp does."""
PLAIN = """
import sys
import numpy
import onnxruntime
session = onnxruntime.InferenceSession(sys.argv[1], providers=["CPUExecutionProvider"])
print(session.run(None, {session.get_inputs()[0].name: numpy.load(sys.argv[2])})[0].argmax())
"""


def start_up(case: Case) -> dict[str, list[float]]:
    """Whole processes: `onnx-lrp explain` on one image, and importing onnxruntime and running the plain model on it."""
    with tempfile.TemporaryDirectory() as folder:
        image = Path(folder) / "image.npy"
        np.save(image, case.image(1))
        commands = {
            "onnx-lrp explain": [sys.executable, "-c", EXPLAIN, "explain", case.path, str(image), "-o", str(Path(folder) / "out")],
            "onnxruntime alone": [sys.executable, "-c", PLAIN, case.path, str(image)],
        }
        return in_turns({name: lambda command=command: _process(command) for name, command in commands.items()}, STARTS)


def _process(command: list[str]) -> None:
    subprocess.run(command, check=True, capture_output=True)


def several_targets(case: Case) -> dict[str, list[float]]:
    """Ten targets of one image in one run, and in ten."""
    import onnx_lrp

    explainer = onnx_lrp.Explainer(case.path, case.composite, threads=case.threads, providers=case.providers(), **case.options())
    image = case.image(1)
    targets = np.arange(TARGETS)

    def ten_runs() -> None:
        for target in targets:
            explainer.explain(image, target=[target])

    return in_turns({"one run": lambda: explainer.explain(image, target=targets[None]), "ten runs": ten_runs}, ROUNDS)


def compiling(case: Case) -> dict[str, list[float]]:
    """From the file to a compiled explainer, and to a session of the plain model. Imports are not counted."""
    import onnxruntime

    import onnx_lrp

    def session() -> None:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = case.threads
        onnxruntime.InferenceSession(case.path, options, providers=case.providers())

    def explainer() -> None:
        onnx_lrp.Explainer(case.path, case.composite, threads=case.threads, providers=case.providers(), **case.options())

    return in_turns({"explainer": explainer, "session": session}, ROUNDS)


def in_turns(work: dict[str, Callable[[], object]], rounds: int) -> dict[str, list[float]]:
    """Seconds of each, taking turns, after a round that warms up."""
    seconds: dict[str, list[float]] = {name: [] for name in work}
    for done in range(rounds + 1):
        for name, do in work.items():
            started = time.perf_counter()
            do()
            if done:
                seconds[name].append(time.perf_counter() - started)
    return seconds


FACTS: dict[str, tuple[Callable[[Case], dict[str, list[float]]], str, str]] = {
    "start-up, squeezenet": (start_up, "squeezenet", "epsilon_plus_flat"),
    "ten targets, resnet50": (several_targets, "resnet50", "epsilon_plus_flat"),
    **{f"compiling, {model}": (compiling, model, "epsilon_plus_flat") for model in models.MEASURED},
}
"""Name -> (what measures it, network, composite)."""
