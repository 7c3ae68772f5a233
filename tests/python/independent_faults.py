"""The faults that independent_engine.py can have: rows of the catalogue, and ten and more that no catalogue has."""

from dataclasses import dataclass

import torch
from independent_engine import Planted
from independent_experts import ROUTED

ALL = ("llama", "qwen2", "qwen3", "gemma2", "gemma3", "olmoe", "mixtral", "qwen3_moe", "gpt_oss", "glm4", "olmo2", "olmo3", "phi3", "smollm3")
GEMMA = ("gemma2", "gemma3")
PLAIN = ("llama", "qwen2", "qwen3", "mixtral", "qwen3_moe", "gpt_oss", "phi3", "smollm3", "glm4")  # a norm before each half
QK_NORM = ("qwen3", "gemma3", "olmoe", "qwen3_moe", "olmo2", "olmo3")
DENSE = ("llama", "qwen2", "qwen3", "gemma2", "gemma3", "olmo2", "olmo3", "smollm3", "qwen3_moe")
GROUPED = ("llama", "qwen2", "qwen3", "gemma2", "gemma3", "mixtral", "qwen3_moe", "gpt_oss", "glm4", "olmo2", "phi3", "smollm3")
BIASED = ("qwen2", "gpt_oss", "glm4")
WINDOWED = ("gemma2", "gemma3", "gpt_oss", "olmo3")
SQUARE_O = ("llama", "qwen2", "olmoe", "mixtral", "gemma2", "gpt_oss", "qwen3_moe", "olmo2", "smollm3")
UNTIED = ("llama", "olmoe", "mixtral", "gpt_oss", "glm4", "olmo2", "olmo3", "phi3")
UNSUNK = tuple(n for n in ALL if n != "gpt_oss")
UNSCALED = tuple(n for n in ALL if n not in GEMMA)


@dataclass(frozen=True)
class Fault:
    name: str  # of the engine's switch
    value: object
    rows: tuple  # any of them names the cause
    models: tuple  # architectures that can have it
    layers: tuple | None = None

    @property
    def text(self):
        where = "" if self.layers is None else f" in {self.layers}"
        return self.name + ("" if self.value is True else f"={self.value}") + where

    def switches(self):
        return {self.name: self.value if self.layers is None else Planted(self.value, self.layers)}


def _f(name, rows, models, value=True, layers=None):
    return Fault(name, value, tuple(rows.split()), models, layers)


