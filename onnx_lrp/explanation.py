"""What an explanation is: relevance, output, targets, and the account of where relevance went."""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from onnx_lrp.targets import sample_shape

if TYPE_CHECKING:
    from onnx_lrp.conservation import Conservation
    from onnx_lrp.explainer import Explainer
    from onnx_lrp.graph import Array


class Explanation:
    """What `Explainer.explain` returns."""

    def __init__(self, explainer: Explainer, relevances: dict[str, Array], output: Array, target: Array, feeds: dict[str, Array]):
        self.relevances = relevances
        """Every explained input and recorded tensor, by the name it was asked for -> its relevance."""
        self.output = output
        """The explained output, (N, ...), without a final activation that was left off."""
        self.target = target
        """The targets used: ints (N,), (N, K) for K targets per sample, (N, axes) for outputs of several axes."""
        self.gap: Array | None = None
        """Of integrated gradients: by how much the relevances add up to more than f(x) - f(baseline); (N,), or (N, K) for K targets."""
        self._explainer = explainer
        self._feeds = feeds

    @property
    def relevance(self) -> Array | dict[str, Array]:
        """The relevance of the explained input, shaped like it ((N, K, ...) for K targets per sample); a dict for several of them."""
        names = self._explainer.inputs
        return self.relevances[names[0]] if len(names) == 1 else {name: self.relevances[name] for name in names}

    @property
    def target_as_given(self) -> Any:
        """The targets in a form that `Explainer.explain` takes."""
        shape, known = self.output.shape[1:], self._explainer.graph.shape(self._explainer.output_name)
        if sum(length != 1 for length in shape) <= 1:
            return self.target
        if sample_shape(known) is None:  # then only positions in the flat output are understood
            return np.ravel_multi_index(tuple(self.target.T), shape)
        return [tuple(position) for position in self.target.tolist()]

    def with_relevances(self, relevances: dict[str, Array], gap: Array | None = None) -> Explanation:
        """The same explanation with other relevances, computed from several runs; the account stays that of the plain run."""
        result = Explanation(self._explainer, relevances, self.output, self.target, self._feeds)
        result.gap = gap
        return result

    @cached_property
    def conservation(self) -> Conservation:
        """The account of where relevance went; computed when first asked for, by one more run of a graph that keeps it."""
        return self._explainer.account(self._feeds)
