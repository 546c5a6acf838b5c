"""Explain PyTorch tensors where they are: on the GPU if there is one, else on the CPU.

    python examples/gpu.py -o gpu.png

The digits of the demonstration network go in as tensors, and relevance comes back as a tensor on the same device, without a copy; its sum
over the picture is taken there too. It needs PyTorch; for a GPU also pip install 'onnx-lrp[gpu]'.
"""

import argparse
from pathlib import Path

import torch

import onnx_lrp
from onnx_lrp.demo import load
from onnx_lrp.image import channel_sum, contact_sheet, imsave


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("-o", "--out", type=Path, default=Path("gpu.png"), help="the picture to write")
    path = parser.parse_args().out
    model, images, labels = load()
    explainer = onnx_lrp.Explainer(model, "epsilon_plus_flat")  # on CUDA if onnxruntime can use it
    placed = explainer.assignment()
    print(placed)
    cuda = torch.cuda.is_available() and "CUDAExecutionProvider" in placed.counts
    x = torch.from_numpy(images[:6]).to("cuda" if cuda else "cpu")
    explanation = explainer.explain(x)
    print(
        f"relevance is on {explanation.relevance.device} and adds up to {explanation.relevance.sum(dim=(1, 2, 3)).cpu().numpy().round(2)}"
    )
    maps = channel_sum(explanation.numpy().relevance, "NCHW")
    titles = [f"{label}, seen as {target}" for label, target in zip(labels[:6], explanation.target, strict=True)]
    imsave(path, contact_sheet([list(maps)], column_titles=titles, cell=96))
    print(f"-> {path}")


if __name__ == "__main__":
    main()
