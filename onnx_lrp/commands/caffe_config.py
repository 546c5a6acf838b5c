"""Configuration files of lrp_toolbox's extension of Caffe, for explaining the converted network in the same way.

Such a file is plain text: a line that starts with a key, then a line whose first word is the value; all other lines are comments, and the
first place counts. The numbers of layers are those of Caffe's own list, which `onnx-lrp convert` writes into the model.
"""

from __future__ import annotations

import inspect
import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from onnx_lrp.errors import CompositeError, InputError, ModelError
from onnx_lrp.metadata import CAFFE

if TYPE_CHECKING:
    from onnx_lrp.commands.explain import Request
    from onnx_lrp.graph import Array

__all__ = ["CaffeConfig", "class_target", "configure", "parse_config", "parse_file_list"]

_WHOLE: Final = ("relpropformulatype", "lastlayerindex", "firstlayerindex", "auxiliaryvariable_maxlayerindexforflatdistinconv")
_REAL: Final = ("epsstab", "alphabeta_beta")
_WEIGHTED: Final = ("Convolution", "InnerProduct")
_LOWER: Final = 15
"""Formulas 6, 8, 18 and 22 change at this layer, whatever the network."""
_LARGEST: Final = 2**20
_TOGETHER: Final = 5


@dataclass(frozen=True)
class CaffeConfig:
    """What a configuration says of the explanation."""

    formula: int
    epsilon: float
    beta: float
    first: int
    """The layer whose input is explained; 0: the network's."""
    last: int
    """The layer whose output is explained; -1: what the lowest Softmax reads; -2: the highest InnerProduct."""
    low: int
    """Up to and with this layer, formulas that treat low layers in another way do so."""

    def composite(self, layers: list[Any]) -> tuple[str, dict[str, Any]]:
        """The composite and its options.

        Args:
            layers: Caffe's layers, each as [name, kind, tensors read, tensors made].

        Raises:
            InputError: There is no composite for the formula.
        """
        from onnx_lrp.composites import find_composite

        name = f"caffe_{self.formula}"
        try:
            kind, _ = find_composite(name)
        except CompositeError:
            raise InputError(
                f"relpropformulatype {self.formula} is not supported (onnx-lrp composites lists the others as caffe_...)"
            ) from None
        options = {"epsilon": self.epsilon, "beta": self.beta}
        options |= {"low_layers": _weighted(layers, self.low), "lower_layers": _weighted(layers, _LOWER)}
        known = inspect.signature(kind).parameters
        return name, {option: value for option, value in options.items() if option in known}

    def output(self, layers: list[Any]) -> str:
        """The tensor to explain.

        Raises:
            InputError: The network has no such layer.
        """
        if self.last == -1:
            found = [read[0] for _, kind, read, _ in layers if kind == "Softmax"][:1]
        elif self.last == -2:
            found = [made[0] for _, kind, _, made in layers if kind == "InnerProduct"][-1:]
        else:
            found = [made[0] for _, _, _, made in layers[self.last : self.last + 1] if made]
        if not found or self.last < -2:
            raise InputError(f"lastlayerindex {self.last}: the network has no such layer (it has {len(layers)})")
        return str(found[0])

    def explained(self, layers: list[Any]) -> list[str]:
        """The tensors inside the network whose relevance is wanted; none: that of the input is.

        Raises:
            InputError: The network has no such layer.
        """
        if not 0 <= self.first < len(layers):
            raise InputError(f"firstlayerindex {self.first}: the network has no such layer (it has {len(layers)})")
        return list(layers[self.first][2]) if self.first else []


def _weighted(layers: list[Any], last: int) -> int:
    """How many layers with weights there are, up to and with a layer."""
    return sum(kind in _WEIGHTED for _, kind, *_ in layers[: last + 1])


