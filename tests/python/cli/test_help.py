"""plumb: help of each command, and the version."""
import re

import pytest

COMMANDS = ("run", "logits", "tokenize", "detokenize", "show")


def test_help_teaches(plumb):
    answer = plumb("--help")
    assert answer.code == 0 and answer.err == ""
    for command in COMMANDS:
        assert re.search(rf"^  {command} +\w", answer.out, re.MULTILINE)
    assert 'plumb run "The capital of France is"' in answer.out
    assert "130 interrupted" in answer.out
    assert plumb().out == answer.out
    assert plumb("-h").out == answer.out


@pytest.mark.parametrize("command", COMMANDS)
def test_each_command_has_help_with_examples(plumb, command):
    answer = plumb(command, "--help")
    assert answer.code == 0 and answer.err == ""
    assert f"plumb {command} " in answer.out.split("Examples:")[1]
    assert plumb("help", command).out == answer.out
    assert plumb(command, "x", "--help").out == answer.out


def test_version(plumb):
    assert re.fullmatch(r"plumb \d+\.\d+\.\d+\n", plumb("--version").out)
