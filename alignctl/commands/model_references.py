"""The one model that a reference such as `digits:nscl@25` stands for."""

from dataclasses import dataclass
from pathlib import Path

from alignctl.commands.run_kinds import checkpoints_in, source_of
from alignctl.config.base import expanded
from alignctl.config.validation import unknown
from alignctl.errors import ConfigError
from alignctl.models.model_source import ModelSource
from alignctl.models.reference import ModelRef
from alignctl.models.weight_file import WeightFile
from alignctl.runs import RunDirectory
from alignctl.runs.directory import find, is_sweep


@dataclass(frozen=True)
class NamedModel:
    """A model that is there."""

    ref: ModelRef
    source: ModelSource
    objective: str
    epoch: int

    @property
    def file(self) -> Path:
        """Where its weights lie."""
        return self.source.file(self.objective, self.epoch)


def find_model(text: str) -> NamedModel:
    """The model that a text names; ConfigError says what is not there, and what is."""
    try:
        ref = ModelRef.parse(text)
    except ValueError as error:
        raise ConfigError(f"a model is written RUN:OBJECTIVE@EPOCH or FILE: {error}") from error
    if ref.name is None or ref.epoch is None:
        return _in_file(ref)
    source = _source_in(ref.source)
    name = source.name_of(ref.name)
    if name not in source.comparable:
        raise ConfigError(f"{text}: {unknown('a model there', ref.name, source.comparable)}")
    saved = source.epochs(name)
    if ref.epoch not in saved:
        listed = ", ".join(map(str, saved)) or "none"
        raise ConfigError(f"{text}: {ref.epoch} is not a saved epoch ({listed})")
    return NamedModel(ref, source, name, ref.epoch)


def _in_file(ref: ModelRef) -> NamedModel:
    path = expanded(ref.source)
    if not path.is_file():
        raise ConfigError(
            f"{ref}: no such file; a model of a run is written RUN:OBJECTIVE@EPOCH, "
            "as in digits:nscl@25"
        )
    source = WeightFile(path)
    return NamedModel(ref, source, source.objectives[0], 0)


def _source_in(word: str) -> ModelSource:
    """A run by name or path, or a folder of another program's checkpoints."""
    try:
        return source_of(RunDirectory(find(word)))
    except ConfigError:
        folder = expanded(word)
        if not folder.is_dir() or is_sweep(folder):
            raise
    return checkpoints_in(folder)
