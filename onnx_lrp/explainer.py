"""The face of the package: Explainer and explain()."""

from __future__ import annotations

import os
from collections.abc import Generator, Iterable, Mapping, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx

from onnx_lrp.accountant import Accountant
from onnx_lrp.assignment import Assignment, assign
from onnx_lrp.batches import BatchSize, check_batch_size, part_size, rows, run_in_parts
from onnx_lrp.canonical import canonicalise
from onnx_lrp.composites import Composite, make_composite
from onnx_lrp.concepts import Condition, Mask, read_conditions
from onnx_lrp.device_arrays import foreign_among, is_foreign, to_framework, to_numpy
from onnx_lrp.emitter import Emitter, embed
from onnx_lrp.errors import InputError
from onnx_lrp.explanation import Explanation
from onnx_lrp.feeds import Input, feeds_for, value_info
from onnx_lrp.graph import Array, Graph, ModelSource, read_graph
from onnx_lrp.interpreter import Interpreter, Providers, broken_models_named, choose_providers, is_cuda
from onnx_lrp.labels import Labels, LabelSource
from onnx_lrp.lanes.session import LaneSession, by_sample
from onnx_lrp.lanes.starts import join_targets, spread_seeds
from onnx_lrp.memory import Budget, peak_bytes
from onnx_lrp.plan import Plan, choose_output, choose_sources, make_plan
from onnx_lrp.precision import check_precision, poisoned
from onnx_lrp.recording import recorded
from onnx_lrp.saving import save_model
from onnx_lrp.seeds import CONTRAST, GIVEN, INDEX, VIEW, WEIGHTS, combine, emit_seed, make_seed
from onnx_lrp.streams import explain_many
from onnx_lrp.targets import Targets, make_targets, sample_shape
from onnx_lrp.walker import walk

if TYPE_CHECKING:
    from onnx_lrp.conservation import Conservation
    from onnx_lrp.rules import Rule


