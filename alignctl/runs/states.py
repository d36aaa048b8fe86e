"""What a run needs to go on: one folder per saved step, whole or ignored.

    state/step_0000000123/
      cl.pt, nscl.pt, ...   weights, optimiser and own state of each objective
      training.parquet      the losses of all steps so far
      state.json            the manifest, the unfinished epoch, and a SHA-256 of each file above

state.json is written last: a folder without it does not count. The two newest are kept, so that a
damaged one costs the steps since the one before, not the run.
"""

import hashlib
import json
import re
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from pydantic import BaseModel, ConfigDict, ValidationError

from alignctl.errors import CheckpointError
from alignctl.runs.atomic import write_text
from alignctl.runs.checkpoints import file_digest, write_tensors
from alignctl.runs.directory import RunDirectory
from alignctl.runs.manifest import Manifest

SCHEMA_VERSION: Literal[1] = 1
_POINT = "state.json"
_TABLE = "training.parquet"
_NUM_KEPT = 2  # the last, and the one before in case it is damaged
_STEP = re.compile(r"step_(\d+)")


class SavedPoint(BaseModel):
    """A step after which training can go on; frozen."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    schema_version: Literal[1] = SCHEMA_VERSION
    step: int
    """Steps behind, over all epochs."""
    manifest: Manifest
    fingerprints: tuple[tuple[int, int], ...] = ()
    """Of the batches of the epoch that is under way."""
    files: dict[str, str] = {}
    """SHA-256 by name."""


@dataclass(frozen=True)
class Found:
    """The newest whole state, if any, and what is wrong with newer ones."""

    point: SavedPoint | None
    problems: tuple[str, ...]


def state_folder(run: RunDirectory, step: int) -> Path:
    """Where the state after so many steps lies."""
    return run.state / f"step_{step:010d}"


def state_table(run: RunDirectory, step: int) -> Path:
    """The training table of a state."""
    return state_folder(run, step) / _TABLE


def save_state(run: RunDirectory, step: int, objective: str, state: Mapping[str, Any]) -> str:
    """Keep what one objective needs to go on after this step; the SHA-256 of the file."""

    def write(beside: Path) -> None:
        # torch names the records in a file after its path; given a stream, it does not
        with beside.open("wb") as file:
            torch.save(dict(state), file)

    return write_tensors(_file(run, step, objective), write)


def load_state(run: RunDirectory, step: int, objective: str) -> dict[str, Any]:
    """What `save_state` kept, tensors and plain values only; CheckpointError when damaged."""
    path = _file(run, step, objective)
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # a damaged zip or pickle fails in a dozen ways
        reason = str(error).partition("\n")[0]
        raise CheckpointError(f"{path}: cannot be read: {reason}") from error
    if not isinstance(state, dict):
        raise CheckpointError(f"{path}: holds no training state")
    return state


def complete_state(run: RunDirectory, point: SavedPoint) -> None:
    """Complete a state whose files are all written, by writing its state.json."""
    folder = state_folder(run, point.step)
    table = folder / _TABLE  # not there before the first step
    found = {_TABLE: file_digest(table)} if table.is_file() else {}
    whole = point.model_copy(update={"files": {**point.files, **found}})
    values = whole.model_dump(mode="json")
    signed = {**values, "sha256": _digest(values)}
    write_text(folder / _POINT, json.dumps(signed, indent=2) + "\n")


def newest_state(run: RunDirectory, *, before: int | None = None) -> Found:
    """The last state whose files all have their SHA-256; of steps below `before`, if given."""
    problems: list[str] = []
    for folder in reversed(_folders(run)):
        if before is not None and _step(folder) >= before:
            continue
        if not (folder / _POINT).is_file():
            continue  # the process ended before the state was complete
        try:
            return Found(_read(folder), tuple(problems))
        except CheckpointError as error:
            problems.append(str(error))
    return Found(None, tuple(problems))


def drop_states(run: RunDirectory, *, newest: int, finished: bool) -> None:
    """Remove all states but that of step `newest` and, of an unfinished run, the one before."""
    num_kept = 1 if finished else _NUM_KEPT
    folders = _folders(run)
    whole = [path for path in folders if (path / _POINT).is_file() and _step(path) <= newest]
    for path in folders:
        if path not in whole[-num_kept:]:
            shutil.rmtree(path, ignore_errors=True)


def _read(folder: Path) -> SavedPoint:
    path = folder / _POINT
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
        # of the values in the file: a later version may read them into more fields
        digest = values.pop("sha256", None) if isinstance(values, dict) else None
        point = SavedPoint.model_validate(values)
        if digest != _digest(values) or point.step != _step(folder):
            raise CheckpointError(f"{path}: damaged: it is not the file that was written")
        changed = [name for name, sha in point.files.items() if file_digest(folder / name) != sha]
    except (ValidationError, ValueError) as error:
        reason = str(error).partition("\n")[0]
        raise CheckpointError(f"{path}: cannot be read: {reason}") from error
    except OSError as error:
        raise CheckpointError(
            f"{error.filename or path}: cannot be read: {error.strerror}"
        ) from error
    if changed:
        raise CheckpointError(
            f"{folder / changed[0]}: damaged: it is not the file that was written"
        )
    return point


def _digest(values: Mapping[str, Any]) -> str:
    """SHA-256 of plain values; their order and layout in the file do not matter."""
    return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()


def _file(run: RunDirectory, step: int, objective: str) -> Path:
    return state_folder(run, step) / f"{objective}.pt"


def _folders(run: RunDirectory) -> list[Path]:
    found = run.state.iterdir() if run.state.is_dir() else []
    return sorted((path for path in found if _STEP.fullmatch(path.name)), key=_step)


def _step(folder: Path) -> int:
    match = _STEP.fullmatch(folder.name)
    assert match
    return int(match[1])
