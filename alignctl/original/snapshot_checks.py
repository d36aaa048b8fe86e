"""What can be checked of a run that another program trained: its snapshots, not its batches."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING, ClassVar

from alignctl.errors import CheckpointError
from alignctl.models.weights import shared_weights
from alignctl.original.adopted_run import AdoptedRun
from alignctl.original.snapshot_files import OriginalCheckpoints
from alignctl.runs import Manifest
from alignctl.runs.manifest import shortened
from alignctl.verify.check import Check, some_of

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True)
class AdoptedRunVerification:
    """As many checks as a run of our own has; the snapshots are only read."""

    adopted: AdoptedRun
    num_checks: ClassVar[int] = 3

    def checks(self, device: "torch.device") -> Iterator[Check]:
        """Snapshots of epoch 0, all snapshots, and that nothing is known of batches."""
        original = self.adopted.checkpoints
        yield check_first_snapshots(original, Manifest.read(self.adopted.run.manifest_file))
        yield check_snapshots(original, self.adopted.changed())
        finding = "made by another program, which kept no digests of them"
        yield Check("batches and views", "not checked", finding)


def check_first_snapshots(original: OriginalCheckpoints, manifest: Manifest) -> Check:
    """Whether encoder and projector of epoch 0 are the same for all, and as they were adopted."""
    name, found = "initial weights", {}
    for objective in original.objectives:
        if 0 in original.epochs(objective):
            try:
                found[objective] = _first_digest(original, objective)
            except CheckpointError as error:
                return Check(name, "damaged", str(error))
    lacking = [objective for objective in original.objectives if objective not in found]
    if len(set(found.values())) > 1:
        apart = ", ".join(f"{objective} {shortened(value)}" for objective, value in found.items())
        return Check(name, "differs", f"the objectives did not begin as one: {apart}")
    changed = [key for key, value in manifest.initial_weights.items() if found.get(key) != value]
    if changed:
        finding = f"the first snapshots of {', '.join(changed)} are not those that were adopted"
        return Check(name, "differs", finding)
    began = f"{', '.join(found)} began from {shortened(next(iter(found.values()), ''))}"
    if lacking:
        prefix = f"{began}; " if found else ""
        finding = f"{prefix}there is no snapshot of epoch 0 of {', '.join(lacking)}"
        return Check(name, "not checked", finding)
    return Check(name, "ok", f"{began}; which seed gives these weights is not known")


def _first_digest(original: OriginalCheckpoints, objective: str) -> str:
    from alignctl.original.snapshot_tensors import load_snapshot
    from alignctl.runs.checkpoints import digest

    return digest(shared_weights(load_snapshot(original.file(objective, 0))))


def check_snapshots(
    original: OriginalCheckpoints, changes: Mapping[str, Sequence[int]] = MappingProxyType({})
) -> Check:
    """Whether every snapshot is as it was written, by the checksums that are in it.

    changes: epochs whose snapshot is not the one that was evaluated, by objective.
    """
    from alignctl.original.snapshot_tensors import damage

    name, faults, unknown, total = "checkpoints", [], 0, 0
    for objective in original.objectives:
        for epoch in original.epochs(objective):
            path = original.file(objective, epoch)
            total += 1
            try:
                fault = damage(path)
            except CheckpointError:
                unknown += 1
                continue
            if fault:
                faults.append(f"{path.relative_to(original.folder)} {fault}")
    if faults:
        return Check(name, "damaged", some_of(faults))
    if changes:
        listed = "; ".join(f"{key} {', '.join(map(str, found))}" for key, found in changes.items())
        finding = f"in size or date not those that were evaluated: {listed}"
        return Check(name, "differs", finding)
    if not total or unknown:
        finding = f"{unknown} of {total} files hold no checksums" if total else "there are none"
        return Check(name, "not checked", finding)
    return Check(name, "ok", f"{total} files fit the checksums (CRC-32) that are in them")
