"""docs/worked-examples.md is what happens: each suspect is made again, each command run, and what it prints compared with the page.

PLUMB_UPDATE_DOCS=1 writes what is printed into the page instead: read it before it is committed. All of it comes from the reference executor,
whose results are the same on every processor."""

import os
import re
import subprocess

import checkpoints
import pytest
import worked_examples

PAGE = checkpoints.REPOSITORY / "docs" / "worked-examples.md"
BLOCK = re.compile(r"^```console\n\$ (plumb [^\n]*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
COMMANDS = BLOCK.findall(PAGE.read_text())


@pytest.fixture(scope="module")
def folder(tmp_path_factory, plumb_binary):
    path = tmp_path_factory.mktemp("worked")
    for name, suspect in worked_examples.SUSPECTS.items():
        worked_examples.make(name, path, plumb_binary.parent / "tests" / "plant_tool")
        link = path / suspect.checkpoint
        if not link.exists():
            link.symlink_to(checkpoints.folder(suspect.checkpoint))
    return path


def run(folder, binary, command):
    words = command.split()
    done = subprocess.run([binary, *words[1:]], cwd=folder, capture_output=True, text=True, timeout=300)
    assert done.returncode == 1, done.stderr  # every suspect is at fault
    return done.stdout


def test_every_suspect_is_shown():
    for name in worked_examples.SUSPECTS:
        assert any(f" {name}.trace " in command + " " for command, _ in COMMANDS), name


@pytest.mark.parametrize(("command", "printed"), COMMANDS, ids=[command for command, _ in COMMANDS])
def test_command_prints_what_the_page_says(folder, plumb_binary, command, printed):
    said = run(folder, plumb_binary, command)
    if os.environ.get("PLUMB_UPDATE_DOCS"):
        old = f"$ {command}\n{printed}```"
        page = PAGE.read_text()
        assert old in page
        PAGE.write_text(page.replace(old, f"$ {command}\n{said}```"))
        return
    assert said == printed


# What each report comes to, whatever the words: the page's own claim.
@pytest.mark.parametrize(
    ("command", "words"),
    [
        ("plumb diagnose mlx.trace --model qwen3", ["sampler: ", "row 8"]),
        ("plumb compare mlx.trace qwen3", ["sampler: "]),
        ("plumb compare api.trace qwen3", ["two-byte bfloat16 numbers read as four-byte floats", "e-41"]),
        ("plumb diagnose runtime.trace --model olmoe", ["row 21", "row 30", "row 13", "proved"]),
        ("plumb diagnose v4-stop.trace --model deepseek_v4", ["stop: ", "row 7"]),
        ("plumb diagnose v4-penalty.trace --model deepseek_v4", ["sampler: ", "row 10"]),
        ("plumb diagnose v4.trace --model deepseek_v4", ["row 61", "row 62", "proved"]),
        ("plumb diagnose v4-layer.trace --model deepseek_v4", ["layers.3.attn.q_norm", "row 39", "proved"]),
        ("plumb diagnose drifting.trace --model olmoe", ["layers.0.moe.weights", "row 51", "proved"]),
    ],
)
def test_each_report_comes_to_its_cause(command, words):
    printed = dict(COMMANDS)[command]
    for word in words:
        assert word in printed


def test_plant_tool_writes_every_row_and_passes_over_no_option(tmp_path, plumb_binary):
    tool = plumb_binary.parent / "tests" / "plant_tool"
    arguments = [str(checkpoints.folder("qwen3")), str(tmp_path / "a.trace"), "fp32", "1", "5,6,7"]
    done = subprocess.run([tool, "--all-rows", *arguments], capture_output=True, text=True)
    assert done.returncode == 1 and "--all-rows: the one option is --stages PATTERN" in done.stderr, done.stderr
    subprocess.run([tool, "--stages", "logits,embed", *arguments], check=True)
    tensors = worked_examples.load_file(tmp_path / "a.trace" / "tensors.safetensors")
    assert {name: tensor.shape[0] for name, tensor in tensors.items()} == {"0/embed": 3, "0/logits": 3, "1/embed": 1, "1/logits": 1}
