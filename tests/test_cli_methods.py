"""Methods of several runs, and gradient composites, on the command line."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import onnx_lrp
from onnx_lrp.cli import main

DEMO = Path(onnx_lrp.__file__).parent / "demo" / "digits.onnx"
IMAGES = np.load(DEMO.parent / "digits.npz")["images"][:2]


@pytest.fixture
def run(capsys, monkeypatch, tmp_path):
    """Explains two digits in an empty folder: further arguments -> exit code, output, errors, and the arrays."""
    monkeypatch.chdir(tmp_path)
    np.save("digits.npy", IMAGES)

    def run(*arguments: Any):
        command = ["onnx-lrp", "explain", str(DEMO), "digits.npy", "--format", "npz", "--threads", "1", *map(str, arguments)]
        monkeypatch.setattr(sys, "argv", command)
        with pytest.raises(SystemExit) as stop:
            main()
        out, err = capsys.readouterr()
        file = tmp_path / "explanations" / "digits_relevance.npz"
        return stop.value.code or 0, out, err, dict(np.load(file)) if file.exists() else {}

    return run


@pytest.mark.parametrize("composite", ["gradient", "input_x_gradient", "sensitivity", "guided_backprop", "deconvnet", "deeplift"])
def test_composites_of_the_gradient_family(composite, run) -> None:
    code, _, err, arrays = run("-c", composite)
    assert (code, err) == (0, "")
    wanted = onnx_lrp.explain(DEMO, IMAGES, composite=composite)
    np.testing.assert_allclose(arrays["relevance"], wanted.relevance, rtol=1e-4, atol=1e-6)


def test_integrated_gradients(run) -> None:
    code, out, err, arrays = run("-c", "integrated_gradients", "--steps", 7, "--baseline", 0.5, "--target", "3,8")
    assert (code, err) == (0, "")
    wanted = onnx_lrp.integrated_gradients(DEMO, IMAGES, np.array([[3, 8], [3, 8]]), steps=7, baseline=0.5)
    np.testing.assert_allclose(arrays["relevance"], wanted.relevance, rtol=1e-4, atol=1e-6)
    assert f"but for {wanted.gap[1, 0]:.3g}, {wanted.gap[1, 1]:.3g}" in out


@pytest.mark.parametrize("composite", ["smoothgrad", "epsilon_plus"])
def test_smoothgrad(composite, run) -> None:
    code, _, err, arrays = run("-c", composite, "--samples", 3, "--noise", 0.2, "--random-seed", 4, "--top", 2)
    assert (code, err) == (0, "")
    name = "gradient" if composite == "smoothgrad" else composite
    wanted = onnx_lrp.smoothgrad(DEMO, IMAGES, arrays["target"], composite=name, n=3, noise=0.2, seed=4)
    np.testing.assert_allclose(arrays["relevance"], wanted.relevance, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("layer", [None, "/MaxPool"])
@pytest.mark.parametrize("composite", ["grad_cam", "guided_grad_cam"])
def test_grad_cam(composite, layer, run) -> None:
    code, _, err, arrays = run("-c", composite, "--top", 2, *(["--option", f"layer={layer}"] if layer else []))
    assert (code, err) == (0, "")
    wanted = onnx_lrp.grad_cam(DEMO, IMAGES, arrays["target"], layer=layer, guided=composite == "guided_grad_cam")
    assert arrays["relevance"].shape == (2, 2, 1, 16, 16)
    np.testing.assert_allclose(arrays["relevance"], wanted.relevance, rtol=1e-4, atol=1e-6)


def test_the_reference_of_deeplift(run) -> None:
    _, _, _, arrays = run("-c", "deeplift", "--baseline", 0.25)
    wanted = onnx_lrp.explain(DEMO, IMAGES, composite="deeplift", reference=0.25)
    np.testing.assert_allclose(arrays["relevance"], wanted.relevance, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["-c", "gradient", "--steps", 5], "error: --steps goes with -c integrated_gradients"),
        (["--baseline", 1], "error: --baseline goes with -c integrated_gradients or deeplift"),
        (["-c", "integrated_gradients", "--samples", 5], "error: --samples goes with SmoothGrad, not with integrated_gradients"),
        (["-c", "smoothgrad", "--random-seed", 5, "--seed", "one"], "error: --seed does not go with methods of several runs"),
        (
            ["-c", "grad_cam", "--option", "layer=3"],
            "error: cannot take as the layer '3': no relevance flows through a tensor of that name",
        ),
        (["-c", "grad_cam", "--option", "level=3"], "error: composite 'gradient' has no option 'level'"),
        (["-c", "grad_cam", "--seed", "one"], "error: --seed does not go with methods of several runs"),
        (["-c", "grad_cam", "--samples", 3], "error: --samples goes with SmoothGrad, not with integrated_gradients or grad_cam"),
        (["-c", "grad_cam", "--record", "/MaxPool"], "error: Grad-CAM explains one input and records nothing"),
        (["-c", "integrated_gradients", "--epsilon", 1], "error: composite 'gradient' has no --epsilon"),
    ],
)
def test_options_that_do_not_go_together(arguments, message, run) -> None:
    code, _, err, _ = run(*arguments)
    assert code == 2
    assert err.startswith(message)
    assert err.count("\n") == 1
