import pytest
import torch
from torch import nn

from alignctl.encoders import build_network, empty_network
from alignctl.encoders.activations import activation_names, layer_of
from alignctl.features.extraction import features as features_of
from alignctl.runs.checkpoints import digest


def features(networks, images, representation, augmentation):
    """One representation of each network."""
    found = features_of(networks, images, [representation], augmentation)
    return [matrix for (matrix,) in found]


VIT = {"name": "vit", "image_size": 8, "num_layers": 2, "num_heads": 3, "hidden_dim": 24,
       "mlp_dim": 48}  # fmt: skip
RESNET = {"name": "resnet18", "width": 0.0625}


@pytest.fixture
def study(make_study):
    """A function of an encoder: a study with it and a small projector."""
    return lambda encoder: make_study(
        encoder=encoder, projector={"hidden_dim": 16, "output_dim": 8}
    )


def names_of(network):
    return activation_names(network.encoder, height=8, width=8)


def test_names_of_a_vision_transformer_are_timms(study):
    names = names_of(build_network(study(VIT)))
    assert names[:2] == ("patch_embed.proj", "patch_embed.norm")
    parts = ["norm1", "attn.qkv", "attn.proj", "attn", "norm2", "mlp.fc1", "mlp.act", "mlp.fc2"]
    places = [names.index(f"blocks.1.{part}") for part in parts]
    assert places == sorted(places)
    assert {"blocks.0", "blocks.1", "blocks", "norm", "patch_embed"} < set(names)
    assert not [name for name in names if "q_norm" in name or "attn_drop" in name]


def test_names_of_a_resnet_are_torchvisions(study):
    names = names_of(build_network(study(RESNET)))
    assert names[0] == "conv1"
    assert {"bn1", "layer1.0.conv2", "layer2.0.downsample.0", "layer4", "avgpool"} < set(names)


@pytest.mark.parametrize("encoder", [VIT, RESNET], ids=["vit", "resnet"])
def test_every_name_is_one_of_representation_and_no_other_layer_is(study, encoder):
    made = study(encoder)
    network = build_network(made).eval()
    names = names_of(network)
    images = torch.randint(256, (3, 8, 8, 3), dtype=torch.uint8)
    for name in names:
        (found,) = features([network], images, name, made.augmentation)
        (full,) = features([network], images, f"encoder.{name}", made.augmentation)
        assert found.shape[0] == 3
        assert torch.equal(found, full)


def test_nothing_in_the_encoder_changes(study):
    network = build_network(study(RESNET))
    network.encoder.layer1.eval()
    before = digest(network.state_dict()), [m.training for m in network.modules()]
    names_of(network)
    assert (digest(network.state_dict()), [m.training for m in network.modules()]) == before
    assert not [module for module in network.modules() if module._forward_hooks]


@pytest.mark.parametrize("encoder", [VIT, RESNET], ids=["vit", "resnet"])
def test_an_empty_network_has_the_same_names(study, encoder):
    assert names_of(empty_network(study(encoder))) == names_of(build_network(study(encoder)))


def test_a_layer_is_found_by_the_networks_and_by_the_encoders_name(study):
    network = build_network(study(VIT))
    qkv = network.encoder.blocks[1].attn.qkv
    assert layer_of(network, "encoder.blocks.1.attn.qkv") is qkv
    assert layer_of(network, "blocks.1.attn.qkv") is qkv
    assert layer_of(network, "projector.0") is network.projector[0]
    assert layer_of(network, "blocks.2") is None
    assert layer_of(network, "") is None
    assert layer_of(nn.Linear(2, 2), "encoder") is None
