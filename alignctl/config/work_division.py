"""How the processes of a study divide its objectives and its batches. Imports no torch."""

import math
from dataclasses import dataclass

from alignctl.config.study import StudyConfig
from alignctl.errors import ConfigError


@dataclass(frozen=True)
class Grid:
    """Groups of objectives times shares of every batch."""

    num_groups: int
    """Objectives are dealt out to so many groups of processes."""
    num_shares: int
    """The processes of one group hold so many equal shares of every batch."""


def grid(study: StudyConfig, num_processes: int) -> Grid:
    """How `num_processes` divide the work; ConfigError where they cannot.

    mesh: the shape that gives the busiest process the least work; among equals, that with most
    groups, because gradients are exchanged only inside a group.
    """
    num_objectives = len(study.objectives)
    if study.placement == "objectives":
        if num_processes > num_objectives:
            raise ConfigError(
                f"--nproc: {num_processes} processes, but there are only {num_objectives} "
                "objectives to place; placement=mesh lets several share an objective"
            )
        return Grid(num_processes, 1)
    most = min(num_objectives, num_processes) if study.placement == "mesh" else 1
    shapes = [
        Grid(num_groups, num_processes // num_groups)
        for num_groups in range(most, 0, -1)
        if num_processes % num_groups == 0
        and study.training.batch_size % (num_processes // num_groups) == 0
    ]
    if not shapes:
        raise ConfigError(
            f"--nproc: {num_processes} processes cannot hold equal shares of a batch of "
            f"{study.training.batch_size} images (placement: {study.placement})"
        )
    return min(shapes, key=lambda it: math.ceil(num_objectives / it.num_groups) / it.num_shares)


def refuse_unfilled_batch(study: StudyConfig, num_images: int) -> None:
    """ConfigError where so many training images do not fill one batch."""
    if num_images < study.training.batch_size:
        raise ConfigError(
            f"training.batch_size: {study.training.batch_size} images, "
            f"but the train split has only {num_images}"
        )


def usable_processes(study: StudyConfig, at_most: int) -> int:
    """The largest number of processes up to `at_most` that can divide the work; at least 1."""
    for number in range(at_most, 1, -1):
        try:
            grid(study, number)
        except ConfigError:
            continue
        return number
    return 1
