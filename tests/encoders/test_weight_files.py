"""Encoders that begin from a file, and runs whose file is gone or changed."""

import argparse
import shutil
from dataclasses import replace

import pytest
import torch
import torchvision
from safetensors.torch import save_file
from torch import nn
from torchvision.models.vision_transformer import VisionTransformer

from alignctl.config.encoder_configs import ResNetConfig, TimmConfig, ViTConfig
from alignctl.config.load import apply_overrides, validate_study
from alignctl.encoders import build_network
from alignctl.encoders.resnet import ResNet
from alignctl.encoders.timm_models import build_timm_model
from alignctl.encoders.torchvision_names import with_torchvision_names
from alignctl.encoders.vit import ViT
from alignctl.encoders.weight_files import load_encoder_weights
from alignctl.errors import CheckpointError, ConfigError, TrainingError
from alignctl.models.fitted import load_network
from alignctl.models.own_run import OwnRun
from alignctl.runs import Manifest, RunDirectory
from alignctl.runs.checkpoints import digest, file_digest
from alignctl.runs.directory import checkpoint_file
from alignctl.training.trainer import TrainingJob, train
from alignctl.verify.trained_run import check_initial_weights

CPU = torch.device("cpu")
VIT = {"image_size": 8, "patch_size": 4, "num_layers": 2, "num_heads": 3,
       "hidden_dim": 24, "mlp_dim": 48}  # fmt: skip


def resnet():
    return ResNet(ResNetConfig(name="resnet18", width=0.0625))


def with_prefix(prefix, tensors):
    return {f"{prefix}{name}": tensor for name, tensor in tensors.items()}


@pytest.fixture
def source():
    """Another encoder of the same shapes, whose statistics are not those of a new one either."""
    torch.manual_seed(5)
    encoder = resnet()
    encoder(torch.randn(4, 3, 8, 8))
    return encoder


def assert_loaded(encoder, source):
    assert digest(encoder.state_dict()) == digest(source.state_dict())


# --- what is read


@pytest.mark.parametrize("suffix", ["pth", "pt", "bin"])
@pytest.mark.parametrize(
    "wrap",
    [
        lambda state: state,
        lambda state: {"state_dict": state, "epoch": 3},
        lambda state: {"model": state, "optimizer": {"lr": 0.1}},
        lambda state: {"MODEL_STATE": state, "EPOCHS_RUN": 3},
        lambda state: {"model": {"state_dict": state}},
        lambda state: {"queue": torch.zeros(3), "state_dict": state},
    ],
)
def test_a_state_dict_is_found_in_a_checkpoint(source, tmp_path, suffix, wrap):
    path = tmp_path / f"weights.{suffix}"
    torch.save(wrap(source.state_dict()), path)
    encoder = resnet()
    load_encoder_weights(encoder, path)
    assert_loaded(encoder, source)


@pytest.mark.parametrize(
    "prefix",
    ["", "module.", "encoder.", "encoder.net.", "backbone.", "module.encoder.net.", "_orig_mod."],
)
def test_prefixes_are_taken_off_and_what_sits_on_the_encoder_is_passed_over(
    source, tmp_path, prefix
):
    state = with_prefix(prefix, source.state_dict())
    heads = {
        f"{prefix}fc.weight": torch.zeros(10, 32),
        "projector.0.weight": torch.zeros(3, 3),
        "module.projector.0.weight": torch.zeros(3, 3),
        "objective.classifier.weight": torch.zeros(3, 3),
        "classifier.bias": torch.zeros(3),
    }
    save_file({**state, **heads}, tmp_path / "weights.safetensors")
    encoder = resnet()
    load_encoder_weights(encoder, tmp_path / "weights.safetensors")
    assert_loaded(encoder, source)


@pytest.mark.parametrize("prefix", ["", "encoder.", "module.", "module.encoder."])
def test_torchvisions_vision_transformer_has_an_encoder_inside(tmp_path, prefix):
    source = VisionTransformer(**VIT, num_classes=7)
    torch.save(with_prefix(prefix, source.state_dict()), tmp_path / "vit.pth")
    encoder = ViT(ViTConfig(name="vit", **VIT))
    load_encoder_weights(encoder, tmp_path / "vit.pth")
    source.heads = nn.Identity()
    assert digest(with_torchvision_names(encoder.state_dict())) == digest(source.state_dict())
    images = torch.randn(2, 3, 8, 8)
    torch.testing.assert_close(encoder(images), source(images), rtol=1e-5, atol=1e-5)


