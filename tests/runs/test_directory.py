import os
from pathlib import Path

import pytest

from alignctl.errors import CheckpointError, ConfigError
from alignctl.runs import RunDirectory
from alignctl.runs.directory import find, is_sweep, newest, newest_of, next_free, sweep_file


@pytest.fixture(autouse=True)
def in_an_empty_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def make_dated_run(make_run):
    """A function of a name under ./runs and a start time: a run with that start time."""

    def make(name: str, started: int) -> Path:
        run = make_run(Path("runs") / name)
        os.utime(run.config_file, (started, started))
        return run.path

    return make


def make_sweep(name: str, started: int) -> Path:
    path = Path("runs") / name
    path.mkdir(parents=True)
    sweep_file(path).write_text("{}")
    os.utime(sweep_file(path), (started, started))
    return path


def test_the_config_of_a_run_is_the_study_that_was_written(make_study):
    study = make_study(seed=3)
    run = RunDirectory(Path("run"))
    run.write_config(study)
    assert RunDirectory(Path("run")).config == study


def test_a_run_exists_once_it_has_a_manifest(make_run):
    run = RunDirectory(Path("runs/a"))
    assert not run.exists
    run.path.mkdir(parents=True)
    assert not run.exists
    assert make_run(run.path).exists


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "cannot be read: No such file or directory"),
        (b"\xff\xff", "cannot be read: 'utf-8' codec can't decode"),
        (b"- 1", "holds no study"),
    ],
)
def test_a_config_that_cannot_be_read_is_named(content, message):
    run = RunDirectory(Path("run"))
    run.path.mkdir()
    if content is not None:
        run.config_file.write_bytes(content)
    with pytest.raises(CheckpointError) as error:
        _ = run.config
    assert str(error.value).startswith(f"run/config.yaml: {message}")


def test_an_invalid_config_of_a_run_names_its_file():
    run = RunDirectory(Path("run"))
    run.path.mkdir()
    run.config_file.write_text("surprise: 1")
    with pytest.raises(ConfigError, match=r"run/config\.yaml: "):
        _ = run.config


def test_the_next_free_name_is_the_first_that_nothing_has():
    assert next_free("digits") == Path("runs/digits")
    Path("runs/digits").mkdir(parents=True)
    assert next_free("digits") == Path("runs/digits-2")
    Path("runs/digits-3").mkdir()
    assert next_free("digits") == Path("runs/digits-2")
    Path("runs/digits-2").touch()  # a file is in the way too
    assert next_free("digits") == Path("runs/digits-4")


def test_the_newest_run_is_the_one_started_last(make_dated_run):
    make_dated_run("b", 300)
    make_dated_run("a", 200)
    make_dated_run("c", 100)
    assert newest() == Path("runs/b")


def test_later_work_on_a_run_does_not_make_it_the_newest(make_dated_run):
    old = make_dated_run("old", 100)
    make_dated_run("new", 200)
    os.utime(RunDirectory(old).manifest_file, (900, 900))
    (old / "alignment").mkdir()
    assert newest() == Path("runs/new")


def test_folders_without_a_manifest_are_no_runs(make_dated_run):
    make_dated_run("a", 100)
    Path("runs/notes").mkdir()
    Path("runs/file.txt").touch()
    assert newest() == Path("runs/a")


def test_sweeps_count_only_where_they_are_asked_for(make_dated_run):
    make_dated_run("a", 100)
    make_sweep("s", 200)
    assert newest() == Path("runs/a")
    assert newest(sweeps=True) == Path("runs/s")


@pytest.mark.parametrize("folder", [None, "runs", "runs/empty"])
def test_without_any_run_the_error_says_how_to_make_one(folder):
    if folder:
        Path(folder).mkdir(parents=True)
    with pytest.raises(ConfigError, match=r"no run under .*runs; start one with `alignctl pretr"):
        newest()


def test_the_newest_of_a_name_ignores_other_names(make_dated_run):
    for name, started in (("digits", 1), ("digits-2", 5), ("digits-10", 4), ("digits-x", 9)):
        make_dated_run(name, started)
    make_dated_run("digit", 8)
    assert newest_of("digits") == Path("runs/digits-2")
    assert newest_of("digits-2") == Path("runs/digits-2")
    assert newest_of("other") == Path("runs/other")


def test_a_name_with_dots_matches_only_itself(make_dated_run):
    make_dated_run("a.b", 1)
    make_dated_run("axb", 2)
    assert newest_of("a.b") == Path("runs/a.b")


def test_a_run_is_found_by_name_by_path_and_without_either(make_dated_run, monkeypatch):
    path = make_dated_run("a", 100)
    assert find("a") == path
    assert find("runs/a") == path
    assert find(str(path.absolute())) == path.absolute()
    assert find(None) == path
    monkeypatch.chdir("runs")
    assert find("a") == Path("a")


def test_a_folder_of_the_same_name_here_does_not_hide_the_run(make_dated_run):
    path = make_dated_run("digits", 100)
    Path("digits").mkdir()
    assert find("digits") == path


def test_an_unknown_run_names_the_nearest_one(make_dated_run):
    make_dated_run("digits", 100)
    make_dated_run("digits-2", 100)
    with pytest.raises(ConfigError) as error:
        find("digit")
    assert str(error.value) == "digit: not a run directory; did you mean 'digits'?"
    with pytest.raises(ConfigError) as error:
        find("zzz")
    assert str(error.value) == "zzz: not a run directory; there are digits, digits-2 under ./runs"


def test_an_unknown_run_where_there_is_none_says_so():
    with pytest.raises(ConfigError) as error:
        find("digits")
    assert str(error.value) == "digits: not a run directory; there are none under ./runs"


def test_a_sweep_in_the_place_of_a_run_names_its_runs(make_dated_run):
    path = make_sweep("s", 100)
    make_dated_run("s/temperature=0.5", 100)
    make_dated_run("s/temperature=0.1", 100)
    with pytest.raises(ConfigError) as error:
        find("s")
    message = "s: is a sweep; name one of its runs (temperature=0.1, temperature=0.5)"
    assert str(error.value) == message
    assert find("s", sweeps=True) == path
    assert find("s/temperature=0.1") == Path("runs/s/temperature=0.1")
    assert is_sweep(path)
    assert not is_sweep(path / "temperature=0.1")


def test_a_start_cut_short_leaves_the_folder_free(tmp_path, make_study):
    run = RunDirectory(tmp_path / "run")
    assert run.is_free
    run.write_config(make_study())
    (run.path / ".manifest.json.12.partial").write_text("{")
    (run.path / ".pretrain.lock").write_text("{}")
    assert run.is_free


@pytest.mark.parametrize("name", ["thesis.txt", "poetry.lock"])
def test_a_folder_with_anything_else_is_not_free(tmp_path, name):
    (tmp_path / name).write_text("")
    assert not RunDirectory(tmp_path).is_free
