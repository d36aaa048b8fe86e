"""Whether this process does what one command asks and nothing else."""

import contextlib
from collections.abc import Iterator

_commands: list[None] = []


@contextlib.contextmanager
def running_a_command() -> Iterator[None]:
    """While this is open, a launch may fork this process instead of importing everything again."""
    _commands.append(None)
    try:
        yield
    finally:
        _commands.pop()


def runs_a_command() -> bool:
    """Whether nothing but a command runs here."""
    return bool(_commands)
