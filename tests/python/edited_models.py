"""A model of transformers with its own file edited, as an engine's author would have written it: each edit replaces some text of
modeling_NAME.py by other text, and the file so edited runs in place of transformers' own."""

import contextlib
import importlib
import pathlib
import sys
import types
from dataclasses import dataclass

import torch
from live_reference import EAGER, stable_topk
from transformers import DynamicCache, cache_utils

FILES = {
    "deepseek_v4": ("deepseek_v4", "DeepseekV4ForCausalLM"),
    "qwen3_5": ("qwen3_5", "Qwen3_5ForCausalLM"),
    "gpt_oss": ("gpt_oss", "GptOssForCausalLM"),
    "olmoe": ("olmoe", "OlmoeForCausalLM"),
    "smollm3": ("smollm3", "SmolLM3ForCausalLM"),
}


@dataclass(frozen=True)
class Edit:
    """One fault: what replaces what. `rows` of docs/causes.md, any of which names it; none: no catalogue has it. `stage`, a regular
    expression, is the first at fault where everything was captured."""

    name: str
    rows: tuple
    stage: str
    changes: tuple  # of (text, other text), each everywhere in the file
    hard: bool = False  # not named yet


@contextlib.contextmanager
def _registry():
    """Caches that a file registers by its layers' names are those of transformers afterwards."""
    maps = [cache_utils.DYNAMIC_LAYER_TYPE_MAPPING, cache_utils.STATIC_LAYER_TYPE_MAPPING]
    before = [dict(entries) for entries in maps]
    try:
        yield
    finally:
        for entries, old in zip(maps, before, strict=True):
            entries.clear()
            entries.update(old)


def _module(architecture, changes):
    """transformers' file under the changes, as a module beside it."""
    name = f"transformers.models.{architecture}.modeling_{architecture}"
    original = importlib.import_module(name)
    text = pathlib.Path(original.__file__).read_text()
    for old, new in changes:
        assert old in text, f"{architecture}: the file has no such text: {old}"
        text = text.replace(old, new)
    edited = types.ModuleType(f"{name}_edited")
    edited.__file__, edited.__package__ = original.__file__, original.__package__
    sys.modules[edited.__name__] = edited
    exec(compile(text, original.__file__ + " (edited)", "exec"), vars(edited))
    return edited


@contextlib.contextmanager
def edited(name, folder, changes, dtype=torch.float32):
    """The model of a checkpoint under the changes. Equal scores of an index go to the lowest, as in the fixtures."""
    architecture, cls = FILES[name]
    importlib.import_module(f"transformers.models.{architecture}.modeling_{architecture}")  # registers its own caches before ours
    with _registry(), stable_topk():
        module = _module(architecture, changes)
        try:
            yield getattr(module, cls).from_pretrained(folder, dtype=dtype, **EAGER).eval()
        finally:
            del sys.modules[module.__name__]


@torch.no_grad()
def run(model, ids, steps):
    """Logits of a prefill and decode steps of fixed ids, which do not depend on what is wrong."""
    cache, logits = DynamicCache(config=model.config), []
    prefill = len(ids) - steps
    for fed in ([*ids[:prefill]], *([i] for i in ids[prefill:])):
        logits.append(model(torch.tensor([fed]), past_key_values=cache, use_cache=True).logits.clone())
    return logits
