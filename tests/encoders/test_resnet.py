import pytest
import torch
import torchvision

from alignctl.config.encoder_configs import ResNetConfig
from alignctl.encoders.resnet import ResNet

NAMES = ("resnet18", "resnet34", "resnet50", "resnet101")
FEATURE_DIM = {"resnet18": 512, "resnet34": 512, "resnet50": 2048, "resnet101": 2048}


def resnet(name="resnet18", **options):
    return ResNet(ResNetConfig(name=name, **options))


@pytest.mark.parametrize("name", NAMES)
def test_with_the_imagenet_stem_it_is_torchvisions_network_without_the_classifier(name):
    torch.manual_seed(0)
    reference = torchvision.models.get_model(name)
    reference.fc = torch.nn.Identity()
    expected = {key: tuple(tensor.shape) for key, tensor in reference.state_dict().items()}
    ours = resnet(name, stem="imagenet")
    assert {key: tuple(tensor.shape) for key, tensor in ours.state_dict().items()} == expected
    assert list(ours.state_dict()) == list(reference.state_dict())
    ours.load_state_dict(reference.state_dict())
    images = torch.randn(2, 3, 64, 64)
    for mode in (True, False):
        found = ours.train(mode)(images)
        torch.testing.assert_close(found, reference.train(mode)(images), rtol=0, atol=0)
        assert found.shape == (2, ours.feature_dim) == (2, FEATURE_DIM[name])


def test_initial_weights_are_spread_as_torchvisions_are():
    torch.manual_seed(0)
    ours = resnet(stem="imagenet").state_dict()
    reference = torchvision.models.resnet18().state_dict()
    for key, tensor in ours.items():
        if tensor.ndim == 4:
            assert tensor.std().item() == pytest.approx(reference[key].std().item(), rel=0.05)
        else:
            torch.testing.assert_close(tensor, reference[key], rtol=0, atol=0)


def test_the_small_stem_keeps_the_resolution():
    encoder = resnet(width=0.0625)
    stem = torch.nn.Sequential(encoder.conv1, encoder.bn1, encoder.relu, encoder.maxpool)
    assert stem(torch.randn(2, 3, 8, 8)).shape == (2, 4, 8, 8)
    assert encoder.conv1.weight.shape == (4, 3, 3, 3)


@pytest.mark.parametrize(
    ("name", "width", "stem_channels", "feature_dim"),
    [("resnet18", 0.5, 32, 256), ("resnet50", 0.25, 16, 512), ("resnet34", 1.5, 96, 768),
     ("resnet18", 0.001, 1, 1)],
)  # fmt: skip
def test_the_width_multiplies_every_layer(name, width, stem_channels, feature_dim):
    encoder = resnet(name, width=width)
    assert encoder.conv1.out_channels == stem_channels
    assert encoder.feature_dim == feature_dim
    assert encoder(torch.randn(2, 3, 8, 8)).shape == (2, feature_dim)
