import subprocess
import sys

import pytest

CODE = """
import os, subprocess, sys, tempfile
from alignctl.engine.streams import open_closed_streams

open_closed_streams()
for stream, descriptor in ((sys.stdin, 0), (sys.stdout, 1), (sys.stderr, 2)):
    assert stream.fileno() == descriptor
assert sys.stdin.read() == ""
print("é")
print("é", file=sys.stderr)
with tempfile.TemporaryFile() as file:
    assert file.fileno() > 2
child = "import sys; sys.exit(None in (sys.stdin, sys.stdout, sys.stderr))"
assert subprocess.call([sys.executable, "-c", child]) == 0
os._exit(7)  # no other code can be mistaken for it
"""


@pytest.mark.parametrize("closed", ["", "<&-", ">&-", "2>&-", ">&- 2>&-", "<&- >&- 2>&-"])
def test_a_closed_stream_is_the_null_device_here_and_in_children(closed):
    command = ["bash", "-c", f'"$0" -c "$1" {closed}', sys.executable, CODE]
    done = subprocess.run(command, check=False, stdin=subprocess.DEVNULL, capture_output=True)
    assert done.returncode == 7, done.stderr
