"""plumb diagnose with a trace of the reference implementation: each side is judged against fp64, and whichever departs is blamed."""

import json
import shutil

import checkpoints
import pytest
import torch
from diagnoses import IDS, captured, diagnose, diagnose_text, fault, write

EPS, THETA = fault("QK-norm eps"), fault("rope theta")
FOLDER = checkpoints.folder("qwen3")


@pytest.fixture(scope="module")
def traces(tmp_path_factory):
    """Traces of qwen3 by transformers: right ones in two dtypes, faulty ones, and one of another prompt."""
    folder = tmp_path_factory.mktemp("sides")
    made = {
        "right": captured("qwen3"),
        "bf16": captured("qwen3", dtype=torch.bfloat16),
        "eps": captured("qwen3", EPS),
        "theta": captured("qwen3", THETA),
        "other": captured("qwen3", ids=[*IDS[:9], IDS[9] + 1, *IDS[10:]]),
    }
    return {name: write(trace, folder / f"{name}.trace") for name, trace in made.items()}


def judge(plumb_binary, traces, suspect, reference):
    code, report = diagnose(plumb_binary, traces[suspect], FOLDER, "--reference", traces[reference])
    return code, report, [(f["side"], f["row"], f["cause_row"], f["stage"]) for f in report["findings"]]


def test_the_suspect_is_blamed(plumb_binary, traces):
    code, report, findings = judge(plumb_binary, traces, "eps", "right")
    assert (code, report["verdict"], report["blame"]) == (1, "fault", "suspect"), report["summary"]
    assert findings == [("suspect", "21", "21", "layers.0.attn.q_norm")]
    assert report["reference"]["verdict"] == "benign"
    assert "the suspect departs from the checkpoint, the reference does not" in report["summary"]


def test_the_reference_is_blamed(plumb_binary, traces):
    code, report, findings = judge(plumb_binary, traces, "right", "eps")
    assert (code, report["verdict"], report["blame"]) == (1, "fault", "reference"), report["summary"]
    assert findings == [("reference", "59", "21", "layers.0.attn.q_norm")]
    assert report["findings"][0]["proved"] and report["findings"][0]["found"] == pytest.approx(1e-5)
    assert "the reference departs from the checkpoint, the suspect does not" in report["summary"]
    assert report["reference"]["verdict"] == "fault"
    text = diagnose_text(plumb_binary, traces["right"], FOLDER, "--reference", traces["eps"])
    assert "row 59 (the reference is wrong) by row 21" in text and "Ladder of the reference" in text


def test_both_by_the_same_cause(plumb_binary, traces):
    code, report, findings = judge(plumb_binary, traces, "eps", "eps")
    assert (code, report["blame"]) == (1, "both alike") and "by the same cause" in report["summary"]
    assert [(side, row) for side, row, _, _ in findings] == [("suspect", "21"), ("reference", "59")]
    assert any("every value that both hold is equal" in words for words in report["differences"])


def test_each_by_its_own(plumb_binary, traces):
    code, report, findings = judge(plumb_binary, traces, "theta", "eps")
    assert (code, report["verdict"], report["blame"]) == (1, "fault", "both otherwise")
    assert [(side, row, by) for side, row, by, _ in findings] == [("suspect", "31", "31"), ("reference", "59", "21")]


@pytest.mark.parametrize(("suspect", "reference"), [("right", "bf16"), ("bf16", "right"), ("right", "right")])
def test_neither(plumb_binary, traces, suspect, reference):
    code, report, findings = judge(plumb_binary, traces, suspect, reference)
    assert (code, report["verdict"], report["blame"], findings) == (0, "benign", "neither", []), report["summary"]
    assert "the two differ only by rounding" in report["summary"]


def test_other_tokens_are_said(plumb_binary, traces):
    code, report, _ = judge(plumb_binary, traces, "right", "other")
    assert (code, report["blame"]) == (0, "neither")
    assert f"ids of the prompt: they differ from token 9 on: the suspect has {IDS[9]}, the reference {IDS[9] + 1}" in report["differences"]


def test_other_rendered_prompts_are_said(plumb_binary, traces, tmp_path):
    for name, rendered in (("a", "<s>one"), ("b", "<s>one more")):
        shutil.copytree(traces["right"], tmp_path / name)
        path = tmp_path / name / "manifest.json"
        path.write_text(json.dumps(json.loads(path.read_text()) | {"rendered": rendered}))
    _, report = diagnose(plumb_binary, tmp_path / "a", FOLDER, "--reference", tmp_path / "b")
    words = "rendered prompts: they differ from byte 6 on: the suspect ends there, the reference has 5 bytes more"
    assert words in report["differences"]


def test_a_reference_that_holds_nothing_is_said(plumb_binary, traces, tmp_path):
    empty = tmp_path / "empty.trace"
    empty.mkdir()
    manifest = json.loads((traces["right"] / "manifest.json").read_text())
    (empty / "manifest.json").write_text(json.dumps(manifest | {"stages": []}))
    (empty / "tensors.safetensors").write_bytes((2).to_bytes(8, "little") + b"{}")
    code, report = diagnose(plumb_binary, traces["eps"], FOLDER, "--reference", empty)
    assert code == 1 and report["verdict"] == "fault" and report["blame"] == "suspect"
    assert any(words.startswith("the reference: ") for words in report["not_observed"]), report["not_observed"]
