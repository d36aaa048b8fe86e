"""Whole studies through the command line, each command a process of its own."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from alignctl.runs import Manifest, RunDirectory
from alignctl.runs.checkpoints import checkpoint_file, resumable_epoch, saved_epochs
from alignctl.runs.tables import read_parquet

NAMES = ["cl", "dcl", "nscl", "scl", "ce"]
EPOCHS = 10
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

    @property
    def error(self) -> str:
        """The one error line."""
        assert self.stderr.startswith("error: ")
        assert self.stderr.count("\n") == 1, self.stderr
        return self.stderr.removeprefix("error: ").rstrip("\n")


def start(folder, *words):
    return subprocess.Popen(
        [sys.executable, "-m", "alignctl", *map(str, words)],
        cwd=folder,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def end(process, folder):
    try:
        stdout, stderr = process.communicate(timeout=170)
    except subprocess.TimeoutExpired:
        process.kill()
        raise
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
    """The five commands, one after the other, RUN omitted."""
    return {
        "pretrain": call(folder, "pretrain", *STUDY, "--nproc", 2),
        "eval-alignment": call(folder, "eval-alignment", "--nproc", 2),
        "again": call(folder, "eval-alignment", "--json"),
        "weight-gap": call(folder, "weight-gap"),
        "report": call(folder, "report", "to", "markdown"),
    }


def interrupted_study(folder):
    """The same training, interrupted once and killed once."""
    run = RunDirectory(folder / "runs" / "digits")
    process = start(folder, "pretrain", *STUDY, "--nproc", 2)
    wait_for_epoch(process, run, 3)
    os.killpg(process.pid, signal.SIGINT)  # as a terminal does
    interrupted = end(process, folder)
    manifest_then = Manifest.read(run.manifest_file)
    process = start(folder, "pretrain", "--resume", "--nproc", 2)
    wait_for_epoch(process, run, 7)
    process.kill()
    killed = end(process, folder)
    manifest_killed = Manifest.read(run.manifest_file)
    return {
        "interrupted": interrupted,
        "manifest when interrupted": manifest_then,
        "killed": killed,
        "manifest when killed": manifest_killed,
        "resumed": call(folder, "pretrain", "--resume", "--nproc", 2),
        "finished already": call(folder, "pretrain", "--resume", "--json"),
    }


def sweeps(folder):
    """One value that fails and one that does not; then another value beside the finished one."""
    hopeless = call(folder, "sweep", "temperature", *SHORT, "--values", "1e-300,0.5")
    table = folder / "sweep_then.csv"
    shutil.copy(folder / "runs" / "digits-temperature" / "sweep.csv", table)
    return {
        "first": hopeless,
        "second": call(folder, "sweep", "temperature", *SHORT, "--values", "0.5,1.0", "--json"),
        "report": call(folder, "report", "to", "markdown"),
    }


def one_process(folder):
    return call(folder, "pretrain", *STUDY, "--nproc", 1, "--json")


def write_images(folder):
    """Two classes of four images each for training and one each for testing; one is damaged."""
    stream = np.random.default_rng(0)
    for split, count in (("train", 4), ("test", 1)):
        for name in ("ant", "bee"):
            (folder / split / name).mkdir(parents=True)
            for number in range(count):
                pixels = stream.integers(256, size=(8, 8, 3), dtype=np.uint8)
                Image.fromarray(pixels).save(folder / split / name / f"{number}.png")
    damaged = folder / "train" / "bee" / "2.png"
    damaged.write_bytes(damaged.read_bytes()[:60])


def refused(*words):
    def pipeline(folder):
        write_images(folder / "images")
        (folder / "a file").touch()
        return call(folder, "pretrain", *SHORT, *words, "--nproc", 1)

    return pipeline


def images_in(path):
    return f"dataset={{name: image_folder, path: {path}}}"


# Words, exit code, what the one line says.
REFUSED = {
    "corrupt image": ([images_in("images")], 1, "images/train/bee/2.png: not a readable image"),
    "no train folder": ([images_in("images/test")], 2, "has no folder train/"),
    "batch too large": (
        ["training.batch_size=65"], 2,
        "training.batch_size: 65 images, but the train split has only 64",
    ),
    "one class only": (["dataset.classes=1"], 2, "dataset.classes: one class only, '0'"),
    "too many classes": (["dataset.classes=11"], 2, "dataset.classes: 11 is more than the 10"),
    "no permission": (["--run-dir", "a file/run"], 1, "a file/run/config.yaml: cannot be written"),
    "loss not finite": (
        ["training.optimizer.learning_rate=1e30", "training.clip_norm=null"], 1,
        "objective 'cl': the loss is nan at epoch 1, step 2",
    ),
}  # fmt: skip


@pytest.fixture(scope="module")
def started(tmp_path_factory):
    """All of the above, two at a time, so that one starts up while another computes."""
    pipelines = {
        "whole": whole_study, "interrupted": interrupted_study, "one": one_process, "sweeps": sweeps,
        **{name: refused(*words) for name, (words, _, _) in REFUSED.items()},
    }  # fmt: skip
    with ThreadPoolExecutor(2) as pool:
        yield {
            name: pool.submit(pipeline, tmp_path_factory.mktemp("study"))
            for name, pipeline in pipelines.items()
        }
        pool.shutdown(cancel_futures=True)


@pytest.fixture(scope="module")
def whole(started):
    return started["whole"].result()


@pytest.fixture(scope="module")
def interrupted(started):
    return started["interrupted"].result()


@pytest.fixture(scope="module")
def swept(started):
    return started["sweeps"].result()


def final_weights(run):
    return {name: checkpoint_file(run, name, EPOCHS).read_bytes() for name in NAMES}


@pytest.mark.parametrize("command", ["pretrain", "eval-alignment", "again", "weight-gap", "report"])
def test_every_command_of_a_study_succeeds_and_says_nothing_on_stderr(whole, command):
    assert whole[command].stderr == ""
    assert whole[command].code == 0


def test_a_study_leaves_everything_in_its_run_directory(whole):
    run = whole["pretrain"].run
    checkpoints = [
        f"checkpoints/{name}/epoch_{epoch:04d}.safetensors"
        for name in NAMES
        for epoch in (0, 2, 4, 6, 8, 10)
    ]
    states = [f"state/epoch_0010/{name}.pt" for name in NAMES]
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
    lines = whole["pretrain"].stdout.splitlines()
    epochs = [line for line in lines if line.startswith("epoch ")]
    assert len(epochs) == EPOCHS
    assert all(f"{name} " in line for name in NAMES for line in epochs)
    assert "\x1b" not in whole["pretrain"].stdout


def test_the_manifest_proves_a_common_start(whole):
    manifest = Manifest.read(whole["pretrain"].run.manifest_file)
    assert manifest.status == "finished"
    assert manifest.num_processes == 2
    assert list(manifest.initial_weights) == NAMES
    assert len(set(manifest.initial_weights.values())) == 1
    assert sorted(manifest.batches) == list(range(1, EPOCHS + 1))
    assert len(set(manifest.batches.values())) == EPOCHS


def test_every_saved_epoch_is_evaluated_once(whole):
    evaluated = json.loads(whole["again"].stdout)
    assert evaluated["evaluated"] == 0
    rows = pd.DataFrame(evaluated["rows"])
    assert rows.groupby(["split", "metric", "objective"])["epoch"].apply(list).tolist() == [
        [0, 2, 4, 6, 8, 10]
    ] * (2 * 2 * 4)
    assert "12 new evaluations" in whole["eval-alignment"].stdout


def test_the_report_answers_with_the_numbers_of_the_tables(whole):
    report = (whole["report"].run.report / "report.md").read_text()
    answer = whole["report"].stdout.splitlines()[0]
    assert answer in report
    csv = pd.read_csv(whole["report"].run.alignment / "test_alignment.csv")
    last = csv[csv["Epoch"] == EPOCHS].iloc[0]
    closest = max(("nscl", "scl", "ce"), key=lambda name: last[f"{name.upper()}_CKA"])
    assert closest.upper() in answer
    assert f"{last[f'{closest.upper()}_CKA']:.3f}"[:-1] in report


def test_one_process_sees_the_same_batches_and_finds_the_same_losses(whole, started):
    alone = started["one"].result()
    assert alone.code == 0, alone.stderr
    one, two = (Manifest.read(ended.run.manifest_file) for ended in (alone, whole["pretrain"]))
    assert (one.num_processes, two.num_processes) == (1, 2)
    assert one.batches == two.batches
    assert one.initial_weights == two.initial_weights
    tables = [read_parquet(ended.run.training_table) for ended in (alone, whole["pretrain"])]
    keys = ["epoch", "step", "objective", "learning_rate"]
    assert tables[0][keys].equals(tables[1][keys])
    first = tables[0]["epoch"] == 1  # rounding grows from step to step
    np.testing.assert_allclose(tables[0]["loss"][first], tables[1]["loss"][first], rtol=1e-4)


def test_json_is_one_document_on_stdout(started):
    alone = started["one"].result()
    result = json.loads(alone.stdout)
    assert result["run"] == "runs/digits"
    assert (result["objectives"], result["epochs"]) == (NAMES, EPOCHS)
    means = read_parquet(alone.run.training_table).groupby(["epoch", "objective"])["loss"].mean()
    assert result["losses"] == {name: means[EPOCHS, name] for name in NAMES}
    digests = Manifest.read(alone.run.manifest_file).initial_weights
    assert {result["initial_weights"]} == set(digests.values())


def test_an_interrupted_run_says_so_and_stays_whole(interrupted):
    assert interrupted["interrupted"].code == 130
    assert interrupted["interrupted"].error == "interrupted"
    manifest = interrupted["manifest when interrupted"]
    assert (manifest.status, manifest.error) == ("interrupted", None)
    assert manifest.finished_epochs in (2, 4, 6, 8)


def test_a_killed_run_is_left_as_running(interrupted):
    assert interrupted["killed"].code == -signal.SIGKILL
    manifest = interrupted["manifest when killed"]
    assert manifest.finished_epochs in (6, 8)
    before = interrupted["manifest when interrupted"].finished_epochs
    assert f"going on after epoch {before}" in interrupted["killed"].stdout


def test_a_resumed_run_ends_as_one_that_was_never_interrupted(whole, interrupted):
    resumed = interrupted["resumed"]
    assert (resumed.code, resumed.stderr) == (0, "")
    before = interrupted["manifest when killed"].finished_epochs
    assert f"going on after epoch {before}" in resumed.stdout
    run, uninterrupted = resumed.run, whole["pretrain"].run
    assert read_parquet(run.training_table).equals(read_parquet(uninterrupted.training_table))
    assert final_weights(run) == final_weights(uninterrupted)
    manifests = [Manifest.read(each.manifest_file) for each in (run, uninterrupted)]
    assert manifests[0].batches == manifests[1].batches
    assert manifests[0].status == "finished"
    assert saved_epochs(run, "ce") == saved_epochs(uninterrupted, "ce")


def test_resuming_a_finished_run_changes_nothing(interrupted):
    again = interrupted["finished already"]
    assert again.code == 0
    assert json.loads(again.stdout)["epochs"] == EPOCHS
    assert again.run.events_file.read_text().count('"event": "start"') == 3


def test_a_failing_value_does_not_keep_a_sweep_from_the_others(swept):
    first = swept["first"]
    assert first.code == 1
    assert first.stderr.startswith(
        "error: these values failed:\ntemperature=1e-300: objective 'cl'"
    )
    table = pd.read_csv(first.folder / "sweep_then.csv")
    assert set(table["temperature"]) == {0.5}
    sweep = first.folder / "runs" / "digits-temperature"
    hopeless, finished = (RunDirectory(sweep / f"temperature={v}") for v in ("1e-300", "0.5"))
    assert Manifest.read(hopeless.manifest_file).status == "failed"
    assert Manifest.read(finished.manifest_file).status == "finished"
    assert finished.config.temperature == 0.5


def test_a_sweep_started_again_skips_what_is_finished_and_adds_values(swept):
    second = swept["second"]
    assert (second.code, second.stderr.count("error")) == (0, 0)
    sweep = second.folder / "runs" / "digits-temperature"
    runs = {value: RunDirectory(sweep / f"temperature={value}") for value in (0.5, 1.0)}
    for run in runs.values():
        assert run.events_file.read_text().count('"event": "start"') == 1
        assert run.events_file.read_text().count('"event": "epoch"') == 1
    table = pd.read_parquet(sweep / "sweep.parquet")
    assert table.equals(pd.read_csv(sweep / "sweep.csv")[table.columns])
    for value, run in runs.items():
        own = table[table["temperature"] == value].drop(columns="temperature")
        pd.testing.assert_frame_equal(
            own.reset_index(drop=True), read_parquet(run.alignment_table), check_dtype=False
        )
    result = json.loads(second.stdout)
    assert result["failures"] == {}
    assert {row["temperature"] for row in result["rows"]} == {0.5, 1.0}


def test_a_sweep_is_reported_over_its_values(swept):
    assert (swept["report"].code, swept["report"].stderr) == (0, "")
    folder = swept["report"].folder / "runs" / "digits-temperature" / "report"
    assert "temperature" in (folder / "report.md").read_text()


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_work_is_one_line_with_its_cause_and_nothing_half_written(started, name):
    ended = started[name].result()
    _, code, message = REFUSED[name]
    assert message in ended.error
    assert ended.code == code
    written = {str(path.relative_to(ended.folder)) for path in ended.folder.iterdir()}
    if name != "loss not finite":
        assert written == {"images", "a file"}
        assert (ended.folder / "a file").is_file()


def test_a_failed_run_keeps_no_weights_of_the_failing_epoch(started):
    run = started["loss not finite"].result().run
    manifest = Manifest.read(run.manifest_file)
    assert manifest.status == "failed"
    assert manifest.error.startswith("objective 'cl': the loss is nan at epoch 1, step 2")
    assert manifest.finished_epochs == 0
    assert saved_epochs(run, "cl") == saved_epochs(run, "nscl") == [0]
    assert resumable_epoch(run, ("cl", "nscl"), at_most=EPOCHS) == 0
    assert not [path for path in run.path.rglob("*") if path.name.endswith(".partial")]
