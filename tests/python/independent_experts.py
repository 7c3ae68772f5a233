"""The MLP of independent_engine.py: dense, or experts behind a router."""

import torch

GELU_TANH = lambda x: torch.nn.functional.gelu(x, approximate="tanh")  # noqa: E731
ACTIVATIONS = {
    "silu": torch.nn.functional.silu,
    "gelu_pytorch_tanh": GELU_TANH,
    "gelu": torch.nn.functional.gelu,
    "relu": torch.relu,
    "quick_gelu": lambda x: x * torch.sigmoid(1.702 * x),
    "relu2": lambda x: torch.relu(x) ** 2,
    "leaky_relu": torch.nn.functional.leaky_relu,
    "hardswish": torch.nn.functional.hardswish,
    "mish": torch.nn.functional.mish,
    "tanh": torch.tanh,
    "none": lambda x: x,
}
ROUTED = ("olmoe", "mixtral", "qwen3_moe", "gpt_oss")


class Experts:
    # The engine gives c (its configuration), kind, layer, dtype, entered, and f(), w(), linear(), note(), unknown().

    def gated(self, gate, up):
        c = self.c
        if self.kind == "gpt_oss":
            limit = None if self.f("no_limit") else self.f("limit") or c["swiglu_limit"]
            alpha = self.f("alpha") or c["swiglu_alpha"]
            if limit:
                gate = gate.clamp(min=-limit if self.f("limit_both_sides") else None, max=limit)
                up = up if self.f("up_unlimited") else up.clamp(-limit, limit)
            return (up + (0 if self.f("no_up_offset") else 1)) * (gate * torch.sigmoid(alpha * gate))
        name = self.f("activation") or c.get("hidden_activation") or c["hidden_act"]
        if self.f("gate_alone"):
            return ACTIVATIONS[name](gate)
        return ACTIVATIONS[name](gate) * up

    def is_routed(self):
        return self.kind in ROUTED and self.layer not in self.c.get("mlp_only_layers", [])

    def mlp(self, x):
        if self.is_routed():
            return self.routed(x)
        fused = self.w("mlp.gate_up_proj.weight")
        if fused is None and self.f("gate_up_alternating"):
            fused = torch.cat([self.w("mlp.gate_proj.weight"), self.w("mlp.up_proj.weight")])
        if fused is not None:
            y = x @ fused.T
            gate, up = (y[..., 0::2], y[..., 1::2]) if self.f("gate_up_alternating") else y.chunk(2, -1)
        else:
            gate, up = self.linear(x, "mlp.gate_proj", "gate"), self.linear(x, "mlp.up_proj", "up")
        if self.f("gate_up_exchanged"):
            gate, up = up, gate
        self.note("mlp.gate", gate), self.note("mlp.up", up)
        act = self.note("mlp.act", self.unknown("act", self.gated(gate, up)))
        return self.note("mlp.out", self.unknown("mlp_out", self.linear(act, "mlp.down_proj", "down")))

    def expert(self, e, x):
        if self.kind == "gpt_oss":
            y = x @ self.w("mlp.experts.gate_up_proj")[e] + self.w("mlp.experts.gate_up_proj_bias")[e]
            gate, up = y.chunk(2, -1) if self.f("experts_halves") else (y[..., 0::2], y[..., 1::2])
            if self.f("experts_exchanged"):
                gate, up = up, gate
            return self.gated(gate, up) @ self.w("mlp.experts.down_proj")[e]
        names = ("gate_proj", "down_proj", "up_proj") if self.kind != "mixtral" else ("w1", "w2", "w3")
        place = "mlp" if self.kind != "mixtral" else "block_sparse_moe"
        gate, down, up = (self.w(f"{place}.experts.{e}.{n}.weight") for n in names)
        if self.f("experts_exchanged"):
            gate, up = up, gate
        return self.gated(x @ gate.T, x @ up.T) @ down.T

    def routed(self, x):
        c, routers = self.c, {"mixtral": "block_sparse_moe.gate", "gpt_oss": "mlp.router"}
        scored = self.entered if self.f("router_of_residual") else x
        logits = self.note("moe.logits", self.linear(scored, routers.get(self.kind, "mlp.gate"), "router"))
        count = c.get("num_local_experts") or c["num_experts"]
        k = c["num_experts_per_tok"] + (self.f("experts_more") or 0)
        scores = logits.float()
        probs = scores.sigmoid() if self.f("router_sigmoid") else scores.softmax(-1)
        self.note("moe.probs", probs.to(self.dtype))
        renormalise = {"olmoe": c.get("norm_topk_prob"), "qwen3_moe": c.get("norm_topk_prob")}.get(self.kind, True)
        renormalise = not renormalise if self.f("renormalise_other") else renormalise
        if self.f("router_softmax_bf16"):
            probs = probs.bfloat16().float()
        if self.f("ties_to_the_last"):
            weights, ids = probs.flip(-1).topk(k, -1)
            ids = count - 1 - ids
        else:
            weights, ids = probs.topk(k, -1)
        if renormalise:
            weights = weights / weights.sum(-1, keepdim=True)
        weights = weights * (self.f("router_scale") or 1)
        if self.f("weights_uniform"):
            weights = torch.full_like(weights, 1 / k)
        weights = weights.to(self.dtype)
        self.note("moe.ids", ids), self.note("moe.weights", weights)
        out = torch.zeros_like(x)
        for e in range(count):
            tokens, slots = torch.where(ids == e)
            if not len(tokens):
                continue
            share = weights[tokens, slots][:, None]
            enters = x[tokens] * share if self.f("weights_on_input") else x[tokens]
            y = self.expert((e + 1) % count if self.f("experts_shifted") else e, enters)
            share = torch.ones_like(share) if self.f("weights_on_input") else share
            if self.kind == "gpt_oss":
                bias = self.w("mlp.experts.down_proj_bias")[e]
                y = y * share + bias if self.f("expert_bias_unweighted") else (y + bias) * share
            else:
                y = y * share
            out.index_add_(0, tokens, y)
        return self.note("mlp.out", self.unknown("mlp_out", out))
