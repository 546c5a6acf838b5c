"""A model read and planned: what the graphs of an explainer are emitted from."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
import onnx

from onnx_lrp.canonical import canonicalise
from onnx_lrp.emitter import Emitter
from onnx_lrp.errors import InputError
from onnx_lrp.feeds import value_info
from onnx_lrp.graph import Graph, ModelSource, read_graph
from onnx_lrp.mixing import mixing_node
from onnx_lrp.plan import Plan, choose_output, choose_sources, make_plan
from onnx_lrp.precision import Precision, poisoned
from onnx_lrp.recording import recorded
from onnx_lrp.seeds import CONTRAST, GIVEN, INDEX, VIEW, WEIGHTS, emit_seed
from onnx_lrp.signature import Signature
from onnx_lrp.walker import walk

if TYPE_CHECKING:
    from onnx_lrp.composites import Composite
    from onnx_lrp.concepts import Mask
    from onnx_lrp.graph import Array

__all__ = ["Blueprint"]


class Blueprint:
    """The graph of a model, the plan of its relevance pass, and the tensors that are asked for.

    Args:
        model, composite, inputs, output, record, keep_final_activation, precision: as of Explainer.
        device: 'cpu' or 'cuda': what the compiled graphs are to be fast on.

    Raises:
        ModelError, UnsupportedOperatorError, CompositeError, InputError: as Explainer.
    """

    def __init__(
        self,
        model: ModelSource | Graph,
        composite: Composite,
        inputs: Sequence[str] | None,
        output: str | None,
        record: str | Sequence[str],
        *,
        keep_final_activation: bool,
        device: str,
        precision: Precision,
    ):
        self.composite = composite
        self.device, self.precision = device, precision
        self.emulated = device == "cpu"
        """Whether products in a lower precision are imitated in float32."""
        self.graph = model if isinstance(model, Graph) else canonicalise(read_graph(model))
        self.output_name, self.final_activation = choose_output(self.graph, output, keep_final_activation=keep_final_activation)
        sources = choose_sources(self.graph, inputs, self.output_name)
        self.inputs = [inputs] if isinstance(inputs, str) else list(inputs) if inputs is not None else sources
        self.plan: Plan = make_plan(self.graph, composite, sources, self.output_name)
        self.tensors = dict(zip(self.inputs, sources, strict=True)) | recorded(self.plan, record)
        self.plan.require_complete()

    def emitter(self) -> Emitter:
        """An emitter that holds the forward pass."""
        return Emitter(self.graph, self.device, self.precision, emulated=self.emulated)

    def relevances(self, e: Emitter, seed: str, masks: Iterable[Mask] = ()) -> dict[str, str]:
        """Emits the relevance pass: name asked for -> tensor."""
        found = walk(self.plan, e, seed, list(self.tensors.values()), masks={mask.tensor: mask.input for mask in masks})
        result = {}
        for name, tensor in self.tensors.items():
            result[name] = poisoned(e, self.composite.finish(e, found[tensor].tensor, tensor, self.plan.sources))
        return result

    def model_inputs(self) -> list[onnx.ValueInfoProto]:
        """The model's own inputs, those that the explained output needs."""
        return [value_info(name, kind.dtype, kind.shape) for name, kind in self.graph.inputs_for(self.output_name).items()]

    @staticmethod
    def seed_inputs() -> list[onnx.ValueInfoProto]:
        """What a compiled graph is told of targets and seed."""
        whole = [value_info(VIEW, np.int64, (4,)), value_info(CONTRAST, np.bool_, ())]
        rows = [value_info(INDEX, np.int64, (None,) * 4), value_info(GIVEN, np.float32, (None,) * 4)]
        return [*whole, *rows, value_info(WEIGHTS, np.float32, (None, 5, 1, 1))]

    def emitted(self) -> tuple[onnx.ModelProto, dict[str, Array], Signature]:
        """The explaining graph for one target of each sample, its constants, and what there is to know of it."""
        e = self.emitter()
        names = self.relevances(e, emit_seed(e, self.output_name))
        outputs = [onnx.ValueInfoProto(name=tensor) for tensor in dict.fromkeys([self.output_name, *names.values()])]
        return *e.model([*self.model_inputs(), *self.seed_inputs()], outputs), self._signature(names)

    def _signature(self, results: dict[str, str]) -> Signature:
        graph, maker = self.graph, self.graph.producers.get(self.output_name)
        return Signature(
            model_inputs=graph.inputs,
            needed=list(graph.inputs_for(self.output_name)),
            fixed_batch=graph.fixed_batch(self.output_name),
            metadata=graph.metadata,
            output=self.output_name,
            output_shape=graph.shape(self.output_name),
            output_operator=maker.op if maker is not None else "",
            final_activation=self.final_activation,
            inputs=self.inputs,
            tensors=self.tensors,
            results=results,
            batch_leads={name: self._leads_with_batch(tensor) for name, tensor in self.tensors.items()},
            axis_of_samples={tensor: self._axis_of_samples(tensor) for tensor in (self.output_name, *self.tensors.values())},
            mixes=mixing_node(graph, self.output_name),
            has_convolutions=any(step.view.kind == "convolution" for step in self.plan.steps),
            seed=self.composite.seed,
            composite=f"{type(self.composite).__name__}\n{self.composite}",
        )

    def _leads_with_batch(self, tensor: str) -> bool:
        """Whether the first axis holds the samples, alone or folded with another axis (N * heads).

        It does unless the graph says otherwise: by a fixed length there, or by the batch's name at another axis. The results of a model
        with a batch fixed to one always do, as they are runs put one after the other.
        """
        shape, fixed = self.graph.shape(tensor), self.graph.fixed_batch(self.output_name)
        if not shape or fixed == 1:
            return True
        if isinstance(shape[0], int):
            return fixed == shape[0]
        return shape[0] in self._names_of_batch or not self._names_of_batch & set(shape[1:])

    @cached_property
    def _names_of_batch(self) -> set[int | str | None]:
        """What the graph calls the number of samples."""
        return {kind.shape[0] for kind in self.graph.inputs_for(self.output_name).values() if kind.shape} - {None}

    def _axis_of_samples(self, tensor: str) -> int | None:
        """The axis of a tensor that holds the samples, alone or folded with another; None where the graph does not tell."""
        shape = self.graph.shape(tensor)
        if tensor in self.graph.inputs or not shape:
            return 0 if tensor in self.graph.inputs else None
        named = next((axis for axis, length in enumerate(shape) if length in self._names_of_batch), None)
        return 0 if named is None and not isinstance(shape[0], int) else named

    def standalone(self) -> tuple[onnx.ModelProto, dict[str, Array]]:
        """The explainer as an ordinary ONNX model, see Explainer.to_onnx, and its initialisers, which that lacks."""
        e = Emitter(self.graph, precision=self.precision)
        seed = "target_relevance"
        taken = {seed, "relevance"} & {*self.graph.inputs, *self.graph.constants, *self.graph.producers}
        if taken:
            raise InputError(f"the model has a tensor of its own named {taken.pop()!r}: rename it, the saved explainer needs that name")
        names = self.relevances(e, seed)
        shape = self.graph.shape(self.output_name)
        outputs = [value_info(self.output_name, np.float32, shape)]
        for name, tensor in names.items():
            public = "relevance" if len(names) == 1 else f"relevance:{name}"
            outputs.append(value_info(e.op("Identity", tensor, output=public), np.float32, self.graph.shape(self.tensors[name])))
        return e.model([*self.model_inputs(), value_info(seed, np.float32, shape)], outputs)
