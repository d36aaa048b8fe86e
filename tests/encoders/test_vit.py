import pytest
import torch
from timm.models.vision_transformer import VisionTransformer
from torchvision.models.vision_transformer import VisionTransformer as TorchvisionsTransformer

from alignctl.config.encoder_configs import ViTConfig
from alignctl.config.load import validate_study
from alignctl.encoders import build_network, empty_network
from alignctl.encoders.torchvision_names import with_torchvision_names
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
def test_it_is_timms_network_without_the_classifier(image_size, patch_size):
    torch.manual_seed(0)
    reference = VisionTransformer(
        image_size, patch_size, embed_dim=24, depth=2, num_heads=3, mlp_ratio=2, num_classes=7
    )
    reference.reset_classifier(0)
    expected = reference.state_dict()
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


# int(11 * (15 / 11)) is 14
@pytest.mark.parametrize(("hidden_dim", "mlp_dim"), [(11, 15), (7, 61), (48, 1), (6, 49)])
def test_widths_are_those_of_the_config(hidden_dim, mlp_dim):
    widths = {"hidden_dim": hidden_dim, "mlp_dim": mlp_dim, "num_heads": 1}
    encoder = ViT(ViTConfig(name="vit", **{**sizes(8, 4), **widths}))
    assert encoder.blocks[0].mlp.fc1.weight.shape == (mlp_dim, hidden_dim)
    assert encoder(torch.randn(2, 3, 8, 8)).shape == (2, hidden_dim)


def test_initial_weights_are_torchvisions():
    torch.manual_seed(4)
    reference = TorchvisionsTransformer(**sizes(8, 4), num_classes=1)
    reference.heads = torch.nn.Identity()
    after = torch.random.get_rng_state()
    torch.manual_seed(4)
    encoder = vit()
    assert digest(with_torchvision_names(encoder.state_dict())) == digest(reference.state_dict())
    assert torch.equal(torch.random.get_rng_state(), after), "the projector's weights come next"
    assert all(parameter.requires_grad for parameter in encoder.parameters())


def test_the_output_is_the_class_token_after_the_last_norm():
    encoder, seen = vit(), []
    encoder.norm.register_forward_hook(lambda module, inputs, output: seen.append(output))
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
    assert encoder.blocks[0].attn.num_heads == 12


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


def test_an_empty_network_takes_the_weights_of_another(study):
    original, loaded = build_network(study()).eval(), empty_network(study())
    assert all(parameter.is_meta for parameter in loaded.parameters())
    loaded.load_state_dict(original.state_dict(), assign=True)
    images = torch.randn(2, 3, 8, 8)
    assert torch.equal(loaded.eval()(images).h, original(images).h)


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
