"""zennit and captum, as their documentation has them used."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any

from contender import Case, Contender, NotOfferedError

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import ModuleType

    import numpy as np
    from numpy.typing import NDArray

SQUEEZED = ("efficientnet_b0",)
"""Networks with products of two computed tensors, for which neither peer has a rule."""
NORMALISED_FIRST = ("densenet121",)
"""Networks with BatchNorms that cannot be merged. zennit passes relevance through them as it is, which makes maps of 1e21 here."""
DENSE_ONLY = ("mlp",)
"""Networks without convolutions: composites that differ in the rule for those only are the epsilon rule there."""


class TorchPeer(Contender):
    """A peer that works on torch modules."""

    def prepare(self) -> None:
        """Build the network with the peer's own residual add and its rules."""
        import models
        import torch

        self.torch, case = torch, self.case
        if case.device == "cuda" and not torch.cuda.is_available():
            raise NotOfferedError("torch finds no CUDA device")
        torch.set_num_threads(case.threads)
        torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = False
        self.net = models.build(case.model, case.size, case.seed, self.add()).to(case.device)
        self.attach()

    def add(self) -> Callable[[], Any]:
        """Maker of the residual add that the peer has a rule for."""
        raise NotImplementedError

    def attach(self) -> None:
        """Make the explainer of `self.net`."""
        raise NotImplementedError

    def explain(self, image: Any) -> Any:
        """The map of the targets' scores as a tensor."""
        raise NotImplementedError

    def load(self, image: NDArray[np.float32], targets: NDArray[np.int64]) -> None:
        """Tensors where the network is."""
        self.image = self.torch.from_numpy(image).to(self.case.device)
        self.targets = self.torch.from_numpy(targets).to(self.case.device)

    def run(self) -> None:
        """One explanation of a fresh leaf."""
        self.map = self.explain(self.image.detach().requires_grad_()).detach()
        if self.case.device == "cuda":
            self.torch.cuda.synchronize()

    def result(self) -> NDArray[Any]:
        """The map."""
        return self.map.cpu().numpy()


class Zennit(TorchPeer):
    """zennit, its composite registered once; BatchNorms merged by its own canonizer."""

    name = "zennit"
    packages = ("zennit", "torch")

    def add(self) -> Callable[[], Any]:
        """Summands stacked for zennit's own Sum, which its composites give the Norm rule."""
        torch, layer = self.torch, import_zennit("layer")

        class StackedSum(torch.nn.Module):
            def __init__(self) -> None:
                super().__init__()
                self.sum = layer.Sum(dim=-1)

            def forward(self, a: Any, b: Any) -> Any:
                return self.sum(torch.stack([a, b], dim=-1))

        return StackedSum

    def attach(self) -> None:
        """Register the composite; the gradient needs none."""
        self.attributor = import_zennit("attribution").Gradient(self.net, self.composite())
        self.attributor.__enter__()
        for module in self.net.modules():
            if isinstance(module, self.torch.nn.BatchNorm2d) and bool((module.running_var == 1).all()):
                module.eps = 0.0  # a merged BatchNorm stays as identity, but with its eps: 1e-4 off over ResNet50's 53 of them
        if self.case.model in SQUEEZED and self.case.composite != "gradient":
            self.remark = "products get the gradient, for want of a rule"

    def composite(self) -> Any:
        """zennit's own of the same key; the epsilon rule on all layers, which it does not bring, is put together."""
        import models

        composites, rules, types = import_zennit("composites"), import_zennit("rules"), import_zennit("types")
        canonizers: list[Any] = [import_zennit("canonizers").SequentialMergeBatchNorm()]
        own: list[tuple[Any, Any]] = []
        key = self.case.composite
        if key == "gradient":
            return None
        if self.case.model in NORMALISED_FIRST:
            models.merge_batch_norms(self.net)
            canonizers, own = [], [(types.BatchNorm, rules.Epsilon())]
        if key == "epsilon":
            layer_map = [*own, *composites.layer_map_base(), (types.Linear, rules.Epsilon())]
            return composites.LayerMapComposite(layer_map, canonizers=canonizers)
        if key not in composites.COMPOSITES:
            raise NotOfferedError(f"no composite {key}")
        bounds = {bound: self.torch.full((1, 3, 1, 1), value, device=self.case.device) for bound, value in self.case.options().items()}
        return composites.COMPOSITES[key](layer_map=own, canonizers=canonizers, **bounds)

    def explain(self, image: Any) -> Any:
        """The relevance of the scores, or the gradient of their sum."""
        one_hot = self.torch.nn.functional.one_hot

        def seed(scores: Any) -> Any:
            chosen = one_hot(self.targets, scores.shape[1]).to(scores.dtype)
            return chosen if self.case.composite == "gradient" else scores * chosen

        return self.attributor(image, seed)[1]


class Captum(TorchPeer):
    """captum's LRP, BatchNorms merged beforehand. It drops the rules after every call, so setting them is part of the work."""

    name = "captum"
    packages = ("captum", "torch")

    def prepare(self) -> None:
        """Refuse what captum has no equal rules for, before anything is built."""
        if why := not_in_captum(self.case):
            raise NotOfferedError(why)
        super().prepare()

    def add(self) -> Callable[[], Any]:
        """The peer's own module, the only sum it has a rule for."""
        from captum.attr._utils.custom_modules import Addition_Module

        return Addition_Module

    def attach(self) -> None:
        """Find the layers that take a rule; activations that captum does not know pass relevance on."""
        import models
        from captum.attr import LRP, Saliency
        from captum.attr._utils.lrp_rules import EpsilonRule, IdentityRule

        if self.case.composite == "gradient":
            self.attributor, self.rules = Saliency(self.net), []
            return
        nn = self.torch.nn
        models.merge_batch_norms(self.net)
        leaves = [module for module in self.net.modules() if not list(module.children())]
        layers = [module for module in leaves if not isinstance(module, nn.ReLU | nn.Dropout)]
        passing = (nn.ReLU6, nn.SiLU, nn.Sigmoid)
        self.rules = [(layer, IdentityRule if isinstance(layer, passing) else EpsilonRule) for layer in layers]
        self.attributor = LRP(self.net)
        if self.case.model in SQUEEZED:
            self.remark = "products give all relevance to both factors"

    def explain(self, image: Any) -> Any:
        """The relevance of the targets' scores, or their gradient."""
        if self.case.composite == "gradient":
            return self.attributor.attribute(image, target=self.targets, abs=False)
        for layer, rule in self.rules:
            layer.rule = rule(epsilon=1e-6)
        return self.attributor.attribute(image, target=self.targets)


def not_in_captum(case: Case) -> str:
    """Why captum has nothing that equals a composite; '' where it has."""
    key = case.composite
    if key in ("epsilon", "gradient") or (
        case.model in DENSE_ONLY and key in ("epsilon_plus", "epsilon_alpha2_beta1", "epsilon_gamma_box")
    ):
        return ""
    missing = {
        "flat": "no Flat rule",
        "beta1": "no rule for negative contributions",
        "box": "no box rule",
        "plus": "its Alpha1_Beta0 rule keeps negative biases",
    }
    return next((reason for ending, reason in missing.items() if key.endswith(ending)), f"no composite {key}")


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
