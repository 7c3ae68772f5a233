#!/usr/bin/env python3
"""llama.cpp, plumb and transformers on the same models: the table of docs/gguf.md.

    L=path/to/llama.cpp    # built in $L/build; the PyPI source of llama-cpp-python has it under vendor/
    g++ -O2 -std=c++17 tools/llama-cpp/logits.cpp -I$L/include -I$L/ggml/include -L$L/build/bin -lllama -lggml -lggml-base \\
        -Wl,-rpath,$L/build/bin -o build/llama-cpp-logits
    .venv/bin/python tools/llama-cpp/agreement.py --plumb build/release/plumb --llama build/llama-cpp-logits [NAME…]

Each model is converted by plumb to one GGUF file in F32. llama.cpp and plumb read that file, transformers the checkpoint. Relative L2 is
of all logits of a prompt, the worst of three prompts of random ids; greedy tokens are those after each prompt.
"""
import argparse
import copy
import pathlib
import random
import shutil
import subprocess
import sys
import tempfile

import numpy as np
import torch
import transformers
from transformers import AutoConfig, AutoModelForCausalLM

REPOSITORY = pathlib.Path(__file__).resolve().parents[2]
sys.path.insert(0, str(REPOSITORY / "tests" / "python"))
from criteria import prompt_distance  # noqa: E402
from live_reference import EAGER, Reference  # noqa: E402
from plumb_cli import Plumb  # noqa: E402

LENGTHS = (5, 40, 200)
STEPS = 24
DATA = REPOSITORY / "tests" / "data"
STORED = {name: DATA / "checkpoints" / name for name in
          ("llama", "mixtral", "olmoe", "qwen2", "qwen3", "gemma2", "gemma3", "gpt_oss", "qwen3_5")}
# llama.cpp takes the long factors for every context that can grow past the length of the pre-training, transformers by the length now.
AT_LEAST = {"phi3": 25}
STORED |= {name: DATA / "variants" / name for name in ("olmo2", "olmo3", "phi3", "glm4")}

COMMON = {"vocab_size": 160, "hidden_size": 64, "intermediate_size": 96, "num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 16,
          "max_position_embeddings": 512, "num_hidden_layers": 4, "bos_token_id": 1, "eos_token_id": 2, "pad_token_id": None}
EXPERTS = {"num_experts": 6, "num_experts_per_tok": 2, "moe_intermediate_size": 32}
DELTA = {"linear_num_key_heads": 2, "linear_num_value_heads": 6, "linear_key_head_dim": 16, "linear_value_head_dim": 16}
SHARED = {"shared_expert_intermediate_size": 48}
LINEAR, FULL = "linear_attention", "full_attention"
SECTIONS = {"rope_type": "default", "rope_theta": 1e6, "partial_rotary_factor": 0.25, "mrope_section": [1, 1, 0]}
PARTIAL = {"rope_type": "default", "rope_theta": 1e6, "partial_rotary_factor": 0.25}
YARN = {"rope_type": "yarn", "rope_theta": 1e4, "factor": 8.0, "beta_fast": 4.0, "beta_slow": 1.0, "mscale": 0.8, "mscale_all_dim": 0.8,
        "original_max_position_embeddings": 32}
LATENT = {"num_key_value_heads": 4, "head_dim": 8, "n_shared_experts": 2, "n_routed_experts": 12, "num_experts_per_tok": 3, "n_group": 3, "topk_group": 2,
          "kv_lora_rank": 24, "q_lora_rank": 40, "qk_rope_head_dim": 8, "qk_nope_head_dim": 12, "v_head_dim": 20, "first_k_dense_replace": 1,
          "moe_intermediate_size": 32, "routed_scaling_factor": 2.5, "rms_norm_eps": 1e-6}
