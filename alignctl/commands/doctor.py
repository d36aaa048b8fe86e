"""What this machine has, and whether alignctl can work here: for bug reports."""

import platform
import shutil
import tempfile
import warnings
from dataclasses import dataclass
from pathlib import Path

import torch
import torch.distributed as dist

from alignctl.engine.launchers import refuse_other_launchers
from alignctl.engine.placement import available_cores, num_devices, plan_processes
from alignctl.engine.selftest import SelfTest, all_reduce_between_two
from alignctl.runs.directory import RUNS
from alignctl.runs.manifest import machine, package_versions

_OTHER_PACKAGES = ("pyarrow", "scipy", "scikit-learn", "matplotlib", "pydantic", "typer", "rich")
SHARED_MEMORY = Path("/dev/shm")
_GIB = 2**30


@dataclass(frozen=True)
class Machine:
    """System, processor and cores."""

    system: str
    processor: str
    instructions: str
    """The widest that torch uses here, such as AVX512."""
    cores: int
    usable_cores: int
    processes: int
    """At most so many are started unasked: one per GPU, or per usable core without GPUs."""
    threads_per_process: int
    """Of so many processes; fewer have more each."""


@dataclass(frozen=True)
class Gpu:
    """One CUDA device."""

    name: str
    memory_gib: float
    bfloat16: bool


@dataclass(frozen=True)
class Devices:
    """GPUs, and why there are none where torch says it."""

    cuda: str | None
    """The version that torch was built for."""
    gpus: tuple[Gpu, ...]
    warning: str | None


@dataclass(frozen=True)
class Disk:
    """Where runs go."""

    folder: str
    free_gib: float
    error: str | None
    """Why nothing can be written there."""
    shared_memory_gib: float | None
    free_shared_memory_gib: float | None


@dataclass(frozen=True)
class DoctorResult:
    """All that was found."""

    ok: bool
    versions: dict[str, str]
    machine: Machine
    devices: Devices
    backends: dict[str, bool]
    all_reduce: tuple[SelfTest, ...]
    disk: Disk


def run() -> DoctorResult:
    """Look at everything, and let two processes work together; leaves nothing behind."""
    refuse_other_launchers()
    devices = _devices()
    all_reduce = _all_reduce(num_gpus=len(devices.gpus))
    disk = _disk()
    return DoctorResult(
        ok=disk.error is None and all(test.error is None for test in all_reduce),
        versions=package_versions(*_OTHER_PACKAGES),
        machine=_machine(),
        devices=devices,
        backends=_backends(),
        all_reduce=all_reduce,
        disk=disk,
    )


def _machine() -> Machine:
    found, most = machine("cpu"), num_devices()
    processes = plan_processes(most, limit=most, limit_name="devices")
    return Machine(
        system=platform.platform(),
        processor=found["processor"],
        instructions=torch.backends.cpu.get_cpu_capability(),
        cores=int(found["cores"]),
        usable_cores=available_cores(),
        processes=processes.num_processes,
        threads_per_process=processes.threads_per_process,
    )


def _devices() -> Devices:
    with warnings.catch_warnings(record=True) as raised:  # how torch says that a driver is too old
        warnings.simplefilter("always")
        count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    found = [torch.cuda.get_device_properties(index) for index in range(count)]
    gpus = tuple(
        Gpu(each.name, round(each.total_memory / _GIB, 1), each.major >= 8) for each in found
    )
    warning = str(raised[0].message).partition("\n")[0] if raised else None
    return Devices(torch.version.cuda, gpus, warning)


def _backends() -> dict[str, bool]:
    return {
        "gloo": dist.is_gloo_available(),
        "nccl": dist.is_nccl_available(),
        "mpi": dist.is_mpi_available(),
    }


def _all_reduce(*, num_gpus: int) -> tuple[SelfTest, ...]:
    """On the CPU, and on GPUs where there are two."""
    on_cpu = all_reduce_between_two("cpu")
    return (on_cpu, all_reduce_between_two("cuda")) if num_gpus > 1 else (on_cpu,)


def _disk() -> Disk:
    """The folder of runs, or the one in which it would be made."""
    folder = next(path for path in (RUNS, *RUNS.parents) if path.exists())
    shared = shutil.disk_usage(SHARED_MEMORY) if SHARED_MEMORY.is_dir() else None
    return Disk(
        folder=str(folder),
        free_gib=round(shutil.disk_usage(folder).free / _GIB, 1),
        error=_why_not_writable(folder),
        shared_memory_gib=round(shared.total / _GIB, 1) if shared else None,
        free_shared_memory_gib=round(shared.free / _GIB, 1) if shared else None,
    )


def _why_not_writable(folder: Path) -> str | None:
    try:
        with tempfile.TemporaryFile(dir=folder):
            return None
    except OSError as error:
        return error.strerror or str(error)
