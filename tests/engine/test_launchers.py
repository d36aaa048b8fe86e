import pytest

from alignctl.engine.launchers import refuse_other_launchers
from alignctl.errors import ConfigError

WORDS = ["pretrain", "digits", "objectives=[cl, ce]"]


def test_one_of_several_processes_of_torchrun_is_refused_with_the_right_command():
    environment = {"RANK": "1", "WORLD_SIZE": "2", "LOCAL_RANK": "1", "TORCHELASTIC_RUN_ID": "x"}
    with pytest.raises(ConfigError) as error:
        refuse_other_launchers(environment, WORDS)
    assert str(error.value) == (
        "started as one of 2 processes by torchrun (WORLD_SIZE=2), each of which would do all of "
        "the work: alignctl starts its own processes, one per GPU or core, or as many as --nproc "
        "says; run `alignctl pretrain digits 'objectives=[cl, ce]'` without torchrun"
    )


@pytest.mark.parametrize(
    ("launcher", "environment"),
    [
        ("torchrun", {"RANK": "0", "WORLD_SIZE": "8"}),
        ("srun", {"SLURM_PROCID": "3", "SLURM_STEP_NUM_TASKS": "4", "SLURM_NTASKS": "4"}),
        ("mpirun", {"OMPI_COMM_WORLD_RANK": "0", "OMPI_COMM_WORLD_SIZE": "2"}),
        ("mpiexec", {"PMI_RANK": "1", "PMI_SIZE": "2"}),
    ],
)
def test_one_of_several_processes_of_any_launcher_is_refused(launcher, environment):
    with pytest.raises(ConfigError, match=f"without {launcher}$"):
        refuse_other_launchers(environment, WORDS)


@pytest.mark.parametrize(
    "environment",
    [
        {},
        {"WORLD_SIZE": "2"},  # left over in a shell: nobody was started
        {"RANK": "0", "WORLD_SIZE": "1", "LOCAL_RANK": "0", "TORCHELASTIC_RUN_ID": "x"},
        {"RANK": "0", "WORLD_SIZE": "many"},
        {"SLURM_NTASKS": "4", "SLURM_PROCID": "0", "SLURM_JOB_ID": "7"},  # the script of sbatch
        {"SLURM_NTASKS": "4", "SLURM_PROCID": "0", "SLURM_STEP_NUM_TASKS": "1"},
    ],
)
def test_a_process_that_is_alone_is_not_refused(environment):
    refuse_other_launchers(environment, WORDS)
