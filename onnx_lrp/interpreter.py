"""Running graphs in onnxruntime."""

from __future__ import annotations

import io
import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, redirect_stdout
from functools import cache
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, cast

import numpy as np

from onnx_lrp.device_arrays import device_of, foreign_among, from_ort, is_foreign, to_ort, written
from onnx_lrp.errors import InputError, ModelError, OnnxLrpError
from onnx_lrp.precision import Precision, with_precision

if TYPE_CHECKING:
    import onnx

    from onnx_lrp.graph import Graph, ModelSource
    from onnx_lrp.tensors import Array

Providers = str | Sequence[Any]

CUDA: list[Any] = [("CUDAExecutionProvider", {"cudnn_conv_algo_search": "HEURISTIC"}), "CPUExecutionProvider"]
"""No exhaustive search for the fastest convolution whenever a shape is new."""

EXTERNAL = 4096
"""Constants of more elements are handed to the session beside the model: serialising them would copy them, and stops at 2 GB."""

PREPACK_LIMIT = 256 * 2**20
"""With more bytes of weights, onnxruntime's repacked copies (one for each reader) cost more memory than they save time."""


TRIMMED = 16 * 2**20
"""With more bytes of weights, what making the session took beside them is given back to the system, which takes some milliseconds."""

DISABLED = ["Pad_Fusion"]
"""Optimisers of onnxruntime that change results: this one moves a Pad with zeros into MaxPool, which pads with minus infinity (seen in
1.31). Where padding can be merged exactly, the canonical rewrites have done so."""


def _runtime() -> Any:
    """Imports onnxruntime, and says how to mend the one common broken installation."""
    try:
        import onnxruntime

        onnxruntime.InferenceSession  # noqa: B018 - an emptied package imports, but has nothing in it
    except (ImportError, AttributeError) as error:
        installed = [name for name in ("onnxruntime", "onnxruntime-gpu") if _is_installed(name)]
        mend = "pip uninstall -y onnxruntime onnxruntime-gpu && pip install onnxruntime-gpu (without NVIDIA GPU also: onnxruntime)"
        what = "both onnxruntime and onnxruntime-gpu are installed and overwrite each other" if len(installed) == 2 else str(error)
        raise OnnxLrpError(f"onnxruntime cannot be used: {what}; mend: {mend}") from None
    return onnxruntime


def _is_installed(name: str) -> bool:
    import importlib.metadata

    try:
        importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return False
    return True


@cache
def cuda_is_there() -> bool:
    """Whether onnxruntime really loads CUDA. A tiny session tells, with stderr closed: onnxruntime prints errors where it does not."""
    runtime = _runtime()
    if "CUDAExecutionProvider" not in runtime.get_available_providers() or not _device_may_be_there():
        return False
    from onnx import TensorProto, helper

    from onnx_lrp.emitter import IR_VERSION
    from onnx_lrp.graph.opset import OPSET

    value = helper.make_tensor_value_info("x", TensorProto.FLOAT, [1])
    graph = helper.make_graph([helper.make_node("Relu", ["x"], ["y"])], "probe", [value], [helper.make_tensor_value_info("y", 1, [1])])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=IR_VERSION)
    with _silence():
        try:
            if hasattr(runtime, "preload_dlls"):
                runtime.preload_dlls()
            session = runtime.InferenceSession(model.SerializeToString(), providers=CUDA)
        except Exception:  # noqa: BLE001 - whatever goes wrong, CUDA cannot be used
            return False
    return bool(session.get_providers()[0] == "CUDAExecutionProvider")


def _device_may_be_there() -> bool:
    """A cheap look before the probe: it takes a second, and most machines have no GPU."""
    if os.environ.get("CUDA_VISIBLE_DEVICES") in ("", "-1"):
        return False
    return os.name == "nt" or any(Path(device).exists() for device in ("/dev/nvidiactl", "/dev/dxg", "/dev/nvhost-ctrl-gpu"))