class Explainer:
    """A model compiled together with its relevance pass.

    Args:
        model: path, bytes or onnx.ModelProto; or the `graph` of another Explainer.
        composite: key of `COMPOSITES`, a Composite, or a Rule for all layers.
        inputs: names of the explained inputs; default: every float input that reaches the output (for token inputs: their embeddings).
        output: the tensor to explain; default: the first float output, without a final Softmax, LogSoftmax or Sigmoid.
        record: internal tensors whose relevance is wanted too: names of tensors or of nodes with one output, globs ("/layer4/*"),
            "all" (every tensor that relevance flows through), or a list mixing them. They come back in graph order.
        providers: "auto" (CUDA when it is there), "cpu", "cuda", or a list for onnxruntime.
        threads: threads per operator; default: onnxruntime's choice.
        precision: of convolutions and matrix products: "float32", "tf32" or "float16"; see `onnx_lrp.precision`.
        keep_final_activation: explain behind a final Softmax, LogSoftmax or Sigmoid instead of before it.
        labels: the names of the classes, or the path of a text file with one a line, so that targets can be given by name.
        memory_limit: how many bytes a run may take, by an estimate (see `onnx_lrp.memory`); larger batches are split. Default: half of the
            memory that is free at the time; no limit on a GPU, unless its provider has a gpu_mem_limit.
        **composite_options: options of the composite: low=, high=, epsilon=, gamma=, stabilizer=, bias=, layer_map= ...

    Raises:
        ModelError: the model cannot be read.
        UnsupportedOperatorError: nodes on the path have no rule; the error names them.
        CompositeError: unknown composite or option, or a rule that does not fit its node.
        InputError: a name that the model does not have.
    """

    def __init__(
        self,
        model: ModelSource | Graph,
        composite: str | Composite | Rule = "epsilon_plus_flat",
        *,
        inputs: Sequence[str] | None = None,
        output: str | None = None,
        record: str | Sequence[str] = (),
        providers: Providers = "auto",
        threads: int | None = None,
        precision: str = "float32",
        keep_final_activation: bool = False,
        labels: LabelSource | None = None,
        memory_limit: int | None = None,
        **composite_options: Any,
    ):
        self.labels = None if labels is None else Labels(labels)
        self.composite = make_composite(composite, composite_options)
        self.precision = check_precision(precision)
        self._providers = choose_providers(providers, self.precision)
        self._threads = threads
        self._budget = Budget(memory_limit, self._providers)
        with broken_models_named(model):
            self.graph = model if isinstance(model, Graph) else canonicalise(read_graph(model))
            self.output_name, self.final_activation = choose_output(self.graph, output, keep_final_activation=keep_final_activation)
            if self.labels is not None:
                self.labels.require_fit(sample_shape(self.graph.shape(self.output_name)))
            sources = choose_sources(self.graph, inputs, self.output_name)
            self.inputs = [inputs] if isinstance(inputs, str) else list(inputs) if inputs is not None else sources
            """The names of the explained inputs."""
            self.plan: Plan = make_plan(self.graph, self.composite, sources, self.output_name)
            self.tensors = dict(zip(self.inputs, sources, strict=True)) | recorded(self.plan, record)
            """Every explained input and recorded tensor, by the name it was asked for -> the tensor of the graph."""
            self.plan.require_complete()
            self._interpreter, self._names = self._compile()
            self._lane_sessions: dict[tuple[Mask, ...], LaneSession] = {}

    # compiling ------------------------------------------------------------------------------------------------------

    def emitter(self) -> Emitter:
        """An emitter that holds the forward pass."""
        cuda = is_cuda(self._providers)
        return Emitter(self.graph, "cuda" if cuda else "cpu", self.precision, emulated=not cuda)

    def _relevances(self, e: Emitter, seed: str, masks: Iterable[Mask] = ()) -> dict[str, str]:
        """Emits the relevance pass: name asked for -> tensor."""
        found = walk(self.plan, e, seed, list(self.tensors.values()), masks={mask.tensor: mask.input for mask in masks})
        result = {}
        for name, tensor in self.tensors.items():
            result[name] = poisoned(e, self.composite.finish(e, found[tensor].tensor, tensor, self.plan.sources))
        return result

    def model_inputs(self) -> list[onnx.ValueInfoProto]:
        """The model's own inputs, those that the explained output needs."""
        return [value_info(name, kind.dtype, kind.shape) for name, kind in self.graph.inputs_for(self.output_name).items()]

    def seed_inputs(self) -> list[onnx.ValueInfoProto]:
        """What a compiled graph is told of targets and seed."""
        whole = [value_info(VIEW, np.int64, (4,)), value_info(CONTRAST, np.bool_, ())]
        rows = [value_info(INDEX, np.int64, (None,) * 4), value_info(GIVEN, np.float32, (None,) * 4)]
        return [*whole, *rows, value_info(WEIGHTS, np.float32, (None, 5, 1, 1))]

    def _compile(self) -> tuple[Interpreter, dict[str, str]]:
        model, constants, names = self._explaining_graph()
        return self.interpreter(model, constants), names

    def assignment(self) -> Assignment:
        """Which of onnxruntime's execution providers computes which node; prints as text. A session is made for that, nothing runs."""
        model, constants, _ = self._explaining_graph()
        return assign(model, constants, self._providers, self._threads)

    def _explaining_graph(self) -> tuple[onnx.ModelProto, dict[str, Array], dict[str, str]]:
        """The graph for one target per sample, the constants it reads, and name asked for -> tensor."""
        e = self.emitter()
        names = self._relevances(e, emit_seed(e, self.output_name))
        outputs = [onnx.ValueInfoProto(name=tensor) for tensor in dict.fromkeys([self.output_name, *names.values()])]
        return *e.model([*self.model_inputs(), *self.seed_inputs()], outputs), names

    def interpreter(self, model: onnx.ModelProto, constants: dict[str, Array]) -> Interpreter:
        """A session of a graph on the explainer's device."""
        return Interpreter(model, constants, self._providers, self._threads)

    def _lanes(self, masks: tuple[Mask, ...]) -> LaneSession:
        """The graph for several targets or conditions; compiled when first asked for."""
        if masks not in self._lane_sessions:
            self._lane_sessions[masks] = LaneSession(
                self.emitter,
                self.output_name,
                lambda e, seed: self._relevances(e, seed, masks),
                (self.model_inputs(), self.seed_inputs(), [value_info(mask.input, np.float32, mask.shape) for mask in masks]),
                self._providers,
                self._threads,
            )
        return self._lane_sessions[masks]

    def to_onnx(self) -> onnx.ModelProto:
        """The explainer as an ordinary ONNX model.

        Inputs: the model's own (float ones in float32) and "target_relevance", shaped like the explained output: where relevance starts,
        such as the output's value at the class to explain and zero elsewhere. Outputs: the explained output, and "relevance" (of several
        explained inputs or recorded tensors: "relevance:<name>" for each).
        """
        e = Emitter(self.graph, precision=self.precision)
        seed = "target_relevance"
        taken = {seed, "relevance"} & {*self.graph.inputs, *self.graph.constants, *self.graph.producers}
        if taken:
            raise InputError(f"the model has a tensor of its own named {taken.pop()!r}: rename it, the saved explainer needs that name")
        names = self._relevances(e, seed)
        shape = self.graph.shape(self.output_name)
        outputs = [value_info(self.output_name, np.float32, shape)]
        for name, tensor in names.items():
            public = "relevance" if len(names) == 1 else f"relevance:{name}"
            outputs.append(value_info(e.op("Identity", tensor, output=public), np.float32, self.graph.shape(self.tensors[name])))
        model, constants = e.model([*self.model_inputs(), value_info(seed, np.float32, shape)], outputs)
        return embed(model, constants)

    def save(self, path: str | os.PathLike[str]) -> None:
        """Writes `to_onnx()` to a file, whole or not at all. Weights of over 2 GB go to a file beside it (path + ".data")."""
        save_model(path, self.to_onnx())

    def inner(self, tensor: str, composite: Composite) -> Explainer:
        """An explainer of the same output, on the same device, that goes back to an internal tensor only, with another composite."""
        options: dict[str, Any] = {"output": self.output_name, "keep_final_activation": True}
        return Explainer(
            self.graph, composite, inputs=[tensor], providers=self._providers, threads=self._threads, precision=self.precision, **options
        )

    # explaining -----------------------------------------------------------------------------------------------------

    def explain(
        self,
        x: Input,
        target: Any = None,
        seed: Any = None,
        *,
        two_pass: bool = False,
        conditions: Sequence[Condition] | None = None,
        batch_size: BatchSize = "auto",
    ) -> Explanation:
        """Computes the relevance of the explained inputs.

        Args:
            x: the input, (N, ...), or a dict name -> array for models of several inputs: numpy arrays, or arrays of a framework that
                has DLPack (PyTorch, CuPy, JAX ...). The results are then arrays of that framework on the same device, without a copy.
            target: which output to explain: None (each sample's largest), an int, one int per sample, an (N, K) array (K targets per
                sample, over one forward pass), or a tuple for outputs of more than one axis beside the batch. With labels= names may
                stand for ints. Booleans shaped like the output: several outputs at once. A `Region`, or an int array with the class at
                each place, negative for none: part of a dense output such as a segmentation.
            seed: where relevance starts: a name of `onnx_lrp.seeds.SEEDS`, "output" (the output's value at the target; the default),
                "one" (the default of gradient composites), "contrastive" or "softmax_gradient" (for the target and against the other
                classes), or an array shaped like the output, which then stands in for the target too; (N, K, ...) holds K of them.
            two_pass: for the last two: explain the target and the other classes apart, and subtract (see `onnx_lrp.seeds.combine`). The
                account of conservation then has two rows for each target, one for each pass.
            conditions: K dicts, each for one relevance pass over the same forward pass: names of internal tensors -> the channels that
                relevance may go through there, as ints or as a pair (axis, ints); the key "y" (or the output's name) -> a target in place
                of `target`. The relevance is (N, K, ...). See `onnx_lrp.concepts`.
            batch_size: how many samples are run at once: "auto": as many as fit `memory_limit`; an int; None: all. It does not change
                the result, as samples do not depend on each other. A model with a fixed batch runs that many whatever is said here.

        Raises:
            InputError: input, target or seed do not fit the model, or the input holds NaN or infinity.
        """
        check_batch_size(batch_size)
        like = foreign_among(x.values() if isinstance(x, Mapping) else [x])
        feeds, batch = self._feeds(x)
        if two_pass or self.fixed_batch() not in (None, batch):
            feeds = {name: to_numpy(value) for name, value in feeds.items()}
        target, seed = (to_numpy(given) if is_foreign(given) else given for given in (target, seed))
        shape = self.graph.shape(self.output_name)
        known = sample_shape(shape)
        masks: dict[Mask, Array] = {}
        if conditions is None:
            targets = make_targets(target, batch, shape, self.labels)
        else:
            each, masks = read_conditions(conditions, target, self.plan)
            targets = join_targets([make_targets(one, batch, shape, self.labels) for one in each])
        seed = self.composite.seed if seed is None else seed
        targets, seed, count = spread_seeds(targets, seed, batch, None if shape is None else len(shape))
        start = make_seed(seed, two_pass, count, known)
        if known is not None:
            start.check(targets, known, self._activation())
        passes, lanes = len(start.passes), len(start.passes) * (targets.per_sample or 1)
        seeds = start.feeds(targets)
        given = {mask.input: found.repeat(passes, 0).reshape(lanes, 1, *mask.sample_shape) for mask, found in masks.items()}
        try:
            output, values = self._run(feeds | seeds, batch, lanes, given, tuple(masks), batch_size)
        except InputError:
            if targets.form != "position" or start.given is not None:  # of a shape unlike the output's? a plain run tells
                plain = self.explain(x).output.shape[1:]
                targets.check(plain)
                start.check(targets, plain, self._activation())
            raise
        feeds |= seeds
        targets.check(output.shape[1:])
        start.check(targets, output.shape[1:], self._activation())
        self._accountant.check_finite({self.output_name: output, **values}, feeds)
        if lanes > 1 or targets.per_sample is not None:
            values = self._parted(values, batch, lanes, passes, targets)
        if like is not None and not is_foreign(output):
            output, *found = (to_framework(value, like) for value in (output, *values.values()))
            values = dict(zip(values, found, strict=True))
        return Explanation(self, values, output, targets, feeds, conditional=bool(masks))

    def explain_many(
        self, batches: Iterable[Input | tuple[Input, Any]], target: Any = None, seed: Any = None, **how: Any
    ) -> Generator[Explanation]:
        """Explains one batch after the other, and reads the next one in a thread while one is computed.

        Only two batches and one explanation are held, so any number of them can be explained; `onnx_lrp.ExplanationFile` writes them.

        Args:
            batches: inputs as `explain` takes them, or pairs (input, target) as tuples.
            target: of the batches that come without one.
            seed: as in `explain`.
            **how: two_pass=, conditions=, batch_size= as in `explain`.

        Yields:
            The explanation of each batch. Closing the generator stops the thread.

        Raises:
            InputError: as `explain` says. Errors of `batches` are raised where their batch is asked for.
        """
        return explain_many(self, batches, target, seed=seed, **how)

    def _run(
        self, feeds: dict[str, Array], batch: int, lanes: int, given: dict[str, Array], masks: tuple[Mask, ...], batch_size: BatchSize
    ) -> tuple[Array, dict[str, Array]]:
        """The output, and the relevances with a row for each lane of each sample, of as many samples at once as is wanted."""
        names = list(self._names)
        leads = {name: self.leads_with_batch(name) for name in names}

        def one_sample() -> dict[str, Array]:
            return {name: to_numpy(value) for name, value in rows(feeds, batch, slice(0, 1)).items()}

        if lanes == 1 and not masks:
            outputs = [self.output_name, *self._names.values()]

            def run(part: dict[str, Array]) -> list[Array]:
                return self._interpreter.run(outputs, part)

            def cost() -> int:
                return peak_bytes(self._interpreter.model, one_sample())
        else:
            session = self._lanes(masks)

            def run(part: dict[str, Array]) -> list[Array]:
                output, found = session.run(part, given, lanes)
                samples = len(part[INDEX]) // lanes
                return [output, *(by_sample(value, samples) if leads[name] else value for name, value in found.items())]

            def cost() -> int:
                return session.peak_bytes(one_sample(), given, lanes)

        fixed = self.fixed_batch()
        axes = [self._axis_of_samples(self.output_name)]
        for name in names:
            laned = not leads[name] and (lanes > 1 or bool(masks))  # the lanes come first there
            axis = 0 if fixed else self._axis_of_samples(self.tensors[name])
            axes.append(axis if axis is None else axis + laned)
        kind = (lanes, masks, *(value.shape[1:] for value in feeds.values()))
        size = fixed or part_size(batch_size, batch, axes, lambda: self._budget.samples(batch, kind, cost))
        output, *values = run_in_parts(run, feeds, batch, size, axes, fixed=fixed is not None)
        return output, dict(zip(names, values, strict=True))

    def _parted(self, values: dict[str, Array], batch: int, lanes: int, passes: int, targets: Targets) -> dict[str, Array]:
        """Gives each relevance an axis for the targets of a sample, (N, K) ones that is, and makes one of two passes."""
        own = [name for name, value in values.items() if value.shape[:1] == (batch * lanes,) and self.leads_with_batch(name)]
        if passes > 1:
            odd = [name for name in values if name not in own]
            if odd:
                raise InputError(f"two passes need the samples in the first axis, which {odd[0]!r} has not: do not record it")
            values = combine({name: value.reshape(-1, passes, *value.shape[1:]) for name, value in values.items()}, self.inputs)
        if targets.per_sample is None:
            return values
        return {name: value.reshape(batch, -1, *value.shape[1:]) if name in own else value for name, value in values.items()}

    def _activation(self) -> str:
        """The operator that makes the explained output."""
        node = self.graph.producers.get(self.output_name)
        return node.op if node is not None else ""

    def _feeds(self, x: Input) -> tuple[dict[str, Array], int]:
        return feeds_for(x, [value.name for value in self.model_inputs()], self.graph.inputs)

    def fixed_batch(self) -> int | None:
        """The only number of samples that the model takes; None when it takes any."""
        return self.graph.fixed_batch(self.output_name)

    def leads_with_batch(self, name: str) -> bool:
        """Whether the first axis of an explained or recorded tensor holds the samples, alone or folded with another axis (N * heads).

        It does unless the graph says otherwise: by a fixed length there, or by the batch's name at another axis. The results of a model
        with a batch fixed to one always do, as they are runs put one after the other.
        """
        shape = self.graph.shape(self.tensors.get(name, ""))
        if not shape or self.fixed_batch() == 1:
            return True
        if isinstance(shape[0], int):
            return self.fixed_batch() == shape[0]
        batches = self._names_of_batch()
        return shape[0] in batches or not batches & set(shape[1:])

    def _names_of_batch(self) -> set[int | str | None]:
        """What the graph calls the number of samples."""
        return {kind.shape[0] for value in self.model_inputs() if (kind := self.graph.inputs[value.name]).shape} - {None}

    def _axis_of_samples(self, tensor: str) -> int | None:
        """The axis of a tensor that holds the samples, alone or folded with another; None where the graph does not tell."""
        shape = self.graph.shape(tensor)
        if tensor in self.graph.inputs or not shape:
            return 0 if tensor in self.graph.inputs else None
        named = next((axis for axis, length in enumerate(shape) if length in self._names_of_batch()), None)
        return 0 if named is None and not isinstance(shape[0], int) else named

    # the account ----------------------------------------------------------------------------------------------------

    @cached_property
    def _accountant(self) -> Accountant:
        return Accountant(self)

    def account(self, feeds: dict[str, Array]) -> Conservation:
        """The account for the inputs of one explanation; see Explanation.conservation."""
        return self._accountant.account(feeds)


def explain(
    model: ModelSource,
    x: Input,
    target: Any = None,
    seed: Any = None,
    *,
    two_pass: bool = False,
    conditions: Sequence[Condition] | None = None,
    batch_size: BatchSize = "auto",
    **options: Any,
) -> Explanation:
    """Explains in one call: `Explainer(model, **options).explain(x, target, seed, two_pass=two_pass, ...)`."""
    explainer = Explainer(model, **options)
    return explainer.explain(x, target, seed, two_pass=two_pass, conditions=conditions, batch_size=batch_size)


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
