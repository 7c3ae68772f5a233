"""plumb trace against the traces that were taken from transformers, and what it does to files that are there."""
import json
import os
import subprocess

import checkpoints
import numpy as np
import pytest
import torch
from plumb_cli import TIMEOUT_SECONDS
from safetensors import safe_open

# float32 sums in another order; the distance over the length of the golden's values.
FP32_LIMIT = 2e-5
TRACED = [name for name in checkpoints.names() if (checkpoints.folder(name) / "golden" / "bf16.trace").is_dir()]
WITHOUT_FP32 = {"qwen3_5_moe", "qwen3_next"}  # ../shared has no fp32.trace of them
DIAGNOSED = ("llama", "olmoe")


def model_folder(name):
    folder = checkpoints.folder(name)
    return folder if (folder / "model.safetensors").exists() else checkpoints.REPOSITORY / "models" / "demo"


def read(folder):
    """manifest and tensors, as torch has them: it knows bfloat16."""
    with safe_open(folder / "tensors.safetensors", framework="pt") as file:
        return json.loads((folder / "manifest.json").read_text()), {key: file.get_tensor(key) for key in file.keys()}


def trace(plumb, name, golden, out, *more):
    ids = ",".join(map(str, golden["token_ids"]))
    steps = len(golden["steps"]) - 1
    plumb.call("trace", model_folder(name), "--ids", ids, "--steps", steps, "--ignore-eos", "--out", out, *more)
    return read(out)


def same_keys(stage, ours, golden):
    """A windowed layer of transformers lists the last keys only; those before them are masked."""
    if stage.endswith(".attn.probs") and ours.shape[-1] > golden.shape[-1]:
        dropped = ours.shape[-1] - golden.shape[-1]
        assert (ours[..., :dropped] == 0).all()
        return ours[..., dropped:]
    return ours


@pytest.mark.parametrize("name", TRACED)
def test_bf16_trace_has_the_golden_names_shapes_and_types(plumb, tmp_path, name):
    golden_manifest, golden = read(checkpoints.folder(name) / "golden" / "bf16.trace")
    manifest, ours = trace(plumb, name, golden_manifest, tmp_path / "a.trace", "--precision", "hf-bf16")
    for key, value in golden.items():
        assert key in ours, key
        assert same_keys(key, ours[key], value).shape == value.shape, key
        # torch's ids are as wide as its operation leaves them; ours are I32.
        assert ours[key].dtype == (value.dtype if value.is_floating_point() else torch.int32), key
    for key in ("format", "dtype", "token_ids", "steps"):
        assert manifest[key] == golden_manifest[key]
    assert manifest["model"]["config"] == json.loads((model_folder(name) / "config.json").read_text())
    assert len(manifest["generated"]) == len(manifest["steps"])
    assert set(manifest["stages"]) == {key.split("/", 1)[1] for key in ours}
    ours_of_golden = [stage for stage in manifest["stages"] if stage in set(golden_manifest["stages"])]
    assert sorted(ours_of_golden) == sorted(golden_manifest["stages"])
    assert manifest["stages"][0] == "embed" and manifest["stages"][-1] == "logits"


@pytest.mark.parametrize("name", [name for name in TRACED if name not in WITHOUT_FP32])
def test_fp32_trace_agrees_with_transformers(plumb, tmp_path, shared_fixtures, name):
    folder = shared_fixtures / "checkpoints" / name / "golden" / "fp32.trace"
    golden_manifest, golden = read(folder)
    manifest, ours = trace(plumb, name, golden_manifest, tmp_path / "a.trace")
    assert manifest["generated"] == golden_manifest["generated"]
    for key, value in golden.items():
        mine = same_keys(key, ours[key], value).double()
        assert mine.shape == value.shape, key
        if key.endswith(".ids"):
            assert (mine == value.double()).all(), key
            continue
        distance = float((mine - value.double()).norm() / value.double().norm().clamp(min=1e-30))
        assert distance <= FP32_LIMIT, (key, distance)


