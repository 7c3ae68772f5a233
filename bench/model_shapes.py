"""The published shapes that make_shapes.py fills with random weights: hyperparameters, and what each file's tensors are called.

Sources: config.json of Qwen/Qwen3-0.6B, meta-llama/Llama-3.2-1B and allenai/OLMoE-1B-7B-0924; tensor names of gguf/constants.py.
"""

import dataclasses
import math

ALPHABET = 26
BYTES = 256


@dataclasses.dataclass(frozen=True)
class Shape:
    architecture: str  # GGUF's name, which is also the model_type
    layers: int
    hidden: int
    heads: int
    kv_heads: int
    head_dim: int
    ffn: int  # of one expert where there are experts
    vocab: int
    context: int
    theta: float
    eps: float
    tied: bool
    experts: int = 0
    chosen: int = 0
    llama3_rope: bool = False


SHAPES = {
    "qwen3-0.6b": Shape("qwen3", 28, 1024, 16, 8, 128, 3072, 151936, 40960, 1e6, 1e-6, tied=True),
    "llama-3.2-1b": Shape("llama", 16, 2048, 32, 8, 64, 8192, 128256, 131072, 5e5, 1e-5, tied=True, llama3_rope=True),
    "olmoe-1b-7b": Shape("olmoe", 16, 2048, 16, 16, 128, 1024, 50304, 4096, 1e4, 1e-5, tied=False, experts=64, chosen=8),
    # For tests: two layers of each family whose rows hold a whole block of every format.
    "tiny-qwen3": Shape("qwen3", 2, 256, 4, 2, 64, 512, 1024, 512, 1e6, 1e-6, tied=True),
    "tiny-llama": Shape("llama", 2, 256, 4, 2, 64, 512, 1024, 131072, 5e5, 1e-5, tied=True, llama3_rope=True),
    "tiny-olmoe": Shape("olmoe", 2, 256, 4, 4, 64, 256, 1024, 512, 1e4, 1e-5, tied=False, experts=8, chosen=2),
}

LLAMA3 = {"factor": 32.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0, "original_max_position_embeddings": 8192}


@dataclasses.dataclass(frozen=True)
class Parameter:
    name: str  # in GGUF
    hf: str  # in safetensors; {e} where each expert is a tensor of its own
    shape: tuple  # rows last but one, as numpy orders axes
    kind: str  # "matrix", "router", "norm"


def parameters(shape: Shape) -> list:
    """Every stored tensor but rope_freqs, in the order of the file."""
    q, kv = shape.heads * shape.head_dim, shape.kv_heads * shape.head_dim
    found = [Parameter("token_embd.weight", "model.embed_tokens.weight", (shape.vocab, shape.hidden), "matrix")]
    for i in range(shape.layers):

        def add(name, hf, dims, kind="matrix"):
            found.append(Parameter(f"blk.{i}.{name}.weight", f"model.layers.{i}.{hf}.weight", dims, kind))

        add("attn_norm", "input_layernorm", (shape.hidden,), "norm")
        add("attn_q", "self_attn.q_proj", (q, shape.hidden))
        add("attn_k", "self_attn.k_proj", (kv, shape.hidden))
        add("attn_v", "self_attn.v_proj", (kv, shape.hidden))
        add("attn_output", "self_attn.o_proj", (shape.hidden, q))
        if shape.architecture == "qwen3":
            add("attn_q_norm", "self_attn.q_norm", (shape.head_dim,), "norm")
            add("attn_k_norm", "self_attn.k_norm", (shape.head_dim,), "norm")
        if shape.architecture == "olmoe":
            add("attn_q_norm", "self_attn.q_norm", (q,), "norm")
            add("attn_k_norm", "self_attn.k_norm", (kv,), "norm")
        add("ffn_norm", "post_attention_layernorm", (shape.hidden,), "norm")
        if shape.experts:
            add("ffn_gate_inp", "mlp.gate", (shape.experts, shape.hidden), "router")
            wide, narrow = (shape.ffn, shape.hidden), (shape.hidden, shape.ffn)
            for part, dims in (("gate", wide), ("up", wide), ("down", narrow)):
                add(f"ffn_{part}_exps", f"mlp.experts.{{e}}.{part}_proj", (shape.experts, *dims))
        else:
            add("ffn_gate", "mlp.gate_proj", (shape.ffn, shape.hidden))
            add("ffn_up", "mlp.up_proj", (shape.ffn, shape.hidden))
            add("ffn_down", "mlp.down_proj", (shape.hidden, shape.ffn))
    found.append(Parameter("output_norm.weight", "model.norm.weight", (shape.hidden,), "norm"))
    if not shape.tied:
        found.append(Parameter("output.weight", "lm_head.weight", (shape.vocab, shape.hidden), "matrix"))
    return found


