"""The same study, divided among processes in every way, against one process."""

import pytest

from alignctl.runs import Manifest, RunDirectory
from alignctl.runs.directory import checkpoint_file
from alignctl.runs.table_files import read_parquet
from alignctl.training.trainer import TrainingJob, train

pytestmark = pytest.mark.timeout(300)

OBJECTIVES = ["cl", "dcl", "nscl", "scl", "ce"]
LONG = pytest.mark.soak  # four processes on two cores
PLACES = [
    ("objectives", 2),
    ("data", 2),
    pytest.param(("data", 4), marks=LONG),
    pytest.param(("mesh", 4), marks=LONG),
]


@pytest.fixture(scope="module")
def study_of(small_study):
    """A function of a placement. Fewer than 8 channels, or larger steps, turn what is rounded
    otherwise into more: a ReLU near zero switches."""
    return lambda placement: small_study(
        f"placement={placement}", "training.optimizer.learning_rate=0.001", "encoder.width=0.125",
        "objectives=[cl, dcl, {name: nscl, positive_in_denominator: false}, scl, ce]",
    )  # fmt: skip


@pytest.fixture(scope="module")
def alone(study_of, train_alone, tmp_path_factory):
    return train_alone(study_of("objectives"), tmp_path_factory.mktemp("alone") / "run")


@pytest.fixture(scope="module", params=PLACES, ids=lambda place: f"{place[0]}-{place[1]}")
def placed(request, study_of, pool, tmp_path_factory):
    """(the run, its number of processes)."""
    placement, num_processes = request.param
    run = RunDirectory(tmp_path_factory.mktemp(placement) / "run")
    job = TrainingJob(study_of(placement), run.path)
    pool.launch(train, job, size=num_processes, events_file=run.events_file)
    return run, num_processes


def test_every_placement_sees_the_same_start_and_the_same_batches(placed, alone):
    ours, theirs = Manifest.read(placed[0].manifest_file), Manifest.read(alone.manifest_file)
    assert ours.status == "finished"
    assert (ours.placement, ours.num_processes) == (placed[0].config.placement, placed[1])
    assert ours.initial_weights == theirs.initial_weights
    assert ours.batches == theirs.batches


def test_every_placement_gives_the_same_training_curves_to_rounding(placed, alone):
    ours, theirs = read_parquet(placed[0].training_table), read_parquet(alone.training_table)
    columns = ["epoch", "step", "objective", "learning_rate"]
    assert ours[columns].equals(theirs[columns])
    # float32: a dozen layers round otherwise at first, and five steps carry it on; that nothing
    # but rounding differs is shown in float64, for each objective's gradient
    error = (ours["loss"] / theirs["loss"] - 1).abs()
    assert error[ours["step"].eq(1) & ours["epoch"].eq(1)].max() < 1e-5
    assert error.max() < 1e-4


def test_weights_are_saved_once_by_whoever_trains_them(placed):
    run = placed[0]
    for name in OBJECTIVES:
        assert checkpoint_file(run, name, 2).is_file()
    recorded = Manifest.read(run.manifest_file).checkpoints
    assert list(recorded) == [0, 1, 2]
    assert all(list(digests) == OBJECTIVES for digests in recorded.values())


def test_placing_objectives_changes_no_bit(placed, alone):
    run, _ = placed
    if run.config.placement != "objectives":
        pytest.skip("sums over processes are rounded otherwise")
    for name in OBJECTIVES:
        ours, theirs = (checkpoint_file(each, name, 2).read_bytes() for each in (run, alone))
        assert ours == theirs
    assert run.training_table.read_bytes() == alone.training_table.read_bytes()
