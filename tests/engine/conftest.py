import sys
from pathlib import Path

import pytest

# Started processes get our sys.path, and so find what they are to run.
sys.path.insert(0, str(Path(__file__).parent / "workers"))

import engine_workers

from alignctl.engine.launch import launch
from alignctl.engine.placement import ProcessPlan


@pytest.fixture(scope="session", params=[1, 2], ids=["1-process", "2-processes"])
def described(request, tmp_path_factory):
    """(what every worker said, the events heard) of one launch with 3 threads a process."""
    heard = []
    results = launch(
        engine_workers.describe,
        "payload",
        plan=ProcessPlan(request.param, 3, "cpu"),
        events_file=tmp_path_factory.mktemp("launch") / "events.jsonl",
        listener=heard.append,
    )
    return results, heard
