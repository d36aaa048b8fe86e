"""Runs that are killed, stopped, starved of disk or started twice, and what becomes of them."""

import os
import random
import shutil
import signal
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import recovery_workers
from children import call, start

from alignctl.config.load import load_study
from alignctl.runs import Manifest, RunDirectory
from alignctl.runs.checkpoints import file_digest, load_weights
from alignctl.runs.directory import checkpoint_file, saved_epochs
from alignctl.runs.table_files import read_parquet
from alignctl.training.trainer import TrainingJob

pytestmark = [pytest.mark.soak, pytest.mark.timeout(600)]

NUM_RANDOM_KILLS = 12
TINY = [
    "dataset.classes=4", "dataset.images_per_class=16", "encoder.width=0.0625",
    "projector.hidden_dim=16", "projector.output_dim=8", "training.batch_size=16",
    "training.schedule.warmup_epochs=0",
]  # fmt: skip
KILLED = [*TINY, "objectives=[cl, ce]", "training.epochs=3", "checkpoint_epochs=[0, 1, 2]"]
LONG = [*TINY, "objectives=[cl, ce]", "training.epochs=150", "checkpoint_epochs=[0]"]
STOPPED = [*TINY, "objectives=[cl, ce]", "training.epochs=200", "checkpoint_epochs=[0, 2, 4, 6]"]


def files_of(run):
    """What must not depend on interruptions: weights, optimiser states, the training table."""
    names = run.config.objective_names
    paths = [checkpoint_file(run, name, e) for name in names for e in saved_epochs(run, name)]
    (last,) = run.state.iterdir()
    paths += [*(last / f"{name}.pt" for name in names), run.training_table]
    return {str(path.relative_to(run.path)): file_digest(path) for path in paths}


def train_in_process(study, path, *, change=None, seconds=170.0):
    """Train there in a process of its own; (its exit code, how many files it changed).

    change: SIGKILL before so many changes of files; seconds: SIGKILL after so long.
    """
    process = call(recovery_workers.train_until_killed, TrainingJob(study, path), change)
    if process.wait(seconds) is None:
        process.kill()
    printed, _ = process.communicate()
    return process.returncode, int(printed) if process.returncode == 0 else None


def assert_nothing_is_half_written(run):
    if not run.exists:
        return
    Manifest.read(run.manifest_file)
    read_parquet(run.training_table)
    for name in run.config.objective_names:
        for epoch in saved_epochs(run, name):
            load_weights(checkpoint_file(run, name, epoch))


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """(the run that was never interrupted, how many files it changed, the seconds it took)."""
    path = tmp_path_factory.mktemp("recovery") / "whole"
    started = time.monotonic()
    code, num_changes = train_in_process(load_study(None, KILLED), path)
    assert code == 0
    return RunDirectory(path), num_changes, time.monotonic() - started


def assert_ended_as(run, whole):
    assert files_of(run) == files_of(whole)
    ours, theirs = (Manifest.read(each.manifest_file) for each in (run, whole))
    assert (ours.status, ours.batches) == ("finished", theirs.batches)
    assert ours.checkpoints == theirs.checkpoints
    assert not list(run.path.rglob("*.partial"))


def test_a_run_killed_before_any_change_of_a_file_ends_with_the_bytes_of_one_that_never_was(
    whole, tmp_path
):
    study, (never_killed, num_changes, _) = load_study(None, KILLED), whole

    def kill_and_resume(number):
        run = RunDirectory(tmp_path / f"run_{number}")
        assert train_in_process(study, run.path, change=number)[0] == -signal.SIGKILL
        assert_nothing_is_half_written(run)
        assert train_in_process(study, run.path)[0] == 0, "a killed run cannot be resumed"
        assert_ended_as(run, never_killed)
        shutil.rmtree(run.path)

    assert num_changes > 40
    with ThreadPoolExecutor(2) as pool:
        list(pool.map(kill_and_resume, range(1, num_changes + 1)))


def test_runs_killed_at_random_again_and_again_end_with_the_bytes_of_one_that_never_was(
    whole, tmp_path
):
    study, (never_killed, num_changes, duration) = load_study(None, KILLED), whole
    chance, num_kills, number = random.Random(0), 0, 0
    while num_kills < NUM_RANDOM_KILLS:
        run = RunDirectory(tmp_path / f"run_{number}")
        number += 1
        code = None
        while code != 0:
            # before a change of a file, as a resumed run has others, or at any moment
            moment = (
                {"change": chance.randint(1, num_changes)}
                if chance.random() < 0.5
                else {"seconds": chance.uniform(0, duration)}
            )
            code, _ = train_in_process(study, run.path, **moment)
            assert code in (0, -signal.SIGKILL), "a killed run cannot be resumed"
            num_kills += code != 0
            assert_nothing_is_half_written(run)
        assert_ended_as(run, never_killed)


def end(process):
    stdout, stderr = process.communicate()
    return process.returncode, stdout, stderr


def wait_for(process, run, text):
    while process.poll() is None:
        if run.events_file.is_file() and text in run.events_file.read_text():
            return
        time.sleep(0.02)
    raise AssertionError(f"the run ended before {text}: {process.communicate()}")


def parents_in(session):
    """The parents of all processes that a command started, and of itself, by their ids."""
    found = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            state, parent, _, number = stat.read_text().rpartition(")")[2].split()[:4]
        except (OSError, ValueError):
            continue  # gone meanwhile
        if int(number) == session and state != "Z":
            found[int(stat.parent.name)] = int(parent)
    return found


