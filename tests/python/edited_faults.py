"""What an author gets wrong in DeepSeek-V4, Qwen3.5, gpt-oss and OLMoE, as edits of transformers' own files (edited_models.py)."""

from edited_models import Edit

# Some texts occur twice, in the compressor and in the indexer: each of them with a line that tells which.
_COLUMNS = "comb = comb / (comb.sum(dim=-2, keepdim=True) + self.hc_eps)"
_ROWS = "comb = comb / (comb.sum(dim=-1, keepdim=True) + self.hc_eps)"
_SOFTMAX = "comb = torch.softmax(comb_w * comb_scale + comb_b, dim=-1) + self.hc_eps"
_COLLAPSED = "collapsed = (pre.unsqueeze(-1) * hidden_streams).sum(dim=2).to(hidden_streams.dtype)"
_BACK = "attn_output = apply_rotary_pos_emb(attn_output.transpose(1, 2), cos, -sin).transpose(1, 2)"
_SINKS = "sinks = module.sinks.reshape(1, -1, 1, 1).expand(query.shape[0], -1, query.shape[-2], -1)"
_QNORM = "        q = self.q_b_norm(q)\n"
_KV = "kv = self.kv_norm(self.kv_proj(hidden_states)).view(*hidden_shape).transpose(1, 2)\n        kv = apply_rotary_pos_emb(kv, cos, sin)"
_MIXED = "comb.to(dtype).transpose(-1, -2)"
_BIAS = "chunk_gate = chunk_gate.view(batch, n_windows, ratio, -1) + self.position_bias"
_HEAVY_BIAS = "chunk_gate = chunk_gate.view(batch, n_windows, self.compress_rate, -1) + self.position_bias"
_HEAVY_AT = "positions = (positions * self.compress_rate + first_window_position).unsqueeze(0).expand(batch, -1)"
_SPARSE_AT = "positions = positions * self.compress_rate + first_window_position"
_HEAVY_SEEN = "causal_threshold = (position_ids + 1) // self.compress_rate  # [B, S]\n        block_bias"
_SPARSE_SEEN = "causal_threshold = (position_ids + 1) // self.compress_rate  # [B, S]\n            entry_indices"
_RELU = "scores = F.relu(scores) * self.softmax_scale"
_TOPK = "top_k = min(self.index_topk, compressed_len)"
_EMPTY = 'new_gate = chunk_gate.new_full((batch, n_windows, 2 * ratio, self.head_dim), float("-inf"))'
_OVERLAP = """            if n_windows > 1:
                new_kv[:, 1:, :ratio] = chunk_kv[:, :-1, :, : self.head_dim]
                new_gate[:, 1:, :ratio] = chunk_gate[:, :-1, :, : self.head_dim]
"""
_HALVES = (
    ("new_kv[:, :, ratio:] = chunk_kv[..., self.head_dim :]", "new_kv[:, :, ratio:] = chunk_kv[..., : self.head_dim]"),
    ("new_gate[:, :, ratio:] = chunk_gate[..., self.head_dim :]", "new_gate[:, :, ratio:] = chunk_gate[..., : self.head_dim]"),
    ("chunk_kv[:, :-1, :, : self.head_dim]", "chunk_kv[:, :-1, :, self.head_dim :]"),
    ("chunk_gate[:, :-1, :, : self.head_dim]", "chunk_gate[:, :-1, :, self.head_dim :]"),
    ("chunk_kv[:, -1, :, :head_dim].clone()", "chunk_kv[:, -1, :, head_dim:].clone()"),
    ("chunk_gate[:, -1, :, :head_dim].clone()", "chunk_gate[:, -1, :, head_dim:].clone()"),
)
_WEIGHED = "weights = weights / (weights.sum(dim=-1, keepdim=True) + 1e-20)"
_CHOICE = "scores + self.e_score_correction_bias, self.top_k"
_SCALED = "return logits, weights * self.routed_scaling_factor, indices"
_SUM = "return routed + self.shared_experts(residual)"
_PRE = "pre = torch.sigmoid(pre_w * pre_scale + pre_b) + self.hc_eps"
_POST = "post = 2 * torch.sigmoid(post_w * post_scale + post_b)"
_SPLIT = "pre_w, post_w, comb_w = flattened.split([hc, hc, hc * hc], dim=-1)"
_GROUPED = "grouped = attn_output.reshape(*input_shape, self.config.o_groups, -1)"
_TWO_ROPES = 'self.rope_layer_type = "main" if self.layer_type == "sliding_attention" else "compress"'
_INDEX_Q = "q = apply_rotary_pos_emb(q, cos_q, sin_q).transpose(1, 2)"
_INDEXED = "q = self.q_b_proj(q_residual).view(batch, seq_len, -1, self.head_dim).transpose(1, 2)"
_INDEX_IN = "top_k_indices = self.indexer(hidden_states, q_residual, position_ids, past_key_values, layer_idx)"
_HEAD = "pre = torch.sigmoid(mixes * self.hc_scale.float() + self.hc_base.float()) + self.eps"
_PRIOR = """                if prior_kv is not None:
                    new_kv[:, 0, :ratio] = prior_kv.to(new_kv.dtype)
                    new_gate[:, 0, :ratio] = prior_gate.to(new_gate.dtype)
"""
_LIST = "self.compressed_kv[name] = torch.cat([self.compressed_kv[name], compressed], dim=1)"
_TURNED = "rotated = ((rope.float() * cos) + (rotate_half(rope).float() * sin)).to(x.dtype)"
_ENTRY = """            compressed = self.kv_norm(
                (chunk_kv * chunk_gate.softmax(dim=2, dtype=torch.float32).to(chunk_kv.dtype)).sum(dim=2)
            )"""
_ROTATE_ENTRY = "compressed = apply_rotary_pos_emb(compressed.unsqueeze(1), cos, sin).squeeze(1)"

