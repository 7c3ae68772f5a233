"""plumb diagnose on what an engine reports of right logits: bytes read as another type (row 20a), processed log-probabilities (row 9)."""

import json

import checkpoints
import pytest
import torch
from diagnoses import captured, diagnose, fault, write
from safetensors.torch import load_file, save_file

FOLDER = checkpoints.folder("qwen3")


@pytest.fixture(scope="module")
def right():
    return captured("qwen3", steps=2)


def judged(plumb_binary, trace, folder, change, model=FOLDER):
    """The answer on a trace with other tensors."""
    out = write(trace, folder / "a.trace")
    tensors = change(load_file(out / "tensors.safetensors"))
    save_file({name: value.contiguous() for name, value in tensors.items()}, out / "tensors.safetensors")
    manifest = json.loads((out / "manifest.json").read_text())
    (out / "manifest.json").write_text(json.dumps(manifest | {"stages": sorted({name.split("/")[1] for name in tensors})}))
    return diagnose(plumb_binary, out, model)


def zero_extended(values, dtype=torch.bfloat16):
    """Two-byte numbers, each with two zero bytes behind it, seen as floats."""
    bits = values.to(dtype).contiguous().view(torch.int16).to(torch.int32) & 0xFFFF
    return bits.view(torch.float32)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("alone", [True, False])
def test_logits_read_wrong(plumb_binary, right, tmp_path, dtype, alone):
    def change(tensors):
        kept = {name: value for name, value in tensors.items() if not alone and not name.endswith("logits")}
        return kept | {name: zero_extended(value, dtype) for name, value in tensors.items() if name.endswith("/logits")}

    code, report = judged(plumb_binary, right, tmp_path, change)
    assert (code, report["verdict"]) == (1, "fault"), report["summary"]
    (finding,) = report["findings"]
    assert (finding["row"], finding["stage"], finding["found"], finding["proved"]) == ("20a", "logits", "float32", True)
    assert finding["expected"] == str(dtype).removeprefix("torch.") and "read as four-byte floats" in finding["cause"]
    assert next(rung for rung in report["rungs"] if rung["rung"] == "sampler")["verdict"] == "not observed"


def logprobs(tensors, report, k=8):
    """What an interface shows in place of logits: the k likeliest ids and `report` of their logits."""
    kept = {name: value for name, value in tensors.items() if not name.endswith("/logits")}
    for step in range(3):
        logits = tensors[f"{step}/logits"].double()
        ids = logits.topk(k).indices
        kept |= {f"{step}/logprobs.ids": ids.int(), f"{step}/logprobs": report(logits).gather(-1, ids).float()}
    return kept


def after(temperature=1.0, top_k=None, top_p=None):
    def report(logits):
        scaled = logits / temperature
        if top_k:
            least = scaled.topk(top_k).values[..., -1:]
            scaled = scaled.masked_fill(scaled < least, -torch.inf)
        if top_p:
            values, order = scaled.sort(descending=True)
            mass = values.softmax(-1).cumsum(-1) - values.softmax(-1)
            scaled = scaled.masked_fill((mass >= top_p).scatter(-1, order, mass >= top_p), -torch.inf)
        return scaled.log_softmax(-1)

    return report


@pytest.mark.parametrize("with_logits", [True, False])
@pytest.mark.parametrize("temperature", [0.6, 0.8, 1.37])
def test_a_temperature(plumb_binary, right, tmp_path, temperature, with_logits):
    def change(tensors):
        logits = {name: value for name, value in tensors.items() if name.endswith("/logits") and with_logits}
        return logprobs(tensors, after(temperature)) | logits

    code, report = judged(plumb_binary, right, tmp_path, change)
    assert (code, report["verdict"]) == (1, "sampler"), report["summary"]
    (finding,) = report["findings"]
    assert (finding["row"], finding["stage"], finding["proved"]) == ("9", "logprobs", True)
    assert finding["found"] == pytest.approx(temperature, rel=1e-6) and finding["expected"] == 1
    assert finding["also"] == ([] if with_logits else ["56"])


@pytest.mark.parametrize(("processing", "found"), [({"top_k": 12}, 12), ({"top_k": 5}, 5), ({"top_p": 0.9}, 0.9), ({"temperature": 0.7, "top_k": 20}, 20)])
def test_a_cut(plumb_binary, right, tmp_path, processing, found):
    code, report = judged(plumb_binary, right, tmp_path, lambda tensors: logprobs(tensors, after(**processing)))
    assert (code, report["verdict"]) == (1, "sampler"), report["summary"]
    (finding,) = report["findings"]
    assert finding["row"] == "9" and finding["found"] == pytest.approx(found, abs=0.011), finding
    assert ("over a temperature of 0.7" in finding["cause"]) == ("temperature" in processing)


def test_right_reports_raise_no_alarm(plumb_binary, right, tmp_path):
    code, report = judged(plumb_binary, right, tmp_path, lambda tensors: logprobs(tensors, after()))
    assert (code, report["findings"]) == (0, []), report["summary"]


