"""The plain forward pass and our explanation, and the list of all contenders."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from contender import Contender
from peers import Captum, Zennit

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


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

    def load(self, image: NDArray[np.float32], targets: NDArray[np.int64]) -> None:  # noqa: ARG002
        """Bind the input, and the output where the device is."""
        import onnxruntime

        self.binding = self.session.io_binding()
        value = onnxruntime.OrtValue.ortvalue_from_numpy(image, self.case.device, 0)
        self.binding.bind_ortvalue_input(self.session.get_inputs()[0].name, value)
        self.binding.bind_output(self.session.get_outputs()[0].name, self.case.device)

    def run(self) -> None:
        """The scores."""
        self.session.run_with_iobinding(self.binding)
        self.binding.synchronize_outputs()

    def result(self) -> NDArray[Any]:
        """The scores."""
        return self.binding.copy_outputs_to_cpu()[0]


class Ours(Contender):
    """onnx_lrp."""

    name = "onnx_lrp"
    packages = ("onnx-lrp",)

    def prepare(self) -> None:
        """Compile the explainer."""
        import onnx_lrp

        case = self.case
        self.explainer = onnx_lrp.Explainer(
            case.path, composite=case.composite, providers=case.providers(), threads=case.threads, **case.options()
        )

    def load(self, image: NDArray[np.float32], targets: NDArray[np.int64]) -> None:
        """Keep the arrays; on CUDA the image as a tensor there, and the map comes back as one."""
        self.image, self.targets = image, targets
        if self.case.device == "cuda":
            import torch

            self.image = torch.from_numpy(image).to(self.case.device)

    def run(self) -> None:
        """The map of the targets' scores."""
        self.explanation = self.explainer.explain(self.image, target=self.targets)
        if self.case.device == "cuda":
            import torch

            torch.cuda.synchronize()

    def result(self) -> NDArray[Any]:
        """The map."""
        return self.explanation.numpy().relevance


CONTENDERS: dict[str, type[Contender]] = {kind.name: kind for kind in (Forward, Ours, Zennit, Captum)}
PEERS = (Zennit.name, Captum.name)

MEASURED = ("epsilon", "epsilon_plus_flat", "epsilon_alpha2_beta1", "epsilon_gamma_box", "gradient")
"""What is measured by default, in the order of the tables."""
