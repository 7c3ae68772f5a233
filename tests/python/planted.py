"""Faults planted in transformers by a patch, as an engine could have them: each changes one convention of one checkpoint's
model."""

import contextlib
import sys
from dataclasses import dataclass

import torch
from torch import nn


@dataclass(frozen=True)
class Fault:
    name: str
    rows: tuple  # of docs/causes.md: any of them names the cause
    stage: str  # the first at fault, a regular expression
    checkpoints: tuple
    plant: object  # of a model: a context manager, or a function that changes it for good


def layers(model):
    return model.model.layers


@contextlib.contextmanager
def replaced(model, name, value):
    """A function of the model's own file of transformers, replaced."""
    namespace = sys.modules[type(model).__module__]
    original = getattr(namespace, name)
    setattr(namespace, name, value)
    try:
        yield
    finally:
        setattr(namespace, name, original)


def _interleaved(model):
    def rotate(x, cos, sin):
        first, second = x[..., 0::2], x[..., 1::2]
        half = first.shape[-1]
        cos, sin = cos[..., :half], sin[..., :half]
        return torch.stack([first * cos - second * sin, second * cos + first * sin], dim=-1).flatten(-2)

    def apply(q, k, cos, sin, unsqueeze_dim=1):
        cos, sin = cos.unsqueeze(unsqueeze_dim), sin.unsqueeze(unsqueeze_dim)
        return rotate(q, cos, sin), rotate(k, cos, sin)

    return replaced(model, "apply_rotary_pos_emb", apply)


def _tiled(model):
    return replaced(model, "repeat_kv", lambda x, n: x.repeat(1, n, 1, 1))


def _each(path, change):
    """`change` of the module at `path` of every layer that has it."""

    def plant(model):
        for layer in layers(model):
            with contextlib.suppress(AttributeError):
                change(layer.get_submodule(path))

    return plant


def _set(**values):
    def change(module):
        for name, value in values.items():
            if not hasattr(module, name):
                raise AttributeError(name)
            setattr(module, name, value)

    return change


def _eps(value):
    return lambda module: setattr(module, "variance_epsilon" if hasattr(module, "variance_epsilon") else "eps", value)


def _without(module):
    module.forward = lambda x: x


def _scaled(module):
    module.scaling *= 0.5


def _config(**values):
    return lambda model: [setattr(model.config, name, value) for name, value in values.items()]


def _no_bias(module):
    module.bias = None if module.bias is None else nn.Parameter(torch.zeros_like(module.bias))


def _transposed(module):
    module.weight = nn.Parameter(module.weight.T.contiguous())


def _exchanged(mlp):
    mlp.gate_proj, mlp.up_proj = mlp.up_proj, mlp.gate_proj


def _no_renormalising(model):
    """Mixtral's router as OLMoE's is."""

    def forward(self, hidden):
        logits = nn.functional.linear(hidden.reshape(-1, self.hidden_dim), self.weight)
        weights, ids = torch.topk(torch.softmax(logits.float(), dim=-1), self.top_k, dim=-1)
        return logits, weights, ids

    for layer in layers(model):
        layer.mlp.gate.forward = forward.__get__(layer.mlp.gate)


def _plain_weight(module):
    """A Gemma norm that multiplies by w in place of 1 + w."""
    module.forward = lambda x: (module._norm(x.float()) * module.weight.float()).type_as(x)


def _theta(value):
    def plant(model):
        rotary = model.model.rotary_emb
        frequencies = rotary.inv_freq
        rotary.inv_freq = value ** (-torch.arange(len(frequencies), dtype=torch.float) / len(frequencies))

    return plant


def _reversed_taps(module):
    module.weight = nn.Parameter(module.weight.flip(-1).contiguous())


def _no_residual(model):
    """The second layer forgets what came into it."""
    layer = layers(model)[1]

    def forward(hidden_states, **kwargs):
        attended, _ = layer.self_attn(hidden_states=layer.input_layernorm(hidden_states), **kwargs)
        return attended + layer.mlp(layer.post_attention_layernorm(attended))

    layer.forward = forward


def _sees_one_ahead(model):
    """The causal mask lets each token see the next one."""

    def attend(module, query, key, value, attention_mask, **kwargs):
        if attention_mask is not None and query.shape[2] > 1:
            attention_mask = torch.where(
                torch.roll(attention_mask, 1, -1) == 0, torch.roll(attention_mask, 1, -1), attention_mask
            )
        return original(module, query, key, value, attention_mask, **kwargs)

    original = sys.modules[type(model).__module__].eager_attention_forward
    return replaced(model, "eager_attention_forward", attend)


def _layer_norm(module):
    """Subtracts the mean, as LayerNorm does."""
    forward = module.forward
    module.forward = lambda x: forward(x - x.mean(-1, keepdim=True))