FAULTS = [
    _f("embed_unscaled", "27", GEMMA),
    _f("embed_scale_bf16", "27", GEMMA),
    _f("embed_scaled", "27", ("llama", "qwen3", "olmoe"), 11.3137085),
    _f("eps", "21", ALL, 1e-4),
    _f("eps_attn", "21", PLAIN, 1e-3),
    _f("eps_q", "21", QK_NORM, 1e-5),
    _f("eps_final", "21", ALL, 1e-3),
    _f("eps_outside", "22", ALL),
    _f("offset", "23", UNSCALED, 1),
    _f("offset", "23", GEMMA, 0),
    _f("layer_norm", "24", ALL),
    _f("no_attn_norm", "26", PLAIN + GEMMA + ("olmoe",)),
    _f("no_mlp_norm", "26", PLAIN + GEMMA + ("olmoe",), True, (1,)),
    _f("norm_weights_same", "26", PLAIN + GEMMA + ("olmoe",)),
    _f("no_attn_post_norm", "26", (*GEMMA, "glm4", "olmo2", "olmo3")),
    _f("no_mlp_post_norm", "26", (*GEMMA, "glm4", "olmo2", "olmo3")),
    _f("no_final_norm", "29", ALL),
    _f("final_norm_twice", "29", ALL),
    _f("no_q_norm", "39", QK_NORM),
    _f("no_k_norm", "39", QK_NORM),
    _f("qk_norm_swapped", "39", ("qwen3", "gemma3", "olmoe", "qwen3_moe")),
    _f("qk_norm_span", "39", ("olmoe", "olmo2", "olmo3")),
    _f("qk_norm_after_rope", "39", QK_NORM),
    _f("transposed_o", "13", SQUARE_O),
    _f("transposed_q", "13", SQUARE_O, True, (1,)),
    _f("qkv_by_group", "14", ("llama", "qwen2", "qwen3", "phi3", "gemma2")),
    _f("gate_up_exchanged", "15", DENSE + ("phi3", "glm4")),
    _f("gate_up_alternating", "15", DENSE + ("phi3", "glm4")),
    _f("experts_exchanged", "15", ROUTED),
    _f("experts_halves", "15", ("gpt_oss",)),
    _f("rows_q", "16", ("llama", "qwen3", "mixtral", "gemma2"), ("neighbours", "q")),
    _f("rows_k", "16", ("llama", "qwen2", "olmoe", "gpt_oss"), ("halves", "k")),
    _f("kv_tiled", "17", GROUPED),
    _f("no_bias_q", "18", BIASED),
    _f("no_bias_k", "18", BIASED),
    _f("no_bias_v", "18", BIASED),
    _f("no_bias_o", "18", ("gpt_oss",)),
    _f("no_bias_router", "18", ("gpt_oss",)),
    _f("head_tied", "19", UNTIED),
    _f("weight_scale_v", "20c", ("llama", "qwen3", "olmoe", "gemma3"), 0.125, (1,)),
    _f("weight_scale_down", "20c", DENSE, 2.0, (2,)),
    _f("branch_factor_attn", "28", ALL, 0.5),
    _f("branch_factor_mlp", "28", ALL, 0.22),
    _f("residual_factor", "28", ALL, 1.01),
    _f("no_residual_attn", "28", ALL, True, (1,)),
    _f("no_residual_mlp", "28", ALL),
    _f("no_attn", "28", ALL, True, (1,)),
    _f("no_mlp", "28", ALL, True, (1,)),
    _f("layer_skipped", "28", ALL, True, (1,)),
    _f("rope_interleaved", "30", ALL),
    _f("theta", "31", ALL, 12345.0),
    _f("theta", "31", ALL, 1e5),
    _f("rope_other_type", "31 32 43", ("gemma3", "olmo3")),
    _f("scaling_ignored", "32", ("llama", "gpt_oss")),
    _f("scaling_ignored", "32", ("gemma3",)),
    _f("scaling_linear", "32", ("llama", "gpt_oss")),
    _f("rope_factor_inverted", "32", ("llama", "gemma3")),
    _f("rope_factor", "32", ("llama", "gpt_oss", "olmo3"), 4.0),
    _f("rope_original", "32", ("llama", "gpt_oss", "olmo3"), 96),
    _f("yarn_truncate", "32", ("gpt_oss",), True),
    _f("yarn_truncate", "32", ("olmo3",), False),
    _f("longrope_other", "32", ("phi3",)),
    _f("rope_amount", "33", ("gpt_oss", "olmo3", "phi3"), 1.0),
    _f("rope_amount", "33", ("gpt_oss", "olmo3"), "squared"),
    _f("rope_dims", "34", ("glm4",), 16),
    _f("rope_denominator", "34", ("glm4",)),
    _f("rope_slice_last", "34", ("glm4",)),
    _f("rope_dims", "34", ("llama", "qwen3"), 16),
    _f("no_rope_q", "35", ALL),
    _f("no_rope_k", "35", ALL),
    _f("nope_ignored", "35", ("smollm3",)),
    _f("nope_polarity", "35", ("smollm3",)),
    _f("nope_shift", "35", ("smollm3",), 1),
    _f("offset_k", "36", ALL, 1),
    _f("decode_offset", "36", ALL, 1),
    _f("decode_offset", "36", ("llama", "qwen3", "gemma2"), -32),
    _f("inv_freq_bf16", "37", ALL),
    _f("rope_backwards", "64", ("llama", "qwen3", "olmoe")),
    _f("scale", "40", ALL, 0.5),
    _f("scale", "40", ("llama", "qwen3", "gemma2"), 0.98),
    _f("scale_of_head_dim", "40", GEMMA),
    _f("scale_inverse_dim", "40", ALL),
    _f("no_soft_cap", "41", ("gemma2",)),
    _f("soft_cap", "41", ("gemma2",), 30.0),
    _f("soft_cap", "41", ("llama", "qwen3", "gemma3"), 5.0),
    _f("scale_after_cap", "41", ("gemma2",)),
    _f("window_more", "42", WINDOWED, 1),
    _f("window_more", "42", WINDOWED, -1),
    _f("window_ignored", "42 43", WINDOWED),
    _f("window_everywhere", "43 42", WINDOWED),
    _f("window_inverted", "43 42", WINDOWED),
    _f("future", "44", ALL, 1),
    _f("future", "44", ALL, -1),
    _f("bidirectional", "44", ALL),
    _f("no_sinks", "45", ("gpt_oss",)),
    _f("sinks_rolled", "45", ("gpt_oss",)),
    _f("sinks_reversed", "45", ("gpt_oss",)),
    _f("sinks_scaled", "45", ("gpt_oss",)),
    _f("sink_zero", "45", ("llama", "qwen3", "gemma2", "olmoe")),
    _f("kv_own_missing", "46", ALL),
    _f("kv_first_lost", "46", ALL, 4),
    _f("kv_slot_overwritten", "46", ALL),
    _f("kv_stale", "46", ALL),
    _f("kv_zeroed", "46", ALL, (5, 4)),
    _f("kv_middle_lost", "46", ALL, (9, 2)),
    _f("values_never_written", "46", ALL, "stale"),
    _f("values_never_written", "46", ALL, "zeros"),
    _f("kv_scale", "20d", ("llama", "qwen3", "gemma3", "olmoe"), 0.5),
    _f("activation", "49", ("llama", "qwen2", "qwen3", "olmoe", "mixtral", "qwen3_moe", "phi3", "glm4", "olmo2"), "gelu"),
    _f("activation", "49", GEMMA, "gelu"),
    _f("activation", "49", GEMMA, "quick_gelu"),
    _f("activation", "49", ("llama", "qwen3", "mixtral"), "relu"),
    _f("activation", "49", ("llama", "gemma2", "olmoe", "mixtral"), "mish"),
    _f("activation", "49", ("qwen2", "gemma3", "qwen3_moe"), "hardswish"),
    _f("activation", "49", ("qwen3", "olmoe"), "relu2"),
    _f("activation", "49", ("llama", "mixtral"), "leaky_relu"),
    _f("activation", "49", ("gemma2", "qwen3_moe"), "tanh"),
    _f("activation", "49", ("qwen2", "olmoe"), "none"),
    _f("gate_alone", "50", DENSE),
    _f("no_limit", "50", ("gpt_oss",)),
    _f("limit", "50", ("gpt_oss",), 0.5),
    _f("limit_both_sides", "50", ("gpt_oss",)),
    _f("alpha", "50", ("gpt_oss",), 1.0),
    _f("no_up_offset", "50", ("gpt_oss",)),
    _f("renormalise_other", "51", ROUTED),
    _f("router_sigmoid", "52", ROUTED),
    _f("router_scale", "52", ROUTED, 2.5),
    _f("experts_more", "51 52 54", ROUTED, -1),
    _f("weights_uniform", "52", ROUTED),
    _f("expert_bias_unweighted", "53", ("gpt_oss",)),
    _f("no_final_cap", "56", ("gemma2",)),
    _f("final_cap", "56", ("llama", "qwen3"), 10.0),
    _f("logits_scale", "56", ("llama", "gemma3", "olmoe"), 0.0625),
    _f("shard_o", "58", ("llama", "qwen3", "gemma2", "mixtral")),
    _f("shard_down", "58", DENSE),
    _f("rope_interleaved_k", "30", ALL),
    _f("rope_tables", "37", ("llama", "qwen3", "gemma2", "olmoe"), torch.bfloat16),
    _f("rope_angles", "37", ("llama", "qwen3_moe"), torch.bfloat16),
    _f("softmax_in", "48", UNSUNK, torch.bfloat16),
    _f("softmax_in", "48", ("llama", "gemma2"), torch.float16),
    _f("probs_in", "48", UNSUNK, torch.bfloat16),
    _f("kv_exchanged", "14", ("llama", "qwen2", "qwen3", "gemma2", "olmoe", "mixtral", "gpt_oss")),
    _f("kv_first_head", "17", GROUPED),
    _f("residual_normed_attn", "28", PLAIN + GEMMA),
    _f("residual_normed_mlp", "28", PLAIN, True, (1,)),
    _f("branch_twice_mlp", "28 20c", ALL),
    _f("temperature", "56", ("gemma2",), 0.7),
    _f("temperature", "56", ("llama", "gemma3"), 0.8),
    _f("router_softmax_bf16", "52", ("olmoe", "mixtral", "qwen3_moe")),
    # As reported of llama.cpp, vLLM, SGLang, MLX and their like.
    _f("rows_k", "16", ("llama", "qwen3", "mixtral"), ("neighbours", "k of q")),  # a converter that has one count of heads
    _f("scale_of_hidden", "40", ALL),
    _f("scale_twice", "40", ALL),
    _f("cap_behind_mask", "41 44", ("gemma2",)),  # what is masked becomes -cap
    _f("window_in_chunks", "42 43", WINDOWED),
    _f("first_key_masked", "44 46", ALL),
    _f("qk_norm_shared", "39", ("qwen3", "gemma3", "olmoe", "qwen3_moe")),
    _f("offset_q", "23", ("gemma3",), 0),
    _f("offset_final", "23", GEMMA, 0),
    _f("offset_post", "23", GEMMA, 0),
    _f("norm_of_post", "26", GEMMA),  # Llama's name for the norm before the MLP is Gemma's for one behind attention
    _f("norm_of_layer", "26", ("llama", "qwen3", "olmoe"), 0),
    _f("post_norms_exchanged", "26", (*GEMMA, "glm4", "olmo2", "olmo3")),
    _f("rope_amount_missing_k", "33", ("gpt_oss", "olmo3", "phi3")),
    _f("rope_scaling_everywhere", "32", ("gemma3",)),
    _f("rope_exponent_halved", "31 34", ALL),
    _f("rope_v", "35", ("llama", "qwen3", "gemma2", "olmoe")),
    _f("offset_all", "36", ("llama", "gemma3", "gpt_oss"), 1),
    _f("kv_unrotated", "46 35", ("llama", "qwen3", "gemma2", "gpt_oss")),
    _f("zero_keys", "45 44", ("llama", "qwen3", "olmoe"), 6),
    _f("bias_twice_k", "18 20c", BIASED),
    _f("bias_of_k", "18 14", ("qwen2", "glm4"), "v"),
    _f("router_of_residual", "52 26", ("olmoe", "mixtral", "qwen3_moe")),
    _f("weights_on_input", "51", ("olmoe", "mixtral", "qwen3_moe")),
    _f("product_bf16_router", "52", ("olmoe", "mixtral", "qwen3_moe")),
    _f("up_unlimited", "50", ("gpt_oss",)),
    _f("layer_order", "28", ("llama", "gemma2", "olmoe"), (0, 2, 1, 3)),
    _f("layers_run", "28", ("llama", "gemma2", "olmoe", "gpt_oss"), (0, 2, 1, 3)),  # each under its own number
    _f("layers_run", "28", ("qwen3", "mixtral"), (3, 1, 2, 0)),
    _f("norm_in", "25", ("llama", "qwen3", "gemma2", "olmoe"), torch.bfloat16),
]


