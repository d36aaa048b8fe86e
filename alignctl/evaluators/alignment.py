"""How alike the objectives' representations are at every saved epoch, over all images."""

import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import asdict, dataclass, field, replace
from functools import cached_property
from itertools import groupby, islice
from operator import itemgetter
from pathlib import Path
from typing import Any, Literal

import pandas as pd
from torch import Tensor

from alignctl.config.dataset_configs import DatasetConfig
from alignctl.datasets import ImageSet, Split, loading_writes, open_images
from alignctl.encoders import Network, check_image_size
from alignctl.engine.context import WorkerContext
from alignctl.errors import AlignctlError, CheckpointError
from alignctl.evaluators.alignment_table import AlignmentRow, merged, read_table, write_tables
from alignctl.evaluators.metric_names import rows_of
from alignctl.evaluators.same_data import doubts_about
from alignctl.features.evaluation_images import image_passes, passes_of
from alignctl.features.extraction import features
from alignctl.features.feature_files import CheckedFeatures, FeatureFile
from alignctl.features.feature_store import are_kept, stored_features
from alignctl.metrics.feature_space import share_in_chunks
from alignctl.metrics.scoring import Question, Score, scores
from alignctl.models.fitted import load_network
from alignctl.models.model_source import ModelSource
from alignctl.models.own_run import OwnRun
from alignctl.runs import RunDirectory
from alignctl.runs.directory import comparable_epochs

ModelPair = tuple[str, str]


@dataclass(frozen=True)
class AlignmentJob:
    """What to compare in which run."""

    run: Path
    pairs: tuple[ModelPair, ...]
    """(reference, objective)."""
    splits: tuple[Split, ...]
    representations: tuple[str, ...]
    """`h`, `g` or names of layers: of all of them by one pass over the images of a split."""
    question: Question
    epochs: tuple[int, ...] | None = None
    """None for all that are saved."""
    keep_features: bool = False
    dataset: DatasetConfig | None = None
    """Where the images lie now; None for where the run's config says."""
    interval: Literal["stratified", "simple"] = "stratified"
    """stratified: over other images with as many of each class; simple: of any class."""
    source: ModelSource | None = None
    """Where the models come from; None for those that the run trained itself."""
    owner: int = field(default_factory=os.getpid)
    """The process that removes features where the evaluation fails."""

    @property
    def models(self) -> ModelSource:
        """Where the models come from."""
        return self.source or OwnRun(RunDirectory(self.run))

    @property
    def names(self) -> tuple[str, ...]:
        """The models that take part, each once."""
        return tuple(dict.fromkeys(name for pair in self.pairs for name in pair))


def evaluate(context: WorkerContext, job: AlignmentJob) -> int:
    """Fill in what the run's alignment tables lack; how many (epoch, split, layer) were new."""
    table = read_table(RunDirectory(job.run))
    # What the first process finds, for files may come while others look.
    todo, pairs_at = context.gather((pending(job, table), pairs_at_epochs(job)))[0]
    context.wait()  # everyone has read the table before the first process replaces it
    images = _images(context, job, {split for _, split, _ in todo})
    done = 0
    for epoch, of_epoch in groupby(todo, key=itemgetter(0)):
        here = replace(job, pairs=pairs_at[epoch])
        models = _Models(context, here, epoch)
        for split, of_split in groupby(of_epoch, key=itemgetter(1)):
            context.report("evaluate", epoch=epoch, split=split, done=done, total=len(todo))
            asked = replace(here, representations=tuple(layer for *_, layer in of_split))
            _evaluate_split(context, asked, models, split, images[split])
            done += len(asked.representations)
    context.report("evaluate", done=len(todo), total=len(todo))
    return len(todo)


def _images(context: WorkerContext, job: AlignmentJob, splits: set[Split]) -> dict[Split, ImageSet]:
    config = job.models.config
    dataset = job.dataset or config.dataset

    def load() -> dict[Split, ImageSet]:
        return {split: open_images(dataset, split) for split in sorted(splits)}

    images = context.in_turn(load) if loading_writes(dataset) else load()
    for found in images.values():
        check_image_size(config.encoder, *found.image_shape)
    for text in dict.fromkeys(text for found in images.values() for text in found.notices):
        context.report("notice", text=text)
    if context.is_first and job.models.records_training:
        for text in doubts_about(RunDirectory(job.run), images, dataset):
            context.report("warning", text=text)
    return images


class _Models:
    """The networks of one epoch, loaded when they are first needed."""

    def __init__(self, context: WorkerContext, job: AlignmentJob, epoch: int) -> None:
        self.epoch, self._source = epoch, job.models
        self.files = {name: self._source.file(name, epoch) for name in job.names}
        # before they are loaded, for another program may write the files anew meanwhile
        self.identities = self._source.identities((name, epoch) for name in self.files)
        self._context, self._job = context, job

    @cached_property
    def _networks(self) -> list[Network]:
        names, device = self._job.names, self._context.device
        return [load_network(self._source, name, self.epoch, device) for name in names]

    def features(self, images: Tensor, representations: Sequence[str]) -> list[list[Tensor]]:
        """What each makes of some images (n, H, W, 3) uint8: (n, d) float32 by representation."""
        return features(self._networks, images, representations, self._source.config.augmentation)


