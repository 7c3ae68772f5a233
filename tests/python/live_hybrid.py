"""Random hybrid decoders: Qwen3.5, Qwen3.5-MoE and Qwen3-Next, three of each in a run, in the forms in which they are published."""
import copy
import json
import random
import shutil
from dataclasses import dataclass, field

import live_reference
import torch
from live_reference import stored_config
from safetensors.torch import load_file, save_file

# (key heads, value heads): alike, two and three to one, one for all.
LINEAR_HEADS = ((2, 2), (2, 4), (2, 6), (1, 3), (3, 6))
HEADS = ((3, 1), (4, 2), (2, 2), (6, 2), (5, 1))
MODEL_TYPES = ("qwen3_5_text", "qwen3_5_moe_text", "qwen3_next")
PER_TYPE = 3
LINEAR, FULL = "linear_attention", "full_attention"


@dataclass(frozen=True)
class HybridModel:
    name: str
    model_type: str
    settings: dict
    stored: str  # data type of the weights in the file
    seed: int
    mistakes: dict = field(default_factory=dict)  # changes of config.json that must change the logits


def draw_models(seed):
    rng = random.Random(seed)
    linear, heads = rng.sample(LINEAR_HEADS, len(LINEAR_HEADS)), rng.sample(HEADS, len(HEADS))
    models = []
    for model_type in MODEL_TYPES:
        for number in range(PER_TYPE):
            place = len(models)
            layers = None if number == 0 else rng.choice(([LINEAR, FULL, LINEAR], [FULL, LINEAR, LINEAR, FULL]))
            settings = _common(rng, layers, linear[place % len(linear)], heads[place % len(heads)])
            mistakes = {
                "ten times the eps": lambda c: c.update(rms_norm_eps=10 * c["rms_norm_eps"]),
                "another rope_theta": lambda c: c["rope_parameters"].update(rope_theta=777.0),
                "every channel rotates": lambda c: c["rope_parameters"].update(partial_rotary_factor=1.0),
            }
            if model_type != "qwen3_5_text":
                settings |= _routed(rng)
                mistakes["one expert fewer"] = lambda c: c.update(num_experts_per_tok=c["num_experts_per_tok"] - 1)
            if model_type != "qwen3_5_moe_text":
                settings["intermediate_size"] = rng.randint(20, 90)
            if model_type == "qwen3_next":
                settings |= _dense_layers(number)
                settings["norm_topk_prob"] = number != 1
                mistakes["the other norm_topk_prob"] = lambda c: c.update(norm_topk_prob=not c["norm_topk_prob"])
            drawn = {"stored": ("float32", "bfloat16", "float16")[number], "seed": rng.randrange(2**31)}
            models.append(HybridModel(f"{model_type} {number + 1}", model_type, settings, mistakes=mistakes, **drawn))
    return models


def _common(rng, layers, linear, heads):
    return {
        "vocab_size": rng.randint(70, 260),
        "hidden_size": rng.randrange(24, 60, 2),
        "num_hidden_layers": len(layers) if layers else 4,
        "layer_types": layers,
        "num_attention_heads": heads[0],
        "num_key_value_heads": heads[1],
        "head_dim": rng.choice([16, 24, 32]),
        "attention_bias": rng.random() < 0.5,
        "max_position_embeddings": 2048,
        "rms_norm_eps": 10 ** rng.uniform(-4, -2),
        "tie_word_embeddings": rng.random() < 0.5,
        "linear_num_key_heads": linear[0],
        "linear_num_value_heads": linear[1],
        "linear_key_head_dim": rng.randrange(6, 21),
        "linear_value_head_dim": rng.randrange(6, 21),
        "linear_conv_kernel_dim": rng.randint(2, 5),
        "rope_parameters": {
            "rope_type": "default",
            "rope_theta": 10 ** rng.uniform(3, 7),
            "partial_rotary_factor": rng.choice([0.25, 0.5]),
        },
        "bos_token_id": 1,
        "eos_token_id": 2,
        "pad_token_id": None,
    }


def _routed(rng):
    return {
        "num_experts": rng.randint(4, 8),
        "num_experts_per_tok": rng.randint(2, 3),
        "moe_intermediate_size": rng.randint(12, 40),
        "shared_expert_intermediate_size": rng.randint(12, 40),
    }