def _rows_in_halves(path, heads):
    """The rows of each head as a converter for neighbouring pairs leaves them."""

    def plant(model):
        for layer in layers(model):
            module = layer.get_submodule(path)
            weight = module.weight
            count = getattr(model.config, heads)
            rows = weight.reshape(count, 2, -1, weight.shape[-1]).transpose(1, 2).reshape(weight.shape)
            module.weight = nn.Parameter(rows.contiguous())

    return plant


def _sigmoid_scores(model):
    """The router scores with a sigmoid and renormalises."""

    def forward(self, hidden):
        logits = nn.functional.linear(hidden.reshape(-1, self.hidden_dim), self.weight)
        weights, ids = torch.topk(logits.float().sigmoid(), self.top_k, dim=-1)
        if getattr(self, "norm_topk_prob", True):
            weights = weights / weights.sum(dim=-1, keepdim=True)
        return logits, weights.to(logits.dtype), ids

    for layer in layers(model):
        if hasattr(layer.mlp, "gate") and not isinstance(layer.mlp.gate, nn.Linear):
            layer.mlp.gate.forward = forward.__get__(layer.mlp.gate)


def _unit_vectors_eps(model):
    def l2norm(x, dim=-1, eps=1e-6):
        return x * torch.rsqrt((x * x).sum(dim=dim, keepdim=True) + 1e-2)

    return replaced(model, "l2norm", l2norm)


def _no_read_out_scale(model):
    """The queries of the delta rule, which scales them by dim^-0.5, are scaled back."""
    calls = []

    def l2norm(x, dim=-1, eps=1e-6):
        calls.append(None)  # queries, then keys
        return x * torch.rsqrt((x * x).sum(dim=dim, keepdim=True) + eps) * (x.shape[-1] ** 0.5 if len(calls) % 2 else 1)

    return replaced(model, "l2norm", l2norm)


def _gate_before_norm(module):
    def forward(x, gate):
        gated = x.float() * nn.functional.silu(gate.float())
        normed = gated * torch.rsqrt(gated.pow(2).mean(-1, keepdim=True) + module.variance_epsilon)
        return (module.weight * normed).to(x.dtype)

    module.forward = forward


def _tied(model):
    model.lm_head.weight = nn.Parameter(model.model.embed_tokens.weight.detach().clone())


