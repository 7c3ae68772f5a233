#!/usr/bin/env python3
"""Writes tests/data/variants: a random model of a few kilobytes for each architecture that has no trained checkpoint in tests/data, with
the logits that transformers (python/requirements-test.txt) computes from it. Run from the repository's root; the result is the same each time.
"""
import copy
import json
import pathlib

import torch
from safetensors.torch import save_file
from transformers import AutoConfig, AutoModelForCausalLM, Gemma3ForConditionalGeneration

FOLDER = pathlib.Path("tests/data/variants")
EAGER = {"attn_implementation": "eager"}
PROMPTS = {"short": 20, "long": 44}  # tokens: within every window and original length, and beyond
FULL, SLIDING = "full_attention", "sliding_attention"

COMMON = {
    "vocab_size": 96, "hidden_size": 48, "intermediate_size": 40, "num_hidden_layers": 2, "num_attention_heads": 6,
    "num_key_value_heads": 2, "max_position_embeddings": 128, "rms_norm_eps": 1e-3, "tie_word_embeddings": False,
    "bos_token_id": 1, "eos_token_id": 2, "pad_token_id": None,
}  # fmt: skip
YARN = {"rope_type": "yarn", "rope_theta": 500000.0, "factor": 8.0, "original_max_position_embeddings": 16, "beta_fast": 4.0, "beta_slow": 0.25}
GEMMA3 = COMMON | {"tie_word_embeddings": True, "head_dim": 16, "num_hidden_layers": 3, "query_pre_attn_scalar": 24, "sliding_window": 24, "layer_types": [SLIDING, FULL, SLIDING]}
VISION = {
    "hidden_size": 8, "intermediate_size": 8, "num_hidden_layers": 1, "num_attention_heads": 1, "image_size": 8, "patch_size": 4,
}  # fmt: skip

MODELS = {
    "olmo2": COMMON | {"rope_parameters": {"rope_type": "default", "rope_theta": 700.0}},
    "olmo3": COMMON | {
        "num_hidden_layers": 4, "sliding_window": 24, "head_dim": 24,
        "rope_parameters": {FULL: YARN, SLIDING: {"rope_type": "default", "rope_theta": 500000.0}},
    },
    "phi3": COMMON | {
        "original_max_position_embeddings": 24,
        "rope_parameters": {
            "rope_type": "longrope", "rope_theta": 800.0, "partial_rotary_factor": 0.75, "original_max_position_embeddings": 24,
            "short_factor": [1.0, 1.1, 1.3], "long_factor": [1.0, 2.5, 6.0],
        },
    },
    "smollm3": COMMON | {
        "num_hidden_layers": 4, "tie_word_embeddings": True, "no_rope_layers": [1, 0, 1, 1], "use_sliding_window": True, "sliding_window": 24,
        "rope_parameters": {"rope_type": "default", "rope_theta": 900.0},
    },
    "glm4": COMMON | {"head_dim": 16, "rope_parameters": {"rope_type": "default", "rope_theta": 600.0, "partial_rotary_factor": 0.5}},
    "gemma3": {
        "text_config": GEMMA3 | {"rope_parameters": {
            FULL: {"rope_type": "linear", "rope_theta": 1000000.0, "factor": 4.0}, SLIDING: {"rope_type": "default", "rope_theta": 300.0},
        }},
        "vision_config": VISION, "mm_tokens_per_image": 4, "image_token_index": 95, "boi_token_index": 93, "eoi_token_index": 94,
        "tie_word_embeddings": True,
    },
}  # fmt: skip


def as_published_before(config):
    """A configuration of transformers 5 as the releases before it wrote it."""
    old = copy.deepcopy(config)
    text = old.get("text_config", old)
    rope = text.pop("rope_parameters")
    local = rope.get(SLIDING, {}).get("rope_theta")
    rope = rope.get(FULL, rope)
    text["rope_theta"] = rope.pop("rope_theta")
    if local is not None and old["model_type"] == "gemma3":
        text["rope_local_base_freq"] = local
    if "partial_rotary_factor" in rope:
        text["partial_rotary_factor"] = rope.pop("partial_rotary_factor")
    text["rope_scaling"] = None if rope["rope_type"] == "default" else rope
    old["torch_dtype"] = old.pop("dtype")
    return old


def fill(network, generator):
    """Nothing stays at the 0 or 1 that would hide a forgotten tensor, and attention has something to choose."""
    for name, parameter in network.named_parameters():
        values = torch.randn(parameter.shape, generator=generator)
        if "norm" in name:
            values = 0.5 + torch.rand(parameter.shape, generator=generator)
        elif parameter.dim() == 1:
            values = 0.3 * values
        elif "embed_tokens" not in name:
            values = 1.5 * values / parameter.shape[-1] ** 0.5
        parameter.copy_(values)


@torch.no_grad()
def make(model_type, settings, seed):
    folder = FOLDER / model_type
    generator = torch.Generator().manual_seed(seed)
    config = AutoConfig.for_model(model_type, **copy.deepcopy(settings))
    wrapped = model_type == "gemma3"
    make_model = Gemma3ForConditionalGeneration._from_config if wrapped else AutoModelForCausalLM.from_config
    network = make_model(config, **EAGER)
    fill(network, generator)
    network.to(torch.bfloat16).save_pretrained(folder)
    (folder / "generation_config.json").unlink(missing_ok=True)
    stored = json.loads((folder / "config.json").read_text())
    (folder / "config.v4.json").write_text(json.dumps(as_published_before(stored), indent=2) + "\n")

    load = Gemma3ForConditionalGeneration.from_pretrained if wrapped else AutoModelForCausalLM.from_pretrained
    golden = {}
    for precision in ("float32", "bfloat16"):
        network = load(folder, dtype=getattr(torch, precision), **EAGER).eval()
        for prompt, length in PROMPTS.items():
            ids = torch.randint(3, 90, (1, length), generator=torch.Generator().manual_seed(seed))
            golden[f"{prompt}/ids"] = ids[0].int()
            suffix = {"float32": "f32", "bfloat16": "bf16"}[precision]
            golden[f"{prompt}/logits_{suffix}"] = network(ids, use_cache=False).logits[0].contiguous()
    (folder / "golden").mkdir(exist_ok=True)
    save_file(golden, folder / "golden" / "golden.safetensors")


if __name__ == "__main__":
    torch.set_num_threads(1)
    for number, (name, values) in enumerate(MODELS.items()):
        make(name, values, seed=1000 + number)
