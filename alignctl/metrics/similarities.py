"""The registry of similarities: what each takes, and how it becomes a number."""

from collections.abc import Callable, Hashable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from alignctl.config.metric_configs import (
    AnyMetric,
    CkaConfig,
    KnnConfig,
    RsaConfig,
    SvccaConfig,
)
from alignctl.metrics.cca import pwcca, svcca_estimate
from alignctl.metrics.cka import minibatch_estimate
from alignctl.metrics.inference.closed_form import from_kernels
from alignctl.metrics.inference.estimate import Estimate
from alignctl.metrics.inference.jackknife import Strata
from alignctl.metrics.neighbours import neighbours_of, overlap
from alignctl.metrics.pairs import PairDistances, correlated, pair_distances
from alignctl.metrics.procrustes import procrustes
from alignctl.metrics.reduction import CentredRows
from alignctl.metrics.shared_spaces import MadeOfSpace
from alignctl.metrics.sums.bounds import AlignmentBounds, bounds_from
from alignctl.metrics.sums.gram import CentredKernel, pair_rows, rbf_kernel
from alignctl.metrics.sums.pair_sums import Statistic
from alignctl.metrics.sums.products import resolution_of
from alignctl.metrics.sums.rows import KIND_OF_DISTANCE, KIND_OF_KERNEL, Kind, refuse_not_finite


@dataclass(frozen=True)
class Ratio:
    """A statistic of two spaces over that of each with itself: it has an interval and a p-value."""

    kind: Kind
    statistic: Statistic


@dataclass(frozen=True)
class Bound:
    """A number that follows from the same sums, of unit rows."""

    value: Callable[[AlignmentBounds], float]
    kind: Kind = "unit"

    def from_kernels(self, x: CentredKernel, y: CentredKernel) -> float:
        """The bound from two kernel matrices of unit rows; ValueError where there is none."""
        sums = (rows.sums() for rows in (pair_rows(x, y), x.own_rows, y.own_rows))
        return self.value(bounds_from(*sums, resolution=resolution_of(torch.float64)))


@dataclass(frozen=True)
class FromCentred:
    """A function of few centred rows that have the inner products of all: see `reduction`."""

    value: Callable[[CentredRows, CentredRows], Estimate]


@dataclass(frozen=True)
class FromFeatures:
    """A function of the features themselves: (n, d1) and (n, d2), all rows in memory."""

    value: Callable[[Tensor, Tensor, Strata], Estimate]
    form: str
    """What it forms: batches."""


@dataclass(frozen=True)
class FromSpaces:
    """A function of what is made of each space by itself, once for all that it is compared with."""

    made: tuple[Hashable, ...]
    """What `space` makes, with all its options: metrics that say the same share it."""
    space: Callable[[Tensor, str], MadeOfSpace]
    """From (n, d), all rows in memory, and what the space is called in errors."""
    value: Callable[[Any, Any, Strata], Estimate]
    form: str
    """What it forms: a kernel, pairs of images, neighbours."""


Similarity = Ratio | Bound | FromCentred | FromFeatures | FromSpaces


def _cka(config: CkaConfig) -> Similarity:
    statistic: Statistic = config.hsic
    if config.kernel == "rbf":

        def kernel(x: Tensor, name: str) -> CentredKernel:
            refuse_not_finite(name, x)
            return rbf_kernel(x, config.bandwidth, name)

        return FromSpaces(
            ("rbf", config.bandwidth),
            kernel,
            lambda x, y, strata: from_kernels(x, y, statistic, strata=strata),
            "gram",
        )
    if config.batch_size is not None:
        size, seed = config.batch_size, config.seed
        return FromFeatures(lambda x, y, _: minibatch_estimate(x, y, size, seed=seed), "batches")
    return Ratio(KIND_OF_KERNEL[config.kernel], statistic)


def _rsa(config: RsaConfig) -> Similarity:
    if config.is_closed_form:
        return Ratio(KIND_OF_DISTANCE[config.distance], "distances")

    is_ranked = config.correlation != "pearson"

    def space(x: Tensor, name: str) -> PairDistances:
        return pair_distances(
            x,
            name,
            distance=config.distance,
            is_ranked=is_ranked,
            max_pairs=config.pairs,
            seed=config.seed,
        )

    return FromSpaces(
        ("pairs", config.distance, is_ranked, config.pairs, config.seed),
        space,
        lambda x, y, strata: correlated(x, y, config.correlation, strata),
        "pairs",
    )


def _knn(config: KnnConfig) -> Similarity:
    return FromSpaces(
        ("neighbours", config.k, config.distance),
        lambda x, name: neighbours_of(x, name, k=config.k, distance=config.distance),
        lambda x, y, _: Estimate(overlap(x, y)),
        "neighbours",
    )


def _svcca(config: SvccaConfig) -> Similarity:
    return FromCentred(lambda x, y: svcca_estimate(x, y, variance=config.variance))


METRICS: dict[str, Callable[..., Similarity]] = {
    "cka": _cka,
    "rsa": _rsa,
    "cka_lower_bound": lambda config: Bound(lambda bounds: bounds.cka_at_least),
    "rsa_lower_bound": lambda config: Bound(lambda bounds: bounds.rsa_at_least),
    "procrustes": lambda config: FromCentred(lambda x, y: Estimate(procrustes(x, y))),
    "knn": _knn,
    "svcca": _svcca,
    "pwcca": lambda config: FromCentred(lambda x, y: Estimate(pwcca(x, y))),
}


def similarity_of(config: AnyMetric) -> Similarity:
    """How a configured metric is computed."""
    return METRICS[config.name](config)