def _dense_layers(number):
    return ({"mlp_only_layers": [1]}, {"decoder_sparse_step": 2}, {})[number]


def build(model, folder):
    live_reference.build(model, folder, lambda name, shape, tied, generator: random_weight(name, shape, generator))


def random_weight(name, shape, generator, slowest=-4):
    """Nothing at the 0 or 1 that hides a forgotten tensor; states that forget within a few tokens, and within hundreds."""
    if "norm" in name:
        return torch.rand(shape, generator=generator) + (0.5 if "linear_attn.norm" in name else -0.5)
    if "A_log" in name:
        return torch.empty(shape).uniform_(slowest, 2, generator=generator)
    values = torch.randn(shape, generator=generator)
    if len(shape) == 1:
        return 0.5 * values
    if "conv1d" in name:
        return 0.7 * values
    if "embed_tokens" in name:
        return 0.5 * values
    return (2.0 if "lm_head" in name or "gate.weight" in name else 1.0) * values / shape[-1] ** 0.5


def as_published_before(config):
    """The keys of rope_parameters at the top level, as in Qwen3-Next's own file."""
    old = copy.deepcopy(config)
    rope = old.pop("rope_parameters")
    old |= {"rope_theta": rope["rope_theta"], "partial_rotary_factor": rope["partial_rotary_factor"], "rope_scaling": None}
    old["torch_dtype"] = old.pop("dtype")
    if old.get("layer_types") == [FULL if (i + 1) % 4 == 0 else LINEAR for i in range(old["num_hidden_layers"])]:
        old["full_attention_interval"] = 4
        del old["layer_types"]
    return old


def as_wrapped(folder, target):
    """The vision-language form of Qwen3.5: a wrapper's names and configuration, experts in one tensor, towers and heads beside."""
    config = stored_config(folder)
    stored = load_file(folder / "model.safetensors")
    tensors, experts = {}, {}
    for name, tensor in stored.items():
        layer, _, rest = name.partition(".mlp.experts.")
        if rest:
            number, kind, _ = rest.split(".")
            experts.setdefault(layer, {}).setdefault(int(number), {})[kind] = tensor
        else:
            tensors[name.replace("model.", "model.language_model.", 1) if name.startswith("model.") else name] = tensor
    for layer, by_number in experts.items():
        prefix = layer.replace("model.", "model.language_model.", 1) + ".mlp.experts."
        ordered = [by_number[i] for i in sorted(by_number)]
        tensors[prefix + "gate_up_proj"] = torch.stack([torch.cat([e["gate_proj"], e["up_proj"]]) for e in ordered])
        tensors[prefix + "down_proj"] = torch.stack([e["down_proj"] for e in ordered])
    tensors["model.visual.blocks.0.attn.proj.weight"] = torch.ones(4, 4)
    tensors["mtp.layers.0.self_attn.q_proj.weight"] = torch.ones(4, 4)
    target.mkdir()
    save_file(tensors, target / "model.safetensors")
    outer = {
        "architectures": ["Qwen3_5ForConditionalGeneration"],
        "model_type": config["model_type"].removesuffix("_text"),
        "text_config": config,
        "vision_config": {"model_type": config["model_type"].removesuffix("_text") + "_vision", "depth": 1},
        "tie_word_embeddings": config["tie_word_embeddings"],
    }
    (target / "config.json").write_text(json.dumps(outer))
    return target


def as_converted_by_mlx(folder, target):
    """What mlx-lm writes of the checkpoint: its own loader, its own names. Of Qwen3.5 it knows the wrapped form alone."""
    import mlx.core as mx
    from mlx.utils import tree_flatten
    from mlx_lm.utils import load_model

    config = stored_config(folder)
    if "text_config" not in config:
        config = as_published_before(config)
        (folder / "config.json").write_text(json.dumps(config))
    network, _ = load_model(folder)
    target.mkdir()
    mx.save_safetensors(str(target / "model.safetensors"), dict(tree_flatten(network.parameters())))
    shutil.copy(folder / "config.json", target / "config.json")
    return target
