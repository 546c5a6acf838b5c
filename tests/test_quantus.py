"""Quantus' own metrics on an ONNX model."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from frameworks import need

from onnx_lrp import Explainer, OnnxLrpError, evaluation
from onnx_lrp.demo import load

MODEL, IMAGES, LABELS = load()
X, Y = IMAGES[:4], LABELS[:4].astype(int)


@pytest.fixture(scope="module")
def quantus() -> Any:
    need("quantus")
    import quantus

    return quantus


@pytest.fixture
def model(quantus: Any) -> Any:
    from onnx_lrp.evaluation.quantus import OnnxModel

    return OnnxModel(MODEL, "epsilon", providers="cpu")


def call(metric: Any, model: Any, relevance: Any = None, **options: Any) -> Any:
    from onnx_lrp.evaluation.quantus import explain

    return metric(model=model, x_batch=X, y_batch=Y, a_batch=relevance, explain_func=explain, channel_first=True, **options)


@pytest.mark.filterwarnings("ignore")
def test_three_metrics(quantus: Any, model: Any) -> None:
    """They run, and agree with the library's own where both have the metric."""
    relevance = Explainer(MODEL, "epsilon", providers="cpu").explain(X, Y).relevance
    quiet = {"disable_warnings": True, "display_progressbar": False}
    sparse = call(quantus.Sparseness(abs=True, normalise=False, **quiet), model, relevance)
    np.testing.assert_allclose(sparse, evaluation.sparseness(relevance), atol=1e-4)

    np.random.seed(0)  # noqa: NPY002 - Quantus draws from the global stream
    largest = call(quantus.MaxSensitivity(nr_samples=5, lower_bound=0.1, normalise=False, **quiet), model)
    explainer = Explainer(MODEL, "epsilon", providers="cpu")
    ours = evaluation.max_sensitivity(explainer, X, Y, radius=0.1, samples=5)
    assert len(largest) == 4
    np.testing.assert_allclose(np.mean(largest), ours.mean(), rtol=0.5)

    stages = call(quantus.MPRT(layer_order="top_down", **quiet), model, relevance)
    assert set(stages) == {"original", *evaluation.randomisation.parameter_layers(MODEL)}
    np.testing.assert_allclose(stages["original"], 1, atol=1e-6)
    *_, last = (values for name, values in stages.items())
    assert np.abs(np.mean(last)) < 0.9


@pytest.mark.filterwarnings("ignore")
def test_faithfulness_and_localisation_run(quantus: Any, model: Any) -> None:
    relevance = Explainer(MODEL, "epsilon", providers="cpu").explain(X, Y).relevance
    quiet = {"disable_warnings": True, "display_progressbar": False}
    curves = call(quantus.PixelFlipping(features_in_step=64, perturb_baseline="black", **quiet), model, relevance)
    assert np.shape(curves) == (4, 4)
    mask = np.zeros((4, 1, 16, 16), int)
    mask[:, :, 4:12, 4:12] = 1
    mass = call(quantus.RelevanceMassAccuracy(abs=False, normalise=False, **quiet), model, relevance, s_batch=mask)
    np.testing.assert_allclose(mass, evaluation.relevance_mass(relevance, mask, positive=False), rtol=1e-4)


def test_the_interface(model: Any) -> None:
    scores = model.predict(X)
    explained = Explainer(MODEL, "epsilon", providers="cpu").explain(X).output
    np.testing.assert_allclose(scores, explained, rtol=1e-5, atol=1e-6)  # a score near zero has the rounding of its terms, which are not
    shifted = model.add_mean_shift_to_first_layer(0.5, X.shape)
    np.testing.assert_allclose(shifted.predict(X + np.float32(0.5)), scores, rtol=1e-3, atol=1e-3)
    parameters = {name: np.zeros_like(value) if value.dtype.kind == "f" else value for name, value in model.state_dict().items()}
    before = model.state_dict()
    model.load_state_dict(parameters)
    assert not model.predict(X).any()
    model.load_state_dict(before)
    np.testing.assert_allclose(model.predict(X), scores, rtol=1e-6)
    hidden = model.get_hidden_representations(X)
    assert hidden.shape[0] == 4
    last = model.get_hidden_representations(X, layer_indices=[model.random_layer_generator_length - 1])
    assert last.shape[1] < hidden.shape[1]
    model.softmax = True
    np.testing.assert_allclose(model.predict(X).sum(1), 1)


def test_explain_is_for_onnx_models(quantus: Any) -> None:
    from onnx_lrp.evaluation.quantus import explain

    with pytest.raises(OnnxLrpError, match="OnnxModel"):
        explain(object(), X, Y)
