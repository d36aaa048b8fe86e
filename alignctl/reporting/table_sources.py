"""The tables of a run or a sweep, read once."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from alignctl.config import StudyConfig
from alignctl.models.model_source import ModelSource
from alignctl.models.own_run import OwnRun
from alignctl.runs import Manifest, RunDirectory
from alignctl.runs.directory import is_sweep
from alignctl.runs.sweep_folder import SweepDescription, SweepDirectory
from alignctl.runs.table_files import read_parquet


@dataclass(frozen=True)
class RunTables:
    """One run: its study, its manifest, and its tables, empty where not yet made."""

    path: Path
    study: StudyConfig
    models: ModelSource
    manifest: Manifest
    training: pd.DataFrame
    alignment: pd.DataFrame
    weight_gap: pd.DataFrame

    @property
    def name(self) -> str:
        """The run directory's name."""
        return self.path.resolve().name


@dataclass(frozen=True)
class SweepTables:
    """One sweep: what was swept, and the alignment of all its runs."""

    path: Path
    description: SweepDescription
    alignment: pd.DataFrame
    runs: tuple[RunTables, ...]

    @property
    def name(self) -> str:
        """The sweep directory's name."""
        return self.path.resolve().name


def read_source(
    path: Path, models_of: Callable[[RunDirectory], ModelSource] = OwnRun
) -> RunTables | SweepTables:
    """The tables under a folder; CheckpointError where one is damaged.

    models_of: where a run's models come from.
    """
    return _read_sweep(path) if is_sweep(path) else _read_run(models_of(RunDirectory(path)), path)


def _read_run(source: ModelSource, path: Path) -> RunTables:
    run = RunDirectory(path)
    return RunTables(
        path=path,
        study=source.config,
        models=source,
        manifest=Manifest.read(run.manifest_file),
        training=read_parquet(run.training_table),
        alignment=read_parquet(run.alignment_table),
        weight_gap=read_parquet(run.weight_gap_table),
    )


def _read_sweep(path: Path) -> SweepTables:
    sweep = SweepDirectory(path)
    description = sweep.description()
    return SweepTables(
        path=path,
        description=description,
        alignment=read_parquet(sweep.table),
        runs=tuple(_read_run(OwnRun(run), run.path) for run in sweep.runs(description).values()),
    )
