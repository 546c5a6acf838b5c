"""The account of an explainer's relevance, and the search for the node that made a NaN: both run graphs of their own."""

from __future__ import annotations

import weakref
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx

from onnx_lrp.advice import settings
from onnx_lrp.batches import rows
from onnx_lrp.conservation import Conservation, Entry
from onnx_lrp.device_arrays import count_not_finite, to_numpy
from onnx_lrp.errors import InputError, ModelError
from onnx_lrp.precision import overflow_sums
from onnx_lrp.rules.ledger import KeepingLedger, total_of
from onnx_lrp.seeds import INDEX, WHOLE, emit_seed
from onnx_lrp.walker import walk

if TYPE_CHECKING:
    from onnx_lrp.explainer import Explainer
    from onnx_lrp.graph import Array
    from onnx_lrp.interpreter import Interpreter


class Accountant:
    """Keeps the account of one explainer; its graph is compiled when first asked for."""

    def __init__(self, explainer: Explainer):
        self._explainer: Explainer = weakref.proxy(explainer)  # it holds this: no cycle may keep its weights

    @cached_property
    def _books(self) -> tuple[Interpreter, dict[str, dict[str, list[str]]], list[str]]:
        """The graph that keeps the account: for each node and category the tensors that hold its sums."""
        explainer = self._explainer
        e = explainer.emitter()
        seed = emit_seed(e, explainer.output_name)
        ledgers: dict[str, KeepingLedger] = {}

        def ledger_for(name: str) -> KeepingLedger:
            ledgers[name] = KeepingLedger(e)
            return ledgers[name]

        found = walk(explainer.plan, e, seed, explainer.plan.sources, ledger_for)
        totals = [total_of(e, seed), *(total_of(e, found[tensor].tensor) for tensor in explainer.plan.sources)]
        sums = {name: ledger.sums for name, ledger in ledgers.items()}
        outputs = dict.fromkeys([*totals, *(t for kept in sums.values() for tensors in kept.values() for t in tensors)])
        inputs = [*explainer.model_inputs(), *explainer.seed_inputs()]
        model, constants = e.model(inputs, [onnx.ValueInfoProto(name=name) for name in outputs])
        return explainer.interpreter(model, constants), sums, totals

    def _one_by_one(self, interpreter: Interpreter, outputs: list[str], feeds: dict[str, Array]) -> list[Array]:
        """Runs each target of each sample alone (in a model with a fixed batch: repeated to fill it).

        Each output, a number, becomes one per run.
        """
        count, copies = len(feeds[INDEX]), self._explainer.fixed_batch() or 1
        results = []
        for row in range(count):
            part = {name: value if name in WHOLE else value[np.full(copies, row * len(value) // count)] for name, value in feeds.items()}
            results.append([float(value) / copies for value in interpreter.run(outputs, part)])
        return list(np.array(results, np.float64).T)

    def account(self, feeds: dict[str, Any]) -> Conservation:
        """The account for the inputs of one explanation; see Explanation.conservation.

        Raises:
            InputError: a node takes samples together, and there are several: the account runs them one by one.
        """
        mixes = self._explainer.signature.mixes
        if mixes and len(feeds[INDEX]) > 1:
            raise InputError(f"there is no account of several samples: it runs them one by one, and node {mixes!r} takes them together")
        feeds = {name: to_numpy(value) for name, value in feeds.items()}
        interpreter, sums, totals = self._books
        names = list(dict.fromkeys([*totals, *(t for kept in sums.values() for tensors in kept.values() for t in tensors)]))
        values = dict(zip(names, self._one_by_one(interpreter, names, feeds), strict=True))
        seed = values[totals[0]]
        zero = np.zeros_like(seed)
        steps = self._explainer.plan.steps
        conserving = all(step.rule.conserving for step in steps if step.rule is not None)
        entries = []
        for step in reversed(steps):
            if step.view.name not in sums:
                continue
            kept = {category: sum((values[t] for t in tensors), zero) for category, tensors in sums[step.view.name].items()}
            received, passed = kept.pop("received", zero), kept.pop("passed", zero)
            advice = settings(step.rule, step.view) if step.rule is not None else {}
            entries.append(Entry(step.view.name, step.view.op, str(step.rule), received, passed, kept, advice))
        inputs = sum((values[t] for t in totals[1:]), zero)
        return Conservation(seed, inputs, entries, conserving)

    def check_finite(self, values: dict[str, Any], feeds: dict[str, Any]) -> None:
        """Raises ModelError for NaN or infinity in a result, naming the first node on the way back that made it."""
        wrong = {name: count_not_finite(value) for name, value in values.items()}
        name = next((name for name, count in wrong.items() if count), None)
        if name is not None:
            raise ModelError(f"{name!r} has {wrong[name]} values that are NaN or infinite, {self._first_overflow(feeds)}")

    def _first_overflow(self, feeds: dict[str, Any]) -> str:
        """Where the first value that is not finite comes from: a node of the forward pass, else a rule on the way back."""
        explainer = self._explainer
        feeds = {name: to_numpy(value) for name, value in feeds.items()}
        graph = explainer.graph
        needed = graph.needed_for([explainer.output_name])
        nodes = [node for node in needed if node.outputs[0] and graph.type_of(node.outputs[0]).is_float]
        outputs = [node.outputs[0] for node in nodes]
        model, constants = explainer.emitter().model(explainer.model_inputs(), [onnx.ValueInfoProto(name=name) for name in outputs])
        interpreter = explainer.interpreter(model, constants)
        inputs = {value.name: feeds[value.name] for value in explainer.model_inputs()}
        batch = len(next(iter(inputs.values())))
        for sample in range(batch):  # all tensors of all samples at once may not fit the memory
            chosen = np.full(explainer.fixed_batch() or 1, sample)
            values = interpreter.run(outputs, rows(inputs, batch, chosen))
            for node, value in zip(nodes, values, strict=True):
                if not np.isfinite(value).all():
                    half = ", where float16 overflows: take precision 'float32' or 'tf32'" if explainer.precision == "float16" else ""
                    return f"first at node {node.name!r} ({node.op}) in the forward pass{half}"
        halved = self._first_halved(feeds)
        if halved is not None:
            return f"first at node {halved!r}, where float16 overflows: take precision 'float32' or 'tf32'"
        for entry in self.account(feeds).entries:
            if np.isfinite(entry.received).all() and not np.isfinite(entry.passed).all():
                return f"first at node {entry.node!r} ({entry.operator}) under rule {entry.rule}: is a stabiliser too small?"
        return "in the seed"

    def _first_halved(self, feeds: dict[str, Array]) -> str | None:
        """The first node on the way back for which a product in float16 overflows; None without float16."""
        explainer = self._explainer
        e = explainer.emitter()
        forward = len(e.halved)
        walk(explainer.plan, e, emit_seed(e, explainer.output_name), explainer.plan.sources)
        sums = dict(list(overflow_sums(e).items())[forward:])
        if not sums:
            return None
        inputs = [*explainer.model_inputs(), *explainer.seed_inputs()]
        model, constants = e.model(inputs, [onnx.ValueInfoProto(name=name) for name in sums])
        values = self._one_by_one(explainer.interpreter(model, constants), list(sums), feeds)
        return next((node for node, value in zip(sums.values(), values, strict=True) if not np.isfinite(value).all()), None)
