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


def decoded(name, tmp_path, *texts):
    """The findings of a run with these faults, of which the decode steps alone were captured."""
    run = battery.Battery(name, torch.float32, tmp_path / "a.trace").run([next(f for f in faults.of(name) if f.text == text) for text in texts])
    report = battery.diagnose(trace_of(run, "decode", torch.float32), battery.folder(name), tmp_path / "a.trace")
    return [({f["row"], *f["also"]}, f["proved"]) for f in report["findings"]], battery.summary(report)


def test_what_an_unseen_prompt_left_is_no_finding_of_its_own(tmp_path):
    """What all later layers remember of the prompt was made by the same experts."""
    found, summary = decoded("mixtral", tmp_path, "experts_exchanged")
    assert len(found) == 1 and "15" in found[0][0] and found[0][1], summary


def test_a_fault_of_an_unseen_prompt_is_named_beside_another(tmp_path):
    """What the second layer remembers was made under another mask as well, which a decode step does not need."""
    found, summary = decoded("llama", tmp_path, "activation=gelu", "future=1")
    assert len(found) == 2 and "49" in found[0][0] and "44" in found[1][0], summary


def test_rows_of_queries_and_keys_are_one_cause(tmp_path):
    """A converter reorders both and leaves the values as they are; a norm with a weight for each channel stands between them and the rotation."""
    run = Engine(battery.folder("olmoe"), {"rows_q": ("neighbours", "q"), "rows_k": ("neighbours", "k")}).run(battery.prompt("olmoe"), 1)
    report = battery.diagnose(trace_of(run, "hidden", torch.float32), battery.folder("olmoe"), tmp_path / "a.trace")
    assert [(f["row"], f["proved"]) for f in report["findings"]] == [("16", True)], battery.summary(report)