L = r"layers\.\d\."
DEEPSEEK_V4 = [
    Edit("19 of 20 Sinkhorn steps", ("68",), r"layers\.\d\.hc_\w+\.comb", (("range(self.hc_sinkhorn_iters - 1)", "range(self.hc_sinkhorn_iters - 2)"),)),
    Edit("21 Sinkhorn steps", ("68",), r"layers\.\d\.hc_\w+\.comb", (("range(self.hc_sinkhorn_iters - 1)", "range(self.hc_sinkhorn_iters)"),)),
    Edit("3 Sinkhorn steps", ("68",), r"layers\.\d\.hc_\w+\.comb", (("range(self.hc_sinkhorn_iters - 1)", "range(2)"),)),
    Edit("no Sinkhorn", ("68",), r"layers\.\d\.hc_\w+\.comb", (("range(self.hc_sinkhorn_iters - 1)", "range(0)"), (_COLUMNS, "pass"))),
    Edit("softmax alone", ("68",), r"layers\.\d\.hc_\w+\.comb", (("range(self.hc_sinkhorn_iters - 1)", "range(0)"), (_COLUMNS, "pass"), (_SOFTMAX, _SOFTMAX.removesuffix(" + self.hc_eps")))),
    Edit("comb's softmax without eps", ("70",), r"layers\.\d\.hc_\w+\.comb", ((_SOFTMAX, _SOFTMAX.removesuffix(" + self.hc_eps")),)),
    Edit("comb without eps", ("70",), r"layers\.\d\.hc_\w+\.comb", ((_SOFTMAX, _SOFTMAX.removesuffix(" + self.hc_eps")), (" + self.hc_eps)", ")"))),
    Edit("sums without eps", ("70",), r"layers\.\d\.hc_\w+\.comb", ((" + self.hc_eps)", ")"),), hard=True),
    Edit("pre without eps", ("70",), r"layers\.\d\.hc_\w+\.(pre|collapsed)", ((_PRE, _PRE.removesuffix(" + self.hc_eps")),)),
    Edit("hc_eps 1e-5", ("70",), r"layers\.\d\.hc_\w+\.(pre|collapsed|comb)", (("self.hc_eps = config.hc_eps", "self.hc_eps = 1e-5"),)),
    Edit("hc norm eps 1e-5", ("70",), r"layers\.\d\.hc_\w+\.(pre|post|comb)", (("self.input_norm = DeepseekV4UnweightedRMSNorm(eps=config.rms_norm_eps)", "self.input_norm = DeepseekV4UnweightedRMSNorm(eps=1e-5)"),)),
    Edit("no eps at all", ("70",), r"layers\.\d\.hc_\w+\.(pre|collapsed|comb)", (("self.hc_eps = config.hc_eps", "self.hc_eps = 0"),)),
    Edit("post not doubled", ("71",), r"layers\.\d\.hc_\w+\.post", ((_POST, _POST.replace("2 * ", "")),)),
    Edit("pre doubled", ("71", "77"), r"layers\.\d\.hc_\w+\.(pre|collapsed)", ((_PRE, _PRE.replace("torch.sig", "2 * torch.sig")),)),
    Edit("streams mixed by comb, not its transpose", ("72",), r"layers\.\d\.(hc_attn\.)?streams", ((_MIXED, "comb.to(dtype)"),)),
    Edit("comb read transposed", ("72",), r"layers\.\d\.hc_\w+\.comb", (("comb_w = comb_w.view(*comb_w.shape[:-1], hc, hc)", "comb_w = comb_w.view(*comb_w.shape[:-1], hc, hc).transpose(-1, -2)"), ("comb_b = comb_b.view(hc, hc)", "comb_b = comb_b.view(hc, hc).T"))),
    Edit("rows first", ("69",), r"layers\.\d\.hc_\w+\.comb", ((_COLUMNS, "ROWS"), (_ROWS, _COLUMNS), ("ROWS", _ROWS))),
    Edit("softmax of columns", ("69", "72"), r"layers\.\d\.hc_\w+\.comb", ((_SOFTMAX, _SOFTMAX.replace("dim=-1", "dim=-2")),)),
    Edit("softmax of columns, rows first", ("69", "72"), r"layers\.\d\.hc_\w+\.comb", ((_COLUMNS, "ROWS"), (_ROWS, _COLUMNS), ("ROWS", _ROWS), (_SOFTMAX, _SOFTMAX.replace("dim=-1", "dim=-2")))),
    Edit("hc input not normalised", ("73",), r"layers\.\d\.hc_\w+\.(pre|post|comb)", (("        flattened = self.input_norm(flattened)\n", ""),)),
    Edit("hc norm of each stream", ("73",), r"layers\.\d\.hc_\w+\.(pre|post|comb)", (("flattened = self.input_norm(flattened)", "flattened = self.input_norm(hidden_streams.float()).flatten(2)"),)),
    Edit("hc scales all the first", ("70", "73", "76"), r"layers\.\d\.hc_\w+\.(post|comb)", (("pre_scale, post_scale, comb_scale = self.scale.unbind(0)", "pre_scale = post_scale = comb_scale = self.scale[0]"),)),
    Edit("hc without scale", ("76",), r"layers\.\d\.hc_\w+\.(pre|post|comb)", (("pre_scale, post_scale, comb_scale = self.scale.unbind(0)", "pre_scale = post_scale = comb_scale = 1"),)),
    Edit("hc without base", ("76",), r"layers\.\d\.hc_\w+\.(pre|post|comb)", (("pre_b, post_b, comb_b = self.base.split([hc, hc, hc * hc])", "pre_b, post_b, comb_b = (0 * self.base).split([hc, hc, hc * hc])"),)),
    Edit("pre and post exchanged", ("76",), r"layers\.\d\.hc_\w+\.(pre|collapsed|post)", ((_SPLIT, _SPLIT.replace("pre_w, post_w", "post_w, pre_w")), ("pre_b, post_b, comb_b", "post_b, pre_b, comb_b"), ("pre_scale, post_scale, comb_scale", "post_scale, pre_scale, comb_scale"))),
    Edit("pre by softmax", ("70", "71", "77"), r"layers\.\d\.hc_\w+\.(pre|collapsed)", ((_PRE, "pre = torch.softmax(pre_w * pre_scale + pre_b, dim=-1) + self.hc_eps"),)),
    Edit("normalised streams collapsed", ("77",), r"layers\.\d\.hc_\w+\.collapsed", ((_COLLAPSED, "collapsed = (pre.unsqueeze(-1) * self.input_norm(hidden_streams.flatten(2).float()).view_as(hidden_streams)).sum(dim=2).to(hidden_streams.dtype)"),)),
    Edit("streams averaged", ("77",), r"layers\.\d\.hc_\w+\.collapsed", ((_COLLAPSED, "collapsed = hidden_streams.mean(dim=2)"),)),
    Edit("streams summed", ("77",), r"layers\.\d\.hc_\w+\.collapsed", ((_COLLAPSED, "collapsed = hidden_streams.sum(dim=2)"),)),
    Edit("first stream taken", ("77",), r"layers\.\d\.hc_\w+\.collapsed", ((_COLLAPSED, "collapsed = hidden_streams[:, :, 0]"),)),
    Edit("streams not mixed", ("78",), r"layers\.\d\.(hc_attn\.)?streams", (("torch.matmul(\n            comb.to(dtype).transpose(-1, -2), hidden_states\n        )", "hidden_states"),)),
    Edit("branch added without post", ("78", "71"), r"layers\.\d\.(hc_attn\.)?streams", (("post.to(dtype).unsqueeze(-1) * ", ""),)),
    Edit("head averages the streams", ("77",), r"hc_head\.(pre|collapsed)", (("return (pre.unsqueeze(-1) * x).sum(dim=2).to(x.dtype)", "return x.mean(dim=2)"),)),
    Edit("head sums the streams", ("77",), r"hc_head\.(pre|collapsed)", (("return (pre.unsqueeze(-1) * x).sum(dim=2).to(x.dtype)", "return x.sum(dim=2)"),)),
    Edit("head takes the first stream", ("77",), r"hc_head\.(pre|collapsed)", (("return (pre.unsqueeze(-1) * x).sum(dim=2).to(x.dtype)", "return x[:, :, 0]"),)),
    Edit("head without eps", ("70",), r"hc_head\.(pre|collapsed)", ((_HEAD, _HEAD.removesuffix(" + self.eps")),)),
    Edit("head not normalised", ("73",), r"hc_head\.(pre|collapsed)", (("flat = self.input_norm(x.flatten(2).float())", "flat = x.flatten(2).float()"),)),
    Edit("first stream alone holds the embedding", ("78",), r"streams", (("hidden_states = inputs_embeds.unsqueeze(2).expand(-1, -1, self.config.hc_mult, -1).contiguous()", "hidden_states = F.pad(inputs_embeds.unsqueeze(2), (0, 0, 0, self.config.hc_mult - 1))"),)),
    Edit("attention's and MLP's connections exchanged", ("76",), r"layers\.\d\.hc_\w+\.(pre|post|comb)", (("        dtype = hidden_states.dtype\n        post, comb, collapsed = self.attn_hc", "        dtype = hidden_states.dtype\n        for name in () if hasattr(self, 'exchanged') else ('fn', 'base', 'scale'):\n            a, b = getattr(self.attn_hc, name), getattr(self.ffn_hc, name)\n            a.data, b.data = b.data, a.data\n        self.exchanged = True\n        post, comb, collapsed = self.attn_hc"),)),
    # Attention.
    Edit("not rotated back", ("61",), r"layers\.\d\.attn\.context_unrope", ((_BACK, "attn_output = apply_rotary_pos_emb(attn_output.transpose(1, 2), torch.ones_like(cos), 0 * sin).transpose(1, 2)"),)),
    Edit("rotated back the wrong way", ("64",), r"layers\.\d\.attn\.context_unrope", ((_BACK, _BACK.replace("-sin", "sin")),)),
    Edit("rotated back by main's frequencies", ("31", "32"), L + r"attn\.context_unrope", ((_BACK, 'back = position_embeddings["main"]; ' + _BACK.replace("cos, -sin", "back[0], -back[1]")),)),
    Edit("half-split pairs", ("30",), r"layers\.\d\.attn\.(q_rope|kv_rope)", (("cos = cos.repeat_interleave(2, dim=-1)", "cos = torch.cat([cos, cos], dim=-1)"), ("sin = sin.repeat_interleave(2, dim=-1)", "sin = torch.cat([sin, sin], dim=-1)"), ("    x1 = x[..., 0::2]\n    x2 = x[..., 1::2]\n    return torch.stack((-x2, x1), dim=-1).flatten(-2)", "    x1, x2 = x.chunk(2, -1)\n    return torch.cat((-x2, x1), dim=-1)"))),
    Edit("first channels rotated", ("34",), r"layers\.\d\.attn\.q_rope", (("nope, rope = x[..., :-rope_dim], x[..., -rope_dim:]", "rope, nope = x[..., :rope_dim], x[..., rope_dim:]"), ("return torch.cat([nope, rotated], dim=-1)", "return torch.cat([rotated, nope], dim=-1)"))),
    Edit("main's rotation everywhere", ("31", "32"), r"layers\.\d\.attn\.q_rope", ((_TWO_ROPES, 'self.rope_layer_type = "main"'), ('rope_layer_type = "compress"', 'rope_layer_type = "main"'))),
    Edit("main's rotation for queries and keys", ("31", "32"), r"layers\.\d\.attn\.q_rope", ((_TWO_ROPES, 'self.rope_layer_type = "main"'),)),
    Edit("main's rotation for entries", ("31", "32"), r"layers\.\d\.attn\.compressed_rope", (('    rope_layer_type = "compress"', '    rope_layer_type = "main"'),)),
    Edit("compressed layers' rotation everywhere", ("31", "32"), r"layers\.\d\.attn\.q_rope", ((_TWO_ROPES, 'self.rope_layer_type = "compress"'),)),
    Edit("YaRN ignored", ("32", "33"), r"layers\.\d\.attn\.q_rope", (('inv_freq = getattr(self, f"{layer_type}_inv_freq")', "inv_freq = self.compute_default_rope_parameters(self.config, layer_type=layer_type)[0]"),)),
    Edit("YaRN's amount on cos and sin", ("33",), r"layers\.\d\.attn\.q_rope", (('attention_scaling = getattr(self, f"{layer_type}_attention_scaling")', 'attention_scaling = 1.2772588722239782 if layer_type == "compress" else 1.0'),)),
    Edit("theta of compressed layers", ("31",), r"layers\.\d\.attn\.q_rope", (("inv_freq, attention_scaling = rope_init_fn(config, device, layer_type=layer_type)", 'config.rope_parameters["compress"]["rope_theta"] = 40000.0; inv_freq, attention_scaling = rope_init_fn(config, device, layer_type=layer_type)'),)),
    Edit("YaRN's factor 40", ("32",), r"layers\.\d\.attn\.q_rope", (("inv_freq, attention_scaling = rope_init_fn(config, device, layer_type=layer_type)", 'config.rope_parameters["compress"]["factor"] = 40.0; inv_freq, attention_scaling = rope_init_fn(config, device, layer_type=layer_type)'),)),
    Edit("sinks left out", ("45",), r"layers\.\d\.attn\.(probs|context)", ((_SINKS, _SINKS + " - 1e30"),)),
    Edit("sinks times the scale", ("45",), r"layers\.\d\.attn\.(probs|context)", ((_SINKS, _SINKS + " * scaling"),)),
    Edit("sinks where there are entries only", ("45",), r"layers\.\d\.attn\.(probs|context)", ((_SINKS, _SINKS + ' - (1e30 if module.layer_type == "sliding_attention" else 0)'),)),
    Edit("no sinks where there are entries", ("45",), r"layers\.\d\.attn\.(probs|context)", ((_SINKS, _SINKS + ' - (0 if module.layer_type == "sliding_attention" else 1e30)'),)),
    Edit("sinks of the next head", ("45",), r"layers\.\d\.attn\.(probs|context)", ((_SINKS, _SINKS.replace("module.sinks", "module.sinks.roll(1)")),)),
    Edit("sinks of zero", ("45",), r"layers\.\d\.attn\.(probs|context)", ((_SINKS, _SINKS + " * 0"),)),
    Edit("scores scaled by YaRN too", ("40",), L + r"attn\.(scores|probs|context)", (("self.scaling = self.head_dim**-0.5", "self.scaling = self.head_dim**-0.5 * 1.2772588722239782**2"),)),
    Edit("scores scaled by the unrotated part", ("40",), r"layers\.\d\.attn\.(scores|probs|context)", (("self.scaling = self.head_dim**-0.5", "self.scaling = (self.head_dim * 3 // 4)**-0.5"),)),
    Edit("queries' heads not normed, unseen", ("39",), r"layers\.\d\.attn\.q_(norm|rope)", ((_QNORM, ""),)),
    Edit("queries normed over all heads", ("39",), r"layers\.\d\.attn\.q_(norm|rope)", ((_QNORM, "        q = q * torch.rsqrt(q.float().square().mean((1, 3), keepdim=True) + 1e-6)\n"),)),
    Edit("queries normed after the rotation", ("39",), r"layers\.\d\.attn\.q_(norm|rope)", (("        q = self.q_b_norm(q)\n        q = apply_rotary_pos_emb(q, cos, sin)\n", "        q = apply_rotary_pos_emb(q, cos, sin)\n        q = self.q_b_norm(q)\n"),)),
    Edit("latent queries not normed", ("26", "39"), r"layers\.\d\.attn\.q(_a_norm)?", (("q_residual = self.q_a_norm(self.q_a_proj(hidden_states))", "q_residual = self.q_a_proj(hidden_states)"),)),
    Edit("keys not normed", ("26", "39"), r"layers\.\d\.attn\.kv_(norm|rope)", ((_KV, _KV.replace("self.kv_norm(self.kv_proj(hidden_states))", "self.kv_proj(hidden_states)")),)),
    Edit("keys not rotated", ("35",), r"layers\.\d\.attn\.kv_rope", ((_KV, _KV.replace("cos, sin)", "torch.ones_like(cos), 0 * sin)")),)),
    Edit("keys normed after the rotation", ("39", "26"), r"layers\.\d\.attn\.kv_(norm|rope)", ((_KV, "kv = apply_rotary_pos_emb(self.kv_proj(hidden_states).view(*hidden_shape).transpose(1, 2), cos, sin)\n        kv = self.kv_norm(kv)"),)),
    Edit("window of one token more", ("42",), r"layers\.\d\.attn\.(scores|probs|context)", (("self.padding_idx = config.pad_token_id", "self.padding_idx = config.pad_token_id; config.sliding_window += 1"),)),
    Edit("window of one token less", ("42",), r"layers\.\d\.attn\.(scores|probs|context)", (("self.padding_idx = config.pad_token_id", "self.padding_idx = config.pad_token_id; config.sliding_window -= 1"),)),
    Edit("heavy entries seen a token early", ("62",), r"layers\.\d\.attn\.(scores|probs|context)", ((_HEAVY_SEEN, _HEAVY_SEEN.replace("+ 1", "+ 2")),)),
    Edit("heavy entries seen a token late", ("62",), r"layers\.\d\.attn\.(scores|probs|context)", ((_HEAVY_SEEN, _HEAVY_SEEN.replace("(position_ids + 1)", "position_ids")),)),
    Edit("heavy entries seen from their first token", ("62",), r"layers\.\d\.attn\.(scores|probs|context)", ((_HEAVY_SEEN, _HEAVY_SEEN.replace("+ 1", "+ self.compress_rate")),)),
    Edit("heavy entries seen a block late", ("62",), r"layers\.\d\.attn\.(scores|probs|context)", ((_HEAVY_SEEN, _HEAVY_SEEN.replace("+ 1)", "+ 1 - self.compress_rate)")),)),
    Edit("all heavy entries seen", ("62",), r"layers\.\d\.attn\.(scores|probs|context)", ((_HEAVY_SEEN, _HEAVY_SEEN.replace("+ 1", "+ 100000")),)),
    Edit("no heavy entries seen", ("62",), r"layers\.\d\.attn\.(scores|probs|context)", ((_HEAVY_SEEN, _HEAVY_SEEN.replace("(position_ids + 1)", "(position_ids * 0)")), ("if seq_len == 1 or compressed_len == 0:", "if compressed_len == 0:"))),
    Edit("sparse entries seen a token early", ("62",), r"layers\.\d\.attn\.selected.*", ((_SPARSE_SEEN, _SPARSE_SEEN.replace("+ 1", "+ 2")),)),
    Edit("sparse entries seen a token late", ("62",), r"layers\.\d\.attn\.selected.*", ((_SPARSE_SEEN, _SPARSE_SEEN.replace("(position_ids + 1)", "position_ids")),)),
    Edit("sparse entries seen from their first token", ("62",), r"layers\.\d\.attn\.selected.*", ((_SPARSE_SEEN, _SPARSE_SEEN.replace("+ 1", "+ self.compress_rate")),)),
    Edit("all sparse entries seen", ("62",), r"layers\.\d\.attn\.selected.*", ((_SPARSE_SEEN, _SPARSE_SEEN.replace("+ 1", "+ 100000")),)),
    Edit("all entries in sparse layers", ("63",), r"layers\.\d\.attn\.(selected|scores|probs|context).*", ((_TOPK, "top_k = compressed_len"),), hard=True),
    Edit("one entry fewer is chosen", ("63",), r"layers\.\d\.attn\.selected.*", ((_TOPK, "top_k = min(self.index_topk - 1, compressed_len)"),)),
    Edit("one entry more is chosen", ("63",), r"layers\.\d\.attn\.selected.*", ((_TOPK, "top_k = min(self.index_topk + 1, compressed_len)"),)),
    Edit("half the entries are chosen", ("63",), r"layers\.\d\.attn\.selected.*", ((_TOPK, "top_k = min(self.index_topk // 2, compressed_len)"),)),
    Edit("index not rectified", ("63",), r"layers\.\d\.attn\.selected.*", ((_RELU, _RELU.replace("F.relu(scores)", "scores")),)),
    Edit("index rectified after the sum", ("63",), r"layers\.\d\.attn\.selected.*", ((_RELU, _RELU.replace("F.relu(scores)", "scores")), ("return (scores * weights.unsqueeze(-1)).sum(dim=2)", "return F.relu((scores * weights.unsqueeze(-1)).sum(dim=2))"))),
    Edit("index not weighted", ("63",), r"layers\.\d\.attn\.selected.*", (("weights = self.weights_proj(hidden_states).float() * self.weights_scaling", "weights = self.weights_proj(hidden_states).float() * 0 + self.weights_scaling"),)),
    Edit("index weights by softmax", ("63",), r"layers\.\d\.attn\.selected.*", (("weights = self.weights_proj(hidden_states).float() * self.weights_scaling", "weights = self.weights_proj(hidden_states).float().softmax(-1) * self.weights_scaling"),)),
    Edit("index queries not rotated", ("35",), r"layers\.\d\.attn\.index_q_rope", ((_INDEX_Q, "q = apply_rotary_pos_emb(q, torch.ones_like(cos_q), 0 * sin_q).transpose(1, 2)"),)),
    Edit("index keeps the first", ("63",), r"layers\.\d\.attn\.selected.*", (("top_k_indices = index_scores.topk(top_k, dim=-1).indices", "top_k_indices = torch.arange(top_k).expand(batch, seq_len, top_k)"),)),
    Edit("index keeps the last", ("63",), r"layers\.\d\.attn\.selected.*", (("top_k_indices = index_scores.topk(top_k, dim=-1).indices", "top_k_indices = (causal_threshold.unsqueeze(-1) - 1 - torch.arange(top_k)).where(causal_threshold.unsqueeze(-1) > torch.arange(top_k), 100000)"),)),
    # Entries.
    Edit("position bias left out of heavy entries", ("65",), r"layers\.\d\.attn\.compressed_pooled", ((_HEAVY_BIAS, _HEAVY_BIAS.removesuffix(" + self.position_bias")),)),
    Edit("position bias left out of sparse entries", ("65",), r"layers\.\d\.attn\.(compressed|index_entries)_pooled", ((_BIAS, _BIAS.removesuffix(" + self.position_bias")),)),
    Edit("position bias of the next place", ("65",), r"layers\.\d\.attn\.compressed_pooled", ((" + self.position_bias", " + self.position_bias.roll(1, 0)"),)),
    Edit("position bias in reverse", ("65",), r"layers\.\d\.attn\.compressed_pooled", ((" + self.position_bias", " + self.position_bias.flip(0)"),)),
    Edit("zeros count before the first", ("66",), r"layers\.\d\.attn\.(compressed|index_entries)_pooled", ((_EMPTY, "new_gate = chunk_gate.new_zeros((batch, n_windows, 2 * ratio, self.head_dim))"),)),
    Edit("heavy entries at their number", ("67",), r"layers\.\d\.attn\.compressed(_rope)?", ((_HEAVY_AT, "positions = (positions + first_window_position // self.compress_rate).unsqueeze(0).expand(batch, -1)"),)),
    Edit("heavy entries at their last token", ("67",), r"layers\.\d\.attn\.compressed(_rope)?", ((_HEAVY_AT, _HEAVY_AT.replace("first_window_position)", "first_window_position + self.compress_rate - 1)")),)),
    Edit("heavy entries at their middle", ("67",), r"layers\.\d\.attn\.compressed(_rope)?", ((_HEAVY_AT, _HEAVY_AT.replace("first_window_position)", "first_window_position + self.compress_rate // 2)")),)),
    Edit("sparse entries at their number", ("67",), r"layers\.\d\.attn\.(compressed|index_entries)(_rope)?", ((_SPARSE_AT, "positions = positions + first_window_position // self.compress_rate"),)),
    Edit("sparse entries at their last token", ("67",), r"layers\.\d\.attn\.(compressed|index_entries)(_rope)?", ((_SPARSE_AT, _SPARSE_AT + " + self.compress_rate - 1"),)),
    Edit("sparse entries at the block before", ("67",), r"layers\.\d\.attn\.(compressed|index_entries)(_rope)?", ((_SPARSE_AT, _SPARSE_AT + " - self.compress_rate"),)),
    Edit("decoded entries at their number in the pass", ("67",), r"layers\.[12]\.attn\.(compressed|index_entries)(_rope)?", (("first_window_position = self.entry_count[name] * self.compress_rate", "first_window_position = 0"),)),
    Edit("heavy entries not rotated", ("35",), r"layers\.\d\.attn\.compressed(_rope)?", ((_HEAVY_AT, "positions = (positions * 0).unsqueeze(0).expand(batch, -1)"),)),
    Edit("halves exchanged", ("74",), r"layers\.\d\.attn\.(compressed|index_entries)_pooled", _HALVES),
    Edit("no overlap", ("75",), r"layers\.\d\.attn\.(compressed|index_entries)_pooled", ((_OVERLAP, ""), (_PRIOR, ""))),
    Edit("no overlap across passes", ("75",), r"layers\.\d\.attn\.(compressed|index_entries)_pooled", ((_PRIOR, ""),)),
    Edit("entries averaged", ("79", "65"), r"layers\.\d\.attn\.compressed_pooled", ((_ENTRY, "            compressed = self.kv_norm(chunk_kv.mean(dim=2))"),)),
    Edit("gate softmax over channels", ("79",), r"layers\.\d\.attn\.compressed_pooled", ((_ENTRY, _ENTRY.replace("softmax(dim=2", "softmax(dim=3")),)),
    Edit("gate by sigmoid", ("79",), r"layers\.\d\.attn\.compressed_pooled", ((_ENTRY, _ENTRY.replace("chunk_gate.softmax(dim=2, dtype=torch.float32)", "chunk_gate.sigmoid()")),)),
    Edit("heavy entries not normed", ("26", "39"), r"layers\.\d\.attn\.compressed(_norm|_rope|)", ((_ENTRY, _ENTRY.replace("self.kv_norm", "")),)),
    Edit("decode forgets new entries", ("46", "82"), L + r"attn\..*", ((_LIST, "pass"), ("        self.entry_count[name] += compressed.shape[1]", "        self.entry_count[name] = self.compressed_kv[name].shape[1]"))),
    Edit("the rest of a pass is lost", ("46", "67", "82"), L + r"attn\..*", (("kv[:, usable:], gate[:, usable:]", "kv[:, kv.shape[1] :], gate[:, gate.shape[1] :]"),)),
    # Output projection.
    Edit("heads dealt to groups in turn", ("14", "17", "80"), r"layers\.\d\.attn\.out(_a)?", ((_GROUPED, "grouped = attn_output.transpose(2, 3).reshape(*input_shape, self.head_dim, -1, self.config.o_groups).permute(0, 1, 4, 3, 2).flatten(3)"),)),
    Edit("one group's matrix for all", ("80",), r"layers\.\d\.attn\.out(_a)?", (("w = self.weight.view(self.n_groups, -1, hidden_dim).transpose(1, 2)", "w = self.weight.view(self.n_groups, -1, hidden_dim)[:1].expand(self.n_groups, -1, -1).transpose(1, 2)"),)),
    # Experts.
    Edit("router by softmax", ("52",), L + r"moe\.(probs|weights|ids)", (("scores = self.score_fn(logits)", "scores = self.score_fn(logits) * 0 + logits.softmax(-1)"),)),
    Edit("router by sigmoid", ("52",), r"layers\.\d\.moe\.(probs|weights|ids)", (("self.score_fn = ACT2FN[config.scoring_func]", "self.score_fn = nn.Sigmoid()"),)),
    Edit("router by softplus", ("52",), r"layers\.\d\.moe\.(probs|weights|ids)", (("self.score_fn = ACT2FN[config.scoring_func]", "self.score_fn = nn.Softplus()"),)),
    Edit("router not renormalised", ("51",), r"layers\.\d\.moe\.weights", ((_WEIGHED, "pass"),)),
    Edit("router not scaled", ("52",), r"layers\.\d\.moe\.weights", ((_SCALED, "return logits, weights, indices"),)),
    Edit("bias in the weights", ("52",), r"layers\.\d\.moe\.weights", (("indices = torch.topk(scores + self.e_score_correction_bias", "scores = scores + self.e_score_correction_bias; indices = torch.topk(scores"),)),
    Edit("bias not in the choice", ("52",), r"layers\.\d\.moe\.(ids|weights)", ((_CHOICE, "scores, self.top_k"),)),
    Edit("hashed layers choose by score", ("52", "81"), r"layers\.\d\.moe\.(ids|weights)", (("indices = self.tid2eid[input_ids.reshape(-1)].long()", "indices = torch.topk(scores, self.top_k, dim=-1).indices"),)),
    Edit("hash of the token before", ("52", "81"), r"layers\.\d\.moe\.(ids|weights)", (("indices = self.tid2eid[input_ids.reshape(-1)].long()", "ids = input_ids.reshape(-1); indices = self.tid2eid[torch.cat([ids[:1], ids[:-1]])].long()"),)),
    Edit("hash of the position", ("52", "81"), r"layers\.\d\.moe\.(ids|weights)", (("indices = self.tid2eid[input_ids.reshape(-1)].long()", "indices = self.tid2eid[torch.arange(input_ids.numel())].long()"),)),
    Edit("hashed weights equal", ("51", "52", "81"), r"layers\.\d\.moe\.weights", (("indices = self.tid2eid[input_ids.reshape(-1)].long()\n        weights = scores.gather(1, indices)", "indices = self.tid2eid[input_ids.reshape(-1)].long()\n        weights = torch.ones_like(indices, dtype=scores.dtype)"),)),
    Edit("one expert more", ("51",), r"layers\.\d\.moe\.(ids|weights)", ((_CHOICE, "scores + self.e_score_correction_bias, self.top_k + 1"),)),
    Edit("shared clamp missing", ("50",), L + r"moe\.shared_act", (("        gate = self.gate_proj(x).clamp(max=self.limit)\n        up = self.up_proj(x).clamp(min=-self.limit, max=self.limit)", "        gate = self.gate_proj(x)\n        up = self.up_proj(x)"),)),
    Edit("routed clamp missing", ("50",), L + r"moe\.routed", (("        gate = gate.clamp(max=self.limit)\n        up = up.clamp(min=-self.limit, max=self.limit)\n", ""),)),
    Edit("routed clamp of 1", ("50",), L + r"moe\.routed", (("gate = gate.clamp(max=self.limit)\n        up = up.clamp(min=-self.limit, max=self.limit)", "gate = gate.clamp(max=1)\n        up = up.clamp(min=-1, max=1)"),)),
    Edit("gate clamped on both sides", ("50",), L + r"moe\.(routed|shared_act)", (("clamp(max=self.limit)", "clamp(min=-self.limit, max=self.limit)"),)),
    Edit("up clamped from above only", ("50",), L + r"moe\.(routed|shared_act)", (("up.clamp(min=-self.limit, max=self.limit)", "up.clamp(max=self.limit)"), ("up_proj(x).clamp(min=-self.limit, max=self.limit)", "up_proj(x).clamp(max=self.limit)"))),
    Edit("up not clamped", ("50",), L + r"moe\.(routed|shared_act)", (("up.clamp(min=-self.limit, max=self.limit)", "up"), ("up_proj(x).clamp(min=-self.limit, max=self.limit)", "up_proj(x)"))),
    Edit("gate not clamped", ("50",), L + r"moe\.(routed|shared_act)", (("clamp(max=self.limit)", "clamp(max=1e30)"),)),
    Edit("shared expert left out", ("28",), r"layers\.\d\.mlp\.out", ((_SUM, "self.shared_experts(residual); return routed"),)),
    Edit("shared expert scaled like the routed", ("28", "20c"), r"layers\.\d\.(mlp\.out|moe\.shared)", ((_SUM, "return routed + 1.5 * self.shared_experts(residual)"),)),
    Edit("shared expert averaged in", ("28",), r"layers\.\d\.mlp\.out", ((_SUM, "return (routed + self.shared_experts(residual)) / 2"),)),
    Edit("routed gate and up exchanged", ("15",), r"layers\.\d\.moe\.routed", (("gate, up = gate_up.chunk(2, dim=-1)", "up, gate = gate_up.chunk(2, dim=-1)"),)),
    Edit("routed gate and up alternating", ("15",), r"layers\.\d\.moe\.routed", (("gate, up = gate_up.chunk(2, dim=-1)", "gate, up = gate_up[..., ::2], gate_up[..., 1::2]"),)),
    Edit("experts by GELU", ("49",), r"layers\.\d\.moe\.(routed|shared_act)", (("self.act_fn = ACT2FN[config.hidden_act]", "self.act_fn = nn.GELU()"),)),
    Edit("weights not applied", ("51", "51"), r"layers\.\d\.moe\.(routed|weights)", ((" * top_k_weights[token_idx, top_k_pos, None]", ""),)),
    Edit("weight before the gate", ("51",), r"layers\.\d\.moe\.routed", (("current = self._apply_gate(F.linear(hidden_states[token_idx], self.gate_up_proj[expert_idx]))", "current = self._apply_gate(F.linear(hidden_states[token_idx] * top_k_weights[token_idx, top_k_pos, None], self.gate_up_proj[expert_idx]))"), ("self.down_proj[expert_idx]) * top_k_weights[token_idx, top_k_pos, None]", "self.down_proj[expert_idx])"))),
    # The rest.
    Edit("rms eps 1e-5", ("21",), r"layers\.\d\.attn\.norm", (("(self, hidden_size, eps: float = 1e-6) -> None:", "(self, hidden_size, eps: float = 1e-6) -> None:\n        eps = 1e-5"),)),
    Edit("final norm missing", ("29",), r"norm", (("hidden_states = self.norm(self.hc_head(hidden_states))", "hidden_states = self.norm(self.hc_head(hidden_states)) * 0 + self.hc_head(hidden_states)"),)),
    Edit("attention's norm left out", ("26",), r"layers\.\d\.attn\.(norm|q_a)", (("self.self_attn(self.input_layernorm(collapsed), **kwargs)", "self.self_attn(collapsed, **kwargs)"),)),
    Edit("norms exchanged", ("26",), r"layers\.\d\.attn\.(norm|q_a)", (("        dtype = hidden_states.dtype\n        post, comb, collapsed = self.attn_hc", "        dtype = hidden_states.dtype\n        if not hasattr(self, 'exchanged'):\n            a, b = self.input_layernorm.weight, self.post_attention_layernorm.weight\n            a.data, b.data = b.data, a.data\n        self.exchanged = True\n        post, comb, collapsed = self.attn_hc"),)),
    Edit("second layer left out", ("28",), r"layers\.\d\.(streams|hc_attn\..*)", (("        for layer in self.layers:", "        for layer in [m for m in self.layers if m.layer_idx != 1]:"),)),
]