def _evaluate_split(
    context: WorkerContext, job: AlignmentJob, models: _Models, split: Split, images: ImageSet
) -> None:
    """Add the rows of all representations of one epoch and split to the run's tables."""
    passes = image_passes(images, share_in_chunks(len(images.ids), context), context.device)

    def compute(part: slice, wanted: Sequence[int]) -> Iterator[list[list[Tensor]]]:
        layers = [job.representations[index] for index in wanted]
        for pixels in islice(passes, len(passes_of(part))):
            yield models.features(pixels, layers)

    stored = stored_features(
        context,
        [_features_folder(job, models.epoch, split, layer) for layer in job.representations],
        models.files,
        num_images=len(images.ids),
        compute=compute,
        keep=job.keep_features,
        owner=job.owner,
    )
    rows: list[AlignmentRow] = []
    with closing(passes), stored as spaces:
        passes.close()  # the processes that decode have done their work
        try:
            for layer, files in zip(job.representations, spaces, strict=True):
                found = _scores(context, job, files, images, where=(models.epoch, split, layer))
                rows += _rows(job, layer, found, epoch=models.epoch, split=split)
        finally:  # what was found before an error stays
            if context.is_first and rows:
                _write(job, rows)
                job.models.remember(models.identities)


def _scores(
    context: WorkerContext,
    job: AlignmentJob,
    files: Sequence[FeatureFile],
    images: ImageSet,
    *,
    where: tuple[int, Split, str],
) -> dict[ModelPair, list[Score]]:
    """The scores of each pair of models, in one representation.

    where: epoch, split and representation, for the message of an error.
    """
    indices = [(job.names.index(a), job.names.index(b)) for a, b in job.pairs]
    named = zip(files, job.names, strict=True)
    try:
        found = scores(
            [CheckedFeatures(file, name) for file, name in named],
            indices,
            job.question,
            names=job.names,
            labels=images.labels if job.interval == "stratified" else None,
            device=context.device,
            processes=context,
        )
    except ValueError as error:
        epoch, split, layer = where
        raise AlignctlError(f"epoch {epoch}, {split}, {layer}: {error}") from error
    return {pair: found[index] for pair, index in zip(job.pairs, indices, strict=True)}


def _rows(
    job: AlignmentJob,
    representation: str,
    found: Mapping[ModelPair, Sequence[Score]],
    *,
    epoch: int,
    split: Split,
) -> list[AlignmentRow]:
    return [
        _row(job, representation, pair, score, epoch=epoch, split=split)
        for pair, of_pair in found.items()
        for score in of_pair
    ]


def _write(job: AlignmentJob, rows: Sequence[AlignmentRow]) -> None:
    run = RunDirectory(job.run)
    write_tables(
        run,
        merged(read_table(run), rows),
        representations=dict.fromkeys(row.representation for row in rows),
        splits=job.splits,
        references=[reference for reference, _ in job.pairs],
    )


def _row(
    job: AlignmentJob, layer: str, pair: ModelPair, score: Score, *, epoch: int, split: str
) -> AlignmentRow:
    return AlignmentRow(
        epoch=epoch,
        split=split,
        representation=layer,
        reference=pair[0],
        objective=pair[1],
        confidence=None if score.ci_low is None else job.question.confidence,
        permutations=job.question.permutations,
        **asdict(score),
    )


def pending(job: AlignmentJob, table: pd.DataFrame) -> list[tuple[int, Split, str]]:
    """The (epoch, split, representation) that have weights but not yet all their rows."""
    there = _answered(table, job)
    return [
        (epoch, split, layer)
        for epoch, pairs in pairs_at_epochs(job).items()
        if job.epochs is None or epoch in job.epochs
        for split in job.splits
        for layer in job.representations
        if (job.keep_features and not are_kept(_features_folder(job, epoch, split, layer)))
        or not all(
            (epoch, split, layer, *pair, metric) in there
            for pair in pairs
            for metric in job.question.metrics
        )
    ]


def pairs_at_epochs(job: AlignmentJob) -> dict[int, tuple[ModelPair, ...]]:
    """The pairs whose models are there, by epoch, ascending; CheckpointError where there are none.

    A source says whether each pair counts by itself, or only epochs that have all models.
    """
    source = job.models
    saved = {name: source.epochs(name) for name in job.names}
    epochs = comparable_epochs(saved, job.pairs, pair_by_pair=source.pair_by_pair)
    found = {
        epoch: tuple(pair for pair in job.pairs if epoch in epochs[pair])
        for epoch in sorted(set().union(*epochs.values()))
    }
    if not found:
        which = "both models of a pair" if source.pair_by_pair else "all objectives"
        raise CheckpointError(f"{source.folder}: no epoch has weights of {which} yet")
    return found


def _features_folder(job: AlignmentJob, epoch: int, split: str, representation: str) -> Path:
    features = RunDirectory(job.run).features
    return features / f"epoch_{epoch:04d}" / f"{split}_{representation}"


def _answered(table: pd.DataFrame, job: AlignmentJob) -> set[tuple[Any, ...]]:
    """What has a row with the interval and at least the shuffles that are asked for."""
    question = job.question
    rows = table[table["permutations"] >= question.permutations]
    if not question.each_by_itself:  # then what cannot be computed is an error
        rows = rows[rows["value"].notna()]
    if question.confidence is not None:
        # What has no interval has none with another confidence either. A table of an older version
        # does not say over what its intervals are.
        over = rows["interval"].isin([job.interval, "batches"])
        same = (rows["confidence"] == question.confidence) & over
        rows = rows[same | rows["confidence"].isna()]
    keys = ["epoch", "split", "representation", "reference", "objective"]
    return {
        (*key, metric)
        for metric, answers in rows_of(rows, question.metrics).items()
        for key in answers[keys].itertuples(index=False, name=None)
    }
