import json
import threading
from pathlib import Path

import pytest

from alignctl.engine.events import EventFollower, append_event
from alignctl.errors import CheckpointError


def kinds(events):
    return [event["event"] for event in events]


def test_an_event_is_one_line_of_json_with_its_kind_time_and_fields(tmp_path):
    path = tmp_path / "events.jsonl"
    append_event(path, "epoch", epoch=3, losses={"cl": 1.5}, note="two\nlines")
    append_event(path, "end")
    first, second = path.read_text().splitlines()
    event = json.loads(first)
    assert event.pop("time") > 1.6e9
    assert event == {"event": "epoch", "epoch": 3, "losses": {"cl": 1.5}, "note": "two\nlines"}
    assert json.loads(second)["event"] == "end"


def test_a_line_that_was_left_half_does_not_swallow_the_next_event(tmp_path):
    path = tmp_path / "events.jsonl"
    append_event(path, "whole")
    with path.open("a") as file:
        file.write('{"event": "ha')
    append_event(path, "next")
    first, half, following = path.read_text().splitlines()
    assert json.loads(first)["event"] == "whole"
    assert half == '{"event": "ha'
    assert json.loads(following)["event"] == "next"


def test_a_follower_hears_everything_added_while_it_is_open_in_order(tmp_path):
    path, heard = tmp_path / "events.jsonl", []
    append_event(path, "before")
    with EventFollower(path, heard.append):
        for number in range(50):
            append_event(path, f"number {number}")
    append_event(path, "after")
    assert kinds(heard) == [f"number {number}" for number in range(50)]


def test_a_follower_hears_events_while_it_is_open(tmp_path):
    path, heard = tmp_path / "events.jsonl", threading.Event()
    with EventFollower(path, lambda event: heard.set()):
        append_event(path, "now")
        assert heard.wait(30)


def test_a_follower_waits_for_the_end_of_a_line(tmp_path):
    path, heard = tmp_path / "events.jsonl", []
    follower = EventFollower(path, heard.append)
    path.write_text('{"event": "one"}\n{"event": "tw')
    follower._deliver()
    assert kinds(heard) == ["one"]
    with path.open("a") as file:
        file.write('o", "text": "é"}\n')
    follower._deliver()
    follower._deliver()
    assert kinds(heard) == ["one", "two"]


def test_a_follower_of_a_file_that_never_comes_hears_nothing(tmp_path):
    heard = []
    with EventFollower(tmp_path / "no folder" / "events.jsonl", heard.append):
        pass
    assert heard == []


def test_a_full_disk_is_one_line_that_names_the_file(tmp_path):
    full = Path("/dev/full")
    if not full.exists():
        pytest.skip("needs /dev/full")
    path = tmp_path / "events.jsonl"
    path.symlink_to(full)
    with pytest.raises(CheckpointError) as error:
        append_event(path, "step")
    assert str(error.value) == f"{path}: cannot be written: No space left on device"
