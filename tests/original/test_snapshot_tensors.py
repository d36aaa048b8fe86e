import pickle
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn
from torchvision.models import resnet18
from torchvision.models.vision_transformer import VisionTransformer

from alignctl.config.encoder_configs import ResNetConfig, ViTConfig
from alignctl.encoders import ENCODERS
from alignctl.encoders.torchvision_names import with_timm_names
from alignctl.errors import CheckpointError
from alignctl.original.snapshot_tensors import damage, load_snapshot

PROJECTOR = nn.Sequential(
    nn.Linear(4, 3, bias=False), nn.BatchNorm1d(3), nn.ReLU(),
    nn.Linear(3, 2, bias=False), nn.BatchNorm1d(2),
).state_dict()  # fmt: skip


@pytest.fixture
def state(original_state):
    return original_state("nscl", {"conv1.weight": torch.randn(4, 3, 3, 3)}, PROJECTOR)


@pytest.fixture
def path(save_snapshot, state, tmp_path):
    return save_snapshot(tmp_path / "nscl" / "snapshot_1.pth", state)


def check_equal(found, expected):
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        torch.testing.assert_close(found[name], value, rtol=0, atol=0)


@pytest.mark.parametrize("objective", ["nscl", "ce"])
@pytest.mark.parametrize("wrapper", ["", "module.", "_orig_mod.module."])
def test_tensors_come_back_by_our_names(
    original_state, save_snapshot, tmp_path, objective, wrapper
):
    encoder = {"bn1.running_var": torch.rand(4), "layer1.0.conv1.weight": torch.randn(2, 4, 1, 1),
               "bn1.num_batches_tracked": torch.tensor(7)}  # fmt: skip
    state = original_state(objective, encoder, PROJECTOR, wrapper)
    found = load_snapshot(save_snapshot(tmp_path / "a.pth", state))
    expected = {f"encoder.{name}": value for name, value in encoder.items()}
    expected |= {f"projector.{name}": value for name, value in PROJECTOR.items()}
    if objective == "ce":
        expected["objective.classifier.weight"] = torch.zeros(3, 2)
        expected["objective.classifier.bias"] = torch.ones(3)
    check_equal(found, expected)


def test_torchvisions_own_classifiers_are_left_out(state, save_snapshot, tmp_path):
    more = {"encoder.net.fc.weight": torch.ones(2, 2), "encoder.net.heads.head.bias": torch.ones(2)}
    found = load_snapshot(save_snapshot(tmp_path / "a.pth", state | more))
    assert set(found) == {"encoder.conv1.weight", *(f"projector.{name}" for name in PROJECTOR)}


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_any_precision_is_read_as_float32(original_state, save_snapshot, tmp_path, dtype):
    weight = torch.randn(4, 3).to(dtype)
    state = original_state("cl", {"conv1.weight": weight}, PROJECTOR)
    found = load_snapshot(save_snapshot(tmp_path / "a.pth", state))["encoder.conv1.weight"]
    assert found.dtype == torch.float32
    assert torch.equal(found, weight.float())


def test_numbers_of_numpy_and_files_of_the_old_format_can_be_read(state, save_snapshot, tmp_path):
    numbers = {"lr": [np.float64(0.1), np.float32(2)], "step": np.int64(3)}
    path = save_snapshot(tmp_path / "a.pth", state, SCHEDULER=numbers, EPOCHS_RUN=np.int64(3))
    found = load_snapshot(path)
    torch.save({"MODEL_STATE": state}, path, _use_new_zipfile_serialization=False)
    check_equal(load_snapshot(path), found)


def test_what_was_read_does_not_change_with_the_file(path):
    found = load_snapshot(path)
    before = {name: value.clone() for name, value in found.items()}
    with path.open("r+b") as file:
        file.write(b"\0" * path.stat().st_size)
    check_equal(found, before)


class Trojan:
    def __reduce__(self):
        return shutil.copy, (__file__, "executed")


