"""transformers itself, run on the live models: eager attention, eager experts, nothing shared between prompts."""
import contextlib
import copy
import json

import numpy as np
import torch
from transformers import AutoConfig, AutoModelForCausalLM, DynamicCache

# The models are small: threads that wait for each other cost more than they compute.
torch.set_num_threads(1)

EAGER = {"attn_implementation": "eager", "experts_implementation": "eager"}


def build(model, folder, weight=None):
    """Random weights of the drawn configuration, stored as the reference stores a checkpoint; `weight` draws one tensor, given
    its name, its shape, whether the head is tied, and the generator."""
    generator = torch.Generator().manual_seed(model.seed)
    config = AutoConfig.for_model(model.model_type, **copy.deepcopy(model.settings))
    network = AutoModelForCausalLM.from_config(config, **EAGER)
    with torch.no_grad():
        for name, parameter in network.named_parameters():
            parameter.copy_((weight or _random)(name, parameter.shape, config.tie_word_embeddings, generator))
    shard_size = getattr(model, "shard_size", None)
    shards = {"max_shard_size": shard_size} if shard_size else {}
    network.to(getattr(torch, model.stored)).save_pretrained(folder, **shards)


def _random(name, shape, tied, generator):
    """Wide enough that attention chooses and routers decide, and nothing at the 0 or 1 that hides a forgotten tensor."""
    if "norm" in name:
        return 0.5 + torch.rand(shape, generator=generator)
    values = torch.randn(shape, generator=generator)
    if len(shape) == 1:
        return 0.3 * values
    if "embed_tokens" in name:
        return 0.4 * values if tied else values
    return (2.0 if "lm_head" in name or "gate.weight" in name else 1.3) * values / shape[-1] ** 0.5


class Reference:
    """A stored model, loaded: one that is cast to bfloat16 in memory has rounded rotary tables as well."""

    def __init__(self, model):
        self._model = model.eval()

    @classmethod
    def load(cls, folder, dtype=torch.float32):
        return cls(AutoModelForCausalLM.from_pretrained(folder, dtype=dtype, **EAGER))

    def with_config(self, config):
        """The same weights under other conventions."""
        model = AutoModelForCausalLM.from_config(AutoConfig.for_model(**config), dtype=torch.float32, **EAGER)
        model.load_state_dict(self._model.state_dict())
        return Reference(model)

    def _fresh(self):
        # Dynamic scaling leaves its widest frequencies in the model for the next call.
        return copy.deepcopy(self._model)

    @torch.no_grad()
    def logits(self, ids):
        """float32 [n, vocab] of one pass over the whole."""
        return self._fresh()(torch.tensor([ids]), use_cache=False).logits[0].float().numpy()

    @torch.no_grad()
    def decode(self, ids, steps):
        """[steps, vocab]: the logits before each greedy token, a prefill and then one token at a time with a cache."""
        model, rows = self._fresh(), []
        cache = DynamicCache(config=model.config)
        fed = torch.tensor([ids])
        for _ in range(steps):
            rows.append(model(fed, past_key_values=cache, use_cache=True).logits[0, -1].numpy())
            fed = torch.tensor([[int(rows[-1].argmax())]])
        return np.stack(rows)

    @torch.no_grad()
    def closest_routing(self, ids):
        """The smallest difference, over layers and tokens, between the last probability that is chosen and the first that is
        not; infinity without routers. Below float32's noise the choice of an expert is a matter of summation order."""
        gaps, model = [np.inf], self._fresh()

        def measure(router, _, output):
            ordered = output[0].float().softmax(dim=-1).sort(dim=-1, descending=True).values
            gaps.append((ordered[..., router.top_k - 1] - ordered[..., router.top_k]).min().item())

        for module in model.modules():
            if type(module).__name__.endswith("TopKRouter"):
                module.register_forward_hook(measure)
        model(torch.tensor([ids]), use_cache=False)
        return min(gaps)


@contextlib.contextmanager
def stable_topk():
    """Equal scores: lowest index first. torch leaves their order open, and the rectified scores of DeepSeek-V4's index are often equal."""
    unpatched = torch.topk, torch.Tensor.topk

    def topk(values, k, dim=-1, largest=True, sorted=True):
        ordered, indices = torch.sort(values, dim=dim, descending=largest, stable=True)
        return torch.return_types.topk((ordered.narrow(dim, 0, k), indices.narrow(dim, 0, k)))

    torch.topk, torch.Tensor.topk = topk, topk
    try:
        yield
    finally:
        torch.topk, torch.Tensor.topk = unpatched


def stored_config(folder):
    return json.loads((folder / "config.json").read_text())


def as_published_before(config):
    """A configuration of transformers 5 as the releases before it wrote it."""
    old = copy.deepcopy(config)
    rope, kind_key = old.pop("rope_parameters"), "type"
    if "rope_type" not in rope:
        kind_key = "rope_type"  # as Gemma 3 is published
        rope, windowed = rope["full_attention"], rope["sliding_attention"]
        if old["model_type"] == "gemma3_text":
            old["rope_local_base_freq"] = windowed["rope_theta"]
    old["rope_theta"] = rope.pop("rope_theta")
    if "partial_rotary_factor" in rope:
        old["partial_rotary_factor"] = rope.pop("partial_rotary_factor")
    if "original_max_position_embeddings" in old:
        rope.pop("original_max_position_embeddings", None)
    kind = rope.pop("rope_type")
    # The key itself was renamed, too: both are in use.
    old["rope_scaling"] = None if kind == "default" else {kind_key if kind in ("linear", "dynamic", "longrope") else "rope_type": kind} | rope
    old["torch_dtype"] = old.pop("dtype")
    if old["model_type"] == "qwen3_moe":
        old["num_experts"] = old.pop("num_local_experts")
    return old
