"""Weights of torchvision's vision transformer in ours, and runs that were written by its names."""

import shutil
from pathlib import Path

import pandas as pd
import pytest
import torch
from torch import nn
from torchvision.models.vision_transformer import VisionTransformer

from alignctl.config.encoder_configs import ViTConfig
from alignctl.datasets import load_images
from alignctl.encoders.torchvision_names import with_timm_names, with_torchvision_names
from alignctl.encoders.vit import ViT
from alignctl.evaluators.weight_gap_table import WeightGapJob, measure, totals
from alignctl.metrics import compare
from alignctl.models.fitted import load_network
from alignctl.models.own_run import OwnRun
from alignctl.runs import Manifest, RunDirectory
from alignctl.runs.checkpoints import digest
from alignctl.verify.trained_run import check_checkpoints, check_initial_weights
from alignctl.views.augmentations import normalise

# Two models, initial and after two steps, and their tables, written when `vit` was torchvision's.
EARLIER = Path(__file__).parents[1] / "golden" / "torchvisions_vit"
CPU = torch.device("cpu")


def torchvisions(image_size, patch_size, num_heads=3, **changes):
    """torchvision's network without a classifier, and our config of these sizes."""
    sizes = {"image_size": image_size, "patch_size": patch_size, "num_layers": 2,
             "num_heads": num_heads, "hidden_dim": 24, "mlp_dim": 49, **changes}  # fmt: skip
    network = VisionTransformer(**sizes)
    network.heads = nn.Identity()
    return network, ViTConfig(name="vit", **sizes)


def randomise(network):
    stream = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(0.3 * torch.randn(parameter.shape, generator=stream))


@pytest.mark.parametrize(
    ("image_size", "patch_size", "num_heads"), [(8, 4, 3), (32, 4, 2), (64, 8, 12), (48, 16, 1)]
)
def test_the_output_is_that_of_torchvisions_network(image_size, patch_size, num_heads):
    theirs, config = torchvisions(image_size, patch_size, num_heads)
    randomise(theirs)
    ours = ViT(config)
    ours.load_state_dict(with_timm_names(theirs.state_dict()))
    images = torch.randn(3, 3, image_size, image_size)
    for mode in (True, False):
        with torch.no_grad():
            expected, found = theirs.train(mode)(images), ours.train(mode)(images)
        assert expected.std() > 0.5
        torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)


def test_gradients_are_those_of_torchvisions_network():
    theirs, config = torchvisions(8, 4)
    randomise(theirs)
    ours = ViT(config)
    ours.load_state_dict(with_timm_names(theirs.state_dict()))
    images = torch.randn(3, 3, 8, 8, dtype=torch.float64)
    for network in (theirs, ours):
        network.double()(images).pow(3).sum().backward()
    expected = with_timm_names({name: p.grad for name, p in theirs.named_parameters()})
    for name, parameter in ours.named_parameters():
        torch.testing.assert_close(parameter.grad, expected[name])


@pytest.mark.parametrize("prefix", ["", "encoder.", "module.encoder.net."])
def test_a_prefix_stays_and_the_way_back_gives_the_same_names(prefix):
    theirs, config = torchvisions(8, 4)
    state = {f"{prefix}{name}": tensor for name, tensor in theirs.state_dict().items()}
    translated = with_timm_names(state)
    assert set(translated) == {f"{prefix}{name}" for name in ViT(config).state_dict()}
    back = with_torchvision_names(translated)
    assert digest(back) == digest(state)


def test_names_of_torchvision_before_0_12_are_known():
    theirs, _ = torchvisions(8, 4)
    state = theirs.state_dict()
    older = {
        name.replace("mlp.0.", "mlp.linear_1.").replace("mlp.3.", "mlp.linear_2."): tensor
        for name, tensor in state.items()
    }
    assert digest(with_timm_names(older)) == digest(with_timm_names(state))


def test_weights_of_other_models_are_left_as_they_are():
    weights = {"class_token": torch.ones(1), "encoder.ln.weight": torch.ones(2)}
    assert with_timm_names(weights) == weights


# --- a run of an earlier version


@pytest.fixture
def earlier(tmp_path):
    shutil.copytree(EARLIER, tmp_path / "run")
    return RunDirectory(tmp_path / "run")


def test_a_run_of_an_earlier_version_has_the_features_of_torchvisions_network(earlier):
    weights = OwnRun(earlier).load("cl", 1)
    assert "encoder.blocks.0.attn.qkv.weight" in weights
    network = load_network(OwnRun(earlier), "cl", 1, CPU)
    encoder = with_torchvision_names(network.encoder.state_dict())
    sizes = earlier.config.encoder.model_dump(exclude={"name", "weights"})
    theirs = VisionTransformer(**sizes)
    theirs.heads = nn.Identity()
    theirs.load_state_dict(encoder)
    images = torch.randn(5, 3, 8, 8)
    with torch.no_grad():
        expected = theirs.eval()(images)
        torch.testing.assert_close(network(images).h, expected, rtol=1e-5, atol=1e-5)


@torch.no_grad()
def test_the_similarities_of_a_run_of_an_earlier_version_stay(earlier):
    table = pd.read_csv(earlier.alignment / "test_alignment.csv").set_index("Epoch")
    study = earlier.config
    images = torch.from_numpy(load_images(study.dataset, "test").images)
    pixels = normalise(images, study.augmentation)
    for epoch in (0, 1):
        spaces = [
            load_network(OwnRun(earlier), name, epoch, CPU)(pixels).h for name in ("cl", "ce")
        ]
        found = [score.value for score in compare(*spaces, ["cka", "rsa"])]
        expected = [table.loc[epoch, "CE_CKA"], table.loc[epoch, "CE_RSA"]]
        assert found == pytest.approx(expected, abs=1e-5)


def test_a_run_of_an_earlier_version_is_verified(earlier):
    manifest = Manifest.read(earlier.manifest_file)
    found = check_initial_weights(earlier.config, manifest)
    # by that version of torch, at least; another one may draw other initial weights
    assert found.result == "ok" or "torch" in found.finding
    assert check_checkpoints(earlier, manifest).result == "ok"


def test_the_weight_gap_of_a_run_of_an_earlier_version_stays(earlier, one_process):
    expected = pd.read_csv(earlier.weight_gap / "cl_vs_ce.csv")
    found = totals(measure(one_process, WeightGapJob(earlier.path, "cl", ("ce",))))
    for ours, theirs in (
        ("mean", "AVG_WEIGHT_DIFF"),
        ("total", "TOTAL_WEIGHT_DIFF"),
        ("angle_degrees", "ANGLE_DEGREES"),
    ):
        assert found[ours].tolist() == pytest.approx(expected[theirs].tolist(), rel=1e-12)
    assert expected["TOTAL_WEIGHT_DIFF"].iloc[-1] > 0.01