def test_torchvisions_resnet_has_a_classifier_that_is_passed_over(tmp_path):
    source = torchvision.models.resnet18()
    torch.save(source.state_dict(), tmp_path / "resnet18.pth")
    encoder = ResNet(ResNetConfig(name="resnet18", stem="imagenet"))
    load_encoder_weights(encoder, tmp_path / "resnet18.pth")
    source.fc = nn.Identity()
    assert_loaded(encoder, source)


def test_a_norm_that_timm_keeps_in_its_head_is_the_encoders(tmp_path):
    import timm

    source = timm.create_model("test_convnext", num_classes=7)
    with torch.no_grad():
        source.head.norm.weight.fill_(3)
    torch.save(source.state_dict(), tmp_path / "convnext.pth")
    encoder = build_timm_model(TimmConfig(name="timm", model="test_convnext"))
    load_encoder_weights(encoder, tmp_path / "convnext.pth")
    assert torch.equal(encoder.head.norm.weight, source.head.norm.weight)
    source.reset_classifier(0)
    assert_loaded(encoder, source)


def test_files_from_before_batches_were_counted_are_read(source, tmp_path):
    state = {k: v for k, v in source.state_dict().items() if "num_batches_tracked" not in k}
    torch.save(state, tmp_path / "old.pth")
    encoder = resnet()
    load_encoder_weights(encoder, tmp_path / "old.pth")
    assert torch.equal(encoder.bn1.running_mean, source.bn1.running_mean)


def test_half_precision_becomes_float32(source, tmp_path):
    torch.save(source.half().state_dict(), tmp_path / "half.pth")
    encoder = resnet()
    load_encoder_weights(encoder, tmp_path / "half.pth")
    assert encoder.conv1.weight.dtype == torch.float32
    assert torch.equal(encoder.conv1.weight, source.conv1.weight.float())


# --- what is refused


def missing(state):
    del state["layer2.0.conv1.weight"]


def unexpected(state):
    state["layer9.weight"] = torch.zeros(3)


def misshaped(state):
    state["conv1.weight"] = torch.zeros(4, 3, 7, 7)


def of_another_family(state):
    state.clear()
    state.update(ViT(ViTConfig(name="vit", **VIT)).state_dict())


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (missing, "it has no layer2.0.conv1.weight"),
        (unexpected, "the encoder has no layer9.weight"),
        (misshaped, "conv1.weight is (4, 3, 7, 7) instead of (4, 3, 3, 3)"),
        (
            of_another_family,
            "it has no conv1.weight, bn1.weight, bn1.bias and 97 more; "
            "the encoder has no cls_token, pos_embed, patch_embed.proj.weight and 27 more",
        ),
    ],
)
def test_tensors_that_do_not_fit_are_named(source, tmp_path, damage, words):
    state, path = dict(source.state_dict()), tmp_path / "other.pth"
    damage(state)
    torch.save(state, path)
    with pytest.raises(ConfigError) as error:
        load_encoder_weights(resnet(), path)
    assert str(error.value) == f"encoder.weights: {path}: does not fit the encoder: {words}"


def test_a_missing_file_is_named(tmp_path):
    path = tmp_path / "nowhere.pth"
    with pytest.raises(ConfigError) as error:
        load_encoder_weights(resnet(), path)
    assert str(error.value) == f"encoder.weights: {path}: no such file"


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ({"epoch": 3, "args": "x"}, "epoch, args"),
        ({}, "nothing"),
        ([torch.zeros(3)], "list"),
        (torch.zeros(3), "Tensor"),
    ],
)
def test_a_file_without_a_state_dict_says_what_it_holds(tmp_path, content, words):
    path = tmp_path / "other.pth"
    torch.save(content, path)
    with pytest.raises(ConfigError) as error:
        load_encoder_weights(resnet(), path)
    assert str(error.value) == f"encoder.weights: {path}: holds no state dict, but {words}"


