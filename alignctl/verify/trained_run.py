"""The proof of shared randomness of a run that was trained here, read back and made again."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import torch

from alignctl.config import StudyConfig
from alignctl.encoders import build_network
from alignctl.encoders.torchvision_names import with_torchvision_names
from alignctl.errors import CheckpointError, ConfigError, DataError
from alignctl.models.weights import shared_weights
from alignctl.runs import Manifest, RunDirectory
from alignctl.runs.checkpoints import digest, file_digest, load_weights
from alignctl.runs.directory import checkpoint_file
from alignctl.runs.manifest import package_versions, shortened
from alignctl.training.data import TrainingData, load_training_data
from alignctl.training.fingerprint import epoch_digest, fingerprint
from alignctl.verify.check import Check, CheckResult, some_of


@dataclass(frozen=True)
class TrainedRun:
    """The checks of a run that was trained here: initial weights and batches are computed again."""

    run: RunDirectory
    study: StudyConfig | None = None
    """Where its data lie elsewhere than its config says."""
    epoch: int | None = None
    """Whose batches are drawn again; the first finished one if None."""
    num_checks: ClassVar[int] = 3

    def checks(self, device: torch.device) -> Iterator[Check]:
        """Initial weights, checkpoints, and the batches and views of one epoch."""
        manifest = Manifest.read(self.run.manifest_file)
        study = self.study or self.run.config
        yield check_initial_weights(study, manifest)
        yield check_checkpoints(self.run, manifest)
        if not manifest.used_a_gpu:
            device = torch.device("cpu")
        yield check_batches(study, manifest, epoch=self.epoch, device=device)


@dataclass(frozen=True)
class _Fault:
    """What is wrong with one file of weights."""

    result: CheckResult
    words: str


def check_initial_weights(study: StudyConfig, manifest: Manifest) -> Check:
    """Whether all objectives began from one point, and config and seed give that point again."""
    name, recorded = "initial weights", manifest.initial_weights
    if set(recorded) != set(study.objective_names):
        finding = (
            f"the manifest has digests of {', '.join(recorded) or 'nothing'}, "
            f"the config the objectives {', '.join(study.objective_names)}"
        )
        return Check(name, "differs", finding)
    starts: dict[str, list[str]] = {}
    for objective, value in recorded.items():
        starts.setdefault(value, []).append(objective)
    if len(starts) > 1:
        listed = ", ".join(
            f"{' and '.join(names)} from {shortened(value)}" for value, names in starts.items()
        )
        return Check(name, "differs", f"the objectives did not begin as one: {listed}")
    (recorded_digest,) = starts
    try:
        here = _initial_weights(study, manifest, recorded_digest)
    except (ConfigError, CheckpointError) as error:
        began = f"{', '.join(recorded)} began from {shortened(recorded_digest)}"
        return Check(name, "not checked", f"{began}, which cannot be made again: {error}")
    if here != recorded_digest:
        finding = (
            f"config and seed give {shortened(here)} here, the manifest says "
            f"{shortened(recorded_digest)}{_other_versions(manifest)}"
        )
        return Check(name, "differs", finding)
    finding = f"{', '.join(recorded)} began from {shortened(here)}, which config and seed give"
    return Check(name, "ok", finding)


def _initial_weights(study: StudyConfig, manifest: Manifest, recorded_digest: str) -> str:
    """The digest of what config and seed give here; ConfigError where a file they need changed.

    Of a `vit` by torchvision's names, which earlier versions used, if the recorded digest is.
    """
    network = build_network(study)
    path, recorded = study.encoder.weights, manifest.encoder_weights
    if path is not None and recorded is not None and file_digest(path) != recorded:
        raise ConfigError(f"encoder.weights: {path}: is not the file that it was then")
    weights = network.state_dict()
    if study.encoder.name == "vit":
        earlier = digest(with_torchvision_names(weights))
        if earlier == recorded_digest:
            return earlier
    return digest(weights)


def check_checkpoints(run: RunDirectory, manifest: Manifest) -> Check:
    """Whether every file of weights is the one that was written, epoch 0 the initial weights."""
    name, expected = "checkpoints", _expected_files(run, manifest)
    foreign = sorted({each for _, each in expected} - set(run.config.objective_names))
    if foreign:  # such a name could lead out of the run: no file is looked for
        finding = f"the manifest has digests of {', '.join(foreign)}, which the config has not"
        return Check(name, "differs", finding)
    if not expected:
        return Check(name, "not checked", "no weights are saved yet")
    faults = []
    for (epoch, objective), sha256 in expected.items():
        path = checkpoint_file(run, objective, epoch)
        initial = manifest.initial_weights.get(objective) if epoch == 0 else None
        fault = _fault(path, sha256=sha256, initial_weights=initial)
        if fault is not None:
            faults.append((path.relative_to(run.path), fault))
    if faults:
        named = some_of([f"{path} {fault.words}" for path, fault in faults])
        damaged = any(fault.result == "damaged" for _, fault in faults)
        return Check(name, "damaged" if damaged else "differs", named)
    start = ", epoch 0 the initial weights" if any(epoch == 0 for epoch, _ in expected) else ""
    unknown = sum(sha256 is None for sha256 in expected.values())
    if unknown:
        finding = (
            f"{unknown} of {len(expected)} files were made before digests were kept "
            f"(all can be read{start})"
        )
        return Check(name, "not checked", finding)
    return Check(name, "ok", f"{len(expected)} files are as they were written{start}")


def check_batches(
    study: StudyConfig, manifest: Manifest, *, epoch: int | None, device: torch.device
) -> Check:
    """Whether one epoch's batches and views, drawn again, are those that were trained on."""
    if not manifest.batches:
        return Check("batches and views", "not checked", "no epoch is finished yet")
    epoch = min(manifest.batches) if epoch is None else epoch
    name = f"batches and views of epoch {epoch}"
    try:
        data = load_training_data(_without_download(study), device)
        other_data = _other_data(data, manifest)
        if other_data:
            return Check(name, "differs", other_data)
        here = epoch_digest([fingerprint(batch) for batch in data.batches(epoch - 1)])
    except (ConfigError, DataError) as error:
        return Check(name, "not checked", str(error))
    if here != manifest.batches[epoch]:
        finding = (
            f"drawn again they have the digest {shortened(here)}, the manifest says "
            f"{shortened(manifest.batches[epoch])}{_other_versions(manifest)}"
        )
        if manifest.used_a_gpu and device.type == "cpu":
            made_on = manifest.machine["device"]
            finding += f"; they were made on {made_on}, and a CPU may round differently"
            return Check(name, "not checked", finding)
        return Check(name, "differs", finding)
    finding = f"{data.steps_per_epoch} batches drawn again are those that were trained on"
    return Check(name, "ok", finding)