def rope_divisors(shape: Shape) -> list:
    """What llama.cpp's converter stores of Llama 3's scaling (conversion/llama.py, generate_extra_tensors)."""
    length = LLAMA3["original_max_position_embeddings"]
    low, high = length / LLAMA3["low_freq_factor"], length / LLAMA3["high_freq_factor"]
    divisors = []
    for i in range(shape.head_dim // 2):
        wavelength = 2 * math.pi * shape.theta ** (2 * i / shape.head_dim)
        smooth = (length / wavelength - LLAMA3["low_freq_factor"]) / (LLAMA3["high_freq_factor"] - LLAMA3["low_freq_factor"])
        between = 1 / ((1 - smooth) / LLAMA3["factor"] + smooth)
        divisors.append(1.0 if wavelength < high else LLAMA3["factor"] if wavelength > low else between)
    return divisors


def hf_config(shape: Shape) -> dict:
    """config.json of the reference's class of this architecture."""
    classes = {"qwen3": "Qwen3ForCausalLM", "llama": "LlamaForCausalLM", "olmoe": "OlmoeForCausalLM"}
    config = {
        "architectures": [classes[shape.architecture]],
        "model_type": shape.architecture, "torch_dtype": "bfloat16", "hidden_act": "silu",
        "num_hidden_layers": shape.layers, "hidden_size": shape.hidden, "intermediate_size": shape.ffn,
        "num_attention_heads": shape.heads, "num_key_value_heads": shape.kv_heads,
        "vocab_size": shape.vocab, "max_position_embeddings": shape.context, "rms_norm_eps": shape.eps,
        "rope_theta": shape.theta, "tie_word_embeddings": shape.tied, "attention_bias": False,
        "bos_token_id": shape.vocab - 2, "eos_token_id": shape.vocab - 1,
    }
    if shape.architecture != "olmoe":
        config["head_dim"] = shape.head_dim
    if shape.llama3_rope:
        config["rope_scaling"] = {"rope_type": "llama3", **LLAMA3}
    if shape.experts:
        config |= {"num_experts": shape.experts, "num_experts_per_tok": shape.chosen, "norm_topk_prob": False}
    return config


def vocabulary(shape: Shape):
    """GPT-2's alphabet of bytes, pairs of letters as merges, filling, and two control tokens: (tokens, merges)."""
    printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
    others = [b for b in range(BYTES) if b not in printable]
    symbol = {b: chr(b) for b in printable} | {b: chr(BYTES + n) for n, b in enumerate(others)}
    tokens = [symbol[b] for b in range(BYTES)]
    letters = [chr(ord("a") + n) for n in range(ALPHABET)]
    merges = [(a, b) for a in letters for b in letters][: shape.vocab - BYTES - 2]
    tokens += [a + b for a, b in merges]
    tokens += [f"[PAD{n}]" for n in range(len(tokens), shape.vocab - 2)]
    return [*tokens, "<|begin|>", "<|end|>"], [f"{a} {b}" for a, b in merges]
