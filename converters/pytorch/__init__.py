"""PyTorch models: modules, exported programs (.pt2), TorchScript, and module:function with a state dict, to ONNX."""

from __future__ import annotations

import contextlib
import copy
import inspect
import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from onnx_lrp.errors import InputError, ModelError
from onnx_lrp.metadata import recorded

from ..conversion import Activation, Conversion, checked
from ..frameworks import quiet, reason, require
from ..inputs import arguments, batch, parse, random, tensors
from ..padding import keep_zeros
from .export import Exported, as_array, evaluating, export, inner, outputs
from .sources import Source, kind_of, load

__all__ = ["convert", "recognise"]

_SAMPLES: Final = 3
"""What a converted model is compared on: another batch than it was exported with, so that a batch that got stuck in it shows."""


def recognise(path: Path, head: bytes) -> bool:
    """Whether a source is an exported program, TorchScript, any other file of torch.save, or module:function."""
    return kind_of(path, head) is not None


def convert(
    source: Any,
    *,
    example: Any = None,
    input_shape: Iterable[str | Sequence[int]] | str | None = None,
    weights: str | os.PathLike[str] | None = None,
) -> Conversion:
    """Convert a PyTorch model. The module itself is left as it is, in the mode it was in.

    Args:
        source: A torch.nn.Module, or a path: an exported program, TorchScript, or module:function.
        example: What the module is called with: a tensor or array, a sequence of them, or a dict by the names of `forward`.
        input_shape: Shapes with the batch first, one for each input, such as "1,3,224,224" or "1,16:int64"; for random examples.
        weights: A state dict for module:function.

    Returns:
        The model, with an open batch wherever the source has one, compared with the source.

    Raises:
        InputError: The shape of the input is not known, or an option does not fit.
        ModelError: PyTorch is missing; the source is broken or could run anything, cannot be exported, or differs from its ONNX form.
    """
    torch = require("pytorch", "torch", "onnxscript")
    if isinstance(source, torch.nn.Module):
        if weights is not None:
            raise InputError("a module has its weights: weights is for module:function")
        where, found = Path(type(source).__name__), Source("PyTorch", source)
        if isinstance(source, torch.jit.ScriptModule):
            found = Source("TorchScript", source)
    else:
        where = Path(source)
        found = load(where, None if weights is None else Path(weights))
    module, notes = _plain(found.module)
    values = _example(found, module, example, input_shape, str(where))
    with evaluating(module), torch.no_grad():
        return _converted(Source(found.kind, module, found.program), values, where, notes)


def _plain(module: Any) -> tuple[Any, list[str]]:
    """The module on the CPU and in float32: itself, or a copy."""
    tensors = [*module.parameters(), *module.buffers()]
    other = sorted({str(tensor.dtype).removeprefix("torch.") for tensor in tensors if tensor.is_floating_point()} - {"float32"})
    if not other and all(tensor.device.type == "cpu" for tensor in tensors):
        return module, []
    notes = [f"the weights, {' and '.join(other)} in the source, are float32 in the ONNX model"] if other else []
    return copy.deepcopy(module).cpu().float(), notes


def _example(found: Source, module: Any, example: Any, shapes: Iterable[str | Sequence[int]] | str | None, where: str) -> tuple[Any, ...]:
    if example is not None and shapes is not None:
        raise InputError("give an example or the shapes, not both")
    if example is not None:
        return arguments(module, example)
    if shapes is not None:
        return tensors(random(parse(shapes)))
    if found.program is not None:
        return tensors(random(_program_shapes(found.program, where)))
    size = _pictures(module).get("input_size")
    if size is None:
        raise InputError(f"{where} does not say the shape of its input: give --input-shape, with the batch first, such as 1,3,224,224")
    return tensors(random([((1, *size), "float32")]))


def _program_shapes(program: Any, where: str) -> list[tuple[tuple[int, ...], str]]:
    """The shapes of an exported program's inputs; open lengths as in the example that it was made with, or 2."""
    shapes = []
    wanted = set(program.graph_signature.user_inputs)
    for node in program.graph.nodes:
        if node.op == "placeholder" and node.name in wanted:
            value = node.meta.get("val")
            kind = str(getattr(value, "dtype", None)).removeprefix("torch.")
            if kind not in ("float32", "int64", "int32", "bool"):
                raise ModelError(f"{where}: its input {node.name!r} is {kind}; only tensors of float32 and whole numbers can be converted")
            lengths = tuple(_length(length) for length in value.shape)
            shapes.append((lengths, kind))
    return shapes


