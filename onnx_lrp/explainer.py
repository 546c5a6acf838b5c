"""The face of the package: Explainer and explain()."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx

from onnx_lrp.canonical import canonicalise
from onnx_lrp.composites import Composite, make_composite
from onnx_lrp.conservation import Conservation, Entry
from onnx_lrp.emitter import Emitter, embed
from onnx_lrp.errors import InputError, ModelError
from onnx_lrp.explanation import Explanation
from onnx_lrp.feeds import Input, feeds_for, value_info
from onnx_lrp.graph import Array, Graph, ModelSource, read_graph
from onnx_lrp.interpreter import Interpreter, Providers, broken_models_named, choose_providers, is_cuda
from onnx_lrp.plan import Plan, choose_output, choose_sources, make_plan
from onnx_lrp.recording import recorded
from onnx_lrp.rules.ledger import KeepingLedger, total_of
from onnx_lrp.targets import GIVEN, INDEX, MODE, MODES, emit_seed, sample_shape, seed_array, target_indices
from onnx_lrp.walker import walk

if TYPE_CHECKING:
    from onnx_lrp.rules import Rule


class Explainer:
    """A model compiled together with its relevance pass.

    Args:
        model: path, bytes or onnx.ModelProto.
        composite: key of `COMPOSITES`, a Composite, or a Rule for all layers.
        inputs: names of the explained inputs; default: every float input that reaches the output (for token inputs: their embeddings).
        output: the tensor to explain; default: the first float output, without a final Softmax, LogSoftmax or Sigmoid.
        record: internal tensors whose relevance is wanted too: names of tensors or of nodes with one output, globs ("/layer4/*"),
            "all" (every tensor that relevance flows through), or a list mixing them. They come back in graph order.
        providers: "auto" (CUDA when it is there), "cpu", "cuda", or a list for onnxruntime.
        threads: threads per operator; default: onnxruntime's choice.
        keep_final_activation: explain behind a final Softmax, LogSoftmax or Sigmoid instead of before it.
        **composite_options: options of the composite: low=, high=, epsilon=, gamma=, stabilizer=, bias=, layer_map= ...

    Raises:
        ModelError: the model cannot be read.
        UnsupportedOperatorError: nodes on the path have no rule; the error names them.
        CompositeError: unknown composite or option, or a rule that does not fit its node.
        InputError: a name that the model does not have.
    """

    def __init__(
        self,
        model: ModelSource,
        composite: str | Composite | Rule = "epsilon_plus_flat",
        *,
        inputs: Sequence[str] | None = None,
        output: str | None = None,
        record: str | Sequence[str] = (),
        providers: Providers = "auto",
        threads: int | None = None,
        keep_final_activation: bool = False,
        **composite_options: Any,
    ):
        self.composite = make_composite(composite, composite_options)
        self._providers = choose_providers(providers)
        self._threads = threads
        with broken_models_named(model):
            self.graph: Graph = canonicalise(read_graph(model))
            self.output_name, self.final_activation = choose_output(self.graph, output, keep_final_activation=keep_final_activation)
            sources = choose_sources(self.graph, inputs, self.output_name)
            self.inputs = [inputs] if isinstance(inputs, str) else list(inputs) if inputs is not None else sources
            """The names of the explained inputs."""
            self.plan: Plan = make_plan(self.graph, self.composite, sources, self.output_name)
            self._wanted = dict(zip(self.inputs, sources, strict=True)) | recorded(self.plan, record)
            self.plan.require_complete()
            self._interpreter, self._names = self._compile()

    # compiling ------------------------------------------------------------------------------------------------------

    def _emitter(self) -> Emitter:
        return Emitter(self.graph, "cuda" if is_cuda(self._providers) else "cpu")

    def _relevances(self, e: Emitter, seed: str) -> dict[str, str]:
        """Emits the relevance pass: name asked for -> tensor."""
        found = walk(self.plan, e, seed, list(self._wanted.values()))
        result = {}
        for name, tensor in self._wanted.items():
            result[name] = self.composite.finish(e, found[tensor].tensor, tensor, self.plan.sources)
        return result

    def _model_inputs(self) -> list[onnx.ValueInfoProto]:
        needed = {tensor for node in self.graph.needed_for([self.output_name]) for tensor in node.reads}
        return [value_info(name, kind.dtype, kind.shape) for name, kind in self.graph.inputs.items() if name in needed]

    def _seed_inputs(self) -> list[onnx.ValueInfoProto]:
        rank = self.graph.rank(self.output_name)
        given = value_info(GIVEN, np.float32, None if rank is None else (None,) * rank)
        return [value_info(INDEX, np.int64, (None,)), value_info(MODE, np.int64, ()), given]

    def _compile(self) -> tuple[Interpreter, dict[str, str]]:
        e = self._emitter()
        names = self._relevances(e, emit_seed(e, self.output_name))
        outputs = [onnx.ValueInfoProto(name=tensor) for tensor in dict.fromkeys([self.output_name, *names.values()])]
        model, constants = e.model([*self._model_inputs(), *self._seed_inputs()], outputs)
        return Interpreter(model, constants, self._providers, self._threads), names

    def to_onnx(self) -> onnx.ModelProto:
        """The explainer as an ordinary ONNX model.

        Inputs: the model's own (float ones in float32) and "target_relevance", shaped like the explained output: where relevance starts,
        such as the output's value at the class to explain and zero elsewhere. Outputs: the explained output, and "relevance" (of several
        explained inputs or recorded tensors: "relevance:<name>" for each).
        """
        e = Emitter(self.graph)
        seed = "target_relevance"
        taken = {seed, "relevance"} & {*self.graph.inputs, *self.graph.constants, *self.graph.producers}
        if taken:
            raise InputError(f"the model has a tensor of its own named {taken.pop()!r}: rename it, the saved explainer needs that name")
        names = self._relevances(e, seed)
        shape = self.graph.shape(self.output_name)
        outputs = [value_info(self.output_name, np.float32, shape)]
        for name, tensor in names.items():
            public = "relevance" if len(names) == 1 else f"relevance:{name}"
            outputs.append(value_info(e.op("Identity", tensor, output=public), np.float32, self.graph.shape(self._wanted[name])))
        model, constants = e.model([*self._model_inputs(), value_info(seed, np.float32, shape)], outputs)
        return embed(model, constants)

    def save(self, path: str | os.PathLike[str]) -> None:
        """Writes `to_onnx()` to a file, whole or not at all. Weights of over 2 GB go to a file beside it (path + ".data")."""
        path = Path(path)
        model = self.to_onnx()
        big = sum(len(tensor.raw_data) for tensor in model.graph.initializer) > 2**31 - 2**20
        try:
            with tempfile.TemporaryDirectory(dir=path.parent, prefix=f".{path.name}.") as folder:
                written = Path(folder) / path.name
                onnx.save(model, written, save_as_external_data=big, location=path.name + ".data")
                for file in sorted(Path(folder).iterdir(), reverse=True):  # the weights first
                    file.replace(path.parent / file.name)
        except OSError as error:
            raise InputError(f"cannot write {path}: {error.strerror or error}") from None

    # explaining -----------------------------------------------------------------------------------------------------

    def explain(self, x: Input, target: Any = None, seed: Any = None) -> Explanation:
        """Computes the relevance of the explained inputs.

        Args:
            x: the input, (N, ...), or a dict name -> array for models of several inputs.
            target: which output to explain: None (each sample's largest), an int, one int per sample, an (N, K) array (K targets per
                sample), or a tuple for outputs of more than one axis beside the batch.
            seed: where relevance starts: "output" (the output's value at the target; the default), "one" (the default of gradient
                composites), or an array shaped like the output, which then stands in for the target too.

        Raises:
            InputError: input, target or seed do not fit the model, or the input holds NaN or infinity.
        """
        feeds, batch = self._feeds(x)
        further, count = self._seed_feeds(target, self.composite.seed if seed is None else seed, batch)
        feeds |= further
        if count is not None:
            feeds = {name: value if name in (INDEX, MODE) else self._repeat(name, value, count) for name, value in feeds.items()}
        results = self._run(self._interpreter, [self.output_name, *self._names.values()], feeds)
        output, values = results[0], dict(zip(self._names, results[1:], strict=True))
        self._check_index(feeds[INDEX], output)
        self._check_finite({self.output_name: output, **values}, feeds)
        targets = _targets_used(feeds[INDEX], output)
        if count is not None:
            output = output[::count]
            targets = targets.reshape(batch, count, *targets.shape[1:])
            values = {
                name: value.reshape(batch, count, *value.shape[1:])
                if value.shape[:1] == (batch * count,) and self.leads_with_batch(name)
                else value
                for name, value in values.items()
            }
        return Explanation(self, values, output, targets, feeds)

    def _check_finite(self, values: dict[str, Array], feeds: dict[str, Array]) -> None:
        """Raises ModelError for NaN or infinity in a result, naming the first node on the way back that made it."""
        wrong = {name: int(value.size - np.isfinite(value).sum()) for name, value in values.items()}
        name = next((name for name, count in wrong.items() if count), None)
        if name is None:
            return
        raise ModelError(f"{name!r} has {wrong[name]} values that are NaN or infinite, {self._first_overflow(feeds)}")

    def _first_overflow(self, feeds: dict[str, Array]) -> str:
        """Where the first value that is not finite comes from: a node of the forward pass, else a rule on the way back."""
        e = self._emitter()
        nodes = [
            node for node in self.graph.needed_for([self.output_name]) if node.outputs[0] and self.graph.type_of(node.outputs[0]).is_float
        ]
        model, constants = e.model(self._model_inputs(), [onnx.ValueInfoProto(name=node.outputs[0]) for node in nodes])
        values = Interpreter(model, constants, self._providers, self._threads).run([node.outputs[0] for node in nodes], feeds)
        for node, value in zip(nodes, values, strict=True):
            if not np.isfinite(value).all():
                return f"first at node {node.name!r} ({node.op}) in the forward pass"
        for entry in self.account(feeds).entries:
            if np.isfinite(entry.received).all() and not np.isfinite(entry.passed).all():
                return f"first at node {entry.node!r} ({entry.operator}) under rule {entry.rule}: is a stabiliser too small?"
        return "in the seed"

    @staticmethod
    def _repeat(name: str, value: Array, count: int) -> Array:
        return value if name == GIVEN and value.shape[0] == 1 else np.repeat(value, count, 0)

    def _feeds(self, x: Input) -> tuple[dict[str, Array], int]:
        return feeds_for(x, [value.name for value in self._model_inputs()], self.graph.inputs)

    def _seed_feeds(self, target: Any, seed: Any, batch: int) -> tuple[dict[str, Array], int | None]:
        """What says where relevance starts, and how many targets each sample has, if they are given as (N, K)."""
        shape = self.graph.shape(self.output_name)
        known = sample_shape(shape)
        mode, array = seed_array(seed, known, batch)
        rank = len(shape) if shape is not None else 2
        index, count = target_indices(target, batch, known if known is not None else self._assumed(target))
        given = np.zeros((1,) * (array.ndim if array is not None else rank), np.float32) if array is None else array
        return {INDEX: index, MODE: np.array(MODES[mode], np.int64), GIVEN: given}, count

    def _assumed(self, target: Any) -> tuple[int, ...]:
        """A shape that any target fits, when the output's is known only after the run."""
        if isinstance(target, (tuple, list)) and target and (isinstance(target, tuple) or isinstance(target[0], (tuple, list))):
            raise InputError("the output's shape is not known before the run: give the target as a seed array")
        return (np.iinfo(np.int32).max,)

    @staticmethod
    def _check_index(index: Array, output: Array) -> None:
        size = int(np.prod(output.shape[1:], dtype=np.int64))
        if index.max() >= size:
            raise InputError(f"target {index.max()} is out of range: the output has {size} elements (0 to {size - 1})")

    def _run(self, interpreter: Interpreter, outputs: list[str], feeds: dict[str, Array]) -> list[Array]:
        """Runs in one go, or, for a model with a fixed batch, in chunks of that size (the last one filled up by repeating a sample)."""
        fixed = self._fixed_batch()
        batch = feeds[INDEX].shape[0]
        if fixed is None or fixed == batch:
            return interpreter.run(outputs, feeds)
        chunks = []
        for start in range(0, batch, fixed):
            rows = np.minimum(np.arange(start, start + fixed), batch - 1)
            part = {
                name: value[rows] if value.ndim and value.shape[0] == batch and name != MODE else value for name, value in feeds.items()
            }
            used = min(fixed, batch - start)
            chunks.append([value[:used] if value.ndim and value.shape[0] == fixed else value for value in interpreter.run(outputs, part)])
        return [np.concatenate(parts) for parts in zip(*chunks, strict=True)]

    def _fixed_batch(self) -> int | None:
        lengths = [kind.shape[0] for value in self._model_inputs() if (kind := self.graph.inputs[value.name]).shape]
        fixed = [length for length in lengths if isinstance(length, int)]
        return fixed[0] if fixed else None

    def leads_with_batch(self, name: str) -> bool:
        """Whether the first axis of an explained or recorded tensor holds the samples, alone or folded with another axis (N * heads).

        It does unless the graph says otherwise: by a fixed length there, or by the batch's name at another axis. The results of a model
        with a batch fixed to one always do, as they are runs put one after the other.
        """
        shape = self.graph.shape(self._wanted.get(name, ""))
        if not shape or self._fixed_batch() == 1:
            return True
        if isinstance(shape[0], int):
            return self._fixed_batch() == shape[0]
        batches = {kind.shape[0] for value in self._model_inputs() if (kind := self.graph.inputs[value.name]).shape} - {None}
        return shape[0] in batches or not batches & set(shape[1:])

    # the account ----------------------------------------------------------------------------------------------------

    @cached_property
    def _accountant(self) -> tuple[Interpreter, dict[str, dict[str, list[str]]], list[str]]:
        """The graph that keeps the account: for each node and category the tensors that hold its sums."""
        e = self._emitter()
        seed = emit_seed(e, self.output_name)
        ledgers: dict[str, KeepingLedger] = {}

        def ledger_for(name: str) -> KeepingLedger:
            ledgers[name] = KeepingLedger(e)
            return ledgers[name]

        found = walk(self.plan, e, seed, self.plan.sources, ledger_for)
        totals = [total_of(e, seed), *(total_of(e, found[tensor].tensor) for tensor in self.plan.sources)]
        sums = {name: ledger.sums for name, ledger in ledgers.items()}
        outputs = dict.fromkeys([*totals, *(t for kept in sums.values() for tensors in kept.values() for t in tensors)])
        model, constants = e.model([*self._model_inputs(), *self._seed_inputs()], [onnx.ValueInfoProto(name=name) for name in outputs])
        return Interpreter(model, constants, self._providers, self._threads), sums, totals

    def _one_by_one(self, interpreter: Interpreter, outputs: list[str], feeds: dict[str, Array]) -> list[Array]:
        """Runs each sample alone (in a model with a fixed batch: repeated to fill it); each output, a number, becomes one per sample."""
        batch, copies = feeds[INDEX].shape[0], self._fixed_batch() or 1
        results = []
        for sample in range(batch):
            rows = np.full(copies, sample)
            part = {name: value[rows] if value.ndim and value.shape[0] == batch else value for name, value in feeds.items()}
            results.append([float(value) / copies for value in interpreter.run(outputs, part)])
        return list(np.array(results, np.float64).T)

    def account(self, feeds: dict[str, Array]) -> Conservation:
        """The account for the inputs of one explanation; see Explanation.conservation."""
        interpreter, sums, totals = self._accountant
        names = list(dict.fromkeys([*totals, *(t for kept in sums.values() for tensors in kept.values() for t in tensors)]))
        values = dict(zip(names, self._one_by_one(interpreter, names, feeds), strict=True))
        seed = values[totals[0]]
        zero = np.zeros_like(seed)
        conserving = all(step.rule.conserving for step in self.plan.steps if step.rule is not None)
        entries = []
        for step in reversed(self.plan.steps):
            if step.view.name not in sums:
                continue
            kept = {category: sum((values[t] for t in tensors), zero) for category, tensors in sums[step.view.name].items()}
            received, passed = kept.pop("received", zero), kept.pop("passed", zero)
            entries.append(Entry(step.view.name, step.view.op, str(step.rule), received, passed, kept))
        inputs = sum((values[t] for t in totals[1:]), zero)
        return Conservation(seed, inputs, entries, conserving)


