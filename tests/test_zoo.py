"""Every convolutional model of the zoo: covered, unchanged by the rewrites, finite maps, accounts that close."""

from __future__ import annotations

import fnmatch
import importlib.util
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest

from onnx_lrp import Explainer
from onnx_lrp.canonical import canonicalise
from onnx_lrp.emitter import Emitter, embed
from onnx_lrp.graph import read_graph
from onnx_lrp.rules import Pass

TORCHVISION = "alexnet vgg* resnet* densenet* squeezenet* googlenet inception* mnasnet* mobilenet* shufflenet* efficientnet* regnet*"
CONVOLUTIONAL = [
    "light_*",
    "keras_*",
    "blk_cnn_zoo_*",
    "blk_unet_*",
    "blk_conv1d_*",
    "blk_conv3d_*",
    "skl_mlp*",
    "timm_*resnet*",
    *(f"tv_{name}_*" for name in TORCHVISION.split()),
]
SHARED = Path(__file__).resolve().parents[2] / "shared"


def zoo_names() -> list[str]:
    """The convolutional models in the zoo; a single place holder when there is no zoo."""
    if not (SHARED / "data" / "zoo.tar.xz").exists():
        return ["zoo"]
    return [name for name in zoo_module().names(SHARED / "data" / "zoo.tar.xz") if any(fnmatch.fnmatch(name, p) for p in CONVOLUTIONAL)]


def zoo_module():
    spec = importlib.util.spec_from_file_location("zoo", SHARED / "tools" / "zoo.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="session")
def zoo_folder(shared_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An unpacked zoo; only the convolutional models, 2 GB of the temporary disk."""
    return tmp_path_factory.mktemp("zoo")


@pytest.fixture
def model_file(request: pytest.FixtureRequest, shared_data: Path, zoo_folder: Path):
    path = zoo_folder / request.param
    onnx.save(zoo_module().load(shared_data / "zoo.tar.xz", request.param), path)
    yield path
    path.unlink()


def inputs_of(graph, seed: int = 0) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(seed)
    shapes = {name: [length if isinstance(length, int) else 1 for length in kind.shape] for name, kind in graph.inputs.items()}
    return {name: rng.standard_normal(shape).astype(np.float32) for name, shape in shapes.items()}


def original_outputs(path: Path, feeds: dict[str, np.ndarray]) -> list[np.ndarray]:
    model = onnx.load(path)
    initialisers = {tensor.name for tensor in model.graph.initializer}
    kept = [value for value in model.graph.input if value.name not in initialisers]  # IR 3 lists them as inputs too
    del model.graph.input[:]
    model.graph.input.extend(kept)
    model.ir_version = max(model.ir_version, 4)
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    given = {value.name: feeds[value.name] for value in session.get_inputs()}
    return session.run(None, given)


def canonical_outputs(path: Path, feeds: dict[str, np.ndarray]) -> list[np.ndarray]:
    graph = canonicalise(read_graph(path))
    inputs = [onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, kind.shape) for name, kind in graph.inputs.items()]
    model, constants = Emitter(graph).model(inputs, [onnx.ValueInfoProto(name=name) for name in dict.fromkeys(graph.outputs)])
    session = onnxruntime.InferenceSession(embed(model, constants).SerializeToString(), providers=["CPUExecutionProvider"])
    found = dict(zip([value.name for value in session.get_outputs()], session.run(None, feeds), strict=True))
    return [found[name] for name in graph.outputs]


def check_conserves(path: Path, feeds: dict[str, np.ndarray]) -> None:
    """With bias="redistribute" all arrives, but what is asked for: LRN by Taylor expansion does not conserve."""
    for composite in ("epsilon", "epsilon_plus_flat"):
        explainer = Explainer(path, composite, bias="redistribute", layer_map=[("lrn", Pass())])
        explanation = explainer.explain(feeds)
        arrived = sum(value.reshape(len(value), -1).sum(1, dtype=np.float64) for value in explanation.relevances.values())
        np.testing.assert_allclose(arrived, explanation.explained, rtol=1e-4, err_msg=composite)


@pytest.mark.parametrize("model_file", zoo_names(), indirect=True)
def test_zoo_model(model_file: Path) -> None:
    feeds = inputs_of(read_graph(model_file))
    for before, after in zip(original_outputs(model_file, feeds), canonical_outputs(model_file, feeds), strict=True):
        np.testing.assert_allclose(after, before, rtol=1e-4, atol=1e-4 * np.abs(before).max())
    for composite in ("epsilon", "epsilon_plus_flat", "gradient"):
        explainer = Explainer(model_file, composite)
        assert explainer.plan.coverage == 1.0
        explanation = explainer.explain(feeds)
        for name, relevance in explanation.relevances.items():
            assert relevance.shape == feeds[name].shape
            assert np.isfinite(relevance).all()
        if composite == "epsilon_plus_flat":
            check_lanes(explainer, feeds)
        if composite == "gradient":
            continue
        account = explanation.conservation
        assert (np.abs(account.error) <= 1e-3 * np.abs(account.seed)).all(), str(account)
        for entry in account.entries:
            assert (np.abs(entry.error) <= 1e-3 * np.abs(account.seed)).all(), f"{entry.node}: {entry.error}"
    check_conserves(model_file, feeds)


def check_lanes(explainer: Explainer, feeds: dict[str, np.ndarray]) -> None:
    """Two targets over one forward pass are two runs."""
    shape = explainer.explain(feeds).output.shape[1:]
    rng = np.random.default_rng(1)
    positions = [tuple(int(rng.integers(length)) for length in shape) for _ in range(2)]
    targets = positions if sum(length != 1 for length in shape) > 1 else [int(np.ravel_multi_index(p, shape)) for p in positions]
    several = explainer.explain(feeds, conditions=[{"y": target} for target in targets])
    for lane, target in enumerate(targets):
        for name, single in explainer.explain(feeds, target).relevances.items():
            np.testing.assert_allclose(several.relevances[name][:, lane], single, rtol=0, atol=1e-4 * np.abs(single).max())
    assert all(session.lifted for session in explainer._runner.lane_sessions.values())