@pytest.mark.parametrize("name", ["weights.pth", "weights.safetensors"])
@pytest.mark.parametrize("content", [b"", b"text", b"PK\x03\x04 cut off"])
def test_a_damaged_file_is_named(tmp_path, name, content):
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(CheckpointError) as error:
        load_encoder_weights(resnet(), path)
    assert str(error.value).startswith(f"encoder.weights: {path}: cannot be read")
    assert "\n" not in str(error.value)


def test_objects_other_than_tensors_are_not_unpickled(source, tmp_path):
    path = tmp_path / "pickled.pth"
    torch.save({"state_dict": source.state_dict(), "args": argparse.Namespace(x=1)}, path)
    with pytest.raises(CheckpointError, match="holds more than tensors; a state dict saved alone"):
        load_encoder_weights(resnet(), path)


# --- studies


@pytest.fixture
def weights(source, tmp_path):
    path = tmp_path / "weights.pth"
    torch.save(source.state_dict(), path)
    return path


def test_the_projector_is_drawn_as_without_a_file(small_study, weights, source):
    began = build_network(small_study(f"encoder.weights={weights}"))
    plain = build_network(small_study())
    assert_loaded(began.encoder, source)
    assert digest(began.projector.state_dict()) == digest(plain.projector.state_dict())
    layout = torch.channels_last
    assert began.encoder.layer1[0].conv1.weight.is_contiguous(memory_format=layout)


@pytest.fixture
def start(small_study, one_process, tmp_path):
    """A function of the file of weights: the run of a study that begins from it, trained here."""

    def begin(weights):
        run = RunDirectory(tmp_path / "run")
        study = small_study(
            f"encoder.weights={weights}", "objectives=[cl, ce]", "training.epochs=1"
        )
        train(replace(one_process, events_file=run.events_file), TrainingJob(study, run.path))
        return run

    return begin


def test_all_objectives_begin_from_the_file_and_later_commands_do_without(start, weights, source):
    run = start(weights)
    manifest = Manifest.read(run.manifest_file)
    assert manifest.encoder_weights == file_digest(weights)
    weights.unlink()
    for name in ("cl", "ce"):
        first = load_network(OwnRun(run), name, 0, CPU)
        assert_loaded(first.encoder, source)
        load_network(OwnRun(run), name, 1, CPU)
    assert digest(load_network(OwnRun(run), "cl", 1, CPU).state_dict()) != digest(
        first.state_dict()
    )
    assert checkpoint_file(run, "cl", 1).exists()


def test_verify_makes_the_initial_weights_again_while_the_file_is_there(start, weights):
    run = start(weights)
    study, manifest = run.config, Manifest.read(run.manifest_file)
    assert check_initial_weights(study, manifest).result == "ok"
    began = f"cl, ce began from {manifest.initial_weights['cl'][:12]}, which cannot be made again"
    shutil.move(weights, weights.with_suffix(".gone"))
    found = check_initial_weights(study, manifest)
    reason = f"encoder.weights: {weights}: no such file"
    assert (found.result, found.finding) == ("not checked", f"{began}: {reason}")
    torch.save(resnet().state_dict(), weights)
    found = check_initial_weights(study, manifest)
    reason = f"encoder.weights: {weights}: is not the file that it was then"
    assert (found.result, found.finding) == ("not checked", f"{began}: {reason}")


def test_another_seed_is_still_found_where_weights_come_from_a_file(start, weights):
    run = start(weights)
    other = apply_overrides(run.config.model_dump(mode="json"), ["seed=1"])
    study = validate_study(other, "other seed")
    assert check_initial_weights(study, Manifest.read(run.manifest_file)).result == "differs"


def test_a_run_does_not_go_on_from_another_file(start, weights):
    run = start(weights)
    torch.save(resnet().state_dict(), weights)
    with pytest.raises(TrainingError) as error:
        start(weights)
    assert str(error.value) == (
        f"{run.manifest_file}: the run began from another file of encoder weights than {weights} "
        "is now; start a new run"
    )
