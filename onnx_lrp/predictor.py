"""Running a model's forward pass alone, up to the output that is explained."""

from __future__ import annotations

from typing import TYPE_CHECKING

import onnx

from onnx_lrp.batches import run_in_parts
from onnx_lrp.canonical import canonicalise
from onnx_lrp.emitter import Emitter
from onnx_lrp.feeds import Input, feeds_for, value_info
from onnx_lrp.graph import read_graph
from onnx_lrp.interpreter import Interpreter, Providers, broken_models_named, choose_providers
from onnx_lrp.plan import choose_output

if TYPE_CHECKING:
    from onnx_lrp.graph import Array, Graph, ModelSource


class Predictor:
    """A model's scores, as `Explainer` sees them.

    Args:
        model: path, bytes or onnx.ModelProto.
        output: the tensor to return; default: the first float output, without a final Softmax, LogSoftmax or Sigmoid.
        keep_final_activation: return what lies behind a final Softmax, LogSoftmax or Sigmoid.
        providers: as in Explainer.
        threads: as in Explainer.

    Raises:
        ModelError: the model cannot be read.
        InputError: a name that the model does not have.
    """

    def __init__(
        self,
        model: ModelSource,
        *,
        output: str | None = None,
        keep_final_activation: bool = False,
        providers: Providers = "auto",
        threads: int | None = None,
    ):
        with broken_models_named(model):
            self.graph: Graph = canonicalise(read_graph(model))
            self.output_name, _ = choose_output(self.graph, output, keep_final_activation=keep_final_activation)
            needed = self.graph.inputs_for(self.output_name)
            self.inputs = list(needed)
            infos = [value_info(name, kind.dtype, kind.shape) for name, kind in needed.items()]
            proto, constants = Emitter(self.graph).model(infos, [onnx.ValueInfoProto(name=self.output_name)])
            self._interpreter = Interpreter(proto, constants, choose_providers(providers), threads)

    def __call__(self, x: Input) -> Array:
        """The output, (N, ...), for an input (N, ...) or a dict name -> array.

        Raises:
            InputError: the input does not fit the model.
        """
        feeds, batch = feeds_for(x, self.inputs, self.graph.inputs)
        fixed = self.fixed_batch
        (output,) = run_in_parts(
            lambda part: self._interpreter.run([self.output_name], part), feeds, batch, fixed or batch, [0], fixed=fixed is not None
        )
        return output

    @property
    def fixed_batch(self) -> int | None:
        """How many samples the model takes at once; None for any number."""
        return self.graph.fixed_batch(self.output_name)
