"""Whole studies through the command line, each command a process of its own."""

import json
import os
import signal
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path

import pandas as pd
import pytest
from children import start

from alignctl.config.load import load_study
from alignctl.config.metric_configs import DEBIASED_CKA, ORIGINAL_CKA, ORIGINAL_RSA
from alignctl.runs import Manifest, RunDirectory
from alignctl.runs.directory import checkpoint_file, saved_epochs
from alignctl.runs.table_files import read_parquet
from alignctl.training.trainer import TrainingJob, train

pytestmark = pytest.mark.timeout(600)  # one fixture holds a whole study

NAMES = ["cl", "dcl", "nscl", "scl", "ce"]
EPOCHS = 10
METRICS = [ORIGINAL_CKA, DEBIASED_CKA, ORIGINAL_RSA]
NETWORK = ["encoder.width=0.0625", "projector.hidden_dim=16", "projector.output_dim=8"]
TRAINING = ["training.batch_size=16", "training.schedule.warmup_epochs=0"]
DIGITS = ["dataset.classes=4", "dataset.images_per_class=16", *NETWORK, *TRAINING]
STUDY = [
    *DIGITS, "objectives=[cl, dcl, nscl, scl, ce]", f"training.epochs={EPOCHS}",
    "checkpoint_epochs=[0, 2, 4, 6, 8]",
]  # fmt: skip
SHORT = [*DIGITS, "objectives=[cl, nscl]", "training.epochs=1"]


@dataclass(frozen=True)
class Ended:
    """How a command ended, and where it ran."""

    code: int
    stdout: str
    stderr: str
    folder: Path

    @property
    def run(self) -> RunDirectory:
        return RunDirectory(self.folder / "runs" / "digits")


def end(process, folder):
    stdout, stderr = process.communicate()
    return Ended(process.returncode, stdout, stderr, folder)


def call(folder, *words):
    return end(start(folder, *words), folder)


def wait_for_epoch(process, run, epoch):
    """Return once the last start of a run has ended an epoch."""
    while process.poll() is None:
        if run.events_file.exists():
            text = run.events_file.read_text().rpartition('"event": "start"')[2]
            if '"event": "epoch", "time": ' in text and f'"epoch": {epoch},' in text:
                return
        time.sleep(0.02)
    raise AssertionError(f"the run ended before epoch {epoch}: {process.communicate()}")


def whole_study(folder):
    """The commands, one after the other, RUN omitted; training interrupted once and killed once."""
    run = RunDirectory(folder / "runs" / "digits")
    process = start(folder, "pretrain", *STUDY, "--nproc", 2)
    wait_for_epoch(process, run, 3)
    os.killpg(process.pid, signal.SIGINT)  # as a terminal does
    interrupted = end(process, folder)
    manifest_when_interrupted = Manifest.read(run.manifest_file)
    process = start(folder, "pretrain", "--resume", "--nproc", 2)
    wait_for_epoch(process, run, 7)
    process.kill()
    killed = end(process, folder)
    return {
        "interrupted": interrupted,
        "manifest when interrupted": manifest_when_interrupted,
        "killed": killed,
        "manifest when killed": Manifest.read(run.manifest_file),
        "pretrain": call(folder, "pretrain", "--resume", "--nproc", 2),
        "eval-alignment": call(folder, "eval-alignment", "--nproc", 2, "--json"),
        "weight-gap": call(folder, "weight-gap"),
        "report": call(folder, "report", "to", "markdown"),
    }


def sweep(folder):
    values = ["--values", "1e-300,0.5"]
    return call(folder, "sweep", "temperature", *SHORT, *values, "--nproc", 1)


def refused(folder):
    return call(folder, "pretrain", *SHORT, "training.batch_size=65", "--nproc", 1)


@pytest.fixture(scope="module")
def two_cores():
    """No more cores than two for what starts, so that each of two processes has one thread."""
    if not hasattr(os, "sched_setaffinity"):
        pytest.skip("needs processor affinity")
    allowed = os.sched_getaffinity(0)
    os.sched_setaffinity(0, sorted(allowed)[:2])
    yield
    os.sched_setaffinity(0, allowed)


