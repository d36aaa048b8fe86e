import json
import shutil
from dataclasses import dataclass, replace

import pytest

from alignctl.errors import CheckpointError, TrainingError
from alignctl.runs import Manifest, RunDirectory
from alignctl.runs.checkpoints import digest, file_digest, load_weights
from alignctl.runs.directory import checkpoint_file, saved_epochs
from alignctl.runs.manifest import package_versions
from alignctl.runs.states import state_folder
from alignctl.runs.table_files import read_parquet
from alignctl.training import record, trainer
from alignctl.training.cohort import build_member
from alignctl.training.data import load_training_data

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


def files_of(run):
    """What must not depend on interruptions: weights, optimiser states, the training table."""
    epochs = run.config.training.epochs
    names = run.config.objective_names
    paths = [checkpoint_file(run, name, e) for name in names for e in saved_epochs(run, name)]
    (last,) = run.state.iterdir()
    paths += [last / f"{name}.pt" for name in names]
    paths += [last / "training.parquet", run.training_table]
    assert len(paths) >= len(names) * 2 + 2 and epochs in saved_epochs(run, names[0])
    return {str(path.relative_to(run.path)): path.read_bytes() for path in paths}


def warnings_of(run):
    events = [json.loads(line) for line in run.events_file.read_text().splitlines()]
    return [event["text"] for event in events if event["event"] == "warning"]


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
    recorded = manifest_of(finished).checkpoints
    assert list(recorded) == [0, 1, 2]
    for name in NAMES:
        assert saved_epochs(finished, name) == [0, 1, 2]
        kept = {digest(load_weights(checkpoint_file(finished, name, e))) for e in (0, 1, 2)}
        assert len(kept) == 3
        for epoch in (0, 1, 2):
            assert recorded[epoch][name] == file_digest(checkpoint_file(finished, name, epoch))
    assert [path.name for path in finished.state.iterdir()] == ["step_0000000006"]
    assert {path.name for path in state_folder(finished, 6).iterdir()} == {
        "state.json", "training.parquet", *(f"{name}.pt" for name in NAMES),
    }  # fmt: skip


def test_objectives_end_at_different_weights(finished):
    assert len(set(final_digests(finished).values())) == len(NAMES)


@pytest.fixture(scope="module")
def uninterrupted(small_study, train_alone, tmp_path_factory):
    """A run of five epochs with a state after every second."""
    study = small_study("objectives=[cl, ce]", "training.epochs=5", "checkpoint_epochs=[0, 2, 4]")
    return train_alone(study, tmp_path_factory.mktemp("uninterrupted") / "run")


@pytest.mark.parametrize(
    "moment", ["in epoch 4", "between two states", "before the state is whole", "before the tables"]
)
def test_a_killed_run_goes_on_to_the_same_end(
    uninterrupted, train_alone, tmp_path, monkeypatch, moment
):
    whole, study = uninterrupted, uninterrupted.config

    def kill(*_args, **_kwargs):
        raise Killed

    def kill_if(condition, original):
        return lambda *a, **k: kill() if condition(*a, **k) else original(*a, **k)

    with monkeypatch.context() as patch:
        if moment == "in epoch 4":
            in_epoch = lambda session, epoch, first_step: epoch == 3  # noqa: E731
            patch.setattr(trainer, "_train_steps", kill_if(in_epoch, trainer._train_steps))
        elif moment == "between two states":
            second = lambda run, step, name, state: (step, name) == (12, "ce")  # noqa: E731
            patch.setattr(record, "save_state", kill_if(second, record.save_state))
        elif moment == "before the state is whole":
            at_12 = lambda run, point: point.step == 12  # noqa: E731
            patch.setattr(record, "complete_state", kill_if(at_12, record.complete_state))
        else:
            at_4 = lambda session, log, manifest: manifest.finished_epochs == 4  # noqa: E731
            patch.setattr(record, "write_tables", kill_if(at_4, record.write_tables))
        with pytest.raises(Killed):
            train_alone(study, tmp_path / "run")
    killed = RunDirectory(tmp_path / "run")
    assert manifest_of(killed).finished_epochs == 2
    assert manifest_of(killed).status == "running"

    resumed = train_alone(study, tmp_path / "run")
    assert files_of(resumed) == files_of(whole)
    assert manifest_of(resumed).batches == manifest_of(whole).batches
    assert manifest_of(resumed).checkpoints == manifest_of(whole).checkpoints
    assert manifest_of(resumed).status == "finished"
    starts = [
        json.loads(line)["finished_epochs"]
        for line in resumed.events_file.read_text().splitlines()
        if '"start"' in line
    ]
    assert starts == [0, 4 if moment == "before the tables" else 2]


