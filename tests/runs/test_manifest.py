import json
import subprocess
from importlib.metadata import version

import pytest
from pydantic import ValidationError

from alignctl.errors import CheckpointError
from alignctl.runs import Manifest
from alignctl.runs.manifest import git_commit, machine, now, package_versions


def test_a_manifest_comes_back_as_it_was_written(tmp_path, make_manifest):
    manifest = make_manifest(status="failed", error="why: because", batches={1: "a", 20: "b"})
    manifest.write(tmp_path / "manifest.json")
    assert Manifest.read(tmp_path / "manifest.json") == manifest
    assert json.loads((tmp_path / "manifest.json").read_text())["schema_version"] == 2


def test_an_update_changes_a_copy_and_moves_the_clock(make_manifest):
    manifest = make_manifest(status="running")
    later = manifest.updated(status="finished", finished_epochs=3)
    assert (later.status, later.finished_epochs) == ("finished", 3)
    assert later.updated_at > manifest.updated_at
    assert later.started_at == manifest.started_at
    assert manifest.status == "running"
    with pytest.raises(ValidationError, match="frozen"):
        manifest.status = "failed"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"{", "cannot be read: "),
        (b"", "cannot be read: "),
        (b"\xff\xfe", "cannot be read: "),
        (b"[]", "schema version None; this alignctl reads up to 2"),
        (b'{"schema_version": 3}', "schema version 3; this alignctl reads up to 2"),
        (b'{"schema_version": 1}', "name: Field required"),
    ],
)
def test_a_damaged_or_newer_manifest_is_one_line_that_says_so(tmp_path, content, message):
    path = tmp_path / "manifest.json"
    path.write_bytes(content)
    with pytest.raises(CheckpointError) as error:
        Manifest.read(path)
    assert str(error.value).startswith(f"{path}: {message}")
    assert "\n" not in str(error.value)


def test_a_missing_manifest_is_a_checkpoint_error(tmp_path):
    with pytest.raises(CheckpointError, match=r"manifest\.json: cannot be read: "):
        Manifest.read(tmp_path / "manifest.json")


@pytest.mark.parametrize("change", [{"status": "stopped"}, {"surprise": 1}])
def test_a_manifest_holds_nothing_unknown(tmp_path, make_manifest, change):
    path = tmp_path / "manifest.json"
    path.write_text(json.dumps({**make_manifest().model_dump(mode="json"), **change}))
    with pytest.raises(CheckpointError, match=next(iter(change))):
        Manifest.read(path)


def test_times_are_in_utc_to_the_second():
    assert now().endswith("+00:00")
    assert len(now()) == len("2025-01-02T03:04:05+00:00")


def test_versions_are_those_of_the_installed_packages():
    found = package_versions()
    assert found["torch"] == version("torch")
    assert found["numpy"] == version("numpy")
    assert {"python", "alignctl", "torchvision", "pandas", "safetensors"} <= set(found)


def test_the_machine_names_its_device_and_cores():
    found = machine("NVIDIA H100")
    assert found["device"] == "NVIDIA H100"
    assert int(found["cores"]) >= 1
    assert found["processor"]


@pytest.fixture
def repository(tmp_path, monkeypatch):
    """A git repository with one commit, and a function that runs git in it."""
    for role in ("AUTHOR", "COMMITTER"):
        monkeypatch.setenv(f"GIT_{role}_NAME", "nobody")
        monkeypatch.setenv(f"GIT_{role}_EMAIL", "nobody@example.org")

    def git(*words: str) -> str:
        command = ["git", "-C", str(tmp_path), *words]
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()

    git("init", "--quiet")
    (tmp_path / "file").write_text("one")
    git("add", "file")
    git("commit", "--quiet", "--no-gpg-sign", "--message", "one")
    return tmp_path, git


def test_the_commit_is_the_full_hash_marked_where_files_differ(repository):
    folder, git = repository
    commit = git("rev-parse", "HEAD")
    assert git_commit(folder) == commit
    (folder / "file").write_text("two")
    assert git_commit(folder) == f"{commit}-dirty"


def test_the_commit_of_a_tagged_release_is_its_hash_too(repository):
    folder, git = repository
    git("tag", "--annotate", "v1.0", "--message", "one", "--no-sign")
    assert git_commit(folder) == git("rev-parse", "HEAD")


def test_there_is_no_commit_outside_git(tmp_path, monkeypatch):
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    assert git_commit(tmp_path) is None
    assert git_commit(tmp_path / "missing") is None


def test_there_is_no_commit_where_git_is_not_installed(repository, monkeypatch):
    monkeypatch.setenv("PATH", "")
    assert git_commit(repository[0]) is None
