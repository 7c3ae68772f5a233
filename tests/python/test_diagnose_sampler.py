"""plumb diagnose on the choice of tokens and the end of generation: against the suspect's own logits or log-probabilities, and against what its trace
says of its sampler. Each network is right."""

import functools

import checkpoints
import numpy as np
import plumb as package
import pytest
import torch
from capture_models import load
from diagnoses import IDS, diagnose, write
from transformers import DynamicCache

FOLDER = checkpoints.folder("qwen3")
PROMPT = IDS[:8]


@functools.cache
def model():
    return load(FOLDER, torch.float32)


def largest(row, _history):
    return int(np.argmax(row))


def drawn(temperature, seed, top_k=0):
    """Draws from logits over a temperature, behind a cut."""
    rng = np.random.default_rng(seed)

    def choose(row, _history):
        scaled = row / temperature
        if top_k:
            scaled = np.where(scaled < np.sort(scaled)[-top_k], -np.inf, scaled)
        chances = np.exp(scaled - scaled.max())
        return int(rng.choice(len(row), p=chances / chances.sum()))

    return choose


def penalised(repetition=1.0, presence=0.0, frequency=0.0, answer=False):
    def choose(row, history):
        row, seen = row.copy(), history[len(PROMPT) :] if answer else history
        for i in set(seen):
            row[i] = row[i] / repetition if row[i] > 0 else row[i] * repetition
            row[i] -= presence + frequency * seen.count(i)
        return int(np.argmax(row))

    return choose


def run(choose, steps, reported=False, stop=(), **manifest):
    """A trace of the last rows alone, as logits or as the 20 likeliest ids' log-probabilities."""
    trace = package.Trace(engine={"name": "stranger"}, dtype="float32", token_ids=PROMPT, **manifest)
    history, fed, cache = list(PROMPT), list(PROMPT), DynamicCache(config=model().config)
    with torch.no_grad():
        for _ in range(steps):
            row = model()(torch.tensor([fed]), past_key_values=cache, use_cache=True).logits[0, -1:]
            trace.add_step(len(fed))
            if reported:
                values, ids = row.log_softmax(-1).topk(20)
                trace.add("logprobs.ids", ids.int().numpy())
                trace.add("logprobs", values.numpy())
            else:
                trace.add("logits", row.numpy())
            fed = [choose(row[0].double().numpy(), history)]
            history += fed
            if fed[0] in stop:
                break
    trace.generated = history[len(PROMPT) :]
    return trace


def judged(plumb_binary, tmp_path, trace):
    code, report = diagnose(plumb_binary, write(trace, tmp_path / "a.trace"), FOLDER)
    return code, report["verdict"], [(f["row"], f["found"]) for f in report["findings"]], report


@pytest.mark.parametrize(
    ("reported", "choose", "sampler", "row", "words"),
    [
        (False, drawn(0.8, 1), None, "8", "drawn, not the largest"),
        (True, drawn(1.0, 3), {"do_sample": False, "temperature": 1.0}, "8", "drawn, not the largest"),
        (False, drawn(1.5, 6), {"temperature": 1.5, "top_k": 3}, "8", "top k named by the trace leaves out"),
        (True, drawn(1.5, 7), {"temperature": 1.5, "min_p": 0.3}, "8", "min p named by the trace leaves out"),
        (False, drawn(1.5, 7), {"temperature": 1.5, "top_p": 0.5}, "8", "top p named by the trace leaves out"),
        (True, largest, {"temperature": 1.5}, "8", "temperature that the trace names is not applied"),
        (False, penalised(1.3), None, "10", "over prompt and answer"),
        (True, penalised(1.3, answer=True), None, "10", "over the answer alone"),
        (False, penalised(presence=2.5, answer=True), {"temperature": 0}, "10", "penalised before the choice"),
        (True, penalised(1.3, answer=True), {"temperature": 0, "repetition_penalty": 1.3}, "10", "where the trace names a repetition penalty of 1.3"),
        (False, largest, {"temperature": 0, "repetition_penalty": 1.5}, "10", "not applied: every token is the largest"),
    ],
)
def test_another_choice_than_the_trace_says(plumb_binary, tmp_path, reported, choose, sampler, row, words):
    code, verdict, found, report = judged(plumb_binary, tmp_path, run(choose, 20, reported, sampler=sampler))
    assert (code, verdict, [r for r, _ in found]) == (1, "sampler", [row]), report["summary"]
    assert words in report["summary"]


