"""Whose models a command measures, and which of them: from the words of its command line."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from alignctl.commands.run_kinds import run_of_checkpoints, source_of
from alignctl.config import StudyConfig
from alignctl.config.base import expanded
from alignctl.config.load import load_study, moved
from alignctl.config.validation import unknown
from alignctl.errors import ConfigError
from alignctl.models.model_source import ModelSource
from alignctl.runs import RunDirectory
from alignctl.runs.atomic import write_atomically
from alignctl.runs.directory import find, refuse_obstacle, runs_and_changes

_NAMED_AT_MOST = 5


@dataclass(frozen=True)
class Subject:
    """Whose models will be measured; nothing is written before its source's `prepare`."""

    run: RunDirectory
    """The run that has the tables; it may not exist yet."""
    source: ModelSource
    output: Path | None = None
    """A folder for the CSV files of this command, beside those in the run."""

    @property
    def config(self) -> StudyConfig:
        """Its networks and images; ConfigError where nobody has given a config."""
        return self.source.config

    @property
    def where(self) -> str:
        """What messages call it."""
        return self.source.where

    def summary(self) -> dict[str, str]:
        """What a plan says of it."""
        return {"run": str(self.run.path), **self.source.summary()}


def of_run(run: str | None, output: Path | None = None, *, changes: Sequence[str] = ()) -> Subject:
    """A run given as a path or name, or the newest; ConfigError where there is none.

    changes: `key=value` for where its data lie now.
    """
    directory = RunDirectory(find(run))
    source = source_of(directory)
    output = output and expanded(output)
    if output is not None:
        source.refuse_output(output)
    if changes:
        source = source.with_config(moved(source.config, changes, str(directory.path)))
    folder = output or source.copies
    if folder is not None:
        refuse_obstacle(folder)
    return Subject(directory, source, folder)


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
    run = RunDirectory(expanded(output))
    source = run_of_checkpoints(checkpoints, run, study)
    return Subject(RunDirectory(run.path), source, source.copies)  # it remembers what it read


@dataclass(frozen=True)
class Selection:
    """The models to compare with one of them."""

    reference: str
    objectives: tuple[str, ...]
    missing: tuple[str, ...] = ()
    """Objectives that such a source usually has, and which are not there, though asked for or
    usual."""


def select(subject: Subject, *, reference: str, compare: Sequence[str]) -> Selection:
    """The objectives asked for, or all others; ConfigError where none can be compared.

    The reference among them is left out, and so is what usually is there and is missing.
    """
    source, missing = subject.source, subject.source.missing
    reference, *compare = map(source.name_of, (reference, *compare))
    source.refuse_missing_reference(reference)
    possible = others(source.comparable, reference, where=subject.where)
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


def others(names: tuple[str, ...], reference: str, *, where: str) -> tuple[str, ...]:
    """The objectives other than the reference; ConfigError where there is none to compare."""
    if reference not in names:
        raise ConfigError(f"--reference: {unknown('an objective of this run', reference, names)}")
    found = tuple(name for name in names if name != reference)
    if not found:
        raise ConfigError(f"{where}: has one objective, '{reference}'; comparing takes two")
    return found


def absences(
    source: ModelSource,
    names: Iterable[str],
    *,
    missing: Sequence[str],
    reference: str | None,
    epochs: Sequence[int] | None = None,
) -> tuple[str, ...]:
    """A line for objectives that are missing, and one for epochs that some of them lack.

    None where all models are saved together. names: those that are compared. reference: the one
    that all others are compared with, if there is one. epochs: those that are asked for, None for
    all.
    """
    if not source.pair_by_pair:
        return ()
    folder, lines = source.where, []
    if missing:
        lines.append(f"{folder}: no snapshots of {', '.join(missing)}, whose cells stay empty")
    saved = {name: set(source.epochs(name)) for name in dict.fromkeys(names)}
    wanted = set().union(*saved.values()) if epochs is None else set(epochs)
    left_out = wanted - saved.pop(reference) if reference in saved else set()
    if left_out:
        listed = f"{reference} {_in_words(sorted(left_out))}"
        lines.append(f"{folder}: epochs without the reference are left out ({listed})")
    wanted -= left_out
    gaps = {name: sorted(wanted - found) for name, found in saved.items() if wanted - found}
    if gaps:
        listed = "; ".join(f"{name} {_in_words(numbers)}" for name, numbers in gaps.items())
        lines.append(f"{folder}: no snapshots at some epochs, whose cells stay empty ({listed})")
    return tuple(lines)


def changes(source: ModelSource) -> tuple[str, ...]:
    """A line for files of weights that are not those that were evaluated."""
    found = source.changed()
    if not found:
        return ()
    listed = "; ".join(f"{name} {_in_words(epochs)}" for name, epochs in found.items())
    return (
        f"{source.where}: in size or date not the snapshots that were evaluated, "
        f"whose rows are dropped and, where asked for, made anew ({listed})",
    )


def _in_words(epochs: Sequence[int]) -> str:
    listed = ", ".join(map(str, epochs[:_NAMED_AT_MOST]))
    more = len(epochs) - _NAMED_AT_MOST
    return f"{listed} and {more} more" if more > 0 else listed


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
