"""Workers that agree to stop again and again within one launch."""

import random
import threading
import time
from dataclasses import dataclass, replace
from pathlib import Path

import torch
import torch.distributed as dist

from alignctl.engine import stopping
from alignctl.engine.context import WorkerContext
from alignctl.engine.stopping import Stopping, request_stop

FOR_EVER = 10**9


@dataclass(frozen=True)
class Round:
    """Steps of all workers, and when they are asked to stop."""

    number: int
    together: bool
    first_step: int
    num_steps: int
    asked_after_s: float
    says_the_end: bool

    def pause_s(self, rank: int) -> float:
        """How long a step takes; one worker may be many times as fast as another."""
        speeds = random.Random(f"{self.number} {rank}")
        return speeds.choice([0.0001, 0.0005, 0.005])

    def start_s(self, rank: int) -> float:
        return random.Random(f"start {self.number} {rank}").choice([0, 0, 0.03])


def rounds(together: bool) -> list[Round]:
    """The same on every worker: some that only end when asked, some that mostly ended before."""
    draw = random.Random(7)
    return [
        Round(
            number,
            together,
            first_step=draw.choice([0, 3, 1000]),
            num_steps=FOR_EVER if number % 2 else draw.choice([1, 5, 20]),
            asked_after_s=draw.uniform(0, 0.06),
            says_the_end=draw.random() < 0.5,
        )
        for number in range(12)
    ]


def stop_again_and_again(context: WorkerContext, folder: Path) -> list[dict]:
    """Of each round: where it began and would end, and where each worker ended."""
    stopping._POLL_S = stopping._AGREEMENT_POLL_S = 0.005
    found = []
    for one in [*rounds(together=False), *rounds(together=True)]:
        ends = context.gather(play(context, one, folder / f"{one.together}_{one.number}"))
        end = min(one.first_step + one.num_steps, FOR_EVER)
        found.append({"begin": one.first_step, "end": end, "ends": ends})
    return found


def play(context: WorkerContext, one: Round, folder: Path) -> int:
    """The first step not taken."""
    folder.mkdir(exist_ok=True)
    context.wait()
    part = Stopping(folder, rank=context.rank, size=context.size)
    player = replace(context, stopping=part)
    if context.rank == one.number % context.size:
        threading.Timer(one.asked_after_s, request_stop, [folder]).start()
    time.sleep(one.start_s(context.rank))
    step = one.first_step
    while step < one.first_step + one.num_steps and not player.stops_before(step):
        if one.together:
            dist.all_reduce(torch.zeros(1))
        time.sleep(one.pause_s(context.rank))
        step += 1
    if one.says_the_end:
        player.no_more_steps()
    return step
