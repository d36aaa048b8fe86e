"""A run on disk: opened with a check of initial weights and data, saved so that it can resume."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from alignctl.config import StudyConfig
from alignctl.engine.context import WorkerContext
from alignctl.errors import CheckpointError, TrainingError
from alignctl.processes import ALONE, Processes
from alignctl.runs import Manifest, RunDirectory
from alignctl.runs.atomic import remove_leftovers
from alignctl.runs.checkpoints import digest, file_digest, save_weights
from alignctl.runs.directory import checkpoint_file, saved_epochs
from alignctl.runs.manifest import git_commit, machine, now, package_versions
from alignctl.runs.states import (
    Found,
    SavedPoint,
    complete_state,
    drop_states,
    load_state,
    newest_state,
    save_state,
    state_folder,
    state_table,
)
from alignctl.training.cohort import Member
from alignctl.training.data import TrainingData
from alignctl.training.fingerprint import Fingerprint
from alignctl.training.finite import in_words, refuse_not_finite
from alignctl.training.log import TrainingLog


@dataclass(frozen=True, eq=False)
class Session:
    """One process's part in a run: what it trains, with whom, and where that is kept."""

    context: WorkerContext
    run: RunDirectory
    study: StudyConfig
    data: TrainingData
    members: Sequence[Member]
    peers: Processes = ALONE

    @property
    def num_steps(self) -> int:
        """Steps of the whole study."""
        return self.study.training.epochs * self.data.steps_per_epoch


@dataclass(frozen=True)
class Progress:
    """How far training has come; the same on every process."""

    step: int
    """Steps behind, over all epochs."""
    manifest: Manifest
    fingerprints: tuple[Fingerprint, ...] = ()
    """Of the batches of the epoch that is under way."""
    saved_step: int | None = None
    """The step of the newest state."""


def open_run(session: Session) -> Manifest:
    """The manifest, new or the run's own, after proof that all models start from one point."""
    context, run, study, data = session.context, session.run, session.study, session.data
    mine = {member.name: digest(member.network.state_dict()) for member in session.members}
    weights = _merged(context.gather(mine))
    if len(set(weights.values())) != 1:
        raise TrainingError(f"the initial weights differ between objectives: {weights}")
    if len(set(context.gather(data.digest))) != 1:
        raise TrainingError("the processes read different images or labels")
    fresh = Manifest(
        name=study.name,
        started_at=now(),
        updated_at=now(),
        seed=study.seed,
        versions=package_versions(),
        machine=machine(_device_name(context.device)),
        git_commit=git_commit(Path.cwd()),
        placement=study.placement,
        num_processes=context.size,
        threads_per_process=context.threads,
        num_train_images=len(data.ids),
        num_classes=data.num_classes,
        training_data=data.digest,
        initial_weights={name: weights[name] for name in study.objective_names},
        encoder_weights=_digest_of(study.encoder.weights),
    )
    manifest = Manifest.read(run.manifest_file) if run.exists else fresh
    if manifest.encoder_weights != fresh.encoder_weights:
        raise TrainingError(
            f"{run.manifest_file}: the run began from another file of encoder weights than "
            f"{study.encoder.weights} is now; start a new run"
        )
    if manifest.initial_weights != fresh.initial_weights:
        raise TrainingError(
            f"{run.manifest_file}: the run began from other initial weights "
            "(made by another version of alignctl or torch?); start a new run"
        )
    _refuse_other_data(session, manifest)
    context.wait()  # all processes have looked whether the run exists: now it may be created
    if context.is_first and not run.exists:
        run.write_config(study)
        manifest.write(run.manifest_file)
    elif context.is_first and run.config != study:  # proven to be the same study elsewhere
        run.write_config(study)
    context.wait()
    return manifest