_TILED = "repeat_interleave(num_v_heads // num_k_heads, dim=2)"
_L2 = "inv_norm = torch.rsqrt((x * x).sum(dim=dim, keepdim=True) + eps)"
_Q_SCALE = ("query = query * scaling", "query = query / (query.shape[-1] ** 0.5)")
_BETA = "beta = b.sigmoid()"
_DECAY = "g = -self.A_log.float().exp() * F.softplus(a.float() + self.dt_bias)"
_STEP = "if recurrent_state is not None and seq_len == 1:"
_CHUNKED = _STEP  # the recurrent form for prompts, too: its steps can be edited
_RECURRENT = (_STEP, "if True:")
_DECAYED = "        last_recurrent_state = last_recurrent_state * decay_t\n"
_READ = "        core_attn_out[:, :, i] = (last_recurrent_state * q_t.unsqueeze(-1)).sum(dim=-2)\n"
_WRITTEN = "        last_recurrent_state = last_recurrent_state + k_t.unsqueeze(-1) * delta.unsqueeze(-2)\n"
_MEMORY = "        kv_mem = (last_recurrent_state * k_t.unsqueeze(-1)).sum(dim=-2)\n"
_TAPS = "self.conv1d.weight.squeeze(1)"
_PARTS = "query, key, value = torch.split("
_ATTENTION_GATE = "attn_output = attn_output * torch.sigmoid(gate)"
_GATED_NORM = """        hidden_states = hidden_states * torch.rsqrt(variance + self.variance_epsilon)
        hidden_states = self.weight * hidden_states.to(input_dtype)
        hidden_states = hidden_states * ACT2FN[self.activation](gate.to(torch.float32))
"""
_ROTARY_DIM = "    rotary_dim = cos.shape[-1]\n"
_Q_AND_GATE = """        query_states, gate = torch.chunk(
            self.q_proj(hidden_states).view(*input_shape, -1, self.head_dim * 2), 2, dim=-1
        )
"""
_OUT = "hidden_states = residual + hidden_states\n\n        # Fully Connected"
_LAYERS = "for layer_idx, decoder_layer in enumerate(self.layers[: self.config.num_hidden_layers]):"

