"""What is measured beside the table: start-up, compiling, several targets."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import models
import numpy as np
from PIL import Image
from start_up import PLAIN

if TYPE_CHECKING:
    from collections.abc import Callable

    from contender import Case

STARTS = 9
ROUNDS = 3
TARGETS = 10


def start_up(case: Case, options: str = "") -> dict[str, list[float]]:
    """Whole processes: `onnx-lrp explain` on a photo, and importing onnxruntime and running the plain model on it."""
    with tempfile.TemporaryDirectory() as folder:
        photo = Path(folder) / "photo.jpg"
        coarse = np.random.default_rng(case.seed).integers(0, 256, (8, 8, 3), np.uint8)
        Image.fromarray(coarse).resize((640, 480), Image.Resampling.BICUBIC).save(photo)
        files, out = [case.path, str(photo)], str(Path(folder) / "out")
        commands = {
            f"onnx-lrp explain {options}".strip(): [sys.executable, "-m", "onnx_lrp.cli", "explain", *files, "-o", out, *options.split()],
            "onnxruntime alone": [sys.executable, "-c", PLAIN, *files],
        }
        environment = os.environ | {"ONNX_LRP_CACHE": str(Path(folder) / "cache"), "PYTHONPYCACHEPREFIX": str(Path(folder) / "compiled")}
        environment.pop("PYTHONDONTWRITEBYTECODE", None)  # which would let Python compile all of its own files each time
        return in_turns({name: lambda command=command: _process(command, environment) for name, command in commands.items()}, STARTS)


def _process(command: list[str], environment: dict[str, str]) -> None:
    subprocess.run(command, check=True, capture_output=True, env=environment)


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
    "start-up, squeezenet": (partial(start_up, options="--cache"), "squeezenet", "epsilon_plus_flat"),
    "start-up without --cache, squeezenet": (start_up, "squeezenet", "epsilon_plus_flat"),
    "ten targets, resnet50": (several_targets, "resnet50", "epsilon_plus_flat"),
    **{f"compiling, {model}": (compiling, model, "epsilon_plus_flat") for model in models.MEASURED},
}
"""Name -> (what measures it, network, composite)."""
