from collections.abc import Mapping, Sequence
from pathlib import Path

import pandas as pd
import pytest

from alignctl.config.metric_configs import ORIGINAL_CKA, ORIGINAL_RSA
from alignctl.reporting.table_sources import RunTables, read_source
from alignctl.runs import RunDirectory
from alignctl.runs.table_files import write_parquet

# The similarities to cl at each epoch, on test: {metric: {objective: values}}.
EPOCHS = (0, 5, 10)
CKA = {"nscl": (1.0, 0.6, 0.83), "scl": (1.0, 0.7, 0.68), "ce": (1.0, 0.5, 0.67)}
RSA = {"nscl": (1.0, 0.9, 0.80), "scl": (1.0, 0.7, 0.65), "ce": (1.0, 0.5, 0.61)}


def similarities(
    cka: Mapping[str, Sequence[float]],
    rsa: Mapping[str, Sequence[float]],
    *,
    epochs: Sequence[int] = EPOCHS,
    split: str = "test",
    num_images: int = 1360,
    names: tuple[str, str] = (ORIGINAL_CKA, ORIGINAL_RSA),
    **columns: str,
) -> pd.DataFrame:
    """Alignment rows, one for each epoch, objective and metric; names: of the two metrics."""
    usual = {"split": split, "representation": "h", "reference": "cl", **columns}
    return pd.DataFrame(
        [
            {
                "epoch": epoch,
                **usual,
                "objective": objective,
                "metric": metric,
                "value": values[place],
                "num_images": num_images,
            }
            for place, epoch in enumerate(epochs)
            for metric, scores in zip(names, (cka, rsa), strict=True)
            for objective, values in scores.items()
        ]
    )


def with_intervals(rows: pd.DataFrame, reach: float = 0.05) -> pd.DataFrame:
    """The rows with the interval columns that an evaluation writes."""
    return rows.assign(ci_low=rows["value"] - reach, ci_high=rows["value"] + reach)


def gaps(values: Mapping[str, Sequence[float]], reference: str = "cl") -> pd.DataFrame:
    """Weight-gap rows: the mean as given, the total ten, the angle a hundred times as large."""
    scales = {"mean": 1, "total": 10, "angle_degrees": 100}
    rows = [
        {"epoch": epoch, "objective": name, "quantity": quantity, "layer": "", "value": v * scale}
        for name, series in values.items()
        for epoch, v in zip(EPOCHS, series, strict=True)
        for quantity, scale in scales.items()
    ]
    rows += [{**rows[0], "quantity": "layer", "layer": "conv1.weight", "value": 99.0}]
    return pd.DataFrame(rows).assign(reference=reference)


def losses(values: Mapping[str, Sequence[Sequence[float]]]) -> pd.DataFrame:
    """Training rows from the losses of every step of every epoch, by objective."""
    return pd.DataFrame(
        [
            {"epoch": epoch, "step": step, "objective": name, "loss": loss, "learning_rate": 0.1}
            for name, epochs in values.items()
            for epoch, steps in enumerate(epochs, start=1)
            for step, loss in enumerate(steps, start=1)
        ]
    )


@pytest.fixture
def alignment() -> pd.DataFrame:
    """Both splits; on train every similarity is 0.1 lower."""
    lower = [{k: tuple(v - 0.1 for v in vs) for k, vs in table.items()} for table in (CKA, RSA)]
    train = similarities(*lower, split="train", num_images=1437)
    return pd.concat([train, similarities(CKA, RSA)], ignore_index=True)


@pytest.fixture
def make_source(make_run, alignment):
    """A function of a folder: the tables of a finished, evaluated run there."""

    def make(path: Path, **manifest: object) -> RunTables:
        run: RunDirectory = make_run(path, **manifest)
        write_parquet(run.alignment_table, alignment)
        write_parquet(run.weight_gap_table, gaps({"nscl": (0, 0.1, 0.2), "ce": (0, 0.3, 0.4)}))
        curve = [[2.0, 1.0], [1.0, 0.5]]
        table = losses(dict.fromkeys(["cl", "nscl", "scl", "ce"], curve))
        write_parquet(run.training_table, table)
        source = read_source(path)
        assert isinstance(source, RunTables)
        return source

    return make


@pytest.fixture
def tables():
    """The makers of small tables, for tests that need their own."""

    class Makers:
        similarities = staticmethod(similarities)
        with_intervals = staticmethod(with_intervals)
        gaps = staticmethod(gaps)
        losses = staticmethod(losses)

    return Makers