QWEN3_5 = [
    Edit("key heads tiled", ("17",), L + r"linear\.(state|context)", ((_TILED, "repeat(1, 1, num_v_heads // num_k_heads, 1)"),)),
    Edit("l2 eps 1e-5", ("55",), L + r"linear\.(q|k)", (("eps=1e-6)\n        key", "eps=1e-5)\n        key"), ("key = l2norm(key, dim=-1, eps=1e-6)", "key = l2norm(key, dim=-1, eps=1e-5)"))),
    Edit("l2 eps 1e-12", ("55",), L + r"linear\.(q|k)", ((_L2, _L2.replace("eps)", "1e-12)")),)),
    Edit("l2 eps on the length", ("55",), L + r"linear\.(q|k)", ((_L2, "inv_norm = 1 / ((x * x).sum(dim=dim, keepdim=True).sqrt() + eps)"),)),
    Edit("l2 least length", ("55",), L + r"linear\.(q|k)", ((_L2, "inv_norm = 1 / (x * x).sum(dim=dim, keepdim=True).sqrt().clamp(min=eps)"),)),
    Edit("l2 by the mean", ("55",), L + r"linear\.(q|k)", ((_L2, _L2.replace(".sum(", ".mean(")),)),
    Edit("l2 left out", ("55",), L + r"linear\.(q|k)", (("return x * inv_norm", "return x * 1.0"),)),
    Edit("queries not scaled", ("55",), L + r"linear\.q", ((_Q_SCALE[0], "query = query * 1.0"), (_Q_SCALE[1], "query = query * 1.0"))),
    Edit("queries scaled by the dim", ("55",), L + r"linear\.q", ((_Q_SCALE[0], "query = query / query.shape[-1]"), (_Q_SCALE[1], "query = query / query.shape[-1]"))),
    Edit("keys scaled, too", ("55",), L + r"linear\.(k|state)", ((_Q_SCALE[0], "query = query * scaling; key = key * scaling"), (_Q_SCALE[1], _Q_SCALE[1] + "; key = key / (key.shape[-1] ** 0.5)"))),
    Edit("beta without its sigmoid", ("55",), L + r"linear\.beta", ((_BETA, "beta = b"),)),
    Edit("beta doubled", ("55",), L + r"linear\.beta", ((_BETA, "beta = 2 * b.sigmoid()"),)),
    Edit("beta of one", ("55",), L + r"linear\.beta", ((_BETA, "beta = torch.ones_like(b)"),)),
    Edit("decay rate not exponentiated", ("55",), L + r"linear\.g", ((_DECAY, _DECAY.replace(".exp()", "")),)),
    Edit("decay rate not exponentiated, by size", ("55",), L + r"linear\.g", ((_DECAY, _DECAY.replace(".exp()", ".abs()")),)),
    Edit("softplus left out", ("55",), L + r"linear\.g", ((_DECAY, _DECAY.replace("F.softplus(a.float() + self.dt_bias)", "(a.float() + self.dt_bias).abs()")),)),
    Edit("softplus left out, by sign", ("55",), L + r"linear\.g", ((_DECAY, _DECAY.replace("F.softplus(a.float() + self.dt_bias)", "(a.float() + self.dt_bias)")),)),
    Edit("softplus twice", ("55",), L + r"linear\.g", ((_DECAY, _DECAY.replace("F.softplus(a.float() + self.dt_bias)", "F.softplus(F.softplus(a.float() + self.dt_bias))")),)),
    Edit("softplus is a sigmoid", ("55",), L + r"linear\.g", ((_DECAY, _DECAY.replace("F.softplus", "torch.sigmoid")),)),
    Edit("offset of the decay missing", ("55",), L + r"linear\.g", ((_DECAY, _DECAY.replace(" + self.dt_bias", "")),)),
    Edit("offset behind the softplus", ("55",), L + r"linear\.g", ((_DECAY, _DECAY.replace("F.softplus(a.float() + self.dt_bias)", "(F.softplus(a.float()) + self.dt_bias)")),)),
    Edit("offset subtracted", ("55",), L + r"linear\.g", ((_DECAY, _DECAY.replace("+ self.dt_bias", "- self.dt_bias")),)),
    Edit("no decay", ("55",), L + r"linear\.(state|context)", (_RECURRENT, (_DECAYED, ""))),
    Edit("decay and beta exchanged", ("55", "55"), L + r"linear\.(beta|a|b|g)", ((_BETA, "a, b = b, a; beta = b.sigmoid()"),)),
    Edit("taps reversed", ("55",), L + r"linear\.conv", ((_TAPS, _TAPS + ".flip(-1)"),)),
    Edit("convolution not activated", ("49",), L + r"linear\.conv", (("self.activation = config.hidden_act", "self.activation = None"),)),
    Edit("convolution by GELU", ("49",), L + r"linear\.conv", (("self.activation = config.hidden_act", 'self.activation = "gelu"'),)),
    Edit("activated before the convolution", ("55",), L + r"linear\.conv", (("mixed_qkv = self.in_proj_qkv(hidden_states)", "mixed_qkv = F.silu(self.in_proj_qkv(hidden_states))"), ("self.activation = config.hidden_act", "self.activation = None"))),
    Edit("convolution left out", ("55", "55"), L + r"linear\.conv", ((_TAPS, "F.pad(torch.ones_like(self.conv1d.weight.squeeze(1)[:, :1]), (3, 0))"),)),
    Edit("convolution without its activation or taps", ("55", "55"), L + r"linear\.conv", ((_TAPS, "F.pad(torch.ones_like(self.conv1d.weight.squeeze(1)[:, :1]), (3, 0))"), ("self.activation = config.hidden_act", "self.activation = None"))),
    Edit("window forgotten in decode", ("55",), L + r"linear\.conv", (("hidden_states_new = torch.cat([conv_state, hidden_states], dim=-1)", "hidden_states_new = torch.cat([conv_state * 0, hidden_states], dim=-1)"),)),
    Edit("window not moved on in decode", ("55",), L + r"linear\.conv", (("    conv_state.copy_(hidden_states_new[:, :, -state_len:])\n", ""),)),
    Edit("decays behind the write", ("55",), L + r"linear\.(state|context)", (_RECURRENT, (_DECAYED, ""), (_READ, _DECAYED + _READ))),
    Edit("read before the write", ("55",), L + r"linear\.context", (_RECURRENT, (_READ, ""), (_WRITTEN, _READ + _WRITTEN))),
    Edit("read before the decay and the write", ("55",), L + r"linear\.context", (_RECURRENT, (_READ, ""), (_DECAYED, _READ + _DECAYED))),
    Edit("memory read before the decay", ("55",), L + r"linear\.(state|context)", (_RECURRENT, (_MEMORY, ""), (_DECAYED, _MEMORY + _DECAYED))),
    Edit("memory not subtracted", ("55",), L + r"linear\.(state|context)", (_RECURRENT, ("delta = (v_t - kv_mem) * beta_t", "delta = v_t * beta_t"))),
    Edit("beta on the value alone", ("55",), L + r"linear\.(state|context)", (_RECURRENT, ("delta = (v_t - kv_mem) * beta_t", "delta = v_t * beta_t - kv_mem"))),
    Edit("beta on the key, too", ("55",), L + r"linear\.(state|context)", (_RECURRENT, (_WRITTEN, _WRITTEN.replace("k_t.unsqueeze(-1)", "(k_t * beta_t).unsqueeze(-1)")))),
    Edit("queries and keys exchanged in the rule", ("55", "14"), L + r"linear\.(conv_q|conv_k|q|k|state|context)", (("    initial_dtype = query.dtype\n", "    query, key = key, query\n    initial_dtype = query.dtype\n"),)),
    Edit("state forgotten in decode", ("55",), L + r"linear\.(state|context)", (("initial_state=recurrent_state,", "initial_state=None,"),)),
    Edit("state in bfloat16", ("55",), L + r"linear\.(state|context)", (_RECURRENT, (_READ, _READ + "        last_recurrent_state = last_recurrent_state.bfloat16().float()\n"))),
    Edit("state in bfloat16 between passes", ("55",), L + r"linear\.(state|context)", (("cache_params.update_recurrent_state(last_recurrent_state, self.layer_idx)", "cache_params.update_recurrent_state(last_recurrent_state.bfloat16().float(), self.layer_idx)"),)),
    Edit("state transposed between passes", ("55",), L + r"linear\.(state|context)", (("cache_params.update_recurrent_state(last_recurrent_state, self.layer_idx)", "cache_params.update_recurrent_state(last_recurrent_state.transpose(-1, -2).contiguous(), self.layer_idx)"),)),
    Edit("keys before queries", ("14",), L + r"linear\.(conv_q|conv_k|q|k)", ((_PARTS, "key, query, value = torch.split("),)),
    Edit("gated norm by 1 + w", ("23",), L + r"linear\.norm", (("hidden_states = self.weight * hidden_states.to(input_dtype)", "hidden_states = (1 + self.weight) * hidden_states.to(input_dtype)"),)),
    Edit("gate before the norm", ("26",), L + r"linear\.norm", ((_GATED_NORM, "        hidden_states = hidden_states * ACT2FN[self.activation](gate.to(torch.float32))\n        variance = hidden_states.pow(2).mean(-1, keepdim=True)\n        hidden_states = self.weight * hidden_states * torch.rsqrt(variance + self.variance_epsilon)\n"),)),
    Edit("gate's sigmoid for SiLU", ("49",), L + r"linear\.norm", (('self.activation = "silu"', 'self.activation = "sigmoid"'),)),
    Edit("gated norm without a gate", ("50",), L + r"linear\.norm", ((_GATED_NORM, _GATED_NORM.replace(" * ACT2FN[self.activation](gate.to(torch.float32))", "")),)),
    Edit("gate not activated", ("49",), L + r"linear\.norm", ((_GATED_NORM, _GATED_NORM.replace("ACT2FN[self.activation](gate.to(torch.float32))", "gate")),)),
    Edit("gated norm left out", ("26",), L + r"linear\.norm", ((_GATED_NORM, _GATED_NORM.replace(" * torch.rsqrt(variance + self.variance_epsilon)", "").replace("self.weight * ", "")),)),
    Edit("gated norm without its weight", ("26", "23"), L + r"linear\.norm", ((_GATED_NORM, _GATED_NORM.replace("self.weight * ", "")),)),
    Edit("gated norm eps 1e-5", ("21",), L + r"linear\.norm", (("self.layer_norm_epsilon = config.rms_norm_eps", "self.layer_norm_epsilon = 1e-5"),)),
    Edit("gated norm over all heads", ("39",), L + r"linear\.norm", (("        core_attn_out = core_attn_out.reshape(-1, self.head_v_dim)\n        z = z.reshape(-1, self.head_v_dim)\n", "        z = z.reshape(-1, self.head_v_dim)\n        spread = core_attn_out.reshape(batch_size * seq_len, -1)\n        core_attn_out = core_attn_out.reshape(-1, self.head_v_dim)\n        self.norm.spread = spread.pow(2).mean(-1).repeat_interleave(self.num_v_heads).unsqueeze(-1)\n"), ("        variance = hidden_states.pow(2).mean(-1, keepdim=True)\n        # Norm before gate", "        variance = self.spread\n        # Norm before gate"))),
    # Attention.
    Edit("gate's half first", ("14",), L + r"attn\.(q|q_norm|gate)", ((_Q_AND_GATE, _Q_AND_GATE.replace("query_states, gate", "gate, query_states")),)),
    Edit("queries and gates in blocks", ("14",), L + r"attn\.(q|q_norm|gate)", ((_Q_AND_GATE, "        query_states, gate = self.q_proj(hidden_states).chunk(2, dim=-1)\n        query_states = query_states.view(hidden_shape)\n"),)),
    Edit("attention not gated", ("50",), L + r"attn\.gated", ((_ATTENTION_GATE, "attn_output = attn_output * 1"),)),
    Edit("attention's gate by SiLU", ("49",), L + r"attn\.gated", ((_ATTENTION_GATE, _ATTENTION_GATE.replace("torch.sigmoid", "F.silu")),)),
    Edit("attention's gate not activated", ("49",), L + r"attn\.gated", ((_ATTENTION_GATE, _ATTENTION_GATE.replace("torch.sigmoid", "")),)),
    Edit("whole heads rotated", ("34",), L + r"attn\.q_rope", (('partial_rotary_factor = config.rope_parameters.get("partial_rotary_factor", 1.0)', "partial_rotary_factor = 1.0"),)),
    Edit("half of each head rotated", ("34",), L + r"attn\.q_rope", (('partial_rotary_factor = config.rope_parameters.get("partial_rotary_factor", 1.0)', "partial_rotary_factor = 0.5"),)),
    Edit("frequencies of the whole head", ("34",), L + r"attn\.q_rope", (("inv_freq = 1.0 / (base ** (torch.arange(0, dim, 2, dtype=torch.float) / dim))", "inv_freq = 1.0 / (base ** (torch.arange(0, dim, 2, dtype=torch.float) / head_dim))"),)),
    Edit("last channels rotated", ("34",), L + r"attn\.q_rope", (("q_rot, q_pass = q[..., :rotary_dim], q[..., rotary_dim:]", "q_rot, q_pass = q[..., -rotary_dim:], q[..., :-rotary_dim]"), ("k_rot, k_pass = k[..., :rotary_dim], k[..., rotary_dim:]", "k_rot, k_pass = k[..., -rotary_dim:], k[..., :-rotary_dim]"), ("torch.cat([q_embed, q_pass]", "torch.cat([q_pass, q_embed]"), ("torch.cat([k_embed, k_pass]", "torch.cat([k_pass, k_embed]"))),
    Edit("interleaved pairs", ("30",), L + r"attn\.q_rope", (("    x1 = x[..., : x.shape[-1] // 2]\n    x2 = x[..., x.shape[-1] // 2 :]\n    return torch.cat((-x2, x1), dim=-1)", "    return torch.stack((-x[..., 1::2], x[..., ::2]), dim=-1).flatten(-2)"), (_ROTARY_DIM, _ROTARY_DIM + "    half = cos.shape[-1] // 2\n    cos, sin = cos[..., :half].repeat_interleave(2, -1), sin[..., :half].repeat_interleave(2, -1)\n"))),
    Edit("theta 10000", ("31",), L + r"attn\.q_rope", (('base = config.rope_parameters["rope_theta"]\n        partial', "base = 10000.0\n        partial"),)),
    Edit("no rotation", ("35",), L + r"attn\.q_rope", (("freqs = position_ids[..., None].float() * self.inv_freq.to(device=x.device, dtype=torch.float)\n        cos = freqs.cos() * self.attention_scaling\n        sin = freqs.sin() * self.attention_scaling\n\n        sin =", "freqs = 0 * position_ids[..., None].float() * self.inv_freq.to(device=x.device, dtype=torch.float)\n        cos = freqs.cos() * self.attention_scaling\n        sin = freqs.sin() * self.attention_scaling\n\n        sin ="),)),
    Edit("norms by w", ("23",), L + r"attn\.norm", (("output = output * (1.0 + self.weight.float())", "output = output * self.weight.float()"),)),
    Edit("queries and keys not normed", ("39",), L + r"attn\.(q_norm|k_norm|q_rope)", (("self.q_norm(query_states.view(hidden_shape))", "query_states.view(hidden_shape)"), ("self.k_norm(self.k_proj(hidden_states).view(hidden_shape))", "self.k_proj(hidden_states).view(hidden_shape)"))),
    Edit("queries and keys normed by w", ("23",), L + r"attn\.q_norm", (("self.q_norm(query_states.view(hidden_shape))", "self.q_norm(query_states.view(hidden_shape)) * (self.q_norm.weight / (1 + self.q_norm.weight))"),)),
    Edit("normed after the rotation", ("39",), L + r"attn\.(q_norm|q_rope)", (("self.q_norm(query_states.view(hidden_shape)).transpose(1, 2)", "query_states.view(hidden_shape).transpose(1, 2)"), ("self.k_norm(self.k_proj(hidden_states).view(hidden_shape)).transpose(1, 2)", "self.k_proj(hidden_states).view(hidden_shape).transpose(1, 2)"), ("        if past_key_values is not None:\n            key_states, value_states", "        query_states, key_states = self.q_norm(query_states), self.k_norm(key_states)\n        if past_key_values is not None:\n            key_states, value_states"))),
    Edit("scores unscaled", ("40",), L + r"attn\.(scores|probs|context)", (("self.scaling = self.head_dim**-0.5\n        self.attention_dropout", "self.scaling = 1.0\n        self.attention_dropout"),)),
    Edit("scores scaled by the rotated part", ("40",), L + r"attn\.(scores|probs|context)", (("self.scaling = self.head_dim**-0.5\n        self.attention_dropout", "self.scaling = (self.head_dim * 0.25)**-0.5\n        self.attention_dropout"),)),
    Edit("norm eps 1e-5", ("21",), L + r"attn\.norm", (("    def __init__(self, dim: int, eps: float = 1e-6):\n", "    def __init__(self, dim: int, eps: float = 1e-6):\n        eps = 1e-5\n"),)),
    Edit("mixer not added to the residual", ("28",), L + r"attn\.residual", ((_OUT, _OUT.replace("residual + ", "")),)),
    Edit("second layer left out", ("28",), L + r"(residual|attn\..*)", (("        residual = hidden_states\n\n        hidden_states = self.input_layernorm(hidden_states)\n\n        # Token Mixer", "        if self.block_type == 'linear_attention' and self.linear_attn.layer_idx == 1:\n            return hidden_states\n        residual = hidden_states\n\n        hidden_states = self.input_layernorm(hidden_states)\n\n        # Token Mixer"),)),
    Edit("gate and up exchanged", ("15",), L + r"mlp\.(gate|up|act)", (("self.act_fn(self.gate_proj(x)) * self.up_proj(x)", "self.act_fn(self.up_proj(x)) * self.gate_proj(x)"),)),
]