def test_a_run_killed_after_its_last_state_is_finished_without_a_step(
    small_study, train_alone, tmp_path, monkeypatch
):
    study = small_study("objectives=[cl]")
    whole = train_alone(study, tmp_path / "whole")
    with monkeypatch.context() as patch:

        def kill_at_the_end(session, log, manifest):
            if manifest.status == "finished":
                raise Killed

        patch.setattr(record, "write_tables", kill_at_the_end)
        with pytest.raises(Killed):
            train_alone(study, tmp_path / "run")
    assert manifest_of(RunDirectory(tmp_path / "run")).status == "running"
    monkeypatch.setattr(trainer, "_train_steps", None)
    resumed = train_alone(study, tmp_path / "run")
    assert manifest_of(resumed).status == "finished"
    assert training_table(resumed).equals(training_table(whole))


@pytest.fixture(scope="module")
def killed_half_way(small_study, train_alone, tmp_path_factory):
    study = small_study("objectives=[cl]", "training.epochs=4", "checkpoint_epochs=[0, 1, 2, 3]")
    path = tmp_path_factory.mktemp("half-way") / "run"
    with pytest.MonkeyPatch.context() as patch:
        train_steps = trainer._train_steps

        def until_the_fourth(session, *, epoch, first_step):
            if epoch == 3:
                raise Killed
            return train_steps(session, epoch=epoch, first_step=first_step)

        patch.setattr(trainer, "_train_steps", until_the_fourth)
        with pytest.raises(Killed):
            train_alone(study, path)
    return RunDirectory(path)


@pytest.fixture
def half_way(killed_half_way, tmp_path):
    """A run of four epochs, killed in the fourth, with states after two and three."""
    run = RunDirectory(shutil.copytree(killed_half_way.path, tmp_path / "run"))
    assert sorted(path.name for path in run.state.iterdir()) == [
        "step_0000000006", "step_0000000009",
    ]  # fmt: skip
    return run


def test_a_damaged_state_costs_the_steps_since_the_one_before(
    half_way, small_study, train_alone, tmp_path
):
    path = state_folder(half_way, 9) / "cl.pt"
    path.write_bytes(path.read_bytes()[:-1])
    resumed = train_alone(half_way.config, half_way.path)
    events = [json.loads(line) for line in resumed.events_file.read_text().splitlines()]
    (warning,) = warnings_of(resumed)
    assert warning.startswith(f"{path}: damaged: ")
    assert warning.endswith("; going on from the state before it")
    starts = [event["finished_epochs"] for event in events if event["event"] == "start"]
    assert starts == [0, 2]
    whole = train_alone(half_way.config, tmp_path / "whole")
    assert files_of(resumed) == files_of(whole)


def test_a_run_without_any_whole_state_is_not_begun_again_in_silence(half_way, train_alone):
    for step in (6, 9):
        path = state_folder(half_way, step) / "cl.pt"
        path.write_bytes(path.read_bytes()[:-1])
    before = {path: path.read_bytes() for path in half_way.path.rglob("*") if path.is_file()}
    with pytest.raises(CheckpointError, match=r"cl\.pt: damaged: .*there is no earlier state"):
        train_alone(half_way.config, half_way.path)
    shutil.rmtree(half_way.state)
    with pytest.raises(CheckpointError, match="holds no state to resume from after epoch 3"):
        train_alone(half_way.config, half_way.path)
    (half_way.state / "epoch_0003").mkdir(parents=True)
    with pytest.raises(CheckpointError, match="after epoch 3, only an earlier version's"):
        train_alone(half_way.config, half_way.path)
    after = {path: path.read_bytes() for path in half_way.path.rglob("*") if path.is_file()}
    assert after.items() <= before.items()


def test_between_checkpoints_a_state_is_saved_after_a_while(
    small_study, train_alone, tmp_path, monkeypatch
):
    study = small_study("objectives=[cl]", "training.epochs=4", "checkpoint_epochs=[0]")
    whole = train_alone(study, tmp_path / "whole")
    assert saved_epochs(whole, "cl") == [0, 4]
    saved = []
    save = trainer.save

    def remember(session, progress, log, **options):
        saved.append(progress.step)
        return save(session, progress, log, **options)

    monkeypatch.setattr(trainer, "save", remember)
    monkeypatch.setattr(trainer, "_SAVE_EVERY_S", -1.0)
    often = train_alone(study, tmp_path / "often")
    assert saved == [0, 3, 6, 9, 12]
    assert saved_epochs(often, "cl") == [0, 4]
    assert files_of(often) == files_of(whole)
    saved.clear()
    monkeypatch.setattr(trainer, "_SAVE_EVERY_S", 600.0)
    train_alone(study, tmp_path / "seldom")
    assert saved == [0, 12]


