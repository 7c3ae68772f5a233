"""A small engine that shares nothing with Plumb: dense and routed decoders in torch, with a switch for each fault of the catalogue
(independent_faults.py). It is what the diagnosis is judged by: no code of the house knows what is planted, or computes it.

>>> run = Engine(folder, {"rope_interleaved": True}).run(ids, steps=2)
>>> run.values[0]["layers.0.attn.q_rope"]
"""

import functools
import json
import pathlib
from dataclasses import dataclass, field

import torch
from independent_experts import Experts
from independent_rope import frequencies
from safetensors import safe_open

GEMMA = ("gemma2", "gemma3_text")
NORMS_AFTER = ("olmo2", "olmo3")  # no norm before a branch, one behind it


@dataclass(frozen=True)
class Planted:
    """A fault's value in some layers only."""

    value: object
    layers: tuple


@dataclass
class Run:
    """What was computed: for each pass its first position, its ids and a value by stage."""

    firsts: list = field(default_factory=list)
    ids: list = field(default_factory=list)
    values: list = field(default_factory=list)
    generated: list = field(default_factory=list)


def read_config(folder):
    config = json.loads((pathlib.Path(folder) / "config.json").read_text())
    return config.get("text_config", config)


@functools.lru_cache(maxsize=2)
def read_weights(folder, dtype):
    weights = {}
    for path in sorted(pathlib.Path(folder).glob("*.safetensors")):
        with safe_open(path, "pt") as file:
            for name in file.keys():  # noqa: SIM118
                weights[name.removeprefix("language_model.")] = file.get_tensor(name).to(dtype)
    return weights