@pytest.fixture(scope="module")
def started(two_cores, tmp_path_factory):
    """All of the above, two at a time, so that one starts up while another computes."""
    with ThreadPoolExecutor(2) as pool:
        yield {
            pipeline: pool.submit(pipeline, tmp_path_factory.mktemp("study"))
            for pipeline in (whole_study, sweep, refused)
        }
        pool.shutdown(cancel_futures=True)


@pytest.fixture(scope="module")
def whole(started):
    return started[whole_study].result()


@pytest.fixture(scope="module")
def uninterrupted(one_process, tmp_path_factory):
    """The same study, trained here by one process with one thread."""
    run = RunDirectory(tmp_path_factory.mktemp("uninterrupted") / "run")
    context = replace(one_process, events_file=run.events_file)
    train(context, TrainingJob(load_study(None, STUDY), run.path))
    return run


def final_weights(run):
    return {name: checkpoint_file(run, name, EPOCHS).read_bytes() for name in NAMES}


@pytest.mark.parametrize("command", ["pretrain", "eval-alignment", "weight-gap", "report"])
def test_every_command_of_a_study_succeeds_and_warns_of_nothing(whole, command):
    assert whole[command].code == 0, whole[command].stderr
    progress = "evaluating epoch " if command == "eval-alignment" else None  # it has --json
    unexpected = [
        line
        for line in whole[command].stderr.splitlines()
        if progress is None or not line.startswith(progress)
    ]
    assert unexpected == []


def test_a_study_leaves_everything_in_its_run_directory(whole):
    run = whole["pretrain"].run
    checkpoints = [
        f"checkpoints/{name}/epoch_{epoch:04d}.safetensors"
        for name in NAMES
        for epoch in (0, 2, 4, 6, 8, 10)
    ]
    files = [*(f"{name}.pt" for name in NAMES), "training.parquet", "state.json"]
    states = [f"state/step_{4 * EPOCHS:010d}/{file}" for file in files]
    gaps = [f"weight_gap/cl_vs_{name}.csv" for name in NAMES[1:]]
    found = {str(path.relative_to(run.path)) for path in run.path.rglob("*") if path.is_file()}
    figures = {name for name in found if name.startswith("report/figures/")}
    assert found - figures == {
        "config.yaml", "manifest.json", "events.jsonl", "training.parquet",
        "alignment/train_alignment.csv", "alignment/test_alignment.csv",
        "alignment/alignment.parquet", "weight_gap/weight_gap.parquet", "report/report.md",
        *checkpoints, *states, *gaps,
    }  # fmt: skip
    assert figures


def test_without_a_terminal_each_epoch_is_one_line(whole):
    lines = [line for line in whole["pretrain"].stdout.splitlines() if line.startswith("epoch ")]
    first = whole["manifest when killed"].finished_epochs + 1
    numbers = [f"epoch {epoch:>4}/{EPOCHS}  cl " for epoch in range(first, EPOCHS + 1)]
    assert [line[: len(number)] for line, number in zip(lines, numbers, strict=True)] == numbers
    assert all(f"  {name} " in line for name in NAMES for line in lines)
    assert "\x1b" not in whole["pretrain"].stdout


def test_the_manifest_proves_a_common_start(whole):
    manifest = Manifest.read(whole["pretrain"].run.manifest_file)
    assert manifest.status == "finished"
    assert manifest.num_processes == 2
    assert list(manifest.initial_weights) == NAMES
    assert len(set(manifest.initial_weights.values())) == 1
    assert sorted(manifest.batches) == list(range(1, EPOCHS + 1))
    assert len(set(manifest.batches.values())) == EPOCHS


def test_every_saved_epoch_is_evaluated_and_measured(whole):
    run = whole["eval-alignment"].run
    alignment, gap = read_parquet(run.alignment_table), read_parquet(run.weight_gap_table)
    evaluated = alignment.groupby(["split", "metric", "objective"])["epoch"].apply(list)
    assert evaluated.tolist() == [[0, 2, 4, 6, 8, 10]] * (2 * 3 * 4)
    assert set(alignment["metric"]) == set(METRICS)
    measured = gap[gap["quantity"] == "mean"].groupby("objective")["epoch"].apply(list)
    assert measured.tolist() == [[0, 2, 4, 6, 8, 10]] * 4


