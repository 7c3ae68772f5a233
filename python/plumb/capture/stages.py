"""Which module of a decoder layer yields which stage of docs/trace-format.md. transformers and mlx-lm name their modules alike,
after the published tensors; where a layer's norms stand decides what the ambiguous names mean."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Sizes:
    """What shapes a layer's values take: tokens of the step, head sizes (None: the layer has no attention)."""

    tokens: int
    head_dim: int | None = None
    value_dim: int | None = None
    key_dim: int | None = None  # of a delta-net's heads, as value_dim


Form = Callable[[np.ndarray, Sizes], np.ndarray]


@dataclass(frozen=True)
class Watch:
    """A stage, where at a module it is seen ("out", "in": the first argument, "in1": the second, "out0": an element of what it
    returns), and how the value becomes [tokens, …]."""

    stage: str
    side: str
    form: Form


def flat(x: np.ndarray, s: Sizes) -> np.ndarray:
    return x.reshape(s.tokens, -1)


def rows(x: np.ndarray, s: Sizes) -> np.ndarray:
    """As many rows as there are: logits may be of the last token alone."""
    return x.reshape(-1, x.shape[-1])


def heads(x: np.ndarray, s: Sizes) -> np.ndarray:
    return x.reshape(s.tokens, -1, s.head_dim)


def value_heads(x: np.ndarray, s: Sizes) -> np.ndarray:
    return x.reshape(s.tokens, -1, s.value_dim)


def two_per_head(x: np.ndarray, s: Sizes) -> np.ndarray:
    return x.reshape(s.tokens, -1, 2 * s.head_dim)


def first_of_two(x: np.ndarray, s: Sizes) -> np.ndarray:
    return two_per_head(x, s)[..., : s.head_dim]


def second_of_two(x: np.ndarray, s: Sizes) -> np.ndarray:
    return two_per_head(x, s)[..., s.head_dim :]


