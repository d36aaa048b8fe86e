import pytest
import torch

from alignctl.config.encoder_configs import ResNetConfig, ViTConfig
from alignctl.encoders import build_network, check_image_size, empty_network
from alignctl.errors import ConfigError
from alignctl.runs.checkpoints import digest

SMALL = {
    "encoder": {"name": "resnet18", "width": 0.0625},
    "projector": {"hidden_dim": 16, "output_dim": 8},
}


def training(**options):
    optimizer = {"name": "sgd", "learning_rate": 0.1}
    return {"epochs": 1, "batch_size": 8, "optimizer": optimizer, **options}


@pytest.fixture
def small_study(make_study):
    """A function of changed keys: a study with a small network."""
    return lambda **changes: make_study(**{**SMALL, **changes})


def images():
    return torch.randn(6, 3, 8, 8, generator=torch.Generator().manual_seed(0))


def test_h_is_the_encoders_output_and_g_the_projectors(small_study):
    network = build_network(small_study()).eval()
    found = network(images())
    torch.testing.assert_close(found.h, network.encoder(images()))
    torch.testing.assert_close(found.g, network.projector(network.encoder(images())))
    assert (found.h.shape, found.g.shape) == ((6, 32), (6, 8))


def test_h_and_g_are_float32_under_bfloat16(small_study):
    found, exact = (
        build_network(small_study(training=training(precision=precision))).eval()(images())
        for precision in ("bfloat16", "float32")
    )
    assert found.h.dtype == found.g.dtype == torch.float32
    assert not torch.equal(found.h, exact.h), "computed in float32 after all"
    torch.testing.assert_close(found.h, exact.h, rtol=0.05, atol=0.05)
    torch.testing.assert_close(found.h, found.h.bfloat16().float(), rtol=0, atol=0)


def test_channels_last_is_another_layout_of_the_same_network(small_study):
    networks = [
        build_network(small_study(training=training(channels_last=flag))).eval()
        for flag in (True, False)
    ]
    layouts = [
        network.encoder.layer1[0].conv1.weight.is_contiguous(memory_format=torch.channels_last)
        for network in networks
    ]
    assert layouts == [True, False]
    assert digest(networks[0].state_dict()) == digest(networks[1].state_dict())
    first, second = (network(images()) for network in networks)
    torch.testing.assert_close(first.h, second.h)


def test_initial_weights_are_a_function_of_config_and_seed_alone(small_study):
    torch.manual_seed(1)
    first = digest(build_network(small_study()).state_dict())
    torch.manual_seed(2)
    same = small_study(objectives=["ce"], temperature=0.07, training=training(precision="bfloat16"))
    assert digest(build_network(same).state_dict()) == first
    assert digest(build_network(small_study(seed=1)).state_dict()) != first


def test_building_leaves_the_global_generator_alone(small_study):
    torch.manual_seed(3)
    expected = torch.rand(4)
    torch.manual_seed(3)
    build_network(small_study())
    torch.testing.assert_close(torch.rand(4), expected, rtol=0, atol=0)


VIT = {"name": "vit", "image_size": 8, "num_layers": 1, "num_heads": 3, "hidden_dim": 24}


@pytest.mark.parametrize("encoder", [SMALL["encoder"], VIT])
def test_an_empty_network_takes_weights_and_needs_no_file_of_them(small_study, encoder):
    original = build_network(small_study(encoder=encoder)).eval()
    empty = empty_network(small_study(encoder={**encoder, "weights": "/nowhere.pth"}))
    assert all(tensor.is_meta for tensor in empty.state_dict().values())
    empty.load_state_dict(original.state_dict(), assign=True)
    torch.testing.assert_close(empty.eval()(images()).g, original(images()).g)


def test_an_encoder_of_one_size_says_which():
    config = ViTConfig(name="vit")
    check_image_size(config, 32, 32)
    for height, width in ((8, 8), (32, 64), (64, 32)):
        with pytest.raises(ConfigError) as error:
            check_image_size(config, height, width)
        message = f"encoder.image_size: 32, but the images are {height}x{width}"
        assert str(error.value) == message
    check_image_size(ResNetConfig(name="resnet18"), 8, 24)
