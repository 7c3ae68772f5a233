"""Random configurations of the plain decoder's variants: at least three of each, whose conventions together reach every branch."""
from live_models import ABSENT, experts, scaling, set_keys, window
from live_models import draw_models as draw

FULL, SLIDING = "full_attention", "sliding_attention"


def draw_models(seed):
    return draw(seed, _RECIPES, _ARCHITECTURES)


# In the form of live_models: (changed settings, boundary or None, mistakes).


def _gemma(rng, settings):
    scalar = rng.randint(5, 90)
    mistakes = {"another query scale": set_keys(query_pre_attn_scalar=2 * scalar)}
    # The embeddings are scaled up, so an eps must be large to be seen.
    return {"query_pre_attn_scalar": scalar, "num_hidden_layers": 3, "rms_norm_eps": 10 ** rng.uniform(-2, -1)}, None, mistakes


def _gpt_oss(rng, settings):
    changes, mistakes = experts(rng, "num_local_experts", "intermediate_size", None)
    # Both clamps act on gates and ups of this size.
    changes |= {"swiglu_alpha": rng.uniform(1.2, 2.5), "swiglu_limit": rng.uniform(0.5, 1.5), "num_hidden_layers": 3}
    mistakes["another slope"], mistakes["a wider clamp"] = set_keys(swiglu_alpha=1.0), set_keys(swiglu_limit=7.0)
    return changes, None, mistakes


def _olmo2(rng, settings):
    return {}, None, {}


def _olmo3(rng, settings):
    return {"num_hidden_layers": 4}, None, {}


def _phi3(rng, settings):
    # Heads are divided from the hidden size: the reference checks the factors of longrope against that.
    return {"hidden_size": 16 * settings["num_attention_heads"], "head_dim": ABSENT}, None, {}


def _smollm3(rng, settings):
    return {"num_hidden_layers": 4}, None, {}


def _glm4(rng, settings):
    return {"head_dim": rng.choice([16, 24])}, None, {}


_ARCHITECTURES = {
    "gemma2": _gemma,
    "gemma3_text": _gemma,
    "gpt_oss": _gpt_oss,
    "olmo2": _olmo2,
    "olmo3": _olmo3,
    "phi3": _phi3,
    "smollm3": _smollm3,
    "glm4": _glm4,
}

# Parts that a recipe adds.


def _keys(**changes):
    return lambda rng, settings: (changes, None, {})


def _capped(key, low, high):
    def part(rng, settings):
        return {key: rng.uniform(low, high)}, None, {f"{key} dropped": set_keys(**{key: None})}

    return part


def _partial(*shares):
    """Only the first channels of each head rotate."""

    def part(rng, settings):
        rope = settings["rope_parameters"] | {"partial_rotary_factor": rng.choice(shares)}
        mistakes = {"every channel rotates": lambda c: c["rope_parameters"].update(partial_rotary_factor=1.0)}
        return {"rope_parameters": rope}, None, mistakes

    return part


def _by_type(theta=None, **windowed):
    """What was drawn rotates the full layers; the windowed ones have a base of their own."""

    def part(rng, settings):
        own = {"rope_type": "default", "rope_theta": theta or 10 ** rng.uniform(2.5, 5)} | windowed
        rope = {FULL: settings["rope_parameters"], SLIDING: own}
        mistakes = {"the types exchanged": lambda c: c.update(rope_parameters=dict(zip((SLIDING, FULL), (rope[FULL], own))))}
        return {"rope_parameters": rope}, None, mistakes

    return part


