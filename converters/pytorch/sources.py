"""What PyTorch models come as: files, and functions of a Python module that make them."""

from __future__ import annotations

import importlib
import importlib.util
import re
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from onnx_lrp.errors import InputError, ModelError

from ..archives import ZIP, check_expansion, members
from ..frameworks import quiet, reason
from . import exported

__all__ = ["Source", "kind_of", "load"]

_FACTORY: Final = re.compile(r"(?P<module>[\w.]+|.+\.py):(?P<name>[A-Za-z_]\w*)")
_OLD_PICKLE: Final = b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19."
_WAY_OUT: Final = (
    "in the program that made it save torch.export.save(torch.export.export(model, (x,)), 'model.pt2') and convert that, or give the code "
    "as file.py:function and this file's state dict with --weights"
)


@dataclass(frozen=True)
class Source:
    """A PyTorch model."""

    kind: str
    module: Any
    """A torch.nn.Module, a torch.jit.ScriptModule, or the module of the exported program."""
    program: Any = None
    """The torch.export.ExportedProgram."""

    @property
    def script(self) -> bool:
        """Whether it is TorchScript."""
        return self.kind == "TorchScript"


def kind_of(path: Path, head: bytes) -> str | None:
    """The kind of a source by its content: "exported", "script", "pickle", "factory" (module:function) or None."""
    if not path.exists():
        return "factory" if _FACTORY.fullmatch(str(path)) else None
    if not path.is_file():
        return None
    if head.startswith(_OLD_PICKLE):
        return "pickle"
    if not head.startswith(ZIP):
        return None
    names = members(path)
    if exported.is_exported(names):
        return "exported"
    ends = {name.split("/", 1)[-1] for name in names}
    if "constants.pkl" in ends and "data.pkl" in ends:
        return "script"
    return "pickle" if "data.pkl" in ends else None


def load(path: Path, weights: Path | None) -> Source:
    """Read a model.

    Args:
        path: A file, or module:function or file.py:function, which is run to make the module.
        weights: A state dict for what the function makes.

    Raises:
        InputError: An option does not fit.
        ModelError: The file is broken or could run anything, or the function fails.
    """
    head = b""
    if path.is_file():
        with path.open("rb") as file:
            head = file.read(64)
    kind = kind_of(path, head)
    if kind is None:
        raise ModelError(f"{path} is no PyTorch model: no exported program, no TorchScript, and no module:function")
    if kind == "pickle":
        raise ModelError(f"{path} is a pickle of torch.save, which could run anything when it is loaded: {_WAY_OUT}")
    if kind == "factory":
        module = _made(path)
        if weights is not None:
            _give_weights(module, weights)
        return Source("PyTorch", module)
    if weights is not None:
        raise InputError(f"{path} has its weights: --weights is for module:function")
    if kind == "script":
        return Source("TorchScript", _script(path))
    program, module = exported.load(path)
    return Source("PyTorch's exported program", module, program)


def _script(path: Path) -> Any:
    import torch

    check_expansion(path)
    try:
        with quiet():
            return torch.jit.load(path, map_location="cpu").eval()
    except Exception as error:
        raise ModelError(f"{path}: PyTorch {torch.__version__} cannot read this TorchScript: {reason(error)}") from error


def _made(path: Path) -> Any:
    """Runs the function that the user names."""
    import torch

    match = _FACTORY.fullmatch(str(path))
    if match is None:
        raise ModelError(f"{path} is not module:function")
    try:
        found = getattr(_imported(match["module"]), match["name"])
        module = found if isinstance(found, torch.nn.Module) or not callable(found) else found()
    except InputError:
        raise
    except Exception as error:
        raise ModelError(f"{path} fails: {reason(error)}") from error
    if not isinstance(module, torch.nn.Module):
        raise ModelError(f"{path} is no torch.nn.Module but {type(module).__name__}")
    return module


def _imported(name: str) -> Any:
    if not name.endswith(".py"):
        if "" not in sys.path and str(Path.cwd()) not in sys.path:
            sys.path.insert(0, str(Path.cwd()))  # as with python -m
        return importlib.import_module(name)
    if not Path(name).is_file():
        raise InputError(f"no such file: {name}")
    spec = importlib.util.spec_from_file_location(Path(name).stem, name)
    if spec is None or spec.loader is None:
        raise InputError(f"{name} is no Python file")
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


def _give_weights(module: Any, path: Path) -> None:
    import torch

    if not path.is_file():
        raise InputError(f"no such file: {path}")
    try:
        with quiet():
            state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:
        raise ModelError(f"{path} is no state dict of tensors alone: {reason(error).split(' Please file')[0][:200]}") from error
    for key in ("state_dict", "model"):
        if isinstance(state, dict) and isinstance(state.get(key), dict):
            state = state[key]  # a training checkpoint
    if not isinstance(state, dict):
        raise ModelError(f"{path} is no state dict but {type(state).__name__}")
    try:
        module.load_state_dict(state)
    except Exception as error:
        raise ModelError(f"{path} does not fit {type(module).__name__}: {reason(error)}") from error
