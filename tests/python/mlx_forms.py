"""Checkpoints in the forms that mlx-lm reads: configurations as releases of transformers before 5 wrote them, experts in
stacks."""

import json
import shutil

from live_hybrid import as_wrapped
from safetensors.torch import load_file, save_file


def as_mlx_reads_it(folder, target, exact_norms=False):
    """A copy of a checkpoint that mlx_lm.utils.load_model takes. exact_norms: weights in float32, so that 1 + w is exact."""
    config = json.loads((folder / "config.json").read_text())
    kind = config["model_type"]
    if kind.startswith("qwen3_5"):
        as_wrapped(folder, target)
    else:
        target.mkdir()
        shutil.copy(folder / "model.safetensors", target)
        old = folder / "config.v4.json"
        config = json.loads(old.read_text()) if old.exists() else config
        if "rope_type" in config.get("rope_parameters", {}):
            config |= _rope_at_the_top(config)
        (target / "config.json").write_text(json.dumps(config))
    if kind == "gpt_oss":
        _rewrite(target, _stacked)
    if exact_norms:
        _rewrite(target, lambda name, value: {name: value.float()})
    return target


def _rope_at_the_top(config):
    rope = config["rope_parameters"]
    more = {"rope_theta": rope["rope_theta"], "rope_scaling": None if rope["rope_type"] == "default" else rope}
    if config["model_type"] == "qwen3_next":
        more |= {"partial_rotary_factor": rope["partial_rotary_factor"]}
    if config["model_type"] == "deepseek_v3":
        more |= {"topk_method": "noaux_tc"}
    return more


def _rewrite(target, change):
    tensors = {}
    for name, value in load_file(target / "model.safetensors").items():
        tensors |= change(name, value)
    save_file({name: value.contiguous() for name, value in tensors.items()}, target / "model.safetensors")


def _stacked(name, value):
    """gpt-oss: [experts, in, out] with gate and up in turns, as mlx-lm has them: [experts, out, in] apart."""
    if name.endswith("gate_up_proj"):
        rows = value.transpose(-1, -2)
        return {name.replace("gate_up_proj", f"{part}_proj.weight"): rows[:, i::2] for i, part in enumerate(("gate", "up"))}
    if name.endswith("gate_up_proj_bias"):
        return {name.replace("gate_up_proj_bias", f"{part}_proj.bias"): value[:, i::2] for i, part in enumerate(("gate", "up"))}
    if name.endswith("experts.down_proj"):
        return {f"{name}.weight": value.transpose(-1, -2)}
    return {name.replace("down_proj_bias", "down_proj.bias"): value}