def _expected_files(run: RunDirectory, manifest: Manifest) -> dict[tuple[int, str], str | None]:
    """By epoch and objective, the recorded SHA-256 of every file that is to be there."""
    names = run.config.objective_names
    saved = [epoch for epoch in run.config.saved_epochs if epoch <= manifest.finished_epochs]
    expected: dict[tuple[int, str], str | None] = {(e, name): None for e in saved for name in names}
    for epoch, digests in manifest.checkpoints.items():
        expected |= {(epoch, name): value for name, value in digests.items()}
    return expected


def _fault(path: Path, *, sha256: str | None, initial_weights: str | None) -> _Fault | None:
    """What is wrong with a file of weights; None where it is what it should be."""
    if not path.is_file():
        return _Fault("damaged", "is missing")
    try:
        changed = sha256 is not None and file_digest(path) != sha256
        weights = load_weights(path)
    except OSError as error:
        return _Fault("damaged", f"cannot be read ({error.strerror})")
    except CheckpointError:
        return _Fault("damaged", "cannot be read (cut off?)")
    if changed:
        return _Fault("damaged", "is not the file that was written")
    if initial_weights is not None and digest(shared_weights(weights)) != initial_weights:
        return _Fault("differs", "does not hold the initial weights of the manifest")
    return None


def _other_data(data: TrainingData, manifest: Manifest) -> str | None:
    """How the training images differ from those that the run was made with."""
    if len(data.ids) != manifest.num_train_images:
        return f"{len(data.ids):,} training images here, {manifest.num_train_images:,} then"
    if manifest.training_data not in (None, data.digest):
        return "the training images or labels here are others than then"
    return None


def _without_download(study: StudyConfig) -> StudyConfig:
    """The same study, which reads what is there: who verifies writes nothing."""
    if not getattr(study.dataset, "download", False):
        return study
    dataset = study.dataset.model_copy(update={"download": False})
    return study.model_copy(update={"dataset": dataset})


def _other_versions(manifest: Manifest) -> str:
    """`; the run was made with torch 2.9.0 (2.14.1 here)`, or nothing."""
    here = package_versions()
    changed = [
        f"{name} {version} ({here[name]} here)"
        for name in ("alignctl", "torch", "torchvision", "numpy", "pillow", "timm")
        if (version := manifest.versions.get(name, here[name])) != here[name]
    ]
    return f"; the run was made with {', '.join(changed)}" if changed else ""