class Engine(Experts):
    """`faults`: a name and its number, or True, or Planted."""

    def __init__(self, folder, faults=None, dtype=torch.float32):
        self.c = read_config(folder)
        self.kind, self.dtype, self.faults = self.c["model_type"], dtype, dict(faults or {})
        self.weights = read_weights(folder, dtype)
        c = self.c
        self.hidden, self.heads = c["hidden_size"], c["num_attention_heads"]
        self.kv_heads = c["num_key_value_heads"]
        self.head_dim = c.get("head_dim") or self.hidden // self.heads
        self.eps = c["rms_norm_eps"]
        self.layers = c["num_hidden_layers"]
        self.gemma = self.kind in GEMMA
        types = c.get("layer_types") or ["full_attention"] * self.layers
        if self.kind == "smollm3" or c.get("use_sliding_window", True) is False:
            types = types if c.get("use_sliding_window") else ["full_attention"] * self.layers
        self.types = types
        self.now = self.layer = None

    # Faults.

    def f(self, name):
        """The fault's value where it is planted in this layer; None elsewhere."""
        value = self.faults.get(name)
        if isinstance(value, Planted):
            return value.value if self.layer in value.layers else None
        return value

    # Parts.

    def note(self, stage, value):
        name = stage if self.layer is None else f"layers.{self.layer}.{stage}"
        self.now[name] = value.clone()
        return value

    def norm(self, x, weight, which):
        """`which`: attn, mlp, q, k, final, post."""
        eps = self.f(f"eps_{which}") or self.f("eps") or self.eps
        offset = 1 if self.gemma else 0
        if (other := self.f("offset")) is not None:
            offset = other
        if (other := self.f(f"offset_{which}")) is not None:
            offset = other
        h = x.to(self.f("norm_in") or torch.float32)
        if self.f("layer_norm"):
            h = h - h.mean(-1, keepdim=True)
        ms = h.pow(2).mean(-1, keepdim=True)
        h = h / (ms.sqrt() + eps) if self.f("eps_outside") else h * torch.rsqrt(ms + eps)
        h = h.float()
        if self.gemma or self.kind in (*NORMS_AFTER, "gpt_oss"):
            return (h * (weight.float() + offset)).to(self.dtype)
        return h.to(self.dtype) * (weight + offset)

    def linear(self, x, name, stage, rows=None):
        weight, bias = self.w(name + ".weight"), self.w(name + ".bias")
        if rows is not None:
            weight = weight[rows]
        if self.f(f"transposed_{stage}"):
            weight = weight.T
        if (factor := self.f(f"weight_scale_{stage}")) is not None:
            weight = weight * factor
        if (heads := self.f(f"rows_{stage}")) is not None:
            weight = self.reordered(weight, heads)
            bias = None if bias is None else self.reordered(bias, heads)
        if self.f(f"shard_{stage}"):
            half = weight.shape[1] // 2
            return x[..., :half] @ weight[:, :half].T if bias is None else x[..., :half] @ weight[:, :half].T + bias
        y = (x.bfloat16() @ weight.bfloat16().T).to(self.dtype) if self.f(f"product_bf16_{stage}") else x @ weight.T
        if (other := self.f(f"bias_of_{stage}")) is not None:
            bias = self.w(f"self_attn.{other}_proj.bias")
        if bias is not None and self.f(f"bias_twice_{stage}"):
            bias = 2 * bias
        return y if bias is None or self.f(f"no_bias_{stage}") else y + bias

    def reordered(self, weight, heads):
        """The rows of each head as a converter for neighbouring pairs leaves them ("neighbours"), or put back when they never
        were so ("halves")."""
        count = self.kv_heads if heads[1] == "k" else self.heads
        inner = (2, -1) if heads[0] == "neighbours" else (-1, 2)
        if heads[1] == "k of q":
            count = self.heads
        return weight.reshape(count, *inner, *weight.shape[1:]).transpose(1, 2).reshape(weight.shape)

    def rotate(self, x, which, positions):
        """x: [tokens, heads, head_dim]"""
        if self.f(f"no_rope_{which}") or self.nope():
            return x
        positions = positions + (self.f(f"offset_{which}") or 0)
        inv, amount = frequencies(self)
        dims = 2 * len(inv)
        angle = positions.float()[:, None] * inv[None]
        if self.f("rope_angles"):
            angle = (positions.to(self.f("rope_angles"))[:, None] * inv.to(self.f("rope_angles"))[None]).float()
        if self.f("rope_backwards"):
            angle = -angle
        amount = 1.0 if self.f(f"rope_amount_missing_{which}") else amount
        cos, sin = (angle.cos() * amount).to(self.dtype)[:, None], (angle.sin() * amount).to(self.dtype)[:, None]
        first = x.shape[-1] - dims if self.f("rope_slice_last") else 0
        part = x[..., first : first + dims]
        neighbours = self.kind == "glm4"
        if self.f("rope_interleaved") or self.f(f"rope_interleaved_{which}"):
            neighbours = not neighbours
        if self.f("rope_tables"):
            cos, sin = (y.to(self.f("rope_tables")).to(self.dtype) for y in (cos, sin))
        if neighbours:
            a, b = part[..., 0::2], part[..., 1::2]
            turned = torch.stack([a * cos - b * sin, b * cos + a * sin], -1).flatten(-2)
        else:
            a, b = part[..., : dims // 2], part[..., dims // 2 :]
            turned = torch.cat([a * cos - b * sin, b * cos + a * sin], -1)
        return torch.cat([x[..., :first], turned, x[..., first + dims :]], -1)

    def nope(self):
        """Whether this layer has no rotation."""
        if self.kind != "smollm3":
            return False
        plan = self.c["no_rope_layers"]
        if self.f("nope_ignored"):
            return False
        if self.f("nope_polarity"):
            return bool(plan[self.layer])
        return not plan[(self.layer + (self.f("nope_shift") or 0)) % self.layers]

    def qk_norm(self, x, which):
        weight = self.w(f"self_attn.{which}_norm.weight")
        if weight is None or self.f(f"no_{which}_norm"):
            return x
        if self.f("qk_norm_swapped"):
            weight = self.w(f"self_attn.{'k' if which == 'q' else 'q'}_norm.weight")
        if self.f("qk_norm_shared") and self.w("self_attn.q_norm.weight").shape == weight.shape:
            weight = self.w("self_attn.q_norm.weight")
        whole = weight.numel() != self.head_dim
        if self.f("qk_norm_span"):
            return self.norm(x, weight.view(-1, self.head_dim) if whole else weight, which)
        return self.norm(x.flatten(1), weight, which).view(x.shape) if whole else self.norm(x, weight, which)

    def project(self, x):
        if self.f("qkv_by_group") or self.kind == "phi3":
            names = [f"self_attn.{n}_proj" for n in "qkv"]
            fused = self.w("self_attn.qkv_proj.weight")
            biases = None
            if fused is None:
                fused = torch.cat([self.w(n + ".weight") for n in names])
                biases = [self.w(n + ".bias") for n in names]
                biases = torch.cat(biases) if biases[0] is not None else None
            y = x @ fused.T
            y = y if biases is None else y + biases
            sizes = [self.heads * self.head_dim] + 2 * [self.kv_heads * self.head_dim]
            if not self.f("qkv_by_group"):
                return y.split(sizes, -1)
            group = self.heads // self.kv_heads
            y = y.view(len(x), self.kv_heads, group + 2, self.head_dim)
            return y[:, :, :group].flatten(1), y[:, :, group].flatten(1), y[:, :, group + 1].flatten(1)
        q, k, v = (self.linear(x, f"self_attn.{n}_proj", n) for n in "qkv")
        return (q, v, k) if self.f("kv_exchanged") else (q, k, v)

    def scale(self):
        scale = self.c.get("query_pre_attn_scalar", self.head_dim) ** -0.5
        if self.f("scale_of_head_dim"):
            scale = self.head_dim**-0.5
        if self.f("scale_inverse_dim"):
            scale = 1 / self.head_dim
        if self.f("scale_of_hidden"):
            scale = self.hidden**-0.5
        if self.f("scale_twice"):
            scale = scale * scale
        return scale * (self.f("scale") or 1)

    def mask(self, queries, keys):
        """What each query may see, by positions."""
        ahead = keys[None] - queries[:, None]
        seen = ahead <= (self.f("future") or 0)
        if self.f("bidirectional"):
            seen = torch.ones_like(seen)
        sliding = self.types[self.layer] == "sliding_attention"
        if self.f("window_everywhere") and self.c.get("sliding_window"):
            sliding = True
        if self.f("window_inverted"):
            sliding = not sliding
        if sliding and not self.f("window_ignored"):
            window = self.c["sliding_window"] + (self.f("window_more") or 0)
            seen &= keys[None] // window == queries[:, None] // window if self.f("window_in_chunks") else ahead > -window
        if self.f("first_key_masked"):
            seen &= (keys[None] > 0) | (queries[:, None] == 0)
        return seen

    def attention(self, x, positions, cache):
        n = len(x)
        q, k, v = (y.reshape(n, -1, self.head_dim) for y in self.project(x))
        for name, value in zip("qkv", (q, k, v), strict=True):
            self.note(f"attn.{name}", value)
        has_norm = self.w("self_attn.q_norm.weight") is not None
        late = self.f("qk_norm_after_rope") and has_norm
        if has_norm and not late:
            q, k = self.note("attn.q_norm", self.qk_norm(q, "q")), self.note("attn.k_norm", self.qk_norm(k, "k"))
        unrotated = k
        q, k = self.rotate(q, "q", positions), self.rotate(k, "k", positions)
        if self.f("rope_v"):
            v = self.rotate(v, "v", positions)
        if late:
            q, k = self.qk_norm(q, "q"), self.qk_norm(k, "k")
        if not self.nope_stage():
            self.note("attn.q_rope", q), self.note("attn.k_rope", k)
        k, v, at = self.remember(cache, k, v, positions)
        if coarse := self.f("cache_in"):
            k, v = (y.to(coarse).to(self.dtype) for y in (k, v))
        if self.f("kv_unrotated"):
            cache[self.layer] = (torch.cat([cache[self.layer][0][: -len(unrotated)], unrotated]), *cache[self.layer][1:])
        group = self.heads // self.kv_heads
        kk, vv = (y.repeat(1, group, 1) if self.f("kv_tiled") else y.repeat_interleave(group, 1) for y in (k, v))
        if self.f("kv_first_head"):
            kk, vv = (y[:, :1].expand(-1, self.heads, -1) for y in (k, v))
        scores = torch.einsum("qhd,khd->qhk", q, kk)
        cap = self.c.get("attn_logit_softcapping") if not self.f("no_soft_cap") else None
        cap = self.f("soft_cap") or cap
        scale = self.scale()
        if self.f("scale_after_cap") and cap:
            scores = cap * torch.tanh(scores / cap) * scale
        else:
            scores = scores * scale
            scores = cap * torch.tanh(scores / cap) if cap else scores
        seen = self.mask(positions, at)
        scores = scores.masked_fill(~seen[:, None], -torch.inf)
        if cap and self.f("cap_behind_mask"):
            scores = torch.where(seen[:, None], scores, torch.tensor(-float(cap), dtype=self.dtype))
        self.note("attn.scores", scores)
        sinks = self.w("self_attn.sinks")
        if self.f("sink_zero"):
            sinks = torch.zeros(self.heads, dtype=self.dtype)
        if sinks is not None and not self.f("no_sinks"):
            sinks = sinks.roll(1) if self.f("sinks_rolled") else sinks
            sinks = sinks.flip(0) if self.f("sinks_reversed") else sinks
            sinks = sinks * (scale if self.f("sinks_scaled") else 1)
            joined = torch.cat([scores, sinks[None, :, None].expand(n, -1, 1)], -1)
            probs = torch.softmax(joined.float(), -1).to(self.dtype)[..., :-1]
        elif count := self.f("zero_keys"):  # padding of the cache that no mask covers
            joined = torch.cat([scores, torch.zeros(*scores.shape[:-1], count, dtype=self.dtype)], -1)
            probs = torch.softmax(joined.float(), -1).to(self.dtype)[..., :-count]
        elif coarse := self.f("softmax_in"):
            probs = torch.softmax(scores.to(coarse), -1).to(self.dtype)
        elif coarse := self.f("probs_in"):
            probs = torch.softmax(scores.float(), -1).to(coarse).to(self.dtype)
        else:
            probs = torch.softmax(scores.float(), -1).to(self.dtype)
        probs = self.note("attn.probs", self.unknown("probs", probs))
        context = torch.einsum("qhk,khd->qhd", probs, vv)
        context = self.note("attn.context", self.unknown("context", context))
        return self.note("attn.out", self.unknown("out", self.linear(context.flatten(1), "self_attn.o_proj", "o")))

    def nope_stage(self):
        """The layer has no stage of its own for the rotation."""
        return self.kind == "smollm3" and not self.c["no_rope_layers"][self.layer]

    def remember(self, cache, k, v, positions):
        """All keys and values so far with their positions; a fault makes the cache forget or overwrite."""
        old = cache.get(self.layer)
        if old is None:
            cache[self.layer] = (k, v, positions)
            return cache[self.layer]
        keys, values, at = (torch.cat([a, b]) for a, b in zip(old, (k, v, positions), strict=True))
        cache[self.layer] = (keys, values, at)
        if self.f("kv_own_missing"):
            return tuple(y[:-1] for y in (keys, values, at))
        if lost := self.f("kv_first_lost"):
            return keys[lost:], values[lost:], at[lost:]
        if self.f("kv_slot_overwritten"):  # the new row goes where the first was, in every pass anew
            keys, values = (torch.cat([new, kept[1:]]) for new, kept in ((k, old[0]), (v, old[1])))
            cache[self.layer] = (keys, values, torch.cat([positions, at[1:-1]]))
            return cache[self.layer]
        if self.f("kv_stale"):  # the last row was not written: it is the one before
            keys, values = keys.clone(), values.clone()
            keys[-1], values[-1] = keys[-2], values[-2]
        if place := self.f("kv_zeroed"):
            keys, values = (y.index_fill(0, torch.arange(place[0], sum(place)), 0) for y in (keys, values))
        if place := self.f("kv_middle_lost"):
            kept = (at < place[0]) | (at >= sum(place))
            return keys[kept], values[kept], at[kept]
        if how := self.f("values_never_written"):
            values = values.clone()
            values[-1] = values[-2] if how == "stale" else 0
            cache[self.layer] = (keys, values, at)
        if factor := self.f("kv_scale"):
            keys = torch.cat([keys[: -len(k)] * factor, keys[-len(k) :]])
        return keys, values, at

    def unknown(self, where, value):
        change = self.f(f"unknown_{where}")
        return value if change is None else change(value)

    def block(self, x, positions, cache):
        after = self.kind in NORMS_AFTER
        if self.f("layer_skipped"):
            return x
        sandwich = self.gemma or self.kind == "glm4" or after
        post = {"glm4": ("post_self_attn_layernorm", "post_mlp_layernorm")}.get(
            self.kind, ("post_attention_layernorm", "post_feedforward_layernorm")
        )
        pre = ("input_layernorm", "pre_feedforward_layernorm" if self.gemma else "post_attention_layernorm")
        for half, (branch, before, behind) in enumerate(zip(("attn", "mlp"), pre, post, strict=True)):
            entered = x if half == 0 else x
            if half == 1 and self.f("parallel_block"):
                entered = start
            start = x
            self.entered = entered
            h = entered
            if not after:
                h = entered if self.f(f"no_{branch}_norm") else self.norm(
                    entered, self.norm_weight(pre, post, half, before), branch
                )
                self.note(f"{branch}.norm", h)
            y = self.attention(h, positions, cache) if half == 0 else self.mlp(h)
            if sandwich:
                behind = post[1 - half] if self.f("post_norms_exchanged") else behind
                y = y if self.f(f"no_{branch}_post_norm") else self.norm(y, self.w(behind + ".weight"), "post")
                self.note(f"{branch}.post_norm", y)
            y = y * (self.f(f"branch_factor_{branch}") or 1)
            stream = h if self.f(f"residual_normed_{branch}") else x
            x = y if self.f(f"no_residual_{branch}") else stream * (self.f("residual_factor") or 1) + y
            if self.f(f"branch_twice_{branch}"):
                x = x + y
            if self.f(f"no_{branch}"):
                x = start
            if coarse := self.f("residual_in"):
                x = x.to(coarse).to(self.dtype)
            x = self.note("attn.residual" if half == 0 else "residual", self.unknown("residual", x))
        return x

    def norm_weight(self, pre, post, half, before):
        if self.f("norm_weights_same"):
            before = pre[0]
        if self.f("norm_of_post") and half == 1:
            before = post[0]
        if (layer := self.f("norm_of_layer")) is not None:
            return self.weights[f"model.layers.{layer}.{before}.weight"]
        return self.w(before + ".weight")

    def w(self, name):
        order = self.faults.get("layer_order")
        layer = order[self.layer] if order and self.layer is not None else self.layer
        prefix = "model." if layer is None else f"model.layers.{layer}."
        return self.weights.get(prefix + name)

    def place_of(self, stage):
        parts = stage.split(".")
        return int(parts[1]) if parts[0] == "layers" else -1 if stage == "embed" else self.layers

    @torch.no_grad()
    def run(self, ids, steps=2):
        run, cache, fed, first = Run(), {}, torch.tensor(ids), 0
        for step in range(steps + 1):
            self.now, self.layer = {}, None
            self.known = first + len(fed)
            positions = torch.arange(first, first + len(fed))
            if self.f("offset_all"):
                positions = positions + self.f("offset_all")
            if step and self.f("decode_offset"):
                positions = positions + self.f("decode_offset")
            run.firsts.append(first), run.ids.append(fed.tolist())
            x = self.w("embed_tokens.weight")[fed]
            scale = torch.tensor(self.hidden**0.5, dtype=self.dtype) if self.gemma and not self.f("embed_unscaled") else None
            if self.f("embed_scale_bf16"):
                scale = torch.tensor(self.hidden**0.5).bfloat16().to(self.dtype)
            if self.f("embed_scaled"):
                scale = torch.tensor(self.f("embed_scaled"), dtype=self.dtype)
            x = self.note("embed", x if scale is None else x * scale)
            for self.layer in self.f("layers_run") or range(self.layers):
                x = self.block(x, positions, cache)
                if self.f("layer_twice"):
                    x = self.block(x, positions, {})
            self.layer = None
            if not self.f("no_final_norm"):
                x = self.norm(x, self.w("norm.weight"), "final")
            if self.f("final_norm_twice"):
                x = self.norm(x, self.w("norm.weight"), "final")
            self.note("norm", x)
            head = self.weights.get("lm_head.weight")
            if head is None or self.c.get("tie_word_embeddings") or self.f("head_tied"):
                head = self.w("embed_tokens.weight")
            logits = x @ head.T
            cap = None if self.f("no_final_cap") else self.c.get("final_logit_softcapping")
            if cap := self.f("final_cap") or cap:
                logits = cap * torch.tanh(logits / cap)
            if self.f("head_from_before_norm"):
                logits = self.now[f"layers.{self.layers - 1}.residual"] @ head.T
            logits = logits / (self.f("temperature") or 1)
            logits = self.note("logits", self.unknown("logits", logits * (self.f("logits_scale") or 1)))
            if self.f("layers_run"):  # traces are told in the order of the layers' numbers
                self.now = dict(sorted(self.now.items(), key=lambda kv: self.place_of(kv[0])))
            run.values.append(self.now)
            first += len(fed)
            fed = logits[-1:].argmax(-1)
            run.generated.append(int(fed))
        return run
