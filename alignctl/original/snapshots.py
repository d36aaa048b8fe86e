"""The original's snapshots as a source of models."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from alignctl.config import StudyConfig
from alignctl.errors import ConfigError
from alignctl.models.model_source import Identity, Model, ModelSource
from alignctl.original import evaluated
from alignctl.original.snapshot_files import (
    FOLDERS,
    ITS_NAMES,
    OriginalCheckpoints,
    find_checkpoints,
)

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class Snapshots(ModelSource):
    """Snapshots where the original's trainer left them."""

    pair_by_pair = True
    records_training = False
    may_change = True

    checkpoints: OriginalCheckpoints
    given: StudyConfig | None = None
    """The config of their networks; None where nobody has given one."""

    @property
    def config(self) -> StudyConfig:
        """Networks and images; ConfigError where nobody has given a config."""
        if self.given is None:
            raise ConfigError(f"{self.folder}: snapshots have no config; give one")
        return self.given

    @property
    def objectives(self) -> tuple[str, ...]:
        """Those that had snapshots when the run was adopted."""
        return self.checkpoints.objectives

    @property
    def folder(self) -> Path:
        """The folder with one folder of snapshots for each objective."""
        return self.checkpoints.folder

    def epochs(self, objective: str) -> list[int]:
        """Epochs that have a snapshot now, ascending."""
        return self.checkpoints.epochs(objective)

    def file(self, objective: str, epoch: int) -> Path:
        """A snapshot."""
        return self.checkpoints.file(objective, epoch)

    def load(self, objective: str, epoch: int) -> dict[str, Tensor]:
        """The snapshot as it lies there: nobody recorded what was written."""
        from alignctl.encoders.torchvision_names import with_timm_names
        from alignctl.original.snapshot_tensors import load_snapshot

        return with_timm_names(load_snapshot(self.file(objective, epoch)))

    def with_config(self, study: StudyConfig) -> Snapshots:
        """The same snapshots, of networks of this config."""
        return replace(self, given=study)

    @property
    def comparable(self) -> tuple[str, ...]:
        """The objectives that have snapshots now."""
        return tuple(name for name in self.objectives if self.epochs(name))

    @property
    def missing(self) -> tuple[str, ...]:
        """Those of the original that have none."""
        return tuple(name for name in FOLDERS if name not in self.comparable)

    def name_of(self, word: str) -> str:
        """The original's words are understood as well as ours."""
        return ITS_NAMES.get(word, word)

    def refuse_missing_reference(self, reference: str) -> None:
        """ConfigError where an objective of the original has no snapshots."""
        names = self.comparable
        if reference in FOLDERS and reference not in names:
            raise ConfigError(
                f"{self.folder}: has no snapshots of {reference} (folder {FOLDERS[reference][0]}), "
                f"which others are compared with; choose another --reference ({', '.join(names)})"
            )

    def refuse_output(self, output: Path) -> None:
        """ConfigError inside the folder of snapshots, which is only read."""
        folder, path = self.folder.resolve(), output.resolve()
        if path == folder or folder in path.parents:
            raise ConfigError(f"--output: {output} lies in {self.folder}, which is only read")

    def summary(self) -> dict[str, str]:
        """Where the snapshots lie."""
        return {"checkpoints": str(self.folder)}

    def identities(self, models: Iterable[Model]) -> dict[Model, Identity | None]:
        """Size and date of snapshots, whose content would take long to read."""
        return {model: evaluated.identity(self.file(*model)) for model in models}


def snapshots_in(folder: Path) -> Snapshots:
    """Those under a folder; ConfigError where there are none."""
    return Snapshots(find_checkpoints(folder))