def test_nothing_in_a_file_is_executed(state, save_snapshot, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    path = save_snapshot(tmp_path / "a.pth", state, SCHEDULER=Trojan())
    with pytest.raises(CheckpointError) as error:
        load_snapshot(path)
    assert str(error.value) == (
        f"{path}: holds shutil.copy, which reading would have to execute; "
        "save it anew with MODEL_STATE alone"
    )
    assert not Path("executed").exists()


def cut_off(path, state):
    path.write_bytes(path.read_bytes()[:-100])


def empty(path, state):
    path.write_bytes(b"")


def other_text(path, state):
    path.write_bytes(b"hello world\n" * 10)


def other_pickle(path, state):
    path.write_bytes(pickle.dumps([1, 2]))


@pytest.mark.parametrize("spoil", [cut_off, empty, other_text, other_pickle])
def test_a_damaged_file_is_one_line_that_names_it(path, state, spoil):
    spoil(path, state)
    with pytest.raises(CheckpointError) as error:
        load_snapshot(path)
    assert str(error.value).startswith(f"{path}: ")
    assert "\n" not in str(error.value)
    assert "\x1b" not in str(error.value)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"model": {}}, "holds no MODEL_STATE (but model)"),
        ({}, "holds no MODEL_STATE (but nothing)"),
        (torch.ones(2), "holds no MODEL_STATE (but Tensor)"),
        ({"MODEL_STATE": torch.ones(2)}, "holds no MODEL_STATE (but MODEL_STATE)"),
        ({"MODEL_STATE": {}}, "MODEL_STATE: holds no tensor encoder.net.*"),
        ({"MODEL_STATE": {"encoder.net.a": torch.ones(1)}},
         "MODEL_STATE: holds no tensor projector.projector.*"),
        ({"MODEL_STATE": {"encoder.net.a": 1}}, "MODEL_STATE: 'encoder.net.a' is no tensor; it"),
        ({"MODEL_STATE": {"module.backbone.a": torch.ones(1)}},
         "MODEL_STATE: 'module.backbone.a' is no part of such a model; it has to hold tensors "
         "encoder.net.* and projector.projector.*"),
    ],
)  # fmt: skip
def test_another_content_is_named(tmp_path, content, message):
    path = tmp_path / "a.pth"
    torch.save(content, path)
    with pytest.raises(CheckpointError) as error:
        load_snapshot(path)
    assert str(error.value).startswith(f"{path}: {message}")


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(CheckpointError, match=r"a\.pth: is missing"):
        load_snapshot(tmp_path / "a.pth")


def test_checksums_in_a_file_find_every_changed_byte_of_its_tensors(path, state):
    assert damage(path) is None
    pixels = state["encoder.net.conv1.weight"].numpy().tobytes()
    content = bytearray(path.read_bytes())
    content[content.index(pixels) + 3] ^= 1
    path.write_bytes(content)
    assert damage(path).startswith("is not as it was written (snapshot_1/data/")
    shutil.copy(__file__, path)
    with pytest.raises(CheckpointError, match="has no checksums"):
        damage(path)


@pytest.mark.parametrize("size", [0, 3, 200, -100])
def test_a_file_that_was_cut_short_is_said_to_be(path, size):
    path.write_bytes(path.read_bytes()[:size])
    assert damage(path) == "is damaged (cut short)"
    with pytest.raises(CheckpointError) as error:
        load_snapshot(path)
    assert str(error.value) == f"{path}: is damaged (cut short)"


def small_stem(network):
    """As the original changes torchvision's ResNet for small images."""
    network.conv1 = nn.Conv2d(3, 64, kernel_size=3, stride=1, padding=1, bias=False)
    network.maxpool = nn.Identity()
    return network


def torchvisions(kind):
    torch.manual_seed(1)
    if kind == "vit":
        sizes = {"image_size": 16, "patch_size": 4, "num_layers": 2, "num_heads": 2}
        network = VisionTransformer(**sizes, hidden_dim=8, mlp_dim=16)
        network.heads = nn.Identity()
        return network, ViTConfig(name="vit", **sizes, hidden_dim=8, mlp_dim=16)
    network = resnet18()
    network.fc = nn.Identity()
    if kind == "small_image":
        network = small_stem(network)
    return network, ResNetConfig(name="resnet18", stem=kind)


@pytest.mark.parametrize("kind", ["small_image", "imagenet", "vit"])
def test_features_are_those_of_torchvisions_own_network(
    original_state, save_snapshot, tmp_path, kind
):
    theirs, config = torchvisions(kind)
    images = torch.randn(4, 3, 16, 16)
    theirs(images)  # running means and variances other than 0 and 1
    state = original_state("ce", theirs.state_dict(), PROJECTOR, "module.")
    weights = with_timm_names(load_snapshot(save_snapshot(tmp_path / "a.pth", state)))
    ours = ENCODERS[config.name](config)
    ours.load_state_dict({k.removeprefix("encoder."): v for k, v in weights.items()
                          if k.startswith("encoder.")})  # fmt: skip
    with torch.no_grad():
        torch.testing.assert_close(ours.eval()(images), theirs.eval()(images))
