"""What is asked of models that may be measured, wherever they come from."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from alignctl.config import StudyConfig
from alignctl.errors import ConfigError

if TYPE_CHECKING:  # a plan asks without importing torch
    from torch import Tensor

Model = tuple[str, int]
"""(objective, epoch)."""
Identity = tuple[int, int]
"""Of a file: bytes, and nanoseconds of the last change."""


class ModelSource(ABC):
    """Models of some objectives after some epochs: a frozen value that crosses to workers.

    A source is a file here or in a package of its own, and one line in `commands/run_kinds.py`.
    What does nothing here is for sources that differ from a run of our own.
    """

    pair_by_pair: ClassVar[bool] = False
    """Whether two models are compared wherever both are there, and not only where all are."""
    records_training: ClassVar[bool] = True
    """Whether it is known what the models were trained with: settings, batches, images."""
    may_change: ClassVar[bool] = False
    """Whether another program may write the files anew, so that rows of them must be dropped."""

    @property
    @abstractmethod
    def config(self) -> StudyConfig:
        """The networks and the images; ConfigError or CheckpointError where they are unknown."""

    @property
    @abstractmethod
    def objectives(self) -> tuple[str, ...]:
        """The names of its models, whether or not weights of them are there yet."""

    @property
    @abstractmethod
    def folder(self) -> Path:
        """Where the weights lie."""

    @property
    def where(self) -> str:
        """What messages call it."""
        return str(self.folder)

    @abstractmethod
    def epochs(self, objective: str) -> list[int]:
        """Epochs whose weights are there, ascending."""

    @abstractmethod
    def file(self, objective: str, epoch: int) -> Path:
        """Where the weights of one model lie, or would lie."""

    @abstractmethod
    def load(self, objective: str, epoch: int) -> dict[str, Tensor]:
        """The weights of one model by the names of `models/weights.py`, on the CPU.

        CheckpointError where they cannot be read or are known to be others than were written.
        """

    def with_config(self, study: StudyConfig) -> ModelSource:
        """The same models with another config, which says where their images lie now."""
        raise ConfigError(f"{self.where}: has no config that could be changed")

    # --- which models are compared

    @property
    def comparable(self) -> tuple[str, ...]:
        """The objectives that can be compared."""
        return self.objectives

    @property
    def missing(self) -> tuple[str, ...]:
        """Objectives that such a source usually has, and this one has not."""
        return ()

    def name_of(self, word: str) -> str:
        """The objective that a word of the command line stands for."""
        return word

    def refuse_missing_reference(self, reference: str) -> None:  # noqa: B027
        """ConfigError where it usually has the reference, and has not."""

    # --- where tables go

    @property
    def copies(self) -> Path | None:
        """A folder that gets the CSV tables again, where no other is asked for."""
        return None

    def refuse_output(self, output: Path) -> None:  # noqa: B027
        """ConfigError where nothing may be written to this folder."""

    def prepare(self, purpose: str) -> None:  # noqa: B027
        """Make the run directory for the tables, where there is none; purpose: the subcommand."""

    def summary(self) -> dict[str, str]:
        """What a plan says of it."""
        return {}

    # --- files that another program may write anew

    def identities(self, models: Iterable[Model]) -> dict[Model, Identity | None]:
        """Size and date of the files of some models now; empty where files do not change."""
        return {}

    def remember(self, seen: Mapping[Model, Identity | None]) -> None:  # noqa: B027
        """Keep which files the rows of some models came from, once these are written."""

    def forget(self, models: Iterable[Model]) -> None:  # noqa: B027
        """Take out models that have no rows any more."""

    def unproven(self, models: Iterable[Model]) -> set[Model]:
        """Those whose files may be others than those that were evaluated."""
        return set()

    def changed(self) -> Mapping[str, Sequence[int]]:
        """Epochs whose files are others than those that were evaluated, by objective."""
        return {}
