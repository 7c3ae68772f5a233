"""The files that SGLang's dumper writes (sglang/srt/debug_utils/dumper.py): one .pt file for each value, its tags in the file's
name and, beside the value, in the file. Its non-intrusive mode "all" dumps what every module takes and yields."""

from __future__ import annotations

import os
import pathlib
import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from plumb.capture.recorder import checkpoint_config
from plumb.trace import Trace, TraceError

_PREFIX = "non_intrusive__"
_LAYER = re.compile(r"(?:.*\.)?layers\.(\d+)\.(.+)")
# What a module of a layer yields, under the names of docs/trace-format.md. SGLang's norms add the residual first and yield both.
_OUTPUTS = {
    "input_layernorm.output": "attn.norm",
    "input_layernorm.output.0": "attn.norm",
    "input_layernorm.output.1": "before",
    "post_attention_layernorm.output": "mlp.norm",
    "post_attention_layernorm.output.0": "mlp.norm",
    "post_attention_layernorm.output.1": "attn.residual",
    "self_attn.qkv_proj.output": "qkv",
    "self_attn.q_norm.output": "attn.q_norm",
    "self_attn.k_norm.output": "attn.k_norm",
    "self_attn.rotary_emb.output.0": "attn.q_rope",
    "self_attn.rotary_emb.output.1": "attn.k_rope",
    "self_attn.attn.output": "attn.context",
    "self_attn.o_proj.output": "attn.out",
    "mlp.gate_up_proj.output": "gate_up",
    "mlp.act_fn.output": "mlp.act",
    "mlp.output": "mlp.out",
    "mlp.gate.output": "moe.logits",
    "mlp.topk.output.0": "moe.weights",
    "mlp.topk.output.1": "moe.ids",
}
_HEADS = {"attn.q_norm", "attn.k_norm", "attn.q_rope", "attn.k_rope", "attn.context"}


@dataclass
class _Dump:
    step: int
    index: int
    rank: int
    name: str
    layer: int | None
    path: pathlib.Path


def read_sglang(
    folder: str | os.PathLike[str],
    *,
    config: Mapping[str, Any] | str | os.PathLike[str] | None = None,
    rank: int = 0,
    steps: Collection[int] | None = None,
    token_ids: Sequence[int] | None = None,
) -> Trace:
    """Reads a folder of SGLang's dumper, one request of it. Needs torch.

    Values of modules that the trace format has come under its names, with heads apart where `config` (the checkpoint's
    config.json, or its folder) says how many there are; every other dump under a name of its own, "layers.N.NAME" or "NAME".
    What the server computed before or after the request is left out by `steps`, the dumper's own step numbers. `rank`: of a
    tensor-parallel server, whose values are shards.
    token_ids: the prompt's ids, where they came in chunks; else those of the first step.
    TraceError for a folder without dumps, for a file that is none, and for steps that hold several requests."""
    import torch

    folder = pathlib.Path(folder)
    dumps = [dump for dump in (_tags(path) for path in folder.rglob("*.pt")) if dump and dump.rank == rank]
    dumps = [dump for dump in dumps if steps is None or dump.step in steps]
    if not dumps:
        raise TraceError(
            f"{folder}: no file of SGLang's dumper is there for rank {rank}, such as step=0___rank=0___dump_index=1___name=….pt"
        )
    if isinstance(config, (str, os.PathLike)):
        config = checkpoint_config(config)
    trace = Trace(
        engine={"name": "sglang", "settings": {"read_from": "dumper", "rank": rank}},
        model={"config": dict(config)} if config else None,
    )
    fed: list[int] = []
    for number in sorted({dump.step for dump in dumps}):
        in_step = sorted((dump for dump in dumps if dump.step == number), key=lambda dump: dump.index)
        values = [(dump, _load(dump.path, torch)) for dump in in_step]
        fed += _begin(trace, number, values)
        _add_values(trace, values, config or {}, torch)
    trace.token_ids = [int(i) for i in token_ids] if token_ids is not None else fed[: trace.steps[0].count]
    trace.generated = fed[len(trace.token_ids) :]
    return trace


def _tags(path: pathlib.Path) -> _Dump | None:
    tags = dict(part.split("=", 1) for part in path.name.removesuffix(".pt").split("___") if "=" in part)
    try:
        step = int(tags.get("step", tags.get("forward_pass_id", "")))
        layer = tags.get("layer_id")
        return _Dump(step, int(tags["dump_index"]), int(tags["rank"]), tags["name"], None if layer is None else int(layer), path)
    except (KeyError, ValueError):
        return None


