"""The README's session is what the program prints: each `$ command` of its console block is run, and its output compared."""
import os
import pathlib
import re
import subprocess

import pytest

REPOSITORY = pathlib.Path(__file__).resolve().parents[2]
SESSIONS = re.findall(r"^```console\n(.*?)^```$", (REPOSITORY / "README.md").read_text(), re.MULTILINE | re.DOTALL)
COMMANDS = [entry.split("\n", 1) for session in SESSIONS for entry in re.split(r"^\$ ", session, flags=re.MULTILINE)[1:]]


def test_readme_has_a_session():
    assert COMMANDS


@pytest.mark.parametrize(("command", "printed"), COMMANDS, ids=[command for command, _ in COMMANDS])
def test_session(plumb_binary, command, printed):
    # The README's build folder stands for the binary under test, whichever that is.
    command = command.replace("build/release/plumb", '"$PLUMB"')
    done = subprocess.run(["sh", "-c", command], cwd=REPOSITORY, env={**os.environ, "PLUMB": str(plumb_binary)},
                          stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, timeout=60, text=True)
    assert (done.returncode, done.stdout) == (0, printed)
