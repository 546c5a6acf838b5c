"""What starting costs: which modules a command imports."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest
from models import build, op
from PIL import Image

import onnx_lrp
from onnx_lrp.cli import COMMANDS
from onnx_lrp.colormaps import robust_bound

HEAVY = {
    "cv2",
    "h5py",
    "keras",
    "matplotlib",
    "networkx",
    "onnxscript",
    "quantus",
    "rich",
    "rich_argparse",
    "scipy",
    "sklearn",
    "torch",
    "yaml",
}
"""What no explanation of a picture needs."""
WARM = {"google", "onnx", "pydantic", "onnx_lrp.graph", "onnx_lrp.rules", "onnx_lrp.composites", "onnx_lrp.operators", "onnx_lrp.blueprint"}
"""What a compiled explainer does not need either."""


@pytest.fixture
def photo(tmp_path):
    rng = np.random.default_rng(0)
    nodes = [
        op("Conv", "x w", "c"),
        op("Relu", "c", "r"),
        op("GlobalAveragePool", "r", "g"),
        op("Flatten", "g", "f"),
        op("Gemm", "f v", "y"),
    ]
    constants = {"w": rng.normal(size=(4, 3, 3, 3)), "v": rng.normal(size=(4, 6))}
    onnx.save(build(nodes, {"x": ["N", 3, 16, 16]}, constants=constants), tmp_path / "model.onnx")
    Image.fromarray(rng.integers(0, 255, (16, 16, 3), np.uint8)).save(tmp_path / "photo.png")
    return tmp_path


def modules_after(code, **options):
    """The modules that are there after a piece of code, in a process of its own."""
    code = f"import sys, json\n{code}\nprint(json.dumps(sorted(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, **options)
    return set(json.loads(done.stdout.splitlines()[-1]))


def command(*arguments):
    tried = "try:\n    main()\nexcept SystemExit as end:\n    assert not end.code"
    return f"sys.argv = ['onnx-lrp', *{arguments!r}]\nfrom onnx_lrp.cli import main\n{tried}"


def test_what_explaining_a_picture_imports(photo):
    arguments = ("explain", str(photo / "model.onnx"), str(photo / "photo.png"), "-o", str(photo / "out"), "--cache")
    environment = {"ONNX_LRP_CACHE": str(photo / "cache"), "PYTHONPATH": str(Path(onnx_lrp.__file__).parents[1])}
    cold, warm = (modules_after(command(*arguments), env=environment) for _ in range(2))
    assert not cold & HEAVY
    assert not warm & (HEAVY | WARM)
    assert "onnx_lrp.rules" in cold
    assert len(list((photo / "out").glob("*.png"))) == 2


def test_what_declaring_the_commands_imports():
    """Reading the command line, and finding that it is wrong, takes nothing else."""
    every = "from onnx_lrp.cli import COMMANDS, parser\nfor name in COMMANDS:\n    parser(name)"
    modules = modules_after(f"{every}\nfrom onnx_lrp.errors import InputError\nInputError")
    others = {"numpy", "onnx", "onnxruntime", "PIL", "google", "dataclasses", "inspect"}
    assert not modules & (HEAVY | others)
    declared = {name for name in modules if name.startswith("onnx_lrp.")}
    allowed = {"onnx_lrp.errors", "onnx_lrp.commands", "onnx_lrp.commands.printing"}
    assert {name for name in declared if not name.startswith("onnx_lrp.cli")} == allowed


def test_only_the_command_that_is_called_is_declared():
    modules = modules_after(command("cache"))
    assert {name for name in COMMANDS if f"onnx_lrp.cli.{name}" in modules} == {"cache"}


def test_the_package_imports_what_is_asked_for():
    assert not {name for name in modules_after("import onnx_lrp") if name.startswith("onnx_lrp.")}
    assert "onnx_lrp.explainer" not in modules_after("import onnx_lrp\nonnx_lrp.InputError")


def test_every_module_can_be_the_first():
    """None of them relies on another one that some other import brought."""
    folder = Path(onnx_lrp.__file__).parent
    names = [".".join(path.relative_to(folder.parent).with_suffix("").parts).removesuffix(".__init__") for path in folder.rglob("*.py")]
    code = f"""
import importlib, onnx.inliner, onnxruntime
for name in {sorted(set(names) - {"onnx_lrp.evaluation.quantus"})!r}:  # which needs Quantus
    for module in [module for module in sys.modules if module.split(".")[0] == "onnx_lrp"]:
        del sys.modules[module]
    importlib.import_module(name)
"""
    assert len(names) > 100
    modules_after(code)


def test_every_public_name_is_there():
    code = "import onnx_lrp\nassert set(onnx_lrp.__all__) <= set(dir(onnx_lrp))\nfor name in onnx_lrp.__all__:\n    getattr(onnx_lrp, name)"
    code += "\nassert onnx_lrp.rules.Epsilon and onnx_lrp.evaluation.PixelFlipping and 'epsilon' in onnx_lrp.COMPOSITES"
    assert "onnx_lrp.rules" in modules_after(code)
    for name in ("explane", "_private", "__path"):
        with pytest.raises(AttributeError, match=name):
            getattr(onnx_lrp, name)


@pytest.mark.parametrize("arguments", [["--threads", "0"], ["--threads", "x"], ["--providers", "tpu"], ["--top", "-1"], ["--low", "x"]])
def test_wrong_values_are_still_told(photo, run, arguments):
    code, _, err = run("explain", photo / "model.onnx", photo / "photo.png", *arguments)
    assert code == 2
    assert arguments[0] in err


@pytest.mark.parametrize("count", [1, 2, 3, 1000])
@pytest.mark.parametrize("percentile", [99.5, 100, 50, 0.1])
def test_the_bound_is_numpys_percentile(count, percentile):
    values = np.random.default_rng(count).normal(size=count)
    assert robust_bound(values, percentile) == np.percentile(np.abs(values), percentile)