@contextmanager
def _silence() -> Iterator[None]:
    """Sends what native code writes to stderr, and what preload_dlls prints, nowhere."""
    sys.stderr.flush()
    kept = os.dup(2)
    nowhere = os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(nowhere, 2)
        with redirect_stdout(io.StringIO()):
            yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
        os.close(nowhere)


def choose_providers(providers: Providers, precision: Precision = "float32") -> list[Any]:
    """The provider list for a session: "auto" takes CUDA when it is there, "cpu" and "cuda" insist, a list is taken as it is.

    CUDA computes float32 products exactly unless precision is "tf32", or a list says otherwise.

    Raises:
        InputError: an unknown name, or CUDA asked for where there is none.
    """
    if not isinstance(providers, str):
        return with_precision(providers, precision)
    if providers not in ("auto", "cpu", "cuda"):
        raise InputError(f'providers is "auto", "cpu", "cuda" or a list of onnxruntime providers, not {providers!r}')
    if providers == "cuda" and not cuda_is_there():
        raise InputError("CUDA was asked for, but there is no GPU, no driver, or an onnxruntime without CUDA")
    if providers == "cpu" or not cuda_is_there():
        return ["CPUExecutionProvider"]
    return with_precision(CUDA, precision)


def is_cuda(providers: Sequence[Any]) -> bool:
    """Whether a provider list starts with CUDA."""
    first = providers[0] if providers else ""
    return (first if isinstance(first, str) else first[0]) == "CUDAExecutionProvider"


def device_for(providers: Sequence[Any]) -> tuple[str, int]:
    """The device that a provider list computes on: "cuda" and its number, or "cpu"."""
    for provider in providers:
        name, options = (provider, {}) if isinstance(provider, str) else provider
        if name in ("CUDAExecutionProvider", "TensorrtExecutionProvider"):
            return "cuda", int(options.get("device_id", 0))
    return "cpu", 0


