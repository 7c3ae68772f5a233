"""What independent_engine.py computed, as traces of engines that hold more or less of it, under names and in layouts of their own."""

import plumb
import torch

STORED = {torch.float32: "float32", torch.float16: "float16", torch.bfloat16: "bfloat16"}
BLOCKS = ("embed", ".residual", "norm", "logits")

# As llama.cpp's graph calls them: LAYER behind the name, rows of all heads flat.
GGML = {
    "attn.norm": "attn_norm", "attn.q": "Qcur", "attn.k": "Kcur", "attn.v": "Vcur", "attn.q_norm": "Qcur_normed", "attn.k_norm": "Kcur_normed",
    "attn.q_rope": "Qcur_roped", "attn.k_rope": "Kcur_roped", "attn.scores": "kq", "attn.probs": "kq_soft_max", "attn.context": "kqv_out",
    "attn.out": "attn_out", "attn.post_norm": "attn_post_norm", "attn.residual": "ffn_inp", "mlp.norm": "ffn_norm", "mlp.gate": "ffn_gate",
    "mlp.up": "ffn_up", "mlp.act": "ffn_gate_par", "mlp.out": "ffn_out", "mlp.post_norm": "ffn_post_norm", "residual": "l_out",
    "moe.logits": "ffn_moe_logits", "moe.probs": "ffn_moe_probs", "moe.ids": "ffn_moe_topk", "moe.weights": "ffn_moe_weights",
    "embed": "inp_embd", "norm": "result_norm", "logits": "result_output",
}
# Words of nobody: q, k and v in one tensor, heads first, nothing between the projections and the rotation.
OWN = {
    "attn.norm": "a", "attn.q_rope": "c_q", "attn.k_rope": "c_k", "attn.probs": "d", "attn.context": "e", "attn.out": "f", "attn.residual": "g",
    "mlp.norm": "h", "mlp.act": "j", "mlp.out": "m", "residual": "z", "moe.logits": "r1", "moe.ids": "r2", "moe.weights": "r3",
    "embed": "tok", "norm": "last", "logits": "out",
}  # fmt: skip
# llama.cpp's and the format's words mixed: q, k and v in one tensor, heads first but for the probabilities.
MIXED = {
    "attn.norm": "attn_norm", "attn.q_norm": "Qnorm", "attn.k_norm": "Knorm", "attn.q_rope": "Qcur_rope", "attn.k_rope": "Kcur_rope",
    "attn.probs": "attn_probs", "attn.context": "kqv", "attn.out": "attn_out", "attn.post_norm": "attn_post_norm", "attn.residual": "attn_residual",
    "mlp.norm": "mlp_norm", "mlp.gate": "mlp_gate", "mlp.up": "mlp_up", "mlp.act": "mlp_act", "mlp.out": "mlp_out", "mlp.post_norm": "mlp_post_norm",
    "residual": "residual", "moe.logits": "moe_logits", "moe.ids": "moe_ids", "moe.weights": "moe_weights",
}  # fmt: skip
MODES = ("house", "ggml", "own", "mixed", "blocks", "logits", "last", "logprobs")


def split(stage):
    parts = stage.split(".", 2)
    return (parts[2], parts[1]) if parts[0] == "layers" else (stage, None)


def add_logprobs(trace, logits):
    """Of the 20 largest, as an interface reports them. `logits`: [tokens, vocabulary]."""
    values, ids = logits.float().log_softmax(-1).topk(20, -1)
    trace.add("logprobs.ids", ids.numpy().astype("int32"))
    trace.add("logprobs", values.numpy())


def _add(trace, name, value, dtype):
    if not value.dtype.is_floating_point:
        trace.add(name, value.numpy().astype("int32"))
    else:
        trace.add(name, value.float().numpy(), dtype=STORED[dtype])


def trace_of(run, mode, dtype):
    """A plumb.Trace of a Run in one of MODES."""
    trace = plumb.Trace(engine={"name": "independent", "version": "1"}, dtype=STORED[dtype], token_ids=run.ids[0], generated=run.generated)
    for first, ids, values in zip(run.firsts, run.ids, run.values, strict=True):
        trace.add_step(len(ids), first)
        if mode == "logprobs":
            add_logprobs(trace, values["logits"])
            continue
        for stage, value in values.items():
            role, layer = split(stage)
            if mode in ("logits", "last") and stage != "logits":
                continue
            if mode == "blocks" and not (role == "residual" or stage in ("embed", "norm", "logits")):
                continue
            if mode == "last":
                value = value[-1:]
            name = stage
            if mode == "ggml":
                name = GGML[role] + ("" if layer is None else f"-{layer}")
                if role not in ("attn.scores", "attn.probs"):
                    value = value.flatten(1) if value.dim() > 1 else value
            if mode == "own":
                if role == "attn.q":
                    _qkv(trace, values, layer, dtype)
                if role not in OWN:
                    continue
                name = OWN[role] + ("" if layer is None else f"_{layer}")
                if value.dim() == 3:
                    value = value.transpose(0, 1)
            if mode == "mixed" and layer is not None:
                if role == "attn.q":
                    _qkv(trace, values, layer, dtype, f"blk.{layer}.qkv")
                if role not in MIXED:
                    continue
                name = f"blk.{layer}.{MIXED[role]}"
                if value.dim() == 3 and role != "attn.probs":
                    value = value.transpose(0, 1)
            _add(trace, name, value, dtype)
    return trace


def _qkv(trace, values, layer, dtype, name=None):
    name = name or f"b_{layer}"
    if (len(trace.steps) - 1, name) not in trace:
        _add(trace, name, torch.cat([values[f"layers.{layer}.attn.{x}"].flatten(1) for x in "qkv"], -1), dtype)
