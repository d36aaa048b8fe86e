import math
from collections import Counter
from collections.abc import Iterator

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torchvision.transforms import ColorJitter, RandomResizedCrop
from torchvision.transforms.v2 import functional as reference
from whole_batches import views_of, views_of_crops

from alignctl.config.training_config import AugmentationConfig
from alignctl.randomness import uniforms
from alignctl.views.augmentations import (
    NUM_DRAWS,
    ViewParameters,
    adjust_brightness,
    adjust_contrast,
    adjust_hue,
    adjust_saturation,
    blur,
    draw_crops,
    draw_parameters,
    normalise,
    to_gray,
)

EVERYTHING = AugmentationConfig(blur_probability=0.5)
NOTHING = AugmentationConfig(
    crop_scale=(1, 1),
    crop_ratio=(1, 1),
    flip_probability=0,
    jitter_probability=0,
    grayscale_probability=0,
)
CROP_ONLY = AugmentationConfig(
    jitter_probability=0, grayscale_probability=0, mean=(0, 0, 0), std=(1, 1, 1)
)


def photos(num_images: int, height: int = 32, width: int = 32, seed: int = 0) -> torch.Tensor:
    """Noise on gradients, with a black and a grey image among them: (n, H, W, 3) uint8."""
    generator = np.random.default_rng(seed)
    images = generator.integers(0, 256, (num_images, height, width, 3))
    images = images // 2 + np.linspace(0, 127, width).astype(int)[:, None]
    images[0] = 0
    images[1:2] = images[1:2, :, :, :1]
    return torch.from_numpy(images.astype(np.uint8))


def unit_planes(num_images: int, height: int = 12, width: int = 9) -> torch.Tensor:
    return photos(num_images, height, width).permute(0, 3, 1, 2) / 255


def draws_of(num_samples: int, seed: int = 0, epoch: int = 0, view: int = 0) -> np.ndarray:
    samples = np.arange(num_samples)
    return uniforms(seed, "views", epoch=epoch, samples=samples, view=view, num_draws=NUM_DRAWS)


def parameters_of(num_samples: int, config: AugmentationConfig, **changes: int) -> ViewParameters:
    return draw_parameters(draws_of(num_samples, **changes), config)


def reference_view(
    image: torch.Tensor,
    crop: list[int],
    parameters: ViewParameters,
    row: int,
    config: AugmentationConfig,
) -> torch.Tensor:
    """One view of one (3, H, W) image in [0, 1] by torchvision's functions."""
    view = reference.resized_crop(image, *crop, list(image.shape[1:]))
    view = reference.horizontal_flip(view) if parameters.flip[row] else view
    operations = [
        reference.adjust_brightness,
        reference.adjust_contrast,
        reference.adjust_saturation,
        reference.adjust_hue,
    ]
    for number in parameters.order[row]:
        if number >= 0:
            view = operations[number](view, float(parameters.factors[row, number]))
    if parameters.grayscale[row]:
        view = reference.rgb_to_grayscale(view, num_output_channels=3)
    if parameters.blur[row]:
        view = reference.gaussian_blur(view, [3, 3], [1.5, 1.5])
    return reference.normalize(view, list(config.mean), list(config.std))


def ks_distance(first: np.ndarray, second: np.ndarray) -> float:
    """Largest difference of the two empirical distribution functions."""
    grid = np.concatenate((first, second))
    shares = [np.searchsorted(np.sort(x), grid, side="right") / len(x) for x in (first, second)]
    return float(np.abs(shares[0] - shares[1]).max())


def ks_limit(num_first: int, num_second: int) -> float:
    return 1.95 * math.sqrt(1 / num_first + 1 / num_second)  # p = 0.001


@pytest.fixture
def restored_threads() -> Iterator[None]:
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


@pytest.mark.parametrize(("height", "width"), [(32, 32), (17, 23), (40, 25)])
@pytest.mark.parametrize("config", [CROP_ONLY, EVERYTHING], ids=["crop", "everything"])
def test_views_match_torchvision_image_by_image(height, width, config):
    images = photos(60, height, width)
    views = views_of(images, np.arange(60), config=config, seed=5, epoch=3)
    assert views.shape == (2, 60, 3, height, width)
    assert views.dtype == torch.float32
    for view in range(2):
        draws = draws_of(60, seed=5, epoch=3, view=view)
        crops = draw_crops(draws, config, height=height, width=width).tolist()
        parameters = draw_parameters(draws, config)
        for row, image in enumerate(images.permute(0, 3, 1, 2) / 255):
            expected = reference_view(image, crops[row], parameters, row, config)
            # hue of nearly grey pixels is ill-conditioned, and std of 0.2 multiplies errors by 5
            torch.testing.assert_close(views[view, row], expected, rtol=0, atol=5e-5)


