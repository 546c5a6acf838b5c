"""What is timed: the plain forward pass, our explanation, zennit's and captum's. Each imports only what it needs.

A contender is made from a `Case`, builds everything in `prepare` and does the timed work in `run`, which takes the input as a
numpy array and returns the map (the forward pass: the scores) as one.
"""

from __future__ import annotations

import contextlib
import inspect
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import ModuleType

    from numpy.typing import NDArray

LOW, HIGH = -2.2, 2.7


class NotOfferedError(Exception):
    """A contender has no such composite, or not on such a device; the message is the reason that the table prints."""


@dataclass(frozen=True)
class Case:
    """One row of the benchmark: everything a contender needs to know, and nothing that a child process cannot be sent as text."""

    model: str
    path: str
    composite: str
    batch: int
    threads: int
    size: int = 224
    seed: int = 0
    device: str = "cpu"
    targets: tuple[int, ...] = ()
    precision: str = "float32"

    def image(self) -> NDArray[np.float32]:
        """Normally distributed pixels within the bounds that the box rule is told."""
        import models

        shape = (self.batch, *models.sample_shape(self.model, self.size))
        return np.random.default_rng(self.seed).standard_normal(shape, dtype=np.float32).clip(LOW, HIGH)

    def providers(self) -> list[str]:
        """Execution providers of onnxruntime."""
        return ["CUDAExecutionProvider"] * (self.device == "cuda") + ["CPUExecutionProvider"]

    def options(self) -> dict[str, float]:
        """Options that the composite asks for."""
        return {"low": LOW, "high": HIGH} if self.composite.endswith("box") else {}


class Contender:
    """Base of the contenders."""

    name: ClassVar[str]
    packages: ClassVar[tuple[str, ...]]

    def __init__(self, case: Case) -> None:
        self.case = case
        self.notes: list[str] = []

    def prepare(self) -> None:
        """Build everything that a user builds once."""
        raise NotImplementedError

    def run(self, image: NDArray[np.float32]) -> NDArray[Any]:
        """The timed work."""
        raise NotImplementedError

    def close(self) -> None:
        """Let go of what `prepare` built."""
        self.__dict__ = {"case": self.case, "notes": self.notes}


class Forward(Contender):
    """The plain forward pass in onnxruntime: what an explanation can cost at best."""

    name = "forward"
    packages = ("onnxruntime", "onnxruntime-gpu")

    def prepare(self) -> None:
        """Open the session with onnxruntime's defaults, but for the threads."""
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = self.case.threads
        self.session = onnxruntime.InferenceSession(self.case.path, options, providers=self.case.providers())
        self.input = self.session.get_inputs()[0].name

    def run(self, image: NDArray[np.float32]) -> NDArray[Any]:
        """The scores."""
        return self.session.run(None, {self.input: image})[0]


class Ours(Contender):
    """onnx_lrp."""

    name = "onnx_lrp"
    packages = ("onnx-lrp",)

    def prepare(self) -> None:
        """Compile the explainer."""
        import onnx_lrp

        options: dict[str, Any] = dict(self.case.options())
        if "threads" in inspect.signature(onnx_lrp.Explainer).parameters:
            options["threads"] = self.case.threads
        else:
            self.notes.append("onnx_lrp.Explainer takes no thread count: it ran with onnxruntime's default")
        self.explainer = onnx_lrp.Explainer(self.case.path, composite=self.case.composite, providers=self.case.providers(), **options)

    def run(self, image: NDArray[np.float32]) -> NDArray[Any]:
        """The map of the targets' scores."""
        return self.explainer.explain(image, target=np.array(self.case.targets)).relevance


class TorchPeer(Contender):
    """A peer that works on torch modules."""

    def prepare(self) -> None:
        """Build the network with the peer's own residual add and its rules."""
        import models
        import torch

        if self.case.device == "cuda" and not torch.cuda.is_available():
            raise NotOfferedError("torch finds no CUDA device")
        torch.set_num_threads(self.case.threads)
        self.dtype = getattr(torch, self.case.precision)
        self.targets = torch.tensor(self.case.targets, device=self.case.device)
        add = self.add(torch)
        self.net = models.build(self.case.model, self.case.size, self.case.seed, add).to(self.case.device, self.dtype)
        self.attach(torch)

    def add(self, torch: ModuleType) -> Callable[[], Any]:
        """Maker of the residual add that the peer has a rule for."""
        raise NotImplementedError

    def attach(self, torch: ModuleType) -> None:
        """Make the explainer of `self.net`."""
        raise NotImplementedError

    def tensor(self, image: NDArray[np.float32]) -> Any:
        """The input as a fresh tensor where the network is."""
        import torch

        return torch.from_numpy(image).to(self.case.device, self.dtype).requires_grad_()