_CLAMPS = "        gate = gate.clamp(min=None, max=self.limit)\n        up = up.clamp(min=-self.limit, max=self.limit)\n"
_HALVES_OF = "gate, up = gate_up[..., ::2], gate_up[..., 1::2]"
_TOP = "router_top_value, router_indices = torch.topk(router_logits, self.top_k, dim=-1)  # (num_tokens, top_k)\n        router_scores = torch.nn.functional.softmax(router_top_value, dim=1, dtype=router_top_value.dtype)"
_SLIDING = 'self.sliding_window = config.sliding_window if self.layer_type == "sliding_attention" else None'

def _WINDOWS(types):
    return (("        self.vocab_size = config.vocab_size\n\n        self.embed_tokens", f"        self.vocab_size = config.vocab_size\n        config.layer_types = {types}\n        self.embed_tokens"),)


GPT_OSS = [
    Edit("sinks left out", ("45",), L + r"attn\.(probs|context)", ((_SINKS, _SINKS + " - 1e30"),)),
    Edit("sinks times the scale", ("45",), L + r"attn\.(probs|context)", ((_SINKS, _SINKS + " * scaling"),)),
    Edit("sinks of zero", ("45",), L + r"attn\.(probs|context)", ((_SINKS, _SINKS + " * 0"),)),
    Edit("sinks on window layers only", ("45",), L + r"attn\.(probs|context)", ((_SINKS, _SINKS + " - (1e30 if module.sliding_window is None else 0)"),)),
    Edit("gate and up in halves", ("15",), L + r"mlp\.out", ((_HALVES_OF, "gate, up = gate_up.chunk(2, dim=-1)"),)),
    Edit("up first", ("15",), L + r"mlp\.out", ((_HALVES_OF, "up, gate = gate_up[..., ::2], gate_up[..., 1::2]"),)),
    Edit("clamp of 1", ("50",), L + r"mlp\.out", ((_CLAMPS, _CLAMPS.replace("self.limit", "1")),)),
    Edit("alpha 1", ("50",), L + r"mlp\.out", (("self.alpha = config.swiglu_alpha", "self.alpha = 1.0"),)),
    Edit("up without its 1", ("50",), L + r"mlp\.out", (("gated_output = (up + 1) * glu", "gated_output = up * glu"),)),
    Edit("plain SwiGLU", ("50",), L + r"mlp\.out", ((_CLAMPS, ""), ("self.alpha = config.swiglu_alpha", "self.alpha = 1.0"), ("gated_output = (up + 1) * glu", "gated_output = up * glu"))),
    Edit("experts' gate biases missing", ("18",), L + r"mlp\.out", ((" + self.gate_up_proj_bias[expert_idx]", ""),)),
    Edit("experts' down bias missing", ("18", "53"), L + r"mlp\.out", ((" + self.down_proj_bias[expert_idx]", ""),)),
    Edit("experts' down bias not weighted", ("53",), L + r"mlp\.out", (("out = gated_output @ self.down_proj[expert_idx] + self.down_proj_bias[expert_idx]\n            weighted_output = out * routing_weights[token_idx, top_k_pos, None]", "out = gated_output @ self.down_proj[expert_idx]\n            weighted_output = out * routing_weights[token_idx, top_k_pos, None] + self.down_proj_bias[expert_idx]"),)),
    Edit("router's bias missing", ("18",), L + r"moe\.logits", (("router_logits = F.linear(hidden_states, self.weight, self.bias)", "router_logits = F.linear(hidden_states, self.weight)"),)),
    Edit("softmax before the choice", ("51",), L + r"moe\.weights", ((_TOP, "router_scores, router_indices = torch.topk(router_logits.softmax(-1), self.top_k, dim=-1)"),)),
    Edit("weights by sigmoid", ("52",), L + r"moe\.weights", ((_TOP, "router_top_value, router_indices = torch.topk(router_logits, self.top_k, dim=-1)\n        router_scores = router_top_value.sigmoid()"),)),
    Edit("weights equal", ("52", "51", "81"), L + r"moe\.weights", ((_TOP, "router_top_value, router_indices = torch.topk(router_logits, self.top_k, dim=-1)\n        router_scores = torch.full_like(router_top_value, 1 / self.top_k)"),)),
    Edit("windows on the other layers", ("42", "43"), L + r"attn\.(scores|probs|context)", _WINDOWS("config.layer_types[::-1]")),
    Edit("windows on all layers", ("42", "43"), L + r"attn\.(scores|probs|context)", _WINDOWS("config.layer_types[:1] * 4")),
    Edit("no windows", ("42", "43"), L + r"attn\.(scores|probs|context)", _WINDOWS("config.layer_types[1:2] * 4")),
    Edit("YaRN truncated", ("32",), L + r"attn\.q_rope", (("inv_freq, self.attention_scaling = rope_init_fn(self.config)", 'config.rope_parameters["truncate"] = True; inv_freq, self.attention_scaling = rope_init_fn(self.config)'),)),
    Edit("YaRN's amount missing", ("33",), L + r"attn\.q_rope", (("* self.attention_scaling", "* 1.0"),)),
    Edit("YaRN's amount in the scores too", ("33", "40"), L + r"attn\.(q_rope|scores|probs|context)", (("self.scaling = self.head_dim**-0.5", "self.scaling = self.head_dim**-0.5 * 1.2079441541679836**2"),)),
    Edit("YaRN ignored", ("32", "33"), L + r"attn\.q_rope", (("freqs = position_ids[..., None].float() * self.inv_freq.to(device=x.device, dtype=torch.float)", "freqs = position_ids[..., None].float() * self.compute_default_rope_parameters(self.config)[0]"), ("* self.attention_scaling", "* 1.0"))),
    Edit("output bias missing", ("18",), L + r"attn\.out", (("config.num_attention_heads * self.head_dim, config.hidden_size, bias=config.attention_bias", "config.num_attention_heads * self.head_dim, config.hidden_size, bias=False"),)),
    Edit("query bias missing", ("18",), L + r"attn\.(q|q_rope)", (("config.hidden_size, config.num_attention_heads * self.head_dim, bias=config.attention_bias", "config.hidden_size, config.num_attention_heads * self.head_dim, bias=False"),)),
    Edit("second layer left out", ("28",), L + r"(residual|attn\..*)", (("        residual = hidden_states\n        hidden_states = self.input_layernorm(hidden_states)", "        if self.self_attn.layer_idx == 1:\n            return hidden_states\n        residual = hidden_states\n        hidden_states = self.input_layernorm(hidden_states)"),)),
]

