import hashlib
import json

import pandas as pd
import pytest
import torch

from alignctl.errors import CheckpointError
from alignctl.runs import RunDirectory
from alignctl.runs.states import (
    Found,
    SavedPoint,
    complete_state,
    drop_states,
    load_state,
    newest_state,
    save_state,
    state_folder,
    state_table,
)
from alignctl.runs.table_files import write_parquet

NAMES = ("cl", "ce")


@pytest.fixture
def run(tmp_path):
    return RunDirectory(tmp_path)


@pytest.fixture
def keep(run, make_manifest):
    """A function of a step: a whole state there."""

    def write(step, **manifest):
        files = {
            f"{name}.pt": save_state(run, step, name, {"step": step, "w": torch.ones(9) * step})
            for name in NAMES
        }
        write_parquet(state_table(run, step), pd.DataFrame({"epoch": [step]}))
        point = SavedPoint(
            step=step,
            manifest=make_manifest(**manifest),
            fingerprints=((1, -(2**63)), (3, 4)),
            files=files,
        )
        complete_state(run, point)

    return write


def change_a_byte(path):
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def test_a_state_comes_back_with_tensors_plain_values_and_what_it_is_about(run, keep):
    keep(7, finished_epochs=2, batches={1: "ab", 2: "cd"}, checkpoints={0: {"cl": "ef"}})
    found = newest_state(run)
    assert found.problems == ()
    assert (found.point.step, found.point.fingerprints) == (7, ((1, -(2**63)), (3, 4)))
    assert found.point.manifest.batches == {1: "ab", 2: "cd"}
    assert found.point.manifest.checkpoints == {0: {"cl": "ef"}}
    state = load_state(run, 7, "ce")
    assert state["step"] == 7
    assert torch.equal(state["w"], torch.full((9,), 7.0))
    assert {path.name for path in state_folder(run, 7).iterdir()} == {
        "cl.pt", "ce.pt", "training.parquet", "state.json",
    }  # fmt: skip


def test_without_any_state_there_is_none(run):
    assert newest_state(run) == Found(None, ())


def test_the_newest_whole_state_is_the_one_to_go_on_from(run, keep):
    for step in (9, 100, 11):
        keep(step)
    save_state(run, 200, "cl", {})  # killed before the state was whole
    assert newest_state(run).point.step == 100
    assert newest_state(run).problems == ()


@pytest.mark.parametrize("file", ["cl.pt", "ce.pt", "training.parquet"])
@pytest.mark.parametrize("damage", ["changed", "cut", "lost"])
def test_a_damaged_state_is_named_and_the_one_before_it_used(run, keep, file, damage):
    keep(10)
    keep(20)
    path = state_folder(run, 20) / file
    if damage == "changed":
        change_a_byte(path)
    elif damage == "cut":
        path.write_bytes(path.read_bytes()[:-1])
    else:
        path.unlink()
    found = newest_state(run)
    assert found.point.step == 10
    (problem,) = found.problems
    assert problem.startswith(f"{path}: ")
    assert ("cannot be read" if damage == "lost" else "not the file that was written") in problem


@pytest.mark.parametrize(
    "text", ["", "{", "[]", '{"schema_version": 2}', '{"schema_version": 1, "step": 3}', "\x00" * 9]
)
def test_a_damaged_description_is_named_too(run, keep, text):
    keep(10)
    keep(20)
    path = state_folder(run, 20) / "state.json"
    path.write_text(text)
    found = newest_state(run)
    assert found.point.step == 10
    (problem,) = found.problems
    assert problem.startswith(f"{path}: cannot be read: ")
    assert "\n" not in problem


def test_a_state_is_read_by_a_version_whose_manifests_say_more(run, keep):
    keep(10)
    path = state_folder(run, 10) / "state.json"
    values = json.loads(path.read_text())
    del values["sha256"], values["manifest"]["training_data"]
    text = json.dumps(values, sort_keys=True)
    digest = hashlib.sha256(text.encode()).hexdigest()
    path.write_text(json.dumps({**values, "sha256": digest}))
    assert newest_state(run).point.step == 10


@pytest.mark.parametrize(
    ("written", "changed"),
    [('"step": 20', '"step": 21'), ('"finished_epochs": 10', '"finished_epochs": 11'),
     ("9223372036854775808", "9223372036854775807")],
)  # fmt: skip
def test_a_description_of_another_state_is_named_too(run, keep, written, changed):
    keep(10)
    keep(20)
    path = state_folder(run, 20) / "state.json"
    text = path.read_text()
    assert written in text
    path.write_text(text.replace(written, changed, 1))
    found = newest_state(run)
    assert found.point.step == 10
    assert found.problems == (f"{path}: damaged: it is not the file that was written",)


def test_old_states_go_and_so_do_unfinished_and_later_ones(run, keep):
    for step in (1, 5, 10, 30):
        keep(step)
    save_state(run, 7, "cl", {})
    drop_states(run, newest=10, finished=False)
    assert sorted(path.name for path in run.state.iterdir()) == [
        "step_0000000005", "step_0000000010",
    ]  # fmt: skip
    drop_states(run, newest=10, finished=True)
    assert [path.name for path in run.state.iterdir()] == ["step_0000000010"]


def test_the_bytes_of_a_state_follow_from_its_content(run):
    state = {"w": torch.arange(5.0), "groups": [{"lr": 0.1}]}
    first, second = (save_state(run, step, name, state) for step, name in ((1, "cl"), (22, "ce")))
    assert first == second


class Malicious:
    """What a pickle could run."""

    def __reduce__(self):
        return (exec, ("raise SystemExit('code from a checkpoint was run')",))


def test_a_state_never_runs_code(run):
    save_state(run, 3, "cl", {"payload": Malicious()})
    with pytest.raises(CheckpointError, match=r"cl\.pt: cannot be read: ") as error:
        load_state(run, 3, "cl")
    assert "\n" not in str(error.value)


def test_a_foreign_file_is_no_state(run):
    save_state(run, 3, "cl", {})
    torch.save([1, 2], state_folder(run, 3) / "cl.pt")
    with pytest.raises(CheckpointError, match=r"cl\.pt: holds no training state"):
        load_state(run, 3, "cl")


def test_a_description_says_what_it_says(run, keep):
    keep(3)
    values = json.loads((state_folder(run, 3) / "state.json").read_text())
    assert set(values) == {"schema_version", "step", "manifest", "fingerprints", "files", "sha256"}
    assert set(values["files"]) == {"cl.pt", "ce.pt", "training.parquet"}
