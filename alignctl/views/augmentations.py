"""Random views of whole batches: every image with its own crop, colours and order of operations.

What happens to an image is drawn on the host from (seed, epoch, image id, view) and computed with
element-wise arithmetic alone, whose result does not depend on the rest of the batch or on the
number of threads. Nothing waits for the device.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from alignctl.config.training_config import AugmentationConfig
from alignctl.randomness import uniforms
from alignctl.transfers import to_device

_NUM_ATTEMPTS = 10
# Columns of the draws of one view: two for each attempt at a crop, then these.
_TOP, _LEFT, _FLIP, _JITTER = range(20, 24)
_FACTORS, _ORDER = slice(24, 28), slice(28, 32)
_GRAYSCALE, _BLUR, NUM_DRAWS = 32, 33, 34

_FIXED_POINT = 2**24  # the resolution of a float32 in [0.5, 1)
_CACHED_VALUES = 2**18  # on a CPU, so many values go through all operations while in its cache


@dataclass(frozen=True)
class ViewParameters:
    """What is done to each of n crops; every array has n rows.

    flip, grayscale, blur: (n,). factors: (n, 4) brightness, contrast, saturation and hue.
    order: (n, 4) which of these four (0 to 3) comes at each turn; -1 for none.
    """

    flip: NDArray[np.bool_]
    factors: NDArray[np.float64]
    order: NDArray[np.int64]
    grayscale: NDArray[np.bool_]
    blur: NDArray[np.bool_]

    def __getitem__(self, rows: slice) -> "ViewParameters":
        """The parameters of some of the views."""
        return ViewParameters(**{name: array[rows] for name, array in vars(self).items()})


def make_views(
    crops: Callable[[slice, NDArray[np.bool_]], Tensor],
    ids: NDArray[np.int64],
    *,
    shape: tuple[int, int],
    device: torch.device,
    config: AugmentationConfig,
    seed: int,
    epoch: int,
    num_views: int = 2,
    purpose: str = "views",
) -> Tensor:
    """Random views of every image, normalised: (num_views, B, 3, H, W) float32 on the device.

    crops: from rows of the num_views * B crops (the first view of all images, then the second) and
    which of them to mirror to their pixels (n, 3, H, W) in [0, 1], in memory that may be written.
    ids: (B,) on the host. shape: height and width of a view. A view depends on its crop and
    (seed, purpose, epoch, id, view, config) alone; `draw_boxes` says where its crop is.
    """
    draws = draw_views(ids, seed=seed, epoch=epoch, num_views=num_views, purpose=purpose)
    parameters = draw_parameters(draws.reshape(-1, NUM_DRAWS), config)
    mean, std = _mean_and_std(config, device)
    views = torch.empty((num_views * len(ids), 3, *shape), dtype=torch.float32, device=device)
    for rows in _pieces(views):
        pixels = crops(rows, parameters.flip[rows])
        _change_colours(pixels, parameters[rows])
        torch.sub(pixels, mean, out=views[rows]).div_(std)
    return views.view(num_views, len(ids), 3, *shape)


def normalise(images: Tensor, config: AugmentationConfig) -> Tensor:
    """The images without augmentation, normalised as the views are: (B, 3, H, W) float32.

    images: (B, H, W, 3) uint8 on any device.
    """
    if images.dtype != torch.uint8 or images.ndim != 4:
        raise ValueError(
            f"images must be (B, H, W, 3) uint8, not {tuple(images.shape)} {images.dtype}"
        )
    mean, std = _mean_and_std(config, images.device)
    planes = images.permute(0, 3, 1, 2)
    pixels = planes.to(torch.float32, memory_format=torch.contiguous_format)
    return pixels.div_(255).sub_(mean).div_(std)


def draw_views(
    ids: NDArray[np.int64],
    *,
    seed: int,
    epoch: int,
    num_views: int = 2,
    purpose: str = "views",
) -> NDArray[np.float64]:
    """The random numbers of each view of some images: (num_views, n, NUM_DRAWS) in [0, 1)."""
    return np.stack(
        [
            uniforms(seed, purpose, epoch=epoch, samples=ids, view=view, num_draws=NUM_DRAWS)
            for view in range(num_views)
        ]
    )


def draw_boxes(
    ids: NDArray[np.int64],
    *,
    config: AugmentationConfig,
    seed: int,
    epoch: int,
    num_views: int = 2,
    purpose: str = "views",
) -> Callable[[slice, int, int], NDArray[np.int64]]:
    """The crops of the views of some images, once the size of the whole images is known.

    Returns a function of rows of `ids` and of the height and width of those images: top, left,
    height and width, (num_views, m, 4).
    """
    draws = draw_views(ids, seed=seed, epoch=epoch, num_views=num_views, purpose=purpose)

    def boxes(rows: slice, height: int, width: int) -> NDArray[np.int64]:
        chosen = draws[:, rows]
        flat = draw_crops(chosen.reshape(-1, NUM_DRAWS), config, height=height, width=width)
        return flat.reshape(*chosen.shape[:2], 4)

    return boxes


def draw_parameters(draws: NDArray[np.float64], config: AugmentationConfig) -> ViewParameters:
    """What to do to n crops, from n rows of uniform numbers.

    draws: (n, NUM_DRAWS) in [0, 1). Colours and probabilities are those of torchvision's
    ColorJitter, RandomApply and RandomGrayscale.
    """
    strengths = np.array([config.brightness, config.contrast, config.saturation, config.hue])
    centre = np.array([1, 1, 1, 0])
    low = np.where(centre, np.maximum(centre - strengths, 0), -strengths)
    order = np.argsort(draws[:, _ORDER], axis=1, kind="stable")
    skipped = (draws[:, [_JITTER]] >= config.jitter_probability) | (strengths[order] == 0)
    return ViewParameters(
        flip=draws[:, _FLIP] < config.flip_probability,
        factors=low + draws[:, _FACTORS] * (centre + strengths - low),
        order=np.where(skipped, -1, order),
        grayscale=draws[:, _GRAYSCALE] < config.grayscale_probability,
        blur=draws[:, _BLUR] < config.blur_probability,
    )


def draw_crops(
    draws: NDArray[np.float64], config: AugmentationConfig, *, height: int, width: int
) -> NDArray[np.int64]:
    """Top, left, height and width of n crops, all within the image: (n, 4).

    Ten attempts at an area and a logarithmic aspect ratio; where none fits, the largest central
    crop of an allowed ratio, as in torchvision's RandomResizedCrop.
    """
    attempts = draws[:, : 2 * _NUM_ATTEMPTS].reshape(-1, _NUM_ATTEMPTS, 2)
    smallest, largest = config.crop_scale
    log_low, log_high = np.log(config.crop_ratio)
    areas = height * width * (smallest + attempts[:, :, 0] * (largest - smallest))
    ratios = np.exp(log_low + attempts[:, :, 1] * (log_high - log_low))
    widths, heights = np.rint(np.sqrt(areas * ratios)), np.rint(np.sqrt(areas / ratios))
    fits = (widths > 0) & (widths <= width) & (heights > 0) & (heights <= height)
    first = np.arange(len(draws)), fits.argmax(axis=1)
    found = fits.any(axis=1)
    central = _central_crop(height, width, config.crop_ratio)
    crop_height = np.where(found, heights[first], central[0])
    crop_width = np.where(found, widths[first], central[1])
    room_y, room_x = height - crop_height, width - crop_width
    top = np.where(found, draws[:, _TOP] * (room_y + 1), room_y // 2)
    left = np.where(found, draws[:, _LEFT] * (room_x + 1), room_x // 2)
    return np.stack((top, left, crop_height, crop_width), axis=1).astype(np.int64)


def adjust_brightness(images: Tensor, factors: Tensor) -> Tensor:
    """The images (n, 3, H, W) in [0, 1] times their factors (n,), clamped to [0, 1]."""
    return (images * factors.view(-1, 1, 1, 1)).clamp_(0, 1)


def adjust_contrast(images: Tensor, factors: Tensor) -> Tensor:
    """The images (n, 3, H, W) in [0, 1], blended with the mean of their grey by factors (n,)."""
    # float sums depend on their order, and so on the number of threads; integer sums do not
    total = to_gray(images).mul_(_FIXED_POINT).to(torch.int32).sum((1, 2, 3))
    mean = total.to(images.dtype).mul_(1 / (_FIXED_POINT * images[0, 0].numel()))
    return _blend(images, mean.view(-1, 1, 1, 1), factors)


def adjust_saturation(images: Tensor, factors: Tensor) -> Tensor:
    """The images (n, 3, H, W) in [0, 1], blended with their grey by factors (n,)."""
    return _blend(images, to_gray(images), factors)


def adjust_hue(images: Tensor, shifts: Tensor) -> Tensor:
    """The images (n, 3, H, W) in [0, 1] with their hue moved by shifts (n,), in full turns."""
    red, green, blue = images.unbind(1)
    value = torch.maximum(torch.maximum(red, green), blue)
    chroma = value - torch.minimum(torch.minimum(red, green), blue)
    divisor = chroma.clamp(min=1e-30)  # grey has no hue: its differences are 0, any divisor will do
    from_blue = (red - green).div_(divisor).add_(4)
    from_green = (blue - red).div_(divisor).add_(2)
    from_red = (green - blue).div_(divisor)
    hue = torch.where(value == red, from_red, torch.where(value == green, from_green, from_blue))
    hue = hue.div_(6).add_(shifts.view(-1, 1, 1))
    # back to RGB: the share of the chroma that a channel lacks falls with the distance on the
    # circle between the hue and the channel's opposite
    away = torch.stack((hue + 1 / 2, hue + 1 / 6, hue - 1 / 6), dim=1)
    away.sub_(away.round()).abs_()
    lacking = away.mul_(-6).add_(2).clamp_(0, 1)
    return lacking.mul_(chroma.unsqueeze(1)).neg_().add_(value.unsqueeze(1))


def to_gray(images: Tensor) -> Tensor:
    """The luma of images (n, 3, H, W): (n, 1, H, W), with the weights of ITU-R 601-2."""
    gray = images[:, :1] * 0.2989
    return gray.add_(images[:, 1:2] * 0.587).add_(images[:, 2:] * 0.114)


def blur(images: Tensor) -> Tensor:
    """The images (n, 3, H, W), H and W >= 2, under a 3x3 Gaussian of sigma 1.5, edges mirrored."""
    side = float(np.exp(-0.5 / 1.5**2))
    side, middle = side / (1 + 2 * side), 1 / (1 + 2 * side)
    padded = torch.nn.functional.pad(images, (1, 1, 1, 1), mode="reflect")
    rows = (padded[:, :, :-2] + padded[:, :, 2:]).mul_(side).add_(padded[:, :, 1:-1] * middle)
    return (rows[..., :-2] + rows[..., 2:]).mul_(side).add_(rows[..., 1:-1] * middle)


_COLOUR_OPERATIONS: tuple[Callable[[Tensor, Tensor], Tensor], ...] = (
    adjust_brightness,
    adjust_contrast,
    adjust_saturation,
    adjust_hue,
)


def _change_colours(pixels: Tensor, parameters: ViewParameters) -> None:
    """Jitter, make grey and blur in place, each only the views that draw it."""
    _jitter(pixels, parameters)
    for chosen, operation in ((parameters.grayscale, _gray_planes), (parameters.blur, blur)):
        if chosen.any():
            rows = to_device(np.flatnonzero(chosen), pixels.device)
            pixels.index_copy_(0, rows, operation(pixels.index_select(0, rows)))


def _jitter(pixels: Tensor, parameters: ViewParameters) -> None:
    """Apply colour operations in place, in the order that each view has drawn."""
    steps = [
        (number, np.flatnonzero(parameters.order[:, turn] == number))
        for turn in range(4)
        for number in range(len(_COLOUR_OPERATIONS))
    ]
    factors = [parameters.factors[rows, number] for number, rows in steps]
    # one transfer for all steps
    all_rows = to_device(np.concatenate([rows for _, rows in steps]), pixels.device)
    all_factors = to_device(np.concatenate(factors).astype(np.float32), pixels.device)
    end = 0
    for number, step_rows in steps:
        start, end = end, end + len(step_rows)
        if start < end:
            rows = all_rows[start:end]
            chosen = pixels.index_select(0, rows)
            changed = _COLOUR_OPERATIONS[number](chosen, all_factors[start:end])
            pixels.index_copy_(0, rows, changed)


def _gray_planes(images: Tensor) -> Tensor:
    return to_gray(images).expand(-1, 3, -1, -1)


def _blend(images: Tensor, others: Tensor, factors: Tensor) -> Tensor:
    weights = factors.view(-1, 1, 1, 1)
    return (images * weights).add_(others * (1 - weights)).clamp_(0, 1)


def _central_crop(height: int, width: int, ratios: tuple[float, float]) -> tuple[int, int]:
    """Height and width of the largest crop whose ratio is allowed."""
    if width / height < ratios[0]:
        return round(width / ratios[0]), width
    if width / height > ratios[1]:
        return height, round(height * ratios[1])
    return height, width


def _pieces(views: Tensor) -> list[slice]:
    """The rows to work on at a time: few enough for a CPU's cache, all of them elsewhere."""
    size = max(1, _CACHED_VALUES // views.shape[1:].numel())
    if views.device.type != "cpu":
        size = max(1, len(views))
    return [slice(start, start + size) for start in range(0, len(views), size)]


def _mean_and_std(config: AugmentationConfig, device: torch.device) -> tuple[Tensor, Tensor]:
    values = to_device(np.array([config.mean, config.std], dtype=np.float32), device)
    mean, std = values.view(2, 3, 1, 1).unbind()
    return mean, std
