"""Whose models a command measures: those of a run, or checkpoints of the original code.

Checkpoints of the original stay where they are. The folder for tables becomes a run directory that
points to them, an adopted run, and every later command takes it like any other run.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from alignctl.config import StudyConfig
from alignctl.config.base import expanded
from alignctl.config.execution import placed_as
from alignctl.config.load import first_difference, load_study, moved
from alignctl.config.validation import unknown
from alignctl.errors import CheckpointError, ConfigError
from alignctl.runs import Manifest, RunDirectory
from alignctl.runs.atomic import write_atomically
from alignctl.runs.comparison import shortened
from alignctl.runs.directory import find, obstacle, runs_and_changes, saved_epochs
from alignctl.runs.evaluated import changed
from alignctl.runs.lock import run_lock
from alignctl.runs.manifest import adopted
from alignctl.runs.original import (
    FOLDERS,
    ITS_NAMES,
    OriginalCheckpoints,
    find_checkpoints,
    write_pointer,
)


@dataclass(frozen=True)
class Subject:
    """Whose models will be measured; nothing is written before `adopt`."""

    run: RunDirectory
    """Which has the tables, and may only come to be."""
    objectives: tuple[str, ...]
    original: OriginalCheckpoints | None = None
    """The checkpoints that an adopted run points to."""
    study: StudyConfig | None = None
    """Another config than the run has: what an adopted run is to get, or where the data of a run
    of our own lie now; None where nobody has said."""
    output: Path | None = None
    """A folder for the CSV files of this command, beside those in the run."""

    def saved(self, objective: str) -> list[int]:
        """Epochs whose weights are there, ascending."""
        if self.original is not None:
            return self.original.epochs(objective)
        return saved_epochs(self.run, objective)

    @property
    def config(self) -> StudyConfig:
        """Its networks and images; ConfigError where an adopted run has not been told."""
        return self.study or self.run.config

    @property
    def where(self) -> str:
        """What messages call it."""
        return str(self.original.folder if self.original else self.run.path)

    def summary(self) -> dict[str, str]:
        """What a plan says of it."""
        found = {"run": str(self.run.path)}
        if self.original is not None:
            found["checkpoints"] = str(self.original.folder)
        return found


def of_run(run: str | None, output: Path | None = None, *, changes: Sequence[str] = ()) -> Subject:
    """A run given as a path or name, or the newest; ConfigError where there is none.

    changes: `key=value` for where its data lie now.
    """
    directory = RunDirectory(find(run))
    original = directory.original
    output = output and expanded(output)
    if original is not None and output is not None:
        _refuse_inside(original, output)
    folder = output or (directory.path if original else None)
    study = moved(directory.config, changes, str(directory.path)) if changes else None
    names = directory.objective_names
    return Subject(directory, names, original, study=study, output=_folder(folder))


def subject_of(
    words: Sequence[str],
    *,
    config: str | None,
    checkpoints: Path | None,
    output: Path | None,
    needs_config: bool,
    notify: Callable[[str], None] | None = None,
) -> Subject:
    """What the words and options of a command line are about; ConfigError where they do not fit.

    words: a RUN, and `key=value` for its config or that of --config. needs_config: whether tensors
    alone do not do. notify: told what became of the keys of a config of the original code.
    """
    if checkpoints is None:
        if config is not None:
            raise ConfigError("--config: goes with --checkpoints; a run has a config of its own")
        runs, changes = runs_and_changes(words)
        if len(runs) > 1:
            raise ConfigError(f"'{runs[1]}': one RUN at a time, and '{runs[0]}' is one")
        if changes and not needs_config:
            raise ConfigError(f"'{changes[0]}': only weights are read, which no setting changes")
        return of_run(runs[0] if runs else None, output, changes=changes)
    if config is None and needs_config:
        raise ConfigError(
            "--checkpoints: needs --config, for the network and the images to compare it on"
        )
    if output is None:
        raise ConfigError("--checkpoints: needs --output, the folder for tables")
    for word in words:
        if "=" not in word:
            raise ConfigError(f"RUN and --checkpoints: choose one ('{word}')")
        if config is None:
            raise ConfigError(f"'{word}': changes need --config")
    study = None if config is None else load_study(config, words, notify=notify)
    return _of_checkpoints(find_checkpoints(checkpoints), RunDirectory(expanded(output)), study)


def _of_checkpoints(
    original: OriginalCheckpoints, run: RunDirectory, study: StudyConfig | None
) -> Subject:
    before = _adopted_before(run, original)
    names = original.objectives
    if before is not None:
        assert before.original is not None
        original = replace(original, folder=before.original.folder)  # one folder has many names
        names += tuple(name for name in before.original.objectives if name not in names)
        study = _joined(before, study)
    if study is not None:
        study = _with_objectives(study, names)
        names = study.objective_names
    # a new RunDirectory, for it remembers what it has read
    return Subject(
        RunDirectory(run.path), names, replace(original, objectives=names), study, run.path
    )


def _adopted_before(run: RunDirectory, original: OriginalCheckpoints) -> RunDirectory | None:
    """The run where it points to these checkpoints, None where it is still to come.

    ConfigError where the folder holds something else, or is one of those that are only read.
    """
    _refuse_inside(original, run.path)
    _folder(run.path)
    if not run.exists:
        if not run.is_free:
            raise ConfigError(f"--output: {run.path} is not empty and holds no run; choose another")
        return None
    if run.original is None:
        raise ConfigError(f"--output: {run.path} holds a run of its own; choose another")
    if run.original.folder.resolve() != original.folder.resolve():
        raise ConfigError(
            f"--output: {run.path} is about other checkpoints "
            f"({original.folder} here and {run.original.folder} there); choose another"
        )
    return run


def _refuse_inside(original: OriginalCheckpoints, output: Path) -> None:
    folder, path = original.folder.resolve(), output.resolve()
    if path == folder or folder in path.parents:
        raise ConfigError(f"--output: {output} lies in {original.folder}, which is only read")


def _folder(path: Path | None) -> Path | None:
    if path is not None and (blocked := obstacle(path)):
        raise ConfigError(f"--output: {blocked.path} is {blocked.kind}")
    return path


def _joined(run: RunDirectory, study: StudyConfig | None) -> StudyConfig | None:
    """The config of an adopted run, given another or none; ConfigError where they do not fit.

    It can be replaced until something was computed with it: weight gaps are not.
    """
    if not run.config_file.exists():
        return study
    has_results = run.alignment_table.exists() or run.features.exists()
    if study is not None and has_results:
        _refuse_other_config(run, study, run.config)
    if study is None:
        return run.config
    return placed_as(run.config, study) if has_results else study


def _refuse_other_config(run: RunDirectory, study: StudyConfig, known: StudyConfig) -> None:
    both = set(study.objective_names) & set(known.objective_names)
    difference = first_difference(_restricted(study, both), _restricted(known, both))
    if difference:
        raise ConfigError(f"--output: {run.path} has another config ({difference}); choose another")


def _restricted(study: StudyConfig, names: Iterable[str]) -> StudyConfig:
    """With these objectives alone, in a fixed order: which there are is up to the checkpoints."""
    chosen = sorted((each for each in study.objectives if each.name in names), key=lambda o: o.name)
    return study.model_copy(update={"objectives": tuple(chosen)})


def _with_objectives(study: StudyConfig, names: Sequence[str]) -> StudyConfig:
    """The study with these objectives: its own in its order, then others with their defaults."""
    values = study.model_dump()
    own = [each for each in values["objectives"] if each["name"] in names]
    others = [name for name in names if name not in study.objective_names]
    return StudyConfig.model_validate({**values, "objectives": [*own, *others]})


def adopt(subject: Subject, purpose: str) -> None:
    """Make the run directory that points to the checkpoints, unless it is there as it should be.

    purpose: the subcommand. Raises CheckpointError, with nothing written, where the first snapshot
    of an objective cannot be read, does not fit the config, or is not the one known before.
    """
    before = RunDirectory(subject.run.path)
    if subject.original is None or _is_adopted(before, subject):
        return
    run = subject.run
    found = _initial_weights(subject, subject.original)
    if before.exists:
        manifest = _adopted_again(before, subject.original, found)
    else:
        manifest = adopted(run.path.resolve().name, found)
    if subject.study is not None:
        manifest = manifest.model_copy(update={"name": subject.study.name})
    with run_lock(run.path, purpose):
        if subject.study is not None:
            run.write_config(subject.study)
        write_pointer(run.pointer_file, subject.original)
        manifest.write(run.manifest_file)


def _adopted_again(
    run: RunDirectory, original: OriginalCheckpoints, found: dict[str, str]
) -> Manifest:
    """The manifest that is there, with further digests; CheckpointError where one is another."""
    manifest = Manifest.read(run.manifest_file)
    known = manifest.initial_weights
    for name, value in found.items():
        if known.get(name, value) != value:
            raise CheckpointError(
                f"{original.file(name, 0)}: is not the snapshot that {run.path} was adopted with "
                f"(SHA-256 {shortened(value)} here, {shortened(known[name])} there); "
                "choose another --output"
            )
    return manifest.updated(initial_weights={**known, **found})


def _is_adopted(run: RunDirectory, subject: Subject) -> bool:
    if not run.exists or run.original is None or run.original != subject.original:
        return False
    if any(0 in epochs for epochs in changed(run, run.original).values()):
        return False  # its digest has to be looked at again
    return subject.study is None or (run.config_file.exists() and run.config == subject.study)


def _initial_weights(subject: Subject, original: OriginalCheckpoints) -> dict[str, str]:
    """Digests of encoder and projector at epoch 0, by objective, where they were saved."""
    from alignctl.analysis.models import fitted_network, shared_weights
    from alignctl.runs.checkpoints import digest
    from alignctl.runs.snapshots import load_snapshot

    found = {}
    for name in subject.objectives:
        first = min(original.epochs(name), default=None)
        if first is None or (first > 0 and subject.study is None):
            continue
        path = original.file(name, first)
        weights = shared_weights(load_snapshot(path))
        if subject.study is not None:
            fitted_network(subject.study, weights, path)
        if first == 0:
            found[name] = digest(weights)
    return found


@dataclass(frozen=True)
class Selection:
    """The models to compare with one of them."""

    reference: str
    objectives: tuple[str, ...]
    missing: tuple[str, ...] = ()
    """Objectives of the original that are not there, though asked for or usual."""


def there(subject: Subject) -> tuple[str, ...]:
    """The objectives that can be compared; of an adopted run those that have weights."""
    if subject.original is None:
        return subject.objectives
    return tuple(name for name in subject.objectives if subject.saved(name))


def missing_of(subject: Subject) -> tuple[str, ...]:
    """The original's objectives that an adopted run lacks."""
    if subject.original is None:
        return ()
    return tuple(name for name in FOLDERS if name not in there(subject))


