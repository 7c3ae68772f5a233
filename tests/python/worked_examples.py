"""The suspects of docs/worked-examples.md: traces of faulty engines, made by plant_tool on the checkpoints of tests/data, with what no
network holds (reported log-probabilities, what the sampler chose, the stop set) written into them here."""

import json
import pathlib
import subprocess
from dataclasses import dataclass, field
from typing import Callable

import numpy as np
import torch
from safetensors.torch import load_file, save_file

ROOT = pathlib.Path(__file__).resolve().parents[2]
CHECKPOINTS = ROOT / "tests/data/checkpoints"
# The golden prompt "long", 40 tokens of it.
LONG = json.loads((CHECKPOINTS / "qwen3/golden/bf16.trace/manifest.json").read_text())["token_ids"]


def edit_manifest(trace, **keys):
    path = trace / "manifest.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **keys}))


def keep_logprobs_read_wrong(trace):
    """All that an API shows: the five likeliest ids of each position and their log-probabilities, computed in bfloat16; of each number the
    two bytes are followed by two zero bytes, as a reader sees them who takes them for a float."""
    values, indices = torch.log_softmax(load_file(trace / "tensors.safetensors")["0/logits"].double(), -1).topk(5)
    bits = values.bfloat16().view(torch.int16).numpy().astype(np.uint16).astype(np.uint32)
    save_file({"0/logprobs": torch.from_numpy(bits.view(np.float32).copy()), "0/logprobs.ids": indices.int()}, trace / "tensors.safetensors")
    edit_manifest(trace, stages=["logprobs.ids", "logprobs"])


def penalise(logits, seen):
    """The id that is chosen when the logits of what was seen are divided by 1.3 (multiplied where they are negative)."""
    ids = torch.tensor(sorted(set(seen)))
    logits = logits.clone()
    logits[ids] = torch.where(logits[ids] > 0, logits[ids] / 1.3, logits[ids] * 1.3)
    return int(logits.argmax())


@dataclass(frozen=True)
class Suspect:
    checkpoint: str
    precision: str = "fp32"
    steps: int = 2
    ids: list = field(default_factory=lambda: LONG)
    chosen: tuple = ()  # what the engine chose, where it was not the largest logit
    penalised: int = 0  # tokens chosen by penalise()
    planted: tuple = ()  # (output, field, found) of plant_tool
    edit: Callable = lambda trace: None


# `plumb run qwen3 "The capital of" --temperature 0.8 --seed 5 --max-tokens 64 --ignore-eos` chose these.
DRAWN = (
    619, 264, 908, 16, 2, 201, 0, 22, 285, 223, 18, 265, 223, 18, 16, 0, 1, 294, 201, 397, 264, 627, 33, 2, 201, 1, 296, 201, 36, 567, 264, 316,
    326, 284, 364, 16, 2, 201, 0, 26, 269, 223, 26, 265, 223, 19, 22, 16, 390, 287, 389, 264, 223, 19, 23, 16, 0, 21, 319, 223, 19, 265, 223, 20,
)  # fmt: skip
CHAT = [1, 294, 201, 307, 264, 318, 305, 289, 516, 33, 2, 201, 1, 296, 201]

SUSPECTS = {
    "mlx": Suspect("qwen3", "hf-bf16", ids=[317, 305, 289], chosen=DRAWN),
    "api": Suspect("qwen3", "hf-bf16", edit=keep_logprobs_read_wrong),
    "runtime": Suspect(
        "olmoe",
        planted=(
            ("layers.*.attn.q_rope", "rope.pairing", "interleaved"),
            ("layers.*.attn.k_rope", "rope.pairing", "interleaved"),
            ("layers.*.attn.q_norm", "norm.eps", "1e-6"),
            ("layers.*.attn.k_norm", "norm.eps", "1e-6"),
            ("layers.2.attn.out", "linear.order", "in_out"),
        ),
    ),
    "v4": Suspect(
        "deepseek_v4",
        planted=(
            ("layers.*.attn.scores", "attend_shared.blocks.ahead", "0"),
            ("layers.*.attn.context_unrope", "rope.present", "no"),
        ),
    ),
    "v4-layer": Suspect("deepseek_v4", planted=(("layers.3.attn.q_norm", "norm.present", "no"),)),
    "v4-penalty": Suspect("deepseek_v4", ids=CHAT, penalised=12),
    # Its answer ends with the stop id 2; the engine knows none and goes on to another turn.
    "v4-stop": Suspect("deepseek_v4", steps=23, ids=CHAT, edit=lambda trace: edit_manifest(trace, stop_ids=[])),
    "drifting": Suspect("olmoe", planted=(("layers.*.moe.ids", "router.order", "select_then_score"),)),
}


def plant(suspect, trace, chosen, tool):
    ids = ",".join(map(str, suspect.ids)) + ("/" + ",".join(map(str, chosen)) if chosen else "")
    words = [word for planted in suspect.planted for word in planted]
    command = [tool, CHECKPOINTS / suspect.checkpoint, trace, suspect.precision, suspect.steps, ids, *words]
    done = subprocess.run(list(map(str, command)), capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr


def make(name, folder, tool):
    """The suspect's trace as folder/NAME.trace."""
    suspect = SUSPECTS[name]
    trace = pathlib.Path(folder) / f"{name}.trace"
    chosen = list(suspect.chosen)
    for step in range(suspect.penalised):
        plant(suspect, trace, [*chosen, 0], tool)  # the last id is not fed
        logits = load_file(trace / "tensors.safetensors")[f"{step}/logits"][-1]
        chosen.append(penalise(logits, suspect.ids + chosen))
    plant(suspect, trace, chosen, tool)
    suspect.edit(trace)
    return trace
