"""How long a command waits for its workers: spawned, and forked from a server.

    python tests/benchmarks/bench_launch.py --repeats 5

Median seconds from the start of a launch of two workers that do nothing to its end, in a new
process for each first launch; both ways take turns, so that a busy machine slows both. `forked` is
a copy of the command, `server` a new process that imports for both workers, and `again` the next
launch of the same process.
"""

import argparse
import contextlib
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median
from unittest.mock import patch

from alignctl.engine import launch as launching
from alignctl.engine.context import WorkerContext
from alignctl.engine.fork_server import Started
from alignctl.engine.own_process import running_a_command
from alignctl.engine.placement import ProcessPlan

WAYS = ("spawned", "forked", "server")


def do_nothing(context: WorkerContext, payload: None) -> int:
    """The rank of this worker."""
    return context.rank


def seconds() -> float:
    """How long a launch takes here."""
    with tempfile.TemporaryDirectory() as folder:
        start = time.perf_counter()
        events_file = Path(folder) / "events.jsonl"
        launching.launch(do_nothing, None, plan=ProcessPlan(2, 1, "cpu"), events_file=events_file)
        return time.perf_counter() - start


def first_and_again(way: str) -> tuple[float, float]:
    """The seconds of two launches of this process."""
    import alignctl.training.trainer  # noqa: F401  (what the worker of `pretrain` imports)

    with contextlib.ExitStack() as stack:
        if way == "forked":
            stack.enter_context(running_a_command())
        if way == "spawned":
            spawn = Started("spawn", {})
            stack.enter_context(patch.object(launching, "start_server", lambda *_: spawn))
        return seconds(), seconds()


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--way", choices=WAYS)
    options = parser.parse_args()
    if options.way:
        print(json.dumps(first_and_again(options.way)))
        return
    found: dict[str, list[list[float]]] = {way: [] for way in WAYS}
    for _ in range(options.repeats):
        for way in WAYS:
            command = [sys.executable, __file__, "--way", way]
            done = subprocess.run(command, check=True, capture_output=True, text=True)
            found[way].append(json.loads(done.stdout))
    for way, pairs in found.items():
        first, again = (median(times) for times in zip(*pairs, strict=True))
        print(f"{way:>8}  first {first:6.2f} s  again {again:6.2f} s")


if __name__ == "__main__":
    main()
