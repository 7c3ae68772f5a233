"""docs/python.md is what happens: its Python session is run as doctests, its console session after it in the same folder."""

import doctest
import os
import re
import subprocess

import checkpoints
import pytest

PAGE = checkpoints.REPOSITORY / "docs" / "python.md"
CONSOLE = re.findall(r"^```console\n(.*?)^```$", PAGE.read_text(), re.MULTILINE | re.DOTALL)
COMMANDS = [entry.split("\n", 1) for block in CONSOLE for entry in re.split(r"^\$ ", block, flags=re.MULTILINE)[1:]]


@pytest.fixture(scope="module")
def session(tmp_path_factory):
    folder = tmp_path_factory.mktemp("session")
    for name in ("models", "tests"):
        (folder / name).symlink_to(checkpoints.REPOSITORY / name)
    before = os.getcwd()
    os.chdir(folder)
    try:
        result = doctest.testfile(str(PAGE), module_relative=False)
    finally:
        os.chdir(before)
    assert result.attempted > 10 and result.failed == 0
    return folder


def test_python_session(session):
    assert COMMANDS


@pytest.mark.parametrize(("command", "printed"), COMMANDS, ids=[command for command, _ in COMMANDS])
def test_console_session(plumb_binary, session, command, printed):
    done = subprocess.run(
        ["sh", "-c", command.replace("build/release/plumb", '"$PLUMB"')],
        cwd=session,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PLUMB": str(plumb_binary)},
        stdin=subprocess.DEVNULL,
        timeout=60,
    )
    assert (done.returncode, done.stdout) == (0, printed)
