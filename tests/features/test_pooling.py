import pytest
import torch

from alignctl.features.pooling import pooled

SQUARE, WIDE = torch.Size([5, 3, 8, 8]), torch.Size([5, 3, 8, 16])


def filled(*shape):
    return torch.randn(shape, generator=torch.Generator().manual_seed(0))


def test_vectors_stay_as_they_are():
    output = filled(5, 7)
    assert pooled(output, SQUARE) is output


@pytest.mark.parametrize("any_layout", [False, True])
def test_tokens_are_averaged(any_layout):
    output = filled(5, 9, 7)
    expected = sum(output[:, token] for token in range(9)) / 9
    torch.testing.assert_close(pooled(output, SQUARE, any_layout=any_layout), expected)


@pytest.mark.parametrize("shape", [(5, 7, 4, 4), (5, 4, 4, 4), (5, 8, 8, 16), (5, 7, 1, 1)])
def test_maps_are_averaged_over_height_and_width(shape):
    output = filled(*shape)
    expected = output.flatten(2).mean(dim=2)
    torch.testing.assert_close(pooled(output, SQUARE), expected)


@pytest.mark.parametrize(
    ("shape", "pixels"),
    [((5, 4, 4, 7), SQUARE), ((5, 1, 1, 7), SQUARE), ((5, 4, 8, 3), WIDE), ((5, 2, 2, 1), WIDE)],
)
def test_maps_whose_channels_are_last_are_known_by_their_shape(shape, pixels):
    output = filled(*shape)
    found = pooled(output, pixels, any_layout=True)
    torch.testing.assert_close(found, output.flatten(1, 2).mean(dim=1))


@pytest.mark.parametrize(
    ("shape", "pixels"),
    [((5, 7, 4, 4), SQUARE), ((5, 7, 1, 1), SQUARE), ((5, 9, 4, 8), WIDE)],
)
def test_maps_whose_channels_are_first_are_known_by_their_shape(shape, pixels):
    output = filled(*shape)
    found = pooled(output, pixels, any_layout=True)
    torch.testing.assert_close(found, output.flatten(2).mean(dim=2))


@pytest.mark.parametrize(
    ("shape", "pixels"),
    [((5, 4, 4, 4), SQUARE), ((5, 2, 3, 4), SQUARE), ((5, 4, 8, 16), WIDE), ((5, 9, 8, 4), WIDE)],
)
def test_maps_that_could_be_either_or_neither_are_refused(shape, pixels):
    with pytest.raises(ValueError, match="in which positions cannot be told from features"):
        pooled(filled(*shape), pixels, any_layout=True)


def test_what_is_no_tensor_for_each_image_is_refused():
    with pytest.raises(ValueError, match=r"^gives a tuple, not one tensor$"):
        pooled((filled(5, 7), None), SQUARE)
    with pytest.raises(ValueError, match=r"^gives a tensor \(20, 4, 7\) for 5 images$"):
        pooled(filled(20, 4, 7), SQUARE)  # windows of images, as rows of their own
    for shape in [(5,), (5, 2, 2, 2, 2)]:
        with pytest.raises(ValueError, match=r"^gives a tensor "):
            pooled(filled(*shape), SQUARE)
