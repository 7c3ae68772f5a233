"""Rows of docs/causes.md that no mutation plants: what an engine shows of them, made by independent_engine.py, and the verdict."""

import random
import shutil

import checkpoints
import independent_battery as battery
import plumb
import pytest
import torch
from diagnoses import diagnose, write
from independent_engine import Engine
from independent_traces import trace_of
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer


def judged(plumb_binary, trace, tmp_path, model, *options):
    return diagnose(plumb_binary, write(trace, tmp_path / "a.trace"), model, *options)[1]


def rows(report):
    return [(finding["row"], finding["stage"]) for finding in report["findings"]]


def edited(name, tmp_path, change):
    """A copy of a checkpoint with other weights."""
    folder = tmp_path / name
    shutil.copytree(checkpoints.folder(name), folder)
    for path in folder.glob("*.safetensors"):
        weights = load_file(path)
        change(weights)
        save_file(weights, path, metadata={"format": "pt"})
    return folder


@pytest.mark.parametrize(
    ("text", "change"),
    [
        ("the day<|im_end|>and night", lambda text: " " + text),
        ("the day<|im_end|>and night", lambda text: text.replace("<|im_end|>", "<|im_end|> ")),
        ("<|im_start|>the day and night", lambda text: " " + text),  # a token of its own, that is no padding
    ],
)
def test_a_space_too_many(plumb_binary, tmp_path, text, change):
    """Row 4."""
    folder = checkpoints.folder("qwen3")
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    ids = tokenizer.encode(change(text), add_special_tokens=False).ids
    assert ids != tokenizer.encode(text, add_special_tokens=False).ids
    trace = trace_of(Engine(folder).run(ids, 1), "logits", torch.float32)
    trace.prompt = text
    report = judged(plumb_binary, trace, tmp_path, folder)
    assert report["verdict"] == "tokens" and rows(report) == [("4", "token_ids")], report["summary"]


def test_a_near_tie_is_no_fault(plumb_binary, tmp_path):
    """Row 11: of two logits that are equal in bfloat16 the other is chosen than in float32."""
    folder, drawn = checkpoints.folder("llama"), random.Random(1)
    for _ in range(400):
        ids = [drawn.randrange(3, 900) for _ in range(6)]
        run = Engine(folder, {}, torch.bfloat16).run(ids, 0)
        tied = (run.values[0]["logits"][-1] == run.values[0]["logits"][-1].max()).nonzero().flatten().tolist()
        right = Engine(folder).run(ids, 0)
        if len(tied) > 1 and right.generated[0] in tied:
            break
    else:
        pytest.fail("no prompt ties")
    run.generated = [next(i for i in tied if i != right.generated[0])]
    reference = write(trace_of(right, "house", torch.float32), tmp_path / "reference.trace")
    report = judged(plumb_binary, trace_of(run, "house", torch.bfloat16), tmp_path, folder, "--reference", reference)
    assert report["verdict"] == "benign" and report["blame"] == "neither", report["summary"]
    assert any(line.startswith("ids generated: they differ") for line in report["differences"])


def speculated(folder, ids, drafts):
    """One pass over the prompt, one over a chosen token and what was drafted behind it, and one choice more."""
    first = Engine(folder).run(ids, 0).generated
    whole = Engine(folder).run(ids + first + drafts(ids + first), 0)
    fed = whole.ids[0][len(ids) :]
    trace = plumb.Trace(engine={"name": "independent"}, dtype="float32", token_ids=ids, generated=fed + whole.generated)
    trace.add_step(len(ids), 0)
    trace.add("logits", whole.values[0]["logits"][: len(ids)].numpy())
    trace.add_step(len(fed), len(ids))
    trace.add("logits", whole.values[0]["logits"][len(ids) :].numpy())
    return trace


def test_a_draft_that_is_not_verified(plumb_binary, tmp_path):
    """Row 12."""
    folder, ids = checkpoints.folder("llama"), checkpoints.golden("llama")["long"].ids[:12].tolist()

    def own(prompt):
        return Engine(folder).run(prompt, 1).generated

    def wrong(prompt):
        first, second = own(prompt)
        return [first + 1, second]

    report = judged(plumb_binary, speculated(folder, ids, own), tmp_path, folder)
    assert report["verdict"] == "benign" and "4 of 4" in next(r["why"] for r in report["rungs"] if r["rung"] == "sampler"), report["rungs"]
    report = judged(plumb_binary, speculated(folder, ids, wrong), tmp_path, folder)
    assert report["verdict"] == "sampler" and rows(report) == [("12", "sampler")], report["summary"]


@pytest.mark.parametrize("mode", ["house", "own", "blocks"])
def test_an_expert_bias_that_is_not_weighted(plumb_binary, tmp_path, mode):
    """Row 53."""
    folder = checkpoints.folder("gpt_oss")
    run = Engine(folder, {"expert_bias_unweighted": True}).run(battery.prompt("gpt_oss"), 1)
    report = judged(plumb_binary, trace_of(run, mode, torch.float32), tmp_path, folder)
    assert rows(report)[0][0] == "53" and report["findings"][0]["proved"], report["summary"]


def test_tied_experts_are_no_fault(plumb_binary, tmp_path):
    """Row 54: half of the experts tie at each token, and those of the largest numbers are taken."""

    def tie(weights):
        for name, weight in weights.items():
            if name.endswith("mlp.gate.weight"):
                weight[1:5] = weight[:1]

    folder = edited("olmoe", tmp_path, tie)
    ids = battery.prompt("olmoe")
    first, last = Engine(folder).run(ids, 1), Engine(folder, {"ties_to_the_last": True}).run(ids, 1)
    assert any((a["layers.0.moe.ids"] != b["layers.0.moe.ids"]).any() for a, b in zip(first.values, last.values, strict=True))
    for run in (first, last):
        report = judged(plumb_binary, trace_of(run, "house", torch.float32), tmp_path, folder)
        assert report["verdict"] == "benign", report["summary"]


@pytest.mark.parametrize("mode", ["house", "ggml"])
def test_float16_overflows(plumb_binary, tmp_path, mode):
    """Row 57: the network's own values pass 65504."""

    def enlarge(weights):
        for name, weight in weights.items():
            if name.endswith("layers.1.mlp.down_proj.weight"):
                weight *= 2.0**13
            if name.endswith("layers.1.mlp.up_proj.weight"):
                weight *= 2.0**6

    folder = edited("llama", tmp_path, enlarge)
    ids = battery.prompt("llama")
    right = Engine(folder).run(ids, 1)
    assert judged(plumb_binary, trace_of(right, mode, torch.float32), tmp_path, folder)["verdict"] == "benign"
    run = Engine(folder, {}, torch.float16).run(ids, 0)
    assert all(weight.isfinite().all() for weight in Engine(folder, {}, torch.float16).weights.values())
    assert not run.values[0]["layers.1.mlp.out"].isfinite().all() and run.values[0]["layers.0.residual"].isfinite().all()
    report = judged(plumb_binary, trace_of(run, mode, torch.float16), tmp_path, folder)
    assert rows(report)[0] == ("57", "layers.1.mlp.out"), report["summary"]
