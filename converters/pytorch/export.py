"""A module of PyTorch to an ONNX model."""

from __future__ import annotations

import ast
import contextlib
import dataclasses
import inspect
import io
import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import onnx
from onnx import helper

from onnx_lrp.emitter import IR_VERSION
from onnx_lrp.errors import ModelError
from onnx_lrp.graph.opset import OPSET

from ..conversion import Activation
from ..frameworks import quiet, reason
from ..inputs import batch

__all__ = ["Exported", "evaluating", "export", "outputs"]

_SCOPES: Final = "pkg.torch.onnx.name_scopes"
_LARGEST: Final = 2**31 - 1


@dataclass(frozen=True)
class Exported:
    """An ONNX model and what it was made from."""

    model: onnx.ModelProto
    program: Any
    """The torch.export.ExportedProgram; None where the older exporter made the model."""
    samples: int | None
    """The size of the batch if the source fixes it; None: any."""
    notes: list[str]

    def replace(self, model: onnx.ModelProto) -> Exported:
        """The same with another form of the model."""
        return dataclasses.replace(self, model=model)


@contextlib.contextmanager
def evaluating(module: Any) -> Iterator[None]:
    """Puts a module and all in it into evaluation mode, and back into what each was in."""
    before = [(part, part.training) for part in module.modules()]
    try:
        for part, _ in before:
            part.training = False
        yield
    finally:
        for part, training in before:
            part.training = training


def outputs(result: Any) -> dict[str, Any]:
    """The tensors in what a module returns, with names: keys of dicts; "output" alone; else "output_0", "output_1" ..."""
    leaves = list(_leaves(result, ""))
    if len(leaves) == 1:
        return {leaves[0][0] or "output": leaves[0][1]}
    named = {}
    for index, (name, value) in enumerate(leaves):
        named[name if name and name not in named else f"output_{index}"] = value
    return named


def _leaves(value: Any, name: str) -> Iterator[tuple[str, Any]]:
    if isinstance(value, Mapping):
        for key, item in value.items():
            yield from _leaves(item, str(key))
    elif isinstance(value, (tuple, list)):
        for item in value:
            yield from _leaves(item, "")
    elif value is not None:
        yield name, value


def export(
    module: Any,
    example: tuple[Any, ...],
    input_names: Sequence[str],
    output_names: Sequence[str],
    where: str,
    *,
    fixed: bool,
    script: bool = False,
) -> Exported:
    """Export a module that is in evaluation mode.

    Args:
        module: The torch.nn.Module.
        example: Its arguments.
        input_names: For the tensors among the arguments.
        output_names: For the outputs.
        where: What to call the source in messages.
        fixed: Whether the ONNX model's batch is that of the example; else it is open.
        script: Whether it is TorchScript, which only the older exporter takes.

    Raises:
        ModelError: Neither exporter can express the module.
    """
    first = next((len(value) for value in example if _batched(value)), 1)
    arguments = example if fixed else batch(example, max(first, 2))  # a batch of one would be taken for a constant
    errors = []
    for way in [_by_trace] if script else [_by_program, _by_trace]:
        try:
            with quiet():
                found = way(module, arguments, list(input_names), list(output_names), fixed=fixed)
            _tidy(found.model)
        except Exception as error:  # noqa: BLE001 - exporters fail with anything
            errors.append(reason(error))
            continue
        if not fixed and found.samples is not None:
            raise ModelError(f"{where} cannot be exported to ONNX with an open batch: its code fixes it")
        notes = [f"PyTorch's newer exporter failed, the older one was used ({errors[0]})"] if errors else []
        return Exported(found.model, found.program, first if fixed else None, [*found.notes, *notes])
    raise ModelError(f"{where} cannot be exported to ONNX: {'; the older exporter: '.join(errors)}")


def _batched(value: Any) -> bool:
    import torch

    return isinstance(value, torch.Tensor) and value.ndim > 0


def _by_program(module: Any, arguments: tuple[Any, ...], input_names: list[str], output_names: list[str], *, fixed: bool) -> Exported:
    import torch

    shapes: Any = None
    if isinstance(module, torch.nn.Module) and not fixed:
        shapes = tuple({0: torch.export.Dim.AUTO} if _batched(value) else None for value in arguments)
        if any(parameter.kind is parameter.VAR_POSITIONAL for parameter in inspect.signature(module.forward).parameters.values()):
            shapes = (shapes,)
    program = torch.onnx.export(
        module,
        arguments,
        dynamo=True,
        opset_version=OPSET,
        input_names=input_names,
        output_names=output_names,
        dynamic_shapes=shapes,
        verbose=False,
    )
    if program is None:
        raise ModelError("the exporter gave nothing")
    return Exported(program.model_proto, program.exported_program, _fixed_batch(program.model_proto), [])


