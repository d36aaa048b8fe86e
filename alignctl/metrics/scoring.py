"""All asked-for scores of pairs of spaces: which form each takes, and on which process."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch

from alignctl.config.metric_configs import (
    USUAL_METRICS,
    AnyMetric,
    CkaConfig,
    KnnConfig,
    RsaConfig,
    parse_metrics,
)
from alignctl.metrics.arguments import check_share, check_whole, text_list
from alignctl.metrics.feature_space import Features, InMemory
from alignctl.metrics.inference.estimate import Estimate
from alignctl.metrics.inference.jackknife import Labels, Strata
from alignctl.metrics.inference.permutation import count_as_high, permutations
from alignctl.metrics.pair_scores import Key, PairScores
from alignctl.metrics.pairs import num_pairs
from alignctl.metrics.row_passes import Outcome, Streamed, streamed_estimates
from alignctl.metrics.similarities import (
    Bound,
    FromCentred,
    FromFeatures,
    FromSpaces,
    Ratio,
    Similarity,
    similarity_of,
)
from alignctl.metrics.sums import gram
from alignctl.metrics.sums.products import Pair
from alignctl.metrics.sums.rows import Array, Kind, as_features
from alignctl.processes import ALONE, Processes


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
    each_by_itself: bool = False
    """Whether a metric that cannot be computed has a note in its place, and the others their
    values; else it is an error for all."""

    def __post_init__(self) -> None:
        if self.confidence is not None:
            check_share("confidence", self.confidence)
        check_whole("permutations", self.permutations, at_least=0)
        check_whole("seed", self.seed)


@dataclass(frozen=True)
class Score:
    """One similarity of two spaces, and all that makes it what it is."""

    metric: str
    """The metric's name, whatever the number of images: `cka kernel=linear hsic=debiased`."""
    value: float | None
    """None where it could not be computed: see `note`."""
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
    note: str | None = None
    """Why there is no value, or what it has to be read with."""
    num_sampled_images: int | None = None
    """How many images were drawn; None where all were compared."""
    num_sampled_pairs: int | None = None
    """How many pairs of images were drawn; None where no pairs, or all, were compared."""
    sample_seed: int | None = None
    """The seed of the sample; None where none was drawn."""