def assert_nobody_is_left(session):
    deadline = time.monotonic() + 20
    while parents_in(session):  # Python's resource tracker is the last to go
        assert time.monotonic() < deadline, parents_in(session)
        time.sleep(0.05)


@pytest.mark.parametrize(
    ("placement", "number", "to_all"),
    [
        ("data", signal.SIGUSR1, False),
        ("objectives", signal.SIGTERM, True),
        ("data", signal.SIGKILL, False),
    ],
)
def test_a_stopped_run_goes_on_and_ends_as_if_it_had_not_been_stopped(
    tmp_path, placement, number, to_all
):
    words = ["pretrain", *STOPPED, f"placement={placement}", "--nproc", 2]
    run = RunDirectory(tmp_path / "runs" / "digits")
    process = start(tmp_path, *words, "training.epochs=8")
    wait_for(process, run, '"event": "epoch"' if number != signal.SIGKILL else '"epoch": 3')
    if to_all:  # as a batch system does
        os.killpg(process.pid, number)
    else:
        process.send_signal(number)
    code, _, stderr = end(process)
    manifest = Manifest.read(run.manifest_file)
    assert manifest.finished_epochs < 8
    if number == signal.SIGKILL:
        assert (code, manifest.status) == (-number, "running")
    else:
        assert (code, manifest.status) == (75, "interrupted"), stderr
        assert stderr.startswith("error: runs/digits: stopped as asked and saved, with "), stderr
        assert stderr.count("\n") == 1
    code, stdout, stderr = end(start(tmp_path, "pretrain", "--resume", "--nproc", 2))
    assert (code, stderr) == (0, "")
    assert "going on after" in stdout
    other = tmp_path / "whole"
    whole = start(tmp_path, *words, "training.epochs=8", "--run-dir", other)
    assert end(whole)[0] == 0
    assert files_of(run) == files_of(RunDirectory(other))
    batches = [Manifest.read(r.manifest_file).batches for r in (run, RunDirectory(other))]
    assert batches[0] == batches[1]


@pytest.mark.parametrize("delay_s", [0.0, 1.0, 3.0])
def test_a_run_told_to_stop_while_it_starts_ends_with_the_same_code(tmp_path, delay_s):
    process = start(tmp_path, "pretrain", *LONG, "--nproc", 1)
    lock = tmp_path / "runs" / "digits" / ".pretrain.lock"
    while not lock.exists():
        assert process.poll() is None
        time.sleep(0.01)
    time.sleep(delay_s)
    process.send_signal(signal.SIGUSR1)
    code, _, stderr = end(process)
    assert code == 75, stderr
    assert stderr.count("\n") == 1
    words = ["--run-dir", "runs/digits", "--resume"]
    assert end(start(tmp_path, "pretrain", *LONG, "--nproc", 1, *words))[0] == 0


@pytest.fixture(scope="module")
def long_run(tmp_path_factory):
    """(process, folder) of a run that would take long, in its first epochs."""
    folder = tmp_path_factory.mktemp("long")
    process = start(
        folder,
        "pretrain",
        *STOPPED,
        "training.epochs=100000",
        "checkpoint_epochs=[0]",
        "--nproc",
        2,
    )
    wait_for(process, RunDirectory(folder / "runs" / "digits"), '"event": "epoch"')
    yield process, folder
    process.kill()
    process.communicate()


def test_a_second_process_on_the_same_run_is_refused(long_run):
    process, folder = long_run
    before = (folder / "runs" / "digits" / "manifest.json").read_bytes()
    code, _, stderr = end(start(folder, "pretrain", "--resume", "--nproc", 2))
    assert code == 1
    assert stderr.startswith("error: runs/digits: in use by another `alignctl pretrain` ")
    assert f"process {process.pid} on " in stderr
    assert stderr.count("\n") == 1
    assert (folder / "runs" / "digits" / "manifest.json").read_bytes() == before


@pytest.mark.skipif(not Path("/proc/self/stat").is_file(), reason="looks under /proc")
def test_a_killed_worker_ends_the_run_with_one_line_and_leaves_no_process(long_run):
    process, folder = long_run
    parents = parents_in(process.pid)  # the command, what workers are forked from, workers
    workers = sorted(pid for pid, one in parents.items() if parents.get(one) == process.pid)
    assert len(workers) == 2
    os.kill(workers[1], signal.SIGKILL)
    code, _, stderr = end(process)
    assert code == 1
    assert stderr == "error: worker 1 died with signal 9 (SIGKILL)\n"
    assert_nobody_is_left(process.pid)
    run = RunDirectory(folder / "runs" / "digits")
    assert Manifest.read(run.manifest_file).status == "failed"


def test_a_full_disk_is_one_line_and_costs_nothing_but_time(tmp_path):
    limit = 60_000  # less than the first checkpoint
    run = RunDirectory(tmp_path / "runs" / "digits")
    words = ["pretrain", *KILLED, "--nproc", 1]
    code, _, stderr = end(start(tmp_path, *words, largest_file=limit))
    assert code == 1
    assert stderr.startswith("error: ") and "cannot be written: " in stderr, stderr
    assert stderr.count("\n") == 1
    assert_nothing_is_half_written(run)
    assert not list(run.path.rglob("*.partial"))
    code, _, stderr = end(start(tmp_path, *words, "--resume"))
    assert (code, stderr) == (0, "")
    assert Manifest.read(run.manifest_file).status == "finished"
