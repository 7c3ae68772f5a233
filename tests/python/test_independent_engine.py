"""The diagnosis against an engine that is not Plumb's (independent_engine.py): a sample of what independent_battery.py runs whole. docs/diagnosis.md
has the whole table."""

import random

import batteries
import checkpoints
import independent_battery as battery
import independent_faults as faults
import plumb
import pytest
import torch
from independent_engine import Engine
from independent_traces import MODES, trace_of
from live_reference import EAGER
from transformers import AutoModelForCausalLM

SEED = 8


@pytest.fixture(autouse=True)
def binary(plumb_binary, monkeypatch):
    monkeypatch.setattr(batteries, "BINARY", plumb_binary)


@torch.no_grad()
@pytest.mark.parametrize("name", battery.NAMES)
def test_without_faults_it_is_right(name):
    ids = battery.prompt(name)
    model = AutoModelForCausalLM.from_pretrained(battery.folder(name), dtype=torch.float32, **EAGER).eval()
    run = Engine(battery.folder(name)).run(ids, 2)
    right = model(torch.tensor([ids + run.generated[:-1]])).logits[0]
    ours = torch.cat([values["logits"] for values in run.values])
    assert (ours - right).norm() < 5e-6 * right.norm()


def test_without_faults_it_raises_no_alarm(tmp_path):
    for place, name in enumerate(battery.NAMES):
        dtype = (torch.float32, torch.bfloat16, torch.float16)[place % 3]
        run = Engine(battery.folder(name), {}, dtype).run(battery.prompt(name), 2)
        for mode in (MODES[place % len(MODES)], "house", "own"):
            report = battery.diagnose(trace_of(run, mode, dtype), battery.folder(name), tmp_path / "a.trace")
            assert report["verdict"] == "benign", (name, mode, dtype, battery.summary(report))


def judged(sample, tmp_path):
    """Of each (checkpoint, faults, mode): whether the stage and the cause are right. Those that show in nothing are left out."""
    found = []
    for name, chosen, mode in sample:
        verdict = battery.Battery(name, torch.float32, tmp_path / "a.trace").judge(chosen, mode)
        if verdict is not None:
            found.append((*verdict[:2], f"{name} {mode} {[f.text for f in chosen]}: {battery.summary(verdict[2])}"))
    missed = [text for stage, cause, text in found if not (stage and cause)]
    print(*missed, sep="\n")
    return found, missed


def drawn(count, modes, catalogue=faults.FAULTS):
    rng = random.Random(SEED)
    every = [(name, [fault], mode) for name in battery.NAMES for fault in faults.of(name, catalogue) for mode in modes]
    return rng.sample(every, count)


def test_faults_are_named(tmp_path):
    found, missed = judged(drawn(60, ("house", "ggml", "own", "mixed", "blocks")), tmp_path)
    assert len(found) > 50
    assert sum(stage for stage, _, _ in found) >= 0.95 * len(found) and sum(cause for _, cause, _ in found) >= 0.95 * len(found), missed


# Under names of their own a faulty value is like the wrong stage, or like none: what follows from it tells.
ALIKE = [
    ("qwen3", "no_rope_q", "own"),
    ("qwen3", "rope_dims=16", "own"),
    ("gemma3", "rope_other_type", "own"),
    ("olmo2", "transposed_o", "own"),
    ("gemma2", "transposed_o", "own"),
    ("gemma2", "gate_alone", "own"),
    ("olmo3", "gate_up_alternating", "own"),
    ("gemma2", "no_residual_mlp", "own"),
    ("olmo3", "no_mlp_post_norm", "own"),
    ("olmoe", "experts_more=-1", "mixed"),
    ("gpt_oss", "router_sigmoid", "own"),
    ("gpt_oss", "router_sigmoid", "numbered"),
    ("llama", "decode_offset=-32", "mixed"),
    ("qwen3", "decode_offset=1", "blocks"),
    ("llama", "future=-1", "blocks"),
    ("qwen3_moe", "gate_alone", "house"),
    ("qwen3", "rows_q=('neighbours', 'q')", "ggml"),
    ("mixtral", "rows_k=('neighbours', 'k of q')", "ggml"),
    ("llama", "kv_exchanged", "ggml"),
    ("olmoe", "kv_exchanged", "own"),
    ("mixtral", "kv_exchanged", "own"),
    ("llama", "future=-1", "mixed"),
    ("llama", "decode_offset=-32", "house"),
    ("gemma2", "activation=quick_gelu", "own"),
    ("olmoe", "norm_in=torch.bfloat16", "own"),
    ("gpt_oss", "rope_exponent_halved", "ggml"),
    ("phi3", "residual_factor=1.01", "mlps"),
]


