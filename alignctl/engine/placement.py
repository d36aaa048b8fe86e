"""How many processes run, and with how many threads each. Imports torch only to count GPUs."""

import os
from dataclasses import dataclass
from typing import Literal

from alignctl.errors import ConfigError

DeviceType = Literal["cpu", "cuda"]


@dataclass(frozen=True)
class ProcessPlan:
    """The processes of one launch."""

    num_processes: int
    threads_per_process: int
    device: DeviceType


def available_cores() -> int:
    """Cores this process may use, at least 1."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def parse_nproc(text: str) -> int | None:
    """The number of processes asked for, None for `auto`; ConfigError otherwise."""
    if text == "auto":
        return None
    if not text.isdecimal() or int(text) < 1:
        raise ConfigError(f"--nproc: '{text}' is neither auto nor a whole number of at least 1")
    return int(text)


def parse_device(text: str) -> DeviceType | None:
    """The kind of device asked for, None for `auto`; ConfigError otherwise."""
    if text not in ("auto", "cpu", "cuda"):
        raise ConfigError(f"--device: '{text}' is not a device (auto, cpu, cuda)")
    return None if text == "auto" else text  # type: ignore[return-value]


def num_devices(device: DeviceType | None = None) -> int:
    """GPUs, or cores where there are none or `device` says cpu; ConfigError without cuda."""
    return _num_gpus(device) or available_cores()


def _num_gpus(device: DeviceType | None) -> int:
    """GPUs to use; ConfigError where cuda is asked for and there is none."""
    import torch

    num_gpus = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if device == "cuda" and not num_gpus:
        raise ConfigError("--device: cuda is not available here")
    return 0 if device == "cpu" else num_gpus


def plan_processes(
    nproc: int | None,
    *,
    limit: int,
    limit_name: str,
    device: DeviceType | None = None,
) -> ProcessPlan:
    """One process per GPU, or per core without GPUs, but no more than there is work for.

    device: GPUs where there are any unless it says otherwise.

    Threads per process are cores // processes: two processes that both use all cores run
    many times slower than one. ConfigError where more are asked for than can be placed.
    """
    num_gpus, cores = _num_gpus(device), available_cores()
    if nproc is not None and nproc > limit:
        raise ConfigError(f"--nproc: {nproc} processes, but there are only {limit} {limit_name}")
    if nproc is not None and num_gpus and nproc > num_gpus:
        raise ConfigError(f"--nproc: {nproc} processes, but there are only {num_gpus} GPUs")
    num = nproc or min(limit, num_gpus or cores)
    return ProcessPlan(num, max(1, cores // num), "cuda" if num_gpus else "cpu")
