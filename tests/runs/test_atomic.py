import os
import subprocess
import sys

import pytest

from alignctl.errors import CheckpointError
from alignctl.runs.atomic import write_atomically, write_text


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def test_a_written_file_is_the_only_one_in_its_folder(tmp_path):
    path = tmp_path / "new" / "folder" / "file.txt"
    write_text(path, "häh")
    assert path.read_text(encoding="utf-8") == "häh"
    assert names(path.parent) == ["file.txt"]


def test_writing_again_replaces_the_whole_file(tmp_path):
    path = tmp_path / "file.txt"
    write_text(path, "a long text")
    write_text(path, "short")
    assert path.read_text() == "short"


def test_readers_see_the_old_file_until_the_new_one_is_whole(tmp_path):
    path = tmp_path / "file.txt"
    write_text(path, "old")

    def write(beside):
        assert beside.parent == path.parent  # a rename is atomic on one file system only
        beside.write_text("half")
        assert path.read_text() == "old"
        beside.write_text("whole")

    write_atomically(path, write)
    assert path.read_text() == "whole"


@pytest.mark.parametrize("error", [KeyboardInterrupt, ValueError])
def test_an_interrupted_write_leaves_the_old_file_and_nothing_beside_it(tmp_path, error):
    path = tmp_path / "file.txt"
    write_text(path, "old")

    def write(beside):
        beside.write_text("half")
        raise error

    with pytest.raises(error):
        write_atomically(path, write)
    assert path.read_text() == "old"
    assert names(tmp_path) == ["file.txt"]


def test_a_process_killed_while_writing_leaves_the_old_file(tmp_path):
    path = tmp_path / "file.txt"
    write_text(path, "old")
    code = (
        "import os, pathlib, sys\n"
        "from alignctl.runs.atomic import write_atomically\n"
        "def write(beside):\n"
        "    beside.write_text('half')\n"
        "    os._exit(9)\n"
        "write_atomically(pathlib.Path(sys.argv[1]), write)\n"
    )
    assert subprocess.run([sys.executable, "-c", code, str(path)], check=False).returncode == 9
    assert path.read_text() == "old"
    write_text(path, "new")  # what the dead process left is in nobody's way
    assert path.read_text() == "new"


def test_a_refusing_disk_is_one_line_that_names_the_file(tmp_path):
    path = tmp_path / "file.txt"
    write_text(path, "old")

    def full(beside):
        beside.write_text("half")
        raise OSError(28, "No space left on device")

    with pytest.raises(CheckpointError) as error:
        write_atomically(path, full)
    assert str(error.value) == f"{path}: cannot be written: No space left on device"
    assert path.read_text() == "old"
    assert names(tmp_path) == ["file.txt"]


def test_a_file_in_the_place_of_a_folder_is_a_checkpoint_error(tmp_path):
    write_text(tmp_path / "file", "old")
    with pytest.raises(CheckpointError, match=r"file/inside\.txt: cannot be written: "):
        write_text(tmp_path / "file" / "inside.txt", "new")
    assert (tmp_path / "file").read_text() == "old"


def test_a_folder_in_the_place_of_the_file_stays(tmp_path):
    (tmp_path / "folder" / "inside").mkdir(parents=True)
    with pytest.raises(CheckpointError, match="folder: cannot be written: "):
        write_text(tmp_path / "folder", "new")
    assert names(tmp_path) == ["folder"]


@pytest.mark.skipif(
    not hasattr(os, "geteuid") or os.geteuid() == 0, reason="nothing is forbidden to root"
)
def test_a_folder_without_permission_is_a_checkpoint_error(tmp_path):
    tmp_path.chmod(0o500)
    try:
        with pytest.raises(CheckpointError, match="cannot be written: Permission denied"):
            write_text(tmp_path / "file.txt", "new")
    finally:
        tmp_path.chmod(0o700)
