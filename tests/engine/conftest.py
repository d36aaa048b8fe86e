import functools
import sys
from pathlib import Path

import pytest

# Started processes get our sys.path, and so find what they are to run.
sys.path.insert(0, str(Path(__file__).parent / "workers"))

import engine_workers

from alignctl.engine.launch import launch
from alignctl.engine.placement import ProcessPlan


@pytest.fixture(scope="session")
def describe(tmp_path_factory):
    """A function of a number of processes, each of which is started once: see `described`."""

    @functools.cache
    def start(num_processes):
        heard = []
        results = launch(
            engine_workers.describe,
            "payload",
            plan=ProcessPlan(num_processes, 3, "cpu"),
            events_file=tmp_path_factory.mktemp("launch") / "events.jsonl",
            listener=heard.append,
        )
        return results, heard

    return start


# Parameters of a session would have pytest go through files twice, and show the lines of each twice
@pytest.fixture(params=[1, 2], ids=["1-process", "2-processes"])
def described(request, describe):
    """(what every worker said, the events heard) of one launch with 3 threads a process."""
    return describe(request.param)
