"""The page for users of other libraries: what it says of this one runs, and nothing of theirs is left out."""

from __future__ import annotations

import os
import re
import shlex
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from onnx_lrp import COMPOSITES, Explainer, cli
from onnx_lrp.colormaps import CMAPS, palette
from onnx_lrp.composites import ALIASES
from onnx_lrp.demo import load
from onnx_lrp.errors import InputError

PAGE = (Path(__file__).resolve().parents[1] / "docs" / "migration.md").read_text()
SETUP = "How to read the tables"
PARTS = re.split(r"^##+ (.*)\n", PAGE, flags=re.MULTILINE)
SECTIONS = dict(zip(PARTS[1::2], PARTS[2::2], strict=True))
METHODS = {"integrated_gradients", "smoothgrad", "grad_cam", "guided_grad_cam"}
"""Names that -c takes beside those of composites."""

THEIRS = {
    "lrp_toolbox (Python and MATLAB)": """
        model_io.read model_io.write data_io.read data_io.write keras_txt Sequential Linear Convolution SumPool MaxPool Flatten Rect
        Tanh SoftMax forward lrp_aware drop_softmax_output_layer clean to_cupy to_numpy train backward update lrp simple none
        simple_slow slow epsilon epsilon_slow alphabeta alpha alphabeta_slow alpha_slow flat ww w^2 set_lrp_parameters vec2im
        enlarge_image digit_to_rgb hm_to_rgb save_image repaint_corner_pixels gray-red gray-red2 black-green black-firered
        blue-black-yellow apply_heatmap.py sum l2 linf lrp_demo.py lrp_demo.m .nn .pickle .mat .txt npy npz txt mat
    """,
    "lrp_toolbox's Caffe extension": """
        lrp_demo lrp_parallel_demo lrp_demo_minimal_output param_file model_file mean_file use_mean_file_asbinaryprotoblob synsetfile
        lastlayerindex firstlayerindex epsstab alphabeta_beta relevance_for_init auxiliaryvariable_maxlayerindexforflatdistinconv 0 2
        54 56 58 60 100 102 104 114 11 99 26 166 6 8 18 22 eps_n_flat eps_n_wsquare ab_n_flat ab_n_wsquare layer_dep layer_dep_n_flat
        layer_dep_n_wsquare eps_n_ab lrn_backward_type _heatmap.png _rawhm.txt _top10scores.txt _as_inputted_into_the_dnn.png
    """,
    "interprettensor": """
        Sequential Linear Convolution AvgPool MaxPool Relu Tanh Sigmoid Elu Softmax forward fit lrp simple epsilon alphabeta flat ww
        lrp_layerwise clean set_lrp_parameters Utils.save_model Utils.reload_model Summaries plot_relevances hm_to_rgb UpConvolution
        TConvolution Train
    """,
    "rodrigobdz/lrp": """
        LRP convert_layers relevance explained_class_indices LayerFilter LrpZeroRule LrpEpsilonRule LrpGammaRule LrpZBoxRule heatmap
        ImageNetNorm plot_imagenet_tensor plot_tensor_img_nchw_rgb PixelFlipping perturbation_steps perturbation_size perturb_mode
        Inpainting sort_objective ran_num_gen RandomNumberGenerator should_loop calculate_auc_score plot_class_prediction_scores
        plot_image_comparison plot_number_of_flips_per_step batch_lrp_pf.py
    """,
    "SGLRP (softmaxgradient-lrp)": """
        SGLRP CLRP LRP SGLRPSeqA SGLRPSeqB SGLRP2 LRPE LRPA LRPB GBP SG IG GradCAM MultiGradCAM GuidedGradCAM relu scaling low high
        analyze_target analyze_others pre_softmax_tensors
    """,
    "TorchLRP": """
        lrp.Sequential lrp.Linear lrp.Conv2d lrp.MaxPool2d from_torch lrp.convert_vgg gradient epsilon gamma gamma+epsilon alpha1beta0
        alpha2beta1 patternnet patternattribution fit_patternnet fit_patternnet_positive trace.enable_and_clean collect_and_disable
        project clip_quantile heatmap grid heatmap_grid explain_mnist.py explain_vgg.py
    """,
    "zennit": """
        EpsilonPlus EpsilonPlusFlat EpsilonAlpha2Beta1 EpsilonAlpha2Beta1Flat EpsilonGammaBox ExcitationBackprop GuidedBackprop
        DeconvNet BetaSmooth LayerMapComposite SpecialFirstLayerMapComposite NameMapComposite NameLayerMapComposite MixedComposite
        Epsilon ZPlus AlphaBeta Gamma ZBox WSquare Flat Norm Pass ReLUDeconvNet ReLUGuidedBackprop ReLUBetaSmooth Stabilizer
        zero_params SequentialMergeBatchNorm NamedMergeBatchNorm VGGCanonizer ResNetCanonizer AttributeCanonizer CompositeCanonizer
        Gradient SmoothGrad IntegratedGradients Occlusion attr_output imgify imsave CMAPS palette feed_forward.py register_composite
    """,
    "zennit-crp": """
        CondAttribution generate init_rel start_layer exclude_parallel ChannelConcept.mask FeatureVisualization AttributionGraph
    """,
    "iNNvestigate": """
        gradient input_t_gradient deconvnet guided_backprop integrated_gradients smoothgrad lrp lrp.z lrp.epsilon lrp.w_square
        lrp.flat lrp.alpha_beta lrp.alpha_2_beta_1 lrp.alpha_2_beta_1_IB lrp.alpha_1_beta_0 lrp.alpha_1_beta_0_IB lrp.z_plus
        lrp.z_plus_fast lrp.sequential_preset_a lrp.sequential_preset_b lrp.sequential_preset_a_flat lrp.sequential_preset_b_flat
        lrp.sequential_preset_b_flat_until_idx deep_taylor deep_taylor.bounded pattern.net pattern.attribution model_wo_softmax
        model_wo_output_activation max_activation index all reverse_keep_tensors project heatmap graymap clip_quantile Perturbation
    """,
    "captum": """
        LRP LayerLRP EpsilonRule GammaRule Alpha1_Beta0_Rule IdentityRule return_convergence_delta Saliency InputXGradient
        GuidedBackprop Deconvolution IntegratedGradients NoiseTunnel DeepLift GradientShap DeepLiftShap LayerGradCam Occlusion
        FeatureAblation Lime KernelShap infidelity sensitivity_max visualize_image_attr
    """,
    "LXT": """
        linear_epsilon add2 mul2 matmul softmax layer_norm rms_norm_identity mean StopRelevance Identity Uniform conservation_check
        pdf_heatmap monkey_patch
    """,
}
"""The public names of each library, and the variants and formulas that their functions take."""


