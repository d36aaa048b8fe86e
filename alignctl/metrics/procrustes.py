"""Procrustes distance: what is left between two spaces once one is rotated onto the other."""

import torch
from torch import Tensor

from alignctl.metrics.reduction import CentredRows


def procrustes(x: CentredRows, y: CentredRows) -> float:
    """Squared orthogonal Procrustes distance of two spaces of unit Frobenius norm, in [0, 2].

    min |X / |X|_F - (Y / |Y|_F) Q|_F^2 over orthogonal Q: 0 for the same space up to a rotation,
    an offset and a scale, 2 where no direction of one goes along with any of the other.
    x, y: of `reduction.reduced`, the same images. Neither end of the range is passed by rounding,
    and a small distance has as many digits as a large one.
    Raises ValueError if a space is constant.
    Source: Ding et al. 2021, section 2; Williams et al. 2021 for what makes its root a metric.
    """
    a, b = _unit(x, "x"), _unit(y, "y")
    left, shared, right = torch.linalg.svd(a.T @ b, full_matrices=False)
    similarity = float(shared.sum())
    if similarity < 0.5:
        return 2 - 2 * similarity
    # 2 - 2 |A'B|_* would cancel here. With A'B = U S V' it is what the best rotation leaves:
    # |A U - B V|^2, and of the wider space what has no partner; sums of squares.
    turned_a, turned_b = a @ left, b @ right.T
    rest = (a - turned_a @ left.T).square().sum() + (b - turned_b @ right).square().sum()
    return float((turned_a - turned_b).square().sum() + rest)


def _unit(space: CentredRows, name: str) -> Tensor:
    size: Tensor = torch.linalg.vector_norm(space.rows)
    if not size > 0:
        raise ValueError(f"{name}: every row is the same")
    return space.rows / size
