"""Training in processes that are killed, for the tests of recovery."""

import os
import signal
import sys
from pathlib import Path
from typing import Any

import pyarrow.parquet  # noqa: F401 (what training imports late is imported here once for all)
import sklearn.datasets  # noqa: F401
import torch
import torch.distributed as dist
import torch.distributed.device_mesh

import alignctl.encoders.resnet  # noqa: F401
from alignctl.engine.context import WorkerContext
from alignctl.training.trainer import TrainingJob, train

_CHANGES = ("os.rename", "os.remove", "os.rmdir", "os.mkdir", "os.truncate")


def train_until_killed(job: TrainingJob, kill_at_change: int | None) -> None:
    """Train alone, with one thread; SIGKILL before the n-th change of a file in the run.

    At the end the number of changes is printed.
    """
    torch.set_num_threads(1)
    dist.init_process_group("gloo", store=dist.HashStore(), rank=0, world_size=1)
    context = WorkerContext(
        rank=0, size=1, device=torch.device("cpu"), threads=1,
        events_file=job.run / "events.jsonl",
    )  # fmt: skip
    killer = _Killer(job.run, kill_at_change)
    sys.addaudithook(killer)
    train(context, job)
    print(killer.num_changes)


class _Killer:
    def __init__(self, folder: Path, kill_at_change: int | None) -> None:
        self._folder, self._last, self.num_changes = str(folder), kill_at_change, 0

    def __call__(self, event: str, args: tuple[Any, ...]) -> None:
        opened = event == "open" and isinstance(args[1], str) and set(args[1]) & set("wax+")
        if not (opened or event in _CHANGES):
            return
        name = str(args[0])
        # how many events there are depends on how long each step took
        if name.startswith(self._folder) and not name.endswith("events.jsonl"):
            self.num_changes += 1
            if self.num_changes == self._last:
                os.kill(os.getpid(), signal.SIGKILL)