class Zennit(TorchPeer):
    """zennit, its composite registered once; BatchNorms merged by its own canonizer."""

    name = "zennit"
    packages = ("zennit", "torch")

    def add(self, torch: ModuleType) -> Callable[[], Any]:
        """Summands stacked for zennit's own Sum, which its composites give the Norm rule."""
        layer = import_zennit("layer")

        class StackedSum(torch.nn.Module):
            def __init__(self) -> None:
                super().__init__()
                self.sum = layer.Sum(dim=-1)

            def forward(self, a: Any, b: Any) -> Any:
                return self.sum(torch.stack([a, b], dim=-1))

        return StackedSum

    def attach(self, torch: ModuleType) -> None:
        """Register the composite."""
        composites, rules, types = import_zennit("composites"), import_zennit("rules"), import_zennit("types")
        canonizers = [import_zennit("canonizers").SequentialMergeBatchNorm()]
        key = self.case.composite
        if key == "epsilon":
            composite = composites.LayerMapComposite([*composites.layer_map_base(), (types.Linear, rules.Epsilon())], canonizers=canonizers)
        elif key in composites.COMPOSITES:
            bounds = {
                bound: torch.full((1, 3, 1, 1), value, device=self.case.device, dtype=self.dtype)
                for bound, value in self.case.options().items()
            }
            composite = composites.COMPOSITES[key](canonizers=canonizers, **bounds)
        else:
            raise NotOfferedError(f"zennit has no composite {key}")
        self.attributor = import_zennit("attribution").Gradient(self.net, composite)
        self.attributor.__enter__()
        for module in self.net.modules():
            if isinstance(module, torch.nn.BatchNorm2d):
                module.eps = 0.0  # a merged BatchNorm stays as identity, but with its eps: 1e-4 off over ResNet50's 53 of them

    def run(self, image: NDArray[np.float32]) -> NDArray[Any]:
        """The map of the targets' scores."""
        import torch

        def seed(scores: torch.Tensor) -> torch.Tensor:
            return scores * torch.nn.functional.one_hot(self.targets, scores.shape[1])

        return self.attributor(self.tensor(image), seed)[1].detach().cpu().numpy()

    def close(self) -> None:
        """Take the composite off again."""
        if hasattr(self, "attributor"):
            self.attributor.__exit__(None, None, None)
        super().close()


class Captum(TorchPeer):
    """captum's LRP, BatchNorms merged beforehand. It drops the rules after every call, so setting them is part of the work."""

    name = "captum"
    packages = ("captum", "torch")

    def prepare(self) -> None:
        """Refuse what captum has no equal rules for, before anything is built."""
        if self.case.composite != "epsilon":
            raise NotOfferedError("compared under epsilon only: no Flat or box rule, and its others treat the bias differently")
        super().prepare()

    def add(self, torch: ModuleType) -> Callable[[], Any]:  # noqa: ARG002
        """The peer's own module, the only sum it has a rule for."""
        from captum.attr._utils.custom_modules import Addition_Module

        return Addition_Module

    def attach(self, torch: ModuleType) -> None:
        """Find the layers that take a rule."""
        import models
        from captum.attr import LRP
        from captum.attr._utils.lrp_rules import EpsilonRule

        models.merge_batch_norms(self.net)
        plain = (torch.nn.ReLU, torch.nn.Dropout)
        self.layers = [layer for layer in self.net.modules() if not list(layer.children()) and not isinstance(layer, plain)]
        self.rule = EpsilonRule
        self.attributor = LRP(self.net)

    def run(self, image: NDArray[np.float32]) -> NDArray[Any]:
        """The map of the targets' scores."""
        for layer in self.layers:
            layer.rule = self.rule(epsilon=1e-6)
        return self.attributor.attribute(self.tensor(image), target=self.targets).detach().cpu().numpy()


def import_zennit(submodule: str) -> ModuleType:
    """A module of zennit. It imports torchvision, which fails where its compiled operators do not fit torch; none is used."""
    import importlib

    import torch

    try:
        return importlib.import_module(f"zennit.{submodule}")
    except RuntimeError as error:
        if "torchvision::nms" not in str(error):
            raise
    with contextlib.suppress(RuntimeError):
        # Kept on the function: the operators live as long as the library object.
        import_zennit.library = torch.library.Library("torchvision", "FRAGMENT")
        import_zennit.library.define("nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
        import_zennit.library.define("qnms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
    return importlib.import_module(f"zennit.{submodule}")


CONTENDERS: dict[str, type[Contender]] = {kind.name: kind for kind in (Forward, Ours, Zennit, Captum)}
PEERS = tuple(name for name, kind in CONTENDERS.items() if issubclass(kind, TorchPeer))
