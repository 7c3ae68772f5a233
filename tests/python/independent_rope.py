"""Rotary frequencies of independent_engine.py, from the configuration and the faults that are planted."""

import math

import torch


def frequencies(engine):
    """Of the layer that the engine is in: inverse frequencies and what cos and sin are multiplied by."""
    c, kind = engine.c, engine.types[engine.layer]
    if engine.f("rope_other_type"):
        kind = "full_attention" if kind == "sliding_attention" else "sliding_attention"
    rope = c["rope_parameters"]
    rope = rope if "rope_theta" in rope else rope[kind]
    theta = engine.f("theta") or rope["rope_theta"]
    dims = int(engine.head_dim * (rope.get("partial_rotary_factor") or 1)) if engine.kind in ("phi3", "glm4") else engine.head_dim
    dims = engine.f("rope_dims") or dims
    over = engine.head_dim if engine.f("rope_denominator") else dims
    inv = theta ** (-torch.arange(0, dims, 2).double() / over / (2 if engine.f("rope_exponent_halved") else 1))
    if engine.f("rope_scaling_everywhere") and kind == "sliding_attention":
        rope = {**c["rope_parameters"]["full_attention"], "rope_theta": rope["rope_theta"]}
    scaling, factor, amount = rope["rope_type"], rope.get("factor", 1.0), 1.0
    factor = engine.f("rope_factor") or factor
    if engine.f("rope_factor_inverted"):
        factor = 1 / factor
    if engine.f("scaling_ignored"):
        scaling = "default"
    if engine.f("scaling_linear"):
        scaling = "linear"
    original = rope.get("original_max_position_embeddings")
    original = engine.f("rope_original") or original
    if scaling == "linear":
        inv = inv / factor
    elif scaling == "llama3":
        low, high = rope["low_freq_factor"], rope["high_freq_factor"]
        if engine.f("rope_low_high"):
            low, high = engine.f("rope_low_high")
        length = 2 * math.pi / inv
        smooth = (original / length - low) / (high - low)
        mid = (1 - smooth) * inv / factor + smooth * inv
        inv = torch.where(length > original / low, inv / factor, torch.where(length < original / high, inv, mid))
    elif scaling == "yarn":
        fast, slow = rope.get("beta_fast") or 32, rope.get("beta_slow") or 1
        if engine.f("yarn_betas"):
            fast, slow = engine.f("yarn_betas")

        def place(rotations):
            return dims * math.log(original / (rotations * 2 * math.pi)) / (2 * math.log(theta))

        low, high = place(fast), place(slow)
        truncate = rope.get("truncate", True)
        if engine.f("yarn_truncate") is not None:
            truncate = engine.f("yarn_truncate")
        if truncate:
            low, high = math.floor(low), math.ceil(high)
        low, high = max(low, 0), min(high, dims - 1)
        ramp = ((torch.arange(dims // 2).double() - low) / max(high - low, 0.001)).clamp(0, 1)
        inv = inv / factor * ramp + inv * (1 - ramp)
        amount = 0.1 * math.log(factor) + 1
    elif scaling == "longrope":
        long = engine.known > original
        if engine.f("longrope_other"):
            long = not long
        inv = inv / torch.tensor(rope["long_factor" if long else "short_factor"], dtype=torch.double)
        ratio = c["max_position_embeddings"] / original
        amount = 1.0 if ratio <= 1 else math.sqrt(1 + math.log(ratio) / math.log(original))
    if engine.f("rope_amount") is not None:
        amount = engine.f("rope_amount") if engine.f("rope_amount") != "squared" else amount**2
    if engine.f("inv_freq_bf16"):
        inv = inv.to(torch.bfloat16)
    return inv.float(), amount
