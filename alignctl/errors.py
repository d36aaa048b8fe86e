"""What the user got wrong, or what failed under the user, in one line each."""


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