def tables(section: str) -> Iterator[list[str]]:
    """The rows that say what is called how: there, here, note."""
    for line in SECTIONS[section].splitlines():
        cells = [cell.strip() for cell in line.strip("|").split(" | ")]
        if line.startswith("| ") and len(cells) == 3 and cells[:2] != ["there", "here"] and set(cells[0]) != {"-"}:
            yield cells


ROWS = [(section, row) for section in SECTIONS if "| there | here | note |" in SECTIONS[section] for row in tables(section)]
CODE = [(section, code) for section, row in ROWS for code in re.findall(r"`([^`]+)`", row[1])]
COMMANDS = re.findall(r"`(onnx-lrp [^`]+)`", PAGE)


@pytest.fixture(scope="module")
def variables(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[str], dict[str, Any]]]:
    """The names that a section's code may use: what its blocks leave behind, after those of the page's beginning."""
    before, folder, known = Path.cwd(), tmp_path_factory.mktemp("migration"), {*COMPOSITES}
    model, images, _ = load()
    (folder / "model.onnx").write_bytes(model)
    made: dict[str, dict[str, Any]] = {}

    def make(section: str) -> dict[str, Any]:
        if section not in made:
            space: dict[str, Any] = {"x": images[:2]}
            for block in re.findall(r"```python\n(.*?)```", SECTIONS[SETUP] + SECTIONS[section], re.DOTALL):
                exec(block, space)  # noqa: S102
            made[section] = space
        return made[section]

    os.chdir(folder)
    yield make
    os.chdir(before)
    assert known == {*COMPOSITES}