def test_the_report_answers_with_the_numbers_of_the_tables(whole):
    report = (whole["report"].run.report / "report.md").read_text()
    answer = whole["report"].stdout.splitlines()[0]
    assert answer in report
    csv = pd.read_csv(whole["report"].run.alignment / "test_alignment.csv")
    last = csv[csv["Epoch"] == EPOCHS].iloc[0]
    closest = max(("nscl", "scl", "ce"), key=lambda name: last[f"{name.upper()}_CKA"])
    assert closest.upper() in answer
    assert f"{last[f'{closest.upper()}_CKA']:.3f}"[:-1] in report


def test_json_is_one_document_on_stdout(whole):
    result = json.loads(whole["eval-alignment"].stdout)
    assert (result["run"], result["representation"]) == ("runs/digits", "h")
    assert result["evaluated"] == 12
    table = read_parquet(whole["eval-alignment"].run.alignment_table)
    for column in ("reference", "objective", "metric", "value", "ci_low", "ci_high"):
        assert [row[column] for row in result["rows"]] == table[column].tolist()
    assert {row["p_value"] for row in result["rows"]} == {None}


def test_an_interrupted_run_says_so_and_stays_whole(whole):
    assert whole["interrupted"].code == 130
    assert whole["interrupted"].stderr == "error: interrupted\n"
    manifest = whole["manifest when interrupted"]
    assert (manifest.status, manifest.error) == ("interrupted", None)
    assert manifest.finished_epochs in (2, 4, 6, 8)


def test_a_killed_run_keeps_its_last_checkpoint(whole):
    assert whole["killed"].code == -signal.SIGKILL
    assert whole["manifest when killed"].status == "running"
    assert whole["manifest when killed"].finished_epochs in (6, 8)


def test_a_resumed_run_goes_on_after_its_last_checkpoint(whole):
    for earlier, later in (("interrupted", "killed"), ("killed", "pretrain")):
        epoch = whole[f"manifest when {earlier}"].finished_epochs
        assert f"going on after epoch {epoch}\n" in whole[later].stdout


def test_two_processes_twice_stopped_end_as_one_that_never_was(whole, uninterrupted):
    run = whole["pretrain"].run
    manifests = [Manifest.read(each.manifest_file) for each in (run, uninterrupted)]
    assert [manifest.num_processes for manifest in manifests] == [2, 1]
    assert manifests[0].batches == manifests[1].batches
    assert manifests[0].initial_weights == manifests[1].initial_weights
    assert read_parquet(run.training_table).equals(read_parquet(uninterrupted.training_table))
    assert final_weights(run) == final_weights(uninterrupted)
    assert saved_epochs(run, "ce") == saved_epochs(uninterrupted, "ce")


def test_a_failing_value_does_not_keep_a_sweep_from_the_others(started):
    ended = started[sweep].result()
    assert ended.code == 1
    heading, failure = ended.stderr.splitlines()
    assert heading == "error: these values failed:"
    assert failure.startswith("temperature=1e-300: objective 'cl': the loss is nan at epoch 1")
    folder = ended.folder / "runs" / "digits-temperature"
    hopeless, finished = (RunDirectory(folder / f"temperature={v}") for v in ("1e-300", "0.5"))
    assert Manifest.read(hopeless.manifest_file).status == "failed"
    assert Manifest.read(finished.manifest_file).status == "finished"
    table = pd.read_csv(folder / "sweep.csv")
    assert set(table["temperature"]) == {0.5}
    assert len(table) == len(read_parquet(finished.alignment_table)) == 2 * 2 * len(METRICS)


def test_what_a_worker_refuses_is_one_line_and_writes_nothing(started):
    ended = started[refused].result()
    assert ended.code == 2
    assert ended.stderr == (
        "error: training.batch_size: 65 images, but the train split has only 64\n"
    )
    assert ended.stdout == ""
    assert list(ended.folder.iterdir()) == []
