"""Canonical correlations: how far do linear functions of two spaces go along with each other?

They do not change under any invertible map of a space, so noise counts as much as signal. Where
there are not many more images than dimensions they mislead: n centred images have only n - 1
directions, and spaces of k1 and k2 directions with k1 + k2 > n - 1 share k1 + k2 - (n - 1) of them
exactly. Correlations of 1 then come from nothing; n >= 10 (k1 + k2) keeps what chance adds small.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from alignctl.metrics.inference.estimate import Estimate
from alignctl.metrics.reduction import CentredRows

# Canonical correlations that differ by less are one value, whose variates are not determined.
_TIED = 1e-12


def svcca(x: CentredRows, y: CentredRows, *, variance: float = 0.99) -> float:
    """Mean canonical correlation of the leading principal directions of two spaces, in [0, 1].

    x, y: of `reduction.reduced`, the same images. variance: in (0, 1], the share of each space's
    variance that its fewest directions must hold. The mean is over the smaller of the two numbers
    of directions. Directions that are rounding are left out: see `_principal`. Misleading unless n
    is much larger than the number of directions kept: see the module.
    Raises ValueError if a space is constant.
    Source: Raghu et al. 2017.
    """
    return svcca_estimate(x, y, variance=variance).value


def svcca_estimate(x: CentredRows, y: CentredRows, *, variance: float = 0.99) -> Estimate:
    """`svcca`, with a note where some correlations are 1 for any data."""
    a, b = (
        _leading(_principal(space, name), variance).basis for space, name in ((x, "x"), (y, "y"))
    )
    value = float(_canonical(a, b).correlations.mean())
    few, many = sorted((a.shape[1], b.shape[1]))
    forced = min(few + many - (x.count - 1), few)
    if forced <= 0:
        return Estimate(value)
    note = f"{forced} of {few} correlations are 1 for any data: {x.count} images are too few"
    return Estimate(value, note=note)


def pwcca(x: CentredRows, y: CentredRows) -> float:
    """Canonical correlations weighted by what they account for in the first space, in [0, 1].

    The weight of canonical variate h_i of x is sum_j |<h_i, x_j>| over the neurons x_j of x, for
    the min(k1, k2) variates that have a partner, k1 and k2 being the numbers of directions. Not
    symmetric: swap the spaces for weights of y. x, y: of `reduction.reduced`, the same images.
    Directions that are rounding are left out: see `_principal`.
    Raises ValueError if a space is constant, and where variates of x are not determined, and with
    them their weights: if k1 + k2 >= n - 1, or some correlations are equal and others are not.
    Source: Morcos et al. 2018.
    """
    a, b = _principal(x, "x").basis, _principal(y, "y").basis
    if a.shape[1] + b.shape[1] >= x.count - 1:
        raise ValueError(
            f"PWCCA needs more images than {x.count}: its spaces have {a.shape[1]} and "
            f"{b.shape[1]} directions, and {x.count} images have room for {x.count - 1} in all, so "
            "that its weights would not follow from the data; reduce the features first"
        )
    found = _canonical(a, b)
    gaps = -found.correlations.diff()
    if (gaps < _TIED).any() and found.correlations[0] - found.correlations[-1] >= _TIED:
        raise ValueError(
            "PWCCA has no weights where canonical correlations are equal: "
            "any mixture of their directions would do"
        )
    shares = [(found.variates.T @ block).abs().sum(dim=1) for block in x.columns()]
    weights = torch.stack(shares).sum(dim=0)
    # Divided by the same sum with correlations of 1, so that rounding cannot pass 1.
    return float((weights @ found.correlations) / (weights @ torch.ones_like(found.correlations)))


@dataclass(frozen=True, eq=False)
class _Principal:
    """Directions of a space: orthonormal columns (p, k), and their singular values (k,)."""

    basis: Tensor
    sizes: Tensor


@dataclass(frozen=True, eq=False)
class _Canonical:
    """Variates of the first space, orthonormal columns (p, k), and their correlations (k,)."""

    variates: Tensor
    correlations: Tensor


def _principal(space: CentredRows, name: str) -> _Principal:
    """The principal directions, largest first, without those that are rounding.

    Rounding is less than max(n, d) eps of the largest singular value, and less than what entries
    that are off by half an eps of the features' own dtype come to.
    """
    basis, sizes, _ = torch.linalg.svd(space.rows, full_matrices=False)
    if not sizes[0] > 0:
        raise ValueError(f"{name}: every row is the same")
    exact = max(space.count, len(sizes)) * torch.finfo(sizes.dtype).eps * sizes[0]
    noise = space.rounding * torch.linalg.vector_norm(sizes)
    kept = sizes > torch.maximum(exact, noise)
    return _Principal(basis[:, kept], sizes[kept])


def _leading(space: _Principal, variance: float) -> _Principal:
    if variance == 1:  # of the smallest, float64 sums of squares know nothing
        return space
    held = space.sizes.square().cumsum(dim=0)
    count = int((held[:-1] < variance * held[-1]).sum()) + 1
    return _Principal(space.basis[:, :count], space.sizes[:count])


def _canonical(x: Tensor, y: Tensor) -> _Canonical:
    """Of two orthonormal bases, (p, k1) and (p, k2); correlations in [0, 1], largest first.

    Cosines near 1 come from the sines, which have the digits there and cannot be below 0.
    Source: Bjorck and Golub 1973.
    """
    left, cosines, right = torch.linalg.svd(x.T @ y, full_matrices=False)
    variates, partners = x @ left, y @ right.T
    sines = torch.linalg.vector_norm(partners - variates * cosines, dim=0)
    from_sines = ((1 - sines) * (1 + sines)).sqrt()
    return _Canonical(variates, torch.where(sines < cosines, from_sines, cosines))
