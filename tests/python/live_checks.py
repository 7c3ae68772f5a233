"""What every drawn model must pass, whichever list it comes from: prefill, decode, and that its conventions could be seen."""
import random
from dataclasses import dataclass

import numpy as np
import pytest
from criteria import FP32_TOLERANCE, clear_choices, fp32_limit, row_distances
from live_models import LiveModel
from live_reference import Reference, build, stored_config

DECODE_STEPS = 20
# Two float32 engines are some 3e-7 of a row's norm apart; closer choices than this are not compared.
CLEAR_CHOICE = 2e-6
ROUTING_NOISE = 1e-5


@dataclass(frozen=True)
class Live:
    model: LiveModel
    folder: object
    reference: Reference
    rng: random.Random
    prompts: list  # of ids: one token, around each boundary, far past all

    @classmethod
    def built(cls, model, folder):
        build(model, folder)
        live = cls(model, folder, Reference.load(folder), random.Random(model.seed), [])
        around = {length for boundary in model.boundaries for length in (boundary - 1, boundary, boundary + 1)}
        lengths = [1, *sorted(around), 3 * max(model.boundaries) + 7]
        live.prompts.extend(live.prompt(length) for length in lengths)
        return live

    @property
    def longest(self):
        return self.prompts[-1]

    def prompt(self, length, reference=None):
        """Random ids whose routing is clear, in `reference` if it is another than the float32 one."""
        for _ in range(50):
            ids = [self.rng.randrange(self.model.settings["vocab_size"]) for _ in range(length)]
            if (reference or self.reference).closest_routing(ids) > ROUTING_NOISE:
                return ids
        pytest.fail(f"{self.model.name}: no prompt of {length} tokens whose routing is clear")


def check_prefill(plumb, parity, live):
    """Below, at and past every window and scaling: each position within tolerance, the same token on top."""
    worst, clear_rows = 0.0, 0
    for ids in live.prompts:
        expected = live.reference.logits(ids)
        actual = plumb.logits(live.folder, ids, precision="fp32")
        limit = fp32_limit(actual, plumb.logits(live.folder, ids, precision="fp64"))
        distance = row_distances(actual, expected).max()
        assert distance <= limit, f"{len(ids)} tokens: {distance:.1e}, limit {limit:.1e}"
        clear = clear_choices(expected, CLEAR_CHOICE)
        assert (actual.argmax(axis=-1) == expected.argmax(axis=-1))[clear].all(), f"{len(ids)} tokens"
        worst, clear_rows = max(worst, distance), clear_rows + int(clear.sum())
    positions = sum(map(len, live.prompts))
    assert clear_rows > 0.9 * positions
    parity.record_live(live.model.name, **_description(live.model), **{"fp32 worst": f"{worst:.1e}", "positions": positions})


def _description(model):
    s = model.settings
    head_dim = s.get("head_dim") or s["hidden_size"] // s["num_attention_heads"]
    heads = f"{s['num_attention_heads']}/{s['num_key_value_heads']} x {head_dim}"
    stored = f"{model.stored}{', sharded' if model.shard_size else ''}"
    return {"hidden": s["hidden_size"], "heads": heads, "boundaries": ", ".join(map(str, model.boundaries)), "stored": stored}


def check_decode(plumb, live):
    """Greedy tokens across each boundary, where a window begins to slide or cached keys keep the frequencies of their time."""
    for boundary in live.model.boundaries:
        ids, rows = _decoded(live, max(1, boundary - 4))
        unclear = np.flatnonzero(~clear_choices(rows, CLEAR_CHOICE))
        compared = int(unclear[0]) if unclear.size else DECODE_STEPS
        assert compared > 0
        tokens = plumb.greedy(live.folder, ids, DECODE_STEPS, precision="fp32")
        assert tokens[:compared] == rows.argmax(axis=-1)[:compared].tolist(), f"from {len(ids)} tokens on"


def _decoded(live, length):
    """A prompt and the reference's logits [steps, vocab] before each greedy token after it."""
    for _ in range(30):
        ids = live.prompt(length)
        rows = live.reference.decode(ids, DECODE_STEPS)
        if not live.model.depends_on_its_cache:
            return ids, rows
        # Keys rotated anew for the total length must have led to other tokens, or the test would see nothing.
        tokens = rows.argmax(axis=-1).tolist()
        at_once = live.reference.logits(ids + tokens[:-1])[length - 1 :].argmax(axis=-1)
        if (at_once != tokens).any():
            return ids, rows
    pytest.fail(f"{live.model.name}: decoding from a cache never chose otherwise than a prefill")


def check_mistakes(live):
    """In the reference, each convention that was drawn moves the logits: reading it wrongly could not have passed."""
    expected = live.reference.logits(live.longest)
    for name, plant in live.model.mistakes.items():
        config = stored_config(live.folder)
        plant(config)
        moved = row_distances(live.reference.with_config(config).logits(live.longest), expected).max()
        assert moved > 10 * FP32_TOLERANCE, f"{name}: {moved:.1e}"
