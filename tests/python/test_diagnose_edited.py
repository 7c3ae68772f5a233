"""Faults in edited files of transformers (edited_faults.py), captured live and diagnosed: each is named by its row, at its stage, and
proved. Those that were once missed are always taken, a draw of the others besides; edited_battery.py takes them all."""

import random

import batteries
import edited_battery as battery
import live_seed
import pytest
from edited_faults import FAULTS

# What is captured, and of which model which faults.
ALWAYS = {
    "all": {
        "deepseek_v4": (
            "19 of 20 Sinkhorn steps", "comb without eps", "one entry fewer is chosen", "sinks times the scale", "streams averaged",
            "pre and post exchanged", "heads dealt to groups in turn", "hash of the token before", "decode forgets new entries",
        ),
        "qwen3_5": ("key heads tiled", "memory not subtracted", "state forgotten in decode", "decay and beta exchanged", "gate's half first"),
        "gpt_oss": ("sinks times the scale", "experts' gate biases missing"),
        "olmoe": ("softmax over the chosen",),
        "smollm3": ("flags reversed", "counted from one", "every layer rotates"),
    },
    "blocks": {
        "deepseek_v4": ("19 of 20 Sinkhorn steps", "heads dealt to groups in turn", "heavy entries seen from their first token", "softmax alone"),
        "qwen3_5": ("key heads tiled",),
        "smollm3": ("counted ahead", "second layer left out"),
    },
    "logits": {"qwen3_5": ("key heads tiled",), "smollm3": ("flags reversed", "counted from one")},
}  # fmt: skip
DRAWN = 8


def chosen():
    for mode, models in ALWAYS.items():
        for name, faults in models.items():
            yield from ((name, next(f for f in FAULTS[name] if f.name == wanted), mode) for wanted in faults)
    others = [(name, fault, "all") for name, faults in FAULTS.items() for fault in faults if fault.name not in ALWAYS["all"][name] and not fault.hard]
    yield from random.Random(live_seed.SEED).sample(others, DRAWN)


CASES = list(chosen())


@pytest.mark.parametrize(("name", "fault", "mode"), CASES, ids=[f"{name}, {fault.name}, {mode}" for name, fault, mode in CASES])
def test_an_edit_is_named(plumb_binary, tmp_path, monkeypatch, name, fault, mode):
    monkeypatch.setattr(batteries, "BINARY", plumb_binary)
    _, trace = battery.captured(name, fault.changes)
    report = battery.diagnose(battery.limited(trace, mode), battery.folder(name), tmp_path / "a.trace")
    assert battery.verdict(report, fault, mode) == (True, True), battery.summary(report)


def test_what_an_unseen_prompt_left_is_no_finding_of_its_own(plumb_binary, tmp_path, monkeypatch):
    """Of decode steps alone: what later layers remember was made by the fault in the prompt, which was not captured."""
    monkeypatch.setattr(batteries, "BINARY", plumb_binary)
    fault = next(f for f in FAULTS["deepseek_v4"] if f.name == "softmax of columns")
    _, trace = battery.captured("deepseek_v4", fault.changes)
    report = battery.diagnose(battery.limited(trace, "decode"), battery.folder("deepseek_v4"), tmp_path / "a.trace")
    assert report["findings"] and {f["row"] for f in report["findings"]} <= set(fault.rows), battery.summary(report)


@pytest.mark.parametrize("name", FAULTS)
def test_an_unedited_file_raises_no_alarm(plumb_binary, tmp_path, monkeypatch, name):
    monkeypatch.setattr(batteries, "BINARY", plumb_binary)
    _, trace = battery.captured(name, ())
    for mode in battery.MODES:
        report = battery.diagnose(battery.limited(trace, mode), battery.folder(name), tmp_path / "a.trace")
        assert (report["verdict"], report["findings"]) == ("benign", []), (mode, report["summary"])
