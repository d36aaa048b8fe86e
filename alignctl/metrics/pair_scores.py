"""Scores of pairs of spaces whose rows are in memory: each space is prepared once for its pairs."""

import re
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, TypeVar

import torch

from alignctl.config.metric_configs import AnyMetric
from alignctl.metrics.feature_space import Features, sample, whole
from alignctl.metrics.inference.closed_form import NAMES, from_kernels
from alignctl.metrics.inference.estimate import Estimate
from alignctl.metrics.inference.jackknife import Strata
from alignctl.metrics.reduction import reduced
from alignctl.metrics.row_passes import Outcome
from alignctl.metrics.shared_spaces import SharedSpaces
from alignctl.metrics.similarities import (
    FromCentred,
    FromFeatures,
    FromSpaces,
    Ratio,
    Similarity,
)
from alignctl.metrics.sums import gram
from alignctl.metrics.sums.products import Pair
from alignctl.metrics.sums.rows import Kind, NotFiniteError

T = TypeVar("T")
Key = tuple[Pair, AnyMetric]


class PairScores:
    """The spaces, and what has been made of them so far."""

    def __init__(
        self,
        spaces: Sequence[Features],
        similarities: Mapping[AnyMetric, Similarity],
        *,
        names: Sequence[str],
        strata: Strata,
        device: torch.device,
        with_errors: bool,
    ) -> None:
        self._spaces, self._similarities = spaces, similarities
        self._names, self._strata = names, strata
        self._device, self._with_errors = device, with_errors
        self._num_images = spaces[0].num_rows
        self._shared = SharedSpaces()

    def outcomes(self, task: Sequence[Key]) -> dict[Key, Outcome]:
        """Of one metric, or of several that are functions of the same few centred rows."""
        pair = task[0][0]
        similarities = ((key, self._similarities[key[1]]) for key in task)
        centred = {key: one for key, one in similarities if isinstance(one, FromCentred)}
        if not centred:
            return {key: self._outcome(pair, partial(self._estimate, *key)) for key in task}
        x, y = (self._spaces[index] for index in pair)
        rows = self._renamed(pair, lambda: reduced(x, y, self._device))
        return {
            key: self._outcome(pair, partial(similarity.value, *rows))
            for key, similarity in centred.items()
        }

    def rows(self, index: int, images: torch.Tensor | None = None) -> torch.Tensor:
        """All rows of a space, or those of some images."""
        return whole(self._spaces[index], images).to(self._device)

    def sampled(self, metric: AnyMetric) -> torch.Tensor | None:
        """The images that a metric samples; None where it takes all, or samples pairs."""
        limit = getattr(metric, "images", None)
        if limit is None or not metric.is_sampled(self._num_images):
            return None
        return sample(self._num_images, limit, seed=metric.seed)  # type: ignore[union-attr]

    def _outcome(self, pair: Pair, estimate: Callable[[], Estimate]) -> Outcome:
        try:
            return self._renamed(pair, estimate)
        except NotFiniteError:
            raise
        except ValueError as error:
            return error

    def _renamed(self, pair: Pair, compute: Callable[[], T]) -> T:
        """What this returns; its errors call the spaces by their names, and not x and y."""
        called = dict(zip(NAMES, (self._names[index] for index in pair), strict=True))
        try:
            return compute()
        except ValueError as error:
            text = re.sub(r"^[xy]\b", lambda match: called[match[0]], str(error))
            raise type(error)(text) from error

    def _estimate(self, pair: Pair, metric: AnyMetric) -> Estimate:
        similarity = self._similarities[metric]
        sampled = self.sampled(metric)
        strata = self._strata if sampled is None else self._strata.at(sampled)
        if isinstance(similarity, FromFeatures):
            x, y = (self.rows(index, sampled) for index in pair)
            return similarity.value(x, y, strata)
        if isinstance(similarity, FromSpaces):
            a, b = self._made(pair, metric, similarity)
            return similarity.value(a, b, strata)
        assert not isinstance(similarity, FromCentred)
        first, second = self._kernels(pair, similarity.kind)
        if isinstance(similarity, Ratio):
            with_error = self._with_errors
            return from_kernels(
                first, second, similarity.statistic, with_error=with_error, strata=self._strata
            )
        return Estimate(similarity.from_kernels(first, second))

    def _made(self, pair: Pair, metric: AnyMetric, similarity: FromSpaces) -> list[Any]:
        images = self.sampled(metric)
        drawn = None if images is None else (len(images), metric.seed)  # type: ignore[union-attr]

        def made(index: int, name: str) -> Any:
            return similarity.space(self.rows(index, images), name)

        return [
            self._shared.get((index, drawn, similarity.made), partial(made, index, name))
            for index, name in zip(pair, NAMES, strict=True)
        ]

    def _kernels(self, pair: Pair, kind: Kind) -> list[gram.CentredKernel]:
        """Inner products of the rows of both."""

        def made(index: int, name: str) -> gram.CentredKernel:
            return gram.linear_kernel(self.rows(index), kind, name)

        return [
            self._shared.get((index, kind), partial(made, index, name))
            for index, name in zip(pair, NAMES, strict=True)
        ]
