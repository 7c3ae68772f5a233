#!/usr/bin/env python3
"""Makes tests/data/gguf/*-llama.cpp: GGUF files that llama.cpp's own converter writes, and what transformers computes from the checkpoint.

    .venv/bin/python tools/llama-cpp/converter_files.py LLAMA_CPP tests/data/gguf

LLAMA_CPP is its source, with convert_hf_to_gguf.py (the PyPI source of llama-cpp-python has it under vendor/). The models are drawn by a
seed and stored in bfloat16, which the files keep; they have no tokenizer.
"""
import json
import pathlib
import random
import sys
import tempfile

import torch
from safetensors.torch import load_file, save_file

sys.path.insert(0, sys.argv[1])
sys.path.insert(0, sys.argv[1] + "/gguf-py")
import gguf  # noqa: E402
from agreement import FULL, LINEAR, draw  # noqa: E402
from conversion import ModelBase, ModelType, get_model_architecture, get_model_class  # noqa: E402
from transformers import AutoModelForCausalLM, DynamicCache  # noqa: E402

PROMPTS = {"capital": 5, "chat": 17, "unicode": 60}
COMMON = {"vocab_size": 64, "hidden_size": 32, "intermediate_size": 48, "num_attention_heads": 2, "num_key_value_heads": 1, "head_dim": 16,
          "max_position_embeddings": 128, "num_hidden_layers": 3, "bos_token_id": 1, "eos_token_id": 2, "pad_token_id": None}
EXPERTS = {"num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 16, "shared_expert_intermediate_size": 24}
# Keys and values of different widths, three value heads to a key head.
DELTA = {"linear_num_key_heads": 2, "linear_num_value_heads": 6, "linear_key_head_dim": 4, "linear_value_head_dim": 8}
ROPE = {"rope_type": "default", "rope_theta": 1e5, "partial_rotary_factor": 0.25, "mrope_section": [1, 1, 0]}
PARTIAL = {"rope_type": "default", "rope_theta": 1e5, "partial_rotary_factor": 0.5}
YARN = {"rope_type": "yarn", "rope_theta": 1e4, "factor": 4.0, "beta_fast": 4.0, "beta_slow": 1.0, "mscale": 0.7, "mscale_all_dim": 0.7,
        "original_max_position_embeddings": 16}
MODELS = {
    "qwen3_5": ("qwen3_5_text", COMMON | DELTA | {"rope_parameters": ROPE, "layer_types": [LINEAR, FULL, LINEAR]}),
    "qwen3_5_moe": ("qwen3_5_moe_text", COMMON | DELTA | EXPERTS | {"rope_parameters": ROPE, "layer_types": [LINEAR, LINEAR, FULL]}),
    "qwen3_next": ("qwen3_next", COMMON | DELTA | EXPERTS | {"rope_parameters": PARTIAL, "layer_types": [FULL, LINEAR, LINEAR], "norm_topk_prob": True,
                                                           "decoder_sparse_step": 1}),
    "deepseek_v3": ("deepseek_v3", COMMON | {"num_key_value_heads": 2, "head_dim": 4, "n_shared_experts": 2, "n_routed_experts": 6, "num_experts_per_tok": 2,
                                             "n_group": 3, "topk_group": 2, "kv_lora_rank": 12, "q_lora_rank": 20, "qk_rope_head_dim": 4,
                                             "qk_nope_head_dim": 6, "v_head_dim": 10, "first_k_dense_replace": 1, "moe_intermediate_size": 12,
                                             "scoring_func": "sigmoid", "rope_parameters": YARN}),
}


def add_mtp(folder):
    """A layer that predicts a second token, as Qwen3.5 is published: the converter appends it as a block of its own."""
    tensors = load_file(folder / "model.safetensors")
    layer = next(name.split(".")[2] for name in tensors if "self_attn.q_proj" in name)
    begin, hidden = f"model.layers.{layer}.", COMMON["hidden_size"]
    tensors |= {"mtp.layers.0." + name.removeprefix(begin): value.clone() for name, value in tensors.items() if name.startswith(begin)}
    tensors |= {f"mtp.{norm}.weight": torch.ones(hidden, dtype=torch.bfloat16) for norm in ("norm", "pre_fc_norm_embedding", "pre_fc_norm_hidden")}
    tensors["mtp.fc.weight"] = torch.ones(hidden, 2 * hidden, dtype=torch.bfloat16)
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"mtp_num_hidden_layers": 1}))


def convert(folder, file, has_mtp):
    hparams = ModelBase.load_hparams(folder, False)
    converter = get_model_class(get_model_architecture(hparams, ModelType.TEXT))
    converter.set_vocab = lambda self: self._set_vocab_none()
    converter.no_mtp = not has_mtp
    converter(folder, gguf.LlamaFileType.MOSTLY_BF16, file, model_name="drawn").write()


@torch.no_grad()
def golden(folder, file):
    network = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32, attn_implementation="eager", experts_implementation="eager").eval()
    rng, tensors = random.Random(5), {}
    for name, length in PROMPTS.items():
        ids = torch.tensor([[rng.randrange(COMMON["vocab_size"]) for _ in range(length)]])
        # Token by token: the chunked form of the delta rule, which a prefill takes, is 1e-5 away from the recurrence.
        cache = DynamicCache(config=network.config)
        rows = [network(ids[:, i : i + 1], past_key_values=cache, use_cache=True).logits[0] for i in range(length)]
        tensors |= {f"{name}/ids": ids[0].to(torch.int32), f"{name}/logits": torch.cat(rows)}
    save_file(tensors, file)


def main():
    out = pathlib.Path(sys.argv[2])
    for name, (model_type, settings) in MODELS.items():
        folder = out / f"{name}-llama.cpp"
        folder.mkdir(exist_ok=True)
        with tempfile.TemporaryDirectory() as scratch:
            checkpoint = pathlib.Path(scratch)
            draw(model_type, settings, checkpoint, torch.bfloat16)
            if name == "qwen3_5":
                add_mtp(checkpoint)
            convert(checkpoint, folder / "model.gguf", name == "qwen3_5")
            golden(checkpoint, folder / "golden.safetensors")


if __name__ == "__main__":
    main()