class Interpreter:
    """One onnxruntime session.

    Args:
        model: a ModelProto without the given constants.
        constants: its initialisers.
        providers: a list for onnxruntime.
        threads: how many threads an operator uses; None for onnxruntime's choice.
        settings: further entries of the session's configuration.
        keep_at: where to write the graph as onnxruntime has optimised it for this machine, a path; its weights go to a file beside it
            (path + ".data"), and the graph as it was given, without weights, to another (path + ".emitted"). `Interpreter.kept` takes it
            from there.
    """

    def __init__(
        self,
        model: onnx.ModelProto,
        constants: Mapping[str, Array],
        providers: Sequence[Any],
        threads: int | None = None,
        settings: Mapping[str, str] = MappingProxyType({}),
        keep_at: Path | None = None,
    ):
        from onnx_lrp.dense_weights import lay_out, only_in_products
        from onnx_lrp.emitter import embed
        from onnx_lrp.feeds import value_info
        from onnx_lrp.folding import fold

        runtime = _runtime()
        constants = fold(model, constants)
        large = {name: np.ascontiguousarray(value) for name, value in constants.items() if value.size > EXTERNAL}
        self.prepacks = sum(value.nbytes for value in large.values()) <= PREPACK_LIMIT
        """Whether onnxruntime may keep weights in a second, faster layout."""
        options = _options(threads, prepack=self.prepacks)
        for key, setting in settings.items():
            options.add_session_config_entry(key, setting)
        if keep_at is not None:
            options.optimized_model_filepath = str(keep_at)
            options.add_session_config_entry("session.optimized_model_external_initializers_file_name", f"{keep_at.name}.data")
        embed(model, {name: value for name, value in constants.items() if name not in large})
        places = _places(large)
        self._fed: dict[str, Array] = {}
        """Weights that are inputs of the graph: initialisers would be copied, and onnxruntime does nothing with these that needs them."""
        if not is_cuda(providers) and self.prepacks:
            self._fed = lay_out(model.graph, large)
        elif not is_cuda(providers) and keep_at is None:
            self._fed = only_in_products(model.graph, {name: value for name, value in large.items() if name not in places})
        model.graph.input.extend(value_info(name, value.dtype, value.shape) for name, value in self._fed.items())
        large = {name: value for name, value in large.items() if name not in self._fed}
        if keep_at is not None:  # being inputs as well, these initialisers are not repacked either
            large, self._fed = large | self._fed, {}
        for name, value in large.items():
            model.graph.initializer.append(placeholder(name, value, *places.get(name, (Path("in-memory"), 0))))
        given = {name: value for name, value in large.items() if name not in places}
        if given:  # onnxruntime copies them while the session is made
            values = [runtime.OrtValue.ortvalue_from_numpy(value) for value in given.values()]
            options.add_external_initializers(list(given), values)
        if places:
            folder = next(iter(places.values()))[0].parent
            options.add_session_config_entry("session.model_external_initializers_file_folder_path", str(folder))
        self.graph: onnx.ModelProto | Path = model
        """The graph as it was emitted, with the small constants and the shapes of the large ones, or the file where it is."""
        self._open(model.SerializeToString(), options, providers, disabled_optimizers=DISABLED)
        if sum(value.nbytes for value in large.values()) > TRIMMED:
            return_freed_memory()
        if keep_at is not None:
            _emitted(keep_at).write_bytes(model.SerializeToString())

    @classmethod
    def kept(cls, path: Path, providers: Sequence[Any], threads: int | None, *, prepack: bool) -> Interpreter:
        """A session of a graph that was kept on this machine, by this onnxruntime, for these providers.

        Raises:
            ModelError: onnxruntime refuses the file.
        """
        self = cls.__new__(cls)
        options = _options(threads, prepack=prepack)
        options.graph_optimization_level = _runtime().GraphOptimizationLevel.ORT_DISABLE_ALL  # that was done before it was kept
        self.prepacks, self._fed, self.graph = prepack, {}, _emitted(path)
        self._open(str(path), options, providers)
        return self

    def _open(self, model: bytes | str, options: Any, providers: Sequence[Any], **more: Any) -> None:
        try:
            self.session = _runtime().InferenceSession(model, options, providers=list(providers), **more)
        except Exception as error:
            raise ModelError(f"onnxruntime refuses the model: {_plain(error)}") from error
        if is_cuda(providers) and self.session.get_providers()[0] != "CUDAExecutionProvider":
            raise InputError("CUDA was asked for, but onnxruntime could not load it (are CUDA 13 and cuDNN 9 installed?)")
        self.input_names = [value.name for value in self.session.get_inputs()]
        self.device = device_for(providers)

    def run(self, outputs: Sequence[str], feeds: Mapping[str, Any]) -> list[Array]:
        """Runs the graph on arrays.

        Args:
            outputs: the names of the tensors that are wanted.
            feeds: the inputs, and others, which are left out. With a foreign array among them, it and what it gives stay where they are.

        Returns:
            The outputs as numpy arrays; with a foreign array among the inputs as arrays of its framework, on its device.

        Raises:
            InputError: onnxruntime refuses the inputs, or they are on a device that the session does not run on.
        """
        given = {name: value for name, value in feeds.items() if name in self.input_names} | self._fed
        like = foreign_among(given.values())
        if like is not None and device_of(like) not in (("cpu", 0), self.device):
            mend = 'an Explainer with providers="cuda"' if self.device[0] == "cpu" else "one there"
            raise InputError(f"the input is on {written(device_of(like))}, the explainer runs on {written(self.device)}: it takes {mend}")
        try:
            if like is None and self.device[0] == "cpu":
                return cast("list[Array]", self.session.run(list(outputs), given))
            return cast("list[Array]", self._run_bound(outputs, given, like))
        except Exception as error:
            raise InputError(f"the model cannot run on this input: {_plain(error)}") from error

    def peak_bytes(self, feeds: Mapping[str, Array]) -> int:
        """The memory that a run takes; see `onnx_lrp.estimate.peak_bytes`."""
        from onnx_lrp.estimate import peak_bytes

        if isinstance(self.graph, Path):
            import onnx

            self.graph = onnx.load(self.graph, load_external_data=False)
        return peak_bytes(self.graph, {**feeds, **self._fed})

    def _run_bound(self, outputs: Sequence[str], feeds: Mapping[str, Any], like: Any) -> list[Any]:
        """Runs with inputs and outputs bound: what is on the session's device is read there, and results stay beside the input `like`."""
        binding = self.session.io_binding()
        for name, value in feeds.items():
            if is_foreign(value):
                binding.bind_ortvalue_input(name, to_ort(value))
            else:
                binding.bind_cpu_input(name, np.ascontiguousarray(value))
        names = list(dict.fromkeys(outputs))
        for name in names:
            binding.bind_output(name, *(("cpu", 0) if like is None else device_of(like)))
        binding.synchronize_inputs()  # the framework may still be computing them
        self.session.run_with_iobinding(binding)
        if like is None:
            found = dict(zip(names, binding.copy_outputs_to_cpu(), strict=True))
        else:
            found = {name: from_ort(value, like) for name, value in zip(names, binding.get_outputs(), strict=True)}
        return [found[name] for name in outputs]


