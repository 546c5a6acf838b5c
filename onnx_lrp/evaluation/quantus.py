"""Quantus on ONNX models: its metrics take an `OnnxModel` where they take a torch or Keras model, and `explain` as explain_func.

    import quantus
    from onnx_lrp.evaluation.quantus import OnnxModel, explain

    model = OnnxModel("model.onnx", "epsilon_plus_flat")
    metric = quantus.MaxSensitivity(nr_samples=10)
    scores = metric(model=model, x_batch=x, y_batch=y, a_batch=None, explain_func=explain)

Quantus is installed with `pip install "onnx-lrp[quantus]"`. Importing this module lets Quantus take a ModelInterface as it is: its own
function for wrapping models knows torch and Keras only.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx
from onnx import numpy_helper

from onnx_lrp.errors import InputError, OnnxLrpError
from onnx_lrp.evaluation.randomisation import parameter_layers, plain_proto, randomised
from onnx_lrp.evaluation.regions import guess_channel_axis
from onnx_lrp.explainer import Explainer
from onnx_lrp.interpreter import Interpreter, choose_providers
from onnx_lrp.predictor import Predictor

try:
    import quantus.helpers.utils as quantus_utils
    from quantus.helpers.model.model_interface import ModelInterface
except ImportError as error:
    raise OnnxLrpError(f'Quantus cannot be imported ({error}): pip install "onnx-lrp[quantus]"') from None

if TYPE_CHECKING:
    from onnx_lrp.graph import Array, ModelSource

__all__ = ["OnnxModel", "explain"]


class OnnxModel(ModelInterface):  # type: ignore[misc]
    """An ONNX model with its explainer, as Quantus wants models.

    Args:
        model: path, bytes or onnx.ModelProto, with one input.
        composite: as in Explainer; what `explain` explains with.
        softmax: whether `predict` gives probabilities; else the scores that are explained.
        channel_first: of the model's input; default: guessed from its shape. Quantus hands data over with channels first.
        **options: of Explainer, those of the composite included.

    Raises:
        OnnxLrpError: the model cannot be read or explained.
    """

    def __init__(
        self,
        model: ModelSource,
        composite: Any = "epsilon_plus_flat",
        *,
        softmax: bool = False,
        channel_first: bool | None = None,
        **options: Any,
    ):
        proto = plain_proto(model)
        same = {name: value for name, value in options.items() if name in ("output", "keep_final_activation", "providers", "threads")}
        predict = Predictor(proto, **same)
        if len(predict.inputs) != 1:
            raise InputError(f"Quantus takes models of one input, this one has {len(predict.inputs)}")
        shape = predict.graph.inputs[predict.inputs[0]].shape
        if channel_first is None:
            lengths = [length if isinstance(length, int) else 0 for length in shape or ()]
            channel_first = len(lengths) < 4 or guess_channel_axis(lengths[1:]) == 0
        super().__init__(self, channel_first=channel_first, softmax=softmax)
        self.proto, self.composite, self.options = proto, composite, options
        self._predictor, self._same = predict, same

    @cached_property
    def explainer(self) -> Explainer:
        """The compiled composite."""
        return Explainer(self.proto, self.composite, **self.options)

    def predict(self, x: Array, **_: Any) -> Array:
        """The scores of samples, (N, classes); probabilities with softmax."""
        scores = self._predictor(np.asarray(x, np.float32))
        scores = scores.reshape(len(scores), -1).astype(np.float64)
        if not self.softmax:
            return scores
        powers = np.exp(scores - scores.max(1, keepdims=True))
        return np.asarray(powers / powers.sum(1, keepdims=True))

    def shape_input(self, x: Array, shape: Sequence[int], channel_first: bool | None = None, batched: bool = False) -> Array:
        """Samples as the model takes them, with a batch axis, from Quantus' layout."""
        array = np.asarray(x, np.float32).reshape(tuple(shape) if batched else (1, *shape))
        return np.moveaxis(array, 1, -1) if channel_first and not self.channel_first and array.ndim > 3 else array

    def get_model(self) -> OnnxModel:
        """The model itself."""
        return self

    def get_softmax_arg_model(self) -> OnnxModel:
        """The model itself: `predict` minds softmax."""
        return self

    # parameters -------------------------------------------------------------------------------------------------------

    def state_dict(self) -> dict[str, Array]:
        """The parameters by name."""
        return {tensor.name: numpy_helper.to_array(tensor) for tensor in self.proto.graph.initializer}

    def load_state_dict(self, original_parameters: dict[str, Array]) -> None:
        """Sets parameters."""
        proto = onnx.ModelProto()
        proto.CopyFrom(self.proto)
        for tensor in proto.graph.initializer:
            if tensor.name in original_parameters:
                tensor.CopyFrom(numpy_helper.from_array(np.ascontiguousarray(original_parameters[tensor.name]), tensor.name))
        self._replace(proto)

    def _replace(self, proto: onnx.ModelProto) -> None:
        self.proto, self._predictor = proto, Predictor(proto, **self._same)
        self.__dict__.pop("explainer", None)

    def _with(self, proto: onnx.ModelProto) -> OnnxModel:
        return OnnxModel(proto, self.composite, softmax=self.softmax, channel_first=self.channel_first, **self.options)

    def get_random_layer_generator(self, order: str = "top_down", seed: int = 42) -> Iterator[tuple[str, OnnxModel]]:
        """The model with one more layer randomised after another (order "independent": with one at a time), and the layer's name."""
        for name, proto in randomised(self.proto, mode=order, seed=seed):
            yield name, self._with(proto)

    @property
    def random_layer_generator_length(self) -> int:
        """How many layers have parameters."""
        return len(parameter_layers(self.proto))

    def get_hidden_representations(self, x: Array, layer_names: list[str] | None = None, layer_indices: list[int] | None = None) -> Array:
        """The outputs of layers (by default all that have parameters), flat and side by side: (N, elements)."""
        layers = self._layer_outputs()
        if layer_names is not None:
            layers = {name: layers[name] for name in layer_names}
        elif layer_indices is not None:
            layers = {name: output for index, (name, output) in enumerate(layers.items()) if index in layer_indices}
        proto = onnx.ModelProto()
        proto.CopyFrom(self.proto)
        del proto.graph.output[:]
        proto.graph.output.extend(onnx.ValueInfoProto(name=tensor) for tensor in layers.values())
        (value,) = [value for value in proto.graph.input if value.name == self._predictor.inputs[0]]
        dtype = onnx.helper.tensor_dtype_to_np_dtype(value.type.tensor_type.elem_type)
        session = Interpreter(proto, {}, choose_providers(self._same.get("providers", "auto")), self._same.get("threads"))
        outputs = session.run(list(layers.values()), {value.name: np.asarray(x, dtype)})
        return np.concatenate([output.reshape(len(output), -1) for output in outputs], 1)

    def _layer_outputs(self) -> dict[str, str]:
        names = parameter_layers(self.proto)
        nodes = {node.name or f"{node.op_type} {index}": node.output[0] for index, node in enumerate(self.proto.graph.node)}
        return {name: nodes[name] for name in names}

    def add_mean_shift_to_first_layer(self, input_shift: float, shape: Sequence[int]) -> OnnxModel:
        """The model whose scores for x + shift are this one's for x: the shift is taken off in front of the first layer."""
        del shape
        proto = onnx.ModelProto()
        proto.CopyFrom(self.proto)
        name = self._predictor.inputs[0]
        for node in proto.graph.node:
            for index, tensor in enumerate(node.input):
                if tensor == name:
                    node.input[index] = "quantus/unshifted"
        kind = next(value for value in proto.graph.input if value.name == name).type.tensor_type.elem_type
        dtype = onnx.helper.tensor_dtype_to_np_dtype(kind)
        proto.graph.initializer.append(numpy_helper.from_array(np.array(input_shift, dtype), "quantus/shift"))
        proto.graph.node.insert(0, onnx.helper.make_node("Sub", [name, "quantus/shift"], ["quantus/unshifted"], "quantus_shift"))
        return self._with(proto)