def _longrope(share=1.0, **fixed):
    def part(rng, settings):
        original, factor = rng.randint(16, 40), rng.choice([2, 4, 8])
        pairs = int(settings["hidden_size"] // settings["num_attention_heads"] * share) // 2
        rope = {
            "rope_type": "longrope",
            "rope_theta": settings["rope_parameters"]["rope_theta"],
            "short_factor": [rng.uniform(1, 1.5) for _ in range(pairs)],
            "long_factor": [rng.uniform(1.5, 1.0 + factor) for _ in range(pairs)],
            "partial_rotary_factor": share,
        }
        changes = {"original_max_position_embeddings": original, "max_position_embeddings": original * factor}
        mistakes = {
            "short factors everywhere": lambda c: c["rope_parameters"].update(long_factor=c["rope_parameters"]["short_factor"]),
            "another attention factor": lambda c: c["rope_parameters"].update(attention_factor=2.0),
        }
        return changes | {"rope_parameters": rope | fixed}, original, mistakes

    return part


def _rotating(*layers):
    """1 where a layer rotates."""
    mistakes = {"every layer rotates": set_keys(no_rope_layers=[1] * len(layers))}
    return lambda rng, settings: ({"no_rope_layers": list(layers)}, None, mistakes)


_WINDOWS_WITHOUT_ROTATION = {"no_rope_layers": ABSENT, "use_sliding_window": True, "no_rope_layer_interval": 2}

_RECIPES = (
    ("gemma2", "gemma2", window(), _capped("attn_logit_softcapping", 1, 3), _capped("final_logit_softcapping", 12, 30)),
    (
        "gemma2, no caps, layer_types",
        "gemma2",
        window(layer_types=[FULL, SLIDING, SLIDING], attn_logit_softcapping=None, final_logit_softcapping=None),
    ),
    ("gemma2, linear, erf", "gemma2", scaling("linear"), window(hidden_activation="gelu"), _capped("attn_logit_softcapping", 1, 3)),
    ("gemma3, linear", "gemma3_text", scaling("linear"), window(layer_types=[SLIDING, FULL, SLIDING]), _by_type()),
    ("gemma3, llama3, final cap", "gemma3_text", scaling("llama3"), window(layer_types=[FULL, SLIDING, FULL]), _by_type(),
     _capped("final_logit_softcapping", 12, 30)),
    ("gemma3, an ignored cap", "gemma3_text", window(layer_types=[SLIDING, SLIDING, FULL], attn_logit_softcapping=2.0), _by_type()),
    ("gpt_oss, yarn", "gpt_oss", scaling("yarn", truncate=False), window()),
    ("gpt_oss, layer_types", "gpt_oss", window(layer_types=[FULL, FULL, SLIDING])),
    ("gpt_oss, yarn truncated", "gpt_oss", scaling("yarn", truncate=True), window(layer_types=[SLIDING, FULL, SLIDING])),
    ("olmo2", "olmo2"),
    ("olmo2, linear", "olmo2", scaling("linear")),
    ("olmo2, yarn", "olmo2", scaling("yarn")),
    ("olmo3, yarn", "olmo3", scaling("yarn"), window(), _by_type()),
    ("olmo3, layer_types", "olmo3", window(layer_types=[FULL, SLIDING, FULL, SLIDING]), _by_type()),
    ("olmo3, scaled windows", "olmo3", scaling("llama3"), window(), _by_type(rope_type="linear", factor=3.0)),
    ("phi3, longrope", "phi3", _longrope()),
    ("phi3, longrope, partial", "phi3", _longrope(0.75, factor=32.0)),
    ("phi3, longrope, its own attention factor, window", "phi3", _longrope(0.5, attention_factor=1.3), window()),
    ("phi3, partial, window", "phi3", _partial(0.5, 0.75), window()),
    ("smollm3", "smollm3", _rotating(1, 0, 1, 1)),
    ("smollm3, windows without rotation", "smollm3", window(**_WINDOWS_WITHOUT_ROTATION)),
    ("smollm3, yarn, layer_types", "smollm3", scaling("yarn"), _rotating(0, 1, 1, 0),
     window(use_sliding_window=True, layer_types=[SLIDING, FULL, SLIDING, FULL])),
    ("glm4", "glm4", _partial(0.5)),
    ("glm4, a quarter", "glm4", _partial(0.25)),
    ("glm4, linear", "glm4", scaling("linear"), _partial(0.5)),
)
