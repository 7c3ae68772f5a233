"""What independent_engine.py computed, as traces that people wrote with the tools of other engines: their names, axes and gaps.

Each of FORMS maps a stage's role to that engine's name, or has a function of its own. What a form does not name was not captured.
"""

from dataclasses import dataclass
from typing import Callable

import plumb
import torch

STORED = {torch.float32: "float32", torch.float16: "float16", torch.bfloat16: "bfloat16"}


def split(stage):
    parts = stage.split(".", 2)
    return (parts[2], parts[1]) if parts[0] == "layers" else (stage, None)


@dataclass(frozen=True)
class Form:
    """`name`: of a role, a layer (None outside of layers) and the count of layers; none for what was not captured; `value`: of the value under its role; `fused`: names of
    tensors of several roles side by side; `told`: of role, layer, count of layers and pass, whether it is in the trace at all."""

    name: Callable
    value: Callable = lambda role, value: value
    fused: Callable = lambda layer: {}
    told: Callable = lambda role, layer, layers, step: True
    stored: torch.dtype | None = None


def _flat(role, value):
    return value.flatten(1) if value.dim() == 3 and role not in ("attn.scores", "attn.probs") else value


def _batched(role, value):
    """[1, tokens, width], heads first: [1, heads, tokens, dim]."""
    return (value.transpose(0, 1) if value.dim() == 3 else value)[None]


def _by(table, outside, prefix="model.layers.{}."):
    def name(role, layer, layers):
        if layer is None:
            return outside.get(role)
        return prefix.format(layer) + table[role] if role in table else None

    return name


def _ggml(role, layer, layers):
    """llama.cpp's callback: the rotated queries have the last word on `Qcur`; keys first in attention's scores."""
    words = {
        "attn.norm": "attn_norm", "attn.q_norm": "Qcur_normed", "attn.k_norm": "Kcur_normed", "attn.q_rope": "Qcur", "attn.k_rope": "Kcur",
        "attn.v": "Vcur", "attn.scores": "kq", "attn.probs": "kq_soft_max", "attn.context": "kqv_out", "attn.out": "attn_out",
        "attn.post_norm": "attn_post_norm", "attn.residual": "ffn_inp", "mlp.norm": "ffn_norm", "mlp.gate": "ffn_gate", "mlp.up": "ffn_up",
        "mlp.act": "ffn_swiglu", "mlp.out": "ffn_out", "mlp.post_norm": "ffn_post_norm", "residual": "l_out", "moe.logits": "ffn_moe_logits",
        "moe.probs": "ffn_moe_probs", "moe.ids": "ffn_moe_topk", "moe.weights": "ffn_moe_weights", "embed": "inp_embd",
        "norm": "result_norm", "logits": "result_output",
    }  # fmt: skip
    return None if role not in words else words[role] if layer is None else f"{words[role]}-{layer}"


def _ggml_value(role, value):
    return value.transpose(0, 1) if role in ("attn.scores", "attn.probs") else _flat(role, value)


MODULES = {
    "attn.norm": "input_layernorm", "attn.q": "self_attn.q_proj", "attn.k": "self_attn.k_proj", "attn.v": "self_attn.v_proj",
    "attn.q_norm": "self_attn.q_norm", "attn.k_norm": "self_attn.k_norm", "attn.out": "self_attn.o_proj", "mlp.norm": "post_attention_layernorm",
    "mlp.gate": "mlp.gate_proj", "mlp.up": "mlp.up_proj", "mlp.out": "mlp", "moe.logits": "mlp.gate", "residual": "",
}  # fmt: skip
OUTSIDE = {"embed": "model.embed_tokens", "norm": "model.norm", "logits": "lm_head"}


def _modules(role, layer, layers):
    name = _by(MODULES, OUTSIDE)(role, layer, layers)
    return name.removesuffix(".") if name else None


VLLM = {
    "attn.norm": "input_layernorm", "attn.q_norm": "self_attn.q_norm", "attn.k_norm": "self_attn.k_norm", "attn.q_rope": "self_attn.rotary_emb.0",
    "attn.k_rope": "self_attn.rotary_emb.1", "attn.context": "self_attn.attn", "attn.out": "self_attn.o_proj", "attn.residual": "post_attention_layernorm.1",
    "mlp.norm": "post_attention_layernorm.0", "mlp.act": "mlp.act_fn", "mlp.out": "mlp.down_proj", "moe.logits": "mlp.gate",
}  # fmt: skip


def _vllm_fused(layer):
    return {
        f"model.layers.{layer}.self_attn.qkv_proj": ("attn.q", "attn.k", "attn.v"),
        f"model.layers.{layer}.mlp.gate_up_proj": ("mlp.gate", "mlp.up"),
    }


