"""Times whole processes: the command `onnx-lrp explain`, with and without --cache, beside a script that only runs the model.

    python benchmarks/start_up.py MODEL PHOTO [--rounds 9] [--more "--preprocess caffe"]

The processes run in turns, so that what else the machine does falls on all of them; the first round is not counted.
"""

from __future__ import annotations

import argparse
import os
import resource
import shlex
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

PLAIN = """
import sys
import numpy as np
import onnxruntime
from PIL import Image

session = onnxruntime.InferenceSession(sys.argv[1], providers=["CPUExecutionProvider"])
value = session.get_inputs()[0]
with Image.open(sys.argv[2]) as file:
    photo = file.convert("RGB").resize((value.shape[3], value.shape[2]))
x = np.asarray(photo, np.float16 if "16" in value.type else np.float32).transpose(2, 0, 1)[None]
print(session.run(None, {value.name: np.ascontiguousarray(x)})[0].argmax())
"""


def timed(command: list[str], environment: dict[str, str]) -> tuple[float, float]:
    """Seconds on the clock, and of the processor."""
    start, used = time.perf_counter(), resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run(command, env=environment, check=True, stdout=subprocess.DEVNULL)
    seconds, total = time.perf_counter() - start, resource.getrusage(resource.RUSAGE_CHILDREN)
    return seconds, total.ru_utime + total.ru_stime - used.ru_utime - used.ru_stime


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path)
    parser.add_argument("photo", type=Path)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--more", default="", help="further options for onnx-lrp explain")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        files = [str(given.model), str(given.photo)]
        explain = [sys.executable, "-m", "onnx_lrp.cli", "explain", *files, "-o", f"{folder}/out", *shlex.split(given.more)]
        commands = {
            "the plain model": [sys.executable, "-c", PLAIN, *files],
            "explain": explain,
            "explain --cache": [*explain, "--cache"],
            "explain --cache --format npz": [*explain, "--cache", "--format", "npz"],
        }
        environment = os.environ | {"ONNX_LRP_CACHE": f"{folder}/cache", "PYTHONPYCACHEPREFIX": f"{folder}/pyc"}
        environment.pop("PYTHONDONTWRITEBYTECODE", None)
        times: dict[str, list[tuple[float, float]]] = {name: [] for name in commands}
        for _ in range(given.rounds + 1):
            for name, command in commands.items():
                times[name].append(timed(command, environment))
    figures = {name: summary(found[1:]) for name, found in times.items()}
    print("| process | least, ms | median, ms | processor time, ms | each against the plain model |\n| --- | --- | --- | --- | --- |")
    for name, found in figures.items():
        ratios = ", ".join(f"{have / plain:.2f}" for have, plain in zip(found, figures["the plain model"], strict=True))
        print(f"| {name} | {' | '.join(f'{1000 * value:.0f}' for value in found)} | {ratios} |")


def summary(found: list[tuple[float, float]]) -> tuple[float, float, float]:
    """The least and the median time, and the least processor time."""
    clock, processor = zip(*found, strict=True)
    return min(clock), statistics.median(clock), min(processor)


if __name__ == "__main__":
    main()
