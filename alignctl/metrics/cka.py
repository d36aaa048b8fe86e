"""Centred kernel alignment: do two feature spaces tell the same images apart?"""

from typing import Any

import numpy as np
import torch
from torch import Tensor

from alignctl.metrics.products import CrossProducts, as_features, column_means


def linear_cka(x: Tensor | np.ndarray[Any, Any], y: Tensor | np.ndarray[Any, Any]) -> float:
    """Linear CKA of two feature spaces, in [0, 1].

    x: (n, d1) and y: (n, d2), same images in the same order, n >= 2. Computed in feature space
    with O(d1 d2) memory: float32 products, float64 sums; all in float64 where x or y is.
    Raises ValueError if either space is constant or not finite, or the rows differ in number.
    Source: Kornblith et al. 2019, |Y'X|_F^2 / (|X'X|_F |Y'Y|_F) on centred columns.
    """
    features = as_features(x, y)
    origins = [column_means(space) for space in features]
    return cka_from(CrossProducts.measure(features, [(0, 1)], origins), 0, 1)


def cka_from(sums: CrossProducts, i: int, j: int) -> float:
    """Linear CKA, in [0, 1], from sums over at least two rows.

    Raises ValueError if either space is constant, or a row is not finite.
    Source: Kornblith et al. 2019, |Y'X|_F^2 / (|X'X|_F |Y'Y|_F) on centred columns.
    """
    if sums.count < 2:
        raise ValueError(f"CKA needs at least 2 rows, not {sums.count}")
    sums.refuse_faults("not finite")
    for k in (i, j):
        sums.spread(k)
    cross, norm_i, norm_j = (
        float(torch.linalg.vector_norm(sums.centred(*pair))) for pair in ((i, j), (i, i), (j, j))
    )
    return cross / norm_i * (cross / norm_j)
