"""Procrustes distance: what is left between two spaces once one is rotated onto the other."""

import math

import torch
from torch import Tensor


def procrustes(cross: Tensor, self_x: Tensor, self_y: Tensor) -> float:
    """Squared orthogonal Procrustes distance of two spaces of unit Frobenius norm, in [0, 2].

    min |X / |X|_F - (Y / |Y|_F) Q|_F^2 over orthogonal Q: 0 for the same space up to a rotation,
    an offset and a scale, 2 where no direction of one goes along with any of the other.
    cross: (d1, d2), X'Y. self_x: (d1, d1), X'X. self_y: (d2, d2), Y'Y. Of centred X and Y, float64.
    Raises ValueError if a space is constant.
    Source: Ding et al. 2021, section 2; Williams et al. 2021 for what makes its root a metric.
    """
    shared = float(torch.linalg.svdvals(cross).sum())
    return 2 - 2 * (shared / _norm(self_x, "x") / _norm(self_y, "y"))


def _norm(product: Tensor, name: str) -> float:
    square = float(product.trace())
    if not square > 0:
        raise ValueError(f"{name}: every row is the same")
    return math.sqrt(square)