_SCORED = "router_probs = torch.nn.functional.softmax(router_logits, dtype=torch.float, dim=-1)\n        router_top_value, router_indices = torch.topk(router_probs, self.top_k, dim=-1)  # (seq_len, top_k)"

OLMOE = [
    Edit("renormalised", ("51",), L + r"moe\.weights", (("if self.norm_topk_prob:", "if True:"),)),
    Edit("softmax over the chosen", ("51",), L + r"moe\.weights", ((_SCORED, "router_top_value, router_indices = torch.topk(router_logits, self.top_k, dim=-1)\n        router_top_value = router_top_value.softmax(-1)"),)),
    Edit("sigmoid", ("52",), L + r"moe\.(probs|weights)", ((_SCORED, _SCORED.replace("torch.nn.functional.softmax(router_logits, dtype=torch.float, dim=-1)", "router_logits.sigmoid()")),)),
    Edit("one expert fewer", ("51",), L + r"moe\.(ids|weights)", (("self.top_k = config.num_experts_per_tok", "self.top_k = config.num_experts_per_tok - 1"),)),
    Edit("one expert alone", ("51",), L + r"moe\.(ids|weights)", (("self.top_k = config.num_experts_per_tok", "self.top_k = 1"),)),
    Edit("weights times the experts chosen", ("52",), L + r"moe\.weights", (("        router_scores = router_top_value\n", "        router_scores = router_top_value * self.top_k\n"),)),
    Edit("weights not applied", ("51", "51"), L + r"(mlp\.out|moe\.weights)", ((" * top_k_weights[token_idx, top_k_pos, None]", ""),)),
    Edit("weight before the gate", ("51",), L + r"mlp\.out", (("current_state = hidden_states[token_idx]", "current_state = hidden_states[token_idx] * top_k_weights[token_idx, top_k_pos, None]"), ("            current_hidden_states = current_hidden_states * top_k_weights[token_idx, top_k_pos, None]\n", ""))),
    Edit("gate and up exchanged", ("15",), L + r"mlp\.out", (("gate, up = nn.functional", "up, gate = nn.functional"),)),
    Edit("gate and up alternating", ("15",), L + r"mlp\.out", (("gate, up = nn.functional.linear(current_state, self.gate_up_proj[expert_idx]).chunk(2, dim=-1)", "both = nn.functional.linear(current_state, self.gate_up_proj[expert_idx]); gate, up = both[..., ::2], both[..., 1::2]"),)),
    Edit("queries and keys normed head by head", ("39",), L + r"attn\.(q_norm|q_rope)", (("query_states = self.q_norm(self.q_proj(hidden_states))", "x = self.q_proj(hidden_states).view(hidden_shape); query_states = (x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + 1e-5)).flatten(2) * self.q_norm.weight"), ("key_states = self.k_norm(self.k_proj(hidden_states))", "x = self.k_proj(hidden_states).view(hidden_shape); key_states = (x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + 1e-5)).flatten(2) * self.k_norm.weight"))),
    Edit("queries normed after the rotation", ("39",), L + r"attn\.(q_norm|q_rope)", (("query_states = self.q_norm(self.q_proj(hidden_states))", "query_states = self.q_proj(hidden_states)"), ("        query_states, key_states = apply_rotary_pos_emb(query_states, key_states, cos, sin)\n", "        query_states, key_states = apply_rotary_pos_emb(query_states, key_states, cos, sin)\n        query_states = self.q_norm(query_states.transpose(1, 2).flatten(2)).view(*hidden_shape).transpose(1, 2)\n"))),
    Edit("second layer left out", ("28",), L + r"(residual|attn\..*)", (("        residual = hidden_states\n        hidden_states = self.input_layernorm(hidden_states)", "        if self.self_attn.layer_idx == 1:\n            return hidden_states\n        residual = hidden_states\n        hidden_states = self.input_layernorm(hidden_states)"),)),
]

