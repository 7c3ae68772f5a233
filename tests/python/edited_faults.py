"""What an author gets wrong in DeepSeek-V4, Qwen3.5, gpt-oss, OLMoE and SmolLM3, as edits of transformers' own files (edited_models.py)."""

from edited_models import Edit

L = r"layers\.\d\."
_SINKS = "sinks = module.sinks.reshape(1, -1, 1, 1).expand(query.shape[0], -1, query.shape[-2], -1)"
_SOFTMAX = "comb = torch.softmax(comb_w * comb_scale + comb_b, dim=-1) + self.hc_eps"
_BACK = "attn_output = apply_rotary_pos_emb(attn_output.transpose(1, 2), cos, -sin).transpose(1, 2)"
_SCORED = """router_probs = torch.nn.functional.softmax(router_logits, dtype=torch.float, dim=-1)
        router_top_value, router_indices = torch.topk(router_probs, self.top_k, dim=-1)  # (seq_len, top_k)"""
_CHOSEN = """router_top_value, router_indices = torch.topk(router_logits, self.top_k, dim=-1)
        router_top_value = router_top_value.softmax(-1)"""
_NOPE = "self.use_rope = config.no_rope_layers[layer_idx]"

FAULTS = {
    "deepseek_v4": [
        Edit("19 of 20 Sinkhorn steps", ("68",), L + r"hc_\w+\.comb", (("self.hc_sinkhorn_iters - 1", "self.hc_sinkhorn_iters - 2"),)),
        Edit("comb's softmax without eps", ("70",), L + r"hc_\w+\.comb", ((_SOFTMAX, _SOFTMAX.removesuffix(" + self.hc_eps")),)),
        Edit("one entry fewer is chosen", ("63",), L + r"attn\.selected.*", (("min(self.index_topk, ", "min(self.index_topk - 1, "),)),
        Edit("sinks times the scale", ("45",), L + r"attn\.(probs|context)", ((_SINKS, _SINKS + " * scaling"),)),
        Edit("rotated back the wrong way", ("64",), L + r"attn\.context_unrope", ((_BACK, _BACK.replace("-sin", "sin")),)),
    ],
    "qwen3_5": [
        Edit(
            "key heads tiled",
            ("17",),
            L + r"linear\.(state|context)",
            (("repeat_interleave(num_v_heads // num_k_heads, dim=2)", "repeat(1, 1, num_v_heads // num_k_heads, 1)"),),
        ),
    ],
    "gpt_oss": [Edit("sinks times the scale", ("45",), L + r"attn\.(probs|context)", ((_SINKS, _SINKS + " * scaling"),))],
    "olmoe": [Edit("softmax over the chosen", ("51",), L + r"moe\.weights", ((_SCORED, _CHOSEN),))],
    "smollm3": [
        Edit("every layer rotates", ("35",), L + r"attn\.(scores|q_rope)", ((_NOPE, "self.use_rope = 1"),)),
        Edit("flags reversed", ("35",), L + r"attn\.(scores|q_rope)", ((_NOPE, "self.use_rope = 1 - config.no_rope_layers[layer_idx]"),)),
        Edit("counted from one", ("35",), L + r"attn\.(scores|q_rope)", ((_NOPE, "self.use_rope = config.no_rope_layers[layer_idx - 1]"),)),
    ],
}
