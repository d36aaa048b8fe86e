"""The alignment tables of a run: one row per similarity, and CSVs as the original writes them."""

from collections.abc import Iterable
from dataclasses import asdict, dataclass, fields
from itertools import product
from pathlib import Path

import pandas as pd

from alignctl.config.metric_configs import ORIGINAL_CKA, ORIGINAL_RSA
from alignctl.evaluators.metric_names import SAMPLE_COLUMNS, with_sample_columns
from alignctl.models.model_source import ModelSource
from alignctl.runs import RunDirectory
from alignctl.runs.table_files import read_parquet, write_csv, write_parquet

_KEY = ["epoch", "split", "representation", "reference", "objective", "metric"]
# The columns of the study's original code, which compares with cl.
_ORIGINAL_COLUMNS = ("NSCL_RSA", "SCL_RSA", "NSCL_CKA", "SCL_CKA", "CE_RSA", "CE_CKA")
_ORIGINAL_METRICS = {ORIGINAL_CKA: "CKA", ORIGINAL_RSA: "RSA"}
_SIDES = ("reference", "objective")


@dataclass(frozen=True)
class AlignmentRow:
    """One similarity of two models on one split."""

    epoch: int
    split: str
    representation: str
    """`h`, `g` or a layer's name."""
    reference: str
    objective: str
    metric: str
    """The metric's name, whatever the number of images."""
    value: float | None
    """None where it could not be computed: see `note`."""
    ci_low: float | None
    ci_high: float | None
    confidence: float | None
    """Of the interval, where there is one."""
    p_value: float | None
    permutations: int
    """Shuffles behind the p-value."""
    num_images: int
    form: str
    """What was computed: products of `features`, a `gram` matrix, `pairs`, ..."""
    interval: str | None
    """Over which other images the interval is, or why there is none; see `Score.interval`."""
    note: str | None
    """Why there is no value, or what it has to be read with."""
    num_sampled_images: int | None
    """How many images were drawn; None where all were compared."""
    num_sampled_pairs: int | None
    """How many pairs of images were drawn; None where no pairs, or all, were compared."""
    sample_seed: int | None
    """The seed of the sample; None where none was drawn."""


def read_table(run: RunDirectory) -> pd.DataFrame:
    """All alignment rows of a run; empty, with its columns, before the first evaluation."""
    table = with_sample_columns(read_parquet(run.alignment_table))
    columns = [field.name for field in fields(AlignmentRow)]
    return table.reindex(columns=columns)  # a table of an older version lacks some


def select(table: pd.DataFrame, **values: str) -> pd.DataFrame:
    """The rows in which each of these columns has this value."""
    for column, value in values.items():
        table = table[table[column] == value]
    return table


def merged(table: pd.DataFrame, rows: Iterable[AlignmentRow]) -> pd.DataFrame:
    """The table with new rows in the place of older ones of the same models, split and metric."""
    new = pd.DataFrame([asdict(row) for row in rows]).astype(
        dict.fromkeys(("value", "ci_low", "ci_high", "confidence", "p_value"), "float64")
        | dict.fromkeys(SAMPLE_COLUMNS, "Int64")
        | {"note": "object"}
    )
    if table.empty:
        return _sorted(new)
    both = pd.concat([table, _with_known_p_values(new, table)], ignore_index=True)
    return _sorted(both.drop_duplicates(_KEY, keep="last"))


def _with_known_p_values(new: pd.DataFrame, table: pd.DataFrame) -> pd.DataFrame:
    """A p-value of more shuffles outlives rows with another confidence."""
    columns = ["p_value", "permutations"]
    known = new[_KEY].merge(table[[*_KEY, *columns]], on=_KEY, how="left").set_index(new.index)
    more = known["permutations"] > new["permutations"]
    return new.assign(**{name: known[name].where(more, new[name]) for name in columns}).astype(
        {"permutations": new["permutations"].dtype}
    )


def _sorted(table: pd.DataFrame) -> pd.DataFrame:
    order = ["representation", "reference", "split", "epoch"]  # objectives as the study lists them
    return table.sort_values(order, kind="stable", ignore_index=True)


def write_tables(
    run: RunDirectory,
    table: pd.DataFrame,
    *,
    representations: Iterable[str],
    splits: Iterable[str],
    references: Iterable[str],
) -> None:
    """Replace the run's table, and the CSVs of these choices."""
    write_parquet(run.alignment_table, table)
    choices = product(representations, splits, dict.fromkeys(references))
    for representation, split, reference in choices:
        _write_csv(run, table, representation, split=split, reference=reference)


def _write_csv(
    run: RunDirectory, table: pd.DataFrame, representation: str, *, split: str, reference: str
) -> Path:
    """The CSV of some of the rows, which is not there where there are none of the original's."""
    path = _csv_file(run, representation, split=split, reference=reference)
    chosen = select(table, representation=representation, split=split, reference=reference)
    chosen = chosen[chosen["metric"].isin(_ORIGINAL_METRICS)]
    if len(chosen):
        write_csv(path, wide(chosen, reference))
    else:
        path.unlink(missing_ok=True)
    return path


def drop_stale(run: RunDirectory, source: ModelSource) -> list[Path]:
    """Take out the rows of files that are not those they came from; the CSVs without them."""
    table = read_table(run)
    sides = [list(zip(table[side], table["epoch"], strict=True)) for side in _SIDES]
    unsure = source.unproven({model for side in sides for model in side})
    stale = [any(model in unsure for model in pair) for pair in zip(*sides, strict=True)]
    kept = table[[not each for each in stale]]
    if any(stale):
        write_parquet(run.alignment_table, kept.reset_index(drop=True))
    source.forget(unsure)
    places = table.loc[stale, ["representation", "split", "reference"]].drop_duplicates()
    return [
        _write_csv(run, kept, representation, split=split, reference=reference)
        for representation, split, reference in places.itertuples(index=False, name=None)
    ]


def csv_files(
    run: RunDirectory,
    *,
    representations: Iterable[str],
    splits: Iterable[str],
    references: Iterable[str],
) -> list[Path]:
    """The CSV tables of these choices that are there, now or from before."""
    choices = product(representations, splits, dict.fromkeys(references))
    paths = (
        _csv_file(run, representation, split=split, reference=reference)
        for representation, split, reference in choices
    )
    return [path for path in paths if path.is_file()]


def _csv_file(run: RunDirectory, representation: str, *, split: str, reference: str) -> Path:
    """train_alignment.csv for h against cl, as in the original; other choices are named."""
    parts = [split, "alignment"]
    if reference != "cl":
        parts.append(f"vs_{reference}")
    if representation != "h":
        parts.append(representation)
    return run.alignment / f"{'_'.join(parts)}.csv"


def wide(rows: pd.DataFrame, reference: str) -> pd.DataFrame:
    """One line per epoch, one column per objective and metric, in the original's order.

    rows: biased linear CKA, and Pearson RSA on cosine distance. Against `cl` the original's six
    columns are always there, empty where a model is not.
    """
    names = rows["objective"].str.upper() + "_" + rows["metric"].map(_ORIGINAL_METRICS)
    table = rows.assign(column=names).pivot_table(index="epoch", columns="column", values="value")
    usual = list(_ORIGINAL_COLUMNS) if reference == "cl" else []
    columns = [*usual, *(name for name in dict.fromkeys(names) if name not in usual)]
    return table.reindex(columns=columns).rename_axis("Epoch").reset_index()