def _refuse_other_data(session: Session, manifest: Manifest) -> None:
    """TrainingError unless the images and labels are those that the run began with."""
    run, data = session.run, session.data
    if manifest.training_data == data.digest:
        return
    path = session.study.dataset.place
    where = f" than {path} holds now; dataset.path=DIR says where they lie" if path else ""
    counts = (manifest.num_train_images, manifest.num_classes)
    if manifest.training_data is not None or counts != (len(data.ids), data.num_classes):
        raise TrainingError(
            f"{run.manifest_file}: the run began with other training images or labels{where}; "
            "start a new run for these"
        )
    if session.context.is_first:
        text = f"{run.path}: is of an earlier version, which kept no digest of the training images"
        session.context.report("warning", text=f"{text}; that they are the same is not checked")


def _digest_of(path: Path | None) -> str | None:
    return None if path is None else file_digest(path)


def restore(session: Session, manifest: Manifest, *, before: int | None = None) -> Progress:
    """Load the newest whole state whose numbers are finite; without any, the beginning.

    before: a step, where only states of earlier steps count.
    """
    context, run = session.context, session.run
    found = context.gather(newest_state(run, before=before) if context.is_first else None)[0]
    assert found is not None
    if found.point is None:
        if before is not None:
            raise CheckpointError(
                f"{run.state}: holds no state whose weights are finite; start a new run"
            )
        _refuse_lost_states(run, manifest, found)
        return Progress(0, manifest)
    for problem in found.problems:
        context.report("warning", text=f"{problem}; going on from the state before it")
    point = found.point
    for member in session.members:
        member.restore(load_state(run, point.step, member.name))
    parts = _not_finite(session, point.step)
    broken = [(name, found) for part in parts for name, found in part.items() if found]
    if broken:  # an earlier version saved such states
        name, tensors = broken[0]
        text = f"{state_folder(run, point.step)}: objective '{name}': {in_words(tensors)}"
        context.report("warning", text=f"{text}; going on from the state before it")
        return restore(session, manifest, before=point.step)
    return Progress(point.step, point.manifest, point.fingerprints, saved_step=point.step)


def _refuse_lost_states(run: RunDirectory, manifest: Manifest, found: Found) -> None:
    """CheckpointError where a run has finished epochs or damaged states, and no usable state."""
    if found.problems:
        raise CheckpointError(f"{found.problems[0]}; there is no earlier state to resume from")
    if manifest.finished_epochs:
        raise CheckpointError(
            f"{run.state}: holds no state to resume from after epoch {manifest.finished_epochs}"
            + (", only an earlier version's" if any(run.state.glob("epoch_*")) else "")
        )


def begin(session: Session, progress: Progress) -> tuple[Progress, TrainingLog]:
    """Start or resume from `progress`: write manifest and training table as they were then."""
    context, run, manifest = session.context, session.run, progress.manifest
    changed = _changed_since(session, manifest)
    if changed and progress.step:
        text = f"other than at the start: {', '.join(changed)}; last digits may differ"
        context.report("warning", text=text)
    finished = progress.step == session.num_steps
    manifest = manifest.updated(
        status="finished" if finished else "running",
        error=None,
        num_processes=context.size,
        threads_per_process=context.threads,
    )
    saved = None if progress.saved_step is None else state_table(run, progress.saved_step)
    log = TrainingLog(session.study.objective_names, saved)
    if context.is_first:
        for folder in (run.path, *run.state.glob("*"), *run.checkpoints.glob("*")):
            remove_leftovers(folder)
        _drop_what_is_later(run, progress.step, manifest)
        log.write(run.training_table)
        manifest.write(run.manifest_file)
    context.wait()
    return replace(progress, manifest=manifest), log


def _changed_since(session: Session, manifest: Manifest) -> list[str]:
    """Versions, device, threads and processes that differ from those of the last start."""
    context, here = session.context, package_versions()
    shares = session.study.placement != "objectives"
    pairs = {
        **{name: (manifest.versions.get(name), here[name]) for name in here},
        "device": (manifest.machine.get("device"), _device_name(context.device)),
        "threads per process": (manifest.threads_per_process, context.threads),
        "processes": (manifest.num_processes, context.size if shares else None),
    }
    return [
        f"{name} ({before} then, {current} now)"
        for name, (before, current) in pairs.items()
        if None not in (before, current) and before != current
    ]


