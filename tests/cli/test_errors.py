"""Errors of the operating system: one line that names the path and the reason, and a code."""

import errno
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

LONG = "x" * 300


@pytest.fixture
def failing(call, monkeypatch):
    """A function of an error: how a command ends in whose midst it is raised."""

    def invoke(error):
        def fail(*_, **__):
            raise error

        monkeypatch.setattr("alignctl.config.load.load_study", fail)
        return call("config", "show", "digits")

    return invoke


@pytest.mark.parametrize(
    ("number", "code"),
    [
        (errno.EACCES, 1),
        (errno.EPERM, 1),
        (errno.EROFS, 1),
        (errno.ENOSPC, 1),
        (errno.EIO, 1),
        (errno.EMFILE, 1),
        (errno.ENOENT, 1),
        (errno.ESTALE, 1),
        (errno.ENAMETOOLONG, 2),
        (errno.ELOOP, 2),
        (errno.ENOTDIR, 2),
        (errno.EISDIR, 2),
    ],
)
def test_an_error_of_the_system_names_its_path_and_its_reason(failing, number, code):
    result = failing(OSError(number, os.strerror(number), "a/b"))
    assert result.stderr == f"error: a/b: {os.strerror(number)}\n"
    assert result.exit_code == code


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (OSError(errno.EXDEV, "Invalid link", "a", None, "b"), "a -> b: Invalid link"),
        (OSError(errno.EIO, "Broken disk", b"\xff"), r"\udcff: Broken disk"),
        (OSError(errno.EBADF, "Bad file descriptor", 7), "Bad file descriptor"),
        (OSError(errno.ENOSPC, "No space left on device"), "No space left on device"),
        (OSError("cannot parse\nmore of it"), "cannot parse"),
        (OSError(), "OSError"),
        (ConnectionResetError(errno.ECONNRESET, "Reset"), "Reset"),
        (UnicodeEncodeError("utf-8", "a\nb\udcff/c\nd", 3, 4, "no"), r"b\udcff/c: holds bytes that "
         "are no utf-8 text"),
        (DeprecationWarning("old\nstory"), "DeprecationWarning: old (an error because of "
         "PYTHONWARNINGS or -W)"),
    ],
)  # fmt: skip
def test_every_handled_error_is_one_line(failing, error, line):
    result = failing(error)
    assert result.stderr == f"error: {line}\n"
    assert result.exit_code == (2 if isinstance(error, UnicodeError) else 1)


def test_verbose_shows_where_the_system_refused(call):
    Path("a").symlink_to("a")
    result = call("pretrain", "a", "-v")
    assert "Traceback" in result.stderr
    assert result.stderr.endswith("error: a: Too many levels of symbolic links\n")


@pytest.fixture
def obstacles():
    """What may stand where a file or a folder is wanted."""
    Path("file").write_text("")
    Path("folder").mkdir()
    Path("loop").symlink_to("loop")
    os.mkfifo("pipe")


PLACES = [LONG, "file/x", "loop", "loop/x", "pipe", "/dev/null", "/dev/null/x"]


@pytest.mark.parametrize("place", [*PLACES, "folder", "\udcff"])
@pytest.mark.parametrize(
    "words",
    [
        ["pretrain", "PLACE"],
        ["pretrain", "--config", "PLACE"],
        ["sweep", "temperature", "PLACE"],
        ["config", "show", "PLACE"],
        ["config", "validate", "PLACE"],
        ["config", "convert", "PLACE"],
        ["eval-alignment", "PLACE"],
        ["weight-gap", "PLACE"],
        ["verify", "PLACE"],
        ["report", "to", "markdown", "PLACE"],
        ["compare", "PLACE", "PLACE"],
        ["weight-gap", "--checkpoints", "PLACE", "--output", "out"],
    ],
    ids=" ".join,
)
def test_what_cannot_be_read_is_one_line(check_refused, obstacles, words, place):
    check_refused([word.replace("PLACE", place) for word in words])


@pytest.mark.parametrize("place", [place for place in PLACES if place != LONG])
@pytest.mark.parametrize(
    "words",
    [
        ["report", "to", "markdown", "--output"],
        ["eval-alignment", "--output"],
        ["weight-gap", "--output"],
        ["config", "convert", "old.yaml", "--output"],
    ],
    ids=" ".join,
)
def test_what_cannot_become_a_folder_is_refused_before_hours_of_work(
    check_refused, dry_or_not, obstacles, finished_run, write_original, words, place
):
    if words[0] == "config":
        write_original()
        dry_or_not = []
    check_refused([*words, place, *dry_or_not], place.partition("/x")[0])


