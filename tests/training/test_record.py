import json

import pytest

from alignctl.errors import TrainingError
from alignctl.runs import Manifest, RunDirectory
from alignctl.runs.checkpoints import digest, load_weights
from alignctl.runs.directory import checkpoint_file, saved_epochs
from alignctl.runs.tables import read_parquet
from alignctl.training import record, worker
from alignctl.training.cohort import build_member
from alignctl.training.data import load_training_data
from alignctl.training.log import EpochLosses, TrainingLog

NAMES = ("cl", "dcl", "nscl", "scl", "ce")


class Killed(BaseException):
    """What stands for a process that ends here."""


def manifest_of(run):
    return Manifest.read(run.manifest_file)


def final_digests(run):
    epoch = run.config.training.epochs
    return {
        name: digest(load_weights(checkpoint_file(run, name, epoch)))
        for name in run.config.objective_names
    }


def training_table(run):
    return read_parquet(run.training_table)


def test_the_initial_weights_are_proved_to_be_the_same(finished):
    recorded = manifest_of(finished).initial_weights
    assert tuple(recorded) == NAMES
    assert len(set(recorded.values())) == 1
    for name in NAMES:
        weights = load_weights(checkpoint_file(finished, name, 0))
        network = {k: v for k, v in weights.items() if not k.startswith("objective.")}
        assert digest(network) == recorded[name]


def test_weights_are_kept_at_the_epochs_asked_for_and_the_last_state_alone(finished):
    for name in NAMES:
        assert saved_epochs(finished, name) == [0, 1, 2]
        kept = {digest(load_weights(checkpoint_file(finished, name, e))) for e in (0, 1, 2)}
        assert len(kept) == 3
    assert [path.name for path in finished.state.iterdir()] == ["epoch_0002"]
    assert {path.name for path in (finished.state / "epoch_0002").iterdir()} == {
        f"{name}.pt" for name in NAMES
    }


def test_objectives_end_at_different_weights(finished):
    assert len(set(final_digests(finished).values())) == len(NAMES)


@pytest.mark.parametrize("moment", ["in epoch 4", "between two states", "before the manifest"])
def test_a_killed_run_goes_on_to_the_same_end(
    small_study, train_alone, tmp_path, monkeypatch, moment
):
    study = small_study("objectives=[cl, ce]", "training.epochs=5", "checkpoint_epochs=[0, 2, 4]")
    whole = train_alone(study, tmp_path / "whole")

    def kill(*_args, **_kwargs):
        raise Killed

    def kill_if(condition, original):
        return lambda *a, **k: kill() if condition(*a, **k) else original(*a, **k)

    with monkeypatch.context() as patch:
        if moment == "in epoch 4":
            epoch_of = lambda context, data, members, epoch: epoch == 4  # noqa: E731
            patch.setattr(worker, "_train_epoch", kill_if(epoch_of, worker._train_epoch))
        elif moment == "between two states":
            second = lambda run, epoch, name, state: (epoch, name) == (4, "ce")  # noqa: E731
            patch.setattr(record, "save_state", kill_if(second, record.save_state))
        else:
            at_4 = lambda manifest, path: manifest.finished_epochs == 4  # noqa: E731
            patch.setattr(Manifest, "write", kill_if(at_4, Manifest.write))
        with pytest.raises(Killed):
            train_alone(study, tmp_path / "run")
    killed = RunDirectory(tmp_path / "run")
    assert manifest_of(killed).finished_epochs == 2
    assert manifest_of(killed).status == "running"

    resumed = train_alone(study, tmp_path / "run")
    assert training_table(resumed).equals(training_table(whole))
    assert final_digests(resumed) == final_digests(whole)
    assert manifest_of(resumed).batches == manifest_of(whole).batches
    assert manifest_of(resumed).status == "finished"
    assert [saved_epochs(resumed, name) for name in ("cl", "ce")] == [[0, 2, 4, 5]] * 2
    starts = [
        json.loads(line)["finished_epochs"]
        for line in resumed.events_file.read_text().splitlines()
        if '"start"' in line
    ]
    assert starts == [0, 2]


def test_a_run_that_began_from_other_weights_is_not_continued(
    small_study, train_alone, tmp_path, monkeypatch
):
    study = small_study("objectives=[cl]", "training.epochs=1")
    run = train_alone(study, tmp_path / "run")
    before = run.manifest_file.read_text()
    manifest = manifest_of(run).updated(initial_weights={"cl": "0" * 64}, status="running")
    manifest.write(run.manifest_file)
    with pytest.raises(TrainingError, match="began from other initial weights"):
        train_alone(study, tmp_path / "run")
    assert manifest_of(run).initial_weights == {"cl": "0" * 64}
    assert before != run.manifest_file.read_text()


def test_models_that_start_apart_are_refused(small_study, one_process, tmp_path):
    study = small_study()
    data = load_training_data(study, one_process.device)
    members = [
        build_member(study, config, num_classes=3, device=one_process.device)
        for config in study.objectives[:2]
    ]
    members[1].network.projector[0].weight.data[0, 0] += 1e-6
    run = RunDirectory(tmp_path / "run")
    with pytest.raises(TrainingError, match="the initial weights differ between objectives"):
        record.open_run(one_process, run, study, data, members)
    assert not run.path.exists()


def test_processes_that_saw_other_batches_are_refused(one_process, make_manifest, tmp_path):
    entries = [EpochLosses(1, name, (1.0,), (0.1,)) for name in ("cl", "ce")]
    log = TrainingLog(RunDirectory(tmp_path), finished_epochs=0)
    manifest = make_manifest(initial_weights={"cl": "ab", "ce": "ab"}, batches={})

    def recorded(*digests):
        results = [
            record.EpochResult((entry,), seen) for entry, seen in zip(entries, digests, strict=True)
        ]
        return record.record(one_process, log, manifest, results, epoch=1, seconds=0.5)

    assert recorded("12", "12").batches == {1: "12"}
    with pytest.raises(TrainingError, match="saw different images or views in epoch 1"):
        recorded("12", "34")
