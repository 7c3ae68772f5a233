"""The command line as a person meets it: every command, option, exit code and error."""
import os
import shutil
import subprocess

import pytest
from cli_support import DEMO, TIMEOUT_SECONDS, Answer


@pytest.fixture
def plumb(plumb_binary):
    def run(*arguments, stdin=b"", env=None, cwd=None):
        command = [str(plumb_binary), *(a if isinstance(a, bytes) else str(a) for a in arguments)]
        return Answer(subprocess.run(command, input=stdin, capture_output=True, timeout=TIMEOUT_SECONDS, cwd=cwd,
                                     env={**os.environ, **(env or {})}))

    return run


@pytest.fixture
def fails(plumb):
    """One sentence on standard error, nothing on standard output, exit code 1."""
    def check(*arguments, says, **options):
        answer = plumb(*arguments, **options)
        assert answer.code == 1, (arguments, answer.code, answer.err)
        assert answer.out == ""
        lines = answer.err.splitlines()
        assert len(lines) == 1 and lines[0].startswith("plumb: "), answer.err
        assert says in lines[0], answer.err
        assert len(lines[0]) < 600
        return lines[0]

    return check


@pytest.fixture
def copy(tmp_path):
    """A copy of the demonstration model to spoil."""
    folder = tmp_path / "model"
    folder.mkdir()
    for name in ("config.json", "generation_config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json"):
        shutil.copyfile(DEMO / name, folder / name)
    return folder