def compare(
    x: Array,
    y: Array,
    metrics: str | Sequence[str] | None = None,
    *,
    labels: Labels | None = None,
    confidence: float | None = 0.95,
    permutations: int = 0,
    seed: int = 0,
) -> list[Score]:
    """Scores of two feature spaces, one for each metric, in their order.

    x: (n, d1) and y: (n, d2), same images in the same order. metrics: a name with options, such as
    `rsa distance=euclidean`, or several; one that cannot be computed is an error. None for the
    usual ones, of which each that cannot be computed has no value, and a note that says why.
    labels: (n,), the classes of the images, where other images would have as many of each class:
    the intervals are then stratified. confidence: of the intervals of CKA and RSA, in (0, 1), None
    for none. permutations: shuffles behind the p-values of CKA and RSA; 0 for none.
    Raises ConfigError for a metric that is not known; ValueError, naming x, y or the argument,
    where the spaces have no such score, or none of the usual ones, or an argument cannot be meant.
    """
    question = Question(
        parse_metrics(USUAL_METRICS if metrics is None else text_list("metrics", metrics)),
        confidence,
        permutations,
        seed,
        each_by_itself=metrics is None,
    )
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
    processes: Processes = ALONE,
) -> dict[Pair, list[Score]]:
    """The scores of every pair, in the order of the metrics; the same on every process.

    spaces: M, the same images in the same order. names: what they are called in errors. labels:
    classes of the images, for stratified intervals.
    Raises ValueError where a pair has no such score; where each metric stands by itself, only if no
    pair has any. NotFiniteError, naming space and row, for a NaN or an infinity in any case.
    """
    survey = _Survey(
        spaces,
        pairs,
        question,
        names=tuple(names),
        strata=Strata.of(labels, spaces[0].num_rows),
        device=device or torch.device("cpu"),
        processes=processes,
    )
    outcomes = survey.outcomes()
    p_values = survey.p_values(outcomes) if question.permutations else {}
    return {
        pair: [
            survey.score(m, pair, outcomes[pair, m], p_values.get((pair, m)))
            for m in question.metrics
        ]
        for pair in pairs
    }


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
        self._takes_gram = {
            (i, j): gram.gram_is_smaller(self._num_images, dims[i], dims[j]) for i, j in pairs
        }
        self._similarities = {metric: similarity_of(metric) for metric in question.metrics}
        self._pair_scores = PairScores(
            spaces,
            self._similarities,
            names=names,
            strata=strata,
            device=device,
            with_errors=question.confidence is not None,
        )

    def outcomes(self) -> dict[Key, Outcome]:
        """Every score, or why there is none; the same on every process."""
        found = self.streamed()
        self._refuse_failures(found)  # before the rest takes its time
        found |= self.in_memory()
        self._refuse_failures(found)
        if found and all(isinstance(outcome, ValueError) for outcome in found.values()):
            raise next(iter(found.values()))  # type: ignore[misc]
        return found

    def _refuse_failures(self, found: Mapping[Key, Outcome]) -> None:
        for outcome in found.values():
            if isinstance(outcome, ValueError) and not self._question.each_by_itself:
                raise outcome

    def _is_streamed(self, similarity: Similarity, pair: Pair) -> bool:
        return isinstance(similarity, Ratio | Bound) and not self._takes_gram[pair]

    def streamed(self) -> dict[Key, Outcome]:
        """What follows from sums over images: every process reads its share of the rows."""
        chosen: dict[AnyMetric, Streamed] = {
            metric: similarity
            for metric, similarity in self._similarities.items()
            if isinstance(similarity, Ratio | Bound)
        }
        pairs = [pair for pair in self._pairs if not self._takes_gram[pair]]
        if not chosen or not pairs:
            return {}
        # Only the spaces of these pairs: others may be too wide for products of their features.
        spaces = list(dict.fromkeys(index for pair in pairs for index in pair))
        found = streamed_estimates(
            [self._spaces[index] for index in spaces],
            [(spaces.index(i), spaces.index(j)) for i, j in pairs],
            list(chosen.values()),
            names=[self._names[index] for index in spaces],
            device=self._device,
            processes=self._processes,
            strata=None if self._question.confidence is None else self._strata,
        )
        return {
            (pair, metric): found[(spaces.index(pair[0]), spaces.index(pair[1])), similarity]
            for pair in pairs
            for metric, similarity in chosen.items()
        }

    def in_memory(self) -> dict[Key, Outcome]:
        """What takes pairs of spaces one by one: every process does some of the pairs and metrics.

        Those that are functions of the same few rows are done together. Every process goes
        metric by metric, so that what it made of a space for one pair is there for the next.
        """
        tasks: list[list[Key]] = []
        for pair in self._pairs:
            centred: list[Key] = []
            for metric, similarity in self._similarities.items():
                if isinstance(similarity, FromCentred):
                    centred.append((pair, metric))
                elif not self._is_streamed(similarity, pair):
                    tasks.append([(pair, metric)])
            tasks += [centred] if centred else []
        found: dict[Key, Outcome] = {}
        order = list(self._similarities)
        mine = tasks[self._processes.rank :: self._processes.size]
        for task in sorted(mine, key=lambda task: order.index(task[0][1])):
            found |= self._pair_scores.outcomes(task)
            self._refuse_failures(found)
        if not tasks:
            return found
        return {key: value for part in self._processes.gather(found) for key, value in part.items()}

    def p_values(self, outcomes: Mapping[Key, Outcome]) -> dict[Key, float]:
        """(1 + count) / (1 + shuffles) of CKA and RSA: every process does some of the shuffles."""
        keys: list[Key] = []
        counts: list[int] = []
        numbers = range(self._question.permutations)
        mine = numbers[self._processes.rank :: self._processes.size]
        for pair in self._pairs:
            by_kind: dict[Kind, list[AnyMetric]] = {}
            for metric, similarity in self._similarities.items():
                there = isinstance(outcomes[pair, metric], Estimate)
                if isinstance(similarity, Ratio) and there:
                    by_kind.setdefault(similarity.kind, []).append(metric)
            for kind, metrics in by_kind.items():
                statistics = [self._similarities[metric].statistic for metric in metrics]  # type: ignore[union-attr]
                x, y = (self._pair_scores.rows(index) for index in pair)
                orders = permutations(self._num_images, mine, seed=self._question.seed)
                counts += count_as_high(x, y, kind, statistics, orders=orders)
                keys += [(pair, metric) for metric in metrics]
        tensor = torch.tensor(counts, dtype=torch.float64, device=self._device)
        (total,) = self._processes.sum([tensor])
        return {
            key: (1 + count) / (1 + len(numbers))
            for key, count in zip(keys, total.tolist(), strict=True)
        }

    def score(
        self, metric: AnyMetric, pair: Pair, outcome: Outcome, p_value: float | None
    ) -> Score:
        """An outcome under its full name."""
        sampled = self._pair_scores.sampled(metric)
        similarity = self._similarities[metric]
        if isinstance(similarity, FromFeatures | FromSpaces):
            form = similarity.form
        else:
            form = "gram" if self._takes_gram[pair] else "features"
        num_images = self._num_images if sampled is None else len(sampled)
        drawn = self._drawn(metric)
        if isinstance(outcome, ValueError):
            note = str(outcome)
            return Score(
                metric.identifier, None, None, None, None, num_images, form, None, note, *drawn
            )
        if outcome.num_images is not None:
            num_images = outcome.num_images
        low, high, interval = self._interval(outcome)
        ends = (low, high, p_value)
        return Score(
            metric.identifier,
            outcome.value,
            *ends,
            num_images,
            form,
            interval,
            outcome.note,
            *drawn,
        )

    def _drawn(self, metric: AnyMetric) -> tuple[int | None, int | None, int | None]:
        """How many images and pairs were sampled, and by which seed; None where none were."""
        if not metric.is_sampled(self._num_images):
            return None, None, None
        if isinstance(metric, RsaConfig):
            return None, num_pairs(self._num_images, metric.pairs), metric.seed
        assert isinstance(metric, CkaConfig | KnnConfig)
        return metric.images, None, metric.seed

    def _interval(self, estimate: Estimate) -> tuple[float | None, float | None, str | None]:
        """Its ends, and over what it is; or why there is none, where one is asked for."""
        confidence = self._question.confidence
        if confidence is None:
            return None, None, None
        if estimate.standard_error is not None:
            return *estimate.interval(confidence), estimate.interval_kind
        return None, None, estimate.no_interval and f"none: {estimate.no_interval}"
