"""`alignctl doctor`: what it prints."""

from typing import TYPE_CHECKING

from alignctl.cli.options import Json
from alignctl.errors import AlignctlError

if TYPE_CHECKING:  # it imports torch
    from alignctl.commands.doctor import Devices, Disk, DoctorResult, Machine
    from alignctl.engine.selftest import SelfTest


def doctor(as_json: Json = False) -> None:
    """What this machine has, and whether processes can work together on it: for bug reports."""
    from alignctl.cli.terminal import print_result, print_table
    from alignctl.commands import doctor as command

    result = command.run()
    if as_json:
        print_result(result)
    else:
        print_table(*table_of(result))
    if not result.ok:
        raise AlignctlError(failure(result))


def table_of(result: "DoctorResult") -> tuple[str, tuple[str, ...], list[tuple[str, str, str]]]:
    """Title, columns and rows of everything that was found."""
    parts = {
        "versions": result.versions,
        "machine": _machine_in_words(result.machine),
        "devices": _devices_in_words(result.devices),
        "back ends": {name: "yes" if there else "no" for name, there in result.backends.items()},
        "all-reduce": {test.backend: _test_in_words(test) for test in result.all_reduce},
        "disk": _disk_in_words(result.disk),
    }
    rows = [
        ("" if number else part, what, found)
        for part, lines in parts.items()
        for number, (what, found) in enumerate(lines.items())
    ]
    return f"alignctl {result.versions['alignctl']} here", ("part", "what", "found"), rows


def failure(result: "DoctorResult") -> str:
    """Why alignctl cannot work here, in one line."""
    reasons = [
        f"two processes cannot work together ({test.backend}): {test.error}"
        for test in result.all_reduce
        if test.error
    ]
    if result.disk.error:
        reasons.append(f"{result.disk.folder}: cannot be written: {result.disk.error}")
    return "; ".join(reasons)


def _machine_in_words(here: "Machine") -> dict[str, str]:
    return {
        "system": here.system,
        "processor": here.processor,
        "instructions": here.instructions,
        "cores": f"{here.usable_cores} usable of {here.cores}",
        "threads": f"{here.threads_per_process} for each of {here.processes} processes",
    }


def _devices_in_words(devices: "Devices") -> dict[str, str]:
    rows = {"cuda": devices.cuda or "torch is built without it"}
    if not devices.gpus:
        rows["gpu"] = f"no GPU: {devices.warning}" if devices.warning else "no GPU"
    for number, gpu in enumerate(devices.gpus):
        bfloat16 = "with" if gpu.bfloat16 else "without"
        rows[f"gpu {number}"] = f"{gpu.name}, {gpu.memory_gib} GiB, {bfloat16} bfloat16"
    return rows


def _test_in_words(test: "SelfTest") -> str:
    if test.error:
        return f"failed: {test.error}"
    return f"{test.processes} processes agree, {test.seconds:.1f} s with their start"


def _disk_in_words(disk: "Disk") -> dict[str, str]:
    from alignctl.commands.doctor import SHARED_MEMORY

    here = f"cannot be written: {disk.error}" if disk.error else f"{disk.free_gib:.1f} GiB free"
    rows = {"this folder" if disk.folder == "." else disk.folder: here}
    if disk.shared_memory_gib is not None:
        free, whole = disk.free_shared_memory_gib, disk.shared_memory_gib
        rows[str(SHARED_MEMORY)] = f"{free:.1f} of {whole:.1f} GiB free"
    return rows
