"""All asked-for scores of pairs of spaces: which form each takes, and on which process."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch

from alignctl.config.metrics import USUAL_METRICS, AnyMetric, parse_metrics
from alignctl.metrics import gram
from alignctl.metrics.arguments import check_share, check_whole, text_list
from alignctl.metrics.closed_form import NAMES, from_kernels, linear_kernels
from alignctl.metrics.estimate import Estimate
from alignctl.metrics.jackknife import Labels, Strata
from alignctl.metrics.permutation import count_as_high, permutations
from alignctl.metrics.products import Pair
from alignctl.metrics.rows import Array, Kind, as_features
from alignctl.metrics.similarities import (
    Bound,
    FromFeatures,
    FromProducts,
    Ratio,
    Similarity,
    similarity_of,
)
from alignctl.metrics.sources import Alone, Features, InMemory, Processes, sample, whole
from alignctl.metrics.streaming import Streamed, streamed_estimates


@dataclass(frozen=True)
class Question:
    """What to measure, and how surely."""

    metrics: tuple[AnyMetric, ...]
    confidence: float | None = 0.95
    """Of the intervals, in (0, 1); None for none, which saves a pass."""
    permutations: int = 0
    """How many shuffles a p-value rests on; 0 for none."""
    seed: int = 0
    """Of the shuffles."""

    def __post_init__(self) -> None:
        if self.confidence is not None:
            check_share("confidence", self.confidence)
        check_whole("permutations", self.permutations, at_least=0)
        check_whole("seed", self.seed)


@dataclass(frozen=True)
class Score:
    """One similarity of two spaces, and all that makes it what it is."""

    metric: str
    """The metric's name with all its options: `cka kernel=linear hsic=debiased`."""
    value: float
    ci_low: float | None
    ci_high: float | None
    p_value: float | None
    """How often shuffled images score as high: (1 + count) / (1 + shuffles)."""
    num_images: int
    form: str
    """What was computed: products of `features`, a `gram` matrix, `pairs`, `batches`, ..."""
    interval: str | None = None
    """Over other images, with as many of each class (`stratified`) or of any class (`simple`), or
    over other `batches`. Else `none: ` and why; None for a metric that has no intervals, or where
    none was asked for."""


def compare(
    x: Array,
    y: Array,
    metrics: str | Sequence[str] = USUAL_METRICS,
    *,
    labels: Labels | None = None,
    confidence: float | None = 0.95,
    permutations: int = 0,
    seed: int = 0,
) -> list[Score]:
    """Scores of two feature spaces, one for each metric, in their order.

    x: (n, d1) and y: (n, d2), same images in the same order. metrics: a name with options, such as
    `rsa distance=euclidean`, or several. labels: (n,), the classes of the images, where other
    images would have as many of each class: the intervals are then stratified. confidence: of the
    intervals of CKA and RSA, in (0, 1), None for none. permutations: shuffles behind the p-values
    of CKA and RSA; 0 for none.
    Raises ConfigError for a metric that is not known; ValueError, naming x, y or the argument,
    where the spaces have no such score or an argument cannot be meant.
    """
    names = text_list("metrics", metrics)
    question = Question(parse_metrics(names), confidence, permutations, seed)
    spaces = [InMemory(space) for space in as_features(x, y)]
    return scores(spaces, [(0, 1)], question, names=("x", "y"), labels=labels)[0, 1]


def scores(
    spaces: Sequence[Features],
    pairs: Sequence[Pair],
    question: Question,
    *,
    names: Sequence[str],
    labels: Labels | None = None,
    device: torch.device | None = None,
    processes: Processes | None = None,
) -> dict[Pair, list[Score]]:
    """The scores of every pair, in the order of the metrics; the same on every process.

    spaces: M, the same images in the same order. names: what they are called in errors. labels:
    classes of the images, for stratified intervals.
    Raises ValueError where a pair has no such score.
    """
    survey = _Survey(
        spaces,
        pairs,
        question,
        names=tuple(names),
        strata=Strata.of(labels, spaces[0].num_rows),
        device=device or torch.device("cpu"),
        processes=processes or Alone(),
    )
    estimates = survey.streamed() | survey.in_memory()
    p_values = survey.p_values() if question.permutations else {}
    return {
        pair: [
            survey.score(m, estimates[pair, m], p_values.get((pair, m))) for m in question.metrics
        ]
        for pair in pairs
    }


Key = tuple[Pair, AnyMetric]


