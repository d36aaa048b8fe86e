"""The registry of similarities: what each takes, and how it becomes a number."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from alignctl.config.metrics import (
    AnyMetric,
    CkaConfig,
    KnnConfig,
    RsaConfig,
    SvccaConfig,
)
from alignctl.metrics.bounds import AlignmentBounds, bounds_from
from alignctl.metrics.cca import pwcca, svcca_estimate
from alignctl.metrics.cka import minibatch_estimate, rbf_estimate
from alignctl.metrics.estimate import Estimate
from alignctl.metrics.gram import CentredKernel, pair_rows
from alignctl.metrics.jackknife import Strata
from alignctl.metrics.neighbours import knn_overlap
from alignctl.metrics.pair_sums import Statistic
from alignctl.metrics.pairs import pair_rsa
from alignctl.metrics.procrustes import procrustes
from alignctl.metrics.products import resolution_of
from alignctl.metrics.reduction import CentredRows
from alignctl.metrics.rows import KIND_OF_DISTANCE, KIND_OF_KERNEL, Kind


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
        sums = (pair_rows(a, b).sums() for a, b in ((x, y), (x, x), (y, y)))
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
    """What it forms: pairs of images, batches, neighbours."""


Similarity = Ratio | Bound | FromCentred | FromFeatures


def _cka(config: CkaConfig) -> Similarity:
    statistic: Statistic = config.hsic
    if config.kernel == "rbf":
        debiased = config.hsic == "debiased"

        def rbf(x: Tensor, y: Tensor, strata: Strata) -> Estimate:
            return rbf_estimate(x, y, config.bandwidth, debiased, strata=strata)

        return FromFeatures(rbf, "gram")
    if config.batch_size is not None:
        size, seed = config.batch_size, config.seed
        return FromFeatures(lambda x, y, _: minibatch_estimate(x, y, size, seed=seed), "batches")
    return Ratio(KIND_OF_KERNEL[config.kernel], statistic)


def _rsa(config: RsaConfig) -> Similarity:
    if config.is_closed_form:
        return Ratio(KIND_OF_DISTANCE[config.distance], "distances")

    def value(x: Tensor, y: Tensor, strata: Strata) -> Estimate:
        return pair_rsa(
            x,
            y,
            distance=config.distance,
            correlation=config.correlation,
            max_pairs=config.pairs,
            seed=config.seed,
            strata=strata,
        )

    return FromFeatures(value, "pairs")


def _knn(config: KnnConfig) -> Similarity:
    return FromFeatures(
        lambda x, y, _: Estimate(knn_overlap(x, y, k=config.k, distance=config.distance)),
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