@pytest.mark.parametrize("place", ["loop", "pipe", "/dev/null", "file"])
def test_what_is_no_folder_is_no_run_directory(check_refused, dry_or_not, obstacles, place):
    for words in (["pretrain"], ["sweep", "temperature"]):
        check_refused([*words, "--run-dir", place, *dry_or_not], place, "choose another --run-dir")


def test_a_folder_behind_a_link_that_leads_nowhere_is_told_as_such(check_refused, dry_or_not):
    Path("away").symlink_to("/not/mounted")
    line = "away: is a link that leads nowhere; choose another --run-dir"
    for words in (["pretrain"], ["sweep", "temperature"]):
        check_refused([*words, "--run-dir", "away", *dry_or_not], line)


@pytest.mark.parametrize(
    "words",
    [
        ["pretrain", "--run-dir", LONG],
        ["pretrain", "--resume", "--run-dir", LONG],
        ["sweep", "temperature", "--run-dir", LONG],
        ["pretrain", f"{LONG}/x.yaml"],
        ["eval-alignment", f"folder/{LONG}"],
    ],
    ids=lambda words: " ".join(words)[:40],
)
def test_a_name_that_is_too_long_is_named(check_refused, obstacles, words):
    check_refused(words, LONG, "File name too long")


def test_a_run_of_a_name_that_is_no_text_is_refused_before_it_trains(check_refused, dry_or_not):
    for words in (["pretrain"], ["sweep", "temperature"]):
        place = ["--run-dir", "runs/\udcff", *dry_or_not]
        check_refused([*words, *place], r"\udcff: is not utf-8, the encoding of paths here")


@pytest.mark.parametrize("kind", [PermissionError, OSError])
def test_a_folder_that_may_not_be_read_is_one_line(call, monkeypatch, finished_run, kind):
    """root may read everything, so the refusal has to be made up."""
    reason = "Permission denied" if kind is PermissionError else "Input/output error"

    def refuse(path):
        raise kind(errno.EACCES if kind is PermissionError else errno.EIO, reason, str(path))

    monkeypatch.setattr(Path, "iterdir", refuse)
    for words in (["eval-alignment"], ["weight-gap"], ["verify"], ["report", "to", "markdown"],
                  ["pretrain", "--resume"]):  # fmt: skip
        result = call(*words)
        assert (result.exit_code, result.stderr) == (1, f"error: runs: {reason}\n")


GONE = """
import contextlib, io, json, os, sys
from pathlib import Path
Path("gone").mkdir()
os.chdir("gone")
Path("../gone").resolve().rmdir()
from alignctl.cli.app import main
ended = []
for words in json.loads(sys.argv[1]):
    sys.argv[1:] = words
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            main()
        except SystemExit as end:
            ended.append((end.code or 0, bool(out.getvalue()), err.getvalue()))
print(json.dumps(ended))
"""


def test_without_a_working_directory_help_is_there_and_all_else_says_why():
    works = [["--help"], ["--version"], ["pretrain", "--help"], ["compare", "-h"],
             ["config", "list"], ["config", "show", "digits"], ["config", "schema"]]  # fmt: skip
    refused = [["pretrain"], ["pretrain", "--run-dir", "/tmp/x", "--dry-run"], ["eval-alignment"],
               ["compare", "/a.npy", "/b.npy"], ["weight-gap", "x"], ["verify"], ["doctor"],
               ["sweep", "temperature"], ["report", "to", "markdown"],
               ["config", "validate", "cifar100_resnet50"],  # whose images lie in ./data
               ["config", "show", "digits", "dataset.name=parquet", "dataset.path=x"]]  # fmt: skip
    command = [sys.executable, "-c", GONE, json.dumps(works + refused)]
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    ended = json.loads(done.stdout)
    assert ended[: len(works)] == [[0, True, ""]] * len(works)
    line = "error: the working directory is gone; change to one that is there\n"
    assert ended[len(works) :] == [[1, False, line]] * len(refused)


def test_a_process_ends_with_the_code_that_its_streams_leave():
    """What the interpreter flushes at its end counts too."""
    script = (
        '"$0" -m alignctl config schema >/dev/full; echo $?;'
        '"$0" -m alignctl --version >/dev/full 2>&1; echo $?;'
        '"$0" -m alignctl config show digits | true; echo ${PIPESTATUS[0]};'
        '"$0" -m alignctl pretrain missing.yaml 2>/dev/full; echo $?'
    )
    done = subprocess.run(
        ["bash", "-c", script, sys.executable], check=False, capture_output=True, text=True
    )
    assert done.stdout.split() == ["1", "1", "0", "2"]
    assert done.stderr == "error: standard output: cannot be written: No space left on device\n"