def _length(length: Any) -> int:
    """A length; of open ones what the export was made with."""
    if isinstance(length, int):
        return length
    hint = getattr(length.node, "hint", None)
    return hint if isinstance(hint, int) else 2


def _pictures(module: Any) -> Mapping[str, Any]:
    """What timm says of a model's pictures."""
    config = getattr(module, "pretrained_cfg", None) or getattr(module, "default_cfg", None)
    return config if isinstance(config, Mapping) else {}


def _preprocess(module: Any, values: Sequence[Any]) -> dict[str, str]:
    config = _pictures(module)
    shapes = [tuple(value.shape) for value in values if hasattr(value, "shape")]
    if len(shapes) != 1 or len(shapes[0]) != 4:
        return {}
    fields: dict[str, Any] = {"layout": "NCHW"}
    if "mean" in config and "std" in config:
        size, part = config.get("input_size", shapes[0][1:])[-1], config.get("crop_pct") or 1.0
        fields |= {"scale": 1 / 255, "mean": list(config["mean"]), "std": list(config["std"]), "resize": round(size / part)}
        fields |= {"channels": "RGB" if shapes[0][1] == 3 else "GRAY", "crop": list(shapes[0][2:])}
    return recorded(fields)


def _converted(found: Source, values: tuple[Any, ...], where: Path, notes: list[str]) -> Conversion:
    module = found.module
    try:
        with quiet():
            names = list(outputs(module(*values)))
    except Exception as error:
        shapes = ", ".join(str(tuple(value.shape)) for value in values if hasattr(value, "shape"))
        raise ModelError(f"{where} fails on an input of shape {shapes}: {reason(error)}") from error
    given = _input_names(found, values)
    metadata = _preprocess(module, values)

    def attempt(*, fixed: bool) -> Conversion:
        made = export(found.program or module, values, given, names, str(where), fixed=fixed, script=found.script)
        return compared(module, made, values, given, where, found.kind, metadata, notes)

    try:
        return attempt(fixed=False)
    except ModelError as error:
        with contextlib.suppress(ModelError):
            return attempt(fixed=True)
        raise error from None


def compared(
    module: Any,
    made: Exported,
    values: tuple[Any, ...],
    names: Sequence[str],
    where: Path,
    kind: str,
    metadata: Mapping[str, str],
    notes: Sequence[str],
) -> Conversion:
    """Compare an exported model with its module and name the first operator that differs.

    Raises:
        ModelError: They differ.
    """
    model = made.model
    keep_zeros(model)
    for key, value in metadata.items():
        model.metadata_props.add(key=key, value=value)
    used = {value.name for value in model.graph.input}
    values = batch(values, made.samples or _SAMPLES)
    tensors = [value for value in values if hasattr(value, "shape")]
    feeds = {name: as_array(value) for name, value in zip(names, tensors, strict=True) if name in used}
    try:
        with quiet():
            expected = [as_array(value) for value in outputs(module(*values)).values()]
    except Exception as error:
        raise ModelError(f"{where} fails on a batch of {_SAMPLES}: {reason(error)}") from error
    shown = [output.name for output in model.graph.output]
    if len(shown) != len(expected):
        raise ModelError(f"{where} gives {len(expected)} outputs, its ONNX form {len(shown)}")
    final = [Activation(name, "output", name, value) for name, value in zip(shown, expected, strict=True)]
    said = [*notes, *made.notes]
    if made.samples is not None:
        said.append(f"the batch is always {made.samples}: the source does not let it open")
    try:
        return checked(model, where, kind, feeds, final, said)
    except ModelError:
        if made.program is not None:
            known = {tensor for node in model.graph.node for tensor in node.output}
            layers = [layer for layer in inner(made.program, values) if layer.tensor in known]
            checked(model, where, kind, feeds, [*layers, *final], said)
        raise
    except InputError as error:  # a number that depends on the batch got stuck in the model
        raise ModelError(f"{where}: its ONNX form does not run on a batch of {_SAMPLES}: {error}") from error


def _input_names(found: Source, values: Sequence[Any]) -> list[str]:
    """What `forward` calls the tensors that it is given."""
    if found.program is not None:
        return list(found.program.graph_signature.user_inputs)
    if found.script:
        names = [value.debugName().rsplit(".", 1)[0] for value in list(found.module.graph.inputs())[1:]]
    else:
        parameters = inspect.signature(found.module.forward).parameters.values()
        names = [parameter.name for parameter in parameters if parameter.kind is not parameter.VAR_POSITIONAL]
    names += [f"input_{index}" for index in range(len(names), len(values))]
    return [name for name, value in zip(names, values, strict=False) if hasattr(value, "shape")]
