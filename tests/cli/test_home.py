"""`~` stands for the home folder in every path, where no shell has replaced it already."""

from pathlib import Path

import numpy as np
import pytest

from alignctl.commands import eval_alignment, pretrain, report, sweep, weight_gap
from alignctl.commands.subject import of_run, subject_of
from alignctl.config.base import expanded


@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch):
    """A home of its own, which is not the working directory."""
    folder = tmp_path / "home"
    folder.mkdir()
    monkeypatch.setenv("HOME", str(folder))
    return folder


@pytest.fixture
def run_at_home(home, make_run):
    return make_run(home / "runs/tiny")


@pytest.fixture
def snapshots_at_home(home, save_snapshot):
    for name in ("dcl", "nscl"):
        save_snapshot(home / f"theirs/{name}/snapshot_0.pth", {})
    return home / "theirs"


def test_results_go_to_a_folder_at_home(plan_of, home, run_at_home):
    def planned(key, *words):
        return plan_of(*words)[key]

    there = str(home / "o")
    assert planned("run", "pretrain", "--run-dir=~/o") == there
    assert planned("sweep", "sweep", "temperature", "--run-dir=~/o") == there
    report_file = planned("report", "report", "to", "markdown", "~/runs/tiny", "--output=~/o")
    assert report_file == f"{there}/report.md"


def test_a_run_at_home_is_found(plan_of, run_at_home):
    there = str(run_at_home.path)
    for words in (["eval-alignment"], ["weight-gap"]):
        assert plan_of(*words, "~/runs/tiny", "--output=~/o")["run"] == there
    assert plan_of("verify", "~/runs/tiny")["runs"] == [there]
    assert plan_of("pretrain", "--resume", "--run-dir=~/runs/tiny")["run"] == there


def test_checkpoints_at_home_are_found(plan_of, home, snapshots_at_home):
    plan = plan_of("weight-gap", "--checkpoints=~/theirs", "--output=~/o")
    assert plan["checkpoints"] == str(snapshots_at_home)
    assert plan["run"] == str(home / "o")


def test_a_study_at_home_is_found_and_one_is_written_there(call, home, write_study, write_original):
    Path(write_study()).rename(home / "mine.yaml")
    Path(write_original()).rename(home / "old.yaml")
    for words in (["pretrain", "--dry-run"], ["pretrain", "--dry-run", "--config"],
                  ["config", "show"], ["config", "validate"]):  # fmt: skip
        assert call(*words, "~/mine.yaml").exit_code == 0
    assert call("config", "convert", "~/old.yaml", "--output=~/new.yaml").exit_code == 0
    assert (home / "new.yaml").is_file()
    assert not Path("~").exists()


def test_features_at_home_are_read(call, home):
    np.save(home / "a.npy", np.eye(6)[:, :3])
    result = call("compare", "~/a.npy", "~/a.npy", "--metric=procrustes")
    assert result.exit_code == 0, result.stderr


def test_plans_from_python_expand_it_too(home, run_at_home, snapshots_at_home):
    output = Path("~/o")
    nowhere = {"run_dir": output, "nproc": "auto"}
    assert pretrain.plan(None, (), **nowhere, resume=False).run == home / "o"
    swept = sweep.plan("temperature", None, (), values="0.5", **nowhere)
    assert swept.sweep.path == home / "o"
    assert report.plan(["~/runs/tiny"], output=output).folder == home / "o"
    subject = of_run("~/runs/tiny", output)
    assert (subject.run.path, subject.output) == (run_at_home.path, home / "o")
    for plan in (
        weight_gap.plan("~/runs/tiny", reference="cl", compare=()),
        eval_alignment.plan("~/runs/tiny", eval_alignment.EvalOptions()),
    ):
        assert plan.run.path == run_at_home.path
    adopted = subject_of(
        (), config=None, checkpoints=Path("~/theirs"), output=output, needs_config=False
    )
    assert adopted.run.path == home / "o"


def test_a_home_that_nobody_has_is_a_plain_name(plan_of):
    assert (
        plan_of("pretrain", "--run-dir=~nobody-of-this-name/o")["run"] == "~nobody-of-this-name/o"
    )


@pytest.mark.parametrize("place", ["a/~", "a~", "/~/o", "a/~root", "", "é"])
def test_a_tilde_elsewhere_is_a_letter(place):
    assert expanded(place) == Path(place)


def test_a_first_word_that_names_a_file_is_a_study_though_it_has_an_equals_sign(
    plan_of, home, write_study
):
    for place in (Path("lr=0.1/f.yaml"), home / "seed=1.yaml", Path("temperature=0.2")):
        place.parent.mkdir(exist_ok=True)
        Path(write_study(seed=5)).rename(place)
    for word in ("lr=0.1/f.yaml", "~/seed=1.yaml", "temperature=0.2"):
        assert plan_of("pretrain", word, "temperature=0.3")["study"]["seed"] == 5
        assert plan_of("sweep", "temperature", word)["study"]["seed"] == 5
    Path("seed=7").mkdir()
    assert plan_of("pretrain", "seed=7")["study"]["name"] == "digits"
    assert plan_of("pretrain", f"objectives=[{' ' * 300}cl]")["study"]["name"] == "digits"


def test_a_home_that_nobody_has_is_a_path_like_any_other(call):
    for words in (["weight-gap"], ["eval-alignment"], ["verify"]):
        ended = call(*words, "~nosuchuser/x")
        assert (ended.exit_code, ended.stderr.partition(";")[0]) == (
            2, "error: ~nosuchuser/x: not a run directory"
        )  # fmt: skip


def test_a_place_of_data_that_is_too_long_for_a_name_is_one_line(call):
    place = f"/{'y' * 300}"
    words = ["dataset.name=image_folder", f"dataset.path={place}", "--dry-run"]
    ended = call("pretrain", "digits", *words)
    assert ended.exit_code == 2
    assert ended.stderr == f"error: dataset.path: {place}: File name too long\n"
