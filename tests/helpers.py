"""Small ONNX models, the exact maps of their layers in float64, and the formulas of the rules written out in NumPy."""

from __future__ import annotations

import itertools
import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from math import prod
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from onnx import helper, numpy_helper
from onnx.reference import ReferenceEvaluator

Array = npt.NDArray[Any]
Nodes = Sequence[onnx.NodeProto]

# models ---------------------------------------------------------------------------------------------------------------


def node(op: str, inputs: str, outputs: str = "y", **attributes: Any) -> onnx.NodeProto:
    """A node; inputs and outputs in one string each, "-" for an input that is left out."""
    given = ["" if name == "-" else name for name in inputs.split()]
    return helper.make_node(op, given, outputs.split(), name=f"layer_{op}", **attributes)


def make_model(
    nodes: Nodes,
    constants: Mapping[str, Any],
    shape: Sequence[int],
    *,
    free: Sequence[int] = (),
    batch: int | None = None,
    double: bool = False,
    output: str = "y",
) -> onnx.ModelProto:
    """A model with the input x and one output.

    Args:
        nodes: the nodes, in order.
        constants: the initialisers; floats take the model's type, but "scales" stay float32.
        shape: the shape of one sample.
        free: axes of a sample whose length the model does not tell.
        batch: the length of the batch axis; None leaves it open.
        double: float64 instead of float32.
        output: the tensor that the model returns.
    """
    kind, dtype = (onnx.TensorProto.DOUBLE, np.float64) if double else (onnx.TensorProto.FLOAT, np.float32)
    dims = [batch or "N", *(f"d{axis}" if axis in free else length for axis, length in enumerate(shape))]
    initialisers = []
    for name, value in constants.items():
        array = np.asarray(value)
        typed = array.astype(dtype) if array.dtype.kind == "f" and name != "scales" else array
        initialisers.append(numpy_helper.from_array(typed, name))
    values = [helper.make_tensor_value_info("x", kind, dims)], [helper.make_tensor_value_info(output, kind, None)]
    graph = helper.make_graph(list(nodes), "layer", *values, initialisers)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8)


def normal(name: str, *shape: int) -> Array:
    """Normal numbers in float32, rounded to multiples of 1/64; the name is the seed.

    So rounded, small layers compute their outputs in float32 without error, and an output near zero, which is divided by, is exact, too.
    """
    return (np.random.default_rng(zlib.crc32(name.encode())).normal(size=shape) * 64).round().astype(np.float32) / np.float32(64)


def jacobian(model: onnx.ModelProto, shape: Sequence[int]) -> tuple[Array, Array, tuple[int, ...]]:
    """The map of an affine model in float64, found by running it on zero and on the unit vectors (as a batch).

    Args:
        model: a model of float64 that treats its samples one by one.
        shape: the shape of one sample.

    Returns:
        The Jacobian (outputs, inputs), the value at zero (outputs,), and the shape of one output sample.
    """
    size = prod(shape)
    points = np.concatenate([np.zeros((1, size)), np.eye(size)]).reshape(size + 1, *shape)
    y = np.asarray(ReferenceEvaluator(model).run(None, {"x": points})[0])
    flat = y.reshape(size + 1, -1)
    return (flat[1:] - flat[0]).T, flat[0], y.shape[1:]


