#!/usr/bin/env python3
"""Makes tests/data/checkpoints/{qwen3_5_moe,qwen3_next}: random weights, and what transformers computes from them.

    .venv/bin/python tools/make_hybrid_checkpoints.py tests/data/checkpoints

The form is that of the trained checkpoints beside them (tests/data/README.md); the prompts are random ids, there is no tokenizer.
"""
import json
import pathlib
import sys

import torch
import transformers
from safetensors.torch import save_file
from transformers import AutoModelForCausalLM, DynamicCache, Qwen3_5MoeTextConfig, Qwen3NextConfig

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "tests" / "python"))
from live_hybrid import random_weight  # noqa: E402
from live_reference import EAGER  # noqa: E402

LENGTHS = {"capital": 5, "sum": 5, "one": 1, "chat": 15, "unicode": 64, "long": 200}
STEPS = 64
TRACED = 40  # tokens of the traced prefill, two steps follow

COMMON = {
    "vocab_size": 256,
    "hidden_size": 48,
    "num_hidden_layers": 4,
    "num_attention_heads": 3,
    "num_key_value_heads": 1,
    "head_dim": 16,
    "max_position_embeddings": 1024,
    "num_experts": 6,
    "num_experts_per_tok": 2,
    "moe_intermediate_size": 20,
    "shared_expert_intermediate_size": 28,
    "bos_token_id": 1,
    "eos_token_id": 2,
}
LINEAR, FULL = "linear_attention", "full_attention"
CONFIGS = {
    # Three value heads to a key head; key and value heads of different sizes.
    "qwen3_5_moe": Qwen3_5MoeTextConfig(
        **COMMON,
        layer_types=[LINEAR, LINEAR, FULL, LINEAR],
        linear_num_key_heads=2,
        linear_num_value_heads=6,
        linear_key_head_dim=8,
        linear_value_head_dim=12,
        rope_parameters={"rope_type": "default", "rope_theta": 1e7, "partial_rotary_factor": 0.25, "mrope_section": [1, 1, 0]},
    ),
    # Two to one, three taps, a dense layer, weights not renormalised, half of each head rotated.
    "qwen3_next": Qwen3NextConfig(
        **COMMON,
        layer_types=[LINEAR, FULL, LINEAR, FULL],
        linear_num_key_heads=3,
        linear_num_value_heads=6,
        linear_key_head_dim=12,
        linear_value_head_dim=8,
        linear_conv_kernel_dim=3,
        intermediate_size=56,
        mlp_only_layers=[1],
        norm_topk_prob=False,
        tie_word_embeddings=True,
        rope_parameters={"rope_type": "default", "rope_theta": 1e6, "partial_rotary_factor": 0.5},
    ),
}


def build(config, folder, seed):
    generator = torch.Generator().manual_seed(seed)
    model = AutoModelForCausalLM.from_config(config, **EAGER)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            parameter.copy_(random_weight(name, parameter.shape, generator, slowest=-3))
    model.to(torch.bfloat16).save_pretrained(folder)
    return {p: torch.randint(3, config.vocab_size, (n,), generator=generator) for p, n in LENGTHS.items()}


@torch.no_grad()
def decode(model, ids):
    cache, fed, rows = DynamicCache(config=model.config), ids[None], []
    for _ in range(STEPS):
        rows.append(model(fed, past_key_values=cache, use_cache=True).logits[0, -1])
        fed = rows[-1].argmax()[None, None]
    return torch.stack(rows)


@torch.no_grad()
def goldens(folder, prompts):
    tensors = {}
    for form, dtype in (("f32", torch.float32), ("bf16", torch.bfloat16)):
        model = AutoModelForCausalLM.from_pretrained(folder, dtype=dtype, **EAGER).eval()
        for prompt, ids in prompts.items():
            rows = decode(model, ids)
            tensors[f"{prompt}/ids"] = ids.int()
            tensors[f"{prompt}/logits_{form}"] = model(ids[None], use_cache=False).logits[0].contiguous()
            tensors[f"{prompt}/greedy_{form}"] = rows.argmax(-1).int()
            top = rows.float().topk(5)
            tensors[f"{prompt}/top5_{form}"] = top.values.contiguous()
            tensors[f"{prompt}/top5_ids_{form}"] = top.indices.int().contiguous()
    return tensors