_NOPE = "self.use_rope = config.no_rope_layers[layer_idx]"
SMOLLM3 = [
    Edit("every layer rotates", ("35",), L + r"attn\.(scores|probs|q_rope|context)", ((_NOPE, "self.use_rope = 1"),)),
    Edit("no layer rotates", ("35",), L + r"attn\.(scores|probs|q_rope|context)", ((_NOPE, "self.use_rope = 0"),)),
    Edit("flags reversed", ("35",), L + r"attn\.(scores|probs|q_rope|context)", ((_NOPE, "self.use_rope = 1 - config.no_rope_layers[layer_idx]"),)),
    Edit("counted from one", ("35",), L + r"attn\.(scores|probs|q_rope|context)", ((_NOPE, "self.use_rope = config.no_rope_layers[layer_idx - 1]"),)),
    Edit("counted ahead", ("35",), L + r"attn\.(scores|probs|q_rope|context)", ((_NOPE, "self.use_rope = config.no_rope_layers[(layer_idx + 1) % len(config.no_rope_layers)]"),)),
    Edit("second layer left out", ("28",), L + r"(residual|attn\..*)", (("        residual = hidden_states\n        hidden_states = self.input_layernorm(hidden_states)", "        if self.self_attn.layer_idx == 1:\n            return hidden_states\n        residual = hidden_states\n        hidden_states = self.input_layernorm(hidden_states)"),)),
]

FAULTS = {"deepseek_v4": DEEPSEEK_V4, "qwen3_5": QWEN3_5, "gpt_oss": GPT_OSS, "olmoe": OLMOE, "smollm3": SMOLLM3}
