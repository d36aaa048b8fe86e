"""The run directory that points to the original's snapshots, and has their tables."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from alignctl.config import StudyConfig
from alignctl.errors import ConfigError
from alignctl.models.model_source import Identity, Model
from alignctl.original import evaluated
from alignctl.original.snapshot_files import read_pointer
from alignctl.original.snapshots import Snapshots
from alignctl.runs import RunDirectory


@dataclass(frozen=True)
class AdoptedRun(Snapshots):
    """Snapshots where the original's trainer left them, of a run that has their tables."""

    run: RunDirectory = field(kw_only=True)
    """It points to the snapshots; it may not exist yet. `given` is the config that it is to get;
    None where it keeps its own, if it has one."""

    @property
    def config(self) -> StudyConfig:
        """Networks and images; ConfigError where nobody has given a config."""
        if self.given is None and not self.run.config_file.exists():
            raise ConfigError(
                f"{self.run.path}: has no config, for none was given with its checkpoints; give "
                f"one: `alignctl eval-alignment --config FILE --checkpoints {self.folder} "
                f"--output {self.run.path}`"
            )
        return self.given or self.run.config

    def with_config(self, study: StudyConfig) -> AdoptedRun:
        """The same snapshots; the run is to get this config."""
        return replace(self, given=study)

    @property
    def copies(self) -> Path:
        """The run itself, where the original's scripts would write their tables."""
        return self.run.path

    def prepare(self, purpose: str) -> None:
        """Adopt the snapshots, where the run does not point to them yet."""
        from alignctl.original.adoption import adopt

        adopt(self, purpose)

    def remember(self, seen: Mapping[Model, Identity | None]) -> None:
        """Keep size and date of the files beside the rows."""
        evaluated.remember(self.run, seen)

    def forget(self, models: Iterable[Model]) -> None:
        """Remove models from what is kept."""
        evaluated.forget(self.run, models)

    def unproven(self, models: Iterable[Model]) -> set[Model]:
        """Those with another size or date than when they were evaluated, or with none on record."""
        return evaluated.unproven(self.run, self.checkpoints, models)

    def changed(self) -> dict[str, list[int]]:
        """By size and date."""
        return evaluated.changed(self.run, self.checkpoints)


def open_adopted(run: RunDirectory) -> AdoptedRun | None:
    """The snapshots that a run points to; None where it points to none."""
    checkpoints = read_pointer(run.pointer_file)
    return None if checkpoints is None else AdoptedRun(checkpoints, run=run)
