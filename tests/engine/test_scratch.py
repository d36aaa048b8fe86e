import engine_workers
import pytest
from sessions import Session, launch_two, lives, needs_proc, noted_pids

from alignctl.engine.scratch import write_in_scratch
from alignctl.engine.stopping import Stopping, request_stop
from alignctl.errors import LaunchError, TrainingError


def test_the_folder_is_made_again_for_its_owner_alone(tmp_path):
    path = tmp_path / "gone" / "scratch" / "file"
    write_in_scratch(path, lambda file: file.write_text("x"))
    assert path.read_text() == "x"
    assert path.parent.stat().st_mode & 0o777 == 0o700


def test_what_cannot_be_made_is_an_error(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(NotADirectoryError):
        write_in_scratch(tmp_path / "file" / "x", lambda file: file.touch())


def test_workers_finish_though_the_folder_is_cleaned_under_them(tmp_path):
    assert launch_two(engine_workers.finish_without_scratch, tmp_path, stoppable=True) == [0, 1]


@needs_proc
def test_workers_stop_when_asked_though_the_folder_was_cleaned_under_them(tmp_path):
    with Session(tmp_path, "step_without_scratch", "stoppable") as session:
        session.wait_for_workers()
        session.terminate()
        assert session.end() == (0, "")
    first, second = session.results()
    assert first == second
    assert not list(session.scratch.iterdir()), "what was made again is gone"


def test_an_error_arrives_as_itself_though_the_folder_was_cleaned_under_it(tmp_path):
    with pytest.raises(TrainingError, match="epoch 3: größer als erlaubt"):
        launch_two(engine_workers.refuse_without_scratch, tmp_path, stoppable=True)


def test_a_worker_that_hangs_is_found_though_the_folder_was_cleaned_under_it(tmp_path):
    with pytest.raises(LaunchError, match="has made no progress for 2 s: it hangs"):
        launch_two(engine_workers.hang_without_scratch, tmp_path, stoppable=True, timeout_s=2)
    assert not any(lives(pid) for pid in noted_pids(tmp_path))


@pytest.mark.parametrize("moment", ["before the request", "after the request", "after one read"])
def test_workers_agree_whichever_files_are_removed(tmp_path, moment):
    folder = tmp_path / "scratch"
    folder.mkdir()
    first, second = (Stopping(folder, rank=rank, size=2) for rank in (0, 1))
    assert first.begins(3)
    assert second.begins(4)

    def clean():
        for path in folder.iterdir():
            path.unlink(missing_ok=True)
        folder.rmdir()

    if moment == "before the request":
        clean()
    request_stop(folder)
    if moment == "after one read":
        assert first.agreed_step(4) == 5
    if moment != "before the request":
        wait_until_both_published(folder)
        for path in folder.glob("not_begun_*"):
            path.unlink(missing_ok=True)
    assert first.agreed_step(4) == second.agreed_step(5) == 5


def wait_until_both_published(folder):
    for rank in (0, 1):
        engine_workers.wait_for(folder / f"not_begun_{rank}")
