"""Other programs that start several processes, under which ours would train beside each other."""

import os
import shlex
import sys
from collections.abc import Mapping, Sequence

from alignctl.errors import ConfigError

# By the variable that has the number of processes: who sets it, and what it sets as well. SLURM's
# is that of a step of `srun`: an allocation of several tasks has one process until then.
_LAUNCHERS = {
    "WORLD_SIZE": ("torchrun", "RANK"),
    "SLURM_STEP_NUM_TASKS": ("srun", "SLURM_PROCID"),
    "OMPI_COMM_WORLD_SIZE": ("mpirun", "OMPI_COMM_WORLD_RANK"),
    "PMI_SIZE": ("mpiexec", "PMI_RANK"),
}


def refuse_other_launchers(
    environment: Mapping[str, str] | None = None, words: Sequence[str] | None = None
) -> None:
    """ConfigError where this process is one of several that another launcher started.

    environment, words: this process's variables and arguments unless given.
    """
    environment = os.environ if environment is None else environment
    command = shlex.join(["alignctl", *(sys.argv[1:] if words is None else words)])
    for variable, (launcher, rank) in _LAUNCHERS.items():
        number = environment.get(variable, "")
        if number.isdecimal() and int(number) > 1 and rank in environment:
            raise ConfigError(
                f"started as one of {number} processes by {launcher} ({variable}={number}), each "
                "of which would do all of the work: alignctl starts its own processes, one per GPU "
                f"or core, or as many as --nproc says; run `{command}` without {launcher}"
            )