# Module of a layer: the stage whose output it returns (docs/trace-format.md).
STAGES = {
    "input_layernorm": "attn.norm",
    "linear_attn.in_proj_qkv": "linear.qkv",
    "linear_attn.in_proj_z": "linear.z",
    "linear_attn.in_proj_b": "linear.b",
    "linear_attn.in_proj_a": "linear.a",
    "linear_attn.in_proj_qkvz": "linear.qkvz",
    "linear_attn.in_proj_ba": "linear.ba",
    "linear_attn.norm": "linear.norm",
    "linear_attn.out_proj": "attn.out",
    "self_attn.q_proj": "attn.q_and_gate",
    "self_attn.q_norm": "attn.q_norm",
    "self_attn.k_proj": "attn.k",
    "self_attn.k_norm": "attn.k_norm",
    "self_attn.v_proj": "attn.v",
    "self_attn.o_proj": "attn.out",
    "post_attention_layernorm": "mlp.norm",
    "mlp.gate": "moe.logits",
    "mlp.experts": "moe.routed",
    "mlp.shared_expert.gate_proj": "moe.shared_gate",
    "mlp.shared_expert.up_proj": "moe.shared_up",
    "mlp.shared_expert": "moe.shared_out",
    "mlp.shared_expert_gate": "moe.shared_weight",
    "mlp.gate_proj": "mlp.gate",
    "mlp.up_proj": "mlp.up",
    "mlp": "mlp.out",
    "": "residual",
}


@torch.no_grad()
def trace(folder, ids):
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.bfloat16, **EAGER).eval()
    heads = {"attn.q_and_gate": 3, "attn.k": 1, "attn.k_norm": 1, "attn.v": 1, "attn.q_norm": 3}
    heads["linear.norm"] = model.config.linear_num_value_heads
    tensors, step, order = {}, 0, []

    def keep(stage):
        def hook(module, inputs, output):
            value = output[0] if isinstance(output, tuple) else output
            tokens = TRACED if step == 0 else 1
            kind = stage.split(".", 2)[2] if stage.startswith("layers.") else stage
            shape = (tokens, heads[kind], -1) if kind in heads else (tokens, -1)
            tensors[f"{step}/{stage}"] = value.detach().reshape(shape).clone()
            if step == 0:
                order.append(stage)
            if kind == "moe.logits":
                tensors[f"{step}/{stage[:-6]}weights"] = output[1].clone()
                tensors[f"{step}/{stage[:-6]}ids"] = output[2].int()
                if step == 0:
                    order.extend([stage[:-6] + "weights", stage[:-6] + "ids"])

        return hook

    modules = dict(model.named_modules())
    modules["model.embed_tokens"].register_forward_hook(keep("embed"))
    for index, layer in enumerate(model.model.layers):
        inner = dict(layer.named_modules())
        for name, stage in STAGES.items():
            if name in inner:
                inner[name].register_forward_hook(keep(f"layers.{index}.{stage}"))
    modules["model.norm"].register_forward_hook(keep("norm"))
    model.lm_head.register_forward_hook(keep("logits"))
    cache, fed, generated = DynamicCache(config=model.config), ids[None, :TRACED], []
    for step in range(3):
        logits = model(fed, past_key_values=cache, use_cache=True).logits
        generated.append(int(logits[0, -1].argmax()))
        fed = torch.tensor([[generated[-1]]])
    manifest = {
        "format": "plumb-trace/1",
        "engine": {"name": "transformers", "version": transformers.__version__, "settings": EAGER},
        "model": {"name": folder.name, "model_type": model.config.model_type, "config": model.config.to_dict()},
        "dtype": "bfloat16",
        "prompt": None,
        "rendered": None,
        "token_ids": ids[:TRACED].tolist(),
        "generated": generated,
        "sampler": None,
        "stop_ids": None,
        "steps": [{"first": 0, "count": TRACED}, {"first": TRACED, "count": 1}, {"first": TRACED + 1, "count": 1}],
        "stages": order,
    }
    target = folder / "golden" / "bf16.trace"
    target.mkdir(parents=True, exist_ok=True)
    save_file(tensors, target / "tensors.safetensors")
    (target / "manifest.json").write_text(json.dumps(manifest, indent=1, default=str) + "\n")


def main():
    torch.set_num_threads(1)
    for seed, (name, config) in enumerate(CONFIGS.items()):
        folder = pathlib.Path(sys.argv[1]) / name
        prompts = build(config, folder, seed)
        (folder / "golden").mkdir(exist_ok=True)
        tensors = goldens(folder, prompts)
        save_file(tensors, folder / "golden" / "golden.safetensors")
        about = {"transformers": transformers.__version__, "torch": torch.__version__, "prompts": {}}
        for prompt, ids in prompts.items():
            gaps = {f: tensors[f"{prompt}/top5_{f}"] for f in ("f32", "bf16")}
            smallest = {f"smallest_gap_{f}": round(float((g[:, 0] - g[:, 1]).min()), 5) for f, g in gaps.items()}
            about["prompts"][prompt] = {"tokens": len(ids)} | smallest
        (folder / "golden" / "golden.json").write_text(json.dumps(about, indent=1) + "\n")
        trace(folder, prompts["long"])
        print(name, json.dumps(about["prompts"]))


if __name__ == "__main__":
    main()
