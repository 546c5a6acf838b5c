"""Gradient cases: small models, and their vector-Jacobian products by central differences in float64."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnx
from models import Shape, build, relative_error, run
from onnx import NodeProto
from onnx.reference import ReferenceEvaluator

import onnx_lrp

STEP = 1e-5
TOLERANCE = 1e-5

Arrays = dict[str, np.ndarray]


@dataclass
class Case:
    """One model whose gradient is checked."""

    name: str
    op: str
    """The entry of the operator table that the case is for, e.g. "Conv" or "onnx_lrp.Swish"; the plan must hold it."""
    nodes: NodeProto | Sequence[NodeProto]
    inputs: dict[str, Any]
    """Name -> shape (filled with normal random numbers) or array; integer arrays are not explained."""
    constants: dict[str, Any] = field(default_factory=dict)
    """Name -> array, or shape as a tuple."""
    opset: int = 18
    function: Callable[..., np.ndarray] | None = None
    """The forward computation in NumPy, where onnx.reference lacks the operator or has it wrong."""
    free: Sequence[int] | None = (0,)
    """The axes that also run with symbolic lengths; None for those of fixed shape only."""
    canonical: bool = True
    """Whether the model is rewritten first; some operators of the table do not survive that."""

    @property
    def key(self) -> tuple[str, str]:
        domain, _, name = self.op.rpartition(".")
        return domain, name

    def _random(self) -> np.random.Generator:
        return np.random.default_rng(zlib.crc32(f"{self.op}/{self.name}".encode()))

    def arrays(self) -> tuple[Arrays, Arrays]:
        """The inputs and constants in float64, with values that float32 has too."""
        rng = self._random()
        return tuple({name: _filled(value, rng) for name, value in given.items()} for given in (self.inputs, self.constants))

    def model(self, symbolic: Sequence[int] | None = (), dtype: Any = np.float32) -> onnx.ModelProto:
        """The model, with names for the lengths of these axes of each input; None leaves the float inputs' ranks open too."""
        inputs, constants = self.arrays()
        shapes: dict[str, Shape] = {
            name: None
            if symbolic is None and value.dtype.kind == "f"
            else [f"{name}{axis}" if axis in (symbolic or ()) else length for axis, length in enumerate(value.shape)]
            for name, value in inputs.items()
        }
        types = {name: value.dtype for name, value in inputs.items() if value.dtype.kind != "f"}
        nodes = [self.nodes] if isinstance(self.nodes, NodeProto) else self.nodes
        return build(nodes, shapes, constants=constants, opset=self.opset, dtype=dtype, types=types)


def _filled(value: Any, rng: np.random.Generator) -> np.ndarray:
    if isinstance(value, tuple):
        value = rng.standard_normal(value)
    array = np.asarray(value)
    return array.astype(np.float32).astype(np.float64) if array.dtype.kind == "f" else array


@dataclass
class Expected:
    """The oracle's answer."""

    inputs: Arrays
    output: np.ndarray
    seed: np.ndarray
    gradients: Arrays


def expected(case: Case) -> Expected:
    """Central differences for every element of every float input."""
    inputs, constants = case.arrays()
    if case.function is not None:
        function = case.function

        def forward(feeds: Arrays) -> np.ndarray:
            return function(**feeds, **constants)

    else:
        evaluator = ReferenceEvaluator(case.model(dtype=np.float64))

        def forward(feeds: Arrays) -> np.ndarray:
            return evaluator.run(None, feeds)[0]

    output = forward(inputs)
    assert output.dtype == np.float64, "the oracle works in float64"
    seed = np.random.default_rng(7).standard_normal(output.shape).astype(np.float32).astype(np.float64)
    gradients = {}
    for name, value in inputs.items():
        if value.dtype.kind != "f":
            continue
        gradient = np.zeros_like(value)
        for position in np.ndindex(value.shape):
            above, below = value.copy(), value.copy()
            above[position] += STEP
            below[position] -= STEP
            difference = forward({**inputs, name: above}) - forward({**inputs, name: below})
            gradient[position] = (difference * seed).sum() / (2 * STEP)
        gradients[name] = gradient
    return Expected(inputs, output, seed, gradients)


def check(case: Case, wanted: Expected, symbolic: Sequence[int] | None = (), *, same_plan: bool = True) -> None:
    """Compares output and relevance of the compiled model to the oracle's; `same_plan`: the operator of the case must be on the path."""
    explainer = onnx_lrp.Explainer(case.model(symbolic), "gradient", keep_final_activation=True, providers="cpu", threads=1)
    steps = {(step.view.node.domain, step.view.op) for step in explainer.plan.steps}
    assert case.key in steps or not same_plan, f"the plan has no {case.op}: {steps}"
    feeds = {name: value.astype(np.float32) if value.dtype.kind == "f" else value for name, value in wanted.inputs.items()}
    assert set(explainer.inputs) == set(wanted.gradients)
    lengths = {value.shape[:1] for value in [*feeds.values(), wanted.seed]}
    if len(lengths) == 1 and () not in lengths:
        explanation = explainer.explain(feeds, seed=wanted.seed)
        output, relevances = explanation.output, explanation.relevances
    else:  # no batch axis: the exported graph runs all the same
        model = explainer.to_onnx()
        feeds["target_relevance"] = wanted.seed.astype(np.float32)
        names = [value.name for value in model.graph.output]
        output, *values = run(model, feeds, names)
        relevances = dict(zip(explainer.inputs, values, strict=True))
    assert relative_error(output, wanted.output) < TOLERANCE, "the oracle computes another function"
    for name, gradient in wanted.gradients.items():
        assert relevances[name].shape == gradient.shape
        error = relative_error(relevances[name], gradient)
        assert error < TOLERANCE, f"gradient of {name}: relative error {error:.2e}\n{relevances[name]}\n{gradient}"
