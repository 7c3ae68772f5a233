"""Faults planted in transformers by a patch, captured live with plumb.capture and diagnosed: each is named by its row, at its
stage, and proved. Right runs of other kinds (attention, precision, experts, chunks) raise no alarm."""

import contextlib
import itertools
import json
import random
import re
import subprocess

import checkpoints
import live_seed
import plumb as package
import planted
import pytest
import torch
from capture_models import load, run
from edited_battery import limited
from tokenizers import Tokenizer
from transformers import DynamicCache

IDS = [int(i) for i in checkpoints.golden("llama")["long"].ids[:32]]  # past the windows of 24
SINGLES = [(fault, name) for fault in planted.FAULTS for name in fault.checkpoints]


def faulty(name, *faults, dtype=torch.float32):
    """A captured run of a checkpoint's model with the faults planted; the logits must be others."""
    model = load(checkpoints.folder(name), dtype)
    right = run(model, IDS, steps=1)
    with torch.no_grad(), contextlib.ExitStack() as undo:
        for fault in faults:
            plant = fault.plant(model)
            if hasattr(plant, "__enter__"):
                undo.enter_context(plant)
        with package.capture(model) as trace:
            wrong = run(model, IDS, steps=1)
    assert not torch.equal(right[0], wrong[0])
    return trace


def diagnose(plumb_binary, trace, out, folder):
    trace.write(out, force=True)
    done = subprocess.run(
        [plumb_binary, "diagnose", out, "--model", folder, "--json"], capture_output=True, text=True, timeout=300
    )
    assert done.returncode in (0, 1), done.stderr
    return json.loads(done.stdout)


def names(finding, fault):
    """A finding that is the fault: its row among those it may be, at its stage, proved over the whole network."""
    rows = {finding["row"], *finding["also"]}
    return bool(rows & set(fault.rows)) and bool(re.fullmatch(fault.stage, finding["stage"])) and finding["proved"]


@pytest.mark.parametrize(("fault", "name"), SINGLES, ids=[f"{fault.name}, {name}" for fault, name in SINGLES])
def test_a_fault_is_named(plumb_binary, tmp_path, fault, name):
    report = diagnose(plumb_binary, faulty(name, fault), tmp_path / "a.trace", checkpoints.folder(name))
    assert report["verdict"] == "fault" and len(report["findings"]) == 1, report["summary"]
    assert names(report["findings"][0], fault), report["summary"]


def drawn_pairs(count=8):
    """Pairs of faults at different stages of one checkpoint, others in each run."""
    rng = random.Random(live_seed.SEED)
    every = [
        (name, pair)
        for name in ("llama", "qwen3", "olmoe", "gemma2", "qwen2", "mixtral")
        for pair in itertools.combinations([f for f in planted.FAULTS if name in f.checkpoints], 2)
        if pair[0].stage != pair[1].stage
    ]
    return rng.sample(every, count)


PAIRS = drawn_pairs()


def test_pairs_are_named(plumb_binary, tmp_path):
    """Both of at least four pairs in five, and of each the first (the issue's measure)."""
    missed = []
    for name, pair in PAIRS:
        report = diagnose(plumb_binary, faulty(name, *pair), tmp_path / "a.trace", checkpoints.folder(name))
        found = [any(names(finding, fault) for finding in report["findings"]) for fault in pair]
        if not all(found):
            missed.append((name, [fault.name for fault in pair], report["summary"]))
        assert any(found), missed[-1]
    print(*missed, sep="\n")
    assert len(missed) <= len(PAIRS) // 5, missed


def test_what_no_catalogue_has_is_unexplained(plumb_binary, tmp_path):
    for name in ("llama", "qwen3", "olmoe"):
        trace = faulty(name, planted.Fault("damped", (), "", (), planted.catalogue_has_none))
        report = diagnose(plumb_binary, trace, tmp_path / "a.trace", checkpoints.folder(name))
        assert report["verdict"] == "unexplained" and report["findings"][0]["row"] is None
        assert report["findings"][0]["stage"] == "layers.1.attn.out"