MLX = {
    "attn.norm": "input_layernorm", "attn.q": "self_attn.q_proj", "attn.k": "self_attn.k_proj", "attn.v": "self_attn.v_proj",
    "attn.q_norm": "self_attn.q_norm", "attn.k_norm": "self_attn.k_norm", "attn.q_rope": "self_attn.rope.q", "attn.k_rope": "self_attn.rope.k",
    "attn.context": "self_attn.sdpa", "attn.out": "self_attn", "attn.residual": "h", "mlp.norm": "post_attention_layernorm", "mlp.out": "mlp",
    "residual": "out",
}  # fmt: skip


def _mlx_value(role, value):
    heads_first = role in ("attn.q_norm", "attn.k_norm", "attn.q_rope", "attn.k_rope", "attn.context", "attn.probs", "attn.scores")
    return (value.transpose(0, 1) if heads_first else value.flatten(1))[None]


def _numbered(role, layer, layers):
    """A debugging print of one's own: hidden_3, attn_out_3."""
    words = {"attn.out": "attn_out", "mlp.out": "mlp_out", "residual": "hidden", "attn.context": "ctx", "attn.probs": "probs", "embed": "emb", "norm": "final", "logits": "logits"}
    return None if role not in words else words[role] + ("" if layer is None else f"_{layer}")


def _from_one(role, layer, layers):
    """Layers counted from one."""
    words = {"attn.norm": "norm1", "attn.out": "att", "attn.residual": "x1", "mlp.norm": "norm2", "mlp.out": "mlp", "residual": "x2"}
    return {"embed": "x0", "logits": "logits"}.get(role) if layer is None else f"block_{int(layer) + 1}.{words[role]}" if role in words else None


def _house(role, layer, layers):
    return role if layer is None else f"layers.{layer}.{role}"


def _hidden(role, layer, layers):
    """transformers' output_hidden_states: the embedding, each block's output; the last one is the final norm's."""
    if role == "embed":
        return "hidden_states.0"
    if role == "residual":
        return f"hidden_states.{int(layer) + 1}"
    if role == "norm":
        return f"hidden_states.{layers}"
    return "logits" if role == "logits" else None


FORMS = {
    "callback": Form(_ggml, _ggml_value),
    "modules": Form(_modules, lambda role, value: _flat(role, value)[None]),
    "vllm": Form(_by(VLLM, OUTSIDE), _flat, _vllm_fused),
    "mlx": Form(_by(MLX, OUTSIDE), _mlx_value),
    "numbered": Form(_numbered, _flat),
    "batched": Form(_house, _batched),
    "halves": Form(_house, stored=torch.bfloat16),
    "some": Form(_house, told=lambda role, layer, layers, step: layer in (None, "1")),
    "ends": Form(_house, _flat, told=lambda role, layer, layers, step: layer in (None, "0", str(layers - 1))),
    "decode": Form(_house, told=lambda role, layer, layers, step: step > 0),
    "attention": Form(_house, told=lambda role, layer, layers, step: role.startswith("attn.") or role == "logits"),
    "mlps": Form(_house, told=lambda role, layer, layers, step: role.startswith(("mlp.", "moe.")) or role == "logits"),
    "from_one": Form(_from_one, _flat),
    "lettered": Form(lambda role, layer, layers: role if layer is None else f"L{layer}_{role.replace('.', '_')}", _flat),
    # Column-major arrays as they lie: every axis in the other order, [dim, heads, tokens].
    "columns": Form(lambda role, layer, layers: role if layer is None else f"blk.{layer}.{role.replace('.', '_')}", lambda role, value: value.permute(*reversed(range(value.dim())))),
    "hidden": Form(_hidden, told=lambda role, layer, layers, step: not (role == "residual" and int(layer) == layers - 1)),
}


def roles_told(mode, role, layer, layers, step):
    form = FORMS[mode]
    held = {r for roles in form.fused("0").values() for r in roles}
    return form.told(role, layer, layers, step) and (role in held or form.name(role, layer, layers) is not None)


def trace_of(run, mode, dtype):
    """`mode`: a name of FORMS, or a Form."""
    form = mode if isinstance(mode, Form) else FORMS[mode]
    trace = plumb.Trace(engine={"name": "stranger", "version": "1"}, dtype=STORED[dtype], token_ids=run.ids[0], generated=run.generated)
    layers = 1 + max(int(split(s)[1] or 0) for s in run.values[0])
    stored = STORED[form.stored or dtype]

    def add(name, value):
        if value.dtype.is_floating_point:
            trace.add(name, value.float().numpy(), dtype=stored)
        else:
            trace.add(name, value.numpy().astype("int32"))

    for step, (first, ids, values) in enumerate(zip(run.firsts, run.ids, run.values, strict=True)):
        trace.add_step(len(ids), first)
        for stage, value in values.items():
            role, layer = split(stage)
            if not form.told(role, layer, layers, step):
                continue
            for name, roles in form.fused(layer).items() if layer is not None else ():
                parts = [values.get(f"layers.{layer}.{r}") for r in roles]
                if role == roles[-1] and all(p is not None for p in parts):
                    add(name, torch.cat([p.flatten(1) for p in parts], -1))
            if name := form.name(role, layer, layers):
                add(name, form.value(role, value))
    return trace