@pytest.mark.parametrize("name", DIAGNOSED)
def test_diagnose_finds_nothing_in_a_trace_of_ours(plumb, tmp_path, name):
    out = tmp_path / "a.trace"
    manifest, _ = read(checkpoints.folder(name) / "golden" / "bf16.trace")
    trace(plumb, name, manifest, out, "--precision", "hf-bf16")
    report = json.loads(plumb.call("diagnose", out, "--model", model_folder(name), "--json"))
    assert report["verdict"] == "benign", report["summary"]


def test_chunks_do_not_change_a_trace(plumb, tmp_path):
    ids = ",".join(map(str, range(3, 40)))
    whole, pieces = tmp_path / "whole.trace", tmp_path / "pieces.trace"
    plumb.call("trace", model_folder("llama"), "--ids", ids, "--chunk", 0, "--out", whole)
    plumb.call("trace", model_folder("llama"), "--ids", ids, "--chunk", 5, "--out", pieces)
    assert (whole / "tensors.safetensors").read_bytes() == (pieces / "tensors.safetensors").read_bytes()


def test_stages_and_layers_are_chosen(plumb, tmp_path):
    out = tmp_path / "some.trace"
    plumb.call("trace", model_folder("llama"), "--ids", "3,4,5", "--stages", "layers.*.attn.*_rope", "--stages", "logits",
               "--layers", "0,2-3", "--precision", "fp64", "--out", out)
    manifest, tensors = read(out)
    wanted = [f"layers.{layer}.attn.{side}_rope" for layer in (0, 2, 3) for side in "qk"] + ["logits"]
    assert manifest["stages"] == wanted and set(tensors) == {f"0/{stage}" for stage in wanted}
    assert {str(value.dtype) for value in tensors.values()} == {"torch.float64"}


@pytest.mark.parametrize("arguments, said", [
    (("--stages", "layers.*.mamba"), "no such stage"), (("--layers", "4"), "not a layer from 0 to 3"),
    (("--layers", "3-1"), "ends before"), (("--layers", "0,"), "not a layer"), (("--layers", "-1"), "not a layer")])
def test_bad_choices_are_named(plumb_binary, tmp_path, arguments, said):
    code, error = attempt(plumb_binary, tmp_path / "a.trace", *arguments)
    assert code == 1 and said in error, error
    assert list(tmp_path.iterdir()) == []


def attempt(binary, out, *more):
    command = [binary, "trace", model_folder("llama"), "--ids", "3,4", "--stages", "logits", "--out", out, *more]
    done = subprocess.run([*map(str, command)], capture_output=True, text=True, timeout=TIMEOUT_SECONDS)
    return done.returncode, done.stderr


def test_what_is_there_is_not_lost(plumb_binary, tmp_path):
    out = tmp_path / "a.trace"
    assert attempt(plumb_binary, out)[0] == 0
    before = (out / "manifest.json").stat().st_ino
    code, said = attempt(plumb_binary, out)
    assert code == 1 and "--force" in said
    assert (out / "manifest.json").stat().st_ino == before
    assert attempt(plumb_binary, f"{out}/", "--force")[0] == 0
    assert (out / "manifest.json").stat().st_ino != before
    assert os.listdir(tmp_path) == ["a.trace"]
    (out / "notes.txt").write_text("mine")
    code, said = attempt(plumb_binary, out, "--force")
    assert code == 1 and "no trace" in said and (out / "notes.txt").exists()


def test_values_are_finite_and_scores_are_masked(plumb, tmp_path):
    out = tmp_path / "a.trace"
    plumb.call("trace", model_folder("llama"), "--ids", "3,4,5", "--out", out)
    _, tensors = read(out)
    scores = tensors["0/layers.0.attn.scores"].numpy()
    assert np.isneginf(scores[0, :, 1:]).all() and np.isfinite(scores[2]).all()
