"""No right run is called wrong, in whatever type it was computed and stored, however few tokens show it: a sample of right_runs.py, and runs of which
one drawing of rounding errors says less than they err by."""

import random

import batteries
import pytest
import right_runs
import torch
from independent_battery import NAMES, summary
from right_runs import Case

FLOAT, BRAIN, HALF = right_runs.TYPES

# What errs, and why by more than one run of ours: a few numbers that were moved as they were written (a router's logits, a softmax's scores,
# gates), a bias added to a rounded product, tables of a rotation in two bytes, keys that all layers of the prompt made.
NEAR = [
    Case("qwen2", 34, 0, BRAIN, BRAIN, "decode", "house"),  # attn.probs: keys of the prompt
    Case("qwen2", 1, 3, HALF, HALF, "decode", "house"),  # attn.scores: the same
    Case("gpt_oss", 1, 0, BRAIN, BRAIN, "both", "house"),  # moe.logits: a bias
    Case("glm4", 1, 2, BRAIN, BRAIN, "both", "house"),  # attn.v: a bias
    Case("olmo3", 34, 0, BRAIN, BRAIN, "both", "house"),  # attn.q_rope: tables
    Case("gpt_oss", 1, 1, BRAIN, FLOAT, "prompt", "house"),  # attn.context: one probability, by which all of a head's numbers fall to another side
    Case("gpt_oss", 34, 1, FLOAT, BRAIN, "both", "house"),  # moe.probs: written in fewer bits, as all below
    Case("gpt_oss", 1, 2, FLOAT, HALF, "both", "house"),  # attn.scores
    Case("olmoe", 34, 1, FLOAT, BRAIN, "both", "house"),  # moe.probs
    Case("olmoe", 1, 0, HALF, BRAIN, "both", "house"),  # moe.weights
    Case("qwen3_moe", 4, 3, FLOAT, HALF, "both", "house"),  # moe.probs
    Case("phi3", 1, 1, FLOAT, HALF, "both", "house"),  # mlp.act
    Case("gemma3", 34, 1, FLOAT, HALF, "both", "house"),  # mlp.act
    Case("llama", 1, 2, FLOAT, BRAIN, "both", "house"),  # logits
    Case("mixtral", 1, 1, FLOAT, BRAIN, "both", "house"),  # attn.scores
]

# One token at position 0 is the same before its rotation and behind it, and its values are what attention yields: the decode steps tell which is which.
ONE_TOKEN = [
    Case("llama", 1, 0, FLOAT, FLOAT, "both", "callback"),
    Case("glm4", 1, 2, BRAIN, BRAIN, "both", "callback"),
    Case("gemma2", 1, 0, HALF, HALF, "both", "callback"),
    Case("olmoe", 1, 0, FLOAT, FLOAT, "both", "vllm"),
    Case("gpt_oss", 1, 0, BRAIN, BRAIN, "prompt", "callback"),
]

# One token's expert scores like another but for rounding: the engine took the one that ours does not, and no choice was captured.
NEAR_TIE = [Case("olmoe", 34, 1, BRAIN, BRAIN, "both", "numbered")]


@pytest.fixture(autouse=True)
def binary(plumb_binary, monkeypatch):
    monkeypatch.setattr(batteries, "BINARY", plumb_binary)
    torch.set_num_threads(1)


def alarms(cases, tmp_path):
    return [f"{case}: {summary(report)}" for case, report in right_runs.alarms(cases, tmp_path / "a.trace")]


def test_what_few_numbers_decide_is_given_room(tmp_path):
    assert alarms(NEAR, tmp_path) == []


def test_one_token_under_names_of_their_own(tmp_path):
    assert alarms(ONE_TOKEN, tmp_path) == []


def test_a_choice_that_rounding_decides_is_either(tmp_path):
    assert alarms(NEAR_TIE, tmp_path) == []


def test_every_type_of_run_and_of_storage_is_right(tmp_path):
    every = right_runs.cases(NAMES, (1, 4, 34), range(2), tuple(right_runs.FORMS))
    assert alarms(random.Random(6).sample(every, 60), tmp_path) == []
