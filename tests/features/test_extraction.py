from contextlib import nullcontext

import pytest
import torch
from torch import nn

from alignctl.encoders import build_network
from alignctl.encoders.network import Representations
from alignctl.errors import ConfigError
from alignctl.features import extraction as module
from alignctl.features.extraction import features as features_of
from alignctl.views.augmentations import normalise


def features(networks, images, representation, augmentation):
    """One representation of each network."""
    found = features_of(networks, images, [representation], augmentation)
    return [matrix for (matrix,) in found]


@pytest.fixture
def networks(small_study):
    return [build_network(small_study(f"seed={seed}")).eval() for seed in (0, 1)]


@pytest.fixture
def images():
    stream = torch.Generator().manual_seed(0)
    return torch.randint(256, (11, 8, 8, 3), generator=stream, dtype=torch.uint8)


@pytest.mark.parametrize("representation", ["h", "g"])
def test_features_are_what_each_network_makes_of_the_plain_images(
    networks, images, small_study, monkeypatch, representation
):
    monkeypatch.setattr(module, "IMAGES_PER_PASS", 4)  # so that the last pass is smaller
    augmentation = small_study().augmentation
    found = features(networks, images, representation, augmentation)
    for network, matrix in zip(networks, found, strict=True):
        with torch.no_grad():
            one_by_one = [
                getattr(network(normalise(image[None], augmentation)), representation)
                for image in images
            ]
        assert matrix.dtype == torch.float32
        torch.testing.assert_close(matrix, torch.cat(one_by_one), rtol=1e-4, atol=1e-5)
    assert not torch.allclose(*found)


def test_no_images_have_empty_features(networks, images, small_study):
    for representation, width in (("h", 32), ("g", 8), ("encoder.layer2", 8)):
        found = features(networks, images[:0], representation, small_study().augmentation)
        assert [matrix.shape for matrix in found] == [(0, width)] * 2


def test_one_pass_gives_all_representations(networks, images, small_study, monkeypatch):
    monkeypatch.setattr(module, "IMAGES_PER_PASS", 4)
    passes = []
    for network in networks:
        network.encoder.register_forward_hook(lambda *_: passes.append(1))
    names = ["g", "encoder.layer2", "h", "layer3", "encoder.bn1"]
    augmentation = small_study().augmentation
    found = features_of(networks, images, names, augmentation)
    assert len(passes) == 2 * 3, "two networks, eleven images by four"
    for place, name in enumerate(names):
        alone = features(networks, images, name, augmentation)
        for of_network, expected in zip(found, alone, strict=True):
            assert torch.equal(of_network[place], expected)


@torch.no_grad()
def by_hand(network, images, augmentation, layer):
    """The output of a layer as it comes out, averaged over positions: (n, d)."""
    seen = []
    module = dict(network.named_modules())[layer]
    hook = module.register_forward_hook(lambda module, inputs, output: seen.append(output.clone()))
    network(normalise(images, augmentation))
    hook.remove()
    output = seen[-1]  # a block calls its relu more than once
    return output if output.ndim == 2 else output.flatten(2).mean(dim=2)


def layers_of(network):
    return [name for name, _ in network.named_modules() if name]


def check_layers(networks, layers, images, augmentation):
    for layer in layers:
        found = features(networks, images, layer, augmentation)
        for network, matrix in zip(networks, found, strict=True):
            assert matrix.dtype == torch.float32
            expected = by_hand(network, images, augmentation, layer)
            message = f"{layer} differs"
            torch.testing.assert_close(matrix, expected, rtol=1e-4, atol=1e-5, msg=message)


def test_a_layer_gives_its_output_averaged_over_positions(
    networks, images, small_study, monkeypatch
):
    monkeypatch.setattr(module, "IMAGES_PER_PASS", 4)
    layers = [name for name in layers_of(networks[0]) if not is_changed_in_place(name)]
    assert {"encoder", "encoder.conv1", "encoder.layer3", "projector.0"} < set(layers)
    check_layers(networks, layers, images, small_study().augmentation)


def is_changed_in_place(layer):
    """Whether what follows a layer writes over its output: ReLU over that of a batch norm."""
    return ".bn" in layer or layer == "projector.1"


