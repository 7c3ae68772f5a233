"""The comparisons with the goldens can fail: a convention read wrongly is further away than the tolerance allows.

Each mistake is planted by way of --config, so what is shown here is the power of test_golden.py and that the field is obeyed.
"""
import checkpoints
import pytest
from criteria import BF16_RATIO_LIMIT, FP32_TOLERANCE, bf16_ratio, greedy_disagreements, row_distances

# A mistake this near to the tolerance would be found by luck.
FOUND_WITH_CERTAINTY = 10 * FP32_TOLERANCE


def rope(**changes):
    def plant(config):
        parameters = config["rope_parameters"]
        for entry in [value for value in parameters.values() if isinstance(value, dict)] or [parameters]:
            entry.update(changes)

    return plant


def fields(**changes):
    return lambda config: config.update(changes)


def linear(config):
    rope_parameters = config["rope_parameters"]
    config["rope_parameters"] = {"rope_type": "linear"} | {key: rope_parameters[key] for key in ("rope_theta", "factor")}


def unscaled(config):
    config["rope_parameters"] = {"rope_type": "default", "rope_theta": config["rope_parameters"]["rope_theta"]}


def scaled_eps(config):
    config["rms_norm_eps"] *= 10


EVERYWHERE = {"another rope_theta": rope(rope_theta=20000.0), "ten times the eps": scaled_eps}
# What the architecture alone can get wrong, beside what every one can.
MISTAKES = {
    "llama": {
        "scaling dropped": unscaled,
        "linear in place of llama3 scaling": linear,
        "another high_freq_factor": rope(high_freq_factor=5.0),
        "another original length": rope(original_max_position_embeddings=1024),
    },
    "qwen2": {
        "windows on every layer": fields(use_sliding_window=True, sliding_window=24, layer_types=["sliding_attention"] * 4)
    },
    "qwen3_moe": {"not renormalised": fields(norm_topk_prob=False), "one expert fewer": fields(num_experts_per_tok=2)},
    "olmoe": {
        "renormalised": fields(norm_topk_prob=True),
        "one expert fewer": fields(num_experts_per_tok=2),
        "queries, keys and values clipped": fields(clip_qkv=0.5),
    },
    "mixtral": {"one expert fewer": fields(num_experts_per_tok=1), "a window": fields(sliding_window=24)},
}
ALL_MISTAKES = {name: EVERYWHERE | MISTAKES.get(name, {}) for name in checkpoints.names()}


@pytest.mark.parametrize("name, mistake", [(name, mistake) for name, mistakes in ALL_MISTAKES.items() for mistake in mistakes])
def test_fp32_comparison_finds(plumb, name, mistake):
    prompt = checkpoints.golden(name)["long"]
    config = checkpoints.config(name)
    ALL_MISTAKES[name][mistake](config)
    assert config != checkpoints.config(name)
    logits = plumb.logits(checkpoints.folder(name), prompt.ids, precision="fp32", config=plumb.write_config(config))
    assert row_distances(logits, prompt.logits_f32).max() > FOUND_WITH_CERTAINTY


@pytest.mark.parametrize("name", checkpoints.names())
def test_float32_is_not_taken_for_an_emulation_of_bfloat16(plumb, name):
    prompts = checkpoints.golden(name).values()
    logits = {p.name: plumb.logits(checkpoints.folder(name), p.ids, precision="fp32") for p in prompts}
    assert bf16_ratio(logits, prompts) > BF16_RATIO_LIMIT


@pytest.mark.parametrize("name", [name for name in checkpoints.names() if checkpoints.is_trained(name)])
def test_bf16_greedy_comparison_finds_a_wrong_theta(plumb, name):
    prompt = checkpoints.golden(name)["long"]
    config = checkpoints.config(name)
    rope(rope_theta=3000.0)(config)
    options = {"precision": "hf-bf16", "config": plumb.write_config(config)}
    rows = plumb.logits(checkpoints.folder(name), prompt.fed_with(prompt.greedy_bf16), **options)
    assert greedy_disagreements(prompt.step_rows(rows), prompt)
