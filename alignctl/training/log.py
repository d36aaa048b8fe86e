"""The training table: one row per epoch, step and objective."""

from dataclasses import dataclass

import numpy as np
import pandas as pd

from alignctl.runs import RunDirectory
from alignctl.runs.tables import read_parquet, write_parquet


@dataclass(frozen=True)
class EpochLosses:
    """What one objective's losses were in one epoch (from 1)."""

    epoch: int
    objective: str
    losses: tuple[float, ...]
    learning_rates: tuple[float, ...]

    @property
    def mean(self) -> float:
        """The mean loss of the epoch."""
        return float(np.mean(self.losses))


class TrainingLog:
    """Rows gathered since the table was last written, and the table itself."""

    def __init__(self, run: RunDirectory, *, finished_epochs: int) -> None:
        self._path = run.training_table
        table = read_parquet(self._path)
        self._parts = [table[table["epoch"] <= finished_epochs]] if len(table) else []

    def add(self, entry: EpochLosses) -> None:
        """Remember one epoch of one objective."""
        steps = len(entry.losses)
        columns = {
            "epoch": np.full(steps, entry.epoch),
            "step": np.arange(1, steps + 1),
            "objective": [entry.objective] * steps,
            "loss": entry.losses,
            "learning_rate": entry.learning_rates,
        }
        self._parts.append(pd.DataFrame(columns))

    def write(self) -> None:
        """Replace the table by everything known."""
        if self._parts:
            self._parts = [pd.concat(self._parts, ignore_index=True)]
            write_parquet(self._path, self._parts[0])
