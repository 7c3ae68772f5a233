"""Models for the tests of plumb.capture: a small checkpoint of each architecture, from tests/data or drawn here from a fixed
seed."""

import random
from dataclasses import dataclass

import checkpoints
import numpy as np
import plumb
import torch
from live_hybrid import HybridModel
from live_hybrid import build as build_hybrid
from live_hybrid import draw_models as draw_hybrids
from live_models import draw_models
from live_reference import EAGER
from live_reference import build as build_variant
from transformers import AutoModelForCausalLM, DynamicCache

VARIANTS = checkpoints.REPOSITORY / "tests" / "data" / "variants"
SEED = 5
IDS = [int(i) for i in np.random.default_rng(SEED).integers(3, 60, 40)]  # in every vocabulary
STEPS = 2


@dataclass(frozen=True)
class Source:
    """Where a model comes from: a folder of tests/data, or how one is drawn."""

    name: str
    build: object  # of a folder, from a temporary one

    def folder(self, tmp_path_factory):
        return self.build(tmp_path_factory.mktemp(self.name) / "model")


def stored(path):
    return Source(path.name if path.parent != VARIANTS else f"{path.name}-variant", lambda _target: path)


def drawn_variant(model_type):
    def build(target):
        build_variant(next(m for m in draw_models(SEED) if m.model_type == model_type), target)
        return target

    return Source(f"{model_type}-drawn", build)


def drawn_hybrid(model_type):
    """The first of a kind leaves layer_types to the interval, which is all that mlx-lm knows."""

    def build(target):
        model: HybridModel = next(m for m in draw_hybrids(SEED) if m.model_type == model_type)
        build_hybrid(model, target)
        return target

    return Source(f"{model_type}-drawn", build)


def drawn_deepseek_v3(index):
    def build(target):
        import test_live_deepseek as deepseek

        model = deepseek.LiveModel(f"deepseek_v3 {index}", "deepseek_v3", deepseek._v3(random.Random(SEED + index), index), SEED)
        deepseek.build(model, target)
        return target

    return Source(f"deepseek_v3-drawn-{index}", build)


def sources():
    folders = [checkpoints.folder(name) for name in checkpoints.names()] + sorted(p for p in VARIANTS.iterdir() if p.is_dir())
    return [stored(path) for path in folders] + [drawn_variant("mistral"), drawn_deepseek_v3(0), drawn_deepseek_v3(1)]


def load(folder, dtype, attention="eager"):
    return AutoModelForCausalLM.from_pretrained(folder, dtype=dtype, **EAGER | {"attn_implementation": attention}).eval()


@torch.no_grad()
def run(model, ids=IDS, steps=STEPS):
    """Logits of a prefill and `steps` greedy decode steps, as they come."""
    cache, fed, logits = DynamicCache(config=model.config), torch.tensor([ids]), []
    for _ in range(steps + 1):
        logits.append(model(fed, past_key_values=cache, use_cache=True).logits.clone())
        fed = logits[-1][:, -1:].argmax(-1)
    return logits


def reference_trace(plumb_program, folder, trace, out, *more):
    """What plumb's reference executor computes in the passes of `trace`."""
    ids, steps = ",".join(map(str, trace.token_ids)), sum(step.count for step in trace.steps) - len(trace.token_ids)
    plumb_program.call("trace", folder, "--ids", ids, "--steps", steps, "--ignore-eos", "--out", out, *more)
    return plumb.Trace.read(out)


def same_keys(stage, ours, theirs):
    """A windowed layer of transformers holds the last keys only; those before them are masked."""
    if stage.endswith((".probs", ".scores")) and ours.shape[-1] < theirs.shape[-1]:
        return theirs[..., theirs.shape[-1] - ours.shape[-1] :]
    return theirs


def distance(stage, ours, theirs, typical=0.0):
    """Relative L2 distance; where `theirs` is smaller than values of the size `typical` would be, relative to those. Scores are compared
    where they are not masked: engines mask with other large numbers."""
    ours, theirs = ours.astype(np.float64), theirs.astype(np.float64)
    if stage.endswith(".scores"):
        seen = np.isfinite(theirs)
        assert (ours[~seen] < -1e30).all(), stage
        ours, theirs = ours[seen], theirs[seen]
    return float(np.linalg.norm(ours - theirs) / max(np.linalg.norm(theirs), typical * theirs.size**0.5, 1e-30))


def typical_size(trace, stage):
    """Root mean square of a stage's values over all steps: a decode step's may be a single one that is near 0."""
    values = np.concatenate([trace[step, stage].reshape(-1) for step in range(len(trace.steps)) if (step, stage) in trace])
    values = values[np.isfinite(values)].astype(np.float64)
    return float(np.sqrt(np.mean(values**2))) if values.size else 0.0


def by_expert(trace, key, experts):
    """Routing weights spread over all experts: engines list the chosen ones in orders of their own. [tokens, experts]"""
    weights, ids = trace[key], trace[key.replace(".weights", ".ids")]
    spread = np.zeros((len(ids), experts))
    np.put_along_axis(spread, ids.astype(np.int64), weights.astype(np.float64), axis=-1)
    return spread
