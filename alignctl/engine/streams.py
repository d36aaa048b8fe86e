"""Standard input, output and error of this process, where whoever started it closed them."""

import os
import sys


def open_closed_streams() -> None:
    """Put the null device wherever standard input, output or error is closed.

    Otherwise the next file to be opened would take the number, and a worker would begin without
    the stream and end at the first line that torch redirects. Nothing changes where all are open.
    """
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        try:
            os.fstat(number)
        except OSError:
            # the lowest free number, which is this one, for those below it are open by now
            os.set_inheritable(os.open(os.devnull, os.O_RDWR), True)
            mode = "w" if number else "r"
            setattr(sys, name, os.fdopen(number, mode, encoding="utf-8", closefd=False))
