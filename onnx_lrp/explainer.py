"""The face of the package: Explainer and explain()."""

from __future__ import annotations

import os
from collections.abc import Generator, Iterable, Mapping, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any

from onnx_lrp.batches import BatchSize, check_batch_size
from onnx_lrp.device_arrays import count_not_finite, foreign_among, is_foreign, to_framework, to_numpy
from onnx_lrp.errors import InputError
from onnx_lrp.explanation import Explanation
from onnx_lrp.feeds import Input, feeds_for
from onnx_lrp.interpreter import Interpreter, Providers, broken_models_named, choose_providers, is_cuda
from onnx_lrp.labels import Labels, LabelSource
from onnx_lrp.memory import Budget
from onnx_lrp.precision import check_precision
from onnx_lrp.runner import Runner
from onnx_lrp.seeds import make_seed
from onnx_lrp.targets import make_targets, sample_shape

if TYPE_CHECKING:
    import onnx

    from onnx_lrp.accountant import Accountant
    from onnx_lrp.assignment import Assignment
    from onnx_lrp.blueprint import Blueprint
    from onnx_lrp.cache import Entry
    from onnx_lrp.composites import Composite
    from onnx_lrp.concepts import Condition, Mask
    from onnx_lrp.conservation import Conservation
    from onnx_lrp.emitter import Emitter
    from onnx_lrp.graph import Graph, ModelSource
    from onnx_lrp.plan import Plan
    from onnx_lrp.rules import Rule
    from onnx_lrp.signature import Signature
    from onnx_lrp.tensors import Array


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
        cache: keep the compiled explainer on disk, and take it from there the next time: True for the user's cache folder, or a folder.
            See `onnx_lrp.cache`.
        memory_limit: how many bytes a run may take, by an estimate (see `onnx_lrp.memory`); larger batches are split. Default: half of the
            memory that is free at the time; no limit on a GPU, unless its provider has a gpu_mem_limit. A CPU's runs take 512 MiB at most
            in any case, or one sample: larger ones are no faster.
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
        cache: bool | str | os.PathLike[str] = False,
        memory_limit: int | None = None,
        **composite_options: Any,
    ):
        self.labels = None if labels is None else Labels(labels)
        self._model = model
        self._composite, self._composite_options = composite, composite_options
        self.precision = check_precision(precision)
        self._asked: dict[str, Any] = {"inputs": inputs, "output": output, "record": record, "keep_final_activation": keep_final_activation}
        self._asked["precision"] = self.precision
        self._providers = choose_providers(providers, self.precision)
        self._threads = threads
        budget = Budget(memory_limit, self._providers)
        self._entry = self._cache_entry(None if cache is True else cache) if cache is not False else None
        interpreter, self.signature = self._compiled()
        self._runner = Runner(self, interpreter, budget)
        if self.labels is not None:
            self.labels.require_fit(sample_shape(self.signature.output_shape))

    # compiling ------------------------------------------------------------------------------------------------------

    def _cache_entry(self, folder: str | os.PathLike[str] | None) -> Entry | None:
        from onnx_lrp.cache import Cache

        options = self._asked | {"composite": self._composite, "options": self._composite_options, "providers": self._providers}
        return Cache(folder).entry(self._model, options)

    def _compiled(self) -> tuple[Interpreter, Signature]:
        if self._entry is None:
            with broken_models_named(self._model):
                model, constants, signature = self.blueprint.emitted()
                return self.interpreter(model, constants), signature
        found = self._entry.load(self._providers, self._threads)
        if found is None:
            with broken_models_named(self._model):
                found = self._entry.store(self.blueprint.emitted, self._providers, self._threads)
        return found

    @cached_property
    def composite(self) -> Composite:
        """The composite."""
        from onnx_lrp.composites import make_composite

        return make_composite(self._composite, self._composite_options)

    @cached_property
    def blueprint(self) -> Blueprint:
        """The model's graph and its plan. A cached explainer reads the model when they are asked for, not before."""
        from onnx_lrp.blueprint import Blueprint

        if self._entry is not None:
            self._entry.require_same(self._model)
        device = "cuda" if is_cuda(self._providers) else "cpu"
        composite = self.composite
        with broken_models_named(self._model):
            return Blueprint(self._model, composite, **self._asked, device=device)

    @property
    def graph(self) -> Graph:
        """The model's graph, rewritten."""
        return self.blueprint.graph

    @property
    def plan(self) -> Plan:
        """The nodes that relevance goes through, with their rules."""
        return self.blueprint.plan

    @property
    def inputs(self) -> list[str]:
        """The names of the explained inputs."""
        return self.signature.inputs

    @property
    def tensors(self) -> dict[str, str]:
        """Every explained input and recorded tensor, by the name it was asked for -> the tensor of the graph."""
        return self.signature.tensors

    @property
    def output_name(self) -> str:
        """The explained output."""
        return self.signature.output

    @property
    def final_activation(self) -> str | None:
        """The activation behind the explained output that was left off, if one was."""
        return self.signature.final_activation

    def emitter(self) -> Emitter:
        """An emitter that holds the forward pass."""
        return self.blueprint.emitter()

    def model_inputs(self) -> list[onnx.ValueInfoProto]:
        """The model's own inputs, those that the explained output needs."""
        return self.blueprint.model_inputs()

    def seed_inputs(self) -> list[onnx.ValueInfoProto]:
        """What a compiled graph is told of targets and seed."""
        return self.blueprint.seed_inputs()

    def assignment(self) -> Assignment:
        """Which of onnxruntime's execution providers computes which node; prints as text. A session is made for that, nothing runs."""
        from onnx_lrp.assignment import assign

        model, constants, _ = self.blueprint.emitted()
        return assign(model, constants, self._providers, self._threads)

    def interpreter(self, model: onnx.ModelProto, constants: dict[str, Array]) -> Interpreter:
        """A session of a graph on the explainer's device."""
        return Interpreter(model, constants, self._providers, self._threads)

    def to_onnx(self) -> onnx.ModelProto:
        """The explainer as an ordinary ONNX model.

        Inputs: the model's own (float ones in float32) and "target_relevance", shaped like the explained output: where relevance starts,
        such as the output's value at the class to explain and zero elsewhere. Outputs: the explained output, and "relevance" (of several
        explained inputs or recorded tensors: "relevance:<name>" for each).
        """
        from onnx_lrp.emitter import embed

        return embed(*self.blueprint.standalone())

    def save(self, path: str | os.PathLike[str]) -> None:
        """Writes `to_onnx()` to a file, whole or not at all. Weights of over 2 GB go to a file beside it (path + ".data")."""
        from onnx_lrp.saving import save_model

        save_model(path, *self.blueprint.standalone())

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
            batch_size: how many samples are run at once: "auto": as many as fit `memory_limit`, and on a CPU 512 MiB; an int; None: all.
                It does not change the result, as samples do not depend on each other. A model with a fixed batch runs that many whatever is
                said here.

        Raises:
            InputError: input, target or seed do not fit the model, or the input holds NaN or infinity.
        """
        check_batch_size(batch_size)
        like = foreign_among(x.values() if isinstance(x, Mapping) else [x])
        feeds, batch = self._feeds(x)
        if two_pass or self.fixed_batch() not in (None, batch):
            feeds = {name: to_numpy(value) for name, value in feeds.items()}
        target, seed = (to_numpy(given) if is_foreign(given) else given for given in (target, seed))
        from onnx_lrp.lanes.starts import join_targets, spread_seeds

        shape = self.signature.output_shape
        known = sample_shape(shape)
        masks: dict[Mask, Array] = {}
        if conditions is None:
            targets = make_targets(target, batch, shape, self.labels)
        else:
            from onnx_lrp.concepts import read_conditions

            each, masks = read_conditions(conditions, target, self.plan)
            targets = join_targets([make_targets(one, batch, shape, self.labels) for one in each])
        seed = self.signature.seed if seed is None else seed
        targets, seed, count = spread_seeds(targets, seed, batch, None if shape is None else len(shape))
        start = make_seed(seed, two_pass, count, known)
        if known is not None:
            start.check(targets, known, self.signature.output_operator)
        passes, lanes = len(start.passes), len(start.passes) * (targets.per_sample or 1)
        seeds = start.feeds(targets)
        given = {mask.input: found.repeat(passes, 0).reshape(lanes, 1, *mask.sample_shape) for mask, found in masks.items()}
        try:
            output, values = self._runner.run(feeds | seeds, batch, lanes, given, tuple(masks), batch_size)
        except InputError:
            if targets.form != "position" or start.given is not None:  # of a shape unlike the output's? a plain run tells
                plain = self.explain(x).output.shape[1:]
                targets.check(plain)
                start.check(targets, plain, self.signature.output_operator)
            raise
        feeds |= seeds
        targets.check(output.shape[1:])
        start.check(targets, output.shape[1:], self.signature.output_operator)
        results = {self.output_name: output, **values}
        if any(count_not_finite(value) for value in results.values()):
            self._accountant.check_finite(results, feeds)
        if lanes > 1 or targets.per_sample is not None:
            values = self._runner.parted(values, batch, lanes, passes, targets)
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
        from onnx_lrp.streams import explain_many

        return explain_many(self, batches, target, seed=seed, **how)

    def _feeds(self, x: Input) -> tuple[dict[str, Array], int]:
        return feeds_for(x, self.signature.needed, self.signature.model_inputs)

    def fixed_batch(self) -> int | None:
        """The only number of samples that the model takes; None when it takes any."""
        return self.signature.fixed_batch

    def leads_with_batch(self, name: str) -> bool:
        """Whether the first axis of an explained or recorded tensor holds the samples, alone or folded with another axis (N * heads)."""
        return self.signature.batch_leads.get(name, True)

    # the account ----------------------------------------------------------------------------------------------------

    @cached_property
    def _accountant(self) -> Accountant:
        from onnx_lrp.accountant import Accountant

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
    from onnx_lrp.canonical import canonicalise
    from onnx_lrp.composites import make_composite
    from onnx_lrp.graph import read_graph
    from onnx_lrp.plan import choose_output, choose_sources, make_plan

    chosen = make_composite(composite, composite_options)
    graph = canonicalise(read_graph(model))
    name, _ = choose_output(graph, output, keep_final_activation=keep_final_activation)
    return make_plan(graph, chosen, choose_sources(graph, inputs, name), name)