def test_a_cap_is_no_temperature(plumb_binary, tmp_path):
    """Log-probabilities of logits without their cap are a fault of the network, row 56."""
    wrong = captured("gemma2", fault("logits' cap missing"), steps=2)
    code, report = judged(plumb_binary, wrong, tmp_path, lambda tensors: logprobs(tensors, after()), checkpoints.folder("gemma2"))
    assert report["verdict"] == "fault" and report["findings"][0]["row"] == "56", report["summary"]


def test_log_probabilities_read_wrong(plumb_binary, right, tmp_path):
    def change(tensors):
        kept = logprobs(tensors, after())
        return {name: zero_extended(value) if name.endswith("/logprobs") else value for name, value in kept.items()}

    code, report = judged(plumb_binary, right, tmp_path, change)
    assert (report["verdict"], [f["row"] for f in report["findings"]]) == ("fault", ["20a"]), report["summary"]


def penalised(row, seen, kind, amount):
    """A row of logits as samplers change it before they choose (transformers' processors; OpenAI's penalties)."""
    row = row.clone()
    for i in set(seen):
        if kind == "report.penalty":
            row[i] = row[i] / amount if row[i] > 0 else row[i] * amount
        else:
            row[i] -= amount * (seen.count(i) if kind == "report.frequency_penalty" else 1)
    if kind == "report.bias":
        row[5] += amount
    return row


def processed(right, change):
    """Of each pass the last row, changed: row and the ids before its choice."""

    def of(tensors):
        for step in range(3):
            logits = tensors[f"{step}/logits"]
            tensors[f"{step}/logits"] = torch.cat([logits[:-1], change(logits[-1], right.token_ids, right.generated[:step])[None]])
        return tensors

    return of


@pytest.mark.parametrize("generated", [True, False])
@pytest.mark.parametrize(("kind", "amount"), [("report.penalty", 1.3), ("report.presence_penalty", 1.5), ("report.frequency_penalty", 0.4)])
def test_penalised_logits(plumb_binary, right, tmp_path, kind, amount, generated):
    """Row 10."""
    change = processed(right, lambda row, prompt, new: penalised(row, ([] if generated else list(prompt)) + list(new), kind, amount))
    code, report = judged(plumb_binary, right, tmp_path, change)
    assert (code, report["verdict"]) == (1, "sampler"), report["summary"]
    (finding,) = report["findings"]
    assert (finding["row"], finding["stage"]) == ("10", "logits") and finding["found"] == pytest.approx(amount, abs=1e-3)


@pytest.mark.parametrize(("generated", "beside_logits"), [(False, False), (False, True), (True, True)])  # what was generated is not among the likeliest
@pytest.mark.parametrize(("kind", "amount"), [("report.penalty", 1.3), ("report.presence_penalty", 1.5), ("report.frequency_penalty", 0.4)])
def test_penalised_log_probabilities(plumb_binary, right, tmp_path, kind, amount, generated, beside_logits):
    """One finding, however many passes report them, and whether the logits that were changed were captured as well."""
    change = processed(right, lambda row, prompt, new: penalised(row, ([] if generated else list(prompt)) + list(new), kind, amount))

    def both(tensors):
        tensors = change(tensors)
        return ({k: v for k, v in tensors.items() if k.endswith("/logits")} if beside_logits else {}) | logprobs(tensors, after(), 20)

    code, report = judged(plumb_binary, right, tmp_path, both)
    assert (code, report["verdict"]) == (1, "sampler"), report["summary"]
    assert [f["row"] for f in report["findings"]] == ["10"], [(f["row"], f["stage"], f["field"] if "field" in f else f["cause"], f["found"]) for f in report["findings"]]
    assert report["findings"][0]["found"] == pytest.approx(amount, abs=1e-3)


def test_a_bias_on_an_id(plumb_binary, right, tmp_path):
    _, report = judged(plumb_binary, right, tmp_path, processed(right, lambda row, _prompt, _new: penalised(row, [], "report.bias", 4.0)))
    assert report["verdict"] == "sampler" and [(f["row"], f["found"]) for f in report["findings"]] == [("10", 4.0)], report["summary"]


@pytest.mark.parametrize(("cut", "found"), [({"top_k": 12}, 12), ({"top_p": 0.9}, 0.9)])
def test_logits_behind_a_cut(plumb_binary, right, tmp_path, cut, found):
    def change(row, _prompt, _new):
        return row.masked_fill(after(**cut)(row.double()[None])[0].isinf(), -torch.inf)

    _, report = judged(plumb_binary, right, tmp_path, processed(right, change))
    assert report["verdict"] == "sampler" and [f["row"] for f in report["findings"]] == ["9"], report["summary"]
    assert report["findings"][0]["found"] == pytest.approx(found, abs=0.02)


def test_a_head_with_another_element_is_no_bias(plumb_binary, right, tmp_path):
    """One id's logit off by what differs from row to row, as a wrong weight leaves it."""

    def change(tensors):
        for step in range(3):
            tensors[f"{step}/logits"][:, 7] += 0.1 * tensors[f"{step}/norm"].reshape(-1, 128)[:, 3]
        return tensors

    _, report = judged(plumb_binary, right, tmp_path, change)
    assert report["verdict"] == "unexplained", report["summary"]
