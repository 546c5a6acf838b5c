"""Train the demonstration network: a small convolutional net on the handwritten digits of scikit-learn.

The 1797 digits (8x8 grey values) are enlarged to 16x16. The net has a residual addition, a concatenation of two branches and
batch normalizations that stay nodes of their own in the file, so that explaining it exercises their merging.

    python examples/train_digits.py

writes ``digits.onnx`` (input "image" (N,1,16,16), output "logits" (N,10), no softmax) and ``digits.npz`` (twelve test digits)
into ``onnx_lrp/demo``. It needs PyTorch and scikit-learn. One seed gives the same files again with the same versions of both.
"""

import argparse
import io
import os
import time
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import torch
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split
from torch import nn
from torch.nn import functional

SIZE = 16
SOURCE = (
    "E. Alpaydin, C. Kaynak: Optical Recognition of Handwritten Digits, UCI Machine Learning Repository, CC BY 4.0, "
    f"https://doi.org/10.24432/C50P49; as in scikit-learn's load_digits, enlarged to {SIZE}x{SIZE}"
)
DEMO = Path(__file__).resolve().parents[1] / "onnx_lrp" / "demo"


def conv(inputs: int, outputs: int, kernel: int) -> nn.Sequential:
    """A convolution that keeps the height and width, and its batch normalization."""
    return nn.Sequential(nn.Conv2d(inputs, outputs, kernel, padding=kernel // 2, bias=False), nn.BatchNorm2d(outputs))


class DigitNet(nn.Module):
    """Stem, residual block, max pool, two branches concatenated, a last convolution, global average pool, dense head."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = conv(1, 16, 3)
        self.residual = nn.Sequential(conv(16, 16, 3), nn.ReLU(), conv(16, 16, 3))
        self.narrow, self.wide = conv(16, 24, 3), conv(16, 24, 5)
        self.last = conv(48, 64, 3)
        self.head = nn.Linear(64, 10)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        """The logits (N, 10) of images (N, 1, SIZE, SIZE)."""
        x = functional.relu(self.stem(image))
        x = functional.relu(self.residual(x) + x)
        x = functional.max_pool2d(x, 2)
        x = torch.cat([functional.relu(self.narrow(x)), functional.relu(self.wide(x))], dim=1)
        x = functional.relu(self.last(x))
        return self.head(functional.adaptive_avg_pool2d(x, 1).flatten(1))


def load_split() -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    """Training images, test images, training labels, test labels: the same split whatever the seed of the training."""
    digits = load_digits()
    images = torch.tensor(digits.images / 16, dtype=torch.float32)[:, None]
    images = functional.interpolate(images, size=(SIZE, SIZE), mode="bilinear", align_corners=False)
    labels = torch.tensor(digits.target, dtype=torch.int64)
    train, test = train_test_split(np.arange(len(labels)), test_size=0.2, stratify=labels.numpy(), random_state=0)
    return images[train], images[test], labels[train], labels[test]


def shifted(images: torch.Tensor, reach: int = 2) -> torch.Tensor:
    """Every image moved by its own random step of up to ``reach`` pixels (2 here are one pixel of the 8x8 original)."""
    padded = functional.pad(images, [reach] * 4)
    down, right = torch.randint(0, 2 * reach + 1, (2, len(images), 1))
    span = torch.arange(SIZE)
    return padded[torch.arange(len(images))[:, None, None], 0, (down + span)[:, :, None], (right + span)[:, None, :]][:, None]


def train(net: nn.Module, images: torch.Tensor, labels: torch.Tensor, epochs: int, batch: int = 64) -> None:
    steps = len(images) // batch
    optimizer = torch.optim.AdamW(net.parameters(), lr=1e-2, weight_decay=1e-2)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=1e-2, total_steps=epochs * steps)
    net.train()
    for epoch in range(epochs):
        total = 0.0
        for rows in torch.randperm(len(images))[: steps * batch].split(batch):
            loss = functional.cross_entropy(net(shifted(images[rows])), labels[rows], label_smoothing=0.05)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
            total += loss.item() / steps
        print(f"epoch {epoch + 1}/{epochs}: loss {total:.4f}", flush=True)


def export(net: nn.Module, image: torch.Tensor) -> bytes:
    """The ONNX file. Exporting for PRESERVE, with the net in its evaluation mode, is what leaves the batch norms unmerged."""
    file = io.BytesIO()
    torch.onnx.export(
        net.eval(), (image,), file, input_names=["image"], output_names=["logits"], opset_version=17,
        dynamic_axes={"image": {0: "N"}, "logits": {0: "N"}}, dynamo=False, do_constant_folding=False,
        training=torch.onnx.TrainingMode.PRESERVE,
    )  # fmt: skip
    model = onnx.load_from_string(file.getvalue())
    onnx.checker.check_model(model, full_check=True)
    if missing := {"Add", "Concat", "BatchNormalization"} - {node.op_type for node in model.graph.node}:
        raise SystemExit(f"the exported file has no {', '.join(sorted(missing))} node")
    return file.getvalue()


def write(path: Path, content: bytes) -> None:
    part = path.with_name(f"{path.name}.{os.getpid()}.part")
    part.write_bytes(content)
    part.replace(path)
    print(f"{path}: {len(content):,} bytes")


def main() -> None:
    parser = argparse.ArgumentParser(description="Train the demonstration network on handwritten digits and write its files.")
    parser.add_argument("--epochs", type=int, default=40)
    parser.add_argument("--output", type=Path, default=DEMO, help="folder of digits.onnx and digits.npz (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="of the first weights, the order and the shifts of the digits")
    parser.add_argument("--min-accuracy", type=float, default=0.97, help="write nothing unless the test accuracy is above")
    options = parser.parse_args()
    torch.set_num_threads(1)
    torch.use_deterministic_algorithms(mode=True)
    torch.manual_seed(options.seed)

    train_images, images, train_labels, labels = load_split()
    net, start = DigitNet(), time.perf_counter()
    train(net, train_images, train_labels, options.epochs)
    print(f"{sum(p.numel() for p in net.parameters()):,} parameters, trained in {time.perf_counter() - start:.0f} s")

    with torch.no_grad():
        expected = net.eval()(images).numpy()
    content, truth = export(net, images[:2]), labels.numpy()
    session = onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"])
    logits = session.run(["logits"], {"image": images.numpy()})[0]
    difference, right = float(np.abs(logits - expected).max()), logits.argmax(1) == truth
    print(f"accuracy on {len(truth)} test digits: {(expected.argmax(1) == truth).mean():.2%}")
    print(f"accuracy of the ONNX file: {right.mean():.2%}, largest difference of a logit: {difference:.2e}")
    if not difference < 1e-4 or right.mean() <= options.min_accuracy:
        raise SystemExit("nothing written: ONNX Runtime and PyTorch disagree, or the accuracy is too low")

    # The first test digit of each class, then a second 3 and 8, of those that the net recognizes as far as there are any.
    order = np.argsort(~right, kind="stable")
    chosen = [(digit, 0) for digit in range(10)] + [(3, 1), (8, 1)]
    rows = [order[truth[order] == digit][nth] for digit, nth in chosen]
    names = np.array([str(digit) for digit in range(10)])
    digits = io.BytesIO()
    np.savez_compressed(digits, images=images[rows].numpy(), labels=truth[rows], names=names, source=SOURCE)
    options.output.mkdir(parents=True, exist_ok=True)
    write(options.output / "digits.onnx", content)
    write(options.output / "digits.npz", digits.getvalue())


if __name__ == "__main__":
    main()