class _Survey:
    """One call of `scores`: what every step of it needs to know."""

    def __init__(
        self,
        spaces: Sequence[Features],
        pairs: Sequence[Pair],
        question: Question,
        *,
        names: tuple[str, ...],
        strata: Strata,
        device: torch.device,
        processes: Processes,
    ) -> None:
        self._spaces, self._pairs, self._question = spaces, pairs, question
        self._names, self._strata = names, strata
        self._device, self._processes = device, processes
        self._num_images = spaces[0].num_rows
        dims = [space.num_columns for space in spaces]
        self._takes_gram = all(
            gram.gram_is_smaller(self._num_images, dims[i], dims[j]) for i, j in pairs
        )
        self._similarities = {metric: similarity_of(metric) for metric in question.metrics}

    def _is_streamed(self, similarity: Similarity) -> bool:
        if isinstance(similarity, Ratio | Bound):
            return not self._takes_gram
        if isinstance(similarity, FromProducts):
            return not (self._takes_gram and similarity.is_rotation_invariant)
        return False

    def streamed(self) -> dict[Key, Estimate]:
        """What follows from sums over images: every process reads its share of the rows."""
        chosen: dict[AnyMetric, Streamed] = {
            metric: similarity  # type: ignore[misc]
            for metric, similarity in self._similarities.items()
            if self._is_streamed(similarity)
        }
        # Whitening divides by the smallest variances: float32 products would make noise of them.
        delicate = {m: one for m, one in chosen.items() if isinstance(one, FromProducts)}
        others = {m: one for m, one in chosen.items() if m not in delicate}
        return self._stream(others) | self._stream(delicate, wide=True)

    def _stream(
        self, chosen: Mapping[AnyMetric, Streamed], *, wide: bool = False
    ) -> dict[Key, Estimate]:
        if not chosen:
            return {}
        found = streamed_estimates(
            self._spaces,
            self._pairs,
            list(chosen.values()),
            names=self._names,
            device=self._device,
            processes=self._processes,
            strata=None if self._question.confidence is None else self._strata,
            wide=wide,
        )
        return {
            (pair, metric): found[pair, similarity]
            for pair in self._pairs
            for metric, similarity in chosen.items()
        }

    def in_memory(self) -> dict[Key, Estimate]:
        """What takes all rows of two spaces: every process does some of the pairs and metrics."""
        tasks = [
            (pair, metric)
            for pair in self._pairs
            for metric, similarity in self._similarities.items()
            if not self._is_streamed(similarity)
        ]
        mine = tasks[self._processes.rank :: self._processes.world_size]
        found = {key: self._estimate(*key) for key in mine}
        if not tasks:
            return found
        return {key: value for part in self._processes.gather(found) for key, value in part.items()}

    def p_values(self) -> dict[Key, float]:
        """(1 + count) / (1 + shuffles) of CKA and RSA: every process does some of the shuffles."""
        keys: list[Key] = []
        counts: list[int] = []
        numbers = range(self._question.permutations)
        mine = numbers[self._processes.rank :: self._processes.world_size]
        for pair in self._pairs:
            by_kind: dict[Kind, list[AnyMetric]] = {}
            for metric, similarity in self._similarities.items():
                if isinstance(similarity, Ratio):
                    by_kind.setdefault(similarity.kind, []).append(metric)
            for kind, metrics in by_kind.items():
                statistics = [self._similarities[metric].statistic for metric in metrics]  # type: ignore[union-attr]
                x, y = (self._whole(index, None) for index in pair)
                orders = permutations(self._num_images, mine, seed=self._question.seed)
                counts += count_as_high(x, y, kind, statistics, orders=orders)
                keys += [(pair, metric) for metric in metrics]
        tensor = torch.tensor(counts, dtype=torch.float64, device=self._device)
        (total,) = self._processes.sum([tensor])
        return {
            key: (1 + count) / (1 + len(numbers))
            for key, count in zip(keys, total.tolist(), strict=True)
        }

    def _estimate(self, pair: Pair, metric: AnyMetric) -> Estimate:
        similarity = self._similarities[metric]
        sampled = self._sample(metric)
        x, y = (self._whole(index, sampled) for index in pair)
        strata = self._strata if sampled is None else self._strata.at(sampled)
        try:
            if isinstance(similarity, FromFeatures):
                return similarity.value(x, y, strata)
            kernels = linear_kernels(x, y, similarity.kind)
            if isinstance(similarity, FromProducts):
                return Estimate(similarity.from_kernels(*kernels))
            if isinstance(similarity, Ratio):
                with_error = self._question.confidence is not None
                return from_kernels(
                    *kernels, similarity.statistic, with_error=with_error, strata=strata
                )
            return Estimate(similarity.from_kernels(*kernels))
        except ValueError as error:
            raise ValueError(self._named(str(error), pair)) from error

    def _sample(self, metric: AnyMetric) -> torch.Tensor | None:
        limit = getattr(metric, "images", None)
        if limit is None or not metric.is_sampled(self._num_images):
            return None
        return sample(self._num_images, limit, seed=metric.seed)  # type: ignore[union-attr]

    def _whole(self, index: int, images: torch.Tensor | None) -> torch.Tensor:
        return whole(self._spaces[index], images).to(self._device)

    def _named(self, message: str, pair: Pair) -> str:
        """Functions of two spaces call them x and y."""
        called = dict(zip(NAMES, (self._names[index] for index in pair), strict=True))
        return re.sub(r"^[xy]\b", lambda match: called[match[0]], message)

    def score(self, metric: AnyMetric, estimate: Estimate, p_value: float | None) -> Score:
        """An estimate under its full name."""
        sampled = self._sample(metric)
        similarity = self._similarities[metric]
        if isinstance(similarity, FromFeatures):
            form = similarity.form
        else:
            form = "features" if self._is_streamed(similarity) else "gram"
        low, high = None, None
        interval: str | None = None
        if self._question.confidence is not None and estimate.standard_error is not None:
            low, high = estimate.interval(self._question.confidence)
            interval = estimate.interval_kind
        elif self._question.confidence is not None and estimate.no_interval is not None:
            interval = f"none: {estimate.no_interval}"
        num_images = estimate.num_images
        if num_images is None:
            num_images = self._num_images if sampled is None else len(sampled)
        identifier = metric.identifier(self._num_images)
        return Score(identifier, estimate.value, low, high, p_value, num_images, form, interval)