@pytest.mark.parametrize("name", [name for name in checkpoints.names() if checkpoints.is_trained(name)])
def test_right_runs_raise_no_alarm(plumb_binary, tmp_path, name):
    folder, kinds = (
        checkpoints.folder(name),
        [(torch.float32, "eager"), (torch.bfloat16, "eager"), (torch.float16, "eager"), (torch.float32, "sdpa")],
    )
    if name in ("gpt_oss", "deepseek_v4", "gemma2"):  # have no fused attention
        kinds.pop()
    if name == "deepseek_v4":  # leaves the range of float16
        kinds.pop()
    for dtype, attention in kinds:
        model = load(folder, dtype, attention)
        with package.capture(model) as trace:
            run(model, IDS, steps=1)
        report = diagnose(plumb_binary, trace, tmp_path / "a.trace", folder)
        assert (report["verdict"], report["findings"]) == ("benign", []), (dtype, attention, report["summary"])


TIED = {
    "chat": "<|im_start|>user\nWhat is 3 + 4?<|im_end|>\n<|im_start|>assistant\n7<|im_end|>\n<|im_start|>user\nWhich month comes after March? Say it in one word, please.<|im_end|>\n",
    "prose": "The capital of France is Paris. France is a country in Europe. People in France speak French. Paris is the capital of France. The capital of Germany is Berlin. Germany is a country in Europe",
}


def tied(text):
    folder = checkpoints.folder("deepseek_v4")
    return folder, Tokenizer.from_file(str(folder / "tokenizer.json")).encode(TIED[text]).ids


@pytest.mark.parametrize(("text", "mode"), [("chat", "blocks"), ("chat", "logits"), ("prose", "logprobs")])
def test_ties_of_an_index_raise_no_alarm(plumb_binary, tmp_path, text, mode):
    """Products that relu cuts off are zero to the bit: which block is chosen of two such is torch's to say, and was not captured."""
    folder, ids = tied(text)
    model = load(folder, torch.float32)
    with package.capture(model, token_ids=ids) as trace:
        run(model, ids, steps=1)
    report = diagnose(plumb_binary, limited(trace, mode), tmp_path / "a.trace", folder)
    assert (report["verdict"], report["findings"]) == ("benign", []), report["summary"]


def test_a_fault_beside_ties_of_an_index_is_proved(plumb_binary, tmp_path):
    """The proof runs the network from the ids alone: it must break ties as the suspect does, whose choices were captured."""
    folder, ids = tied("prose")
    model = load(folder, torch.float32)
    for layer in model.model.layers:
        layer.attn_hc.hc_sinkhorn_iters = 2
    with package.capture(model, token_ids=ids) as trace:
        run(model, ids, steps=1)
    report = diagnose(plumb_binary, trace, tmp_path / "a.trace", folder)
    assert [(f["row"], f["found"], f["proved"]) for f in report["findings"]] == [("68", 2, True)], report["summary"]


@torch.no_grad()
def test_a_prompt_in_pieces_raises_no_alarm(plumb_binary, tmp_path):
    for name in ("qwen3", "gemma3", "qwen3_5"):
        model = load(checkpoints.folder(name), torch.float32)
        cache = DynamicCache(config=model.config)
        with package.capture(model, token_ids=IDS) as trace:
            for piece in (IDS[:20], IDS[20:31], IDS[31:]):
                model(torch.tensor([piece]), past_key_values=cache)
        report = diagnose(plumb_binary, trace, tmp_path / "a.trace", checkpoints.folder(name))
        assert (report["verdict"], report["findings"]) == ("benign", []), (name, report["summary"])


def test_sampling_is_told_from_a_fault(plumb_binary, tmp_path):
    torch.manual_seed(3)
    folder = checkpoints.folder("qwen3")
    model = load(folder, torch.float32)
    for sampled, verdict in ((True, "sampler"), (False, "benign")):
        with package.capture(model) as trace:
            model.generate(
                torch.tensor([IDS[:12]]), max_new_tokens=16, do_sample=sampled, temperature=1.5 if sampled else None, top_k=None
            )
        trace.sampler = None  # what the engine says of itself is not what it does
        report = diagnose(plumb_binary, trace, tmp_path / "a.trace", folder)
        assert report["verdict"] == verdict, report["summary"]