def return_freed_memory() -> None:
    """Lets glibc give memory back to the system that it keeps for what is asked for next; elsewhere nothing."""
    if sys.platform == "linux":
        import ctypes

        trim = getattr(ctypes.CDLL(None), "malloc_trim", None)  # other C libraries have none
        if trim is not None:
            trim(0)


def _emitted(path: Path) -> Path:
    return path.with_name(f"{path.name}.emitted")


def _options(threads: int | None, *, prepack: bool) -> Any:
    options = _runtime().SessionOptions()
    options.log_severity_level = 4
    options.enable_mem_pattern = False  # with it, the second run takes a second block of memory as large as the first
    options.enable_mem_reuse = False  # a tensor's block would be held until one of the same shape, far back in the relevance pass, takes it
    if threads is not None:
        options.intra_op_num_threads = threads
    if not prepack:
        options.add_session_config_entry("session.disable_prepacking", "1")
    return options


def _places(constants: Mapping[str, Array]) -> dict[str, tuple[Path, int]]:
    """Where constants stand in the model's own files, unchanged: onnxruntime maps them from there, from memory it would copy them."""
    from onnx_lrp.graph.external import place_of

    return {name: place for name, value in constants.items() if (place := place_of(value)) is not None}


def placeholder(name: str, value: Array, path: Path, offset: int) -> onnx.TensorProto:
    """An initialiser whose data is in a file; or given to the session in memory, and then the file is never opened."""
    from onnx import TensorProto, helper

    proto = TensorProto(name=name, data_type=helper.np_dtype_to_tensor_dtype(value.dtype), dims=value.shape)
    proto.data_location = TensorProto.EXTERNAL
    for key, entry in {"location": path.name, "offset": offset, "length": value.nbytes}.items():
        proto.external_data.add(key=key, value=str(entry))
    return proto


def _plain(error: Exception) -> str:
    text = " ".join(str(error).split())
    return text[:300] + ("..." if len(text) > 300 else "")


@contextmanager
def broken_models_named(source: ModelSource | Graph) -> Iterator[None]:
    """Turns an exception that nobody foresaw into a ModelError when onnxruntime, too, refuses the model: then the model is to blame."""
    try:
        yield
    except OnnxLrpError:
        raise
    except Exception as error:
        refusal = _refusal(source)
        if refusal:
            raise ModelError(f"the model is broken: {refusal}") from error
        raise


def _refusal(source: ModelSource | Graph) -> str:
    """What onnxruntime says against a model; '' when it takes it, or when it is a graph, which was a model that could be read."""
    from onnx_lrp.graph import Graph

    if isinstance(source, Graph):
        return ""
    runtime = _runtime()
    options = runtime.SessionOptions()
    options.log_severity_level = 4
    try:
        given = source.SerializeToString() if hasattr(source, "SerializeToString") else source
        with redirect_stdout(io.StringIO()):  # onnxruntime prints some refusals
            runtime.InferenceSession(given if isinstance(given, bytes) else os.fspath(given), options, providers=["CPUExecutionProvider"])
    except Exception as error:  # noqa: BLE001 - onnxruntime has many classes of them
        return _plain(error)
    return ""