def windows(size: int, kernel: int, stride: int, dilation: int, pads: tuple[int, int], *, ceil: bool) -> list[list[int]]:
    """For each window of a pool along one axis the positions that it covers; negative ones and those from `size` on are padding.

    With `ceil` a last window may hang over the end, if it starts within the input or the padding before it.
    """
    span = size + sum(pads) - dilation * (kernel - 1) - 1
    count = (-(-span // stride) if ceil else span // stride) + 1
    if ceil and (count - 1) * stride >= size + pads[0]:
        count -= 1
    return [[start * stride - pads[0] + step * dilation for step in range(kernel)] for start in range(count)]


def pool_windows(shape: Sequence[int], attributes: Mapping[str, Any]) -> list[list[list[int]]]:
    """The windows of a pool along each spatial axis, from the attributes of its node."""
    kernel = attributes["kernel_shape"]
    n = len(kernel)
    strides, dilations = attributes.get("strides", [1] * n), attributes.get("dilations", [1] * n)
    pads, ceil = attributes.get("pads", [0] * 2 * n), bool(attributes.get("ceil_mode", 0))
    return [windows(shape[1 + i], kernel[i], strides[i], dilations[i], (pads[i], pads[i + n]), ceil=ceil) for i in range(n)]


def average_pool_matrix(shape: Sequence[int], attributes: Mapping[str, Any]) -> tuple[Array, tuple[int, ...]]:
    """The Jacobian of AveragePool by plain loops: with ceil_mode onnx.reference pads at the beginning, too.

    The divisor counts the elements in the window; with count_include_pad also the padding, but not what lies beyond it.
    """
    axes = pool_windows(shape, attributes)
    out_shape = (shape[0], *(len(axis) for axis in axes))
    matrix = np.zeros((*out_shape, *shape))
    ends = [shape[1 + i] + attributes.get("pads", [0] * 2 * len(axes))[i + len(axes)] for i in range(len(axes))]
    for position in itertools.product(*(range(len(axis)) for axis in axes)):
        covered = list(itertools.product(*(axis[i] for axis, i in zip(axes, position, strict=True))))
        real = [point for point in covered if all(0 <= i < size for i, size in zip(point, shape[1:], strict=True))]
        padded = [point for point in covered if all(i < end for i, end in zip(point, ends, strict=True))]
        count = len(padded) if attributes.get("count_include_pad", 0) else len(real)
        for channel, point in itertools.product(range(shape[0]), real):
            matrix[(channel, *position, channel, *point)] = 1 / count
    return matrix.reshape(prod(out_shape), prod(shape)), out_shape


def transposed_matrix(shape: Sequence[int], weights: Array, attributes: Mapping[str, Any]) -> tuple[Array, tuple[int, ...]]:
    """The Jacobian of ConvTranspose by plain loops: onnx.reference fails on groups and on output_shape.

    Input i reaches output i * stride + k * dilation - pad through the kernel's position k.
    """
    n, group = weights.ndim - 2, attributes.get("group", 1)
    strides, dilations = attributes.get("strides", [1] * n), attributes.get("dilations", [1] * n)
    pads = attributes.get("pads", [0] * 2 * n)
    full = [strides[i] * (shape[1 + i] - 1) + dilations[i] * (weights.shape[2 + i] - 1) + 1 for i in range(n)]
    full = [size + more for size, more in zip(full, attributes.get("output_padding", [0] * n), strict=True)]
    sizes = [full[i] - pads[i] - pads[i + n] for i in range(n)]
    if "output_shape" in attributes or "auto_pad" in attributes:
        sizes = attributes.get("output_shape", [length * stride for length, stride in zip(shape[1:], strides, strict=True)])
        upper = attributes.get("auto_pad") == b"SAME_UPPER"
        pads = [(size - wanted + (not upper)) // 2 for size, wanted in zip(full, sizes, strict=True)]
    outputs, inputs = weights.shape[1] * group, shape[0] // group
    matrix = np.zeros((outputs, *sizes, *shape))
    spatial = [range(length) for length in (*shape[1:], *weights.shape[2:])]
    for i, o, *place in itertools.product(range(shape[0]), range(weights.shape[1]), *spatial):
        start, k = place[:n], place[n:]
        end = [start[d] * strides[d] + k[d] * dilations[d] - pads[d] for d in range(n)]
        if all(0 <= position < size for position, size in zip(end, sizes, strict=True)):
            matrix[(i // inputs * weights.shape[1] + o, *end, i, *start)] += weights[(i, o, *k)]
    return matrix.reshape(-1, prod(shape)), (outputs, *sizes)


# layers ---------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Affine:
    """y = J x + b for flat samples, and J with all weights one."""

    J: Array
    ones: Array
    b: Array
    out_shape: tuple[int, ...]


@dataclass(frozen=True)
class Layer:
    """An affine layer from "x" to "y"; its weights, if it has any, are the constant "W"."""

    shape: tuple[int, ...]
    """Of one sample."""
    nodes: Nodes
    constants: Mapping[str, Any] = field(default_factory=dict)
    free: tuple[int, ...] = ()
    """Axes of a sample that the model leaves open."""

    @property
    def is_layer(self) -> bool:
        """A convolution or dense layer."""
        return any(n.op_type in ("Conv", "ConvTranspose", "Gemm", "MatMul") for n in self.nodes)

    @property
    def is_exact(self) -> bool:
        """Whether float32 holds the layer's weights and biases, and so its outputs, without error."""
        return all(np.array_equal(values, (values * 4096).round() / 4096) for values in (self.affine.J, self.affine.b))

    @cached_property
    def affine(self) -> Affine:
        J, b, shape = self._map(self.constants)
        ones = self.part(np.ones_like) if "W" in self.constants else J
        return Affine(J, (ones != 0).astype(float), b, shape)

    def _map(self, constants: Mapping[str, Any]) -> tuple[Array, Array, tuple[int, ...]]:
        op, attributes = self.nodes[0].op_type, {a.name: helper.get_attribute_value(a) for a in self.nodes[0].attribute}
        if op == "AveragePool":
            J, shape = average_pool_matrix(self.shape, attributes)
            return J, np.zeros(len(J)), shape
        if op == "ConvTranspose":
            J, shape = transposed_matrix(self.shape, constants["W"], attributes)
            return J, np.repeat(constants.get("b", np.zeros(shape[0])), prod(shape[1:])).astype(float), shape
        return jacobian(make_model(self.nodes, constants, self.shape, double=True), self.shape)

    def part(self, function: Callable[[Array], Array]) -> Array:
        """The Jacobian of the layer with a function of its weights for weights."""
        return self._map({**self.constants, "W": function(self.constants["W"])})[0]


def with_weights(layer: Layer, change: Callable[[Array], Array]) -> Layer:
    """The layer with a function of its weights for weights."""
    return replace(layer, constants={**layer.constants, "W": change(layer.constants["W"])})


# formulas -------------------------------------------------------------------------------------------------------------


def stabilize(z: Array, epsilon: float, mode: str = "plain") -> Array:
    """stab(z); with epsilon = 0 what is divided by zero becomes zero."""
    sign = np.where(z >= 0, 1.0, -1.0)
    if epsilon == 0:
        return np.where(z == 0, np.inf, z)
    if mode == "clip":
        return sign * np.maximum(np.abs(z), epsilon)
    scale = np.maximum(np.sqrt((z**2).mean(1, keepdims=True)), 1e-24) if mode == "scaled" else 1.0
    return z + epsilon * scale * sign


@dataclass(frozen=True)
class Oracle:
    """The rules' formulas on one affine layer, in float64; x (N, inputs), R (N, outputs).

    An input and an output of the layers here are joined by one weight at most, so J(W+) is J+, and J(W^2) is J^2.
    """

    affine: Affine
    x: Array
    R: Array
    epsilon: float = 1e-6
    mode: str = "plain"
    bias: str = "absorb"
    kept: dict[str, Array] = field(default_factory=dict, compare=False)
    """Category -> what went there of the relevance of each sample, as far as `share` was called."""

    @cached_property
    def parts(self) -> tuple[Array, ...]:
        """J, J+, J-, b, b+, b-, x+, x-."""
        J, b, x = self.affine.J, self.affine.b * (self.bias != "ignore"), self.x
        return J, np.maximum(J, 0), np.minimum(J, 0), b, np.maximum(b, 0), np.minimum(b, 0), np.maximum(x, 0), np.minimum(x, 0)

    def share(self, terms: Sequence[tuple[Array, Array]], b: Array | float = 0.0, R: Array | None = None, *, drop: bool = False) -> Array:
        """s = R / stab(sum of J_k x_k, + b); the sum of x_k * J_k^T s.

        With bias = "redistribute", s = 0 where z is lost in rounding, and all that this leaves of R is spread evenly, with `drop` but
        where z = 0. What is not passed on is added to `kept`, sample by sample.
        """
        R = self.R if R is None else R
        z = sum((source @ J.T for source, J in terms), np.zeros_like(self.R)) + b
        size = sum((np.abs(source) @ np.abs(J).T for source, J in terms), np.zeros_like(self.R)) + np.abs(b)
        stabilized, fed = stabilize(z, self.epsilon, self.mode), self.affine.ones.sum(1)
        s = R / stabilized
        if self.bias == "redistribute":
            s = np.where(np.abs(z) <= 1e-4 * size, 0.0, s)
        result = sum((source * (s @ J) for source, J in terms), np.zeros_like(self.x))
        empty = np.where(z == 0, R, 0.0)
        if self.bias == "redistribute":
            rest = R - s * (z - b) - (empty if drop else 0.0)
            result = result + (rest / np.where(fed == 0, 1, fed)) @ self.affine.ones
            self._keep("dropped", (empty if drop else 0.0) + rest * (fed == 0))
        else:
            self._keep("bias", b * s)
            self._keep("stabilizer", np.where((z == 0) | np.isinf(stabilized), 0.0, R - z * s))
            self._keep("dropped", empty)
        return result

    def _keep(self, category: str, what: Array | float) -> None:
        total = np.broadcast_to(what, self.R.shape).sum(1)
        self.kept[category] = self.kept.get(category, np.zeros(len(total))) + total

    def gradient(self) -> Array:
        return self.R @ self.affine.J

    def epsilon_rule(self) -> Array:
        J, _, _, b, *_ = self.parts
        return self.share([(self.x, J)], b)

    def zplus(self) -> Array:
        _, Jp, Jn, _, bp, _, xp, xn = self.parts
        return self.share([(xp, Jp), (xn, Jn)], bp)

    def alpha_beta(self, alpha: float, beta: float, *, conserve: bool = False, drop: bool = True) -> Array:
        _, Jp, Jn, _, bp, bn, xp, xn = self.parts
        positive, negative = [(xp, Jp), (xn, Jn)], [(xp, Jn), (xn, Jp)]
        a, b = np.full_like(self.R, alpha), np.full_like(self.R, beta)
        if conserve:
            zp, zn = (sum(source @ J.T for source, J in terms) + c for terms, c in ((positive, bp), (negative, bn)))
            a = np.where((zn == 0) & (zp != 0), 1.0, np.where((zp == 0) & (zn != 0), 0.0, a))
            b = np.where((zp == 0) & (zn != 0), -1.0, np.where((zn == 0) & (zp != 0), 0.0, b))
        drop = drop and not conserve
        return self.share(positive, bp, a * self.R, drop=drop) + self.share(negative, bn, -b * self.R, drop=drop)

    def window_sum(self) -> Array:
        return self._without_bias([(self.x, self.affine.ones)])

    def gamma(self, gamma: float) -> Array:
        J, Jp, Jn, b, bp, bn, xp, xn = self.parts
        Wp, Wn, cp, cn = J + gamma * Jp, J + gamma * Jn, b + gamma * bp, b + gamma * bn
        z = self.x @ J.T + b
        parts = [([(xp, Wp), (xn, Wn)], cp, z > 0), ([(xp, Wn), (xn, Wp)], cn, z < 0), ([], 0.0, z == 0)]
        return sum((self.share(terms, bias, self.R * where) for terms, bias, where in parts), np.zeros_like(self.x))

    def classic_gamma(self, gamma: float) -> Array:
        J, Jp, _, b, bp, *_ = self.parts
        return self.share([(self.x, J + gamma * Jp)], b + gamma * bp)

    def zbox(self, low: Array | float, high: Array | float) -> Array:
        """low and high are flat, or numbers."""
        J, Jp, Jn, *_ = self.parts
        ones = np.ones_like(self.x)
        return self._without_bias([(self.x, J), (-low * ones, Jp), (-high * ones, Jn)])

    def wsquare(self, *, square_bias: bool = False) -> Array:
        ones, squares = np.ones_like(self.x), self.affine.J**2
        return self._without_bias([(ones, squares)], self.affine.b**2 if square_bias else 0.0)

    def flat(self) -> Array:
        return self._without_bias([(np.ones_like(self.x), self.affine.ones)])

    def _without_bias(self, terms: Sequence[tuple[Array, Array]], b: Array | float = 0.0) -> Array:
        """kept is shared with the copy."""
        return replace(self, bias="redistribute" if self.bias == "redistribute" else "ignore").share(terms, b)


# comparing ------------------------------------------------------------------------------------------------------------


def check_close(got: Array, want: Array, tolerance: float, what: str = "relevance") -> None:
    """Fails unless every element is within a fraction of the largest of what is wanted."""
    assert got.shape == want.shape, f"{what}: shape {got.shape}, wanted {want.shape}"
    assert np.isfinite(got).all(), f"{what}: {int((~np.isfinite(got)).sum())} values are NaN or infinite"
    largest = float(np.abs(want).max(initial=0.0))
    worst = float(np.abs(got - want).max(initial=0.0))
    assert worst <= tolerance * largest + 1e-12, f"{what}: off by {worst:.3g} of {largest:.3g}"
