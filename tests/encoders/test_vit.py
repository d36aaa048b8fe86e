import pytest
import torch
from torchvision.models.vision_transformer import VisionTransformer

from alignctl.config.load import validate_study
from alignctl.config.models import ViTConfig
from alignctl.encoders import build_network
from alignctl.encoders.vit import ViT
from alignctl.errors import ConfigError
from alignctl.runs.checkpoints import digest

TINY = {"num_layers": 2, "num_heads": 3, "hidden_dim": 24, "mlp_dim": 48}
TRAINING = {"epochs": 1, "batch_size": 8, "optimizer": {"name": "sgd", "learning_rate": 0.1}}


def sizes(image_size, patch_size):
    return {"image_size": image_size, "patch_size": patch_size, **TINY}


def vit(image_size=8, patch_size=4):
    return ViT(ViTConfig(name="vit", **sizes(image_size, patch_size)))


@pytest.mark.parametrize(("image_size", "patch_size"), [(8, 4), (32, 4), (64, 8), (48, 16)])
def test_it_is_torchvisions_network_without_the_classifier(image_size, patch_size):
    torch.manual_seed(0)
    reference = VisionTransformer(**sizes(image_size, patch_size), num_classes=7)
    expected = {k: v for k, v in reference.state_dict().items() if not k.startswith("heads.")}
    reference.heads = torch.nn.Identity()
    ours = vit(image_size, patch_size)
    assert {k: v.shape for k, v in ours.state_dict().items()} == {
        k: v.shape for k, v in expected.items()
    }
    ours.load_state_dict(expected)
    images = torch.randn(3, 3, image_size, image_size)
    for mode in (True, False):
        found = ours.train(mode)(images)
        torch.testing.assert_close(found, reference.train(mode)(images), rtol=0, atol=0)
        assert found.shape == (3, ours.feature_dim) == (3, 24)


def test_the_output_is_the_class_token_after_the_last_norm():
    encoder, seen = vit(), []
    encoder.encoder.ln.register_forward_hook(lambda module, inputs, output: seen.append(output))
    found = encoder(torch.randn(2, 3, 8, 8))
    assert seen[0].shape == (2, 1 + 4, 24)
    assert torch.equal(found, seen[0][:, 0])


@pytest.mark.parametrize(
    ("side", "patch", "dim", "mlp", "millions"),
    [(32, 4, 384, 1536, 21.3), (64, 8, 384, 1536, 21.4), (224, 16, 768, 3072, 85.8)],
)
def test_the_papers_sizes(side, patch, dim, mlp, millions):
    config = ViTConfig(name="vit", image_size=side, patch_size=patch, hidden_dim=dim, mlp_dim=mlp)
    with torch.device("meta"):
        encoder = ViT(config)
    parameters = sum(p.numel() for p in encoder.parameters())
    # per layer: queries, keys, values and their projection; the MLP; two norms
    layer = 4 * dim * dim + 4 * dim + 2 * dim * mlp + dim + mlp + 4 * dim
    tokens = (side // patch) ** 2 + 1
    ends = dim + 3 * patch * patch * dim + dim + tokens * dim + 2 * dim
    assert parameters == 12 * layer + ends
    assert parameters / 1e6 == pytest.approx(millions, abs=0.06)
    assert encoder.encoder.layers.encoder_layer_0.num_heads == 12


def test_nothing_in_it_draws_random_numbers():
    encoder = vit().train()
    images = torch.randn(4, 3, 8, 8)
    before = torch.random.get_rng_state()
    assert torch.equal(encoder(images), encoder(images))
    assert torch.equal(torch.random.get_rng_state(), before)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"patch_size": 3}, "image_size 8 is not a multiple of patch_size 3"),
        ({"num_heads": 5}, "hidden_dim 24 is not a multiple of num_heads 5"),
    ],
)
def test_sizes_that_do_not_divide_are_refused(change, message):
    with pytest.raises(ValueError, match=message):
        ViTConfig(name="vit", **{**sizes(8, 4), **change})


@pytest.fixture
def study(make_study):
    """A function of changed keys and training options: a study of a tiny vision transformer."""

    def make(seed=0, **training):
        return make_study(
            encoder={"name": "vit", **sizes(8, 4)},
            projector={"hidden_dim": 16, "output_dim": 8},
            seed=seed,
            training={**TRAINING, **training},
        )

    return make


def test_initial_weights_are_a_function_of_config_and_seed_alone(study):
    torch.manual_seed(1)
    first = digest(build_network(study()).state_dict())
    torch.manual_seed(2)
    assert digest(build_network(study(precision="bfloat16")).state_dict()) == first
    assert digest(build_network(study(seed=1)).state_dict()) != first


def test_channels_last_changes_no_number(study):
    images = torch.randn(6, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    first, second = (build_network(study(channels_last=flag)).eval() for flag in (True, False))
    assert digest(first.state_dict()) == digest(second.state_dict())
    torch.testing.assert_close(first(images).h, second(images).h)


def test_bfloat16_is_close_to_float32(study):
    images = torch.randn(6, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    exact = build_network(study()).eval()(images).h
    found = build_network(study(precision="bfloat16")).eval()(images).h
    assert found.dtype == torch.float32
    assert not torch.equal(found, exact), "computed in float32 after all"
    torch.testing.assert_close(found, exact, rtol=0.05, atol=0.05)


def test_the_config_names_the_wrong_size(values):
    values["encoder"] = {"name": "vit", "image_size": 30, "patch_size": 4}
    with pytest.raises(ConfigError, match=r"^here: encoder: image_size 30 is not a multiple of"):
        validate_study(values, "here")
