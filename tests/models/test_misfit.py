import pytest
import torch

from alignctl.encoders import build_network
from alignctl.models.misfit import misfit, settings_in

SIZES = "image_size: 8, patch_size: 2, num_layers: 2, num_heads: 2, hidden_dim: 8, mlp_dim: 12"
VIT = f"encoder={{name: vit, {SIZES}}}"
CONV = "size mismatch: encoder.conv1.weight"


def state_of(study):
    with torch.device("meta"):
        return build_network(study).state_dict()


@pytest.fixture
def fault(small_study):
    """A function of two studies' overrides: what is wrong with one's weights for the other."""

    def find(ours, theirs):
        study = small_study(*ours)
        return misfit(state_of(study), state_of(small_study(*theirs)), study)

    return find


@pytest.mark.parametrize("overrides", [(), ("encoder.name=resnet50",), (VIT,)])
def test_weights_of_the_same_config_fit(fault, overrides):
    assert fault(overrides, overrides) is None


@pytest.mark.parametrize(
    ("ours", "theirs", "message"),
    [
        ([], ["encoder.width=0.125"],
         f"{CONV} is (8, 3, 3, 3) there and (4, 3, 3, 3) by the config; "
         "its shapes ask for encoder.width=0.125"),
        ([], ["encoder.stem=imagenet"],
         f"{CONV} is (4, 3, 7, 7) there and (4, 3, 3, 3) by the config; "
         "its shapes ask for encoder.stem=imagenet"),
        (["encoder.name=resnet34"], [],
         "encoder.layer1.2.conv1.weight is missing; its shapes ask for encoder.name=resnet18"),
        ([], ["encoder.name=resnet34"],
         "encoder.layer1.2.conv1.weight is not in the network; "
         "its shapes ask for encoder.name=resnet34"),
        ([], ["encoder.name=resnet50", "encoder.width=0.125"],
         f"{CONV} is (8, 3, 3, 3) there and (4, 3, 3, 3) by the config; "
         "its shapes ask for encoder.name=resnet50 encoder.width=0.125"),
        (["encoder.name=resnet50"], ["encoder.name=resnet101"],
         "encoder.layer3.6.conv1.weight is not in the network; "
         "its shapes ask for encoder.name=resnet101"),
        (["projector.hidden_dim=32"], ["projector.output_dim=4"],
         "size mismatch: projector.0.weight is (16, 32) there and (32, 32) by the config; "
         "its shapes ask for projector.hidden_dim=16 projector.output_dim=4"),
        ([], [VIT],
         "encoder.conv1.weight is missing; "
         "its shapes ask for encoder.name=vit encoder.image_size=8 "
         "encoder.patch_size=2 encoder.num_layers=2 encoder.hidden_dim=8 encoder.mlp_dim=12"),
        ([VIT], [],
         "encoder.cls_token is missing; "
         "its shapes ask for encoder.name=resnet18 encoder.width=0.0625 encoder.stem=small_image"),
        ([VIT], [VIT, "encoder.image_size=16", "encoder.num_layers=1"],
         "size mismatch: encoder.pos_embed is (1, 65, 8) there and (1, 17, 8) by the "
         "config; its shapes ask for encoder.image_size=16 encoder.num_layers=1"),
    ],
    ids=str,
)  # fmt: skip
def test_the_first_tensor_and_the_settings_that_differ_are_named(fault, ours, theirs, message):
    assert fault(ours, theirs) == message


def test_a_model_of_timm_with_the_names_of_a_vit_is_not_said_to_be_one(fault):
    timms = ["encoder={name: timm, model: test_vit, image_size: 32}"]
    larger = ["encoder={name: timm, model: test_vit, image_size: 64}", "projector.hidden_dim=8"]
    assert fault(timms, larger) == (
        "size mismatch: encoder.pos_embed is (1, 17, 64) there and (1, 5, 64) by the config; "
        "its shapes ask for projector.hidden_dim=8"
    )


@pytest.mark.parametrize("width", [0.0625, 0.07, 0.3, 1.5])
def test_a_width_of_the_same_channels_is_no_difference(fault, width):
    found = fault([f"encoder.width={width}"], [f"encoder.width={width}", "encoder.stem=imagenet"])
    assert found.endswith("; its shapes ask for encoder.stem=imagenet")


def test_weights_of_another_kind_ask_for_nothing():
    weights = {
        "encoder.stem.weight": torch.ones(2),
        "encoder.patch_embed.proj.weight": torch.ones(2, 3),
    }
    assert settings_in(weights) == {"encoder.name": "vit"}
    assert settings_in({"encoder.stem.weight": torch.ones(2)}) == {}
