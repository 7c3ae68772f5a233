"""Traces as people write them with other engines' tools (stranger_traces.py): their names, axes and gaps. A right run raises no alarm, a fault is
named at the stage at which the trace shows it."""

import batteries
import independent_battery as battery
import independent_faults as faults
import pytest
import torch
from independent_engine import Engine
from stranger_traces import FORMS, trace_of

MODELS = ("qwen3", "gemma2", "olmoe", "gpt_oss", "phi3", "olmo2", "llama", "qwen2", "glm4", "mixtral", "gemma3", "olmo3", "smollm3", "qwen3_moe")


@pytest.fixture(autouse=True)
def binary(plumb_binary, monkeypatch):
    monkeypatch.setattr(batteries, "BINARY", plumb_binary)


@pytest.mark.parametrize("place", range(len(FORMS)), ids=list(FORMS))
def test_a_right_run_raises_no_alarm(tmp_path, place):
    form = list(FORMS)[place]
    for name in (MODELS[place % len(MODELS)], MODELS[(place + 3) % len(MODELS)]):
        run = Engine(battery.folder(name)).run(battery.prompt(name), 2)
        report = battery.diagnose(trace_of(run, form, torch.float32), battery.folder(name), tmp_path / "a.trace")
        assert (report["verdict"], report["findings"]) == ("benign", []), (name, battery.summary(report))


def test_hidden_states_of_two_bytes_raise_no_alarm(tmp_path):
    """The last of them bears the last layer's number and stands behind the layers."""
    run = Engine(battery.folder("mixtral"), dtype=torch.bfloat16).run(battery.prompt("mixtral"), 2)
    report = battery.diagnose(trace_of(run, "hidden", torch.bfloat16), battery.folder("mixtral"), tmp_path / "a.trace")
    assert (report["verdict"], report["findings"]) == ("benign", []), battery.summary(report)


def test_angles_of_single_tokens_raise_no_alarm(tmp_path):
    """A token far behind the first has angles that float32 rounds by more than the rotated values: frequencies taken in double round otherwise."""
    run = Engine(battery.folder("gpt_oss")).run((list(battery.prompt("gpt_oss")) * 8)[:250], 10)
    report = battery.diagnose(trace_of(run, "decode", torch.float32), battery.folder("gpt_oss"), tmp_path / "a.trace")
    assert (report["verdict"], report["findings"]) == ("benign", []), battery.summary(report)


# What is captured, of which checkpoint, with which fault: the stage is the one at which the form shows it.
SHOWN = [
    ("callback", "qwen3", "rope_interleaved", "30"),
    ("modules", "olmoe", "eps=0.0001", "21"),
    ("vllm", "gemma2", "window_more=1", "42"),
    ("mlx", "qwen3", "theta=12345.0", "31"),
    ("hidden", "llama", "theta=12345.0", "31"),
    ("from_one", "qwen2", "no_mlp_norm in (1,)", "26"),
    ("lettered", "gpt_oss", "no_sinks", "45"),
    ("ends", "phi3", "theta=100000.0", "31"),
    ("decode", "olmoe", "future=-1", "44"),
    ("halves", "gemma3", "kv_tiled", "17"),
    ("columns", "qwen3", "rope_interleaved", "30"),
    ("columns", "gemma2", "window_more=1", "42"),
]


@pytest.mark.parametrize(("form", "name", "text", "row"), SHOWN, ids=[" ".join(s[:3]) for s in SHOWN])
def test_a_fault_is_named_where_it_shows(tmp_path, form, name, text, row):
    fault = next(f for f in faults.of(name) if f.text == text)
    stage, cause, report = battery.Battery(name, torch.float32, tmp_path / "a.trace").judge([fault], form)
    assert row in fault.rows and stage and cause, battery.summary(report)


# What is captured, of which checkpoint, with which fault: what follows from it is no finding of its own. The last hidden state stands behind the final
# norm; a decode step under the cause of the prompt is right.
ALONE = [
    ("hidden", "gemma2", "transposed_o", "13"),
    ("logits", "gemma3", "window_more=-1", "42"),
]


@pytest.mark.parametrize(("form", "name", "text", "row"), ALONE, ids=[" ".join(s[:3]) for s in ALONE])
def test_nothing_is_found_beside_a_fault(tmp_path, form, name, text, row):
    fault = next(f for f in faults.of(name) if f.text == text)
    report = battery.Battery(name, torch.float32, tmp_path / "a.trace").judge([fault], form)[2]
    assert [f["row"] for f in report["findings"]] == [row], battery.summary(report)
