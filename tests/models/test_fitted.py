import shutil

import pytest
import torch

from alignctl.config.encoder_configs import TimmConfig
from alignctl.config.load import apply_overrides, validate_study
from alignctl.encoders import build_network
from alignctl.errors import CheckpointError, ConfigError
from alignctl.models.fitted import layers_asked, load_network
from alignctl.models.own_run import OwnRun
from alignctl.runs import Manifest, RunDirectory
from alignctl.runs.checkpoints import digest, load_weights
from alignctl.runs.directory import checkpoint_file

CPU = torch.device("cpu")


def without_own(weights):
    return {name: value for name, value in weights.items() if not name.startswith("objective.")}


@pytest.mark.parametrize("objective", ["cl", "ce"])
def test_a_network_comes_back_with_its_weights_ready_to_evaluate(trained, objective):
    network = load_network(OwnRun(trained), objective, 2, CPU)
    weights = load_weights(checkpoint_file(trained, objective, 2))
    assert digest(network.state_dict()) == digest(without_own(weights))
    assert not any(module.training for module in network.modules())


def test_epoch_zero_is_the_initial_network(trained):
    network = load_network(OwnRun(trained), "nscl", 0, CPU)
    assert digest(network.state_dict()) == digest(build_network(trained.config).state_dict())


def test_features_are_computed_in_float32_whatever_training_used(train_once):
    run = train_once("training.precision=bfloat16", "objectives=[cl]", "training.epochs=1")
    network = load_network(OwnRun(run), "cl", 1, CPU)
    images = torch.randn(2, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    h = network(images).h
    assert not torch.equal(h, h.bfloat16().float())


def test_weights_that_do_not_fit_the_config_are_named(trained, tmp_path):
    values = trained.config.model_dump(mode="json")
    run = RunDirectory(tmp_path)
    run.write_config(validate_study(apply_overrides(values, ["encoder.width=0.125"]), "wider"))
    shutil.copytree(trained.checkpoints, run.checkpoints)
    shutil.copy(trained.manifest_file, run.manifest_file)
    with pytest.raises(CheckpointError) as error:
        load_network(OwnRun(run), "cl", 1, CPU)
    path = checkpoint_file(run, "cl", 1)
    assert str(error.value).startswith(f"{path}: does not fit the run's config: size mismatch")
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("name", ["h", "g", "encoder", "encoder.layer3", "projector.4"])
def test_h_g_and_every_layer_are_representations(trained, name):
    assert layers_asked(trained.config, [name]) == (name,)


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("encoder.layer5", "; did you mean 'encoder.layer4'?"),
        ("encoder.layer1.0.conv3", "; did you mean 'encoder.layer1.0.conv2'?"),
        ("zzz", ""),
        ("", ""),
        ("H", ""),
    ],
)
def test_an_unknown_layer_names_the_nearest_one_and_what_there_is(trained, name, hint):
    with pytest.raises(ConfigError) as error:
        layers_asked(trained.config, [name])
    assert str(error.value).startswith(
        f"--representation: '{name}' is no layer{hint} (h, g, encoder, encoder.conv1, "
    )
    assert "encoder.layer4, " in str(error.value)
    assert "\n" not in str(error.value)


def test_weights_other_than_those_written_are_refused(trained, tmp_path):
    run = RunDirectory(tmp_path / "run")
    shutil.copytree(trained.path, run.path)
    path = checkpoint_file(run, "cl", 1)
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    with pytest.raises(CheckpointError) as error:
        load_network(OwnRun(run), "cl", 1, CPU)
    assert str(error.value) == f"{path}: damaged: it is not the file that was written"
    # a run made before digests were kept is read as it lies
    Manifest.read(run.manifest_file).updated(checkpoints={}).write(run.manifest_file)
    load_network(OwnRun(run), "cl", 1, CPU)


def test_a_layer_of_the_encoder_has_one_name_as_in_older_tables(trained):
    assert layers_asked(trained.config, ["layer3", "encoder.layer3"]) == ("encoder.layer3",)


def test_a_pattern_takes_all_layers_that_fit_in_the_order_in_which_they_compute(trained):
    asked = ["g", "layer?", "h", "encoder.layer1.0.conv*", "layer2", "g"]
    assert layers_asked(trained.config, asked) == (
        "g", "encoder.layer1", "encoder.layer2", "encoder.layer3", "encoder.layer4", "h",
        "encoder.layer1.0.conv1", "encoder.layer1.0.conv2",
    )  # fmt: skip


def test_a_pattern_of_a_transformer_takes_its_blocks(small_study):
    study = small_study(
        "encoder={name: vit, image_size: 8, patch_size: 4, num_layers: 2, num_heads: 2, "
        "hidden_dim: 8, mlp_dim: 8}"
    )
    expected = ("encoder.blocks.0.attn.qkv", "encoder.blocks.1.attn.qkv")
    assert layers_asked(study, ["blocks.*.attn.qkv"]) == expected


def test_a_pattern_that_nothing_fits_is_an_error(trained):
    with pytest.raises(ConfigError) as error:
        layers_asked(trained.config, ["h", "block*"])
    assert str(error.value).startswith("--representation: no layer fits 'block*' (conv1, bn1, ")


def test_a_pattern_for_a_model_of_one_size_is_listed_at_that_size(trained):
    encoder = TimmConfig(name="timm", model="test_vit")
    study = trained.config.model_copy(update={"encoder": encoder})
    found = layers_asked(study, ["blocks.0.*"])
    assert {"encoder.blocks.0.attn.qkv", "encoder.blocks.0.mlp.fc1"} < set(found)
    assert not [name for name in found if name.endswith(("ls1", "drop_path1", "q_norm"))]