@pytest.mark.parametrize("section", [section for section in SECTIONS if "```python" in SECTIONS[section]])
def test_blocks_run(section: str, variables: Callable[[str], dict[str, Any]]) -> None:
    assert variables(section)["relevance"].shape == (2, 1, 16, 16)


@pytest.mark.parametrize(("section", "code"), [entry for entry in dict.fromkeys(CODE) if not entry[1].startswith("onnx-lrp ")])
def test_what_is_said_to_do_the_same_runs(section: str, code: str, variables: Callable[[str], dict[str, Any]]) -> None:
    space = variables(section)
    name, _, options = code.partition(", ")
    if name in COMPOSITES or name in ALIASES:
        explanation = eval(f"Explainer(model, {name!r}, {options}).explain(x)", space)  # noqa: S307
        assert np.isfinite(explanation.relevance).all()
        assert explanation.relevance.any()
    else:
        result = eval(code, dict(space))  # noqa: S307
        assert result is not None or re.search(r"\b(im)?(save|write|print|plot\w*|to_tensorboard)\(", code)  # these write


@pytest.mark.parametrize("command", dict.fromkeys(COMMANDS))
def test_command_lines_are_understood(command: str) -> None:
    _, name, *arguments = shlex.split(command)
    assert name in cli.COMMANDS
    if not arguments:  # the command as such
        return
    given = vars(cli.parser(name).parse(arguments))
    composite = given.get("composite")
    assert composite is None or composite in {*COMPOSITES, *ALIASES, *METHODS} or composite.endswith(".json")
    if given.get("cmap"):
        palette(given["cmap"])


def test_a_wrong_option_would_be_noticed() -> None:
    with pytest.raises(InputError, match="no such option"):
        test_command_lines_are_understood("onnx-lrp explain model.onnx x.npy --no-such-option")


def test_every_row_says_what_to_do() -> None:
    """Code, or that it is not here and what to do instead."""
    assert len(ROWS) > 200
    assert [row for _, row in ROWS if ("`" in row[1]) == row[1].startswith("not here")] == []
    assert [row for _, row in ROWS if row[1].startswith("not here") and not row[2]] == []


@pytest.mark.parametrize("section", THEIRS)
def test_nothing_of_theirs_is_left_out(section: str) -> None:
    words = {word for there, *_ in tables(section) for word in re.findall(r"[\w.^+*-]+", there)}
    parts = {part for word in words for part in word.split(".")}
    assert [name for name in THEIRS[section].split() if name not in words | parts] == []


def test_every_other_name_of_a_composite_is_on_the_page() -> None:
    """Other names are the names in other libraries."""
    assert [name for name in ALIASES if f"`{name}`" not in PAGE and f"`{name}," not in PAGE] == []
    assert [name for name in ("gray-red", "gray-red2", "black-green", "black-firered", "blue-black-yellow") if name not in CMAPS] == []


def test_initial_relevance_of_lrp_toolbox(variables: Callable[[str], dict[str, Any]]) -> None:
    """Y * mask, given by hand, is the default."""
    space = variables("lrp_toolbox (Python and MATLAB)")
    explainer: Explainer = space["explainer"]
    given = space["Y"] * (space["Y"] == space["Y"].max(1, keepdims=True))
    assert abs(explainer.explain(space["x"], seed=given).relevance - space["R_input"]).max() < 1e-6
