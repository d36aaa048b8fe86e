"""The models that a run of our own has trained."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from alignctl.config import StudyConfig
from alignctl.models.model_source import ModelSource
from alignctl.runs import Manifest, RunDirectory
from alignctl.runs.directory import checkpoint_file, saved_epochs

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class OwnRun(ModelSource):
    """The checkpoints in a run directory, which are written once."""

    run: RunDirectory
    placed: StudyConfig | None = None
    """The run's config, with its data where they lie now; None where that is as it says."""

    @property
    def config(self) -> StudyConfig:
        """The study that was run."""
        return self.placed or self.run.config

    @property
    def objectives(self) -> tuple[str, ...]:
        """Those of the study."""
        return self.run.config.objective_names

    @property
    def folder(self) -> Path:
        """The run's checkpoints."""
        return self.run.checkpoints

    @property
    def where(self) -> str:
        """The run."""
        return str(self.run.path)

    def epochs(self, objective: str) -> list[int]:
        """Epochs whose weights are there, ascending."""
        return saved_epochs(self.run, objective)

    def file(self, objective: str, epoch: int) -> Path:
        """A safetensors file."""
        return checkpoint_file(self.run, objective, epoch)

    def load(self, objective: str, epoch: int) -> dict[str, Tensor]:
        """As they were written, by the digest in the manifest."""
        from alignctl.encoders.torchvision_names import with_timm_names
        from alignctl.runs.checkpoints import load_weights

        recorded = Manifest.read(self.run.manifest_file).checkpoints.get(epoch, {})
        path = self.file(objective, epoch)
        return with_timm_names(load_weights(path, sha256=recorded.get(objective)))

    def with_config(self, study: StudyConfig) -> OwnRun:
        """The same checkpoints; the run keeps its config."""
        return replace(self, placed=study)