@pytest.mark.parametrize("layer", ["encoder.bn1", "encoder.layer1.0.bn2", "projector.1"])
def test_a_layer_before_one_that_works_in_place_gives_its_own_output(
    networks, images, small_study, layer
):
    check_layers(networks, [layer], images, small_study().augmentation)


def test_the_encoder_and_the_projector_as_layers_are_h_and_g(networks, images, small_study):
    for layer, representation in (("encoder", "h"), ("projector", "g")):
        found = features(networks, images, layer, small_study().augmentation)
        expected = features(networks, images, representation, small_study().augmentation)
        assert all(map(torch.equal, found, expected))


class Tokens(nn.Module):
    """Pixels (n, 3, height, width) to tokens (n, height * width, 3)."""

    def forward(self, pixels):
        return pixels.flatten(2).transpose(1, 2)


class OfTokens(nn.Module):
    """A network whose first layer gives tokens."""

    def __init__(self):
        super().__init__()
        self.tokens = Tokens()

    def forward(self, pixels):
        h = self.tokens(pixels)[:, 0]
        return Representations(h, h)


def test_tokens_are_averaged(images, small_study):
    augmentation = small_study().augmentation
    (found,) = features([OfTokens()], images, "tokens", augmentation)
    expected = normalise(images, augmentation).mean(dim=(2, 3))
    torch.testing.assert_close(found, expected)


@pytest.fixture
def vit(make_study):
    sizes = {"image_size": 8, "num_layers": 2, "num_heads": 3, "hidden_dim": 24, "mlp_dim": 48}
    return build_network(make_study(encoder={"name": "vit", **sizes})).eval()


def test_a_block_of_a_vision_transformer_gives_the_mean_of_its_tokens(vit, images, small_study):
    augmentation = small_study().augmentation
    layer = "encoder.blocks.1"
    (found,) = features([vit], images, layer, augmentation)
    seen = []
    vit.get_submodule(layer).register_forward_hook(lambda *call: seen.append(call[-1].detach()))
    vit(normalise(images, augmentation))
    assert seen[0].shape == (11, 5, 24)
    torch.testing.assert_close(found, seen[0].mean(dim=1), rtol=1e-4, atol=1e-5)


def test_queries_keys_and_values_have_a_layer(vit, images, small_study):
    augmentation = small_study().augmentation
    (found,) = features([vit], images, "encoder.blocks.1.attn.qkv", augmentation)
    (normed,) = features([vit], images, "encoder.blocks.1.norm1", augmentation)
    qkv = vit.encoder.blocks[1].attn.qkv  # linear: the mean of its outputs is that of the mean
    with torch.inference_mode():
        expected = qkv(normed)
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)


class Pair(Tokens):
    """Tokens, and nothing else beside them."""

    def forward(self, pixels):
        return super().forward(pixels), None


def test_a_layer_that_gives_a_tuple_is_refused(images, small_study):
    network = OfTokens()
    network.tokens = Pair()
    with pytest.raises(ConfigError) as error:
        features([network], images, "tokens", small_study().augmentation)
    assert str(error.value) == "--representation: 'tokens' gives a tuple, not one tensor"


@pytest.mark.parametrize(
    ("part", "words"),
    [("attn.attn_drop", "is computed inside another layer, which does not")],
)
def test_a_layer_without_an_output_of_its_own_is_refused(vit, images, small_study, part, words):
    layer = f"encoder.blocks.0.{part}"
    with pytest.raises(ConfigError) as error:
        features([vit], images, layer, small_study().augmentation)
    assert str(error.value).startswith(f"--representation: '{layer}' {words}")
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("fails", [False, True])
def test_hooks_are_gone_afterwards(networks, images, small_study, monkeypatch, fails):
    def fail(*_, **__):
        raise RuntimeError("out of memory")

    if fails:
        monkeypatch.setattr(module, "pooled", fail)
    ending = pytest.raises(RuntimeError) if fails else nullcontext()
    with ending:
        features(networks, images, "encoder.layer1", small_study().augmentation)
    for network in networks:
        assert not any(part._forward_hooks for part in network.modules())
