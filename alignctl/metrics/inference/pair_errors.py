"""The standard error of a correlation over pairs of images, which are dependent."""

import math
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray

from alignctl.metrics.inference.estimate import Estimate
from alignctl.metrics.inference.jackknife import (
    GONE,
    MIN_IMAGES,
    Strata,
    jackknife_estimate,
    of_few,
)

Floats = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Compared:
    """Which pairs of images were compared: all within groups, group after group."""

    groups: NDArray[np.int64]
    """(num_groups, size), images."""
    strata: Strata
    """Of all images, compared or not."""

    def image_sums(self, values: Floats) -> Floats:
        """For each image, the sum over its pairs: (num_groups, size), from one number per pair."""
        num_groups, size = self.groups.shape
        rows = values.reshape(num_groups, -1)
        sums = np.zeros((num_groups, size))
        start = 0
        for i in range(size - 1):
            partners = rows[:, start : start + size - 1 - i]
            sums[:, i] += partners.sum(axis=1)
            sums[:, i + 1 :] += partners
            start += size - 1 - i
        return sums


def estimate(value: float, influence: Floats, pulls: Floats | None, compared: Compared) -> Estimate:
    """A correlation with its standard error.

    influence: (number of pairs,), what each pair adds to the score, by its derivative. pulls:
    (num_groups, size), n - 1 times what each image adds, where that is known exactly.
    Where pairs are a sample, the squares of the pulls count what a pair adds by itself twice, once
    for each of its images: it is taken off once. Of all pairs that is 1 / n of it and stays.
    Source: variance of sums over pairs as in Aronow et al. 2015.
    """
    images = compared.groups.size
    if images < MIN_IMAGES:
        return replace(of_few(value, images), num_images=images)
    if pulls is None:
        pulls = _first_order(influence, compared)
    strata = compared.strata.at(torch.from_numpy(compared.groups.ravel()))
    sums = strata.sums(torch.from_numpy(pulls.ravel()))
    found = jackknife_estimate(value, sums, kind=strata.kind)
    if found.standard_error is not None and len(compared.groups) > 1:
        alone = float(np.square(influence).sum()) / influence.size**2
        # By chance this may fall below what pairs with no image in common would have.
        error = math.sqrt(max(found.standard_error**2 - alone, alone))
        found = replace(found, standard_error=error)
    return replace(found, num_images=images)


def _first_order(influence: Floats, compared: Compared) -> Floats:
    """n - 1 times what each image adds to the score, from the derivative by each of its pairs."""
    images, others = compared.groups.size, compared.groups.shape[1] - 1
    scale = 2 * (images - 1) / (images - 2) / others
    return np.asarray(scale * compared.image_sums(influence))


def pearson_pulls(a: Floats, b: Floats, compared: Compared) -> Floats:
    """(n - 1) (correlation - correlation without the image): (num_groups, size).

    a, b: (number of pairs,), less their means. nan where the pairs of the others do not vary.
    """
    pairs = a.size - (compared.groups.shape[1] - 1)
    sums = [np.sum(v) - compared.image_sums(v) for v in (a, b, a * b, a * a, b * b)]
    mean_a, mean_b, products, squares_a, squares_b = (part / pairs for part in sums)
    variances = [float(np.mean(values * values)) for values in (a, b)]
    lefts = [
        np.where(left > GONE * variance, left, np.nan)
        for left, variance in zip(
            (squares_a - mean_a**2, squares_b - mean_b**2), variances, strict=True
        )
    ]
    whole = float(np.mean(a * b)) / math.sqrt(math.prod(variances))
    without = (products - mean_a * mean_b) / np.sqrt(math.prod(lefts))
    pulls: Floats = (compared.groups.size - 1) * (whole - without)
    return pulls
