"""Bringing a model to the one opset that the rest of the package knows."""

from __future__ import annotations

import onnx
from onnx import GraphProto, ModelProto, NodeProto, helper

from onnx_lrp.errors import ModelError
from onnx_lrp.graph.graph import CANONICAL

OPSET = 18
"""onnxruntime's CUDA provider has an exact kernel of this version for every operator that we emit; for newer ones it has gaps."""

NEWER = {"Gelu", "Swish", "RMSNormalization"}
"""Operators younger than OPSET that stay whole, in our own domain; they have one meaning in all versions."""


def bring_to_opset(light: ModelProto) -> ModelProto:
    """Raises or lowers a weightless model to OPSET.

    Raising is onnx.version_converter's work. Lowering is ours: since 18 most operators have only gained types and attributes, while the
    converter stops at operators that did not exist then. A node that uses what 18 cannot say is kept and reported where it is met.
    """
    version = next(entry.version for entry in light.opset_import if entry.domain in ("", "ai.onnx"))
    if version < OPSET:
        training = _training_norms(light.graph) if version < 14 else set()
        try:
            raised = onnx.version_converter.convert_version(light, OPSET)
        except Exception as error:  # noqa: BLE001 - the converter raises RuntimeError, or its own class, per adapter
            raised = _raise_by_hand(light, version, error)
        for node in raised.graph.node:
            if node.op_type == "BatchNormalization" and node.output[0] in training:
                node.attribute.append(helper.make_attribute("training_mode", 1))
        return raised
    for node in light.graph.node:
        if node.domain in ("", "ai.onnx"):
            _lower(node)
    for entry in light.opset_import:
        if entry.domain in ("", "ai.onnx"):
            entry.version = OPSET
    return light


def _training_norms(graph: GraphProto) -> set[str]:
    """The outputs of the BatchNormalizations that before opset 14 were in training mode because they have further outputs.

    Those saved for the backward pass are taken away: nothing of that kind is left today, and the converter stops at them.
    """
    found = set()
    for node in graph.node:
        if node.op_type != "BatchNormalization" or node.domain not in ("", "ai.onnx"):
            continue
        if any(attribute.name == "spatial" and not attribute.i for attribute in node.attribute):
            raise ModelError(f"node {node.name or node.output[0]!r}: BatchNormalization with spatial=0 is not supported")
        del node.output[3:]
        if any(node.output[1:]):
            found.add(node.output[0])
        else:
            del node.output[1:]
    return found


def _lower(node: NodeProto) -> None:
    if node.op_type in NEWER:
        node.domain = CANONICAL
        return
    try:
        schema = onnx.defs.get_schema(node.op_type, OPSET)
    except onnx.defs.SchemaError:
        return  # unknown to 18: the operator table reports it by name if it lies on the path
    new = [attribute for attribute in node.attribute if attribute.name not in schema.attributes]
    for attribute in new:
        if attribute.name in ("saturate", "round_mode") or _is_default(node.op_type, attribute):
            node.attribute.remove(attribute)
        else:
            raise ModelError(f"node {node.name or node.output[0]!r}: {node.op_type} with attribute {attribute.name} is not supported")


def _is_default(op: str, attribute: onnx.AttributeProto) -> bool:
    newest = onnx.defs.get_schema(op).attributes.get(attribute.name)
    value = helper.get_attribute_value(attribute)
    if attribute.name == "dilations":
        return all(step == 1 for step in value)
    return newest is not None and newest.default_value.name != "" and helper.get_attribute_value(newest.default_value) == value


def _raise_by_hand(light: ModelProto, version: int, error: Exception) -> ModelProto:
    """The fall-back where the converter gives up: the old forms that real models have, one by one."""
    nodes, tensors = [], list(light.graph.initializer)

    def constant(name: str, values: list[int] | list[float], kind: int, *, scalar: bool = False) -> str:
        tensors.append(helper.make_tensor(name, kind, [] if scalar else [len(values)], values))
        return name

    for index, node in enumerate(light.graph.node):
        old = {attribute.name: helper.get_attribute_value(attribute) for attribute in node.attribute}
        drop: set[str] = set()
        name = f"{node.name or node.op_type}/{index}"
        if node.op_type == "Clip" and version < 11:
            low = constant(name + "/min", [old.get("min", -3.4028235e38)], onnx.TensorProto.FLOAT, scalar=True)
            high = constant(name + "/max", [old.get("max", 3.4028235e38)], onnx.TensorProto.FLOAT, scalar=True)
            node.input.extend([low, high])
            drop = {"min", "max"}
        elif node.op_type == "Dropout":
            drop = {"ratio", "is_test"}
        elif node.op_type == "BatchNormalization" and version < 14:
            drop = {"spatial", "is_test"}
        elif (node.op_type in ("Squeeze", "Unsqueeze", "ReduceSum") and version < 13 and "axes" in old) or (
            node.op_type.startswith("Reduce") and node.op_type != "ReduceSum" and "axes" in old
        ):
            node.input.append(constant(name + "/axes", list(old["axes"]), onnx.TensorProto.INT64))
            drop = {"axes"}
        elif node.op_type == "Split" and version < 13 and "split" in old:
            node.input.append(constant(name + "/split", list(old["split"]), onnx.TensorProto.INT64))
            drop = {"split"}
        elif node.op_type == "Pad" and version < 11 and old.get("mode", b"constant") == b"constant":
            node.input.append(constant(name + "/pads", list(old["pads"]), onnx.TensorProto.INT64))
            node.input.append(constant(name + "/value", [old.get("value", 0.0)], onnx.TensorProto.FLOAT, scalar=True))
            drop = {"pads", "value"}
        elif node.op_type == "Slice" and version < 10:
            for part in ("starts", "ends", "axes"):
                if part in old:
                    node.input.append(constant(f"{name}/{part}", list(old[part]), onnx.TensorProto.INT64))
            drop = {"starts", "ends", "axes"}
        kept = [attribute for attribute in node.attribute if attribute.name not in drop]
        del node.attribute[:]
        node.attribute.extend(kept)
        nodes.append(node)
        schema = onnx.defs.get_schema(node.op_type, OPSET) if onnx.defs.has(node.op_type, OPSET) else None
        if schema is None or any(attribute.name not in schema.attributes for attribute in kept):
            raise ModelError(f"cannot bring the model from opset {version} to {OPSET}: {' '.join(str(error).split())[:200]}")
    del light.graph.initializer[:]
    light.graph.initializer.extend(tensors)
    for entry in light.opset_import:
        if entry.domain in ("", "ai.onnx"):
            entry.version = OPSET
    return light
