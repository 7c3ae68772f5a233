"""Faults in edited files of transformers (edited_faults.py), captured live and diagnosed: each is named by its row, at its stage, and
proved. edited_battery.py takes them with less captured, too."""

import edited_battery as battery
import pytest
from edited_faults import FAULTS

CASES = [(name, fault, "all") for name, faults in FAULTS.items() for fault in faults]
CASES += [("qwen3_5", FAULTS["qwen3_5"][0], mode) for mode in ("blocks", "logits")]


@pytest.mark.parametrize(("name", "fault", "mode"), CASES, ids=[f"{name}, {fault.name}, {mode}" for name, fault, mode in CASES])
def test_an_edit_is_named(plumb_binary, tmp_path, monkeypatch, name, fault, mode):
    monkeypatch.setattr(battery, "BINARY", plumb_binary)
    _, trace = battery.captured(name, fault.changes)
    report = battery.diagnose(battery.limited(trace, mode), battery.folder(name), tmp_path / "a.trace")
    assert battery.verdict(report, fault, mode) == (True, True), battery.summary(report)


@pytest.mark.parametrize("name", FAULTS)
def test_an_unedited_file_raises_no_alarm(plumb_binary, tmp_path, monkeypatch, name):
    monkeypatch.setattr(battery, "BINARY", plumb_binary)
    _, trace = battery.captured(name, ())
    for mode in battery.MODES:
        report = battery.diagnose(battery.limited(trace, mode), battery.folder(name), tmp_path / "a.trace")
        assert (report["verdict"], report["findings"]) == ("benign", []), (mode, report["summary"])