def select(subject: Subject, *, reference: str, compare: Sequence[str]) -> Selection:
    """The objectives asked for, or all others; ConfigError where none can be compared.

    The reference among them is left out, and so is what an adopted run does not have.
    """
    missing = missing_of(subject)
    if subject.original is not None:
        reference, *compare = (ITS_NAMES.get(name, name) for name in (reference, *compare))
        _refuse_missing_reference(subject.original, reference, there(subject))
    possible = others(there(subject), reference, where=subject.where)
    wanted = [name for name in dict.fromkeys(compare or possible) if name != reference]
    for name in wanted or compare:
        if name not in (*possible, *missing):
            raise ConfigError(f"--compare: {unknown('comparable here', name, possible)}")
    chosen = tuple(name for name in wanted if name in possible)
    if not chosen:
        listed = ", ".join(wanted)
        raise ConfigError(f"--compare: no snapshots of {listed} in {subject.where}")
    lacking = tuple(name for name in missing if not compare or name in wanted)
    return Selection(reference, chosen, lacking)


def _refuse_missing_reference(
    original: OriginalCheckpoints, reference: str, names: Sequence[str]
) -> None:
    if reference in FOLDERS and reference not in names:
        raise ConfigError(
            f"{original.folder}: has no snapshots of {reference} (folder {FOLDERS[reference][0]}), "
            f"which others are compared with; choose another --reference ({', '.join(names)})"
        )


def others(names: tuple[str, ...], reference: str, *, where: str) -> tuple[str, ...]:
    """The objectives other than the reference; ConfigError where there is none to compare."""
    if reference not in names:
        raise ConfigError(f"--reference: {unknown('an objective of this run', reference, names)}")
    found = tuple(name for name in names if name != reference)
    if not found:
        raise ConfigError(f"{where}: has one objective, '{reference}'; comparing takes two")
    return found


def copy_tables(files: Iterable[Path], folder: Path | None) -> None:
    """Copies of files in a folder, where one is given, each replaced atomically.

    A file that is not there has no copy either.
    """
    if folder is None:
        return
    for file in files:
        copy = folder / file.name
        if not file.exists():
            copy.unlink(missing_ok=True)
            continue
        content = file.read_bytes()
        if not copy.is_file() or copy.read_bytes() != content:
            write_atomically(copy, partial(_fill, content=content))


def _fill(path: Path, *, content: bytes) -> None:
    path.write_bytes(content)
