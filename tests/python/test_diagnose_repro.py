"""plumb diagnose --repro: the smallest case that shows the fault, replayed by the one command that it holds."""

import json
import os
import subprocess

import checkpoints
import pytest
from diagnoses import captured, diagnose, fault, write
from safetensors.torch import load_file, save_file


def case_of(plumb_binary, trace, name, folder, *options):
    """The report of a diagnosis that wrote a case, what replaying it says, and the case."""
    out = folder / "it's a case"
    _, report = diagnose(plumb_binary, trace, checkpoints.folder(name), "--repro", out, *options)
    assert {path.name for path in out.iterdir()} == {"case.trace", "replay.sh", "README.md"}
    assert not list(folder.glob(".*unfinished*"))
    command = [out / "replay.sh", checkpoints.folder(name), "--json"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, cwd="/", env=os.environ | {"PLUMB": str(plumb_binary)})
    assert done.stdout, done.stderr
    again = json.loads(done.stdout)
    assert done.returncode == 1
    plain = subprocess.run([out / "replay.sh"], capture_output=True, text=True, timeout=300, env=os.environ | {"PLUMB": str(plumb_binary)})
    assert plain.stdout.splitlines()[0] == again["summary"], plain.stderr
    return report, again, out


def cause(finding):
    return finding["stage"], finding["cause_row"], finding["cause"], finding["expected"]


@pytest.mark.parametrize(
    ("name", "planted", "most_tokens", "most_tensors"),
    [
        ("qwen3", fault("QK-norm eps"), 1, 2),
        ("qwen3", fault("rope interleaved"), 3, 2),
        ("gemma3", fault("window holds one key more"), 32, 4),
        ("llama", fault("output projection transposed"), 1, 2),
        ("olmoe", fault("chosen experts renormalised"), 2, 4),
        ("gemma2", fault("embedding not scaled"), 1, 1),
    ],
    ids=lambda value: getattr(value, "name", str(value)),
)
def test_the_case_gives_the_same_cause(plumb_binary, tmp_path, name, planted, most_tokens, most_tensors):
    trace = write(captured(name, planted), tmp_path / "a.trace")
    report, again, out = case_of(plumb_binary, trace, name, tmp_path)
    assert cause(again["findings"][0]) == cause(report["findings"][0]) and len(again["findings"]) == 1
    assert again["findings"][0]["found"] == pytest.approx(report["findings"][0]["found"])
    tensors = load_file(out / "case.trace" / "tensors.safetensors")
    manifest = json.loads((out / "case.trace" / "manifest.json").read_text())
    assert len(manifest["token_ids"]) <= most_tokens and len(tensors) <= most_tensors, (len(manifest["token_ids"]), list(tensors))
    readme = (out / "README.md").read_text()
    assert again["summary"] in readme and str(checkpoints.folder(name)) in readme


def test_one_of_two_faults(plumb_binary, tmp_path):
    """The case shows the first alone, from its own inputs."""
    trace = write(captured("qwen3", fault("QK-norm eps"), fault("rope theta")), tmp_path / "a.trace")
    report, again, _ = case_of(plumb_binary, trace, "qwen3", tmp_path)
    assert len(report["findings"]) == 2 and cause(again["findings"][0]) == cause(report["findings"][0])
    assert len(again["findings"]) == 1


def test_a_fault_of_the_reference(plumb_binary, tmp_path):
    right, wrong = write(captured("qwen3"), tmp_path / "right.trace"), write(captured("qwen3", fault("rope theta")), tmp_path / "wrong.trace")
    report, again, _ = case_of(plumb_binary, right, "qwen3", tmp_path, "--reference", wrong)
    assert report["findings"][0]["row"] == "59" and again["findings"][0]["row"] == report["findings"][0]["cause_row"] == "31"


def test_what_is_kept_between_passes(plumb_binary, tmp_path):
    """A fault of a decode step alone: the case holds the passes before it."""
    right = captured("qwen3", steps=2)
    wrong = load_file(write(captured("qwen3", ids=[*right.token_ids[:5], 7, *right.token_ids[6:]], steps=2), tmp_path / "b.trace") / "tensors.safetensors")
    trace = write(right, tmp_path / "a.trace")
    tensors = load_file(trace / "tensors.safetensors")
    tensors["1/layers.1.attn.context"] = wrong["1/layers.1.attn.context"]
    save_file(tensors, trace / "tensors.safetensors")
    report, again, out = case_of(plumb_binary, trace, "qwen3", tmp_path)
    assert again["findings"][0]["stage"] == report["findings"][0]["stage"] == "layers.1.attn.context"
    assert len(json.loads((out / "case.trace" / "manifest.json").read_text())["steps"]) == 2


def test_around_the_network(plumb_binary, tmp_path):
    """Token ids, the choice of tokens, the stop set: a manifest, and of the logits what the choice was made from."""
    right = captured("qwen3", steps=0)
    for wanted, held, keys in (
        ("token_ids", "0/embed", {"prompt": "Something else altogether"}),
        ("stop", "0/embed", {"stop_ids": [], "generated": [2, 5]}),
        ("sampler", "0/logits", {"generated": [5]}),
    ):
        here = tmp_path / wanted
        here.mkdir()
        trace = write(right, here / "a.trace")
        save_file({held: load_file(trace / "tensors.safetensors")[held]}, trace / "tensors.safetensors")
        manifest = json.loads((trace / "manifest.json").read_text())
        (trace / "manifest.json").write_text(json.dumps(manifest | keys))
        report, again, out = case_of(plumb_binary, trace, "qwen3", here)
        assert report["findings"][0]["stage"] == wanted, report["summary"]
        assert cause(again["findings"][0]) == cause(report["findings"][0])
        assert sum(path.stat().st_size for path in (out / "case.trace").iterdir()) < 20000


def test_what_is_there_is_not_overwritten(plumb_binary, tmp_path):
    trace = write(captured("qwen3", fault("QK-norm eps")), tmp_path / "a.trace")
    there = tmp_path / "there"
    there.mkdir()
    command = [plumb_binary, "diagnose", trace, "--model", checkpoints.folder("qwen3"), "--repro", there]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert done.returncode == 2 and "is there already" in done.stderr and not list(there.iterdir())


def test_a_right_run_has_no_case(plumb_binary, tmp_path):
    trace = write(captured("qwen3"), tmp_path / "a.trace")
    command = [plumb_binary, "diagnose", trace, "--model", checkpoints.folder("qwen3"), "--repro", tmp_path / "case"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0 and "there is no fault to show" in done.stderr and not (tmp_path / "case").exists()