def first_half(x: np.ndarray, s: Sizes) -> np.ndarray:
    return flat(x, s)[:, : x.shape[-1] // 2]


def second_half(x: np.ndarray, s: Sizes) -> np.ndarray:
    return flat(x, s)[:, x.shape[-1] // 2 :]


def heads_first(x: np.ndarray, s: Sizes) -> np.ndarray:
    """[1, heads, tokens, dim], as attention is computed."""
    return x.reshape(x.shape[-3:]).transpose(1, 0, 2)


def normed_heads(heads_before_tokens: bool) -> Form:
    """A norm of queries or keys, which sees [1, tokens, heads, dim], [1, heads, tokens, dim] or all heads flat. The shape
    decides; where it cannot, what is known of the architecture."""

    def form(x: np.ndarray, s: Sizes) -> np.ndarray:
        if x.ndim < 4 or x.shape[-2] != s.tokens:
            return heads(x, s)
        return heads_first(x, s) if x.shape[-3] != s.tokens or heads_before_tokens else heads(x, s)

    return form


def slice_of(start: int, stop: int, form: Form = heads) -> Form:
    return lambda x, s: form(np.ascontiguousarray(x[..., start:stop]), s)


def streams(x: np.ndarray, s: Sizes) -> np.ndarray:
    return x.reshape(s.tokens, *x.shape[-2:])


def state(x: np.ndarray, s: Sizes) -> np.ndarray:
    return x[0]


def blocks(x: np.ndarray, s: Sizes) -> np.ndarray:
    """A compressed list [1, (1,) blocks, dim]."""
    return x.reshape(-1, x.shape[-1])


def layer_watches(has: Callable[[str], bool], *, heads_before_tokens: bool) -> dict[str, list[Watch]]:
    """The stages of one decoder layer, without their prefix "layers.N.", by the path of the module that shows them. `has` says
    whether the layer has a module of that path."""
    found: dict[str, list[Watch]] = {}

    def watch(path: str, stage: str, side: str = "out", form: Form = flat) -> None:
        if has(path):
            found.setdefault(path, []).append(Watch(stage, side, form))

    _watch_norms(watch, has)
    _watch_attention(watch, has, heads_before_tokens)
    _watch_latent_attention(watch)
    _watch_delta_net(watch)
    for mlp in ("mlp", "block_sparse_moe"):
        if has(mlp):
            _watch_mlp(watch, has, mlp)
    _watch_hyper_connections(watch, has)
    return found


def _watch_norms(watch: Callable[..., None], has: Callable[[str], bool]) -> None:
    watch("input_layernorm", "attn.norm")
    if has("pre_feedforward_layernorm"):  # Gemma 2 and 3: norms around both halves
        watch("post_attention_layernorm", "attn.post_norm")
        watch("pre_feedforward_layernorm", "attn.residual", "in")
        watch("pre_feedforward_layernorm", "mlp.norm")
    elif not has("input_layernorm"):  # OLMo-2 and 3: norms after both halves only
        watch("post_attention_layernorm", "attn.post_norm")
        watch("mlp", "attn.residual", "in")
    elif not has("attn_hc"):
        watch("post_attention_layernorm", "attn.residual", "in")
        watch("post_attention_layernorm", "mlp.norm")
    else:  # several streams: what the norm reads is their mixture
        watch("post_attention_layernorm", "mlp.norm")
    watch("post_self_attn_layernorm", "attn.post_norm")  # GLM-4
    watch("post_mlp_layernorm", "mlp.post_norm")
    watch("post_feedforward_layernorm", "mlp.post_norm")


def _watch_attention(watch: Callable[..., None], has: Callable[[str], bool], heads_before_tokens: bool) -> None:
    watch("self_attn", "attn.out")
    watch("linear_attn", "attn.out")
    for side in "qk":
        watch(f"self_attn.{side}_norm", f"attn.{side}_norm", form=normed_heads(heads_before_tokens))
    watch("self_attn.k_proj", "attn.k", form=heads)
    watch("self_attn.v_proj", "attn.v", form=value_heads)


def _watch_latent_attention(watch: Callable[..., None]) -> None:
    watch("self_attn.q_a_proj", "attn.q_a")
    watch("self_attn.q_a_norm", "attn.q_a_norm")
    watch("self_attn.q_a_layernorm", "attn.q_a_norm")
    watch("self_attn.q_b_proj", "attn.q", form=heads)
    watch("self_attn.q_b_norm", "attn.q_norm", form=heads_first)
    watch("self_attn.kv_proj", "attn.kv")
    watch("self_attn.kv_norm", "attn.kv_norm")
    watch("self_attn.kv_a_proj_with_mqa", "attn.kv")
    watch("self_attn.kv_a_layernorm", "attn.kv_latent", "in")
    watch("self_attn.kv_a_layernorm", "attn.kv_norm")
    for path, stage in (("self_attn.compressor", "attn.compressed"), ("self_attn.compressor.indexer", "attn.index_entries")):
        watch(f"{path}.kv_proj", f"{stage}_kv")
        watch(f"{path}.gate_proj", f"{stage}_gate")
        watch(f"{path}.kv_norm", f"{stage}_pooled", "in", blocks)
        watch(f"{path}.kv_norm", f"{stage}_norm", "out", blocks)
    watch("self_attn.compressor", "attn.compressed", "out0", blocks)
    watch("self_attn.compressor.indexer", "attn.selected")
    watch("self_attn.compressor.indexer.q_b_proj", "attn.index_q")
    watch("self_attn.compressor.indexer.scorer", "attn.index_entries", "in1", blocks)
    watch("self_attn.compressor.indexer.scorer.weights_proj", "attn.index_weights")
    watch("self_attn.o_a_proj", "attn.out_a", form=streams)


def _watch_delta_net(watch: Callable[..., None]) -> None:
    for name in ("qkv", "z", "b", "a", "qkvz", "ba"):
        watch(f"linear_attn.in_proj_{name}", f"linear.{name}")
    watch("linear_attn.norm", "linear.norm", form=value_heads)


def _watch_mlp(watch: Callable[..., None], has: Callable[[str], bool], mlp: str) -> None:
    watch(mlp, "mlp.out")
    watch(f"{mlp}.gate_proj", "mlp.gate")
    watch(f"{mlp}.up_proj", "mlp.up")
    watch(f"{mlp}.gate_up_proj", "mlp.gate", form=first_half)
    watch(f"{mlp}.gate_up_proj", "mlp.up", form=second_half)
    watch(f"{mlp}.down_proj", "mlp.act", "in")
    for shared in ("shared_experts", "shared_expert"):
        watch(f"{mlp}.{shared}.gate_proj", "moe.shared_gate")
        watch(f"{mlp}.{shared}.up_proj", "moe.shared_up")
        watch(f"{mlp}.{shared}.down_proj", "moe.shared_act", "in")
    watch(f"{mlp}.shared_experts", "moe.shared")
    watch(f"{mlp}.shared_expert", "moe.shared_out")
    watch(f"{mlp}.shared_expert_gate", "moe.shared_weight")


def _watch_hyper_connections(watch: Callable[..., None], has: Callable[[str], bool]) -> None:
    for path, stage in (("attn_hc", "hc_attn"), ("ffn_hc", "hc_mlp")):
        watch(path, f"{stage}.post", "out0")
        watch(path, f"{stage}.comb", "out1", streams)
        watch(path, f"{stage}.collapsed", "out2")
    watch("ffn_hc", "hc_attn.streams", "in", streams)
