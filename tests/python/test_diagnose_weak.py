"""Faults smaller than the rounding of two bytes, named by which way elements fall: planted in transformers and in our own executor, in bfloat16."""

import subprocess

import checkpoints
import pytest
import torch
from diagnoses import IDS, captured, diagnose, write
from planted import Fault, _each, _eps


def _casts_once(norm):
    """weight * normalised in float32, and then the cast: transformers casts before the weight."""

    def forward(x):
        wide = x.float()
        wide = wide * torch.rsqrt(wide.pow(2).mean(-1, keepdim=True) + norm.variance_epsilon)
        return (norm.weight.float() * wide).to(x.dtype)

    norm.forward = forward


def fault(path, plant):
    return Fault("weak", (), "", (), _each(path, plant))


WEAK = [
    ("qwen3", "attn.norm", "21", 1e-5, fault("input_layernorm", _eps(1e-5))),
    ("qwen3", "attn.q_norm", "21", 1e-5, fault("self_attn.q_norm", _eps(1e-5))),
    ("llama", "attn.norm", "21", 1e-4, fault("input_layernorm", _eps(1e-4))),  # beyond the budget in the first layer alone
    ("olmoe", "mlp.norm", "21", 1e-4, fault("post_attention_layernorm", _eps(1e-4))),
    ("qwen3", "attn.norm", "25", "after_weight", fault("input_layernorm", _casts_once)),
    ("llama", "mlp.norm", "25", "after_weight", fault("post_attention_layernorm", _casts_once)),
    ("olmoe", "attn.norm", "25", "after_weight", fault("input_layernorm", _casts_once)),
]


@pytest.mark.parametrize(("name", "stage", "row", "found", "plant"), WEAK, ids=[f"{w[0]} {w[1]} row {w[2]}" for w in WEAK])
def test_what_rounding_hides_is_named(plumb_binary, tmp_path, name, stage, row, found, plant):
    trace = write(captured(name, plant, dtype=torch.bfloat16, steps=2), tmp_path / "weak.trace")
    code, answer = diagnose(plumb_binary, trace, checkpoints.folder(name))
    assert (code, answer["verdict"]) == (1, "fault"), answer["summary"]
    (finding,) = answer["findings"]
    assert (finding["row"], finding["stage"], finding["found"]) == (row, f"layers.0.{stage}", found), answer["summary"]
    evidence = finding["evidence"]
    assert len(evidence["stages"]) >= 2, evidence
    if evidence["residual_before"] <= evidence["budget"]:
        assert evidence["bit_match_before"] < evidence["bit_match_after"] and evidence["bit_match_after"] > 0.999, evidence


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("name", ["qwen3", "llama", "olmoe", "gemma2"])
def test_right_rounding_is_no_fault(plumb_binary, tmp_path, name, dtype):
    trace = write(captured(name, dtype=dtype, steps=2), tmp_path / "right.trace")
    code, answer = diagnose(plumb_binary, trace, checkpoints.folder(name))
    assert (code, answer["findings"]) == (0, []), answer["summary"]


@pytest.mark.parametrize(("name", "found"), [("qwen3", "1e-05"), ("llama", "0.0001"), ("olmoe", "0.0001")])
def test_our_own_executor_in_bfloat16(plumb_binary, tmp_path, name, found):
    plant = plumb_binary.parent / "tests" / "plant_tool"
    ids = ",".join(map(str, IDS))
    out = tmp_path / "own.trace"
    subprocess.run([plant, checkpoints.folder(name), out, "hf-bf16", "2", ids, "layers.*.mlp.norm", "norm.eps", found], check=True)
    code, answer = diagnose(plumb_binary, out, checkpoints.folder(name))
    assert (code, answer["verdict"]) == (1, "fault"), answer["summary"]
    assert [(f["row"], f["found"]) for f in answer["findings"]] == [("21", float(found))], answer["summary"]