def test_other_versions_than_at_the_start_are_a_warning(half_way, train_alone, monkeypatch):
    versions = {**manifest_of(half_way).versions, "torch": "9.9"}
    monkeypatch.setattr(record, "package_versions", lambda: versions)
    resumed = train_alone(half_way.config, half_way.path)
    torch_then = manifest_of(half_way).versions["torch"]
    assert warnings_of(resumed) == [
        f"other than at the start: torch ({torch_then} then, 9.9 now); last digits may differ"
    ]


@pytest.mark.parametrize(
    ("placement", "processes", "warned"),
    [("objectives", 1, []), ("objectives", 2, []), ("data", 2, ["processes (2 then, 1 now)"])],
)
def test_another_number_of_processes_is_a_warning_where_they_share_batches(
    small_study, one_process, make_manifest, placement, processes, warned
):
    manifest = make_manifest(
        placement=placement, num_processes=processes, threads_per_process=one_process.threads,
        versions=package_versions(),
    )  # fmt: skip
    study = small_study(f"placement={placement}")
    session = record.Session(one_process, None, study, None, ())
    assert record._changed_since(session, manifest) == warned
    more = manifest.updated(threads_per_process=one_process.threads + 1)
    assert record._changed_since(session, more)[0].startswith("threads per process (")


def test_a_run_that_began_with_other_images_is_not_continued(half_way, train_alone):
    manifest_of(half_way).updated(training_data="0" * 64).write(half_way.manifest_file)
    with pytest.raises(TrainingError, match="began with other training images or labels"):
        train_alone(half_way.config, half_way.path)


@dataclass(frozen=True)
class Elsewhere:
    """The context of one of two processes, of which the other says something else."""

    context: object
    change: object

    def __getattr__(self, name):
        return getattr(self.context, name)

    def gather(self, value):
        return [value, self.change(value)]


def test_processes_that_read_other_images_are_refused(small_study, one_process, tmp_path):
    study = small_study("objectives=[cl]")
    data = load_training_data(study, one_process.device)
    other = lambda value: value if isinstance(value, dict) else "0" * 64  # noqa: E731
    session = record.Session(
        Elsewhere(one_process, other), RunDirectory(tmp_path / "run"), study, data, ()
    )
    member = build_member(study, study.objectives[0], num_classes=3, device=one_process.device)
    with pytest.raises(TrainingError, match="the processes read different images or labels"):
        record.open_run(replace(session, members=[member]))
    assert not session.run.path.exists()


@dataclass(frozen=True)
class Two:
    rank: int = 0
    size: int = 2


def test_peers_that_came_to_other_weights_are_refused(small_study, one_process, tmp_path):
    study = small_study("objectives=[cl]")
    member = build_member(study, study.objectives[0], num_classes=3, device=one_process.device)
    run = RunDirectory(tmp_path / "run")

    def session(change):
        context = Elsewhere(one_process, change)
        return record.Session(context, run, study, None, [member], peers=Two())

    record._check_peers(session(lambda value: value))
    message = "objective 'cl': processes that share its batches hold different weights"
    with pytest.raises(TrainingError, match=message):
        record._check_peers(session(lambda value: {"cl": "0" * 64}))


def test_weights_of_epochs_that_are_taken_again_are_removed_first(
    half_way, train_alone, monkeypatch
):
    path = state_folder(half_way, 9) / "cl.pt"
    path.write_bytes(path.read_bytes()[:-1])
    assert saved_epochs(half_way, "cl") == [0, 1, 2, 3]
    monkeypatch.setattr(trainer, "_train_steps", None)
    with pytest.raises(TypeError):
        train_alone(half_way.config, half_way.path)
    assert saved_epochs(half_way, "cl") == [0, 1, 2]
    assert training_table(half_way)["epoch"].max() == 2
    assert manifest_of(half_way).finished_epochs == 2


def test_what_a_killed_process_left_half_written_is_cleared_away(half_way, train_alone):
    folders = (half_way.path, half_way.checkpoints / "cl", state_folder(half_way, 9))
    for folder in folders:
        (folder / ".file.123.partial").write_text("half")
    half_way.alignment.mkdir()
    (half_way.alignment / ".alignment.parquet.5.partial").write_text("of a running evaluation")
    train_alone(half_way.config, half_way.path)
    left = [path.parent for path in half_way.path.rglob("*.partial")]
    assert left == [half_way.alignment]


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
    session = record.Session(one_process, run, study, data, members)
    with pytest.raises(TrainingError, match="the initial weights differ between objectives"):
        record.open_run(session)
    assert not run.path.exists()
