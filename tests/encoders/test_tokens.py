import pytest
import torch

from alignctl.config.encoder_configs import ResNetConfig, TimmConfig, ViTConfig
from alignctl.encoders import build_network
from alignctl.encoders.resnet import ResNet
from alignctl.encoders.timm_models import build_timm_model
from alignctl.encoders.tokens import has_tokens, refuse_without_tokens, tokens
from alignctl.encoders.vit import ViT
from alignctl.errors import ConfigError

SIZES = {"image_size": 8, "patch_size": 2, "num_layers": 2, "num_heads": 3,
         "hidden_dim": 24, "mlp_dim": 48}  # fmt: skip
# In turn: a class token, a mean whose norm comes after it, attention pooling, two tokens in front.
TIMMS = ["test_vit", "test_vit2", "test_vit3", "deit_tiny_distilled_patch16_224"]


def images(number=3, side=8):
    return torch.randn(number, 3, side, side, generator=torch.Generator().manual_seed(0))


@pytest.fixture(scope="module")
def encoder():
    """A vision transformer whose positions and class token are far from zero."""
    torch.manual_seed(0)
    made = ViT(ViTConfig(name="vit", **SIZES)).eval().requires_grad_(False)
    made.pos_embed.normal_()
    made.cls_token.normal_()
    return made


@pytest.fixture(params=["vit", *TIMMS])
def family(request, encoder):
    """An encoder with tokens, and the side of its images."""
    if request.param == "vit":
        return encoder, 8
    return build_timm_model(TimmConfig(name="timm", model=request.param, image_size=32)).eval(), 32


def test_pooled_tokens_are_the_output(family):
    encoder, side = family
    with torch.no_grad():
        found = tokens(encoder, images(side=side))
        assert torch.equal(encoder.forward_head(found), encoder(images(side=side)))
    num_patches = (side // encoder.patch_embed.patch_size[0]) ** 2
    assert found.shape == (3, encoder.num_prefix_tokens + num_patches, encoder.embed_dim)


def test_all_patches_in_their_order_are_no_mask(family):
    encoder, side = family
    everything = tokens(encoder, images(side=side))
    keep = torch.arange(everything.shape[1] - encoder.num_prefix_tokens).repeat(3, 1)
    assert torch.equal(tokens(encoder, images(side=side), keep), everything)
    assert torch.equal(tokens(encoder, images(side=side)), everything), "the mask is gone again"


def by_hand(encoder, image, keep):
    """Tokens of one image: each patch projected and placed for itself, blocks on those kept."""
    size, weight = encoder.patch_embed.patch_size[0], encoder.patch_embed.proj.weight
    columns = image.shape[2] // size
    rows = [encoder.cls_token[0, 0] + encoder.pos_embed[0, 0]]
    for place in keep:
        top, left = size * (place // columns), size * (place % columns)
        patch = image[:, top : top + size, left : left + size]
        projected = (weight * patch).sum(dim=(1, 2, 3)) + encoder.patch_embed.proj.bias
        rows.append(projected + encoder.pos_embed[0, 1 + place])
    return encoder.norm(encoder.blocks(torch.stack(rows)[None]))[0]


def test_only_kept_patches_are_seen_at_their_places_and_in_the_order_of_keep(encoder):
    keep = torch.tensor([[0, 1, 2, 15], [9, 3, 4, 8], [5, 5, 0, 1]])
    found = tokens(encoder, images(), keep)
    assert found.shape == (3, 1 + 4, 24)
    for one, image, places in zip(found, images(), keep.tolist(), strict=True):
        torch.testing.assert_close(one, by_hand(encoder, image, places), rtol=1e-4, atol=1e-5)
    changed = images()
    changed[0, :, 4:6, 4:6] += 1  # patch 10, which no image keeps
    assert torch.equal(tokens(encoder, changed, keep), found)
    assert not torch.equal(tokens(encoder, changed), tokens(encoder, images()))


def test_gradients_reach_the_kept_patches_alone():
    encoder, pixels = ViT(ViTConfig(name="vit", **SIZES)), images().requires_grad_()
    tokens(encoder, pixels, torch.tensor([[0], [5], [15]])).sum(dim=2).pow(2).sum().backward()
    assert all(parameter.grad is not None for parameter in encoder.parameters())
    places = [(0, 0), (2, 2), (6, 6)]
    for gradient, (top, left) in zip(pixels.grad, places, strict=True):
        gradient[:, top : top + 2, left : left + 2] = 0
        assert not gradient.any()


@pytest.mark.parametrize(
    "keep", [torch.zeros(3, 2), torch.zeros(3, dtype=torch.int64), torch.zeros(2, 2).long()]
)
def test_a_mask_of_another_kind_is_refused(encoder, keep):
    with pytest.raises(ValueError, match=r"keep: want \(n, k\) int64 of 3 images, not "):
        tokens(encoder, images(), keep)


@pytest.mark.parametrize(
    ("build", "name"),
    [
        (lambda: ResNet(ResNetConfig(name="resnet18", width=0.0625)), "ResNet"),
        (lambda: build_timm_model(TimmConfig(name="timm", model="test_resnet")), "ResNet"),
        (lambda: build_timm_model(TimmConfig(name="timm", model="test_convnext")), "ConvNeXt"),
    ],
)
def test_an_encoder_without_tokens_is_one_line(build, name):
    encoder = build()
    assert not has_tokens(encoder)
    for ask in (lambda: refuse_without_tokens(encoder), lambda: tokens(encoder, images())):
        with pytest.raises(ConfigError) as error:
            ask()
        assert str(error.value).startswith(f"encoder: {name} has no patch tokens; ")
        assert "\n" not in str(error.value)


# --- of a network


@pytest.fixture
def network(make_study):
    """A function of training options: a network of a tiny vision transformer."""

    def make(**training):
        options = make_study().training.model_dump() | training
        study = make_study(encoder={"name": "vit", **SIZES}, training=options)
        return build_network(study).eval().requires_grad_(False)

    return make


@pytest.mark.parametrize("channels_last", [True, False])
@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_a_networks_tokens_have_the_precision_of_its_output(network, precision, channels_last):
    made = network(precision=precision, channels_last=channels_last)
    found = made.tokens(images())
    assert found.dtype == torch.float32
    assert torch.equal(found[:, 0], made(images()).h)
    keep = torch.tensor([[3, 1], [0, 2], [7, 15]])
    masked = made.tokens(images(), keep)
    assert masked.shape == (3, 3, 24)
    exact = network().tokens(images(), keep)
    assert torch.equal(masked, exact) == (precision == "float32"), "computed in another precision"
    torch.testing.assert_close(masked, exact, rtol=0.05, atol=0.05)


def test_a_network_in_float64_has_tokens_in_float64(network):
    made = network().double()
    assert made.tokens(images().double()).dtype == torch.float64