def parse_config(path: Path) -> CaffeConfig:
    """Read a configuration.

    Raises:
        InputError: The file cannot be read, a key is missing, or a value is no number or not possible.
    """
    lines = [line.strip() for line in _text(path).splitlines()]
    found: dict[str, float] = {}
    for key in (*_WHOLE, *_REAL):
        place = next((index for index, line in enumerate(lines) if line.startswith(key)), None)
        word = (lines[place + 1].split() or [""])[0] if place is not None and place + 1 < len(lines) else ""
        try:
            found[key] = int(word) if key in _WHOLE else float(word)
        except ValueError:
            what = f"{word!r} is not a {'whole ' * (key in _WHOLE)}number" if word else "there is no value"
            raise InputError(f"{path}: {key}: {what}") from None
    for key in _REAL:
        if not 0 <= found[key] < float("inf"):
            raise InputError(f"{path}: {key} must be a number from 0 on, not {found[key]}")
    formula, last, first, low = (int(found[key]) for key in _WHOLE)
    return CaffeConfig(formula, found["epsstab"], found["alphabeta_beta"], first, last, low)


def parse_file_list(path: Path) -> list[tuple[Path, int]]:
    """Read a list of pictures: on each line a path and a class; -1: the best class, -2: the five best together.

    Raises:
        InputError: The file cannot be read, or a line has no class.
    """
    found = []
    for number, line in enumerate(_text(path).splitlines(), 1):
        if not line.strip():
            continue
        name, _, word = line.strip().rpartition(" ")
        try:
            index = int(word)
        except ValueError:
            index = -3
        if not name.strip() or index < -2:
            raise InputError(f"{path}, line {number}: a path and a class from -2 on are expected, not {line.strip()[:80]!r}")
        found.append((Path(name.strip()), index))
    return found


def class_target(index: int, output: Array) -> Any:
    """The target that `Explainer.explain` takes for a class of a file list.

    Args:
        index: The class; -1: the best one, -2: the five best together.
        output: The explained output for the same samples, (N, classes).

    Returns:
        A class, None for the best one, or which outputs are explained together, as booleans.
    """
    if index != -2:
        return None if index == -1 else index
    chosen = np.zeros(output.shape, bool)
    np.put_along_axis(chosen, np.argsort(-output, axis=1, kind="stable")[:, :_TOGETHER], True, axis=1)
    return chosen


def configure(request: Request, path: Path) -> None:
    """Put what a configuration says into a request, where the request does not say it itself; inputs that are file lists become the files.

    Raises:
        InputError: The configuration is wrong, or does not fit the model; a file list is wrong, or gives classes beside other targets.
        ModelError: The model cannot be read, or was not converted from Caffe.
    """
    config = parse_config(path)
    layers = _layers(request.model)
    name, options = config.composite(layers)
    if request.composite is None:
        request.composite = name
        request.options = options | request.options
    request.output = request.output or config.output(layers)
    request.record = request.record or config.explained(layers)
    inputs: list[str] = []
    for argument in request.inputs:
        listed = _listed(Path(argument))
        inputs += map(str, listed) if listed else [argument]
        request.classes |= listed
    if request.classes and any(given is not None for given in (request.target, request.top, request.region)):
        raise InputError("a file list says which classes are explained: leave out --target, --top and --region")
    request.inputs = inputs


def _listed(path: Path) -> dict[Path, int]:
    """The files of a file list and their classes; none where a path is no such list. Paths that are not there are looked for beside it."""
    if path.suffix.lower() != ".txt" or not path.is_file():
        return {}
    return {name if name.exists() else path.parent / name: index for name, index in parse_file_list(path)}


def _layers(model: Path) -> list[Any]:
    from onnx_lrp.graph import read_graph

    try:
        layers = json.loads(read_graph(model).metadata[CAFFE])
        if all(
            len(layer) == 4 and all(isinstance(part, kind) for part, kind in zip(layer, (str, str, list, list), strict=True))
            for layer in layers
        ):
            return list(layers)
    except KeyError:
        raise ModelError(f"{model} does not list Caffe's layers: it was not made by onnx-lrp convert from a Caffe network") from None
    except (ValueError, TypeError, RecursionError):
        pass
    raise ModelError(f"{model}: the metadata {CAFFE!r} is broken")


def _text(path: Path) -> str:
    try:
        if path.stat().st_size > _LARGEST:
            raise InputError(f"{path} is too large for a text file of this kind")
        return path.read_text(encoding="utf-8-sig", errors="replace")
    except OSError as error:
        raise InputError(f"cannot read {path}: {error.strerror or error}") from None