# Eight heads of the index: with two, many blocks score exactly 0 (both heads' products are negative), and which of them are taken is the sort's whim.
HEAVY, SPARSE = "heavily_compressed_attention", "compressed_sparse_attention"
COMPRESSED = COMMON | {"num_key_value_heads": 1, "head_dim": 64, "partial_rotary_factor": 0.25, "q_lora_rank": 24, "o_groups": 2, "o_lora_rank": 16,
                       "n_routed_experts": 6, "n_shared_experts": 1, "num_experts_per_tok": 2, "moe_intermediate_size": 48, "sliding_window": 12,
                       "layer_types": ["sliding_attention", HEAVY, SPARSE, HEAVY], "mlp_layer_types": ["hash_moe"] + ["moe"] * 3,
                       "compress_rates": {SPARSE: 4, HEAVY: 128}, "index_n_heads": 8, "index_head_dim": 64, "index_topk": 4, "hc_mult": 4,
                       "swiglu_limit": 2.0, "routed_scaling_factor": 1.5, "compress_rope_theta": 160000.0, "num_nextn_predict_layers": 0,
                       "rope_parameters": {"rope_type": "yarn", "rope_theta": 1e4, "factor": 16.0, "beta_fast": 32.0, "beta_slow": 1.0,
                                           "original_max_position_embeddings": 64}}