def test_values_that_look_like_others_are_told_by_what_follows(tmp_path):
    sample = [(name, [next(f for f in faults.of(name) if f.text == text)], mode) for name, text, mode in ALIKE]
    found, missed = judged(sample, tmp_path)
    assert len(found) == len(ALIKE) and not missed


# As reported of llama.cpp, vLLM, SGLang and MLX: each has a hypothesis of its own, which must not be taken for another.
REPORTED = [
    ("llama", "rows_k=('neighbours', 'k of q')"),
    ("gemma2", "cap_behind_mask"),
    ("gpt_oss", "window_in_chunks"),
    ("qwen3", "first_key_masked"),
    ("olmoe", "norm_of_layer=0"),
    ("llama", "layer_order=(0, 2, 1, 3)"),
    ("gemma3", "rope_scaling_everywhere"),
    ("olmo2", "rope_exponent_halved"),
    ("gemma2", "rope_v"),
    ("qwen3", "kv_unrotated"),
    ("olmoe", "zero_keys=6"),
    ("qwen2", "bias_twice_k"),
    ("glm4", "bias_of_k=v"),
    ("mixtral", "router_of_residual"),
    ("qwen3_moe", "product_bf16_router"),
    ("llama", "rope_angles=torch.bfloat16"),
]


def test_what_was_reported_of_engines_is_named(tmp_path):
    sample = [(name, [next(f for f in faults.of(name) if f.text == text)], "house") for name, text in REPORTED]
    found, missed = judged(sample, tmp_path)
    assert len(found) == len(REPORTED) and not missed


# Each has a hypothesis that nothing else would stand in for, and is seen with everything captured or block outputs alone.
ALONE = [
    ("gpt_oss", "sinks_reversed", "house"),
    ("gpt_oss", "sinks_reversed", "blocks"),
    ("llama", "activation=mish", "house"),
    ("olmoe", "activation=mish", "blocks"),
    ("gemma3", "activation=hardswish", "house"),
    ("qwen3_moe", "activation=tanh", "house"),
    ("olmoe", "activation=relu2", "house"),
    ("mixtral", "activation=leaky_relu", "blocks"),
    ("olmoe", "activation=none", "house"),
    ("gemma2", "kv_zeroed=(5, 4)", "house"),
    ("llama", "kv_zeroed=(5, 4)", "blocks"),
    ("olmoe", "kv_middle_lost=(9, 2)", "house"),
    ("gemma2", "values_never_written=stale", "house"),
    ("gpt_oss", "values_never_written=zeros", "house"),
    ("llama", "layers_run=(0, 2, 1, 3)", "house"),
    ("gemma2", "layers_run=(0, 2, 1, 3)", "blocks"),
    ("mixtral", "layers_run=(3, 1, 2, 0)", "house"),
]


def test_what_nothing_else_stands_in_for_is_named(tmp_path):
    sample = [(name, [next(f for f in faults.of(name) if f.text == text)], mode) for name, text, mode in ALONE]
    found, missed = judged(sample, tmp_path)
    assert len(found) == len(ALONE) and not missed


@pytest.mark.parametrize("name", ["llama", "gemma2"])
def test_what_bfloat16_nearly_hides_is_named(tmp_path, name):
    """Probabilities that were rounded to float16 before they were to bfloat16."""
    fault = next(f for f in faults.of(name) if f.text == "softmax_in=torch.float16")
    stage, cause, report = battery.Battery(name, torch.bfloat16, tmp_path / "a.trace").judge([fault], "house")
    assert stage and cause, battery.summary(report)


def test_layers_in_another_order_are_told_as_such(tmp_path):
    fault = next(f for f in faults.of("olmoe") if f.name == "layer_order")
    stage, cause, report = battery.Battery("olmoe", torch.float32, tmp_path / "a.trace").judge([fault], "own")
    assert stage and cause and report["findings"][0]["found"] == "exchanged", battery.summary(report)


def test_faults_outside_the_catalogue_are_unexplained(tmp_path):
    rng = random.Random(SEED)
    sample = [(rng.choice(fault.models), [fault], "house") for fault in faults.UNKNOWN]
    found, missed = judged(sample, tmp_path)
    assert len(found) >= 12 and not missed


def test_the_engine_shows_what_is_planted():
    """A fault changes the stage that it is about and none before it."""
    clean = Engine(battery.folder("qwen3")).run(battery.prompt("qwen3"), 1)
    wrong = Engine(battery.folder("qwen3"), {"rope_interleaved": True}).run(battery.prompt("qwen3"), 1)
    assert battery.departs(clean, wrong)[0] == (0, "layers.0.attn.q_rope")
    assert checkpoints.golden("qwen3")["long"].ids[:4].tolist() == clean.ids[0][:4]
    assert isinstance(trace_of(wrong, "own", torch.float32), plumb.Trace)
