"""Fitting patterns to a model and data, batch by batch."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Final

import numpy as np
import onnx

from onnx_lrp.canonical import canonicalise
from onnx_lrp.emitter import Emitter
from onnx_lrp.errors import InputError, ModelError, suggest
from onnx_lrp.feeds import Input, feeds_for, value_info
from onnx_lrp.graph import Array, Graph, ModelSource, read_graph
from onnx_lrp.interpreter import Interpreter, Providers, broken_models_named, choose_providers, is_cuda
from onnx_lrp.patterns.moments import Moments, Statistics, emit_statistics
from onnx_lrp.patterns.store import Patterns
from onnx_lrp.plan import choose_output, choose_sources, make_plan
from onnx_lrp.progress import progress_bar

ESTIMATORS: Final = ("all", "positive")
BIASES: Final = ("neuron", "ignore")


def fit_patterns(
    model: ModelSource,
    data: Input | Iterable[Input],
    *,
    estimator: str = "positive",
    bias: str = "neuron",
    batch_size: int = 32,
    inputs: Sequence[str] | None = None,
    output: str | None = None,
    providers: Providers = "auto",
    threads: int | None = None,
) -> Patterns:
    """Finds for each output y of each convolution and dense layer the pattern a of its signal: a * y is what y sees in its input x.

    Kindermans et al. 2018, "Learning how to explain neural networks", eqs. 4 and 8: with expectations E over all positions of the output
    and R over some of them, a = (R[x y] - R[x] E[y]) / (R[y y] - R[y] E[y]).

    Args:
        model: path, bytes or onnx.ModelProto.
        data: (N, ...), a dict name -> array, or an iterable of these; they are passed on in batches of `batch_size`, whatever theirs is.
        estimator: "all" takes R over all positions (S_a, for linear neurons); "positive", for each output, over those where it is positive
            (S_a+-, for neurons with a ReLU).
        bias: "neuron": biases are constant inputs, so that y in the denominator includes them, and it is never negative. "ignore": the
            denominator is w^T (R[x y] - R[x] E[y]), as in iNNvestigate and TorchLRP. It is the same without bias or over all positions;
            else it may come near to zero, and the pattern grows without bound.
        batch_size: how many samples are run at once; a model with a fixed batch has its own.
        inputs: names of the explained inputs, as in Explainer.
        output: the tensor to be explained, as in Explainer; layers behind it get no pattern.
        providers: as in Explainer.
        threads: as in Explainer.

    Raises:
        ModelError: the model cannot be read, or has no convolution or dense layer on the way from input to output.
        UnsupportedOperatorError: a node on that way is not supported.
        InputError: the data do not fit the model, or there are none; an unknown option.
    """
    options: dict[str, Any] = {"inputs": inputs, "output": output, "batch_size": batch_size, "providers": providers, "threads": threads}
    fit = PatternFit(model, estimator, bias, **options)
    whole = isinstance(data, Mapping) or hasattr(data, "__array__")
    given: Iterable[Input] = [data] if whole else data
    count = max((len(value) for value in _arrays(given[0], "").values()), default=0) if whole else None  # type: ignore[index]
    with progress_bar(count) as advance:
        for batch in fit.batches(given):
            fit.update(batch)
            advance(len(next(iter(batch.values()))))
    return fit.patterns()


class PatternFit:
    """Patterns in the making: `update` with batches, then ask for the `patterns`. Arguments and errors as in `fit_patterns`."""

    def __init__(
        self,
        model: ModelSource,
        estimator: str = "positive",
        bias: str = "neuron",
        *,
        inputs: Sequence[str] | None = None,
        output: str | None = None,
        batch_size: int = 32,
        providers: Providers = "auto",
        threads: int | None = None,
    ):
        if estimator not in ESTIMATORS:
            raise InputError(f"unknown estimator {estimator!r}{suggest(str(estimator), ESTIMATORS)}")
        if bias not in BIASES:
            raise InputError(f"bias is 'neuron' or 'ignore', not {bias!r}")
        if isinstance(batch_size, bool) or not isinstance(batch_size, int) or batch_size < 1:
            raise InputError(f"batch_size is an int >= 1, not {batch_size!r}")
        self.estimator = estimator
        self.bias = bias
        self.samples = 0
        """How many samples were taken in."""
        chosen = choose_providers(providers)
        with broken_models_named(model):
            self.graph: Graph = canonicalise(read_graph(model))
            self.output_name, _ = choose_output(self.graph, output)
            from onnx_lrp.composites.gradients import GradientComposite  # composites import this package

            plan = make_plan(self.graph, GradientComposite(), choose_sources(self.graph, inputs, self.output_name), self.output_name)
            plan.require_complete()
            layers = [step.view.node for step in plan.steps if step.view.kind in ("convolution", "dense")]
            if not layers:
                raise ModelError("the model has no convolution and no dense layer that patterns could be fitted to")
            self._moments = {node.name: Moments(node, self.graph) for node in layers}
            e = Emitter(self.graph, "cuda" if is_cuda(chosen) else "cpu")
            self._tensors = {node.name: emit_statistics(e, node, positive=estimator == "positive") for node in layers}
            self._interpreter = self._compile(e, chosen, threads)
        self.batch_size = self._fixed_batch() or batch_size

    @property
    def input_names(self) -> list[str]:
        """The inputs that the explained output depends on."""
        return list(self.graph.inputs_for(self.output_name))

    def _compile(self, e: Emitter, providers: list[Any], threads: int | None) -> Interpreter:
        types = self.graph.inputs
        inputs = [value_info(name, types[name].dtype, types[name].shape) for name in self.input_names]
        names = dict.fromkeys(name for tensors in self._tensors.values() for name in tensors)
        model, constants = e.model(inputs, [onnx.ValueInfoProto(name=name) for name in names], name="patterns")
        return Interpreter(model, constants, providers, threads)

    def _fixed_batch(self) -> int | None:
        return self.graph.fixed_batch(self.output_name)

    def batches(self, data: Iterable[Input]) -> Iterator[dict[str, Array]]:
        """The samples of all data in batches of the right size.

        Raises:
            InputError: the model takes a fixed number of samples at a time, and some are left over.
        """
        for batch in rebatched((_arrays(given, self.input_names[0]) for given in data), self.batch_size):
            size = len(next(iter(batch.values())))
            if self._fixed_batch() not in (None, size):
                raise InputError(f"the model takes {self.batch_size} samples at a time, and {size} are left over: leave them out")
            yield batch

    def update(self, batch: Input) -> None:
        """Takes in one batch.

        Raises:
            InputError: the batch does not fit the model, or makes values that are NaN or infinite.
        """
        feeds, count = feeds_for(batch, self.input_names, self.graph.inputs)
        names = list(dict.fromkeys(name for tensors in self._tensors.values() for name in tensors))
        values = dict(zip(names, self._interpreter.run(names, feeds), strict=True))
        for node, tensors in self._tensors.items():
            if not np.isfinite(values[tensors.products]).all():
                raise InputError(f"the inputs and outputs of node {node!r} have values that are NaN, infinite or too large")
        for node, tensors in self._tensors.items():
            self._moments[node].update(Statistics(*(values[name] for name in tensors)))
        self.samples += count

    def patterns(self) -> Patterns:
        """The patterns for the samples taken in so far.

        Raises:
            InputError: there were none.
        """
        if not self.samples:
            raise InputError("there are no samples to fit patterns to")
        found = {name: moments.pattern(self.bias) for name, moments in self._moments.items()}
        arrays, totals = ({name: pair[index] for name, pair in found.items()} for index in (0, 1))
        return Patterns(arrays, totals, estimator=self.estimator, bias=self.bias, samples=self.samples)


def _arrays(given: Input, name: str) -> dict[str, Array]:
    """One item of the data as arrays with a batch axis; not yet checked against the model."""
    arrays = {key: _array(key, value) for key, value in given.items()} if isinstance(given, Mapping) else {name: _array(name, given)}
    counts = {len(value) for value in arrays.values()}
    if len(counts) > 1:
        raise InputError(f"the inputs have different numbers of samples: {sorted(counts)}")
    return arrays


def _array(name: str, value: Any) -> Array:
    try:
        array: Array = np.asanyarray(value)  # a memory-mapped file stays one
    except (TypeError, ValueError):
        raise InputError(f"input {name!r} is no array") from None
    if array.ndim == 0:
        raise InputError(f"input {name!r} has no batch axis")
    return array


def rebatched(items: Iterable[dict[str, Array]], size: int) -> Iterator[dict[str, Array]]:
    """Cuts and joins what comes into batches of `size` samples; samples of different names or shapes are not joined."""
    held: list[dict[str, Array]] = []
    count = 0

    def joined() -> dict[str, Array]:
        batch = {name: np.concatenate([part[name] for part in held]) for name in held[0]}
        held.clear()
        return batch

    for item in items:
        if held and _form(held[0]) != _form(item):
            yield joined()
            count = 0
        length = len(next(iter(item.values()), ()))
        start = 0
        while start < length:
            taken = min(size - count, length - start)
            held.append({name: value[start : start + taken] for name, value in item.items()})
            start, count = start + taken, count + taken
            if count == size:
                yield joined()
                count = 0
    if held:
        yield joined()


def _form(item: dict[str, Array]) -> list[tuple[str, tuple[int, ...]]]:
    return [(name, value.shape[1:]) for name, value in item.items()]