SCORES = r"layers\.0\.attn\.(scores|probs|context)"
FAULTS = [
    Fault("rope interleaved", ("30",), r"layers\.0\.attn\.q_rope", ("llama", "qwen3", "gemma3", "qwen2"), _interleaved),
    Fault("key-value heads tiled", ("17",), SCORES, ("llama", "qwen3", "gemma2"), _tiled),
    Fault("scores scaled by half", ("40",), SCORES, ("llama", "qwen3", "olmoe", "gpt_oss"), _each("self_attn", _scaled)),
    Fault(
        "QK-norm eps",
        ("21",),
        r"layers\.0\.attn\.q_norm",
        ("qwen3", "gemma3", "qwen3_moe"),
        _each("self_attn.q_norm", _eps(1e-5)),
    ),
    Fault(
        "layer norm eps", ("21",), r"layers\.0\.attn\.norm", ("llama", "mixtral", "gemma2"), _each("input_layernorm", _eps(1e-4))
    ),
    Fault(
        "QK-norm left out",
        ("39", "26"),
        r"layers\.0\.attn\.q_norm",
        ("qwen3", "olmoe", "gemma3"),
        _each("self_attn.q_norm", _without),
    ),
    Fault("window holds one key more", ("42",), SCORES, ("gemma2", "gemma3", "gpt_oss"), _config(sliding_window=25)),
    Fault("embedding not scaled", ("27",), "embed", ("gemma2", "gemma3"), lambda m: m.model.embed_tokens.embed_scale.fill_(1)),
    Fault(
        "1 + w forgotten",
        ("23",),
        r"layers\.0\.attn\.norm",
        ("gemma2", "gemma3", "qwen3_5"),
        _each("input_layernorm", _plain_weight),
    ),
    Fault("exact GELU for tanh's", ("49",), r"layers\.0\.mlp\.act", ("gemma2", "gemma3"), _each("mlp", _set(act_fn=nn.GELU()))),
    Fault("GELU for SiLU", ("49",), r"layers\.0\.mlp\.act", ("llama", "qwen3", "qwen2"), _each("mlp", _set(act_fn=nn.GELU()))),
    Fault("soft cap missing", ("41",), SCORES, ("gemma2",), _each("self_attn", _set(attn_logit_softcapping=None))),
    Fault("logits' cap missing", ("56",), "logits", ("gemma2",), _config(final_logit_softcapping=None)),
    Fault(
        "chosen experts renormalised",
        ("51",),
        r"layers\.0\.moe\.weights",
        ("olmoe",),
        _each("mlp.gate", _set(norm_topk_prob=True)),
    ),
    Fault(
        "chosen experts not renormalised",
        ("51",),
        r"layers\.0\.moe\.weights",
        ("qwen3_moe",),
        _each("mlp.gate", _set(norm_topk_prob=False)),
    ),
    Fault("Mixtral not renormalised", ("51",), r"layers\.0\.moe\.weights", ("mixtral",), _no_renormalising),
    Fault("key bias missing", ("18",), r"layers\.0\.attn\.k", ("qwen2", "gpt_oss"), _each("self_attn.k_proj", _no_bias)),
    Fault(
        "output projection transposed",
        ("13",),
        r"layers\.0\.attn\.out",
        ("llama", "olmoe", "mixtral"),
        _each("self_attn.o_proj", _transposed),
    ),
    Fault(
        "gate and up exchanged", ("15",), r"layers\.0\.mlp\.(gate|up|act)", ("llama", "qwen3", "gemma2"), _each("mlp", _exchanged)
    ),
    Fault("rope theta", ("31",), r"layers\.0\.attn\.q_rope", ("qwen3", "qwen2", "olmoe"), _theta(5e5)),
    Fault("rope scaling ignored", ("32",), r"layers\.0\.attn\.q_rope", ("llama",), _theta(5e5)),
    Fault(
        "sinks left out",
        ("45",),
        r"layers\.0\.attn\.(probs|context)",
        ("gpt_oss",),
        _each("self_attn", lambda m: m.sinks.data.fill_(-1e30)),
    ),
    Fault("experts' clamp too low", ("50",), r"layers\.\d\.mlp\.out", ("gpt_oss",), _each("mlp.experts", _set(limit=0.5))),
    Fault("experts' slope", ("50",), r"layers\.0\.mlp\.out", ("gpt_oss",), _each("mlp.experts", _set(alpha=1.0))),
    Fault(
        "YaRN's factor on cos and sin",
        ("33",),
        r"layers\.0\.attn\.q_rope",
        ("gpt_oss",),
        lambda m: setattr(m.model.rotary_emb, "attention_scaling", 1.0),
    ),
    Fault("residual not added", ("28",), r"layers\.1\.attn\.residual", ("llama", "qwen3", "olmoe"), _no_residual),
    Fault("one token ahead is seen", ("44",), SCORES, ("llama", "qwen2", "mixtral"), _sees_one_ahead),
    Fault(
        "LayerNorm for RMSNorm",
        ("24",),
        r"layers\.0\.attn\.norm",
        ("llama", "qwen3", "gpt_oss"),
        _each("input_layernorm", _layer_norm),
    ),
    Fault(
        "norm left out",
        ("26",),
        r"layers\.0\.mlp\.norm",
        ("llama", "qwen3", "mixtral"),
        _each("post_attention_layernorm", _without),
    ),
    Fault(
        "post-norm left out",
        ("26",),
        r"layers\.0\.attn\.post_norm",
        ("gemma2", "gemma3"),
        _each("post_attention_layernorm", _without),
    ),
    Fault("final norm left out", ("29",), "norm", ("llama", "qwen3", "olmoe"), lambda m: _without(m.model.norm)),
    Fault(
        "query rows interleaved",
        ("16",),
        r"layers\.0\.attn\.q",
        ("llama", "qwen3", "mixtral"),
        _rows_in_halves("self_attn.q_proj", "num_attention_heads"),
    ),
    Fault(
        "router scores by sigmoid",
        ("52",),
        r"layers\.0\.moe\.(probs|weights|ids)",
        ("olmoe", "qwen3_moe", "mixtral"),
        _sigmoid_scores,
    ),
    Fault("head tied", ("19",), "logits", ("llama", "mixtral", "olmoe"), _tied),
    Fault("unit vectors' eps", ("55",), r"layers\.0\.linear\.(q|k)", ("qwen3_5",), _unit_vectors_eps),
    Fault("read-out scale missing", ("55",), r"layers\.0\.linear\.q", ("qwen3_5",), _no_read_out_scale),
    Fault(
        "gate before the norm", ("26",), r"layers\.0\.linear\.norm", ("qwen3_5",), _each("linear_attn.norm", _gate_before_norm)
    ),
    Fault("taps reversed", ("55",), r"layers\.0\.linear\.conv", ("qwen3_5",), _each("linear_attn.conv1d", _reversed_taps)),
]


def catalogue_has_none(model):
    """Every third channel of one head is damped, as in no engine that was ever seen."""
    layers(model)[1].self_attn.o_proj.weight.data[:, 0:32:3] *= 0.9
