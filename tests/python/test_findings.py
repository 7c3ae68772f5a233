"""Where transformers differs from itself, as docs/findings.md tells it of the plain decoder's variants: transformers alone, on small
random models. `pytest -s` prints the amounts."""
import pytest
import torch
from live_reference import EAGER
from transformers import AutoConfig, AutoModelForCausalLM, DynamicCache

SIZES = {
    "vocab_size": 99,
    "hidden_size": 64,
    "intermediate_size": 96,
    "num_hidden_layers": 4,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 16,
    "bos_token_id": 1,
    "eos_token_id": None,
    "pad_token_id": None,
}
IDS = torch.randint(3, 99, (1, 60), generator=torch.Generator().manual_seed(0))
PLAIN = {"rope_type": "default", "rope_theta": 10000.0}


def random_model(model_type, **keys):
    """The same weights for the same type, whatever the keys."""
    model = AutoModelForCausalLM.from_config(AutoConfig.for_model(model_type, **SIZES, **keys), **EAGER).eval()
    generator = torch.Generator().manual_seed(0)
    for parameter in model.parameters():
        if parameter.dim() > 1:
            parameter.data = torch.randn(parameter.shape, generator=generator) / parameter.shape[-1] ** 0.5
    return model


def distance(a, b):
    return ((a - b).norm() / b.norm()).item()


@torch.no_grad()
def apart(a, b):
    """Relative L2 distance of two models' logits."""
    return distance(a(IDS).logits, b(IDS).logits)


def test_olmo3_rope_theta_is_that_of_the_full_layers():
    old = random_model("olmo3", rope_theta=10000.0)
    named = random_model("olmo3", rope_parameters={"full_attention": dict(PLAIN), "sliding_attention": dict(PLAIN)})
    own = PLAIN | {"rope_theta": 500000.0}
    assert apart(old, random_model("olmo3", rope_parameters={"full_attention": dict(PLAIN), "sliding_attention": own})) == 0
    print(f"olmo3, rope_theta for all layers or for the full ones: {apart(old, named):.2f}")
    assert apart(old, named) > 0.1


def test_gemma3_does_not_cap_its_scores():
    assert apart(random_model("gemma3_text", attn_logit_softcapping=0.1), random_model("gemma3_text")) == 0
    capped = random_model("gemma2", attn_logit_softcapping=0.1)
    seen = apart(capped, random_model("gemma2", attn_logit_softcapping=None))
    print(f"a cap of 0.1: gemma3 0, gemma2 {seen:.2f}")
    assert seen > 0.05


@pytest.mark.parametrize("model_type", ["gemma3_text", "olmo3"])
def test_older_key_of_the_scaling_is_ignored(model_type):
    pattern = {"sliding_window_pattern": 2} if model_type == "gemma3_text" else {}
    scalings = ({"type": "linear", "factor": 8.0}, {"rope_type": "linear", "factor": 8.0}, None)
    older, newer, without = (random_model(model_type, rope_theta=10000.0, rope_scaling=s, **pattern) for s in scalings)
    assert apart(older, without) == 0
    print(f"{model_type}, a scaling by 8 under type or under rope_type: {apart(older, newer):.3f}")
    assert apart(older, newer) > 0.01


@torch.no_grad()
def test_phi3_generate_is_not_its_decode():
    """Past the original length of 32 generate() computes the prompt anew, with the long factors for all of it."""
    factors = {"short_factor": [1.0] * 8, "long_factor": [1.5 + i / 2 for i in range(8)]}
    rope = PLAIN | {"rope_type": "longrope"} | factors
    model = random_model("phi3", original_max_position_embeddings=32, max_position_embeddings=128, rope_parameters=rope)
    prompt, steps = IDS[:, :28], 12
    answer = model.generate(prompt, max_new_tokens=steps, do_sample=False, output_logits=True, return_dict_in_generate=True)
    generated, tokens = torch.cat(answer.logits), answer.sequences
    whole = model(tokens[:, :-1]).logits[0, 27:]
    cache, decoded, fed = DynamicCache(config=model.config), [], prompt
    for i in range(steps):
        decoded.append(model(fed, past_key_values=cache, use_cache=True).logits[0, -1])
        fed = tokens[:, 28 + i : 29 + i]
    of_decode = [distance(generated[i], decoded[i]) for i in range(steps)]
    of_prefill = [distance(generated[i], whole[i]) for i in range(steps)]
    print("phi3, generate from decode:", *(f"{d:.0e}" for d in of_decode), "from prefill:", *(f"{d:.0e}" for d in of_prefill))
    # The sixth token is chosen at length 33.
    assert max(of_decode[:5]) < 1e-5 and min(of_decode[5:]) > 0.1
    assert min(of_prefill[:5]) > 0.1 and max(of_prefill[5:]) < 1e-5
