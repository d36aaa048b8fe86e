"""What the user got wrong, or what failed under the user, in one line each."""

import re


class AlignctlError(Exception):
    """A failure whose message is the whole story: what, where, what is allowed."""


class ConfigError(AlignctlError):
    """Wrong usage: a config, an option or an argument that cannot work (exit code 2)."""


class MissingSplitError(ConfigError):
    """A data set has training images, and no test split to evaluate on."""


class DataError(AlignctlError):
    """Images or labels that cannot be read (exit code 1)."""


class CheckpointError(AlignctlError):
    """A run directory, checkpoint or table that is missing, damaged or cannot be written."""


class TrainingError(AlignctlError):
    """Training cannot go on, as after a non-finite loss."""


class LaunchError(AlignctlError):
    """A worker process died without saying why."""


class PreemptedError(AlignctlError):
    """Stopped by SIGTERM or SIGUSR1; the same command goes on from there (exit code 75)."""


class OutOfMemoryError(AlignctlError):
    """An allocation failed: there is not enough memory."""


# What torch says of the CPU's memory (here and on Windows), of a GPU's, and C++ of its own.
_OUT_OF_MEMORY = re.compile("can't allocate memory|not enough memory|out of memory|bad_alloc")
_ASKED_FOR = re.compile(r"allocate ([\d.]+) ?(bytes|[KMGTPE]iB)")


def out_of_memory(error: BaseException) -> OutOfMemoryError | None:
    """A failed allocation of Python, numpy, torch or a GPU in one line; None for other errors."""
    text = str(error)
    is_other = not isinstance(error, RuntimeError) or _OUT_OF_MEMORY.search(text) is None
    if is_other and not isinstance(error, MemoryError):
        return None
    where = " on the GPU" if text.startswith(("CUDA", "HIP")) else ""
    asked = _ASKED_FOR.search(text)
    if asked is None:
        return OutOfMemoryError(f"not enough memory{where}")
    size, unit = asked.groups()
    size = f"{int(size) / 2**30:.1f} GiB" if unit == "bytes" else f"{size} {unit}"
    return OutOfMemoryError(f"not enough memory{where}: {size} could not be allocated")
