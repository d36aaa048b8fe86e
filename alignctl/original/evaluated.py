"""Which snapshots the alignment rows of an adopted run came from: they may be written anew.

Size and date stand for a snapshot, whose content would take long to read.
"""

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from alignctl.models.model_source import Identity, Model
from alignctl.original.snapshot_files import OriginalCheckpoints
from alignctl.runs import RunDirectory
from alignctl.runs.atomic import write_text

SCHEMA_VERSION = 1


def identity(path: Path) -> Identity | None:
    """What stands for a file; None where it is not there."""
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_size, found.st_mtime_ns


def remember(run: RunDirectory, seen: Mapping[Model, Identity | None]) -> None:
    """Add to what was evaluated, once its rows are written.

    What is known stays: where a file changed meanwhile, earlier rows are of the one before.
    """
    _write(run, {key: value for key, value in seen.items() if value is not None} | evaluated(run))


def forget(run: RunDirectory, snapshots: Iterable[Model]) -> None:
    """Take out what has no rows any more."""
    known, gone = evaluated(run), set(snapshots)
    if gone & set(known):
        _write(run, {key: value for key, value in known.items() if key not in gone})


def _write(run: RunDirectory, known: Mapping[Model, Identity]) -> None:
    listed: dict[str, dict[str, Identity]] = {}
    for (name, epoch), value in sorted(known.items()):
        listed.setdefault(name, {})[str(epoch)] = value
    values = {"schema_version": SCHEMA_VERSION, "snapshots": listed}
    write_text(run.evaluated_file, json.dumps(values, indent=2) + "\n")


def evaluated(run: RunDirectory) -> dict[Model, Identity]:
    """What the rows came from; nothing where that cannot be read, and all is to be done anew."""
    try:
        values: dict[str, Any] = json.loads(run.evaluated_file.read_text(encoding="utf-8"))
        if values["schema_version"] != SCHEMA_VERSION:
            return {}
        return {
            (name, int(epoch)): (int(size), int(changed))
            for name, by_epoch in values["snapshots"].items()
            for epoch, (size, changed) in by_epoch.items()
        }
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return {}


def changed(run: RunDirectory, original: OriginalCheckpoints) -> dict[str, list[int]]:
    """Epochs whose snapshot is there and is not the one that was evaluated, by objective."""
    known = evaluated(run)
    found: dict[str, list[int]] = {}
    for name, epoch in sorted(_not_as_before(original, known)):
        found.setdefault(name, []).append(epoch)
    return found


def unproven(
    run: RunDirectory, original: OriginalCheckpoints, snapshots: Iterable[Model]
) -> set[Model]:
    """Those that changed since they were evaluated, or of which that is not known."""
    known = evaluated(run)
    return {key for key in snapshots if key not in known} | _not_as_before(original, known)


def _not_as_before(original: OriginalCheckpoints, known: Mapping[Model, Identity]) -> set[Model]:
    """Models whose file differs from the one evaluated; a missing file is no change."""
    now = {key: identity(original.file(*key)) for key in known}
    return {key for key, value in now.items() if value not in (None, known[key])}
