"""A study on images that are not in memory, through the command line, stopped in its midst."""

import json
import os
import signal
import time
from contextlib import suppress
from pathlib import Path

import pandas as pd
import pytest
from children import start

from alignctl.runs import Manifest, RunDirectory
from alignctl.runs.checkpoints import file_digest
from alignctl.runs.directory import checkpoint_file

pytestmark = [pytest.mark.soak, pytest.mark.timeout(600)]

STUDY = [
    "name=streamed", "encoder.width=0.0625", "projector.hidden_dim=16", "projector.output_dim=8",
    "objectives=[cl, ce]", "training.batch_size=16", "training.schedule.warmup_epochs=0",
    "checkpoint_epochs=[0, 1, 2]",
]  # fmt: skip


@pytest.fixture(scope="module")
def study(photo_folder):
    """The words that describe a study on the images of the folder, each of another size."""
    dataset = f"{{name: image_folder, path: {photo_folder}, image_size: 16, in_memory: false}}"
    return [*STUDY, f"dataset={dataset}"]


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
    """The parents of all processes that a command started, and they in turn, by their ids."""
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


def results_of(run):
    """What must not depend on interruptions or on who decodes."""
    paths = [checkpoint_file(run, name, epoch) for name in ("cl", "ce") for epoch in (0, 1, 2)]
    return [file_digest(path) for path in [*paths, run.training_table]]


def test_a_study_on_streamed_images_by_two_processes(study, tmp_path):
    words = ["pretrain", *study, "training.epochs=2", "--nproc", 2]
    assert end(start(tmp_path, *words, "dataset.workers=2"))[::2] == (0, "")
    run = RunDirectory(tmp_path / "runs" / "streamed")
    alone = ["pretrain", *study, "training.epochs=2", "--run-dir", "alone", "--nproc", 1]
    assert end(start(tmp_path, *alone, "dataset.workers=0"))[::2] == (0, "")
    other = RunDirectory(tmp_path / "alone")
    batches = [Manifest.read(each.manifest_file).batches for each in (run, other)]
    assert batches[0] == batches[1]

    code, _, stderr = end(start(tmp_path, "eval-alignment", "runs/streamed", "--nproc", 2))
    assert (code, stderr) == (0, "")
    table = pd.read_csv(run.alignment / "train_alignment.csv")
    assert table["Epoch"].tolist() == [0, 1, 2]
    assert table["CE_CKA"][0] == pytest.approx(1)
    code, stdout, stderr = end(start(tmp_path, "verify", "runs/streamed", "alone", "--json"))
    assert (code, stderr) == (0, "")
    assert json.loads(stdout)["ok"]


def stopped(words, folder, number):
    """The exit code and run of a command when all its processes were sent a signal at once."""
    process = start(folder, *words)
    run = RunDirectory(folder / "runs" / "streamed")
    wait_for(process, run, '"event": "epoch"')
    os.killpg(process.pid, number)  # as a batch system or a terminal does
    code, _, stderr = end(process)
    assert stderr.count("\n") == 1
    assert "dataset.workers" not in stderr
    assert_nobody_is_left(process.pid)
    assert Manifest.read(run.manifest_file).status == "interrupted"
    return code, run


@pytest.mark.skipif(not Path("/proc/self/stat").is_file(), reason="looks under /proc")
def test_sigterm_to_every_process_stops_the_run_which_ends_as_if_it_had_not_been(study, tmp_path):
    words = ["pretrain", *study, "placement=data", "training.epochs=40", "--nproc", 2]
    code, run = stopped([*words, "dataset.workers=2"], tmp_path, signal.SIGTERM)
    assert code == 75
    assert end(start(tmp_path, *words, "dataset.workers=1", "--resume"))[::2] == (0, "")
    assert end(start(tmp_path, *words, "dataset.workers=0", "--run-dir", "whole"))[::2] == (0, "")
    assert results_of(run) == results_of(RunDirectory(tmp_path / "whole"))


@pytest.mark.skipif(not Path("/proc/self/stat").is_file(), reason="looks under /proc")
def test_sigint_to_every_process_interrupts_the_run(study, tmp_path):
    words = ["pretrain", *study, "training.epochs=1000", "dataset.workers=2", "--nproc", 2]
    assert stopped(words, tmp_path, signal.SIGINT)[0] == 130


@pytest.mark.skipif(not Path("/proc/self/stat").is_file(), reason="looks under /proc")
def test_a_killed_decoding_process_ends_the_run_with_one_line(study, tmp_path):
    process = start(
        tmp_path, "pretrain", *study, "dataset.workers=1", "training.epochs=1000", "--nproc", 2
    )
    run = RunDirectory(tmp_path / "runs" / "streamed")
    wait_for(process, run, '"event": "epoch"')
    while process.poll() is None:  # there are new ones in every epoch; some had ended their work
        parents = parents_in(process.pid)
        for pid, parent in parents.items():
            worker = parents.get(parent)  # itself forked from what the command started
            if parents.get(worker) == process.pid:
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
    code, _, stderr = end(process)
    assert code == 1
    assert stderr.startswith("error: "), stderr
    assert "decode images (dataset.workers) died with signal 9 (SIGKILL)" in stderr
    assert stderr.count("\n") == 1
    assert_nobody_is_left(process.pid)
    assert Manifest.read(run.manifest_file).status == "failed"