@pytest.mark.parametrize(
    ("ours", "theirs", "factors"),
    [
        (adjust_brightness, reference.adjust_brightness, [0, 0.6, 1, 1.4, 3]),
        (adjust_contrast, reference.adjust_contrast, [0, 0.6, 1, 1.4, 3]),
        (adjust_saturation, reference.adjust_saturation, [0, 0.6, 1, 1.4, 3]),
        (adjust_hue, reference.adjust_hue, [-0.5, -0.1, 0, 0.07, 0.5]),
    ],
)
def test_colour_operation_matches_torchvision(ours, theirs, factors):
    images = unit_planes(len(factors) * 4)
    repeated = torch.tensor(factors).repeat(4)
    result = ours(images, repeated)
    for image, factor, changed in zip(images, repeated, result, strict=True):
        torch.testing.assert_close(changed, theirs(image, float(factor)), rtol=0, atol=1e-5)


def test_gray_and_blur_match_torchvision():
    images = unit_planes(8)
    gray = reference.rgb_to_grayscale(images)
    torch.testing.assert_close(to_gray(images), gray, rtol=0, atol=1e-6)
    blurred = reference.gaussian_blur(images, [3, 3], [1.5, 1.5])
    torch.testing.assert_close(blur(images), blurred, rtol=0, atol=1e-6)


def test_hue_is_periodic_and_leaves_grey_alone():
    images = unit_planes(6)
    twice = adjust_hue(adjust_hue(images, torch.full((6,), 0.5)), torch.full((6,), 0.5))
    torch.testing.assert_close(twice, images, rtol=0, atol=1e-5)
    assert torch.equal(adjust_hue(images[:2], torch.tensor([0.3, -0.2])), images[:2])


def test_normalised_images_match_torchvision():
    images = photos(4)
    config = AugmentationConfig()
    planes = images.permute(0, 3, 1, 2)
    expected = reference.normalize(planes / 255, list(config.mean), list(config.std))
    torch.testing.assert_close(normalise(images, config), expected)
    assert normalise(images, config).is_contiguous()


def test_a_view_without_augmentation_is_the_normalised_image():
    images = photos(5)
    views = views_of(images, np.arange(5), config=NOTHING, seed=0, epoch=0)
    assert torch.equal(views[0], normalise(images, NOTHING))
    assert torch.equal(views[1], views[0])


@settings(max_examples=20, deadline=None)
@given(st.lists(st.integers(0, 99), min_size=1, max_size=40), st.integers(1, 3))
def test_a_view_does_not_depend_on_the_rest_of_the_batch(ids, num_views):
    images = photos(100, 24, 31)
    arguments = {"config": EVERYTHING, "seed": 1, "epoch": 7}
    every = views_of(images, np.arange(100), num_views=3, **arguments)
    some = views_of(images[ids], np.array(ids), num_views=num_views, **arguments)
    assert torch.equal(some, every[:num_views, ids])


@pytest.mark.parametrize("size", [32, 224])
def test_views_do_not_depend_on_the_number_of_threads(size, restored_threads):
    images = photos(24, size, size)
    views = []
    for num_threads in (1, 2):
        torch.set_num_threads(num_threads)
        views.append(views_of(images, np.arange(24), config=EVERYTHING, seed=0, epoch=0))
    assert torch.equal(views[0], views[1])


def test_seed_epoch_and_view_each_give_other_views():
    images = photos(8)[2:]
    arguments = {"ids": np.arange(2, 8), "config": AugmentationConfig()}
    views = [
        *views_of(images, seed=0, epoch=0, **arguments),
        views_of(images, seed=1, epoch=0, **arguments)[0],
        views_of(images, seed=0, epoch=1, **arguments)[0],
    ]
    for first in range(4):
        for second in range(first):
            assert not torch.any((views[first] == views[second]).flatten(1).all(dim=1))


