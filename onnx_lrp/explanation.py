"""What an explanation is: relevance, output, targets, and the account of where relevance went."""

from __future__ import annotations

import os
from dataclasses import replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

from onnx_lrp.batches import rows
from onnx_lrp.device_arrays import is_foreign, to_numpy
from onnx_lrp.errors import InputError
from onnx_lrp.saving import arrays_of, save_arrays
from onnx_lrp.seeds import FEEDS, INDEX

if TYPE_CHECKING:
    from numpy.typing import ArrayLike

    from onnx_lrp.conservation import Conservation
    from onnx_lrp.explainer import Explainer
    from onnx_lrp.graph import Array
    from onnx_lrp.summary import LayerSummary
    from onnx_lrp.targets import Targets


class Explanation:
    """What `Explainer.explain` returns."""

    def __init__(
        self,
        explainer: Explainer,
        relevances: dict[str, Any],
        output: Any,
        targets: Targets,
        feeds: dict[str, Any],
        *,
        conditional: bool = False,
    ):
        self.relevances = relevances
        """Every explained input and recorded tensor, by the name it was asked for -> its relevance: numpy arrays, or of the framework and
        on the device of the input.
        """
        self.output = output
        """The explained output, (N, ...), without a final activation that was left off; an array of the same kind."""
        self.gap: Array | None = None
        """Of integrated gradients: by how much the relevances add up to more than f(x) - f(baseline); (N,), or (N, K) for K targets."""
        self._targets = targets
        self._explainer = explainer
        self._feeds = feeds
        self._conditional = conditional

    @cached_property
    def target(self) -> Array:
        """The targets used: ints (N,), (N, K) for K targets per sample, (N, axes) for outputs of several axes. Of several outputs at once
        the mask, booleans shaped like the output; of a region the class at each place, (N, ...), -1 where none is explained.
        """
        return self._targets.used(self._output)

    @cached_property
    def _output(self) -> Array:
        return to_numpy(self.output)

    def numpy(self) -> Explanation:
        """The same explanation with numpy arrays; it is itself if that is what it has.

        What an explanation says of itself (`target`, `conservation`, `summary`, `save` ...) is in numpy arrays with or without this.
        """
        if not is_foreign(self.output):
            return self
        result = Explanation(
            self._explainer,
            {name: to_numpy(value) for name, value in self.relevances.items()},
            self._output,
            self._targets,
            {name: to_numpy(value) for name, value in self._feeds.items()},
            conditional=self._conditional,
        )
        result.gap = self.gap
        return result

    @property
    def relevance(self) -> Any:
        """The relevance of the explained input, shaped like it ((N, K, ...) for K targets per sample); a dict for several of them."""
        names = self._explainer.inputs
        return self.relevances[names[0]] if len(names) == 1 else {name: self.relevances[name] for name in names}

    @property
    def inputs(self) -> dict[str, Any]:
        """The model's inputs as they were run, by name: each (N, ...)."""
        return {name: value for name, value in self._feeds.items() if name not in FEEDS}

    @property
    def explained_inputs(self) -> list[str]:
        """The names of the explained inputs."""
        return self._explainer.inputs

    @property
    def explained_output(self) -> str:
        """The name of the explained output."""
        return self._explainer.output_name

    @property
    def composite(self) -> str:
        """The composite as text: its class, then a line for each selector and its rule."""
        return self._explainer.signature.composite

    @property
    def targets_per_sample(self) -> int | None:
        """K where K targets per sample were explained together; None where relevance has no axis for them."""
        return self._targets.per_sample

    @property
    def explains_positions(self) -> bool:
        """Whether each target is one position of the output, not several outputs at once or a region."""
        return self._targets.form == "position"

    def leads_with_batch(self, name: str) -> bool:
        """Whether the first axis of a tensor in `relevances` holds the samples; see `Explainer.leads_with_batch`."""
        return self._explainer.leads_with_batch(name)

    @property
    def target_as_given(self) -> Any:
        """The targets in a form that `Explainer.explain` takes."""
        return self._targets.as_given(self._output)

    @property
    def explained(self) -> Array:
        """The explained output's value at the targets in float64, (N,), or (N, K) for K targets; of several outputs or a region the sum."""
        return self._targets.values(self._output)

    def with_relevances(self, relevances: dict[str, Array], gap: Array | None = None) -> Explanation:
        """The same explanation with other relevances, computed from several runs; the account stays that of the plain run."""
        result = Explanation(self._explainer, relevances, self.output, self._targets, self._feeds, conditional=self._conditional)
        result.gap = gap
        return result

    def part(self, samples: slice) -> Explanation:
        """The explanation of some of the samples, neighbours of each other.

        Raises:
            InputError: a recorded tensor has not the samples in its first axis.
        """
        batch = len(self.output)
        turned = [name for name in self.relevances if not self.leads_with_batch(name)]
        if turned:
            raise InputError(f"the samples of {turned[0]!r} cannot be parted: they are not in its first axis")
        start, stop, _ = samples.indices(batch)
        chosen = slice(start, stop)
        relevances, feeds = (rows(arrays, batch, chosen) for arrays in (self.relevances, self._feeds))
        targets = replace(self._targets, index=rows({INDEX: self._targets.index}, batch, chosen)[INDEX])
        result = Explanation(self._explainer, relevances, self.output[chosen], targets, feeds, conditional=self._conditional)
        result.gap = None if self.gap is None else self.gap[chosen]
        return result

    def channels(self, name: str, axis: int | None = None) -> Array:
        """The relevance of each channel of a recorded tensor or explained input, summed over all other axes.

        Args:
            name: as it was given to the Explainer.
            axis: where its channels are; default: 1, or last behind a dense layer or a normalisation of the last axis.

        Returns:
            (N, C), or (N, K, C) for K targets or conditions per sample.

        Raises:
            InputError: the tensor's relevance was not asked for, or it has no such axis.
        """
        if name not in self.relevances:
            raise InputError(f"the relevance of {name!r} was not asked for: give record=[{name!r}] to the Explainer")
        from onnx_lrp.concepts import channel_relevance

        explainer = self._explainer
        return channel_relevance(explainer.graph, explainer.tensors[name], to_numpy(self.relevances[name]), axis)

    @cached_property
    def conservation(self) -> Conservation:
        """The account of where relevance went; computed when first asked for, by one more run of a graph that keeps it.

        Raises:
            InputError: the relevance is conditional; what conditions take away is not booked.
        """
        if self._conditional:
            raise InputError("conditional relevance has no account: ask for that of an explanation without conditions")
        return self._explainer.account(self._feeds)

    def summary(self) -> LayerSummary:
        """Figures of each tensor in `relevances`, from the input to the output: sum, positive share, entropy, largest value.

        Prints as a table; `.plot(path)` draws it. Make the explainer with record="all" to see all layers.
        """
        from onnx_lrp.summary import layer_summary

        return layer_summary(self.numpy())

    def save(self, path: str | os.PathLike[str], label: ArrayLike | None = None) -> None:
        """Writes the explanation to a .npz or HDF5 (.h5, .hdf5) file, whole or not at all; docs/layers.md lists what it holds.

        The arrays `attribution`, `prediction` and `label` are those that CoRelAy and ViRelAy read.

        Args:
            path: the file; its suffix decides the format. HDF5 needs h5py.
            label: the true classes, ints (N,), for the array `label`; default: the explained targets.

        Raises:
            InputError: unknown suffix, h5py is missing, the labels do not fit, or the file cannot be written.
        """
        save_arrays(path, arrays_of(self, label))

    def to_tensorboard(self, writer: Any, step: int = 0, tag: str = "relevance") -> None:
        """Logs heat maps, histograms and the summary's figures of each tensor in `relevances`.

        Args:
            writer: a SummaryWriter of torch.utils.tensorboard or tensorboardX, or anything with its add_image, add_histogram, add_scalar.
            step: the step to log at.
            tag: what the names of all entries start with.

        Raises:
            InputError: the writer lacks one of the three methods.
        """
        from onnx_lrp.tensorboard import log

        log(self.numpy(), writer, step, tag)