def _targets_used(index: Array, output: Array) -> Array:
    """(N,) positions, or (N, axes) for outputs of several axes that are longer than one."""
    flat = output.reshape(output.shape[0], -1)
    used = np.where(index < 0, flat.argmax(1), index)
    if sum(length != 1 for length in output.shape[1:]) <= 1:
        return used.astype(np.int64)
    return np.stack(np.unravel_index(used, output.shape[1:]), 1).astype(np.int64)


def explain(model: ModelSource, x: Input, target: Any = None, seed: Any = None, **options: Any) -> Explanation:
    """Explains in one call: `Explainer(model, **options).explain(x, target, seed)`."""
    return Explainer(model, **options).explain(x, target, seed)


def plan_of(
    model: ModelSource,
    composite: str | Composite | Rule = "epsilon_plus_flat",
    *,
    inputs: Sequence[str] | None = None,
    output: str | None = None,
    keep_final_activation: bool = False,
    **composite_options: Any,
) -> Plan:
    """What an Explainer of these arguments would do, without compiling it; of a model with unsupported nodes too."""
    chosen = make_composite(composite, composite_options)
    graph = canonicalise(read_graph(model))
    name, _ = choose_output(graph, output, keep_final_activation=keep_final_activation)
    return make_plan(graph, chosen, choose_sources(graph, inputs, name), name)
