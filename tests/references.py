"""Metrics and losses written out from their definitions, to test the implementations against.

Entry by entry where the sizes allow it: slow, and with nothing in common with what they test.
"""

import itertools
import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import cosine_similarity

View = tuple[int, int]
"""A view of the batch: (first or second, image)."""


def make_spaces(
    seed: int = 0, *, num_rows: int = 20, d1: int = 6, d2: int = 4
) -> tuple[Tensor, Tensor]:
    """Two related spaces in float64: (n, d1) and (n, d2)."""
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(num_rows, d1, generator=generator, dtype=torch.float64)
    y = x @ torch.randn(d1, d2, generator=generator, dtype=torch.float64)
    return x, y + torch.randn(num_rows, d2, generator=generator, dtype=torch.float64)


def rotation(dim: int, seed: int) -> Tensor:
    """A random orthogonal matrix (d, d) in float64."""
    generator = torch.Generator().manual_seed(seed)
    return torch.linalg.qr(torch.randn(dim, dim, generator=generator, dtype=torch.float64))[0]


def inner_products(x: Tensor) -> list[list[float]]:
    """K with K[i][j] = x_i . x_j."""
    return [[float(a @ b) for b in x] for a in x]


def hsic(K: list[list[float]], L: list[list[float]]) -> float:
    """tr(K H L H) with H = I - 11'/n: Gretton et al. 2005, less its factor."""
    n = len(K)
    H = [[(1.0 if i == j else 0.0) - 1 / n for j in range(n)] for i in range(n)]
    KH = [[sum(K[i][k] * H[k][j] for k in range(n)) for j in range(n)] for i in range(n)]
    LH = [[sum(L[i][k] * H[k][j] for k in range(n)) for j in range(n)] for i in range(n)]
    return sum(KH[i][j] * LH[j][i] for i in range(n) for j in range(n))


def cka(x: Tensor, y: Tensor) -> float:
    """Linear CKA of Kornblith et al. 2019, eq. 2 and 3."""
    K, L = inner_products(x), inner_products(y)
    return hsic(K, L) / math.sqrt(hsic(K, K) * hsic(L, L))


def hsic_u_statistic(K: list[list[float]], L: list[list[float]]) -> float:
    """HSIC_1 of Song et al. 2012, eq. 4: means over tuples of different images."""
    means = []
    for size, (p, q) in ((2, (0, 1)), (3, (0, 2)), (4, (2, 3))):
        tuples = list(itertools.permutations(range(len(K)), size))
        means.append(sum(K[t[0]][t[1]] * L[t[p]][t[q]] for t in tuples) / len(tuples))
    return means[0] - 2 * means[1] + means[2]


def u_centred(K: Tensor) -> Tensor:
    """(n, n), U-centred: Szekely and Rizzo 2014, eq. 2.5 (Song et al. 2012, before eq. 5)."""
    n = len(K)
    K = K.clone().fill_diagonal_(0)
    sums = K.sum(dim=1)
    K = K - (sums[:, None] + sums) / (n - 2) + sums.sum() / ((n - 1) * (n - 2))
    return K.fill_diagonal_(0)


def distance(a: Any, b: Any, kind: str) -> Any:
    """Of two rows, in more digits than float64 has."""
    a, b = (np.asarray(row, dtype=np.longdouble) for row in (a, b))
    if kind == "correlation":
        a, b = a - a.mean(), b - b.mean()
    if kind in {"cosine", "correlation"}:
        return 1 - (a @ b) / np.sqrt((a @ a) * (b @ b))
    squared = ((a - b) ** 2).sum()
    return squared if kind == "sqeuclidean" else np.sqrt(squared)


def distances(x: Tensor, kind: str) -> list[Any]:
    """Of all pairs of rows, once each."""
    return [distance(x[i], x[j], kind) for i in range(len(x)) for j in range(i)]


def pearson(a: Sequence[Any], b: Sequence[Any]) -> Any:
    """Covariance over the root of the variances."""
    p, q = (np.asarray(values) - np.mean(values) for values in (a, b))
    return (p @ q) / np.sqrt((p @ p) * (q @ q))


def ranks(values: Sequence[Any]) -> list[float]:
    """From 1; equal values have the mean of their ranks."""
    return [
        sum(other < value for other in values) + (sum(other == value for other in values) + 1) / 2
        for value in values
    ]


def kendall(a: Sequence[Any], b: Sequence[Any]) -> float:
    """tau-b: concordant less discordant pairs, over the root of the untied ones of either."""
    couples = list(itertools.combinations(range(len(a)), 2))
    signs_a, signs_b = ([np.sign(v[i] - v[j]) for i, j in couples] for v in (a, b))
    untied = np.count_nonzero(signs_a) * np.count_nonzero(signs_b)
    return sum(s * t for s, t in zip(signs_a, signs_b, strict=True)) / math.sqrt(untied)


def rsa(x: Tensor, y: Tensor, kind: str, correlation: str) -> float:
    """Correlation of the lower triangles of two dissimilarity matrices."""
    a, b = distances(x, kind), distances(y, kind)
    if correlation == "spearman":
        a, b = ranks(a), ranks(b)
    return float((kendall if correlation == "kendall" else pearson)(a, b))


def contrastive_loss(
    name: str,
    views: Tensor,
    labels: Sequence[int],
    temperature: float,
    *,
    images: Sequence[int] | None = None,
) -> float:
    """cl, dcl, nscl, nscl_without_positive or scl of views (2, B, d): docs/objectives.md.

    images: those whose terms are added up, in place of all; still over the number of all.
    """
    anchors = [(v, i) for v in range(2) for i in range(len(labels))]
    groups = range(len(labels)) if name in ("cl", "dcl") else labels

    def closeness(a: View, b: View) -> float:
        return math.exp(cosine_similarity(views[a], views[b], dim=0).item() / temperature)

    def scl_term(a: View) -> float:
        rest = sum(closeness(a, b) for b in anchors if b != a)
        positives = [q for q in anchors if q != a and labels[q[1]] == labels[a[1]]]
        return -sum(math.log(closeness(a, q) / rest) for q in positives) / len(positives)

    def term(a: View) -> float:
        positive = closeness(a, (1 - a[0], a[1]))
        rest = sum(closeness(a, b) for b in anchors if groups[b[1]] != groups[a[1]])
        if name in ("cl", "nscl"):
            rest += positive
        return -math.log(positive / rest)

    def has_term(a: View) -> bool:  # without a negative, only these two have none
        others = name not in ("dcl", "nscl_without_positive")
        return others or any(group != groups[a[1]] for group in groups)

    counted = [a for a in anchors if has_term(a)]
    asked = [a for a in counted if images is None or a[1] in images]
    return sum((scl_term if name == "scl" else term)(a) for a in asked) / len(counted)


def cross_entropy(logits: Tensor, labels: Sequence[int]) -> float:
    """Mean over both views of logits (2, B, C)."""
    total = 0.0
    for view in logits.tolist():
        for row, label in zip(view, labels, strict=True):
            total -= math.log(math.exp(row[label]) / sum(math.exp(x) for x in row))
    return total / (2 * len(labels))
