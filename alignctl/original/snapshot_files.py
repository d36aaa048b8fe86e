"""Where the checkpoints of the study's original code lie, and how a run directory points to them.

Luthra et al. 2025 (arXiv 2510.08852), https://github.com/DLFundamentals/understanding-ssl-v2. Its
trainer keeps `snapshot_<epoch>.pth` in one folder for each objective.
"""

import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from alignctl.config.base import absolute
from alignctl.errors import CheckpointError, ConfigError
from alignctl.runs.atomic import write_text

SCHEMA_VERSION = 1
# What it trains as dcl keeps the positive in the denominator: our cl.
FOLDERS = {"cl": ("dcl", "cl"), "nscl": ("nscl",), "scl": ("scl",), "ce": ("ce",)}
ITS_NAMES = {folder: name for name, folders in FOLDERS.items() for folder in folders}
_SNAPSHOT = re.compile(r"snapshot_(\d+)\.pth")
_EXPECTED = "the folders dcl, nscl, scl and ce, each with files snapshot_<epoch>.pth"


@dataclass(frozen=True)
class OriginalCheckpoints:
    """Snapshots of some objectives under one folder, which is only ever read."""

    folder: Path
    """Absolute."""
    objectives: tuple[str, ...]
    """Those that had snapshots when the folder was looked at, by our names."""

    def file(self, objective: str, epoch: int) -> Path:
        """Where the snapshot of one objective after one epoch lies."""
        usual = self.folder / FOLDERS[objective][0] / f"snapshot_{epoch}.pth"
        return _snapshots(self.folder, objective).get(epoch, usual)

    def epochs(self, objective: str) -> list[int]:
        """Epochs that have a snapshot now, ascending."""
        return sorted(_snapshots(self.folder, objective))


def find_checkpoints(folder: Path) -> OriginalCheckpoints:
    """The snapshots under a folder; ConfigError where there are none."""
    folder = absolute(folder)
    if not folder.is_dir():
        raise ConfigError(f"{folder}: no such folder; it has to hold {_EXPECTED}")
    for names in FOLDERS.values():
        found = [name for name in names if _in(folder / name)]
        if len(found) > 1:
            raise ConfigError(
                f"{folder}: {' and '.join(found)} are one objective; keep one of them"
            )
    objectives = tuple(name for name in FOLDERS if _snapshots(folder, name))
    if not objectives:
        raise ConfigError(f"{folder}: holds no snapshots; expected are {_EXPECTED}")
    return OriginalCheckpoints(folder, objectives)


def write_pointer(path: Path, checkpoints: OriginalCheckpoints) -> None:
    """Keep where the checkpoints lie, atomically."""
    values = {
        "schema_version": SCHEMA_VERSION,
        "checkpoints": str(checkpoints.folder),
        "objectives": list(checkpoints.objectives),
    }
    write_text(path, json.dumps(values, indent=2) + "\n")


def read_pointer(path: Path) -> OriginalCheckpoints | None:
    """The checkpoints that a file points to; None where there is no such file.

    CheckpointError where it is damaged or too new.
    """
    if not path.is_file():
        return None
    try:
        values: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        if values["schema_version"] != SCHEMA_VERSION:
            raise CheckpointError(
                f"{path}: schema version {values['schema_version']}; "
                f"this alignctl reads {SCHEMA_VERSION}"
            )
        objectives = tuple(values["objectives"])
        if not objectives or not set(objectives) <= set(FOLDERS):
            raise ValueError(f"objectives {list(objectives)}")
        return OriginalCheckpoints(Path(values["checkpoints"]), objectives)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise CheckpointError(f"{path}: cannot be read: {error}") from error


def _snapshots(folder: Path, objective: str) -> dict[int, Path]:
    """The files of one objective, by epoch."""
    found = (_in(folder / name) for name in FOLDERS[objective])
    return next(filter(None, found), {})


def _in(folder: Path) -> dict[int, Path]:
    paths = folder.iterdir() if folder.is_dir() else ()
    found = ((_SNAPSHOT.fullmatch(path.name), path) for path in paths)
    return {int(match[1]): path for match, path in found if match}