WINDOWS = {"sliding_window": 12, "layer_types": ["sliding_attention", FULL] * 2}
GEMMA = COMMON | WINDOWS | {"query_pre_attn_scalar": 16}
YARN_TWICE = {FULL: {key: value for key, value in YARN.items() if "mscale" not in key}, "sliding_attention": {"rope_type": "default", "rope_theta": 1e4}}
# What no stored checkpoint has in a form that llama.cpp loads and computes as transformers does: docs/gguf.md tells why.
DRAWN = {
    "llama, llama3 scaling": ("llama", COMMON | {"rope_parameters": {"rope_type": "llama3", "rope_theta": 5e5, "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0, "original_max_position_embeddings": 64}}),
    "mistral": ("mistral", COMMON | {"sliding_window": None}),
    "gemma2, scale of the head": ("gemma2", GEMMA | {"attn_logit_softcapping": 50.0, "final_logit_softcapping": 30.0}),
    "gemma3, scale of the head": ("gemma3_text", GEMMA),
    "gpt_oss, no scaling": ("gpt_oss", COMMON | WINDOWS | {"num_local_experts": 6, "num_experts_per_tok": 2, "rope_parameters": {"rope_type": "default", "rope_theta": 1.5e5}}),
    "olmo3, head of the width": ("olmo3", COMMON | {"sliding_window": 12, "layer_types": ["sliding_attention"] * 3 + [FULL], "rope_parameters": YARN_TWICE}),
    "phi3, short factors": ("phi3", COMMON | {"original_max_position_embeddings": 448, "rope_parameters": {"rope_type": "longrope", "rope_theta": 1e4, "long_factor": [1.0, 1.5, 2.0, 3.0, 4.0, 5.0, 6.0, 8.0], "short_factor": [1.0, 1.1, 1.2, 1.3, 1.4, 1.5, 1.6, 1.7], "original_max_position_embeddings": 448}}),
    "qwen3_moe": ("qwen3_moe", COMMON | EXPERTS | {"norm_topk_prob": True}),
    "smollm3": ("smollm3", COMMON | {"no_rope_layers": [1, 1, 1, 0], "use_sliding_window": False, "layer_types": [FULL] * 4}),
    "qwen3_5, as many value heads": ("qwen3_5_text", COMMON | DELTA | {"linear_num_value_heads": 2, "rope_parameters": SECTIONS, "layer_types": [LINEAR, FULL, FULL, LINEAR]}),
    "qwen3_5_moe": ("qwen3_5_moe_text", COMMON | EXPERTS | DELTA | SHARED | {"rope_parameters": SECTIONS, "layer_types": [LINEAR, LINEAR, FULL, LINEAR]}),
    "qwen3_next": ("qwen3_next", COMMON | EXPERTS | DELTA | SHARED | {"rope_parameters": PARTIAL, "layer_types": [LINEAR, FULL, LINEAR, LINEAR], "norm_topk_prob": True, "decoder_sparse_step": 1}),
    "deepseek_v3": ("deepseek_v3", COMMON | LATENT | {"rope_parameters": {"rope_type": "default", "rope_theta": 1e4}}),
    "deepseek_v3, yarn": ("deepseek_v3", COMMON | LATENT | {"norm_topk_prob": False, "n_group": 1, "topk_group": 1, "rope_parameters": YARN}),
    "deepseek_v4": ("deepseek_v4", COMPRESSED),
}


def random_value(name, shape, generator):
    """Nothing at the 0 or 1 that would hide a forgotten tensor."""
    if "norm" in name:
        return 0.5 + torch.rand(shape, generator=generator)
    if "A_log" in name:
        return torch.empty(shape).uniform_(-3, 1, generator=generator)
    values = torch.randn(shape, generator=generator)
    if len(shape) == 1:
        return 0.4 * values
    return 1.3 * values / (1 if "embed" in name else 4 if "conv1d" in name else shape[-1] ** 0.5)


def draw(model_type, settings, folder, dtype=torch.float32):
    generator = torch.Generator().manual_seed(7)
    config = AutoConfig.for_model(model_type, **copy.deepcopy(settings))
    network = AutoModelForCausalLM.from_config(config, **EAGER)
    buffers = [(n, b) for n, b in network.named_buffers() if "inv_freq" not in n]
    with torch.no_grad():
        for name, tensor in [*network.named_parameters(), *buffers]:
            if "tid2eid" in name:
                rows = [torch.randperm(config.n_routed_experts, generator=generator)[: tensor.shape[1]] for _ in tensor]
                tensor.copy_(torch.stack(rows))
            else:
                tensor.copy_(random_value(name, tensor.shape, generator))
    network.to(dtype).save_pretrained(folder)  # tables of experts stay integers


def llama_cpp(program, file, prompts, vocabulary):
    """Of each prompt its logits and the greedy tokens; or llama.cpp's words when it does not load the file."""
    text = "".join(" ".join(map(str, ids)) + "\n" for ids in prompts)
    done = subprocess.run([program, file, str(STEPS)], input=text.encode(), capture_output=True)
    if done.returncode != 0:
        return done.stderr.decode().splitlines()[0] if done.stderr else f"llama.cpp ended with {done.returncode}"
    numbers, answers, begin = np.frombuffer(done.stdout, np.float32), [], 0
    for ids in prompts:
        end = begin + len(ids) * vocabulary
        answers.append((numbers[begin:end].reshape(len(ids), vocabulary), numbers[end : end + STEPS].view(np.int32).tolist()))
        begin = end + STEPS
    return answers


def compare(name, folder, arguments, scratch):
    file = scratch / "model.gguf"
    done = subprocess.run([arguments.plumb, "convert", folder, file, "--type", "F32"], capture_output=True, text=True)
    if done.returncode != 0:
        return f"| {name} | plumb: {done.stderr.strip()} | | | |"
    reference, plumb = Reference.load(folder), Plumb(arguments.plumb, scratch)
    vocabulary = reference._model.config.get_text_config().vocab_size
    rng = random.Random(11)
    prompts = [[rng.randrange(vocabulary) for _ in range(length)] for length in LENGTHS if length >= AT_LEAST.get(name, 0)]
    theirs = llama_cpp(arguments.llama, file, prompts, vocabulary)
    exact = [reference.logits(ids) for ids in prompts]
    ours = [plumb.logits(file, ids) for ids in prompts]
    of_reference = f"{max(map(prompt_distance, ours, exact)):.1e}"
    if isinstance(theirs, str):
        return f"| {name} | {theirs} | | {of_reference} | |"
    same = sum(plumb.greedy(file, ids, STEPS) == tokens == reference.decode(ids, STEPS).argmax(axis=-1).tolist()
               for ids, (_, tokens) in zip(prompts, theirs))
    between = max(prompt_distance(logits, our) for (logits, _), our in zip(theirs, ours))
    llama_from_reference = max(prompt_distance(logits, want) for (logits, _), want in zip(theirs, exact))
    return f"| {name} | {between:.1e} | {llama_from_reference:.1e} | {of_reference} | {same} of {len(prompts)} |"


def main():
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--plumb", required=True, type=pathlib.Path)
    parser.add_argument("--llama", required=True, type=pathlib.Path)
    parser.add_argument("names", nargs="*", default=[*STORED, *DRAWN])
    arguments = parser.parse_args()
    print("| model | plumb and llama.cpp | llama.cpp and transformers | plumb and transformers | same greedy tokens |\n|---|---|---|---|---|")
    for name in arguments.names:
        scratch = pathlib.Path(tempfile.mkdtemp())
        folder = STORED.get(name)
        if folder is None:
            folder = scratch / "checkpoint"
            draw(*DRAWN[name], folder)
        print(compare(name, folder, arguments, scratch), flush=True)
        shutil.rmtree(scratch)


if __name__ == "__main__":
    main()
