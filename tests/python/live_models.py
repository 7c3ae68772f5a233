"""Random configurations for the live test: every architecture and scaling in each run, sizes and constants by chance.

Drawing needs no torch, so that the seed alone names a run; live_reference.py builds what is drawn here.
"""
import itertools
import random
from dataclasses import dataclass, field

# (query heads, key-value heads): odd counts, one key-value head, no grouping.
HEADS = ((3, 1), (5, 5), (6, 2), (7, 1), (9, 3), (4, 2), (6, 3), (4, 1), (5, 1))
STORED = ("float32", "bfloat16", "float16", "bfloat16")
SHARDS = ("40KB", None, "100KB")
ABSENT = object()  # in place of a value: the configuration has no such key
DEFAULT_LENGTH = 24  # where nothing begins at any length


@dataclass(frozen=True)
class LiveModel:
    name: str
    model_type: str
    settings: dict
    boundaries: tuple  # the lengths at which a window closes or a scaling begins
    stored: str  # data type of the weights in the file
    shard_size: str | None
    seed: int  # of the weights and the prompts
    mistakes: dict = field(default_factory=dict)  # changes of config.json that must change the logits

    @property
    def depends_on_its_cache(self):
        """Dynamic scaling: cached keys keep frequencies that a prefill would not give them. A window soon forgets them."""
        kinds = {rope["rope_type"] for rope in rope_entries(self.settings)}
        return bool(kinds & {"dynamic", "longrope"}) and not self.settings.get("sliding_window")


def rope_entries(config):
    """The rotations of a configuration: one for all layers, or one for each type of layer."""
    rope = config["rope_parameters"]
    return [rope] if "rope_type" in rope else list(rope.values())


def draw_models(seed, recipes=None, architectures=None):
    """One model of each recipe: its name, its model_type and the parts that are added to that architecture's own."""
    recipes, architectures = recipes or _RECIPES, architectures or _ARCHITECTURES
    rng = random.Random(seed)
    # Cycles in random order: all of each list occurs in each run, in other combinations each time.
    cycles = {name: itertools.cycle(rng.sample(options, len(options))) for name, options in _CYCLES.items()}
    models = []
    for name, model_type, *parts in recipes:
        settings, boundaries, mistakes = _common(rng, cycles), set(), {"ten times the eps": scaled("rms_norm_eps", 10)}
        for part in (architectures[model_type], *parts):
            changes, boundary, part_mistakes = part(rng, settings)
            settings |= changes
            boundaries |= {boundary} - {None}
            mistakes |= part_mistakes
        mistakes["another rope_theta"] = _another_theta
        drawn = dict(stored=next(cycles["stored"]), shard_size=next(cycles["shards"]), seed=rng.randrange(2**31))
        foreign = _BIASES - _BIASES_OF.get(model_type, set())
        settings = {key: value for key, value in settings.items() if value is not ABSENT and key not in foreign}
        lengths = tuple(sorted(boundaries or {DEFAULT_LENGTH}))
        models.append(LiveModel(name, model_type, settings, lengths, mistakes=mistakes, **drawn))
    return models


_CYCLES = {"heads": HEADS, "stored": STORED, "shards": SHARDS, "tied": (True, False, True), "attention_bias": (True, False), "mlp_bias": (True, False, True)}


_BIASES = {"attention_bias", "mlp_bias"}
_OF_ATTENTION = ("qwen3", "qwen3_moe", "olmoe", "gemma2", "gemma3_text", "gpt_oss", "olmo2", "olmo3", "glm4")
_BIASES_OF = dict.fromkeys(("llama", "smollm3"), _BIASES) | dict.fromkeys(_OF_ATTENTION, {"attention_bias"})