def test_views_touch_neither_the_images_nor_global_randomness():
    images = photos(6)
    before, state = images.clone(), torch.get_rng_state()
    views_of(images, np.arange(6), config=EVERYTHING, seed=0, epoch=0)
    assert torch.equal(images, before)
    assert torch.equal(torch.get_rng_state(), state)


def naive_crop(draws: np.ndarray, config: AugmentationConfig, height: int, width: int) -> list[int]:
    """The algorithm of RandomResizedCrop, one view at a time."""
    smallest, largest = config.crop_scale
    low, high = (math.log(ratio) for ratio in config.crop_ratio)
    for attempt in range(10):
        area = height * width * (smallest + draws[2 * attempt] * (largest - smallest))
        ratio = math.exp(low + draws[2 * attempt + 1] * (high - low))
        w, h = round(math.sqrt(area * ratio)), round(math.sqrt(area / ratio))
        if 0 < w <= width and 0 < h <= height:
            return [int(draws[20] * (height - h + 1)), int(draws[21] * (width - w + 1)), h, w]
    w, h = width, height
    if width / height < config.crop_ratio[0]:
        h = round(width / config.crop_ratio[0])
    elif width / height > config.crop_ratio[1]:
        w = round(height * config.crop_ratio[1])
    return [(height - h) // 2, (width - w) // 2, h, w]


@pytest.mark.parametrize(
    ("height", "width", "scale", "ratio"),
    [
        (32, 32, (0.08, 1.0), (3 / 4, 4 / 3)),
        (20, 61, (0.5, 1.0), (3 / 4, 4 / 3)),  # hardly ever fits: too wide
        (61, 20, (0.5, 1.0), (3 / 4, 4 / 3)),  # too tall
        (3, 3, (0.01, 0.02), (0.9, 1.1)),  # rounds to no pixel at all
        (32, 32, (1.0, 1.0), (0.5, 2.0)),
    ],
)
def test_crops_match_the_algorithm_one_by_one(height, width, scale, ratio):
    config = AugmentationConfig(crop_scale=scale, crop_ratio=ratio)
    draws = draws_of(300)
    crops = draw_crops(draws, config, height=height, width=width)
    expected = [naive_crop(row, config, height, width) for row in draws]
    assert crops.tolist() == expected


def test_crops_are_distributed_as_those_of_torchvision():
    image = torch.zeros(3, 32, 32)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        theirs = np.array(
            [RandomResizedCrop.get_params(image, [0.08, 1], [3 / 4, 4 / 3]) for _ in range(3000)]
        )
    ours = draw_crops(draws_of(20_000), AugmentationConfig(), height=32, width=32)
    limit = ks_limit(len(theirs), len(ours))
    for statistic in (
        lambda crops: crops[:, 2] * crops[:, 3],
        lambda crops: crops[:, 3] / crops[:, 2],
        lambda crops: crops[:, 0],
        lambda crops: crops[:, 1],
    ):
        assert ks_distance(statistic(theirs), statistic(ours)) < limit


def test_jitter_is_distributed_as_that_of_torchvision():
    ranges = [0.6, 1.4], [0.0, 2.2], [0.6, 1.4], [-0.1, 0.1]
    with torch.random.fork_rng():
        torch.manual_seed(0)
        theirs = np.array([ColorJitter.get_params(*ranges)[1:] for _ in range(3000)])
    ours = parameters_of(20_000, AugmentationConfig(contrast=1.2)).factors
    for column, (low, high) in enumerate(ranges):
        assert low <= ours[:, column].min() < ours[:, column].max() <= high
        assert ks_distance(theirs[:, column], ours[:, column]) < ks_limit(3000, 20_000)
    assert np.abs(np.corrcoef(ours.T) - np.eye(4)).max() < 0.03


def test_every_order_of_the_four_operations_is_equally_likely():
    order = parameters_of(24_000, AugmentationConfig(jitter_probability=1)).order
    counts = Counter(map(tuple, order.tolist()))
    assert len(counts) == 24
    chi_square = sum((count - 1000) ** 2 / 1000 for count in counts.values())
    assert chi_square < 49.7  # 23 degrees of freedom, p = 0.001


def test_each_operation_comes_as_often_as_its_probability_says():
    config = AugmentationConfig(
        flip_probability=0.3,
        jitter_probability=0.7,
        grayscale_probability=0.2,
        blur_probability=0.1,
    )
    drawn = parameters_of(40_000, config)
    jittered = (drawn.order >= 0).any(axis=1)
    chosen = np.stack((drawn.flip, jittered, drawn.grayscale, drawn.blur))
    assert chosen.mean(axis=1) == pytest.approx([0.3, 0.7, 0.2, 0.1], abs=0.01)
    assert np.abs(np.corrcoef(chosen) - np.eye(4)).max() < 0.03


def test_the_share_of_grey_views_is_that_of_the_config():
    images = torch.tensor([200, 100, 50], dtype=torch.uint8).expand(4000, 4, 4, 3)
    config = AugmentationConfig(jitter_probability=0, mean=(0, 0, 0), std=(1, 1, 1))
    views = views_of(images, np.arange(4000), config=config, seed=0, epoch=0, num_views=1)[0]
    grey = (views[:, 0] == views[:, 2]).flatten(1).all(dim=1)
    assert grey.float().mean() == pytest.approx(0.2, abs=0.025)


def test_operations_without_range_are_left_out():
    config = AugmentationConfig(jitter_probability=1, brightness=0, hue=0)
    order = parameters_of(100, config).order
    assert set(order.ravel().tolist()) == {-1, 1, 2}
    assert np.all((order >= 0).sum(axis=1) == 2)


def test_probability_one_means_always_and_zero_never():
    always = parameters_of(
        5000,
        AugmentationConfig(
            flip_probability=1, jitter_probability=1, grayscale_probability=1, blur_probability=1
        ),
    )
    assert all(np.all(array) for array in (always.flip, always.grayscale, always.blur))
    assert np.all(always.order >= 0)
    never = parameters_of(5000, NOTHING)
    assert not any(np.any(array) for array in (never.flip, never.grayscale, never.blur))
    assert np.all(never.order == -1)


def test_crops_cut_elsewhere_become_the_views_of_whole_crops():
    """Where the crop is the whole image, cutting it elsewhere changes nothing but the moment."""
    config = EVERYTHING.model_copy(update={"crop_scale": (1, 1), "crop_ratio": (1, 1)})
    images, ids = photos(40), np.arange(100, 140)
    crops = torch.stack([images, images], dim=1)
    finished = views_of_crops(crops, ids, config=config, seed=4, epoch=2)
    assert torch.equal(finished, views_of(images, ids, config=config, seed=4, epoch=2))
    assert torch.equal(crops[:, 0], images), "the crops are left alone"
    assert finished.is_contiguous()


def test_every_view_of_an_image_has_its_own_crop():
    first, second = photos(6, seed=1), photos(6, seed=2)
    crops = torch.stack([first, second], dim=1)
    views = views_of_crops(crops, np.arange(6), config=NOTHING, seed=0, epoch=0)
    assert torch.equal(views[0], normalise(first, NOTHING))
    assert torch.equal(views[1], normalise(second, NOTHING))


def test_an_empty_batch_has_no_views():
    none = np.empty(0, dtype=np.int64)
    views = views_of(photos(3)[:0], none, config=EVERYTHING, seed=0, epoch=0)
    assert views.shape == (2, 0, 3, 32, 32)
    crops = torch.stack([photos(3)[:0]] * 2, dim=1)
    assert torch.equal(views_of_crops(crops, none, config=EVERYTHING, seed=0, epoch=0), views)


@pytest.mark.parametrize(
    "images", [torch.zeros(2, 4, 4, 3), torch.zeros(4, 4, 3, dtype=torch.uint8)]
)
def test_images_that_are_not_a_batch_of_uint8_are_refused(images):
    with pytest.raises(ValueError, match="uint8"):
        normalise(images, EVERYTHING)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_views_on_a_gpu_are_those_on_the_cpu_and_never_wait():
    images = photos(64)
    arguments = {"ids": np.arange(64), "config": EVERYTHING, "seed": 0, "epoch": 0}
    there = images.cuda()
    torch.cuda.set_sync_debug_mode("error")
    try:
        views = views_of(there, **arguments)
        finished = views_of_crops(torch.stack([there, there], dim=1), **arguments)
    finally:
        torch.cuda.set_sync_debug_mode("default")
    torch.testing.assert_close(views.cpu(), views_of(images, **arguments), rtol=0, atol=5e-5)
    expected = views_of_crops(torch.stack([images, images], dim=1), **arguments)
    torch.testing.assert_close(finished.cpu(), expected, rtol=0, atol=5e-5)