def _by_trace(module: Any, arguments: tuple[Any, ...], input_names: list[str], output_names: list[str], *, fixed: bool) -> Exported:
    import torch

    tensors = [value for value in arguments if isinstance(value, torch.Tensor)]
    given = dict(zip(input_names, tensors, strict=False)) | dict(zip(output_names, outputs(module(*arguments)).values(), strict=False))
    axes = None if fixed else {name: {0: "N"} for name, value in given.items() if value.ndim}
    file = io.BytesIO()
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        torch.onnx.export(
            module,
            arguments,
            file,
            dynamo=False,
            opset_version=OPSET,
            input_names=input_names,
            output_names=output_names,
            dynamic_axes=axes,
        )
    notes = []
    if any(issubclass(warning.category, torch.jit.TracerWarning) for warning in told):
        notes = [
            "the code depends on values (an if, a loop, a number taken from a tensor): the ONNX model has what happened with the example"
        ]
    return Exported(onnx.load_from_string(file.getvalue()), None, None, notes)


def _fixed_batch(model: onnx.ModelProto) -> int | None:
    firsts = [value.type.tensor_type.shape.dim[0] for value in model.graph.input if value.type.tensor_type.shape.dim]
    lengths = [first.dim_value for first in firsts if first.HasField("dim_value")]
    return lengths[0] if lengths else None


def _tidy(model: onnx.ModelProto) -> None:
    """Names the nodes after their modules, the open batch N, and drops what only the exporter needs: it tells of the user's files."""
    if model.ByteSize() > _LARGEST:
        raise ModelError("the ONNX model is larger than 2 GB")
    used: set[str] = set()
    for node in model.graph.node:
        entries = {entry.key: entry.value for entry in node.metadata_props}
        if _SCOPES in entries:
            node.name = f"{_scope(entries[_SCOPES])}/{node.op_type}"
        name, number = node.name, 1
        while node.name in used:
            node.name = f"{name}_{number}"
            number += 1
        used.add(node.name)
        node.ClearField("metadata_props")
        node.doc_string = ""
    del model.graph.value_info[:]
    for value in (*model.graph.input, *model.graph.output):
        value.ClearField("metadata_props")
        shape = value.type.tensor_type.shape
        if shape.dim and not shape.dim[0].HasField("dim_value"):
            shape.dim[0].dim_param = "N"
    for tensor in model.graph.initializer:
        tensor.ClearField("metadata_props")
        tensor.doc_string = ""
    model.graph.ClearField("metadata_props")
    del model.metadata_props[:]
    model.ir_version = IR_VERSION
    helper.set_model_props(model, {})


def _scope(text: str) -> str:
    """A node's modules as the older exporter writes them: "", "block", "block.0", "block.0.conv", "conv2d_3" -> /block/block.0/conv."""
    path, before = "", ""
    for name in ast.literal_eval(text)[1:-1]:
        part = name.removeprefix(before + ".") if before else name
        path += f"/{before.rsplit('.', 1)[-1]}.{part}" if before and part.isdecimal() else f"/{part}"
        before = name
    return path


def inner(program: Any, example: tuple[Any, ...]) -> list[Activation]:
    """What each operator of an exported program gives on an example, in order; the layer is the module that it is in."""
    import torch

    seen: list[Activation] = []

    class Recorder(torch.fx.Interpreter):  # type: ignore[misc]
        def run_node(self, n: Any) -> Any:
            value = super().run_node(n)
            if n.op == "call_function" and isinstance(value, torch.Tensor):
                stack = list(n.meta.get("nn_module_stack", {}).values())
                seen.append(Activation(stack[-1][0] if stack else n.name, str(n.target), n.name, as_array(value)))
            return value

    with quiet(), torch.no_grad():
        Recorder(program.module()).run(*(value for value in example if isinstance(value, torch.Tensor)))
    return seen


def as_array(value: Any) -> Any:
    """A tensor as an array; booleans and numbers as they are."""
    return np.asarray(value.detach().cpu().numpy())
