"""Canonical correlations: how far do linear functions of two spaces go along with each other?

They do not change under any invertible map of a space, so noise counts as much as signal. Where
there are not many more images than dimensions they mislead: n centred images have only n - 1
directions, and two spaces of unrelated noise with d1 + d2 >= n share some of them exactly.
Correlations of 1 then come from nothing; n >= 10 (d1 + d2) keeps what chance adds small.
"""

import torch
from torch import Tensor


def svcca(cross: Tensor, self_x: Tensor, self_y: Tensor, *, variance: float = 0.99) -> float:
    """Mean canonical correlation of the leading principal directions of two spaces, in [0, 1].

    cross: (d1, d2), X'Y. self_x: (d1, d1), X'X. self_y: (d2, d2), Y'Y. Of centred X and Y, float64.
    variance: in (0, 1], the share of each space's variance that its fewest directions must hold.
    The mean is over the smaller of the two numbers of directions. Directions with less than d eps
    of the largest variance are rounding and left out. Misleading unless n is much larger than
    the number of directions kept: see the module.
    Raises ValueError if a space is constant.
    Source: Raghu et al. 2017.
    """
    leading = [
        _leading(*_principal(product, name), variance)
        for name, product in (("x", self_x), ("y", self_y))
    ]
    whiten_x, whiten_y = (axes / sizes.sqrt() for sizes, axes in leading)
    return float(torch.linalg.svdvals(whiten_x.T @ cross @ whiten_y).mean())


def pwcca(cross: Tensor, self_x: Tensor, self_y: Tensor) -> float:
    """Canonical correlations weighted by what they account for in the first space, in [0, 1].

    The weight of canonical variate h_i of x is sum_j |<h_i, x_j>| over the neurons x_j of x, for
    the min(d1, d2) variates that have a partner. Not symmetric: swap the spaces for weights of y.
    cross: (d1, d2), X'Y. self_x: (d1, d1), X'X. self_y: (d2, d2), Y'Y. Of centred X and Y, float64.
    Directions with less than d eps of the largest variance are rounding and left out. Misleading
    unless n is much larger than d1 + d2: see the module.
    Raises ValueError if a space is constant.
    Source: Morcos et al. 2018.
    """
    (sizes_x, axes_x), (sizes_y, axes_y) = _principal(self_x, "x"), _principal(self_y, "y")
    whitened = (axes_x / sizes_x.sqrt()).T @ cross @ (axes_y / sizes_y.sqrt())
    left, correlations, _ = torch.linalg.svd(whitened, full_matrices=False)
    # X'h of all variates h = X axes / sqrt(sizes) left, as X'X axes = axes sizes
    weights = ((axes_x * sizes_x.sqrt()) @ left).abs().sum(dim=0)
    return float(weights @ correlations / weights.sum())


def _principal(product: Tensor, name: str) -> tuple[Tensor, Tensor]:
    """Sums of squares along the principal directions, largest first, and these: (p,), (d, p)."""
    sizes, axes = (part.flip(-1) for part in torch.linalg.eigh(product))
    if not sizes[0] > 0:
        raise ValueError(f"{name}: every row is the same")
    kept = sizes > len(sizes) * torch.finfo(sizes.dtype).eps * sizes[0]
    return sizes[kept], axes[:, kept]


def _leading(sizes: Tensor, axes: Tensor, variance: float) -> tuple[Tensor, Tensor]:
    held = sizes.cumsum(dim=0)
    # All but the last can fall short: with variance 1, rounding must not ask for one more.
    count = int((held[:-1] < variance * held[-1]).sum()) + 1
    return sizes[:count], axes[:, :count]