def _load(path: pathlib.Path, torch: Any) -> Any:
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # noqa: BLE001: torch.load has no error of its own
        raise TraceError(f"{path}: is no tensor that torch reads safely: {str(error).splitlines()[0]}") from None
    return content["value"] if isinstance(content, dict) and "value" in content else content


def _begin(trace: Trace, number: int, values: list[tuple[_Dump, Any]]) -> list[int]:
    named = {dump.name: value for dump, value in values}
    ids, positions, lengths = (named.get(name) for name in ("input_ids", "positions", "seq_lens"))
    if ids is None or positions is None:
        raise TraceError(f'step {number}: input_ids or positions were not dumped (DUMPER_NON_INTRUSIVE_MODE is "off")')
    if lengths is not None and lengths.numel() != 1:
        raise TraceError(f"step {number}: a batch of {lengths.numel()} requests; a trace holds one")
    first = int(positions.reshape(-1)[0])
    expected = trace.steps[-1].first + trace.steps[-1].count if trace.steps else first
    if first != expected:
        raise TraceError(
            f"step {number} begins at position {first}, the steps before it end at {expected}: "
            "choose those of one request by `steps`"
        )
    trace.add_step(int(ids.numel()), first)
    return [int(i) for i in ids.reshape(-1)]


def _add_values(trace: Trace, values: list[tuple[_Dump, Any]], config: Mapping[str, Any], torch: Any) -> None:
    step = len(trace.steps) - 1
    for dump, value in values:
        if not isinstance(value, torch.Tensor) or dump.name in ("input_ids", "positions", "seq_lens", "req_pool_indices", "rids"):
            continue
        for stage, part in _stages(dump, value, config, torch):
            if (step, stage) not in trace:
                trace.add_bits(stage, *_bits(part), step=step)
        if trace.dtype is None and value.is_floating_point():
            trace.dtype = str(value.dtype).removeprefix("torch.")


def _stages(dump: _Dump, value: Any, config: Mapping[str, Any], torch: Any) -> list[tuple[str, Any]]:
    """A dump's stages: several for a fused projection, none for what a norm took in."""
    if not dump.name.startswith(_PREFIX):
        layer = f"layers.{dump.layer}." if dump.layer is not None else ""
        return [(layer + re.sub(r"[\s/]+", "_", dump.name), value)]
    name = dump.name.removeprefix(_PREFIX)
    if name.endswith("next_token_logits"):
        return [("logits", value.reshape(-1, value.shape[-1]))]
    if re.fullmatch(r"(.*\.)?embed_tokens\.output", name):
        return [("embed", value)]
    if found := re.fullmatch(r"(?:.*\.)?norm\.output(\.\d)?", name):
        if "layers." not in name:
            last = config.get("num_hidden_layers")
            return [("norm", value)] if found[1] in (None, ".0") else [(f"layers.{last - 1}.residual", value)] if last else []
    layered = _LAYER.fullmatch(name)
    if layered is None or ".inputs" in name:
        return []
    prefix, stage = f"layers.{layered[1]}.", _OUTPUTS.get(layered[2])
    if stage is None:
        return [(prefix + layered[2], value)]
    if stage == "before":
        return [(f"layers.{int(layered[1]) - 1}.residual", value)] if layered[1] != "0" else []
    return [(prefix + part, tensor) for part, tensor in _split(stage, value, config, torch)]


def _split(stage: str, value: Any, config: Mapping[str, Any], torch: Any) -> list[tuple[str, Any]]:
    heads, hidden = config.get("num_attention_heads"), config.get("hidden_size")
    kv_heads = config.get("num_key_value_heads", heads)
    dim = config.get("head_dim") or (hidden // heads if heads and hidden else None)
    if stage == "gate_up":
        half = value.shape[-1] // 2
        return [("mlp.gate", value[..., :half]), ("mlp.up", value[..., half:])]
    if stage == "qkv":
        if not dim or value.shape[-1] != (heads + 2 * kv_heads) * dim:  # a shard, or no configuration
            return [("attn.qkv", value)]
        parts = torch.split(value, [heads * dim, kv_heads * dim, kv_heads * dim], dim=-1)
        return [(name, part.reshape(len(value), -1, dim)) for name, part in zip(("attn.q", "attn.k", "attn.v"), parts)]
    if stage in _HEADS and dim:
        count = kv_heads if stage in ("attn.k_norm", "attn.k_rope") else heads
        return [(stage, value.reshape(-1, count, dim))]
    return [(stage, value)]


def _bits(tensor: Any) -> tuple[np.ndarray, str]:
    from plumb.capture.transformers_model import bits_of

    bits, dtype = bits_of(tensor)
    return (bits.astype(np.int32), "I32") if dtype == "I64" and bits.size and abs(bits).max() < 2**31 else (bits, dtype)
