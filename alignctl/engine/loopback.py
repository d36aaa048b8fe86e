"""How the processes of one machine meet: by 127.0.0.1, whatever names and networks it has."""

import multiprocessing
import socket

from alignctl.errors import LaunchError

ADDRESS = "127.0.0.1"
_INTERFACES = ("lo", "lo0")  # of Linux, of macOS
_ANSWERS_WITHIN_S = 5.0


def worker_environment() -> dict[str, str]:
    """What makes gloo use the loopback device, in place of one that it looks up by host name."""
    names = {name for _, name in socket.if_nameindex()}
    found = [name for name in _INTERFACES if name in names]
    return {"GLOO_SOCKET_IFNAME": found[0]} if found else {}


def check_address() -> None:
    """LaunchError where a process cannot reach another by `ADDRESS`, as without any network."""
    try:
        with socket.create_server((ADDRESS, 0)) as server:
            socket.create_connection(server.getsockname(), timeout=_ANSWERS_WITHIN_S).close()
    except OSError as error:
        raise LaunchError(
            f"processes cannot meet: {ADDRESS} cannot be reached ({error.strerror or error}); "
            "is the loopback device up (`ip link set lo up`)?"
        ) from error


def check_semaphores() -> None:
    """LaunchError where the system has no room for the locks that started processes share."""
    try:
        multiprocessing.get_context("spawn").Lock()
    except (ImportError, OSError) as error:
        reason = getattr(error, "strerror", None) or error
        raise LaunchError(
            f"processes cannot be started: no semaphore can be made ({reason}); "
            "on Linux /dev/shm has to be writable and not full"
        ) from error