def save(
    session: Session, progress: Progress, log: TrainingLog, *, weights_of_epoch: int | None = None
) -> Progress:
    """Keep a state, drop older ones, write the tables that follow from it.

    weights_of_epoch: keep the weights too, as those after this epoch. TrainingError, with nothing
    written, where a number of the state is not finite.
    """
    context, run, step = session.context, session.run, progress.step
    refuse_not_finite(
        _not_finite(session, step),
        step=step,
        saved_step=progress.saved_step,
        steps_per_epoch=session.data.steps_per_epoch,
    )
    _check_peers(session)
    writes = session.members if session.peers.rank == 0 else ()
    weights = {} if weights_of_epoch is None else {
        member.name: save_weights(
            checkpoint_file(run, member.name, weights_of_epoch), member.weights()
        )
        for member in writes
    }  # fmt: skip
    states = {member.name: save_state(run, step, member.name, member.state()) for member in writes}
    everywhere = context.gather((weights, states))
    manifest = _advanced(session, progress, weights_of_epoch, [part[0] for part in everywhere])
    if context.is_first:
        log.write(state_table(run, step))
        files = {f"{name}.pt": sha for _, part in everywhere for name, sha in part.items()}
        point = SavedPoint(
            step=step, manifest=manifest, fingerprints=progress.fingerprints, files=files
        )
        complete_state(run, point)
        drop_states(run, newest=step, finished=manifest.status == "finished")
        write_tables(session, log, manifest)
        if weights_of_epoch is not None:
            context.report("checkpoint", epoch=weights_of_epoch)
    context.wait()
    return replace(progress, manifest=manifest, saved_step=step)


def _drop_what_is_later(run: RunDirectory, step: int, manifest: Manifest) -> None:
    """Remove states and weights of steps after `step`, which will be trained again."""
    drop_states(run, newest=step, finished=manifest.status == "finished")
    for name in manifest.initial_weights:
        for epoch in saved_epochs(run, name):
            if name not in manifest.checkpoints.get(epoch, {}):
                checkpoint_file(run, name, epoch).unlink(missing_ok=True)


def write_tables(session: Session, log: TrainingLog, manifest: Manifest) -> None:
    """Write the training table, then the manifest."""
    log.write(session.run.training_table)
    manifest.write(session.run.manifest_file)


def _advanced(
    session: Session,
    progress: Progress,
    epoch: int | None,
    weights: Sequence[Mapping[str, str]],
) -> Manifest:
    manifest = progress.manifest
    finished = progress.step == session.num_steps
    checkpoints = manifest.checkpoints
    if epoch is not None:
        checkpoints = {**checkpoints, epoch: _in_order(session.study, _merged(weights))}
    return manifest.updated(
        status="finished" if finished else manifest.status, checkpoints=checkpoints
    )


def _not_finite(session: Session, step: int) -> list[dict[str, list[str]]]:
    """From each process, by objective, the tensors that hold a NaN or an infinity."""
    found = {member.name: member.not_finite() for member in session.members}
    for member in session.members:
        # before the first step the running statistics of batch norms mean nothing yet
        if step and not found[member.name]:
            finite = member.has_finite_output(*session.data.image_shape)
            found[member.name] = [] if finite else ["the network's output"]
    return session.context.gather(found)


def _check_peers(session: Session) -> None:
    """TrainingError unless processes that share batches hold the same weights."""
    if session.peers.size == 1:
        return
    mine = {member.name: digest(member.tensors()) for member in session.members}
    seen: dict[str, str] = {}
    for part in session.context.gather(mine):
        for name, value in part.items():
            if seen.setdefault(name, value) != value:
                raise TrainingError(
                    f"objective '{name}': processes that share its batches hold different weights"
                )


def _merged(parts: Sequence[Mapping[str, str]]) -> dict[str, str]:
    return {name: value for part in parts for name, value in part.items()}


def _in_order(study: StudyConfig, values: Mapping[str, str]) -> dict[str, str]:
    return {name: values[name] for name in study.objective_names}


def _device_name(device: torch.device) -> str:
    return torch.cuda.get_device_name(device) if device.type == "cuda" else "cpu"
