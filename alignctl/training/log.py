"""The training table: one row per epoch, step and objective."""

import itertools
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from alignctl.runs.table_files import read_parquet, write_parquet


class TrainingLog:
    """The rows of all steps so far, in parts that are put in order when they are read."""

    def __init__(self, objectives: Sequence[str], saved: Path | None = None) -> None:
        """saved: a table to go on from."""
        self._objectives = tuple(objectives)
        table = pd.DataFrame() if saved is None else read_parquet(saved)
        self._parts = [table] if len(table) else []

    def add(
        self,
        epoch: int,
        losses: Mapping[str, Sequence[float]],
        *,
        first_step: int,
        learning_rates: Sequence[float],
    ) -> None:
        """Remember steps of one epoch (from 1), those after `first_step`, of every objective."""
        num_steps = len(learning_rates)
        for objective in self._objectives:
            columns = {
                "epoch": np.full(num_steps, epoch),
                "step": np.arange(first_step + 1, first_step + num_steps + 1),
                "objective": [objective] * num_steps,
                "loss": np.asarray(losses[objective], dtype=np.float64),
                "learning_rate": np.asarray(learning_rates, dtype=np.float64),
            }
            if num_steps:
                self._parts.append(pd.DataFrame(columns))

    def table(self) -> pd.DataFrame:
        """Every row, by epoch, objective and step; without columns before the first step."""
        if len(self._parts) > 1:
            rows = pd.concat(self._parts, ignore_index=True)
            places = {name: place for place, name in enumerate(self._objectives)}
            keys = (rows["step"], rows["objective"].map(places), rows["epoch"])
            self._parts = [rows.iloc[np.lexsort(keys)].reset_index(drop=True)]
        return self._parts[0] if self._parts else pd.DataFrame()

    def means(self, epoch: int) -> dict[str, float]:
        """The mean loss of each objective in the epoch that was added last."""
        latest = itertools.takewhile(
            lambda part: part["epoch"].iloc[-1] == epoch, reversed(self._parts)
        )
        rows = pd.concat([part[part["epoch"] == epoch] for part in latest][::-1])
        means = rows.groupby("objective")["loss"].mean()
        return {name: float(means[name]) for name in self._objectives}

    def write(self, path: Path) -> None:
        """Replace a file by the table; without rows there is no file."""
        if self._parts:
            write_parquet(path, self.table())
        else:
            path.unlink(missing_ok=True)