def _only(places, change):
    def apply(x):
        y = x.clone()
        y[places] = change(y[places])
        return y

    return apply


def _noise(x):
    generator = torch.Generator().manual_seed(1)
    return x * (1 + 0.05 * torch.randn(x.shape, generator=generator)).to(x.dtype)


def _top_keys(x):
    least = x.topk(min(6, x.shape[-1]), -1).values[..., -1:]
    return torch.where(x >= least, x, torch.zeros_like(x))


def _exchange_heads(x):
    return x[:, [1, 0, *range(2, x.shape[1])]]


UNKNOWN = [
    _f("unknown_out", "", ALL, _only((slice(None), slice(0, 32, 3)), lambda x: x * 0.9), (1,)),
    _f("unknown_out", "", ALL, _noise, (1,)),
    _f("unknown_context", "", ALL, _only((slice(None), 1), lambda x: x * 0), (0,)),
    _f("unknown_context", "", ALL, _exchange_heads, (1,)),
    _f("unknown_probs", "", ALL, _top_keys),
    _f("unknown_probs", "", ALL, lambda x: (x.float() ** 1.1).to(x.dtype)),
    _f("unknown_act", "", DENSE, lambda x: torch.tanh(x)),
    _f("unknown_act", "", DENSE, _only((slice(None), slice(0, None, 7)), lambda x: x * 0), (1,)),
    _f("unknown_mlp_out", "", ALL, _only((slice(7, 8),), lambda x: x * 0)),
    _f("unknown_mlp_out", "", ALL, lambda x: x.roll(1, -1), (0,)),
    _f("unknown_residual", "", ALL, lambda x: x.round(decimals=1), (1,)),
    _f("unknown_logits", "", ALL, lambda x: x + torch.linspace(-0.1, 0.1, x.shape[-1]).to(x.dtype)),
    _f("experts_shifted", "", ROUTED),
    _f("parallel_block", "", PLAIN + ("olmoe",)),
    _f("layer_twice", "", ALL, True, (1,)),
    _f("residual_in", "", ("llama", "gemma2", "olmoe"), torch.bfloat16),
    _f("cache_in", "", ("llama", "gemma2", "olmoe"), torch.bfloat16),
    _f("cache_in", "", ("llama", "qwen3"), torch.float8_e4m3fn),
]


def of(model, faults=FAULTS):
    """Those that a checkpoint's architecture can have."""
    kind = "qwen3" if model == "demo-qwen3" else model
    return [fault for fault in faults if kind in fault.models]
