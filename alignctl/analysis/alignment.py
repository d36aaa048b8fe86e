"""How alike the objectives' representations are at every saved epoch, over all images."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import pandas as pd
import torch
from torch import Tensor

from alignctl.analysis.features import Representation, chunks, features
from alignctl.analysis.models import common_epochs, load_network
from alignctl.config import StudyConfig
from alignctl.datasets import Split, load_images
from alignctl.encoders import Network
from alignctl.engine.context import WorkerContext
from alignctl.errors import AlignctlError, CheckpointError
from alignctl.metrics import Moments
from alignctl.runs import RunDirectory
from alignctl.runs.tables import read_parquet, write_csv, write_parquet

_KEY = ["epoch", "split", "representation", "reference", "objective", "metric"]
# The columns of the study's original code, which compares with cl.
_ORIGINAL_COLUMNS = ("NSCL_RSA", "SCL_RSA", "NSCL_CKA", "SCL_CKA", "CE_RSA", "CE_CKA")
_ROWS_PER_PRODUCT = 4096
_ROWS_FOR_ORIGIN = 256


@dataclass(frozen=True)
class AlignmentRow:
    """One similarity of two models on one split."""

    epoch: int
    split: str
    representation: str
    reference: str
    objective: str
    metric: str
    value: float
    num_images: int


@dataclass(frozen=True)
class AlignmentJob:
    """What to compare in which run."""

    run: Path
    reference: str
    objectives: tuple[str, ...]
    splits: tuple[Split, ...]
    representation: Representation


def evaluate(context: WorkerContext, job: AlignmentJob) -> int:
    """Fill in what the run's alignment tables lack; the number of (epoch, split) evaluated."""
    run = RunDirectory(job.run)
    table = read_table(run)
    todo = pending(run, job, table)
    context.wait()  # everyone has read the table before the first process replaces it
    splits = {split for _, split in todo}
    images = {
        split: torch.from_numpy(load_images(run.config.dataset, split).images) for split in splits
    }
    names = (job.reference, *job.objectives)
    loaded, networks = None, []
    for done, (epoch, split) in enumerate(todo):
        context.report("evaluate", epoch=epoch, split=split, done=done, total=len(todo))
        if loaded != epoch:
            networks = [load_network(run, name, epoch, context.device) for name in names]
            loaded = epoch
        try:
            moments = _measure(context, job, run.config, networks, images[split])
            rows = _rows(job, moments, epoch=epoch, split=split)
        except ValueError as error:
            first = len(images[split]) * context.rank // context.world_size
            raise AlignctlError(
                f"epoch {epoch}, {split} ({', '.join(names)}; rows from image {first}): {error}"
            ) from error
        if context.is_first:
            table = _merge(table, rows)
            _write(run, job, table)
    context.report("evaluate", done=len(todo), total=len(todo))
    return len(todo)


def pending(run: RunDirectory, job: AlignmentJob, table: pd.DataFrame) -> list[tuple[int, Split]]:
    """The (epoch, split) that have weights but not yet all their rows."""
    found = common_epochs(run, (job.reference, *job.objectives))
    if not found:
        raise CheckpointError(f"{run.checkpoints}: no epoch has weights of all objectives yet")
    rows = select(table, reference=job.reference, representation=job.representation)
    there = set(zip(rows["epoch"], rows["split"], rows["objective"], strict=True))
    return [
        (epoch, split)
        for epoch in found
        for split in job.splits
        if not there.issuperset((epoch, split, name) for name in job.objectives)
    ]


def read_table(run: RunDirectory) -> pd.DataFrame:
    """All alignment rows of a run; empty, with its columns, before the first evaluation."""
    table = read_parquet(run.alignment_table)
    columns = list(AlignmentRow.__dataclass_fields__)
    return table if len(table) else pd.DataFrame(columns=columns)


def select(table: pd.DataFrame, **values: str) -> pd.DataFrame:
    """The rows in which each of these columns has this value."""
    for column, value in values.items():
        table = table[table[column] == value]
    return table


def _measure(
    context: WorkerContext,
    job: AlignmentJob,
    study: StudyConfig,
    networks: Sequence[Network],
    images: Tensor,
) -> Moments:
    """The merged sums of all processes over all images of one split."""

    def found(part: slice) -> list[Tensor]:
        batch = images[part].to(context.device, non_blocking=True)
        return features(networks, batch, job.representation, study.augmentation)

    first = Moments.origins_of(found(slice(0, _ROWS_FOR_ORIGIN)))
    # Computed alike everywhere, but sums over other origins must never be added by accident.
    context.broadcast([*first.raw, *first.unit])
    pairs = [(0, index) for index in range(1, len(networks))]
    mine = None
    share = chunks(
        len(images), rank=context.rank, world_size=context.world_size, size=_ROWS_PER_PRODUCT
    )
    for part in share:
        chunk = Moments.measure(found(part), pairs, first)
        mine = chunk if mine is None else mine + chunk
    assert mine is not None, "every process has at least one slice"
    return mine.with_tensors(context.sum(mine.tensors()))


def _rows(job: AlignmentJob, moments: Moments, *, epoch: int, split: str) -> list[AlignmentRow]:
    return [
        AlignmentRow(
            epoch=epoch,
            split=split,
            representation=job.representation,
            reference=job.reference,
            objective=objective,
            metric=metric,
            value=score(0, index),
            num_images=moments.raw.count,
        )
        for index, objective in enumerate(job.objectives, start=1)
        for metric, score in (("cka", moments.linear_cka), ("rsa", moments.rsa))
    ]


def _merge(table: pd.DataFrame, rows: list[AlignmentRow]) -> pd.DataFrame:
    new = pd.DataFrame([asdict(row) for row in rows])
    both = new if table.empty else pd.concat([table, new], ignore_index=True)
    kept = both.drop_duplicates(_KEY, keep="last")
    order = ["representation", "reference", "split", "epoch"]  # objectives as the study lists them
    return kept.sort_values(order, kind="stable", ignore_index=True)


def _write(run: RunDirectory, job: AlignmentJob, table: pd.DataFrame) -> None:
    write_parquet(run.alignment_table, table)
    for split in job.splits:
        chosen = select(
            table, split=split, representation=job.representation, reference=job.reference
        )
        if len(chosen):
            write_csv(_csv_file(run, job, split), wide(chosen, job.reference))


def _csv_file(run: RunDirectory, job: AlignmentJob, split: str) -> Path:
    """train_alignment.csv for h against cl, as in the original; other choices are named."""
    parts = [split, "alignment"]
    if job.reference != "cl":
        parts.append(f"vs_{job.reference}")
    if job.representation != "h":
        parts.append(job.representation)
    return run.alignment / f"{'_'.join(parts)}.csv"


def wide(rows: pd.DataFrame, reference: str) -> pd.DataFrame:
    """One line per epoch, one column per objective and metric, in the original's order.

    Against `cl` the original's six columns are always there, empty where a model is not.
    """
    names = rows["objective"].str.upper() + "_" + rows["metric"].str.upper()
    table = rows.assign(column=names).pivot_table(index="epoch", columns="column", values="value")
    usual = list(_ORIGINAL_COLUMNS) if reference == "cl" else []
    columns = [*usual, *(name for name in dict.fromkeys(names) if name not in usual)]
    return table.reindex(columns=columns).rename_axis("Epoch").reset_index()