def _common(rng, cycles):
    heads, kv_heads = next(cycles["heads"])
    head_dim, per_head = rng.sample(range(6, 26, 2), 2)
    return {
        "vocab_size": rng.randint(70, 260),
        "hidden_size": heads * per_head,
        "intermediate_size": rng.randint(20, 120),
        "num_hidden_layers": rng.randint(2, 3),
        "num_attention_heads": heads,
        "num_key_value_heads": kv_heads,
        "head_dim": head_dim,
        "max_position_embeddings": 512,
        # Large enough that reading another one shows.
        "rms_norm_eps": 10 ** rng.uniform(-4, -1.5),
        "tie_word_embeddings": next(cycles["tied"]),
        "attention_bias": next(cycles["attention_bias"]),
        "mlp_bias": next(cycles["mlp_bias"]),
        "rope_parameters": {"rope_type": "default", "rope_theta": rng.choice([10000, 10 ** rng.uniform(2.5, 5)])},
        "bos_token_id": 1,
        "eos_token_id": 2,
        "pad_token_id": None,
    }


def scaled(key, factor):
    return lambda config: config.update({key: config[key] * factor})


def set_keys(**changes):
    return lambda config: config.update(changes)


def less_by_one(key):
    return lambda config: config.update({key: config[key] - 1})


# What is part of an architecture: (changed settings, boundary or None, mistakes).


def _llama(rng, settings):
    return {}, None, {}


def _mistral(rng, settings):
    return {"sliding_window": None}, None, {}


def _head_dim_as_divided(rng, settings):
    # Where head_dim is no field of the configuration class, the reference obeys it if it is there and divides if it is not.
    return {"head_dim": ABSENT} if rng.random() < 0.5 else {}


def _qwen2(rng, settings):
    return {"num_hidden_layers": 4} | _head_dim_as_divided(rng, settings), None, {}


def _qwen3(rng, settings):
    return {"num_hidden_layers": 4}, None, {}


def experts(rng, count_key, size_key, norm_topk_prob):
    count = rng.randint(4, 9)
    chosen = rng.randint(2, count - 1)
    changes = {count_key: count, "num_experts_per_tok": chosen, size_key: rng.randint(12, 60)}
    mistakes = {"one expert fewer": less_by_one("num_experts_per_tok")}
    if norm_topk_prob is not None:
        changes["norm_topk_prob"] = norm_topk_prob
        mistakes["the other norm_topk_prob"] = set_keys(norm_topk_prob=not norm_topk_prob)
    return changes, mistakes


def _qwen3_moe(rng, settings):
    return {"num_hidden_layers": 4} | _head_dim_as_divided(rng, settings), None, {}


def _olmoe(rng, settings):
    # Its norms are as wide as the hidden size, so the heads must divide it.
    even = settings["hidden_size"] // settings["num_attention_heads"]
    return {"head_dim": even}, None, {}


def _mixtral(rng, settings):
    changes, mistakes = experts(rng, "num_local_experts", "intermediate_size", None)
    without = {"head_dim": None} if rng.random() < 0.3 and settings["rope_parameters"]["rope_type"] == "default" else {}
    return changes | without, None, mistakes


_ARCHITECTURES = {
    "llama": _llama,
    "mistral": _mistral,
    "qwen2": _qwen2,
    "qwen3": _qwen3,
    "qwen3_moe": _qwen3_moe,
    "olmoe": _olmoe,
    "mixtral": _mixtral,
}

# Parts that a recipe adds, in the same form.


def _routed(norm_topk_prob, **changes):
    def part(rng, settings):
        size_key = "moe_intermediate_size" if "decoder_sparse_step" in changes else "intermediate_size"
        drawn, mistakes = experts(rng, "num_experts", size_key, norm_topk_prob)
        return drawn | changes, None, mistakes

    return part


def _clipped(rng, settings):
    return {"clip_qkv": rng.uniform(0.4, 1.0)}, None, {"clip dropped": set_keys(clip_qkv=None)}


def window(**changes):
    def part(rng, settings):
        window = rng.randint(3, 21)
        mistakes = {"window one longer": lambda config: config.update(sliding_window=config["sliding_window"] + 1)}
        return {"sliding_window": window} | changes, window, mistakes

    return part


