"""The tiny checkpoints of tests/data and what transformers computed on them (tests/data/README.md).

An architecture joins by its folder: config.json (and config.v4.json where older releases of transformers know it), weights and golden/.
"""
import functools
import json
import pathlib
from dataclasses import dataclass

import numpy as np
from safetensors import safe_open

REPOSITORY = pathlib.Path(__file__).resolve().parents[2]
CHECKPOINTS = REPOSITORY / "tests" / "data" / "checkpoints"
PROMPTS = ("capital", "sum", "one", "chat", "unicode", "long")
CONFIGS = ("config.json", "config.v4.json")


def names():
    return sorted(path.parent.name for path in CHECKPOINTS.glob("*/golden"))


def folder(name):
    return CHECKPOINTS / name


def config_forms(name):
    return [form for form in CONFIGS if (folder(name) / form).exists()]


def is_trained(name):
    """Whether the weights were trained or drawn at random; a model that was taught text has a tokenizer. Random weights amplify
    float32's noise, the reference's own too (its chunked recurrence is 3e-5 from double precision at single positions of
    qwen3_5_moe, plumb 6e-6), and flip routings in bfloat16: such models answer for whole prompts, not for each position."""
    return (folder(name) / "tokenizer.json").exists()


def names_and_forms():
    return [(name, form) for name in names() for form in config_forms(name)]


def config(name, form="config.json"):
    return json.loads((folder(name) / form).read_text())


@dataclass(frozen=True)
class Prompt:
    """One prompt of golden.safetensors. n tokens, `steps` greedy tokens after them; in either arithmetic."""

    name: str
    ids: np.ndarray  # [n]
    logits_f32: np.ndarray  # [n, vocab]
    logits_bf16: np.ndarray  # [n, vocab]: bfloat16 values, held in float32
    greedy_f32: np.ndarray  # [steps]
    greedy_bf16: np.ndarray  # [steps]
    top5_f32: np.ndarray  # [steps, 5]
    top5_ids_f32: np.ndarray  # [steps, 5]
    top5_bf16: np.ndarray  # [steps, 5]

    def fed_with(self, greedy):
        """The prompt and the golden's own choices: row n - 1 + s of its logits chooses step s."""
        return np.concatenate([self.ids, greedy[:-1]])

    def step_rows(self, logits):
        return logits[len(self.ids) - 1 :]


@functools.cache
def golden(name):
    """The prompts of a checkpoint, by name."""
    # Through torch: numpy has no bfloat16.
    with safe_open(folder(name) / "golden" / "golden.safetensors", framework="pt") as file:
        keys = set(file.keys())

        def read(prompt, field):
            tensor = file.get_tensor(f"{prompt}/{field}")
            return (tensor.float() if tensor.is_floating_point() else tensor).numpy()

        fields = [field for field in Prompt.__dataclass_fields__ if field != "name"]
        missing = [f"{p}/{f}" for p in PROMPTS for f in fields if f"{p}/{f}" not in keys]
        assert not missing, f"{name}: golden.safetensors lacks {missing}"
        return {p: Prompt(p, **{field: read(p, field) for field in fields}) for p in PROMPTS}