def test_a_temperature_applied_twice(plumb_binary, tmp_path):
    _, verdict, found, report = judged(plumb_binary, tmp_path, run(drawn(4.0, 5), 40, sampler={"temperature": 2.0}))
    assert (verdict, found) == ("sampler", [("8", 4)]) and "applied twice" in report["summary"], report["summary"]


@pytest.mark.parametrize(
    ("reported", "choose", "sampler"),
    [
        (True, largest, {"temperature": 0}),
        (False, drawn(0.8, 11), {"temperature": 0.8, "seed": 11}),
        (True, drawn(1.2, 12, top_k=20), {"temperature": 1.2, "top_k": 20, "top_p": 1.0, "do_sample": True}),
        (False, penalised(1.3), {"temperature": 0, "repetition_penalty": 1.3}),
        (True, penalised(presence=2.5, answer=True), {"temperature": 0, "presence_penalty": 2.5}),
    ],
)
def test_a_sampler_that_does_what_the_trace_says(plumb_binary, tmp_path, reported, choose, sampler):
    code, verdict, found, report = judged(plumb_binary, tmp_path, run(choose, 20, reported, sampler=sampler))
    assert (code, verdict, found) == (0, "benign", []), report["summary"]
    assert next(rung for rung in report["rungs"] if rung["rung"] == "sampler")["verdict"] == "ok"


STOPS = [0, 2]


@pytest.mark.parametrize(
    ("manifest", "stop", "steps", "words"),
    [
        ({"stop_ids": []}, (), 16, "past a stop id that the suspect's set lacks"),
        ({"stop_ids": STOPS}, (), 16, None),  # it was told to go on
        ({"stop_ids": [*STOPS, "second"]}, ("second",), 16, "does not name as a stop id"),
        ({"stop_ids": STOPS, "sampler": {"temperature": 0, "max_tokens": 9}}, (), 3, "before the trace's largest number"),
        ({"sampler": {"temperature": 0, "max_tokens": 2}}, (), 3, "more tokens are generated"),
        ({"sampler": {"temperature": 0, "stop": ["text"]}}, (), 4, "past a text at which"),
        ({"stop_ids": STOPS}, STOPS, 16, None),
        ({"stop_ids": STOPS, "sampler": {"temperature": 0, "max_tokens": 3}}, STOPS, 3, None),
        ({"stop_ids": [2]}, (), 2, None),
        ({"stop_ids": STOPS, "engine": {"name": "stranger", "settings": {"ignore_eos": True}}}, (), 16, None),
        ({}, (), 16, None),
    ],
)
def test_the_end(plumb_binary, tmp_path, manifest, stop, steps, words):
    from tokenizers import Tokenizer

    first = run(largest, 2).generated
    text = Tokenizer.from_file(str(FOLDER / "tokenizer.json")).decode(first)
    manifest = dict(manifest)
    trace = run(largest, steps, stop=[first[1] if i == "second" else i for i in stop])
    for key, value in manifest.items():
        if key == "stop_ids":
            value = [first[1] if i == "second" else i for i in value]
        if key == "sampler" and "stop" in value:
            value = value | {"stop": [text[-4:]]}
        setattr(trace, key, value)
    code, verdict, found, report = judged(plumb_binary, tmp_path, trace)
    if words is None:
        assert (code, verdict, found) == (0, "benign", []), report["summary"]
    else:
        assert (code, verdict, [row for row, _ in found]) == (1, "stop", ["7"]) and words in report["summary"], report["summary"]
