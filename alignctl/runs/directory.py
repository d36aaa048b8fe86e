"""Every path inside a run directory, and how runs are found under ./runs."""

import os
import re
import sys
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import NamedTuple

from alignctl.config import StudyConfig
from alignctl.config.base import expanded
from alignctl.config.load import parse_yaml, to_yaml, validate_study
from alignctl.config.validation import nearest
from alignctl.errors import CheckpointError, ConfigError
from alignctl.runs.atomic import write_text
from alignctl.runs.lock import is_lock_file

RUNS = Path("runs")
_MANIFEST = "manifest.json"
_POINTER = "original.json"
_SWEEP = "sweep.json"
_EPOCH = re.compile(r"epoch_(\d+)$")


@dataclass(frozen=True)
class RunDirectory:
    """One run on disk; a value that knows the paths, whether or not they exist."""

    path: Path

    @property
    def name(self) -> str:
        """The last part of the path."""
        return self.path.name

    @property
    def config_file(self) -> Path:
        """The resolved study as YAML."""
        return self.path / "config.yaml"

    @property
    def manifest_file(self) -> Path:
        """Status, versions, digests and timings."""
        return self.path / _MANIFEST

    @property
    def events_file(self) -> Path:
        """What the first worker reports, one JSON object a line."""
        return self.path / "events.jsonl"

    @property
    def checkpoints(self) -> Path:
        """One folder of weights for each objective that was trained here."""
        return self.path / "checkpoints"

    @property
    def pointer_file(self) -> Path:
        """Where another program's checkpoints lie, where the run is about these."""
        return self.path / _POINTER

    @property
    def state(self) -> Path:
        """What resuming needs beyond weights."""
        return self.path / "state"

    @property
    def training_table(self) -> Path:
        """Loss and learning rate of every objective at every step."""
        return self.path / "training.parquet"

    @property
    def alignment(self) -> Path:
        """Folder of the alignment tables."""
        return self.path / "alignment"

    @property
    def alignment_table(self) -> Path:
        """All alignment rows, tidy."""
        return self.alignment / "alignment.parquet"

    @property
    def evaluated_file(self) -> Path:
        """Which of another program's checkpoints the alignment rows came from."""
        return self.alignment / "snapshots.json"

    @property
    def features(self) -> Path:
        """Folder of features, while they are evaluated or kept."""
        return self.path / "features"

    @property
    def weight_gap(self) -> Path:
        """Folder of the weight-gap tables."""
        return self.path / "weight_gap"

    @property
    def weight_gap_table(self) -> Path:
        """All weight-gap rows, tidy, layer by layer."""
        return self.weight_gap / "weight_gap.parquet"

    @property
    def report(self) -> Path:
        """Folder of the report and its figures."""
        return self.path / "report"

    @property
    def exists(self) -> bool:
        """Whether a run was started here."""
        return self.manifest_file.is_file()

    @property
    def is_free(self) -> bool:
        """Whether a run may start here: the folder is empty but for locks and unfinished files."""
        if not self.path.exists():
            return True
        return self.path.is_dir() and all(
            path.name in (self.config_file.name, _POINTER)
            or path.suffix == ".partial"
            or is_lock_file(path)
            for path in self.path.iterdir()
        )

    def write_config(self, config: StudyConfig) -> None:
        """Write the resolved study; an older file keeps its date, that of the run's start."""
        started = self.config_file.stat() if self.exists and self.config_file.exists() else None
        write_text(self.config_file, to_yaml(config))
        if started is not None:
            os.utime(self.config_file, ns=(started.st_atime_ns, started.st_mtime_ns))

    @cached_property
    def config(self) -> StudyConfig:
        """The study that was run here; CheckpointError where it cannot be read."""
        try:
            text = self.config_file.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            reason = error.strerror if isinstance(error, OSError) else error
            raise CheckpointError(f"{self.config_file}: cannot be read: {reason}") from error
        values = parse_yaml(text, str(self.config_file))
        if not isinstance(values, dict):
            raise CheckpointError(f"{self.config_file}: holds no study")
        return validate_study(values, str(self.config_file))


class Obstacle(NamedTuple):
    """What stands in the way of a folder."""

    path: Path
    kind: str


def obstacle(folder: Path) -> Obstacle | None:
    """What is in the way of this folder, or of a parent that has to be made; None if nothing is."""
    there = next((part for part in (folder, *folder.parents) if os.path.lexists(part)), None)
    if there is None or there.is_dir():
        return None
    leads_nowhere = there.is_symlink() and not there.exists()
    return Obstacle(there, "a link that leads nowhere" if leads_nowhere else "a file")


def refuse_obstacle(folder: Path, *, option: str = "--output") -> None:
    """ConfigError where something stands where a folder is, or is to be made."""
    if blocked := obstacle(folder):
        raise ConfigError(f"{option}: {blocked.path} is {blocked.kind}")


