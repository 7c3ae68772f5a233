"""Traces that say what no engine can have computed, diagnosed: a verdict, on any number of threads, and never a crash."""

import json
import subprocess

import checkpoints
import pytest
from diagnoses import diagnose
from safetensors.torch import load_file, save_file


def changed(plumb_binary, name, folder, change):
    """A right run's trace after `change(manifest, tensors)`."""
    command = [plumb_binary, "trace", checkpoints.folder(name), "--ids", "3,7,1,9,4,12", "--steps", "1", "--ignore-eos", "--out", folder]
    subprocess.run(command, check=True, capture_output=True, timeout=300)
    manifest = json.loads((folder / "manifest.json").read_text())
    tensors = load_file(folder / "tensors.safetensors")
    change(manifest, tensors)
    (folder / "manifest.json").write_text(json.dumps(manifest))
    save_file(tensors, folder / "tensors.safetensors")
    return folder


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("number", [500, -1, float("nan")])
def test_experts_that_are_none(plumb_binary, tmp_path, number, threads):
    def change(_, tensors):
        for name in tensors:
            if name.endswith("moe.ids"):
                tensors[name] = tensors[name].float()
                tensors[name][0, 0] = number
            elif name.endswith("mlp.out"):
                tensors[name] *= 1.1

    trace = changed(plumb_binary, "gpt_oss", tmp_path / "a.trace", change)
    assert diagnose(plumb_binary, trace, checkpoints.folder("gpt_oss"), "--threads", threads)[0] == 1


def test_attention_over_fewer_tokens_than_the_step_says(plumb_binary, tmp_path):
    """Scores of the last tokens alone are of fewer keys."""

    def change(manifest, tensors):
        manifest["steps"][0]["count"] += 1
        for name in [name for name in tensors if not name.startswith("0/layers.0.attn.s")]:
            del tensors[name]

    trace = changed(plumb_binary, "llama", tmp_path / "a.trace", change)
    assert diagnose(plumb_binary, trace, checkpoints.folder("llama"))[0] == 1
