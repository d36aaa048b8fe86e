"""A sweep on disk: one run directory for each value of one setting, and one table over all."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from alignctl.config import StudyConfig
from alignctl.config.load import apply_overrides, first_difference, validate_study
from alignctl.errors import AlignctlError, CheckpointError
from alignctl.runs.atomic import write_text
from alignctl.runs.directory import RunDirectory, is_sweep, sweep_file

SCHEMA_VERSION = 1


@dataclass(frozen=True)
class SweepDescription:
    """What a sweep changes, over which values so far, in which study."""

    parameter: str
    key: str
    values: tuple[Any, ...]
    study: StudyConfig
    """At the first value."""


@dataclass(frozen=True)
class SweepDirectory:
    """The folder of a sweep; a value that knows the paths, whether or not they exist."""

    path: Path

    @property
    def exists(self) -> bool:
        """Whether a sweep was started here."""
        return is_sweep(self.path)

    @property
    def table(self) -> Path:
        """The alignment rows of all runs, tidy, with the swept setting as a column."""
        return self.path / "sweep.parquet"

    @property
    def csv(self) -> Path:
        """The same rows for people."""
        return self.path / "sweep.csv"

    def run(self, parameter: str, value: Any) -> RunDirectory:
        """The run at one value."""
        return RunDirectory(self.path / f"{parameter}={value}")

    def runs(self, description: SweepDescription) -> dict[Any, RunDirectory]:
        """The runs that exist, by value; folders that hold another study are left out."""
        places = {value: self.run(description.parameter, value) for value in description.values}
        return {value: run for value, run in places.items() if _has(run, description.key, value)}

    def describe(self, description: SweepDescription) -> None:
        """Write down what is swept."""
        values = {
            "schema_version": SCHEMA_VERSION,
            "parameter": description.parameter,
            "key": description.key,
            "values": list(description.values),
            "study": description.study.model_dump(mode="json"),
        }
        write_text(sweep_file(self.path), json.dumps(values, indent=2) + "\n")

    def description(self) -> SweepDescription:
        """What `describe` wrote; CheckpointError where it cannot be read."""
        path = sweep_file(self.path)
        try:
            values = json.loads(path.read_text(encoding="utf-8"))
            if values["schema_version"] != SCHEMA_VERSION:
                raise ValueError(f"schema version {values['schema_version']}, not {SCHEMA_VERSION}")
            parameter, swept = values["parameter"], tuple(values["values"])
            # they name folders, which must lie in the sweep's own
            if not str(parameter).isidentifier() or not all(map(_is_number, swept)):
                raise ValueError(f"'{parameter}' over {list(swept)} is no sweep")
            return SweepDescription(
                parameter=parameter,
                key=values["key"],
                values=swept,
                study=validate_study(values["study"], str(path)),
            )
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise CheckpointError(f"{path}: cannot be read: {error}") from error

    def difference(self, study: StudyConfig, key: str) -> str | None:
        """How the swept study differs from this one in anything but the swept key."""
        known = self.description()
        if known.key != key:
            return f"it sweeps {known.key}"
        values = known.study.model_dump(mode="json")
        override = f"{key}={value_of(study, key)}"
        aligned = validate_study(apply_overrides(values, [override]), str(self.path))
        return first_difference(study, aligned)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _has(run: RunDirectory, key: str, value: Any) -> bool:
    try:
        return run.exists and bool(value_of(run.config, key) == value)
    except AlignctlError:
        return False


def value_of(study: StudyConfig, key: str) -> Any:
    """What a study has at a dotted key, as plain data."""
    value: Any = study.model_dump(mode="json")
    for part in key.split("."):
        value = value[part]
    return value