def refuse_undecodable(folder: Path) -> None:
    """ConfigError for a path that parquet and safetensors cannot open: they take it for UTF-8."""
    path, encoding = str(folder.absolute()), sys.getfilesystemencoding()
    if os.fsencode(path) != path.encode(errors="surrogatepass"):
        way_out = "choose another name" if encoding == "utf-8" else "set PYTHONUTF8=1"
        raise ConfigError(f"{path}: is not {encoding}, the encoding of paths here; {way_out}")


def checkpoint_file(run: RunDirectory, objective: str, epoch: int) -> Path:
    """Where a run keeps the weights of one objective after one epoch."""
    return run.checkpoints / objective / f"epoch_{epoch:04d}.safetensors"


def saved_epochs(run: RunDirectory, objective: str) -> list[int]:
    """Epochs whose weights are there, ascending."""
    return epochs_in((run.checkpoints / objective).glob("epoch_*.safetensors"))


def comparable_epochs(
    saved: Mapping[str, Sequence[int]], pairs: Iterable[tuple[str, str]], *, pair_by_pair: bool
) -> dict[tuple[str, str], list[int]]:
    """The epochs at which each pair of models is compared, ascending.

    saved: by objective. pair_by_pair: where both of a pair are there, and not only where all models
    of all pairs are.
    """
    pairs = tuple(pairs)
    everywhere = {name for pair in pairs for name in pair}
    found = {}
    for pair in pairs:
        names = pair if pair_by_pair else everywhere
        found[pair] = sorted(set.intersection(*(set(saved[name]) for name in names)))
    return found


def epochs_in(paths: Iterable[Path]) -> list[int]:
    """The epochs that files or folders are named after, ascending."""
    found = (_EPOCH.search(path.name.removesuffix(".safetensors")) for path in paths)
    return sorted(int(match[1]) for match in found if match)


def next_free(name: str) -> Path:
    """`runs/NAME`, or the first of `runs/NAME-2`, `runs/NAME-3`, ... that is not taken."""
    path, number = RUNS / name, 1
    while path.exists():
        number += 1
        path = RUNS / f"{name}-{number}"
    return path


def is_sweep(path: Path) -> bool:
    """Whether a sweep was started in this folder."""
    return (path / _SWEEP).is_file()


def sweep_file(path: Path) -> Path:
    """What a sweep folder says about itself."""
    return path / _SWEEP


def newest(*, sweeps: bool = False) -> Path:
    """The run under ./runs that was started last; ConfigError where there is none.

    sweeps: count sweeps as well.
    """
    folders = sorted(RUNS.iterdir()) if RUNS.is_dir() else []
    found = [
        path for path in folders if (path / _MANIFEST).is_file() or (sweeps and is_sweep(path))
    ]
    if not found:
        raise ConfigError(f"no run under {RUNS.absolute()}; start one with `alignctl pretrain`")
    return max(found, key=_started)


def newest_of(name: str) -> Path:
    """The last started of `runs/NAME`, `runs/NAME-2`, ...; `runs/NAME` where there is none."""
    pattern = re.compile(rf"{re.escape(name)}(-\d+)?")
    folders = RUNS.iterdir() if RUNS.is_dir() else []
    found = [
        path for path in folders if pattern.fullmatch(path.name) and (path / _MANIFEST).is_file()
    ]
    return max(found, key=_started, default=RUNS / name)


def _started(path: Path) -> int:
    """When a run was started; later commands on it do not change that."""
    marker = sweep_file(path) if is_sweep(path) else path / "config.yaml"
    if not marker.is_file():
        marker = path / _POINTER
    return marker.stat().st_mtime_ns if marker.is_file() else 0


def runs_and_changes(words: Sequence[str]) -> tuple[list[str], list[str]]:
    """The words that name runs, and those that are `key=value` overrides.

    A sweep's run is named `temperature=0.5`: what is there, or has the form of a path, is a run.
    """
    runs: list[str] = []
    changes: list[str] = []
    for word in words:
        is_change = re.match(r"[\w.\s]+=", word) is not None and not _is_there(word)
        (changes if is_change else runs).append(word)
    return runs, changes


def _is_there(word: str) -> bool:
    with suppress(OSError):  # a value may be too long for a name
        return expanded(word).exists() or (RUNS / word).exists()
    return False


def find(run: str | None, *, sweeps: bool = False) -> Path:
    """The folder of a run given as a path or as a name under ./runs; the newest when not given."""
    if run is None:
        return newest(sweeps=sweeps)
    for path in (expanded(run), RUNS / run):
        if (path / _MANIFEST).is_file() or (sweeps and is_sweep(path)):
            refuse_undecodable(path)
            return path
        if is_sweep(path):
            children = ", ".join(child.parent.name for child in sorted(path.glob(f"*/{_MANIFEST}")))
            raise ConfigError(f"{run}: is a sweep; name one of its runs ({children})")
    names = [path.name for path in RUNS.iterdir() if path.is_dir()] if RUNS.is_dir() else []
    hint = nearest(run, names) or f"; there are {', '.join(sorted(names)) or 'none'} under ./runs"
    raise ConfigError(f"{run}: not a run directory{hint}")