def scaling(kind, **fixed):
    def part(rng, settings):
        parameters, boundary, maximum = _SCALINGS[kind](rng)
        rope = {"rope_type": kind, "rope_theta": settings["rope_parameters"]["rope_theta"]} | parameters | fixed
        mistakes = {"scaling dropped": _drop_scaling, "another factor": _double_factor}
        changes = {"rope_parameters": rope, "max_position_embeddings": maximum}
        if kind in ("yarn", "llama3"):
            # Enough frequencies for some to be kept, some scaled and some between.
            changes["head_dim"] = rng.choice([24, 32, 48])
        return changes, boundary, mistakes

    return part


def _another_theta(config):
    for rope in rope_entries(config):
        rope["rope_theta"] = 777.0


def _scaled_rope(config):
    """The rotation that is scaled: where types of layers have their own, that of the full ones."""
    return config["rope_parameters"].get("full_attention", config["rope_parameters"])


def _drop_scaling(config):
    rope = _scaled_rope(config)
    kept = {key: value for key, value in rope.items() if key in ("rope_theta", "partial_rotary_factor")}
    rope.clear()
    rope.update(kept, rope_type="default")


def _double_factor(config):
    _scaled_rope(config)["factor"] *= 2


def _linear(rng):
    return {"factor": rng.choice([2.0, 4, rng.uniform(1.5, 8)])}, None, 512


def _dynamic(rng):
    length = rng.randint(12, 40)
    return {"factor": rng.choice([2.0, 4, rng.uniform(1.5, 8)])}, length, length


def _yarn(rng):
    original, factor = rng.randint(32, 64), rng.choice([4.0, 8.0, 16])
    parameters = {"factor": factor, "original_max_position_embeddings": original, "beta_slow": rng.choice([1.0, 0.5])}
    parameters["beta_fast"] = rng.uniform(2, 8)
    return parameters, original, int(original * factor)


def _llama3(rng):
    original, low = rng.randint(32, 64), rng.choice([1.0, 1, 2.0])
    parameters = {"factor": rng.choice([4.0, 8, 32.0]), "low_freq_factor": low, "high_freq_factor": low * rng.uniform(2, 5)}
    return parameters | {"original_max_position_embeddings": original}, original, original * 8


_SCALINGS = {"linear": _linear, "dynamic": _dynamic, "yarn": _yarn, "llama3": _llama3}

_FULL, _SLIDING = "full_attention", "sliding_attention"

_RECIPES = (
    ("llama", "llama"),
    ("llama, linear", "llama", scaling("linear")),
    ("llama, dynamic", "llama", scaling("dynamic")),
    ("llama, llama3", "llama", scaling("llama3")),
    ("llama, yarn", "llama", scaling("yarn")),
    ("llama, yarn, not truncated, its own attention factor", "llama", scaling("yarn", truncate=False, attention_factor=0.8)),
    ("llama, yarn, two mscales", "llama", scaling("yarn", mscale=0.7, mscale_all_dim=1.3)),
    ("mistral, window", "mistral", window()),
    ("mistral, window and dynamic", "mistral", scaling("dynamic"), window()),
    ("qwen2", "qwen2"),
    ("qwen2, window in the upper layers", "qwen2", window(use_sliding_window=True, max_window_layers=2)),
    ("qwen2, layer_types", "qwen2", window(use_sliding_window=True, layer_types=[_SLIDING, _FULL, _FULL, _SLIDING])),
    ("qwen3", "qwen3"),
    ("qwen3, yarn and windows", "qwen3", scaling("yarn"), window(use_sliding_window=True, max_window_layers=1)),
    ("qwen3_moe, every second layer", "qwen3_moe", _routed(True, decoder_sparse_step=2)),
    ("qwen3_moe, a dense layer", "qwen3_moe", _routed(False, decoder_sparse_step=1, mlp_only_layers=[2])),
    ("olmoe, clipped", "olmoe", _routed(False), _clipped),
    ("olmoe, renormalised", "olmoe", _routed(True)),
    ("mixtral", "mixtral"),
    ("mixtral, window and llama3", "mixtral", scaling("llama3"), window()),
)
