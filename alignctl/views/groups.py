"""Groups of views: the two that all objectives share, and others that some of them ask for."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from alignctl.config import StudyConfig
from alignctl.config.training_config import AugmentationConfig
from alignctl.views.augmentations import draw_boxes, make_views

SHARED = "global"
"""The name of the two views that every objective sees."""


@dataclass(frozen=True)
class Group:
    """Views of every image that are drawn alike."""

    name: str
    num_views: int
    config: AugmentationConfig
    purpose: str
    """Of their random numbers."""

    def drawing(self, *, seed: int, epoch: int) -> dict[str, Any]:
        """What `draw_boxes` and `make_views` take of it."""
        return {
            "config": self.config,
            "seed": seed,
            "epoch": epoch,
            "num_views": self.num_views,
            "purpose": self.purpose,
        }


def groups_of(study: StudyConfig) -> tuple[Group, ...]:
    """The shared views first, then what the objectives ask for, by name."""
    shared = Group(SHARED, 2, study.augmentation, "views")
    others = (
        Group(
            name,
            asked.num_views,
            study.augmentation.model_copy(update={"crop_scale": asked.crop_scale}),
            f"views {name}",
        )
        for name, asked in sorted(study.batch_needs.views.items())
    )
    return (shared, *others)


def boxes_of(
    groups: Sequence[Group], ids: NDArray[np.int64], *, seed: int, epoch: int
) -> Callable[[slice, int, int], NDArray[np.int64]]:
    """The crops of the views of all groups, one group after the other; see `draw_boxes`."""
    parts = [draw_boxes(ids, **group.drawing(seed=seed, epoch=epoch)) for group in groups]

    def boxes(rows: slice, height: int, width: int) -> NDArray[np.int64]:
        return np.concatenate([part(rows, height, width) for part in parts])

    return boxes


def views_of(
    groups: Sequence[Group],
    crops: Callable[[slice, NDArray[np.bool_]], Tensor],
    ids: NDArray[np.int64],
    *,
    shape: tuple[int, int],
    device: torch.device,
    seed: int,
    epoch: int,
) -> dict[str, Tensor]:
    """The views of each group, (V, B, 3, H, W) float32 on the device, by name.

    crops: of all groups, in the order of `boxes_of`; see `make_views`.
    """
    found, first = {}, 0
    for group in groups:
        last = first + group.num_views * len(ids)
        found[group.name] = make_views(
            _between(crops, first, last),
            ids,
            shape=shape,
            device=device,
            **group.drawing(seed=seed, epoch=epoch),
        )
        first = last
    return found


def _between(
    crops: Callable[[slice, NDArray[np.bool_]], Tensor], first: int, last: int
) -> Callable[[slice, NDArray[np.bool_]], Tensor]:
    """The crops from the number `first` up to `last`, counted from 0."""

    def chosen(rows: slice, flips: NDArray[np.bool_]) -> Tensor:
        return crops(slice(first + rows.start, min(first + rows.stop, last)), flips)

    return chosen