def explain(model: OnnxModel, inputs: Any, targets: Any, **_: Any) -> Array:
    """Quantus' explain_func: the relevance of inputs, (N, ...), with channels first as Quantus wants them.

    Raises:
        InputError: the model is no OnnxModel, or the explainer's own errors.
    """
    if not isinstance(model, OnnxModel):
        raise InputError(f"explain is for an OnnxModel, not for {type(model).__name__}")
    x = np.asarray(inputs, np.float32)
    target = np.broadcast_to(np.asarray(targets, np.int64).reshape(-1), (len(x),))
    relevance = np.asarray(model.explainer.explain(x, target).relevance)
    return relevance if model.channel_first or relevance.ndim < 4 else np.moveaxis(relevance, -1, 1)


def _accept_interfaces() -> None:
    """Makes Quantus' wrapping leave alone what is a ModelInterface already."""
    wrap = quantus_utils.get_wrapped_model
    if getattr(wrap, "takes_interfaces", False):
        return

    def wrapped(model: Any, *args: Any, **kwargs: Any) -> Any:
        if not isinstance(model, ModelInterface):
            return wrap(model, *args, **kwargs)
        model.softmax = kwargs.get("softmax") or model.softmax
        return model

    wrapped.takes_interfaces = True  # type: ignore[attr-defined]
    quantus_utils.get_wrapped_model = wrapped


_accept_interfaces()
