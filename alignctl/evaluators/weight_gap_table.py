"""How far apart the objectives' encoder weights are at every saved epoch."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

import pandas as pd
from torch import Tensor

from alignctl.engine.context import WorkerContext
from alignctl.errors import CheckpointError, ConfigError
from alignctl.metrics import WeightGap, weight_gap
from alignctl.models.model_source import ModelSource
from alignctl.models.own_run import OwnRun
from alignctl.runs import RunDirectory
from alignctl.runs.directory import comparable_epochs
from alignctl.runs.table_files import read_parquet, write_csv, write_parquet


@dataclass(frozen=True)
class WeightGapRow:
    """One number about two encoders; `layer` is empty for numbers about all layers."""

    epoch: int
    reference: str
    objective: str
    quantity: str
    layer: str
    value: float


@dataclass(frozen=True)
class WeightGapJob:
    """What to compare in which run."""

    run: Path
    reference: str
    objectives: tuple[str, ...]
    source: ModelSource | None = None
    """Where the models come from; None for those that the run trained itself."""

    @property
    def models(self) -> ModelSource:
        """Where the models come from."""
        return self.source or OwnRun(RunDirectory(self.run))


def measure(context: WorkerContext, job: WeightGapJob) -> list[WeightGapRow]:
    """The rows of every pair and epoch, written to the run's weight-gap tables."""
    run = RunDirectory(job.run)
    rows: list[WeightGapRow] = []
    epochs = _epochs(job)
    for done, objective in enumerate(job.objectives):
        for epoch in epochs[objective]:
            context.report("compare", epoch=epoch, done=done, total=len(job.objectives))
            ours, theirs = (
                _compared(job.models, job.models.load(name, epoch))
                for name in (job.reference, objective)
            )
            try:
                gap = weight_gap(ours, theirs)
            except ValueError as error:
                pair = f"{job.reference} and {objective}"
                raise CheckpointError(f"epoch {epoch}, {pair}: {error}") from error
            rows += _rows(job, gap, objective=objective, epoch=epoch)
    context.report("compare", done=len(job.objectives), total=len(job.objectives))
    _write(run, job, rows)
    return rows


def _compared(source: ModelSource, weights: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
    """The weights whose gap is measured: of a `vit` all but Q, K and V, as in the original study.

    There, the name of their tensor does not end in `weight`. Some sources have no config.
    """
    try:
        if source.config.encoder.name == "timm":
            return weights
    except ConfigError:
        pass
    return {k: v for k, v in weights.items() if not k.endswith("attn.qkv.weight")}


def _epochs(job: WeightGapJob) -> dict[str, list[int]]:
    """The epochs at which each objective can be compared.

    A pair without any is an error, unless each pair counts by itself: then one has to have some.
    """
    source = job.models
    saved = {name: source.epochs(name) for name in (job.reference, *job.objectives)}
    pairs = [(job.reference, name) for name in job.objectives]
    found = {
        pair[1]: epochs
        for pair, epochs in comparable_epochs(saved, pairs, pair_by_pair=True).items()
    }
    empty = [name for name, epochs in found.items() if not epochs]
    if empty and (not source.pair_by_pair or len(empty) == len(found)):
        both = f"both {job.reference} and {' or '.join(empty)}"
        raise CheckpointError(f"{source.folder}: no epoch has weights of {both}")
    return found


def _rows(job: WeightGapJob, gap: WeightGap, *, objective: str, epoch: int) -> list[WeightGapRow]:
    numbers = [("mean", "", gap.mean), ("total", "", gap.total)]
    numbers.append(("angle_degrees", "", gap.angle_degrees))
    numbers += [("layer", layer, value) for layer, value in gap.per_layer.items()]
    return [
        WeightGapRow(epoch, job.reference, objective, quantity, layer, value)
        for quantity, layer, value in numbers
    ]


def totals(rows: list[WeightGapRow]) -> pd.DataFrame:
    """Mean, total and angle, one line per objective and epoch, objectives in the rows' order."""
    table = pd.DataFrame([asdict(row) for row in rows if row.quantity != "layer"])
    wide = table.pivot_table(index=["objective", "epoch"], columns="quantity", values="value")
    order = list(dict.fromkeys(row.objective for row in rows))
    return wide.loc[order, ["mean", "total", "angle_degrees"]].reset_index()


def csv_file(run: RunDirectory, reference: str, objective: str) -> Path:
    """The table of one pair."""
    return run.weight_gap / f"{reference}_vs_{objective}.csv"


def _write(run: RunDirectory, job: WeightGapJob, rows: list[WeightGapRow]) -> None:
    """A CSV for each pair, whose first columns are the original's, and the tidy table."""
    wide = totals(rows).rename(
        columns={
            "epoch": "Epoch",
            "mean": "AVG_WEIGHT_DIFF",
            "total": "TOTAL_WEIGHT_DIFF",
            "angle_degrees": "ANGLE_DEGREES",
        }
    )
    for objective, pair in wide.groupby("objective"):
        path = csv_file(run, job.reference, str(objective))
        write_csv(path, pair.drop(columns="objective"))
    new = pd.DataFrame([asdict(row) for row in rows])
    before = read_parquet(run.weight_gap_table)
    if len(before):  # pairs that were not asked for this time stay
        again = before["objective"].isin(job.objectives) & (before["reference"] == job.reference)
        new = pd.concat([before[~again], new], ignore_index=True)
    write_parquet(run.weight_gap_table, new)
