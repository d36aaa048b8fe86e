"""Models of timm as encoders; timm's own small test models stand for their families."""

import pytest
import timm
import torch
from timm.layers import DropPath
from torch import nn

from alignctl.config.encoder_configs import TimmConfig
from alignctl.encoders import build_network, check_image_size, empty_network
from alignctl.encoders import timm_models as module
from alignctl.encoders.timm_models import build_timm_model
from alignctl.errors import ConfigError
from alignctl.runs.checkpoints import digest

# A convolutional network, a transformer, one with a table of positions that is no weight.
SMALL = ["test_resnet", "test_vit", "test_vit_relpos"]


def config(model, **options):
    return TimmConfig(name="timm", model=model, **options)


def native_images(model, number=2):
    size = timm.get_pretrained_cfg(model).input_size
    return torch.randn(number, *size, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("name", SMALL)
def test_it_is_timms_model_without_the_classifier(name):
    reference = timm.create_model(name, pretrained=False, num_classes=0)
    ours = build_timm_model(config(name))
    assert list(ours.state_dict()) == list(reference.state_dict())
    ours.load_state_dict(reference.state_dict())
    images = native_images(name)
    found = ours.eval()(images)
    torch.testing.assert_close(found, reference.eval()(images), rtol=0, atol=0)
    assert found.shape == (2, ours.feature_dim)


@pytest.mark.parametrize(
    ("name", "feature_dim"), [("mobilenetv3_small_050", 1024), ("ghostnet_050", 1280)]
)
def test_the_feature_dim_is_the_length_of_what_comes_out(name, feature_dim):
    encoder = build_timm_model(config(name))
    assert encoder.eval()(torch.randn(2, 3, 64, 64)).shape == (2, feature_dim)
    assert encoder.feature_dim == feature_dim != encoder.num_features


def test_a_model_of_one_size_is_built_for_another():
    encoder = build_timm_model(config("test_vit", image_size=32))
    assert encoder(torch.randn(2, 3, 32, 32)).shape == (2, encoder.feature_dim)


# --- randomness


def active_rates(model):
    """Every module that would drop something."""
    rates = []
    for part in model.modules():
        rate = part.p if isinstance(part, nn.modules.dropout._DropoutNd) else 0.0
        rate = part.drop_prob if isinstance(part, DropPath) else rate
        if rate or getattr(part, "drop_rate", 0.0):
            rates.append(type(part).__name__)
    return rates


@pytest.mark.parametrize(
    "name",
    [
        "test_vit_relpos",  # dropout in its table of positions
        "rexnet_100",  # dropout before the classifier
        "legacy_seresnet18",  # the same, as a function
        "efficientformerv2_s0",  # none
        "swin_tiny_patch4_window7_224",  # stochastic depth
    ],
)
def test_no_model_draws_random_numbers_while_it_trains(name):
    encoder = build_timm_model(config(name)).train()
    assert active_rates(encoder) == []
    before = torch.random.get_rng_state()
    with torch.no_grad():
        encoder(native_images(name))
    assert torch.equal(torch.random.get_rng_state(), before)


def test_timm_itself_builds_some_that_do():
    for name in ("test_vit_relpos", "rexnet_100", "swin_tiny_patch4_window7_224"):
        assert active_rates(timm.create_model(name, num_classes=0))


def test_a_model_that_still_draws_is_refused(monkeypatch):
    monkeypatch.setattr(module, "_switch_off_chance", lambda part: None)
    module._outcome.cache_clear()
    with pytest.raises(ConfigError) as error:
        build_timm_model(config("test_vit_relpos"))
    assert str(error.value) == (
        "encoder.model: 'test_vit_relpos' draws random numbers of its own (aten.bernoulli_.float), "
        "which objectives cannot share"
    )
    module._outcome.cache_clear()


@pytest.fixture
def study(make_study):
    """A function of a model and changed keys: a study whose encoder it is."""

    def make(model, image_size=None, **changes):
        encoder = {"name": "timm", "model": model, "image_size": image_size}
        projector = {"hidden_dim": 16, "output_dim": 8}
        return make_study(**{"encoder": encoder, "projector": projector, **changes})

    return make


@pytest.mark.parametrize("name", SMALL)
def test_initial_weights_are_a_function_of_config_and_seed_alone(study, name):
    module._outcome.cache_clear()
    torch.manual_seed(1)
    before = torch.random.get_rng_state()
    first = digest(build_network(study(name)).state_dict())
    assert torch.equal(torch.random.get_rng_state(), before)
    torch.manual_seed(2)  # and the model has been tried before
    assert digest(build_network(study(name)).state_dict()) == first
    assert digest(build_network(study(name, seed=1)).state_dict()) != first


# --- networks that get their weights later


@pytest.mark.parametrize(
    ("name", "image_size"),
    [
        ("test_resnet", None),
        ("test_vit_relpos", None),
        ("swin_tiny_patch4_window7_224", None),  # indices of positions
        ("eva02_tiny_patch14_224", 56),  # rotary positions
        ("sequencer2d_s", 64),  # LSTM, which keeps its weights twice
    ],
)
def test_a_network_loaded_into_an_empty_one_computes_the_same(study, name, image_size):
    original = build_network(study(name, image_size)).eval()
    loaded = empty_network(study(name, image_size))
    loaded.load_state_dict(original.state_dict(), assign=True)
    loaded = loaded.to("cpu").eval()
    images = native_images(name) if image_size is None else torch.randn(2, 3, *[image_size] * 2)
    found, expected = loaded(images), original(images)
    torch.testing.assert_close(found.h, expected.h, rtol=0, atol=0)
    torch.testing.assert_close(found.g, expected.g, rtol=0, atol=0)


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
@pytest.mark.parametrize("name", SMALL)
def test_layouts_and_precisions_agree(study, name, precision):
    images = native_images(name)
    training = study(name).training.model_dump()
    exact, other = (
        build_network(study(name, training={**training, **changes})).eval()(images).h
        for changes in ({}, {"channels_last": False, "precision": precision})
    )
    assert other.dtype == torch.float32
    tolerance = 1e-4 if precision == "float32" else 0.1
    torch.testing.assert_close(other, exact, rtol=tolerance, atol=tolerance)


# --- what is refused


@pytest.mark.parametrize(
    ("model", "options", "message"),
    [
        ("resnet5", {}, "encoder.model: 'resnet5' is no model of timm; did you mean 'resnet50'?"),
        ("hf-hub:timm/resnet18", {}, "encoder.model: 'hf-hub:timm/resnet18' is no model of timm"),
        (
            "resnet18.nowhere",
            {},
            "encoder.model: timm cannot build 'resnet18.nowhere': Invalid pretrained tag",
        ),
        (
            "test_resnet",
            {"image_size": 32},
            "encoder.image_size: 'test_resnet' is not built for one size of image; leave it out",
        ),
        (
            "swin_tiny_patch4_window7_224",
            {"image_size": 1},
            "encoder.model: 'swin_tiny_patch4_window7_224' does not take images of 1x1: ",
        ),
        (
            "gemma4_vit_167m_enc",
            {},
            "encoder.model: 'gemma4_vit_167m_enc' does not give one vector for each image (but (",
        ),
    ],
)
def test_what_cannot_be_an_encoder_is_one_line(model, options, message):
    with pytest.raises(ConfigError) as error:
        build_timm_model(config(model, **options))
    assert str(error.value).startswith(message)
    assert "\n" not in str(error.value)


def test_nothing_is_downloaded(monkeypatch):
    import socket

    def refuse(*_):
        raise AssertionError("asked for the network")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    build_timm_model(config("test_vit.r160_in1k"))


@pytest.mark.parametrize(
    ("model", "image_size", "shape", "message"),
    [
        ("test_vit", 32, (8, 8), "encoder.image_size: 32, but the images are 8x8"),
        ("test_vit", 32, (32, 64), "encoder.image_size: 32, but the images are 32x64"),
        (
            "test_vit",
            None,
            (8, 8),
            "encoder.model: 'test_vit' does not take images of 8x8: Input height (8) should "
            "be divisible by patch size (16) (models of one size take encoder.image_size)",
        ),
        (
            "test_efficientnet",
            None,
            (8, 8),
            "encoder.model: 'test_efficientnet' does not take images of 8x8: they are too small: ",
        ),
        ("vgg11", None, (8, 8), "encoder.model: 'vgg11' does not take images of 8x8: "),
    ],
)
def test_images_of_another_size_are_one_line(model, image_size, shape, message):
    with pytest.raises(ConfigError) as error:
        check_image_size(config(model, image_size=image_size), *shape)
    assert str(error.value).startswith(message)
    assert "\n" not in str(error.value)


def test_images_of_the_right_size_pass():
    check_image_size(config("test_vit", image_size=32), 32, 32)
    check_image_size(config("test_vit"), 160, 160)
    check_image_size(config("test_resnet"), 8, 24)
