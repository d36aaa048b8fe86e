"""Views of images that a test holds itself, as of images in memory and of crops cut elsewhere."""

import numpy as np
from torch import Tensor

from alignctl.config.training_config import AugmentationConfig
from alignctl.datasets.device_crops import crops_of, ready_crops
from alignctl.views.augmentations import draw_boxes, make_views


def views_of(
    images: Tensor,
    ids: np.ndarray,
    *,
    config: AugmentationConfig,
    seed: int,
    epoch: int,
    num_views: int = 2,
) -> Tensor:
    """The views (num_views, B, 3, H, W) of images (B, H, W, 3) uint8."""
    drawn = {"config": config, "seed": seed, "epoch": epoch, "num_views": num_views}
    shape = images.shape[1], images.shape[2]
    crops = crops_of(images, draw_boxes(ids, **drawn)(slice(None), *shape))
    return make_views(crops, ids, shape=shape, device=images.device, **drawn)


def views_of_crops(
    pixels: Tensor, ids: np.ndarray, *, config: AugmentationConfig, seed: int, epoch: int
) -> Tensor:
    """The views (V, B, 3, H, W) whose crops (B, V, H, W, 3) uint8 were cut elsewhere."""
    return make_views(
        ready_crops(pixels), ids, shape=(pixels.shape[2], pixels.shape[3]), device=pixels.device,
        config=config, seed=seed, epoch=epoch, num_views=pixels.shape[1],
    )  # fmt: skip
