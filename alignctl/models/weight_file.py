"""One model in one file of weights, of whatever program."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from alignctl.config import StudyConfig
from alignctl.errors import ConfigError
from alignctl.models.model_source import ModelSource
from alignctl.models.weights import as_model

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class WeightFile(ModelSource):
    """A file with a state dict, alone or inside a checkpoint; its model is named after the file.

    It stands at epoch 0, for a file does not say how long its model was trained.
    """

    records_training = False

    path: Path
    study: StudyConfig | None = None
    """The network that the weights belong to; None where nobody has said."""

    @property
    def config(self) -> StudyConfig:
        """The network and the images; ConfigError where nobody has given a config."""
        if self.study is None:
            raise ConfigError(f"{self.path}: a file of weights has no config; give one")
        return self.study

    @property
    def objectives(self) -> tuple[str, ...]:
        """The one name."""
        return (self.path.stem,)

    @property
    def folder(self) -> Path:
        """Where the file lies."""
        return self.path.parent

    @property
    def where(self) -> str:
        """The file."""
        return str(self.path)

    def epochs(self, objective: str) -> list[int]:
        """[0] while the file is there."""
        return [0] if objective in self.objectives and self.path.is_file() else []

    def file(self, objective: str, epoch: int) -> Path:
        """The file."""
        return self.path

    def load(self, objective: str, epoch: int) -> dict[str, Tensor]:
        """The state dict, of an encoder alone or of a whole model; nothing in it is executed."""
        from alignctl.encoders.torchvision_names import with_timm_names
        from alignctl.encoders.weight_files import tensors_in

        return with_timm_names(as_model(tensors_in(self.path)))

    def with_config(self, study: StudyConfig) -> WeightFile:
        """The same weights, of this study's network."""
        return replace(self, study=study)
